//! What can go wrong with sockets.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::invalid::InvalidEndpoint;
use super::kind::Kind;

/// An error of this floor: which endpoint, what was tried, and why it failed.
#[derive(Debug)]
pub(crate) struct Error {
    endpoint: String,
    attempt: Attempt,
    problem: Problem,
}

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Adopt,
    Bind,
}

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("{0}")]
    Invalid(#[from] InvalidEndpoint),
    #[error("descriptor {descriptor} is {found}, expected {expected}")]
    Mismatch {
        descriptor: i32,
        found: String,
        expected: String,
    },
    #[error("it is {found}, expected {expected}")]
    Kind { found: String, expected: String },
    #[error("it is already claimed{hint}")]
    AlreadyClaimed { hint: &'static str },
    #[error("systemd passed no socket of this name, and `systemd:` is never bound afresh")]
    NotActivated,
    #[error(
        "systemd passed a connection, because the socket unit has Accept=yes: expected a socket \
         that listens, which takes Accept=no"
    )]
    Connection,
    #[error("it overlaps {state} `{other}` on {address}")]
    Overlap {
        state: &'static str,
        other: String,
        address: String,
    },
    #[error("{address} is in use{why}")]
    InUse { address: String, why: String },
    #[error("{} is not a socket, and is not removed", .0.display())]
    NotASocket(PathBuf),
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
}

impl Error {
    pub(super) fn adopt(endpoint: impl fmt::Display, problem: impl Into<Problem>) -> Self {
        Self {
            endpoint: endpoint.to_string(),
            attempt: Attempt::Adopt,
            problem: problem.into(),
        }
    }

    pub(super) fn bind(endpoint: impl fmt::Display, problem: impl Into<Problem>) -> Self {
        Self {
            endpoint: endpoint.to_string(),
            attempt: Attempt::Bind,
            problem: problem.into(),
        }
    }

    /// Is the address taken, by somebody else or by another endpoint of this service?
    pub(crate) fn is_in_use(&self) -> bool {
        matches!(
            self.problem,
            Problem::InUse { .. } | Problem::Overlap { .. } | Problem::AlreadyClaimed { .. }
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempt = match self.attempt {
            Attempt::Adopt => "adopt",
            Attempt::Bind => "bind",
        };
        write!(
            f,
            "could not {attempt} endpoint `{}`: {}",
            self.endpoint, self.problem
        )
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.problem)
    }
}

impl Problem {
    pub(super) fn io(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io {
            doing: doing.into(),
            source: source.into(),
        }
    }

    pub(super) fn unexpected_kind(
        found: impl IntoIterator<Item = Kind>,
        expected: &[Kind],
    ) -> Self {
        Self::Kind {
            found: list(found),
            expected: list(expected.iter().copied()),
        }
    }
}

fn list(kinds: impl IntoIterator<Item = Kind>) -> String {
    let kinds: Vec<_> = kinds.into_iter().map(|kind| kind.to_string()).collect();
    kinds.join(" or ")
}
