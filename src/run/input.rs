//! What reaches the lifecycle task: everything, through one queue.

use std::io;
use std::sync::Arc;

use nix::sys::signal::Signal;
use tokio::sync::oneshot;

use super::program::Changes;
use crate::context::Successor;
use crate::error::Error;
use crate::protocol::incumbent::Timer;
use crate::sys::channel::Record;
use crate::sys::spawn::Process;

/// The answer to a trigger that came from inside the program.
pub(crate) type Reply = oneshot::Sender<Result<Successor, Error>>;

/// Something that happened. Inputs that concern one successor carry the number of its handover, so
/// that what comes late from an earlier one is recognised.
#[derive(Debug)]
pub(crate) enum Input {
    /// A signal that is a trigger.
    Signal(Signal),
    /// A handover is asked for.
    Trigger {
        asker: u64,
        reply: Option<Reply>,
        changes: Option<Box<Changes>>,
    },
    /// The future that asked no longer waits.
    AskerGone { asker: u64 },
    /// An operator does not want the handover any more that is under way; answered by whether it is called off.
    #[allow(
        dead_code,
        reason = "only integrations ask for it, and each is a feature"
    )]
    CallOff { reply: oneshot::Sender<bool> },
    /// A stop is asked for by the program, or by somebody whom an integration has heard.
    Stop { by: &'static str },
    /// What is left of the drain is to be cut.
    #[allow(
        dead_code,
        reason = "only integrations ask for it, and each is a feature"
    )]
    Abort { by: &'static str },
    /// `ready()` was called, and every `on_ready` has passed.
    Ready,
    /// `ready()` was called, and an `on_ready` has failed.
    NotReady,
    /// Main has ended.
    MainEnded(MainEnd),
    /// An endpoint was opened.
    Opened { key: Arc<str> },
    /// A listener was dropped.
    Abandoned { key: Arc<str> },
    /// Answered when everything before it was taken.
    Mark(oneshot::Sender<()>),
    /// From the predecessor.
    Predecessor(FromPeer),
    /// From an older generation, whose lane this one has taken over.
    Older { generation: u32, record: Record },
    /// An older generation, whose lane this one has taken over, has said its last.
    LaneOver { generation: u32 },
    /// What older generations had sent has been answered: the rest is the successor's to read.
    LanesGivenUp,
    /// An older generation has ended.
    OlderGone { generation: u32 },
    /// The successor's program was started, or not.
    Spawned {
        handover: u64,
        result: io::Result<Process>,
    },
    /// From the successor.
    Successor { handover: u64, from: FromPeer },
    /// The successor that had to end has been reaped.
    SuccessorEnded { handover: u64, how: String },
    /// Endpoints that were inherited and are not bound by now are not wanted.
    Unclaimed,
    /// A limit of the handover has run out.
    Elapsed { handover: u64, timer: Timer },
    /// The probation is over.
    ProbationOver,
    /// A connection waits to be sent to the successor.
    Departing,
    /// An endpoint takes other connections from the predecessor than before.
    Consenting,
    /// Connections could not be sent.
    Unsent { batch: u64 },
    /// The successor has had its time to say what it takes.
    LaneOverdue { epoch: u32 },
    /// Every `on_drain` has returned or met its limit.
    HooksDrained,
    /// The last connection or task has gone, or a server waits at the end of its listener.
    Quiet,
    /// A service that stops has accepted long enough.
    LameDuckOver,
    /// The deadline of the drain is near.
    LastLook,
    /// The deadline of the drain has come.
    Deadline,
    /// A main that was told of a failure has had its moment to end by itself.
    MainOver,
    /// What was cut at the deadline has had its moment to end by itself.
    AbortOver,
    /// The predecessor has had its time to settle a handover whose successor stops.
    Undecided,
    /// A second of the drain has passed.
    DrainTick,
    /// The service has had ample time to call `ready()`.
    ReadyOverdue,
    /// The service was ready at once, and has had its moment to settle.
    Unsettled,
}

/// What comes from a neighbouring generation, in order: records, then its end.
#[derive(Debug)]
pub(crate) enum FromPeer {
    Record(Record),
    /// What came cannot be read.
    Broken(io::Error),
    /// The process has died, or has closed its end.
    Gone(String),
    /// It has died, and no later generation holds its end of the channel: nobody has followed it.
    Deserted,
}

/// How main ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MainEnd {
    /// It returned.
    Returned { success: bool },
    /// It panicked.
    Panicked(String),
    /// It was dropped.
    Dropped,
}
