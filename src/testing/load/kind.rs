//! What clients do.

use std::fmt;

/// How a client uses its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A new connection for each request, one after the other.
    New,
    /// One connection, each request at once after the answer to the last: a closed loop.
    KeepAlive,
    /// One connection, with a random pause before each request.
    ThinkTime,
    /// One connection that is used so rarely that a whole handover fits into the pause.
    Idle,
    /// Connects, says nothing for a while, asks once, and connects again.
    Silent,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::New,
        Self::KeepAlive,
        Self::ThinkTime,
        Self::Idle,
        Self::Silent,
    ];

    /// Tells whether a connection serves for one request only.
    pub(super) fn asks_once(self) -> bool {
        matches!(self, Self::New | Self::Silent)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::New => "new",
            Self::KeepAlive => "keep-alive",
            Self::ThinkTime => "think time",
            Self::Idle => "idle",
            Self::Silent => "silent",
        })
    }
}
