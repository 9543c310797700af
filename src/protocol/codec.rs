//! Messages to records and back.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The longest record, in bytes.
pub(crate) const MAX_RECORD: usize = 128 * 1024;

/// A record that no generation of this library would have sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub(crate) struct Garbage(pub(crate) String);

/// A message that does not fit into one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a message of {0} bytes exceeds the record limit of {MAX_RECORD}")]
pub(crate) struct TooLong(usize);

/// Turns a message into a record.
pub(crate) fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, TooLong> {
    // Neither a map with keys that are not strings nor an `Err` from a `Serialize` of ours exists in a message.
    let record = serde_json::to_vec(&whole(message)).expect("messages are plain data");
    if record.len() > MAX_RECORD {
        return Err(TooLong(record.len()));
    }
    Ok(record)
}

/// Reads a message from a record.
pub(crate) fn decode<M: DeserializeOwned>(record: &[u8]) -> Result<M, Garbage> {
    if record.len() > MAX_RECORD {
        return Err(Garbage(format!(
            "a record of {} bytes exceeds the limit of {MAX_RECORD}",
            record.len()
        )));
    }
    serde_json::from_slice(record).map_err(|error| Garbage(error.to_string()))
}

/// Distributes what does not fit into one record over several, in order, at most `most` to each.
pub(super) fn split<T: Serialize>(items: Vec<T>, most: usize) -> Vec<Vec<T>> {
    // Leaves room for the rest of the message.
    const ROOM: usize = MAX_RECORD - 1024;

    let mut parts = vec![Vec::new()];
    let mut length = 0;
    for item in items {
        let own = serde_json::to_vec(&item)
            .expect("messages are plain data")
            .len()
            + 1;
        let part = parts.last_mut().expect("there is always a part");
        if part.is_empty() || (part.len() < most && length + own <= ROOM) {
            length += own;
            part.push(item);
        } else {
            length = own;
            parts.push(vec![item]);
        }
    }
    parts
}

#[cfg(not(handover_protocol = "newer"))]
fn whole<M: Serialize>(message: &M) -> &M {
    message
}

/// Adds a field that only a newer generation knows, so that the tests see older ones ignore it.
#[cfg(handover_protocol = "newer")]
fn whole<M: Serialize>(message: &M) -> serde_json::Value {
    let mut value = serde_json::to_value(message).expect("messages are plain data");
    if let Some(fields) = value.as_object_mut() {
        fields.insert("novelty".to_owned(), serde_json::json!({ "since": 2 }));
    }
    value
}
