//! The side that takes over.

use super::failure::Refusal;
use super::incumbent;
use super::message::{Failed, ToIncumbent, ToSuccessor};

/// The state machine of a generation from its start until its predecessor is gone.
///
/// Every trigger and every stop of the process goes here first; what belongs to the next handover comes back as
/// [`Action::PassOn`] for the [`Incumbent`](super::Incumbent) of the same process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Successor {}

/// What happens to a successor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// `ready()` was called and every `on_ready` has passed; only the first counts.
    Ready {
        /// The keys of the endpoints that it will serve.
        claimed: Vec<String>,
    },
    /// A socket does not verify, a hook failed, main returned an error or panicked, or main returned before `ready()`.
    Failed(Failed),
    /// The predecessor said something. The descriptors of `Offer` and `Sockets` are owned and verified by then.
    Received(&'a ToSuccessor),
    /// The predecessor sent what is not a message, or descriptors that do not fit it.
    Garbage {
        /// What is wrong with it.
        reason: String,
    },
    /// The predecessor died. Delivered only after everything that it said before.
    PredecessorGone,
    /// A handover is asked for.
    Trigger,
    /// The program ends its probation.
    Settle,
    /// The future that asked for a handover was dropped.
    AskerGone,
    /// A stop was received by this process, or main returned without an error while it serves.
    Stop,
    /// The probation is over.
    Elapsed(Timer),
}

/// What a successor has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send a message.
    Send(ToIncumbent),
    /// Run main: the offer is complete, or nobody is left to complete it.
    RunMain,
    /// Start a timer; answered by `Elapsed` unless it is stopped.
    StartTimer(Timer),
    /// Stop a timer.
    StopTimer(Timer),
    /// Open the gates of what is claimed.
    OpenGates,
    /// Resolve `ready()`, also where it is called later.
    ResolveReady(Result<(), NotServing>),
    /// The Unix paths belong to this generation: remove them on a final stop.
    BecomeOwner,
    /// Put the real standard error back.
    RestoreStderr,
    /// Join the predecessor's process group.
    JoinProcessGroup,
    /// Kill the predecessor a grace period after its drain deadline.
    WatchPredecessor,
    /// Report and close inherited sockets that were not claimed.
    CloseUnclaimed,
    /// Stop before having served: drop main, drain the components that are initialised, end.
    EndNow,
    /// Stop having served: close all gates for good, drain, run `on_drain`, end; unlink paths if they are ours.
    BeginStop,
    /// End the drain now.
    AbortDrain,
    /// Give an event to the `Incumbent` of this process.
    PassOn(incumbent::Event<'static>),
    /// Answer a trigger that is not accepted.
    Refuse(Refusal),
}

/// The limits that a successor watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Timer {
    /// From `Serving` to `Settled`: `Offer::probation_ms`.
    Probation,
}

/// Why `ready()` is an error.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum NotServing {
    /// This generation was told to stop.
    Stopped,
    /// It failed.
    Failed(String),
}

impl Successor {
    /// Creates the machine of a first generation; main runs at once.
    pub(crate) fn first() -> Self {
        Self {}
    }

    /// Creates the machine of a generation that has found its channel and awaits the offer; `pid` is its own.
    pub(crate) fn offered(pid: i32) -> Self {
        Self {}
    }

    /// Takes an event and returns what to do, in this order.
    pub(crate) fn on(&mut self, event: Event<'_>) -> Vec<Action> {
        todo!()
    }

    /// Returns whether the predecessor is no longer needed: the next handover may begin.
    pub(crate) fn is_settled(&self) -> bool {
        todo!()
    }
}
