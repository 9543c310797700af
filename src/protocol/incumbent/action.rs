//! What an incumbent has to do.

use super::event::Timer;
use crate::protocol::failure::{Outcome, Refusal};
use crate::protocol::message::ToSuccessor;

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
    /// Stop a timer, if it runs.
    StopTimer(Timer),
    /// Close, of what was claimed, the endpoints that cannot overlap, and take the snapshot, under
    /// a limit; answered by `Parked` or `ParkFailed`.
    Park {
        /// The keys of what was claimed.
        claimed: Vec<String>,
    },
    /// Undo `Park`, or call it off: neither `Parked` nor `ParkFailed` may be delivered for it any
    /// more.
    Unpark,
    /// Close the gates of what was claimed.
    CloseGates {
        /// The keys of what was claimed.
        claimed: Vec<String>,
    },
    /// Undo `CloseGates`.
    ReopenGates,
    /// SIGTERM, then SIGKILL, then reap, with the process group; answered by `SuccessorEnded`. At
    /// most one such request is open.
    EndSuccessor,
    /// SIGKILL at once, with the process group; `SuccessorEnded` is not waited for.
    KillSuccessor,
    /// The successor is responsible for good: close all gates, drain, run `on_drain`; no path is
    /// unlinked.
    BeginDrain,
    /// The service stops: close all gates for good (also what is parked), drain, run `on_drain`,
    /// unlink paths.
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

/// The deadline that a drain gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Deadline {
    /// The stop timeout from now.
    Stop,
    /// This time, in milliseconds of `CLOCK_MONOTONIC`.
    At(u64),
}
