//! What came of the requests of one kind.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::fault::Cause;
use super::times::Times;

/// The figures of one kind of client.
///
/// Of the requests that have ended, `requests` is the number of those that were answered and those
/// that failed.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Connections made.
    pub connections: u64,
    /// Requests that were answered, wholly and rightly.
    pub answered: u64,
    /// Requests that failed, by cause.
    pub failed: BTreeMap<Cause, u64>,
    /// Requests that the service refused without having looked at them, so that they may be made anew
    /// (HTTP/2: a refused stream, or one behind the last that a GOAWAY names).
    pub refused: u64,
    /// Requests that broke off because the process that had the connection was killed on purpose.
    pub cut: u64,
    /// Connections that moved to another process and stayed open.
    pub migrated: u64,
    /// Connections that the service closed after an answer that announced it.
    pub closed_announced: u64,
    /// Connections that the service closed with no byte of a request on them.
    pub closed_idle: u64,
    /// The longest time from the start of a request (of its connection, where it needs a new one)
    /// to the end of its answer.
    pub longest: Duration,
    /// The sum of these times.
    pub total: Duration,
    /// The longest time between two answers, to whatever clients.
    pub gap: Duration,
    /// When the last answer came.
    pub last: Option<Instant>,
    /// Times while a restart went on.
    pub during: Times,
    /// Times while none went on.
    pub outside: Times,
}

impl Counts {
    /// Requests, answered or failed.
    pub fn requests(&self) -> u64 {
        self.answered + self.failed()
    }

    /// Requests that failed, for whatever cause.
    pub fn failed(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Connections that the service closed, announced or idle.
    pub fn closed(&self) -> u64 {
        self.closed_announced + self.closed_idle
    }

    pub(super) fn answer(&mut self, at: Instant, took: Duration, restarting: bool) {
        self.answered += 1;
        self.longest = self.longest.max(took);
        self.total += took;
        let last = self.last.replace(at).unwrap_or(at);
        let gap = at.saturating_duration_since(last);
        self.gap = self.gap.max(gap);
        let times = if restarting {
            &mut self.during
        } else {
            &mut self.outside
        };
        times.answer(took, gap);
    }

    /// Adds what another kind has seen.
    pub fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.answered += other.answered;
        for (cause, count) in &other.failed {
            *self.failed.entry(*cause).or_default() += count;
        }
        self.refused += other.refused;
        self.cut += other.cut;
        self.migrated += other.migrated;
        self.during.add(&other.during);
        self.outside.add(&other.outside);
        self.closed_announced += other.closed_announced;
        self.closed_idle += other.closed_idle;
        self.longest = self.longest.max(other.longest);
        self.total += other.total;
        self.gap = self.gap.max(other.gap);
        self.last = self.last.max(other.last);
    }
}
