//! What happens to a successor.

use crate::protocol::failed::Failed;
use crate::protocol::failure::Abort;
use crate::protocol::message::ToSuccessor;

/// What happens to a successor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// `ready()` was called and every `on_ready` has passed; only the first counts.
    Ready {
        /// The keys of the endpoints that it will serve.
        claimed: Vec<String>,
    },
    /// A socket does not verify, a hook failed, main returned an error or panicked, or main
    /// returned before `ready()`.
    Failed(Failed),
    /// The predecessor said something. The descriptors of `Offer` and `Sockets` are owned and
    /// verified by then.
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
    #[allow(dead_code, reason = "no probation can be configured yet")]
    Settle,
    /// The handover that was asked for is not wanted any more.
    CallOff(Abort),
    /// A stop was received by this process, or main returned without an error while it serves.
    Stop,
    /// The probation is over.
    Elapsed(Timer),
}

/// The limits that a successor watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Timer {
    /// From `Serving` to `Settled`: `Offer::probation_ms`.
    Probation,
}
