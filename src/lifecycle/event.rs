//! What happens to a service, as it is told to those who watch.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ledger::{Account, Totals};
use crate::sys::process;

/// Something that happened in one generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// When, in microseconds since boot (`CLOCK_MONOTONIC`), which all generations share.
    pub(crate) at_us: u64,
    /// The generation that tells.
    pub(crate) generation: u32,
    /// Its process ID.
    pub(crate) pid: u32,
    /// What happened.
    #[serde(flatten)]
    pub(crate) what: What,
}

/// What happened, with its operands. Times are in milliseconds.
///
/// It has a form of its own in JSON, tagged with `"event"`, because generations of different
/// versions tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum What {
    /// The program runs: the first thing that the library does.
    Executed {},
    /// Everything that the predecessor or systemd has passed on is taken over and verified.
    Adopted {
        /// How many sockets.
        sockets: usize,
    },
    /// The runtime is up, and main is about to begin.
    Initialising {
        /// The predecessor's process ID.
        predecessor: Option<u32>,
    },
    /// A hook of a component has ended.
    Hook {
        /// The name of the method.
        hook: String,
        component: String,
        elapsed_us: u64,
        /// Why it failed.
        error: Option<String>,
    },
    /// `ready()` was called, and every `on_ready` has passed.
    Ready {},
    /// The gates are open.
    Serving {
        /// How many endpoints there are.
        endpoints: usize,
    },
    /// Nobody else holds what is exclusive, and every `on_active` has returned.
    Active {},

    /// A handover begins.
    HandoverBegins {},
    /// The successor's program was started.
    SuccessorStarted { successor: u32 },
    /// The successor has said that it is ready.
    SuccessorReady { successor: u32 },
    /// The successor is told to open its gates.
    Commit { successor: u32 },
    /// The successor's gates are open, and this generation closes its own.
    SuccessorServes { successor: u32 },
    /// The successor has settled: it serves for good.
    Committed { successor: u32, elapsed_ms: u64 },
    /// The service manager knows the successor as the process of the service, which speaks for it
    /// from here on.
    Announced { successor: u32 },
    /// Every `on_drain` has returned: what is exclusive is free, and the successor is told.
    Released {},
    /// The successor did not come to serve, or did not stay; this generation serves on.
    HandoverFailed {
        stage: String,
        component: Option<String>,
        /// What happened, with the stage, the component and how the process ended.
        error: String,
        /// What happened, alone; nothing, where `exit` says it all.
        #[serde(default)]
        cause: String,
        /// How the process ended: its exit status or the signal that killed it.
        exit: Option<String>,
        /// The last lines of its standard error.
        stderr: Vec<String>,
        elapsed_ms: u64,
    },
    /// Nobody failed, but the handover was called off.
    HandoverCalledOff { reason: String, elapsed_ms: u64 },
    /// A trigger was not accepted.
    HandoverRefused { reason: String },

    /// The service was told to stop.
    Stop { by: String },
    /// The service will stop, and accepts until its lame-duck time is over.
    LameDuck {
        connections: usize,
        lame_duck_ms: u64,
    },
    /// This generation takes nothing new, and finishes what it has.
    Draining {
        /// Whether nobody serves after it.
        stop: bool,
        connections: usize,
        tasks: Vec<String>,
        /// How long it may take.
        deadline_ms: u64,
        /// What the service has counted so far, where a successor goes on counting.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<Box<Account>>,
    },
    /// A second of the drain has passed.
    DrainProgress {
        connections: usize,
        oldest_ms: Option<u64>,
        tasks: Vec<String>,
        /// How many generations before this one drain as well.
        older: usize,
        left_ms: u64,
    },
    /// What is left is cut.
    Aborting {
        why: String,
        connections: usize,
        tasks: Vec<String>,
    },
    /// An older generation has ended.
    OlderEnded { older: u32, older_pid: u32 },
    /// This generation ends: the last thing that it tells.
    Ended {
        /// How many connections it has accepted.
        accepted: u64,
        /// Whether something was cut.
        cut: bool,
        /// What this generation has counted, for those who go on counting.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        totals: Option<Box<Totals>>,
    },
    /// An event of a newer generation.
    #[serde(other, skip_serializing)]
    Unknown,
}

impl Event {
    /// Something that happens now, in this process.
    pub(crate) fn now(generation: u32, what: What) -> Self {
        Self::at(process::uptime(), generation, what)
    }

    /// Whether it happened in this process. A successor that has failed before this one had the same
    /// number.
    #[allow(dead_code, reason = "only integrations ask, and each is a feature")]
    pub(crate) fn is_own(&self) -> bool {
        self.pid == std::process::id()
    }

    /// Something that happened in this process, at a time since boot.
    pub(crate) fn at(time: Duration, generation: u32, what: What) -> Self {
        Self {
            at_us: micros(time),
            generation,
            pid: std::process::id(),
            what,
        }
    }

    /// Whether it is one of the many that a drain tells.
    pub(crate) fn is_progress(&self) -> bool {
        matches!(self.what, What::DrainProgress { .. })
    }
}

/// What is too long for a number of microseconds has not happened.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
