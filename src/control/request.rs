//! What can be asked.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::answer::{Complaint, PROTOCOL};
use crate::run::{Changes, Program};

/// A request, as it was read from one line.
#[derive(Debug)]
pub(super) struct Asked {
    /// What the answers repeat.
    pub(super) id: Option<Value>,
    pub(super) request: Request,
    /// The fields that nobody here knows.
    pub(super) ignored: Vec<String>,
}

/// What is asked for.
#[derive(Debug)]
pub(super) enum Request {
    Ping,
    Status {
        /// Only of the generation that reads this, not of those that it could ask.
        own: bool,
    },
    Upgrade {
        changes: Changes,
        until: Until,
    },
    Stop {
        wait: bool,
    },
    /// Of the handover that is under way, before the successor serves.
    CallOff,
    Abort {
        generation: Option<u32>,
        /// Only here: whoever asks has chosen the generation.
        own: bool,
    },
    Events {
        follow: bool,
        since_us: u64,
    },
    Timeline {
        last: usize,
    },
}

/// What the answer to an `upgrade` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    Begun,
    Serving,
    Drained,
}

impl Asked {
    /// Reads a line.
    ///
    /// # Errors
    ///
    /// What is wrong with it, with the `id` as far as one could be read.
    pub(super) fn parse(line: &[u8]) -> Result<Self, (Option<Value>, Complaint)> {
        let fields = match serde_json::from_slice(line) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) => return Err((None, malformed("the line is no object"))),
            Err(error) => return Err((None, malformed(&format!("the line is no JSON: {error}")))),
        };
        let mut fields = Fields(fields);
        let id = match fields.0.remove("id") {
            Some(id) if id.to_string().len() > MAX_ID => {
                let message = format!("`id` is longer than {MAX_ID} bytes");
                return Err((None, Complaint::new("bad_field", message)));
            }
            id => id,
        };
        match Self::of_fields(&mut fields) {
            Ok(request) => Ok(Self {
                id,
                request,
                ignored: fields
                    .0
                    .into_iter()
                    .map(|(name, _)| name)
                    .take(16)
                    .collect(),
            }),
            Err(complaint) => Err((id, complaint)),
        }
    }

    fn of_fields(fields: &mut Fields) -> Result<Request, Complaint> {
        if let Some(version) = fields.number("protocol")?.filter(|&v| v != PROTOCOL) {
            let message = format!("protocol {version} is not spoken here, only {PROTOCOL}");
            return Err(Complaint::new("unsupported_protocol", message)
                .with("supported", vec![PROTOCOL].into()));
        }
        let Some(name) = fields.text("request")? else {
            return Err(malformed("there is no `request`"));
        };
        Ok(match name.as_str() {
            "ping" => Request::Ping,
            "status" => Request::Status {
                own: fields.flag("own")?,
            },
            "upgrade" => Request::Upgrade {
                changes: fields.changes()?,
                until: match fields.text("wait")?.as_deref() {
                    Some("begun") => Until::Begun,
                    None | Some("serving") => Until::Serving,
                    Some("drained") => Until::Drained,
                    Some(other) => {
                        return Err(wrong("wait", "`begun`, `serving` or `drained`", other));
                    }
                },
            },
            "stop" => Request::Stop {
                wait: fields.flag("wait")?,
            },
            "abort" if fields.flag("upgrade")? => Request::CallOff,
            "abort" => Request::Abort {
                generation: match fields.number("generation")?.map(u32::try_from) {
                    None => None,
                    Some(Ok(number)) => Some(number),
                    Some(Err(error)) => {
                        return Err(wrong("generation", "the number of a generation", error));
                    }
                },
                own: fields.flag("own")?,
            },
            "events" => Request::Events {
                follow: fields.flag("follow")?,
                since_us: fields.number("since_us")?.unwrap_or(0),
            },
            "timeline" => Request::Timeline {
                last: match fields.number("last")? {
                    None => 1,
                    Some(last) => usize::try_from(last).unwrap_or(usize::MAX),
                },
            },
            other => {
                let message = format!(
                    "there is no request {other:?}, there are: {}",
                    REQUESTS.join(", ")
                );
                return Err(Complaint::new("unknown_request", message)
                    .with("requests", REQUESTS.to_vec().into()));
            }
        })
    }
}

/// All that can be asked for.
pub(super) const REQUESTS: [&str; 7] = [
    "ping", "status", "upgrade", "stop", "abort", "events", "timeline",
];

/// The fields of a request that nobody has taken yet.
struct Fields(Map<String, Value>);

impl Fields {
    fn text(&mut self, name: &str) -> Result<Option<String>, Complaint> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.contains('\0') => {
                Err(wrong(name, "a text without NUL", Value::from(text)))
            }
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, "a string", other)),
        }
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>, Complaint> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(other) => match other.as_u64() {
                Some(number) => Ok(Some(number)),
                None => Err(wrong(name, "a number from 0 on", other)),
            },
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, Complaint> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(wrong(name, "`true` or `false`", other)),
        }
    }

    /// An absolute path: whose directory a relative one would belong to is anybody's guess.
    fn path(&mut self, name: &str) -> Result<Option<PathBuf>, Complaint> {
        match self.text(name)? {
            None => Ok(None),
            Some(path) if Path::new(&path).is_absolute() => Ok(Some(path.into())),
            Some(path) => Err(wrong(name, "an absolute path", Value::from(path))),
        }
    }

    fn changes(&mut self) -> Result<Changes, Complaint> {
        let program = Program {
            path: self.path("program")?,
            arguments: self.arguments()?,
            environment: self.environment()?,
            directory: self.path("directory")?,
        };
        let ready_timeout = match self.number("timeout_ms")? {
            Some(0) => return Err(wrong("timeout_ms", "a time that is not 0", 0)),
            limit => limit.map(Duration::from_millis),
        };
        Ok(Changes {
            program,
            ready_timeout,
        })
    }

    fn arguments(&mut self) -> Result<Option<Vec<OsString>>, Complaint> {
        const EXPECTED: &str = "a list of texts without NUL";
        match self.0.remove("arguments") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(arguments)) => arguments
                .into_iter()
                .map(|argument| match argument {
                    Value::String(text) if !text.contains('\0') => Ok(text.into()),
                    other => Err(wrong("arguments", EXPECTED, other)),
                })
                .collect::<Result<_, _>>()
                .map(Some),
            Some(other) => Err(wrong("arguments", EXPECTED, other)),
        }
    }

    fn environment(&mut self) -> Result<Vec<(OsString, Option<OsString>)>, Complaint> {
        const EXPECTED: &str =
            "an object of names, without `=` or NUL, each with a text without NUL or `null`";
        match self.0.remove("environment") {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Object(variables)) => variables
                .into_iter()
                .map(|(name, value)| {
                    if name.is_empty() || name.contains(['=', '\0']) {
                        return Err(wrong("environment", EXPECTED, Value::from(name)));
                    }
                    match value {
                        Value::Null => Ok((name.into(), None)),
                        Value::String(text) if !text.contains('\0') => {
                            Ok((name.into(), Some(text.into())))
                        }
                        other => Err(wrong("environment", EXPECTED, other)),
                    }
                })
                .collect(),
            Some(other) => Err(wrong("environment", EXPECTED, other)),
        }
    }
}

fn malformed(message: &str) -> Complaint {
    let message = format!("{message}; expected a line such as {{\"request\":\"status\"}}");
    Complaint::new("malformed", message)
}

fn wrong(name: &str, expected: &str, found: impl std::fmt::Display) -> Complaint {
    let mut found = found.to_string();
    if let Some((end, _)) = found.char_indices().nth(60) {
        found.truncate(end);
        found.push('…');
    }
    let message = format!("`{name}` is {found}, expected {expected}");
    Complaint::new("bad_field", message)
}

/// The longest `id`, in bytes as JSON.
const MAX_ID: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn message(text: &str) -> String {
        let (_, complaint) = Asked::parse(text.as_bytes()).expect_err("it is wrong");
        let line: Value = serde_json::from_slice(&complaint.line(None)).expect("JSON");
        let text = |name: &str| line[name].as_str().expect("a text").to_owned();
        format!("{}: {}", text("code"), text("message"))
    }

    #[test]
    fn what_is_wrong_is_named_with_what_was_expected() {
        for (line, expected) in [
            (
                "",
                "malformed: the line is no JSON: EOF while parsing a value at line 1 column 0; expected a line such as {\"request\":\"status\"}",
            ),
            (
                "[]",
                "malformed: the line is no object; expected a line such as {\"request\":\"status\"}",
            ),
            (
                "{}",
                "malformed: there is no `request`; expected a line such as {\"request\":\"status\"}",
            ),
            (
                r#"{"request":7}"#,
                "bad_field: `request` is 7, expected a string",
            ),
            (
                r#"{"request":"fly"}"#,
                "unknown_request: there is no request \"fly\", there are: ping, status, upgrade, stop, abort, events, timeline",
            ),
            (
                r#"{"request":"ping","protocol":2}"#,
                "unsupported_protocol: protocol 2 is not spoken here, only 1",
            ),
            (
                r#"{"request":"upgrade","program":"app"}"#,
                "bad_field: `program` is \"app\", expected an absolute path",
            ),
            (
                r#"{"request":"upgrade","arguments":["a",1]}"#,
                "bad_field: `arguments` is 1, expected a list of texts without NUL",
            ),
            (
                r#"{"request":"upgrade","environment":{"A=B":"c"}}"#,
                "bad_field: `environment` is \"A=B\", expected an object of names, without `=` or NUL, each with a text without NUL or `null`",
            ),
            (
                r#"{"request":"upgrade","timeout_ms":0}"#,
                "bad_field: `timeout_ms` is 0, expected a time that is not 0",
            ),
            (
                r#"{"request":"upgrade","timeout_ms":-1}"#,
                "bad_field: `timeout_ms` is -1, expected a number from 0 on",
            ),
            (
                r#"{"request":"upgrade","wait":"for ever"}"#,
                "bad_field: `wait` is for ever, expected `begun`, `serving` or `drained`",
            ),
            (
                r#"{"request":"stop","wait":"yes"}"#,
                "bad_field: `wait` is \"yes\", expected `true` or `false`",
            ),
        ] {
            assert_eq!(message(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_not_known_is_ignored_and_told() {
        let line = br#"{"request":"ping","id":[1],"colour":"red"}"#;
        let asked = Asked::parse(line).expect("a request");
        assert_eq!(asked.id, Some(json!([1])));
        assert_eq!(asked.ignored, ["colour"]);
    }

    #[test]
    fn an_upgrade_says_what_is_to_be_different() {
        let line = json!({
            "request": "upgrade", "program": "/opt/new", "arguments": ["-v"], "directory": "/",
            "environment": { "A": "1", "B": null }, "timeout_ms": 5000, "wait": "drained",
        });
        let asked = Asked::parse(line.to_string().as_bytes()).expect("a request");
        let Request::Upgrade { changes, until } = asked.request else {
            panic!("an upgrade: {asked:?}");
        };
        assert_eq!(until, Until::Drained);
        assert_eq!(changes.ready_timeout, Some(Duration::from_secs(5)));
        assert_eq!(changes.program.path, Some("/opt/new".into()));
        assert_eq!(changes.program.arguments, Some(vec!["-v".into()]));
        assert_eq!(changes.program.directory, Some("/".into()));
        let expected = [("A".into(), Some("1".into())), ("B".into(), None)];
        assert_eq!(changes.program.environment, expected);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_a_request_or_a_complaint(
            bytes: Vec<u8>,
            name in "[a-z]{0,9}|ping|status|upgrade|events",
            value in "[0-9]{1,30}|\"[a-z/]*\"|null|\\[\\[\\[|\\{\\}|true",
        ) {
            let text = format!(r#"{{"request":"{name}","id":{value},"timeout_ms":{value}}}"#);
            for line in [bytes.as_slice(), text.as_bytes()] {
                if let Err((id, complaint)) = Asked::parse(line) {
                    let line = complaint.line(id.as_ref());
                    prop_assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
                }
            }
        }
    }
}
