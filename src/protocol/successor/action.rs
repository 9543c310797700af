//! What a successor has to do.

use thiserror::Error;

use super::event::Timer;
use crate::protocol::failure::Refusal;
use crate::protocol::incumbent;
use crate::protocol::message::ToIncumbent;

/// What a successor has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send a message.
    Send(ToIncumbent),
    /// Run main: the offer is complete, or nobody is left to complete it.
    RunMain,
    /// Start a timer; answered by `Elapsed` unless it is stopped.
    StartTimer(Timer),
    /// Stop a timer, if it runs.
    StopTimer(Timer),
    /// Open the gates of what is claimed.
    OpenGates,
    /// Resolve `ready()`, also where it is called later.
    ResolveReady(Result<(), NotServing>),
    /// Give inherited sockets the options that this generation wants for them, now that the
    /// predecessor accepts no more, or will not for long. Nobody waits for it.
    ApplyOptions,
    /// Name this process in the pid file: it is the service from here on, unless the predecessor's
    /// limit has run out, which writes the file again then.
    WritePidFile,
    /// The Unix paths belong to this generation: remove them on a final stop, also on one that has
    /// begun.
    BecomeOwner,
    /// Put the real standard error back.
    RestoreStderr,
    /// Join the predecessor's process group.
    JoinProcessGroup,
    /// Kill the predecessor a grace period after its drain deadline; asking again changes nothing.
    WatchPredecessor,
    /// Report and close inherited sockets that were not claimed.
    CloseUnclaimed,
    /// Stop before having served: drop main, drain the components that are initialised, end.
    EndNow,
    /// Stop having served: close all gates for good, drain, run `on_drain`, end; unlink paths if
    /// they are ours.
    BeginStop,
    /// End the drain now.
    AbortDrain,
    /// Give an event to the `Incumbent` of this process.
    PassOn(incumbent::Event<'static>),
    /// Answer a trigger that is not accepted.
    Refuse(Refusal),
}

/// Why `ready()` is an error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub(crate) enum NotServing {
    /// This generation was told to stop.
    #[error("this generation was told to stop before it served")]
    Stopped,
    /// It failed.
    #[error("this generation will not serve: {0}")]
    Failed(String),
}
