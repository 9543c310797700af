//! A load: planned, running, ended.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::census::Census;
use super::kind::Kind;
use super::pace::Pace;
use super::report::Report;
use super::request::{Lines, Protocol, Request};
use super::worker::{Random, Worker};
use crate::testing::target::{Ends, Target};
use crate::testing::wait::within;

/// Which clients are to ask what.
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before `start`"]
pub struct Plan {
    target: Target,
    protocol: Protocol,
    clients: Vec<(Kind, usize)>,
    pauses: BTreeMap<Kind, RangeInclusive<Duration>>,
    rate: Option<u32>,
    seed: u64,
    limit: Duration,
}

impl Plan {
    /// Asks this instead of `GET /`.
    pub fn request(self, request: Request) -> Self {
        self.speak(Protocol::Http(request))
    }

    /// Speaks the line protocol of the `echo` example instead of HTTP.
    pub fn lines(self) -> Self {
        self.speak(Protocol::Lines(Lines::named()))
    }

    /// Speaks this instead of HTTP/1.1.
    pub fn speak(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Bounds the requests of each kind to so many in a second, all of its clients together. They come in bursts.
    ///
    /// Without a bound, [`Kind::New`] and [`Kind::KeepAlive`] ask as fast as they are answered.
    pub fn rate(mut self, per_second: u32) -> Self {
        self.rate = Some(per_second);
        self
    }

    /// Sets what the random pauses come from; with the same seed they are the same.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Adds clients of a kind, each with one connection at a time.
    pub fn clients(mut self, kind: Kind, count: usize) -> Self {
        self.clients.push((kind, count));
        self
    }

    /// Sets the pause of a kind; each pause is a random time in this range.
    ///
    /// The defaults are 0 to 200 ms for [`Kind::ThinkTime`], 2 to 4 s for [`Kind::Idle`] and 0 to
    /// 1 s for [`Kind::Silent`]; the other kinds make none.
    pub fn pause(mut self, kind: Kind, pause: RangeInclusive<Duration>) -> Self {
        self.pauses.insert(kind, pause);
        self
    }

    /// Sets the time after which a request without a whole answer has failed, 10 s by default.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Lets the clients go, on the current runtime.
    pub fn start(self) -> Load {
        let kinds = self.clients.iter().map(|(kind, _)| *kind);
        let report = Arc::new(watch::Sender::new(Report::new(kinds)));
        let stop = watch::Sender::new(false);
        let census = Arc::new(Census::default());
        let restarting = Arc::new(AtomicBool::new(false));
        let killed = watch::Sender::new(None);
        let paces: BTreeMap<Kind, Arc<Pace>> = (self.rate.iter())
            .flat_map(|rate| self.clients.iter().map(|(kind, _)| (*kind, *rate)))
            .map(|(kind, rate)| (kind, Arc::new(Pace::new(rate))))
            .collect();
        let mut workers = JoinSet::new();
        let kinds = self
            .clients
            .iter()
            .flat_map(|(kind, count)| std::iter::repeat_n(*kind, *count));
        for (seed, kind) in kinds.enumerate() {
            let worker = Worker {
                kind,
                target: self.target.clone(),
                protocol: self.protocol.clone(),
                pause: self.pauses.get(&kind).cloned(),
                limit: self.limit,
                random: Random::new(self.seed.wrapping_add(seed as u64 + 1)),
                pace: paces.get(&kind).cloned(),
                census: Arc::clone(&census),
                restarting: Arc::clone(&restarting),
                killed: killed.subscribe(),
                report: Arc::clone(&report),
                stop: stop.subscribe(),
            };
            workers.spawn(worker.run());
        }
        Load {
            report,
            stop,
            census,
            restarting,
            killed,
            workers,
        }
    }
}

/// A load that goes on until it is stopped or dropped.
#[derive(Debug)]
pub struct Load {
    report: Arc<watch::Sender<Report>>,
    stop: watch::Sender<bool>,
    census: Arc<Census>,
    restarting: Arc<AtomicBool>,
    killed: watch::Sender<Option<Instant>>,
    workers: JoinSet<()>,
}

impl Load {
    /// Plans a load on `target`: HTTP/1.1, `GET /`, no clients yet.
    pub fn on(target: impl Into<Target>) -> Plan {
        let millis = Duration::from_millis;
        Plan {
            target: target.into(),
            protocol: Protocol::Http(Request::get("/")),
            clients: Vec::new(),
            pauses: BTreeMap::from([
                (Kind::ThinkTime, millis(0)..=millis(200)),
                (Kind::Idle, millis(2000)..=millis(4000)),
                (Kind::Silent, millis(0)..=millis(1000)),
            ]),
            rate: None,
            seed: 0,
            limit: Duration::from_secs(10),
        }
    }

    /// Tells whether a restart goes on from now on: what is answered meanwhile is counted in
    /// [`Counts::during`](super::Counts::during).
    pub fn restarting(&self, restarting: bool) {
        self.restarting.store(restarting, Ordering::Relaxed);
    }

    /// Tells that a process that has connections is killed now. A request that breaks off by it on a connection
    /// that was there before is counted in [`Counts::cut`](super::Counts::cut): no process can save it.
    pub fn killed(&self) {
        self.killed.send_replace(Some(Instant::now()));
    }

    /// Looks at who has the connections; those that have moved since the last time are counted in
    /// [`Counts::migrated`](super::Counts::migrated).
    pub(in crate::testing) fn take_census(&self, holder: impl FnMut(&Ends) -> Option<u32>) {
        let moved = self.census.take(holder);
        if !moved.is_empty() {
            self.report.send_modify(|report| {
                for kind in moved {
                    report.counts(kind).migrated += 1;
                }
            });
        }
    }

    /// What was seen so far.
    pub fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    /// Waits until what was seen meets a condition, and returns it.
    ///
    /// # Panics
    ///
    /// After [`LIMIT`](crate::testing::LIMIT), with `what` and the report in the message.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn wait_for(&self, what: &str, condition: impl FnMut(&Report) -> bool) -> Report {
        let mut report = self.report.subscribe();
        let seen = within(what, report.wait_for(condition)).await;
        seen.expect("this load holds the sender").clone()
    }

    /// Waits until every kind has had `count` more answers.
    ///
    /// # Panics
    ///
    /// After [`LIMIT`](crate::testing::LIMIT).
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn progress(&self, count: u64) -> Report {
        let before = self.report();
        self.wait_for("answers of every kind", |report| {
            report
                .kinds
                .iter()
                .all(|(kind, counts)| counts.answered >= before.kind(*kind).answered + count)
        })
        .await
    }

    /// Lets every client finish the request that it has begun, and returns what was seen in all.
    ///
    /// # Cancel safety
    ///
    /// A load whose stop is dropped is dropped: requests in progress are abandoned.
    pub async fn stop(mut self) -> Report {
        self.stop.send_replace(true);
        while let Some(worker) = self.workers.join_next().await {
            worker.expect("a client has nothing to panic on");
        }
        self.report()
    }
}
