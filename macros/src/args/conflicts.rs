//! Arguments that are right by themselves and contradict each other.

use syn::Error;

use super::{Setting, Value, Variant, report};

pub(crate) const HANDOVER_SIGNALS: &str = "handover_signals";
pub(crate) const STOP_SIGNALS: &str = "stop_signals";

/// What the signals of a list that is not given are; `Builder` has the same.
const DEFAULT_HANDOVER: [&str; 2] = ["SIGHUP", "SIGUSR2"];
const DEFAULT_STOP: [&str; 2] = ["SIGTERM", "SIGINT"];

/// Refuses settings that contradict each other.
pub(crate) fn check(settings: &[Setting]) -> Result<(), Error> {
    let mut errors = flavor_conflicts(settings);
    errors.extend(signal_conflicts(settings));
    report(errors)
}

fn flavor_conflicts(settings: &[Setting]) -> Vec<Error> {
    let flavor = settings
        .iter()
        .find_map(|setting| match &setting.value {
            Value::Variant(variant) if setting.method == "flavor" => Some(variant.name),
            _ => None,
        })
        .unwrap_or("multi_thread");
    let threaded = flavor == "multi_thread";
    let conflict = |setting: &Setting| {
        let required = match setting.method.to_string().as_str() {
            "worker_threads" if !threaded => "multi_thread",
            "start_paused" | "unhandled_panic" if threaded => "current_thread",
            _ => return None,
        };
        let method = &setting.method;
        let message = format!(
            r#"`{method}` does not go with the flavor "{flavor}": it requires `flavor = "{required}"`"#
        );
        Some(Error::new_spanned(method, message))
    };
    settings.iter().filter_map(conflict).collect()
}

fn signal_conflicts(settings: &[Setting]) -> Vec<Error> {
    let given = |list| {
        settings.iter().find_map(|setting| match &setting.value {
            Value::Signals(signals) if setting.method == list => Some(signals.as_slice()),
            _ => None,
        })
    };
    match (given(HANDOVER_SIGNALS), given(STOP_SIGNALS)) {
        (None, None) => Vec::new(),
        (Some(signals), None) => with_defaults(signals, STOP_SIGNALS, DEFAULT_STOP),
        (None, Some(signals)) => with_defaults(signals, HANDOVER_SIGNALS, DEFAULT_HANDOVER),
        (Some(handover), Some(stop)) => stop
            .iter()
            .filter(|signal| handover.iter().any(|other| other.name == signal.name))
            .map(|signal| {
                let name = signal.name;
                let message = format!("`{name}` is in both lists: it asks for one or the other");
                Error::new(signal.span, message)
            })
            .collect(),
    }
}

fn with_defaults(signals: &[Variant], other: &str, defaults: [&str; 2]) -> Vec<Error> {
    signals
        .iter()
        .filter(|signal| defaults.contains(&signal.name))
        .map(|signal| {
            let name = signal.name;
            let message = format!(
                "`{name}` is one of the `{other}` by default: list those too, without `{name}`"
            );
            Error::new(signal.span, message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::args::Args;

    #[test]
    fn what_contradicts_is_refused_and_nothing_else() {
        for (text, contradiction) in [
            (r#"worker_threads = 2"#, ""),
            (r#"worker_threads = 2, flavor = "multi_thread""#, ""),
            (
                r#"worker_threads = 2, flavor = "local""#,
                "`worker_threads` does not go with",
            ),
            (r#"start_paused = true, flavor = "local""#, ""),
            (r#"start_paused = true"#, "`start_paused` does not go with"),
            (
                r#"unhandled_panic = "ignore""#,
                "`unhandled_panic` does not go with",
            ),
            (r#"handover_signals()"#, ""),
            (r#"handover_signals("SIGUSR1")"#, ""),
            (
                r#"handover_signals("SIGTERM")"#,
                "`SIGTERM` is one of the `stop_signals`",
            ),
            (
                r#"stop_signals("SIGINT", "SIGHUP")"#,
                "`SIGHUP` is one of the `handover_signals`",
            ),
            (r#"handover_signals("SIGTERM"), stop_signals("SIGHUP")"#, ""),
            (r#"handover_signals("SIGTERM"), stop_signals()"#, ""),
            (
                r#"stop_signals("SIGINT", "SIGHUP"), handover_signals("SIGHUP")"#,
                "`SIGHUP` is in both lists",
            ),
        ] {
            let tokens = text.parse().expect("the text lexes");
            let message = Args::parse(tokens).err().map(|error| error.to_string());
            let message = message.unwrap_or_default();
            assert!(message.starts_with(contradiction), "{text}: {message}");
            assert_eq!(
                message.is_empty(),
                contradiction.is_empty(),
                "{text}: {message}"
            );
        }
    }
}
