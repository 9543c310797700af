//! What is said to a client: one object a line.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::lifecycle::event::Event;

/// The version of the protocol.
pub(super) const PROTOCOL: u64 = 1;

/// Why a request is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    code: &'static str,
    message: String,
    details: Map<String, Value>,
}

impl Complaint {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Map::new(),
        }
    }

    /// Why there was no handover.
    pub(super) fn of_handover(error: &Error) -> Self {
        let (refused, stage) = (error.is_refused(), error.stage());
        let code = match (refused, &stage) {
            (true, _) => "refused",
            (_, Some(_)) => "failed",
            (_, None) => "called_off",
        };
        let mut complaint = Self::new(code, error.to_string());
        if let Some(stage) = stage {
            let details = &mut complaint.details;
            details.insert("stage".to_owned(), stage.into());
            details.insert("component".to_owned(), error.component().into());
            details.insert("exit".to_owned(), error.exit().into());
            details.insert("stderr".to_owned(), error.stderr().into());
            details.insert("timed_out".to_owned(), error.is_timeout().into());
        }
        complaint
    }

    /// Adds what else an operator wants to know.
    pub(super) fn with(mut self, name: &str, value: Value) -> Self {
        self.details.insert(name.to_owned(), value);
        self
    }

    pub(super) fn line(&self, id: Option<&Value>) -> Vec<u8> {
        let mut fields = self.details.clone();
        fields.insert("code".to_owned(), self.code.into());
        fields.insert("message".to_owned(), self.message.clone().into());
        line("error", id, fields)
    }
}

/// The last line that is said to a request.
pub(super) fn answer(request: &str, id: Option<&Value>, fields: Map<String, Value>) -> Vec<u8> {
    let mut all = fields;
    all.insert("request".to_owned(), request.into());
    all.insert("protocol".to_owned(), PROTOCOL.into());
    line("answer", id, all)
}

/// An event: for whoever asks for events, or as the progress of what is waited for.
pub(super) fn event(kind: &str, id: Option<&Value>, event: &Event) -> Option<Vec<u8>> {
    // One that only a newer generation knows has no form here.
    let event = serde_json::to_value(event).ok()?;
    Some(line(kind, id, fields(json!({ "event": event }))))
}

/// How many events could not be kept for a client that reads too slowly.
pub(super) fn missed(id: Option<&Value>, count: u64) -> Vec<u8> {
    line("missed", id, fields(json!({ "count": count })))
}

/// Makes an object of what is one.
pub(super) fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn line(kind: &str, id: Option<&Value>, fields: Map<String, Value>) -> Vec<u8> {
    let line = Line { kind, id, fields };
    let mut line = serde_json::to_vec(&line).unwrap_or_default();
    line.push(b'\n');
    line
}

/// What every line begins with.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
    #[serde(flatten)]
    fields: Map<String, Value>,
}
