//! The first record of a handover.

use serde::{Deserialize, Serialize};

use super::version::{Capabilities, Versions};

/// Who the incumbent is, what it will send, and what the successor must know before it starts.
///
/// Only what no generation can do without is required; everything else has a default, so that a
/// peer of another version may leave it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    /// The versions that the incumbent speaks.
    pub(crate) versions: Versions,
    /// What the incumbent can do beyond the version.
    #[serde(default)]
    pub(crate) capabilities: Capabilities,
    /// The number of the successor along the chain of handovers.
    pub(crate) generation: u32,
    /// The incumbent's process ID.
    pub(crate) pid: i32,
    /// The incumbent's process group, which the successor joins once it has settled.
    #[serde(default)]
    pub(crate) process_group: Option<i32>,
    /// How many descriptions follow in `Sockets` records; with the last of them the offer is
    /// complete.
    pub(crate) sockets: u32,
    /// The signals that are blocked in the service's threads, to be restored before any thread
    /// exists.
    #[serde(default)]
    pub(crate) mask: Vec<i32>,
    /// How long the incumbent will drain, in milliseconds.
    #[serde(default)]
    pub(crate) drain_timeout_ms: Option<u64>,
    /// How long after that the successor kills it, in milliseconds.
    #[serde(default)]
    pub(crate) kill_grace_ms: Option<u64>,
    /// How long after `Serving` the successor settles, in milliseconds; 0 for at once.
    #[serde(default)]
    pub(crate) probation_ms: u64,
    /// Generations before the incumbent that still drain.
    #[serde(default)]
    pub(crate) older: Vec<Older>,
    /// What each descriptor that rides along with this record is, in order.
    #[serde(default)]
    pub(crate) descriptors: Vec<Role>,
}

/// A generation before the incumbent that still drains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Older {
    /// Its number.
    pub(crate) generation: u32,
    /// Its process ID.
    pub(crate) pid: i32,
    /// When it must have ended, in milliseconds of `CLOCK_MONOTONIC`.
    #[serde(default)]
    pub(crate) deadline_ms: Option<u64>,
    /// What it can do.
    #[serde(default)]
    pub(crate) capabilities: Capabilities,
}

/// What a descriptor beside the sockets is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// The incumbent's pidfd.
    IncumbentPidfd,
    /// The service's real standard input; the successor's is the channel.
    Stdin,
    /// The service's real standard error.
    Stderr,
    /// The read end of the pipe that is the successor's standard error until it has settled.
    StderrPipe,
    /// The same of a generation before, into which a child of it may still write.
    OlderStderrPipe,
    /// The channel to an older generation; they come in the order of `Offer::older`.
    OlderChannel,
    /// The pidfd of an older generation; they come in the order of `Offer::older`.
    OlderPidfd,
    /// Something that a newer generation passes on; it is closed.
    #[serde(other)]
    Unknown,
}
