//! When the recorder is told, and what.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::catalogue::*;
use super::watched::Watched;
use crate::lifecycle::counts::{Counts, LASTING, Tally};
use crate::lifecycle::ledger::Totals;
use crate::lifecycle::phase::Phase;
use crate::run::Shared;
use crate::sys::log;

/// Tells the recorder how this generation stands.
#[derive(Debug)]
pub(super) struct Publisher {
    shared: Arc<Shared>,
    watched: Mutex<Watched>,
}

impl Publisher {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let watched = Mutex::new(Watched::new(shared.generation));
        Self { shared, watched }
    }

    /// Publishes whenever something has happened; for connections at once, and then once in a
    /// [`PACE`] at most. While nothing happens it waits without a timer.
    pub(super) async fn run(self: Arc<Self>) {
        let exited = self.shared.predecessor.as_ref();
        let exited = exited.map(|predecessor| predecessor.exited.clone());
        let exited = async {
            match exited {
                Some(exited) => exited.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let mut exited = std::pin::pin!(exited);
        let mut has_exited = false;
        let (before, mut news) = self.shared.record.watch();
        self.hear(before.iter().map(AsRef::as_ref));
        let mut next = Instant::now();
        loop {
            self.publish();
            tokio::select! {
                event = news.recv() => match event {
                    Ok(event) => self.hear([event.as_ref()]),
                    Err(RecvError::Lagged(missed)) => {
                        log::debug!(missed, "events are looked up");
                        let (before, onwards) = self.shared.record.watch();
                        news = onwards;
                        self.hear(before.iter().map(AsRef::as_ref));
                    }
                    Err(RecvError::Closed) => return,
                },
                () = &mut exited, if !has_exited => has_exited = true,
                () = self.traffic(next) => next = Instant::now() + PACE,
            }
        }
    }

    /// Tells how things stand.
    pub(super) fn publish(&self) {
        // Whoever records is the program's, and must not end this with a panic.
        log::quietly(|| self.record());
    }

    /// Waits for traffic, not before the given moment.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped: all that is published is what there is then.
    async fn traffic(&self, not_before: Instant) {
        // First the traffic, so that nothing is waited for while there is none.
        self.shared.tracker.changed().await;
        tokio::time::sleep_until(not_before).await;
    }

    fn hear<'a>(&self, events: impl IntoIterator<Item = &'a crate::lifecycle::event::Event>) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        events.into_iter().for_each(|event| watched.hear(event));
        drop(watched);
        log::quietly(describe);
    }

    fn record(&self) {
        let shared = &self.shared;
        gauge!(GENERATION).set(shared.generation);
        let phase = shared.phase();
        for each in PHASES {
            gauge!(PHASE, "phase" => each.to_string()).set(u8::from(each == phase));
        }
        let (tallies, forgotten) = shared.tracker.watched_tallies();
        self.record_open(&tallies);
        self.record_watched();
        let predecessor = shared.predecessor.as_ref();
        let has_gone = predecessor.is_some_and(|predecessor| predecessor.exited.is_cancelled());
        let totals = shared.record.totals((tallies, forgotten), has_gone);
        // The successor goes on counting from what it was told at the beginning of the drain. Who
        // still asks here must not see more than it will see there; so this is looked at last.
        let is_succeeded =
            shared.phase() >= Phase::Draining && !shared.tokens.stopping.is_cancelled();
        if let Some(totals) = totals.filter(|_| !is_succeeded) {
            record_totals(&totals);
        }
    }

    fn record_open(&self, tallies: &[Tally]) {
        let (mut others, mut has_others) = (0, false);
        for tally in tallies {
            match tally.lasting {
                true => gauge!(OPEN, "endpoint" => tally.endpoint.to_string())
                    .set(tally.counts.open as f64),
                false => {
                    has_others = true;
                    others += tally.counts.open;
                }
            }
        }
        if has_others || tallies.len() >= LASTING {
            gauge!(OPEN, "endpoint" => OTHERS).set(others as f64);
        }
    }

    fn record_watched(&self) {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        for (&result, took) in &watched.handovers {
            gauge!(HANDOVER_DURATION, "result" => result).set(took.as_secs_f64());
        }
        for (&stage, took) in &watched.stages {
            gauge!(STAGE_DURATION, "stage" => stage).set(took.as_secs_f64());
        }
        if let Some(drain) = watched.drain {
            gauge!(DRAIN_DURATION).set(drain.as_secs_f64());
        }
        gauge!(DRAINING_GENERATIONS).set(watched.draining_generations() as f64);
        gauge!(DRAINING_CONNECTIONS).set(watched.draining_connections() as f64);
    }
}

fn record_totals(totals: &Totals) {
    let handovers = totals.handovers;
    for (result, count) in [
        ("committed", handovers.committed),
        ("failed", handovers.failed),
        ("called_off", handovers.called_off),
        ("refused", handovers.refused),
    ] {
        counter!(HANDOVERS, "result" => result).absolute(count);
    }
    for (endpoint, counts) in &totals.endpoints {
        record_counts(endpoint, counts);
    }
    if totals.others != Counts::default() {
        record_counts(OTHERS, &totals.others);
    }
}

fn record_counts(endpoint: &str, counts: &Counts) {
    let count = |name: &'static str, count| {
        counter!(name, "endpoint" => endpoint.to_owned()).absolute(count);
    };
    count(ACCEPTED, counts.accepted);
    count(DRAINED, counts.drained);
    count(ABORTED, counts.aborted);
    for (direction, count) in [("sent", counts.sent), ("received", counts.received)] {
        counter!(MIGRATED, "endpoint" => endpoint.to_owned(), "direction" => direction)
            .absolute(count);
    }
    for (kind, count) in [
        ("connection", counts.vanished),
        ("resources", counts.lacking),
        ("listener", counts.broken),
    ] {
        counter!(ACCEPT_ERRORS, "endpoint" => endpoint.to_owned(), "kind" => kind).absolute(count);
    }
}

/// How often what is counted under traffic is told.
const PACE: Duration = Duration::from_secs(1);
/// Stands for the endpoints that are not told apart.
const OTHERS: &str = "others";
const PHASES: [Phase; 5] = [
    Phase::Initialising,
    Phase::Ready,
    Phase::Serving,
    Phase::Draining,
    Phase::Aborting,
];
