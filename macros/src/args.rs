//! The arguments of the attribute: which there are, what each may be, which contradict each other.
//!
//! Every argument but `crate` is the builder's method of the same name. Knows nothing of the
//! function that the attribute is on, nor of the code that is emitted.

use proc_macro2::{Ident, Span, TokenStream};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Error, Meta, Path, Token};

use self::choice::{FLAVOR, UNHANDLED_PANIC};
use self::conflicts::{HANDOVER_SIGNALS, STOP_SIGNALS};
use self::value::Kind;

mod choice;
mod conflicts;
mod duration;
mod value;

pub(crate) use self::choice::Variant;
pub(crate) use self::value::Value;

/// The arguments of one `#[handover::main]`, verified.
#[derive(Default)]
pub(crate) struct Args {
    /// The `handover` crate, if it is not to be found as `::handover`.
    pub(crate) crate_path: Option<Path>,
    /// The calls on the builder, in the order in which they were written.
    pub(crate) settings: Vec<Setting>,
}

/// One call on the builder.
pub(crate) struct Setting {
    pub(crate) method: Ident,
    pub(crate) value: Value,
}

impl Args {
    /// Reads what stands in the parentheses, and reports all that is wrong with it.
    pub(crate) fn parse(tokens: TokenStream) -> Result<Self, Error> {
        let metas = Punctuated::<Meta, Token![,]>::parse_terminated.parse2(tokens)?;
        let mut seen = Vec::new();
        let mut args = Self::default();
        let mut errors = Vec::new();
        for meta in &metas {
            match parse_setting(meta, &mut seen) {
                Ok(Setting {
                    method,
                    value: Value::Path(path),
                }) if method == "crate" => args.crate_path = Some(path),
                Ok(setting) => args.settings.push(setting),
                Err(error) => errors.push(error),
            }
        }
        report(errors)?;
        // Only now: what follows from a wrong argument is no mistake of its own.
        conflicts::check(&args.settings)?;
        Ok(args)
    }
}

/// An argument that the attribute takes.
struct Argument {
    name: &'static str,
    kind: Kind,
    example: &'static str,
}

impl Argument {
    const fn new(name: &'static str, kind: Kind, example: &'static str) -> Self {
        Self {
            name,
            kind,
            example,
        }
    }
}

/// Without it, the version of the package that is compiled is set.
pub(crate) const VERSION: &str = "version";

const ARGUMENTS: &[Argument] = &[
    Argument::new("flavor", Kind::Choice(&FLAVOR), r#" = "current_thread""#),
    Argument::new("worker_threads", Kind::POSITIVE, " = 4"),
    Argument::new("max_blocking_threads", Kind::POSITIVE, " = 64"),
    Argument::new("start_paused", Kind::Bool, " = true"),
    Argument::new("name", Kind::Text, r#" = "my-runtime""#),
    Argument::new(
        "unhandled_panic",
        Kind::Choice(&UNHANDLED_PANIC),
        r#" = "shutdown_runtime""#,
    ),
    Argument::new("crate", Kind::Path, r#" = "handover""#),
    // A handover that has no time fails; a drain that has none ends at once.
    Argument::new("ready_timeout", Kind::POSITIVE_DURATION, r#" = "60s""#),
    Argument::new("commit_timeout", Kind::POSITIVE_DURATION, r#" = "2s""#),
    Argument::new("hook_timeout", Kind::POSITIVE_DURATION, r#" = "30s""#),
    Argument::new("drain_timeout", Kind::DURATION, r#" = "30s""#),
    Argument::new("stop_timeout", Kind::DURATION, r#" = "30s""#),
    Argument::new("lame_duck", Kind::DURATION, r#" = "10s""#),
    Argument::new("kill_grace", Kind::DURATION, r#" = "5s""#),
    Argument::new("max_draining", Kind::POSITIVE, " = 4"),
    Argument::new(HANDOVER_SIGNALS, Kind::Signals, r#"("SIGHUP", "SIGUSR2")"#),
    Argument::new(STOP_SIGNALS, Kind::Signals, r#"("SIGTERM", "SIGINT")"#),
    Argument::new("pid_file", Kind::Text, r#" = "/run/app.pid""#),
    Argument::new("program", Kind::Text, r#" = "/usr/bin/app""#),
    Argument::new("deadline_exit_code", Kind::BYTE, " = 1"),
    Argument::new("systemd", Kind::Flag, ""),
    Argument::new("metrics", Kind::Flag, ""),
    Argument::new("control", Kind::UnixEndpoint, r#" = "unix:/run/app.sock""#),
    Argument::new(VERSION, Kind::Text, r#" = "1.2.3""#),
];

fn parse_setting(meta: &Meta, seen: &mut Vec<&'static str>) -> Result<Setting, Error> {
    let path = meta.path();
    let method = path.get_ident().ok_or_else(|| unknown(path))?;
    let argument = ARGUMENTS.iter().find(|argument| method == argument.name);
    let &Argument {
        name,
        kind,
        example,
    } = argument.ok_or_else(|| unknown(path))?;
    if seen.contains(&name) {
        return Err(Error::new_spanned(meta, format!("`{name}` is set twice")));
    }
    seen.push(name);
    let value = kind.parse(name, meta).unwrap_or_else(|| {
        let usage = format!("`{name}` is written `{name}{example}`");
        Err(Error::new_spanned(meta, usage))
    })?;
    Ok(Setting {
        method: method.clone(),
        value,
    })
}

fn unknown(path: &Path) -> Error {
    let name = path
        .segments
        .iter()
        .map(|segment| segment.ident.to_string())
        .collect::<Vec<_>>()
        .join("::");
    let names = || ARGUMENTS.iter().map(|argument| argument.name);
    let nearest = names().min_by_key(|candidate| distance(&name, candidate));
    let advice = match (FLAVOR.find(&name, Span::call_site()), nearest) {
        (Ok(flavor), _) => format!("the flavor is set by `flavor = {:?}`", flavor.name),
        (Err(advice), _) if !advice.is_empty() => advice,
        _ if name == "core_threads" => "it is called `worker_threads`".to_owned(),
        (_, Some(nearest)) if distance(&name, nearest) <= nearest.len() / 3 => {
            format!("did you mean `{nearest}`?")
        }
        _ => {
            let names = names().map(|name| format!("`{name}`")).collect::<Vec<_>>();
            format!("expected one of {}", names.join(", "))
        }
    };
    Error::new_spanned(path, format!("unknown argument `{name}`: {advice}"))
}

/// The Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// All `errors` as one, if there are any.
pub(crate) fn report(errors: Vec<Error>) -> Result<(), Error> {
    let all = errors.into_iter().reduce(|mut all, error| {
        all.combine(error);
        all
    });
    all.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_accepted() {
        for argument in ARGUMENTS {
            let flavor = match argument.name {
                "start_paused" | "unhandled_panic" => r#", flavor = "local""#,
                _ => "",
            };
            let text = format!("{}{}{flavor},", argument.name, argument.example);
            assert_eq!(messages(&text), [""; 0], "{text}");
        }
    }

    #[test]
    fn an_unknown_argument_is_told_the_right_one() {
        for (text, advice) in [
            ("drain_timout = 1", "did you mean `drain_timeout`?"),
            ("Flavor = 1", "did you mean `flavor`?"),
            ("handover_signal()", "did you mean `handover_signals`?"),
            ("core_threads = 1", "it is called `worker_threads`"),
            ("local", r#"the flavor is set by `flavor = "local"`"#),
            (
                "basic_scheduler",
                r#"the flavor is called "current_thread""#,
            ),
        ] {
            let name = text.split([' ', '(']).next().unwrap_or_default();
            let expected = format!("unknown argument `{name}`: {advice}");
            assert_eq!(messages(text), [expected]);
        }
        let [message] = &messages("tls::drain = 1")[..] else {
            panic!("one argument, one error");
        };
        assert!(message.starts_with("unknown argument `tls::drain`: expected one of `flavor`, "));
    }

    #[test]
    fn all_that_is_wrong_is_reported_at_once() {
        let found = messages(r#"flavor = "multi", name = "", start_paused, name = "x""#);
        let expected = [
            r#"`flavor` expects "multi_thread", "current_thread" or "local", found `"multi"`"#,
            r#"`name` expects a string that is not empty, found `""`"#,
            "`start_paused` is written `start_paused = true`",
            "`name` is set twice",
        ];
        assert_eq!(found, expected);
    }

    fn messages(text: &str) -> Vec<String> {
        let tokens = text.parse().expect("the text lexes");
        match Args::parse(tokens) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.into_iter().map(|error| error.to_string()).collect(),
        }
    }
}
