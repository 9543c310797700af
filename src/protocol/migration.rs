//! What is said of connections that move.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// One connection of a `Connections` record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connection {
    /// What a server has to know in order to go on with it.
    pub(crate) manner: Manner,
    /// The address of the other end, if it is one of TCP: with thousands of them it takes long to ask the
    /// kernel for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<SocketAddr>,
    /// How many bytes of the parcel were read from it and not used.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) unread: u64,
    /// How many bytes of the parcel, behind those, are the application's state.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) state: u64,
}

/// What an endpoint takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Consent {
    /// The key of the endpoint.
    pub(crate) endpoint: String,
    /// In which manner it goes on with connections; none where its listener has gone.
    pub(crate) manners: Vec<Manner>,
}

/// How a connection is to be gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Manner {
    /// As one that was just accepted: nothing was read or written.
    Untouched,
    /// As one of HTTP/1.1 between two requests.
    Http1,
    /// By the application, which has asked for such connections, with a state of its own.
    Resumed,
    /// One of a newer protocol.
    #[serde(other, skip_serializing)]
    Unknown,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
