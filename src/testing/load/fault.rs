//! Why a request failed.

use std::fmt;
use std::io;

use tokio::time::Instant;

use super::kind::Kind;
use crate::testing::identity::Identity;

/// The class of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The connection could not be made.
    Refused,
    /// The connection was reset.
    Reset,
    /// The connection ended before the answer was whole.
    Eof,
    /// No whole answer came in time.
    Timeout,
    /// A WebSocket ended without a close frame.
    Cut,
    /// An answer came, but not the right one.
    BadAnswer,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Eof => "end of stream",
            Self::Timeout => "timeout",
            Self::Cut => "no close frame",
            Self::BadAnswer => "bad answer",
        })
    }
}

/// One failed request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// What the client does.
    pub kind: Kind,
    /// The class.
    pub cause: Cause,
    /// What exactly was seen.
    pub detail: String,
    /// When.
    pub at: Instant,
    /// Who gave the last answer on the same connection.
    pub last: Option<Identity>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.kind, self.cause, self.detail)?;
        match self.last {
            Some(last) => write!(f, " (the last answer was of {last})"),
            None => Ok(()),
        }
    }
}

/// What went wrong on a connection, before it is decided whether a request has failed by it.
#[derive(Debug)]
pub struct Fault {
    pub(super) cause: Cause,
    pub(super) detail: String,
    /// How many bytes of the request the kernel had taken.
    pub(super) sent: usize,
}

impl Fault {
    pub(super) fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self {
            cause,
            detail: detail.into(),
            sent: 0,
        }
    }

    /// The same after so many bytes of the request were sent.
    pub(super) fn after(self, sent: usize) -> Self {
        Self { sent, ..self }
    }

    /// Whether the connection broke off, as it does when the process at its other end dies.
    pub(super) fn is_broken_off(&self) -> bool {
        matches!(self.cause, Cause::Reset | Cause::Eof | Cause::Cut)
    }

    /// A failure to connect.
    pub(super) fn connecting(error: &io::Error) -> Self {
        Self::new(Cause::Refused, format!("could not connect: {error}"))
    }

    /// A failure to read.
    pub(super) fn reading(error: &io::Error) -> Self {
        Self::new(Cause::Reset, format!("could not read: {error}"))
    }

    /// Tells whether the connection was closed in an orderly way before a byte was sent.
    pub(super) fn is_idle_close(&self) -> bool {
        self.cause == Cause::Eof && self.sent == 0
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} ({} bytes sent)",
            self.cause, self.detail, self.sent
        )
    }
}
