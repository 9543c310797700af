//! One client.

use std::future::{pending, ready};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{self, Instant};

use super::census::{Census, Entered};
use super::fault::Fault;
use super::kind::Kind;
use super::pace::Pace;
use super::report::Report;
use super::request::Protocol;
use super::wire::Wire;
use crate::testing::identity::Identity;
use crate::testing::target::Target;

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) kind: Kind,
    pub(super) target: Target,
    pub(super) protocol: Protocol,
    pub(super) pause: Option<RangeInclusive<Duration>>,
    pub(super) limit: Duration,
    pub(super) random: Random,
    pub(super) pace: Option<Arc<Pace>>,
    pub(super) census: Arc<Census>,
    pub(super) restarting: Arc<AtomicBool>,
    pub(super) killed: watch::Receiver<Option<Instant>>,
    pub(super) report: Arc<watch::Sender<Report>>,
    pub(super) stop: watch::Receiver<bool>,
}

impl Worker {
    /// Asks until it is told to stop; a request that has begun is carried to its end.
    pub(super) async fn run(mut self) {
        let mut kept = None;
        while !*self.stop.borrow() {
            kept = match self.step(kept.take()).await {
                Ok(connection) => connection,
                Err((fault, last)) => {
                    self.fail(fault, last);
                    // A service that is down is not asked thousands of times a second.
                    self.until_stop(time::sleep(RETRY)).await;
                    None
                }
            };
        }
    }

    /// Takes one turn: makes a connection if there is none, waits, asks.
    async fn step(
        &mut self,
        kept: Option<Connection>,
    ) -> Result<Option<Connection>, (Fault, Option<Last>)> {
        let pace = self.pace.as_ref();
        let mut wait = pace.and_then(|pace| pace.wait(self.protocol.streams()));
        if kept.is_none() {
            // One that has no connection waits before it makes one: for whoever is new, that is the request.
            if let Some(wait) = wait.take() {
                self.until_stop(time::sleep(wait)).await;
                if *self.stop.borrow() {
                    return Ok(None);
                }
            }
        }
        let mut started = Instant::now();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect().await.map_err(|fault| (fault, None))?,
        };
        let pause = self.pause.clone().map(|range| self.random.within(range));
        let pause = pause.max(wait);
        let disturbance = tokio::select! {
            biased;
            fault = connection.wire.disturbed() => Disturbance::Of(fault),
            () = stopped(&mut self.stop) => Disturbance::Stop,
            () = sleep(pause) => Disturbance::None,
        };
        match disturbance {
            Disturbance::None => {}
            Disturbance::Stop => return Ok(None),
            Disturbance::Of(None) => {
                self.count(|counts| counts.closed_announced += 1);
                return Ok(None);
            }
            Disturbance::Of(Some(fault)) if fault.is_idle_close() => {
                self.count(|counts| counts.closed_idle += 1);
                return Ok(None);
            }
            Disturbance::Of(Some(fault)) => return Err((fault, Some(connection.last))),
        }
        if pause.is_some() {
            started = Instant::now();
        }
        let last = self.kind.asks_once();
        let restarting = self.restarting.load(Ordering::Relaxed);
        let turn = match connection.wire.ask(last, self.limit).await {
            Ok(turn) => turn,
            Err(fault) if fault.is_idle_close() => {
                self.count(|counts| counts.closed_idle += 1);
                return Ok(None);
            }
            Err(fault) => return Err((fault, Some(connection.last))),
        };
        let restarting = restarting || self.restarting.load(Ordering::Relaxed);
        let identity = turn.answer.and_then(|answer| answer.identity);
        connection.last.answer = identity.or(connection.last.answer);
        self.report.send_modify(|report| {
            for _ in 0..turn.answered {
                report.answer(self.kind, identity, started.elapsed(), restarting);
            }
            let counts = report.counts(self.kind);
            counts.refused += turn.refused;
            if turn.closes && !last {
                counts.closed_announced += 1;
            }
        });
        let broken = !turn.faults.is_empty();
        for fault in turn.faults {
            self.fail(fault, Some(connection.last));
        }
        Ok((!last && !turn.closes && !broken).then_some(connection))
    }

    /// Counts a request that has failed.
    fn fail(&self, fault: Fault, last: Option<Last>) {
        let killed = *self.killed.borrow();
        let now = Instant::now();
        // The kernel ends the connections of a process together with it.
        let cut = killed.zip(last).is_some_and(|(killed, last)| {
            fault.is_broken_off() && last.made <= killed && now.duration_since(killed) < AFTERMATH
        });
        self.report.send_modify(|report| {
            if cut {
                report.counts(self.kind).cut += 1;
            } else {
                report.failure(self.kind, last.and_then(|last| last.answer), fault);
            }
        });
    }

    async fn connect(&mut self) -> Result<Connection, Fault> {
        let started = Instant::now();
        let connect = Wire::connect(&self.target, &self.protocol, self.limit);
        let wire = match time::timeout(self.limit, connect).await {
            Ok(wire) => wire?,
            Err(_) => {
                let detail = format!("no connection in {:?}", self.limit);
                return Err(Fault::new(super::Cause::Refused, detail));
            }
        };
        let greeting = wire.greeting();
        self.report.send_modify(|report| {
            report.counts(self.kind).connections += 1;
            if greeting.is_some() {
                let restarting = self.restarting.load(Ordering::Relaxed);
                report.answer(self.kind, greeting, started.elapsed(), restarting);
            }
        });
        // Whoever asks at once and leaves is gone before anybody could look.
        let ends = wire.ends().filter(|_| self.kind != Kind::New).cloned();
        let _entered = ends.map(|ends| self.census.enter(self.kind, ends));
        Ok(Connection {
            wire,
            last: Last {
                made: started,
                answer: greeting,
            },
            _entered,
        })
    }

    fn count(&self, change: impl FnOnce(&mut super::Counts)) {
        self.report
            .send_modify(|report| change(report.counts(self.kind)));
    }

    async fn until_stop(&mut self, future: impl Future<Output = ()>) {
        tokio::select! {
            () = future => {}
            () = stopped(&mut self.stop) => {}
        }
    }
}

#[derive(Debug)]
struct Connection {
    wire: Wire,
    last: Last,
    _entered: Option<Entered>,
}

/// What is known of a connection when something fails on it.
#[derive(Clone, Copy, Debug)]
struct Last {
    made: Instant,
    /// Who gave the last answer on it.
    answer: Option<Identity>,
}

enum Disturbance {
    None,
    Stop,
    Of(Option<Fault>),
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => time::sleep(pause).await,
        None => ready(()).await,
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        // Whoever could say stop has gone, and aborts this task.
        pending::<()>().await;
    }
}

/// Pauses that are the same in every run (xorshift64, Marsaglia 2003).
#[derive(Debug)]
pub(in crate::testing) struct Random(u64);

impl Random {
    pub(in crate::testing) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(in crate::testing) fn within(&mut self, range: RangeInclusive<Duration>) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let (start, width) = (*range.start(), range.end().saturating_sub(*range.start()));
        start + width.mul_f64((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// How long after a death its consequences are met at the latest.
const AFTERMATH: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(10);
