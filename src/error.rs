//! The one error of the facade.

use std::convert::Infallible;
use std::fmt;
use std::io;

use crate::lifecycle::component::{Failure as HookFailure, HookError};
use crate::protocol::{Abort, Cause, Failure, Refusal};
use crate::socket::{self, InvalidEndpoint};

/// What went wrong, with the operands in its message and the cause as its source.
///
/// It is opaque, so that it can grow; the predicates tell what a program may want to act on.
///
/// Its `Debug` output is its message and the causes in plain words, because that is what
/// `fn main() -> Result<(), Error>` prints.
pub struct Error(Box<Kind>);

#[derive(Debug)]
enum Kind {
    Endpoint(InvalidEndpoint),
    Socket(socket::Error),
    Hook(HookError),
    NotServing(String),
    Handover {
        failure: Failure,
        stderr: Vec<String>,
    },
    Aborted(Abort),
    Refused(Refusal),
    Io {
        what: String,
        source: io::Error,
    },
    Engine,
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self(Box::new(Kind::Io {
            what: what.into(),
            source,
        }))
    }

    pub(crate) fn not_serving(reason: impl Into<String>) -> Self {
        Self(Box::new(Kind::NotServing(reason.into())))
    }

    pub(crate) fn handover(failure: Failure, stderr: Vec<String>) -> Self {
        Self(Box::new(Kind::Handover { failure, stderr }))
    }

    pub(crate) fn aborted(abort: Abort) -> Self {
        Self(Box::new(Kind::Aborted(abort)))
    }

    pub(crate) fn refused(refusal: Refusal) -> Self {
        Self(Box::new(Kind::Refused(refusal)))
    }

    /// The lifecycle task has gone, so that nobody can answer.
    pub(crate) fn engine() -> Self {
        Self(Box::new(Kind::Engine))
    }

    /// Tells whether something did not happen within its limit: a hook, or a successor that did
    /// not become ready.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match &*self.0 {
            Kind::Hook(error) => matches!(error.failure, HookFailure::TimedOut(_)),
            Kind::Handover { failure, .. } => failure.cause == Cause::TimedOut,
            Kind::Io { source, .. } => source.kind() == io::ErrorKind::TimedOut,
            _ => false,
        }
    }

    /// Tells whether a handover was refused before anything was started: because another one is
    /// in progress, or because this generation does not serve.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(&*self.0, Kind::Refused(_))
    }

    /// Tells whether somebody else listens on the address.
    #[must_use]
    pub fn is_address_in_use(&self) -> bool {
        matches!(&*self.0, Kind::Socket(error) if error.is_in_use())
    }

    /// How far a successor had come when it failed: `spawn`, `start`, `negotiate`, `adopt`,
    /// `init`, `ready`, `park`, `commit` or `probation`.
    #[must_use]
    pub fn stage(&self) -> Option<String> {
        match &*self.0 {
            Kind::Handover { failure, .. } => Some(failure.stage.to_string()),
            Kind::Hook(error) => Some(error.hook.name().to_owned()),
            _ => None,
        }
    }

    /// The component whose hook failed, here or in the successor.
    #[must_use]
    pub fn component(&self) -> Option<&str> {
        match &*self.0 {
            Kind::Handover { failure, .. } => failure.component.as_deref(),
            Kind::Hook(error) => Some(&error.component),
            _ => None,
        }
    }

    /// How the process of a failed successor ended: its exit status or the signal that killed it.
    #[must_use]
    pub fn exit(&self) -> Option<&str> {
        match &*self.0 {
            Kind::Handover { failure, .. } => failure.ended.as_deref(),
            _ => None,
        }
    }

    /// The last lines that a failed successor wrote to its standard error.
    #[must_use]
    pub fn stderr(&self) -> &[String] {
        match &*self.0 {
            Kind::Handover { stderr, .. } => stderr,
            _ => &[],
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Endpoint(error) => error.fmt(f),
            Kind::Socket(error) => error.fmt(f),
            Kind::Hook(error) => error.fmt(f),
            Kind::NotServing(reason) => write!(f, "this generation will not serve: {reason}"),
            Kind::Handover { failure, .. } => failure.fmt(f),
            Kind::Aborted(abort) => write!(f, "the handover was called off: {abort}"),
            Kind::Refused(refusal) => write!(f, "the handover was refused: {refusal}"),
            Kind::Io { what, source } => write!(f, "{what}: {source}"),
            Kind::Engine => f.write_str("the lifecycle task of this generation has ended"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The message of an inner error stands in ours already; its cause does not.
        match &*self.0 {
            Kind::Endpoint(error) => error.source(),
            Kind::Socket(error) => error.source(),
            Kind::Hook(error) => error.source(),
            Kind::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<InvalidEndpoint> for Error {
    fn from(error: InvalidEndpoint) -> Self {
        Self(Box::new(Kind::Endpoint(error)))
    }
}

impl From<socket::Error> for Error {
    fn from(error: socket::Error) -> Self {
        Self(Box::new(Kind::Socket(error)))
    }
}

impl From<HookError> for Error {
    fn from(error: HookError) -> Self {
        Self(Box::new(Kind::Hook(error)))
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
