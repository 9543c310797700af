//! What happens to an incumbent.

use crate::protocol::failure::Abort;
use crate::protocol::message::ToIncumbent;

/// What happens to an incumbent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// A handover is asked for; answered by exactly one `Report` or `Refuse`.
    Trigger,
    /// The handover in progress is not wanted any more.
    CallOff(Abort),
    /// A stop was received by this process.
    Stop,
    /// The predecessor passes on a stop that it received.
    StopRelayed,
    /// The predecessor has let go of what is exclusive, has died, or never was.
    Released,
    /// `Spawn` succeeded.
    Spawned {
        /// The child's process ID.
        pid: i32,
    },
    /// `Spawn` failed.
    SpawnFailed {
        /// Why.
        error: String,
    },
    /// The successor said something.
    Received(&'a ToIncumbent),
    /// The successor sent what is not a message, or descriptors that do not fit it.
    Garbage {
        /// What is wrong with it.
        reason: String,
    },
    /// The successor died or closed the channel. Delivered only after everything that it said
    /// before.
    SuccessorGone {
        /// How, for the report.
        how: String,
    },
    /// `EndSuccessor` is done: no process of the successor is left. Nothing of this successor may
    /// be delivered after it.
    SuccessorEnded {
        /// Exit status or signal, for the report.
        how: String,
    },
    /// `Park` is done.
    Parked,
    /// `Park` failed or overran its limit.
    #[allow(
        dead_code,
        reason = "only a snapshot can fail, which no shell takes yet"
    )]
    ParkFailed {
        /// Why.
        reason: String,
    },
    /// A timer ran out. Delivered only when neither a message nor the death of the successor waits
    /// to be: at the end of a probation they are worth more than the time.
    Elapsed(Timer),
    /// Every `on_drain` has returned or met its limit, after `BeginDrain` or `BeginStop`.
    HooksDrained,
}

/// The limits of a handover, as the incumbent watches them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Timer {
    /// From `Spawned` to `Ready`.
    Ready,
    /// From `Commit` to `Serving`.
    Commit,
    /// From `Serving` to `Settled`; longer than the probation itself, since the successor settles
    /// by its own clock.
    Probation,
}
