//! What a load has seen.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::counts::Counts;
use super::fault::{Failure, Fault};
use super::kind::Kind;
use crate::testing::identity::Identity;

/// What a load has seen so far, or in all.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// When it began.
    pub started: Instant,
    /// The figures by kind of client.
    pub kinds: BTreeMap<Kind, Counts>,
    /// Who has answered, in order of the first answer.
    pub seen: Vec<Seen>,
    /// The first failures, at most [`FAILURES_KEPT`](Self::FAILURES_KEPT).
    pub failures: Vec<Failure>,
}

impl Report {
    /// How many failures are kept with their details.
    pub const FAILURES_KEPT: usize = 50;

    pub(super) fn new(kinds: impl Iterator<Item = Kind>) -> Self {
        Self {
            started: Instant::now(),
            kinds: kinds.map(|kind| (kind, Counts::default())).collect(),
            seen: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// The figures of all kinds together.
    pub fn all(&self) -> Counts {
        let mut all = Counts::default();
        for counts in self.kinds.values() {
            all.add(counts);
        }
        all
    }

    /// The figures of one kind.
    pub fn kind(&self, kind: Kind) -> Counts {
        self.kinds.get(&kind).cloned().unwrap_or_default()
    }

    /// Requests that failed.
    pub fn failed(&self) -> u64 {
        self.kinds.values().map(Counts::failed).sum()
    }

    /// Requests that were answered.
    pub fn answered(&self) -> u64 {
        self.kinds.values().map(|counts| counts.answered).sum()
    }

    /// What was seen of a generation.
    pub fn generation(&self, generation: u32) -> Option<&Seen> {
        self.seen
            .iter()
            .find(|seen| seen.identity.generation == generation)
    }

    /// The highest generation that has answered.
    pub fn newest(&self) -> Option<Identity> {
        self.seen.iter().map(|seen| seen.identity).max()
    }

    /// The time from `trigger` to the first answer of generation `generation`.
    pub fn switch(&self, trigger: Instant, generation: u32) -> Option<Duration> {
        Some(
            self.generation(generation)?
                .first
                .saturating_duration_since(trigger),
        )
    }

    /// Adds what another load has seen.
    pub fn merge(&mut self, other: Self) {
        self.started = self.started.min(other.started);
        for (kind, counts) in &other.kinds {
            self.kinds.entry(*kind).or_default().add(counts);
        }
        for seen in other.seen {
            match self
                .seen
                .iter_mut()
                .find(|known| known.identity == seen.identity)
            {
                Some(known) => {
                    known.first = known.first.min(seen.first);
                    known.last = known.last.max(seen.last);
                    known.answers += seen.answers;
                }
                None => self.seen.push(seen),
            }
        }
        self.seen.sort_by_key(|seen| seen.first);
        self.failures.extend(other.failures);
        self.failures.truncate(Self::FAILURES_KEPT);
    }

    /// Checks that requests of every kind were made and none failed.
    ///
    /// # Panics
    ///
    /// With the whole report, if it is otherwise.
    pub fn assert_nothing_lost(&self) {
        assert!(self.failed() == 0, "requests were lost:\n{self}");
        for (kind, counts) in &self.kinds {
            assert!(
                counts.answered > 0,
                "no request of kind `{kind}` was made:\n{self}"
            );
        }
    }

    pub(super) fn counts(&mut self, kind: Kind) -> &mut Counts {
        self.kinds.entry(kind).or_default()
    }

    pub(super) fn answer(
        &mut self,
        kind: Kind,
        identity: Option<Identity>,
        took: Duration,
        restarting: bool,
    ) {
        let now = Instant::now();
        self.counts(kind).answer(now, took, restarting);
        let Some(identity) = identity else { return };
        match self
            .seen
            .iter_mut()
            .rev()
            .find(|seen| seen.identity == identity)
        {
            Some(seen) => {
                seen.last = now;
                seen.answers += 1;
            }
            None => self.seen.push(Seen {
                identity,
                first: now,
                last: now,
                answers: 1,
            }),
        }
    }

    pub(super) fn failure(&mut self, kind: Kind, last: Option<Identity>, fault: Fault) {
        *self.counts(kind).failed.entry(fault.cause).or_default() += 1;
        if self.failures.len() < Self::FAILURES_KEPT {
            let detail = match fault.sent {
                0 => fault.detail,
                sent => format!("{}, and {sent} bytes were sent", fault.detail),
            };
            let at = Instant::now();
            self.failures.push(Failure {
                kind,
                cause: fault.cause,
                detail,
                at,
                last,
            });
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<10} {:>11} {:>9} {:>7} {:>9} {:>6} {:>10} {:>10}",
            "kind", "connections", "requests", "failed", "announced", "idle", "longest", "gap"
        )?;
        for (kind, counts) in &self.kinds {
            writeln!(
                f,
                "{kind:<10} {:>11} {:>9} {:>7} {:>9} {:>6} {:>10} {:>10}",
                counts.connections,
                counts.requests(),
                counts.failed(),
                counts.closed_announced,
                counts.closed_idle,
                format!("{:.1?}", counts.longest),
                format!("{:.1?}", counts.gap),
            )?;
        }
        for seen in &self.seen {
            writeln!(
                f,
                "{}: {} answers, from {:.3?} to {:.3?}",
                seen.identity,
                seen.answers,
                seen.first.saturating_duration_since(self.started),
                seen.last.saturating_duration_since(self.started),
            )?;
        }
        for failure in &self.failures {
            let at = failure.at.saturating_duration_since(self.started);
            writeln!(f, "failed at {at:.3?}: {failure}")?;
        }
        Ok(())
    }
}

/// A generation that has answered.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Seen {
    /// Who.
    pub identity: Identity,
    /// When its first answer came.
    pub first: Instant,
    /// When its last answer came.
    pub last: Instant,
    /// How many there were.
    pub answers: u64,
}
