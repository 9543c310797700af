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
    todo!()
}

/// Reads a message from a record.
pub(crate) fn decode<M: DeserializeOwned>(record: &[u8]) -> Result<M, Garbage> {
    todo!()
}
