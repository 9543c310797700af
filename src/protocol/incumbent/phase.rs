//! Where an incumbent is.

use crate::protocol::version::Capabilities;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// No handover is in progress.
    Serving,
    /// `Spawn` is to be answered; with an outcome already, the child is to be ended as soon as it
    /// is there.
    Spawning,
    /// The successor initialises, under the timer `Ready`.
    Starting { accepted: bool },
    /// The successor is ready; what cannot overlap is being closed.
    Parking,
    /// Commit is sent, under the timer `Commit`.
    Committing,
    /// The successor serves, under the timer `Probation`; this generation can still take over
    /// again.
    Probation,
    /// `EndSuccessor` is to be answered.
    Ending { parked: bool },
    /// The successor serves for good.
    Draining { drained: bool },
    /// Nobody is to serve.
    Stopping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stop {
    Not,
    /// The predecessor passed it on. The signal may come as well (systemd sends it to every process
    /// of a unit), and must not count as a second one.
    Relayed,
    Received,
    Aborted,
}

/// What is known of the successor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) pid: i32,
    pub(super) capabilities: Capabilities,
    pub(super) claimed: Vec<String>,
}
