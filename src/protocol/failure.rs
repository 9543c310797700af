//! How a handover ends, for whoever asked for it.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How far a successor had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// Executing the program.
    Spawn,
    /// From there until it has answered the offer.
    Start,
    /// Agreeing on a version.
    Negotiate,
    /// Verifying the sockets that it inherits.
    Adopt,
    /// Its main, until it calls `ready()`: `on_init`, binding.
    Init,
    /// `on_ready` of its components.
    Ready,
    /// Closing what cannot overlap, on the incumbent's side.
    Park,
    /// Opening its gates.
    Commit,
    /// Serving, and not yet settled.
    Probation,
    /// A stage of a newer generation.
    #[serde(other)]
    Unknown,
}

/// The answer to a trigger that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// The successor serves and has settled.
    Committed {
        /// The successor's process ID.
        pid: i32,
    },
    /// The successor did not come to serve, or did not stay; the incumbent serves on.
    Failed(Failure),
    /// Nobody failed, but it was called off.
    Aborted(Abort),
}

/// Why a successor does not serve.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub(crate) struct Failure {
    /// How far it had come, as far as the incumbent knows.
    pub(crate) stage: Stage,
    /// The component whose hook failed.
    pub(crate) component: Option<String>,
    /// What happened.
    pub(crate) cause: Cause,
    /// How its process ended, once that is known.
    pub(crate) ended: Option<String>,
}

/// What went wrong with a successor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub(crate) enum Cause {
    /// It could not be executed.
    #[error("{0}")]
    NotSpawned(String),
    /// It said so itself.
    #[error("{0}")]
    Reported(String),
    /// It died or closed the channel.
    #[error("{0}")]
    Gone(String),
    /// It broke the protocol.
    #[error("broke the protocol: {0}")]
    Garbage(String),
    /// It did not answer in time.
    #[error("was not ready in time")]
    TimedOut,
    /// It was told to stop, and did.
    #[error("was told to stop")]
    Stopped,
    /// The incumbent could not park its endpoints or take its snapshot.
    #[error("the incumbent could not close what cannot overlap: {0}")]
    NotParked(String),
}

/// Why a handover was called off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub(crate) enum Abort {
    /// A stop reached the incumbent: the service stops.
    #[error("the service was told to stop")]
    Stopped,
    /// A stop reached the successor after the commit: the service stops.
    #[error("the successor was told to stop, and the service with it")]
    SuccessorStopped,
    /// The future that asked was dropped: the incumbent serves on.
    #[error("whoever asked for the handover went away")]
    AskerGone,
    /// An operator has called it off: the incumbent serves on.
    #[error("an operator wanted it no more")]
    CalledOff,
}

/// Why a trigger is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub(crate) enum Refusal {
    /// A handover is in progress.
    #[error("a handover is in progress")]
    InProgress,
    /// This generation does not serve yet.
    #[error("this generation does not serve yet")]
    NotServing,
    /// This generation is stopping.
    #[error("this generation is stopping")]
    Stopping,
    /// This generation has handed over.
    #[error("process {pid} serves now: this generation has handed over")]
    Superseded {
        /// The process that serves.
        pid: i32,
    },
    /// The successor is in its probation: it settles, and then carries out this trigger itself.
    #[error(
        "the last handover is in its probation: process {pid} settles it and hands over itself"
    )]
    PassedOn {
        /// The process that will do it.
        pid: i32,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            stage,
            component,
            cause,
            ended,
        } = self;
        write!(f, "the successor failed at stage `{stage}`")?;
        if let Some(component) = component {
            write!(f, " in component `{component}`")?;
        }
        write!(f, ": {cause}")?;
        match ended {
            Some(ended) => write!(f, " ({ended})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spawn => "spawn",
            Self::Start => "start",
            Self::Negotiate => "negotiate",
            Self::Adopt => "adopt",
            Self::Init => "init",
            Self::Ready => "ready",
            Self::Park => "park",
            Self::Commit => "commit",
            Self::Probation => "probation",
            Self::Unknown => "unknown",
        })
    }
}
