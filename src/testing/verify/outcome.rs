//! What was seen of a service that was verified.

use std::time::Duration;

use super::kill::Victim;
use super::survey::Ground;
use crate::testing::load::{Counts, Failure, Kind};
use crate::testing::process::Weight;

/// What was seen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Where the service listened, and what it spoke.
    pub grounds: Vec<Ground>,
    /// What came of the requests, by kind of load.
    pub rows: Vec<Row>,
    /// The first failures of each load, in order of time, each with the time since the loads began.
    pub failures: Vec<(Duration, Failure)>,
    /// What restarted it: a signal, a command, or `upgrade` on a control socket.
    pub trigger: String,
    /// What came of each trigger.
    pub handovers: Vec<Handover>,
    /// What the service took up before the first request, and after the last one.
    pub before: Weight,
    /// The same afterwards.
    pub after: Weight,
    /// Processes from before the last restart that were still there in the end.
    pub left_over: Vec<u32>,
    /// Why it ended before its time, if it did.
    pub ended_early: Option<String>,
    /// How long the loads went on.
    pub elapsed: Duration,
}

/// What came of the requests of one kind of load.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Row {
    /// The endpoint.
    pub endpoint: String,
    /// What was spoken: `HTTP/1.1`, `HTTP/2`, `WebSocket` or `lines`.
    pub protocol: &'static str,
    /// How the connections were used.
    pub kind: Kind,
    /// The figures.
    pub counts: Counts,
}

/// What came of one trigger.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Handover {
    /// 1 for the first.
    pub number: usize,
    /// When it was triggered, since the loads began.
    pub at: Duration,
    /// What came of it.
    pub ending: Ending,
}

/// What came of a trigger.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Ending {
    /// A new process serves.
    Switched {
        /// Its number.
        pid: u32,
        /// From the trigger to its first answer.
        took: Duration,
    },
    /// A process was killed, as was asked for, and another one serves.
    Survived {
        /// What was killed.
        victim: Victim,
        /// When, after the trigger.
        killed: Duration,
        /// Who serves.
        pid: u32,
        /// From the kill to its next answer.
        took: Duration,
    },
    /// A successor was to fail, has failed, and the process before it serves on.
    Rejected {
        /// From the trigger until that was seen.
        took: Duration,
    },
    /// No new process serves.
    Failed {
        /// A sentence on what was seen instead.
        why: String,
    },
}

impl Outcome {
    /// The figures of all loads together.
    pub fn all(&self) -> Counts {
        let mut all = Counts::default();
        for row in &self.rows {
            all.add(&row.counts);
        }
        all
    }

    /// Requests that failed.
    pub fn failed(&self) -> u64 {
        self.rows.iter().map(|row| row.counts.failed()).sum()
    }

    /// How many restarts came out as they should.
    pub fn succeeded(&self) -> usize {
        let failed = |handover: &&Handover| matches!(handover.ending, Ending::Failed { .. });
        self.handovers.len() - self.handovers.iter().filter(failed).count()
    }

    /// The times from the trigger to the first answer of the new process, in order.
    pub fn switches(&self) -> Vec<Duration> {
        let mut switches: Vec<Duration> = (self.handovers.iter())
            .filter_map(|handover| match handover.ending {
                Ending::Switched { took, .. } => Some(took),
                _ => None,
            })
            .collect();
        switches.sort();
        switches
    }

    /// Whether at most so many requests failed, every restart came out as it should, and the end was regular.
    pub fn is_clean(&self, allowed: u64) -> bool {
        self.failed() <= allowed
            && self.ended_early.is_none()
            && !self.handovers.is_empty()
            && self.succeeded() == self.handovers.len()
            && self.rows.iter().all(|row| row.counts.answered > 0)
    }

    /// Checks that nothing was lost and every restart came out as it should.
    ///
    /// # Panics
    ///
    /// With all that was seen, if it is otherwise.
    pub fn assert_nothing_lost(&self) {
        assert!(self.is_clean(0), "{self:#?}");
    }
}
