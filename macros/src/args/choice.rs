//! Arguments that take one of a closed set of names, each a variant of an enum of the facade.

use proc_macro2::Span;

/// An enum of the facade, and how its variants are called in the attribute.
pub(crate) struct Choice {
    enum_name: &'static str,
    variants: &'static [(&'static str, &'static str)],
    /// Names that are known and not accepted, and what to say to them.
    refused: &'static [(&'static str, &'static str)],
}

/// A variant that was named in the attribute.
#[derive(Clone, Copy)]
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) enum_name: &'static str,
    pub(crate) variant: &'static str,
    pub(crate) span: Span,
}

impl Choice {
    /// The variant called `text`, else the reason why there is none, if there is more to say.
    pub(crate) fn find(&self, text: &str, span: Span) -> Result<Variant, String> {
        let named = |&&(name, _): &&(&str, &str)| name == text;
        let reason = || match self.refused.iter().find(named) {
            Some((_, reason)) => (*reason).to_owned(),
            None => String::new(),
        };
        let &(name, variant) = self.variants.iter().find(named).ok_or_else(reason)?;
        Ok(Variant {
            name,
            enum_name: self.enum_name,
            variant,
            span,
        })
    }

    /// The names, as they are listed in an error.
    pub(crate) fn names(&self) -> String {
        let names: Vec<_> = self
            .variants
            .iter()
            .map(|(name, _)| format!("{name:?}"))
            .collect();
        match names.split_last() {
            Some((last, others)) if !others.is_empty() => {
                format!("{} or {last}", others.join(", "))
            }
            _ => names.concat(),
        }
    }
}

pub(crate) const FLAVOR: Choice = Choice {
    enum_name: "Flavor",
    variants: &[
        ("multi_thread", "MultiThread"),
        ("current_thread", "CurrentThread"),
        ("local", "Local"),
    ],
    refused: &[
        ("single_thread", IS_CURRENT_THREAD),
        ("single_threaded", IS_CURRENT_THREAD),
        ("basic_scheduler", IS_CURRENT_THREAD),
        (
            "threaded_scheduler",
            r#"the flavor is called "multi_thread""#,
        ),
    ],
};

pub(crate) const UNHANDLED_PANIC: Choice = Choice {
    enum_name: "UnhandledPanic",
    variants: &[
        ("ignore", "Ignore"),
        ("shutdown_runtime", "ShutdownRuntime"),
    ],
    refused: &[],
};

pub(crate) const SIGNAL: Choice = Choice {
    enum_name: "Signal",
    variants: &[
        ("SIGHUP", "Hangup"),
        ("SIGINT", "Interrupt"),
        ("SIGQUIT", "Quit"),
        ("SIGTERM", "Terminate"),
        ("SIGUSR1", "User1"),
        ("SIGUSR2", "User2"),
        ("SIGALRM", "Alarm"),
        ("SIGWINCH", "WindowChange"),
    ],
    refused: &[
        ("SIGKILL", "no process can catch it"),
        ("SIGSTOP", "no process can catch it"),
    ],
};

const IS_CURRENT_THREAD: &str = r#"the flavor is called "current_thread""#;
