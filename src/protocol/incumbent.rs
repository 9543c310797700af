//! The side that hands over.

use super::failure::{Outcome, Refusal};
use super::message::{ToIncumbent, ToSuccessor};

/// The state machine of a generation that serves, from the moment it has settled until it ends.
///
/// Triggers and stops do not come here directly: they go to [`Successor`](super::Successor), which passes on what
/// belongs here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Incumbent {}

/// What happens to an incumbent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// A handover is asked for; answered by exactly one `Report` or `Refuse`.
    Trigger,
    /// The future that asked for the handover in progress was dropped.
    AskerGone,
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
    /// The successor died or closed the channel. Delivered only after everything that it said before.
    SuccessorGone {
        /// How, for the report.
        how: String,
    },
    /// `EndSuccessor` is done: no process of the successor is left. Nothing of this successor may be delivered after it.
    SuccessorEnded {
        /// Exit status or signal, for the report.
        how: String,
    },
    /// `Park` is done.
    Parked,
    /// `Park` failed or overran its limit.
    ParkFailed {
        /// Why.
        reason: String,
    },
    /// A timer ran out.
    Elapsed(Timer),
    /// Every `on_drain` has returned or met its limit, after `BeginDrain` or `BeginStop`.
    HooksDrained,
}

/// What an incumbent has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start the successor; answered by `Spawned` or `SpawnFailed`.
    Spawn,
    /// Send the offer and all the sockets, paced by `Taken`.
    SendOffer,
    /// Send a message.
    Send(ToSuccessor),
    /// Start a timer; answered by `Elapsed` unless it is stopped.
    StartTimer(Timer),
    /// Stop a timer.
    StopTimer(Timer),
    /// Close, of what was claimed, the endpoints that cannot overlap, and take the snapshot, under a limit; answered
    /// by `Parked` or `ParkFailed`.
    Park {
        /// The keys of what was claimed.
        claimed: Vec<String>,
    },
    /// Undo `Park`.
    Unpark,
    /// Close the gates of what was claimed.
    CloseGates {
        /// The keys of what was claimed.
        claimed: Vec<String>,
    },
    /// Undo `CloseGates`.
    ReopenGates,
    /// SIGTERM, then SIGKILL, then reap, with the process group; answered by `SuccessorEnded`. At most one such
    /// request is open.
    EndSuccessor,
    /// SIGKILL at once, with the process group; `SuccessorEnded` is not waited for.
    KillSuccessor,
    /// The successor is responsible for good: close all gates, drain, run `on_drain`; no path is unlinked.
    BeginDrain,
    /// The service stops: close all gates for good (also what is parked), drain, run `on_drain`, unlink paths.
    BeginStop,
    /// Move the deadline of the drain if the new one is earlier.
    ShortenDeadline(Deadline),
    /// End the drain now.
    AbortDrain,
    /// Run `on_active`.
    RunOnActive,
    /// Answer the trigger that was accepted.
    Report(Outcome),
    /// Answer a trigger that is not accepted.
    Refuse(Refusal),
}

/// The limits of a handover, as the incumbent watches them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Timer {
    /// From `Spawned` to `Ready`.
    Ready,
    /// From `Commit` to `Serving`.
    Commit,
    /// From `Serving` to `Settled`; longer than the probation itself, since the successor settles by its own clock.
    Probation,
}

/// The deadline that a drain gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Deadline {
    /// The stop timeout from now.
    Stop,
    /// This time, in milliseconds of `CLOCK_MONOTONIC`.
    At(u64),
}

impl Incumbent {
    /// Creates the machine of a generation that does not serve yet; it is used once `Successor` passes on an event.
    pub(crate) fn new() -> Self {
        Self {}
    }

    /// Takes an event and returns what to do, in this order.
    pub(crate) fn on(&mut self, event: Event<'_>) -> Vec<Action> {
        todo!()
    }

    /// Returns whether the successor took part in negotiating `capability` and has it.
    pub(crate) fn successor_can(&self, capability: &str) -> bool {
        todo!()
    }
}
