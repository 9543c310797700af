//! One client.

use std::future::{pending, ready};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{self, Instant};

use super::fault::Fault;
use super::kind::Kind;
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
                    self.report
                        .send_modify(|report| report.failure(self.kind, last, fault));
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
    ) -> Result<Option<Connection>, (Fault, Option<Identity>)> {
        let mut started = Instant::now();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect().await.map_err(|fault| (fault, None))?,
        };
        let pause = self.pause.clone().map(|range| self.random.within(range));
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
            Disturbance::Of(Some(fault)) => return Err((fault, connection.last)),
        }
        if pause.is_some() {
            started = Instant::now();
        }
        let last = self.kind.asks_once();
        let answer = match connection.wire.ask(last, self.limit).await {
            Ok(answer) => answer,
            Err(fault) if fault.is_idle_close() => {
                self.count(|counts| counts.closed_idle += 1);
                return Ok(None);
            }
            Err(fault) => return Err((fault, connection.last)),
        };
        connection.last = answer.identity.or(connection.last);
        self.report.send_modify(|report| {
            report.answer(self.kind, answer.identity, started.elapsed());
            if answer.closes && !last {
                report.counts(self.kind).closed_announced += 1;
            }
        });
        Ok((!last && !answer.closes).then_some(connection))
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
                report.answer(self.kind, greeting, started.elapsed());
            }
        });
        Ok(Connection {
            wire,
            last: greeting,
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
    /// Who gave the last answer on it.
    last: Option<Identity>,
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
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn within(&mut self, range: RangeInclusive<Duration>) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let (start, width) = (*range.start(), range.end().saturating_sub(*range.start()));
        start + width.mul_f64((self.0 >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

const RETRY: Duration = Duration::from_millis(10);
