//! The values of arguments: what a kind of argument accepts, and what comes of it.

use quote::ToTokens;
use syn::punctuated::Punctuated;
use syn::{Error, Expr, ExprLit, ExprUnary, Lit, LitStr, Meta, MetaList, Path, Token};

use super::choice::{Choice, SIGNAL, Variant};
use super::{duration, report};

/// The value of one argument, verified.
pub(crate) enum Value {
    Variant(Variant),
    Signals(Vec<Variant>),
    Integer(u64),
    Bool(bool),
    Text(LitStr),
    Milliseconds(u64),
    Path(Path),
    /// It stands alone.
    Nothing,
}

/// What an argument accepts.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Choice(&'static Choice),
    Signals,
    Integer {
        min: u64,
        max: u64,
    },
    Bool,
    Text,
    /// The text of an endpoint that is a Unix socket.
    UnixEndpoint,
    Duration {
        min: u64,
    },
    Path,
    /// Nothing: the name says it all.
    Flag,
}

impl Kind {
    pub(crate) const POSITIVE: Self = Self::Integer {
        min: 1,
        max: u64::MAX,
    };
    pub(crate) const BYTE: Self = Self::Integer { min: 0, max: 255 };
    pub(crate) const DURATION: Self = Self::Duration { min: 0 };
    pub(crate) const POSITIVE_DURATION: Self = Self::Duration { min: 1 };

    /// Reads the argument `name` from `meta`, or nothing if it is not written as this kind is.
    pub(crate) fn parse(self, name: &str, meta: &Meta) -> Option<Result<Value, Error>> {
        match (self, meta) {
            (Self::Signals, Meta::List(list)) => Some(parse_signals(name, list)),
            (Self::Flag, Meta::Path(_)) => Some(Ok(Value::Nothing)),
            (Self::Signals | Self::Flag, _) => None,
            (_, Meta::NameValue(pair)) => {
                let read = |literal: &Lit| self.read(literal);
                Some(parse_literal(name, &pair.value, self.expected(), read))
            }
            _ => None,
        }
    }

    /// The value of `literal`, else the reason, empty where `expected` says it all.
    fn read(self, literal: &Lit) -> Result<Value, String> {
        match (self, literal) {
            (Self::Choice(choice), Lit::Str(text)) => {
                choice.find(&text.value(), text.span()).map(Value::Variant)
            }
            (Self::Integer { min, max }, Lit::Int(integer)) => integer
                .base10_parse()
                .ok()
                .filter(|value| (min..=max).contains(value))
                .map(Value::Integer)
                .ok_or_else(String::new),
            (Self::Bool, Lit::Bool(bool)) => Ok(Value::Bool(bool.value)),
            (Self::Text, Lit::Str(text)) if !text.value().trim().is_empty() => {
                Ok(Value::Text(text.clone()))
            }
            (Self::UnixEndpoint, Lit::Str(text)) if is_unix(&text.value()) => {
                Ok(Value::Text(text.clone()))
            }
            (Self::Duration { min }, Lit::Str(text)) => match duration::parse(&text.value())? {
                value if value < min => Err("every handover would fail".to_owned()),
                value => Ok(Value::Milliseconds(value)),
            },
            (Self::Duration { .. }, Lit::Int(_) | Lit::Float(_)) => {
                Err("a number has no unit".to_owned())
            }
            (Self::Path, Lit::Str(text)) => text
                .parse_with(Path::parse_mod_style)
                .map(Value::Path)
                .map_err(|_| String::new()),
            _ => Err(String::new()),
        }
    }

    fn expected(self) -> String {
        match self {
            Self::Choice(choice) => choice.names(),
            Self::Signals => SIGNAL.names(),
            Self::Integer { min, max: u64::MAX } => format!("an integer of at least {min}"),
            Self::Integer { min, max } => format!("an integer from {min} to {max}"),
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Text => "a string that is not empty".to_owned(),
            Self::UnixEndpoint => r#"a Unix socket such as "unix:/run/app.sock""#.to_owned(),
            Self::Duration { .. } => {
                r#"a duration such as "30s", "500ms", "2m" or "1m30s""#.to_owned()
            }
            Self::Path => {
                r#"a path as a string, such as "handover" or "crate::reexport""#.to_owned()
            }
            Self::Flag => "no value".to_owned(),
        }
    }
}

/// Whether it may be a Unix socket; the rest is checked when it is opened.
fn is_unix(endpoint: &str) -> bool {
    let target = endpoint
        .split_once('=')
        .map_or(endpoint, |(_, target)| target);
    let prefixes = ["unix:", "systemd:"];
    prefixes.iter().any(|prefix| {
        target
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty())
    })
}

fn parse_signals(name: &str, list: &MetaList) -> Result<Value, Error> {
    let items = list.parse_args_with(Punctuated::<Expr, Token![,]>::parse_terminated)?;
    let mut signals: Vec<Variant> = Vec::new();
    let mut errors = Vec::new();
    for item in &items {
        let read = |literal: &Lit| match literal {
            Lit::Str(text) => SIGNAL.find(&text.value(), text.span()),
            _ => Err(String::new()),
        };
        match parse_literal(name, item, Kind::Signals.expected(), read) {
            Ok(signal) if signals.iter().any(|other| other.name == signal.name) => {
                let message = format!("`{}` is listed twice", signal.name);
                errors.push(Error::new(signal.span, message));
            }
            Ok(signal) => signals.push(signal),
            Err(error) => errors.push(error),
        }
    }
    report(errors)?;
    Ok(Value::Signals(signals))
}

fn parse_literal<T>(
    name: &str,
    value: &Expr,
    expected: String,
    read: impl FnOnce(&Lit) -> Result<T, String>,
) -> Result<T, Error> {
    let text = || format!("`{}`", value.to_token_stream());
    let (found, result) = match value {
        Expr::Lit(ExprLit { lit, .. }) => (text(), read(lit)),
        // A negative number: its sign is not part of the literal.
        Expr::Unary(ExprUnary { expr, .. }) if matches!(**expr, Expr::Lit(_)) => {
            (text(), Err(String::new()))
        }
        _ => {
            let reason = "only literals are read here, `Builder` takes what is computed";
            ("an expression".to_owned(), Err(reason.to_owned()))
        }
    };
    result.map_err(|reason| {
        let separator = if reason.is_empty() { "" } else { ": " };
        let message = format!("`{name}` expects {expected}, found {found}{separator}{reason}");
        Error::new_spanned(value, message)
    })
}

#[cfg(test)]
mod tests {
    use crate::args::Args;

    #[test]
    fn a_value_that_is_not_accepted_is_named_with_what_is() {
        let integer = "an integer of at least 1";
        let byte = "an integer from 0 to 255";
        let duration = r#"a duration such as "30s", "500ms", "2m" or "1m30s""#;
        let unix = r#"a Unix socket such as "unix:/run/app.sock""#;
        let panic = r#""ignore" or "shutdown_runtime""#;
        for (text, expected, found) in [
            ("worker_threads = 0", integer, "`0`"),
            ("worker_threads = \"4\"", integer, "`\"4\"`"),
            ("max_draining = 0", integer, "`0`"),
            (
                "max_blocking_threads = 18446744073709551616",
                integer,
                "`18446744073709551616`",
            ),
            ("deadline_exit_code = 256", byte, "`256`"),
            ("start_paused = 1", "`true` or `false`", "`1`"),
            ("pid_file = \" \"", "a string that is not empty", "`\" \"`"),
            ("control = \"127.0.0.1:1\"", unix, "`\"127.0.0.1:1\"`"),
            ("control = \"unix:\"", unix, "`\"unix:\"`"),
            ("unhandled_panic = \"abort\"", panic, "`\"abort\"`"),
            ("drain_timeout = 30", duration, "`30`: a number has no unit"),
            (
                "drain_timeout = 1.5",
                duration,
                "`1.5`: a number has no unit",
            ),
            ("drain_timeout = true", duration, "`true`"),
            (
                "ready_timeout = \"0s\"",
                duration,
                "`\"0s\"`: every handover would fail",
            ),
            ("kill_grace = \"\"", duration, "`\"\"`: it is empty"),
        ] {
            let name = text.split(' ').next().unwrap_or_default();
            let tokens = text.parse().expect("the text lexes");
            let message = Args::parse(tokens).err().map(|error| error.to_string());
            assert_eq!(
                message,
                Some(format!("`{name}` expects {expected}, found {found}"))
            );
        }
    }
}
