//! A load: planned, running, ended.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::kind::Kind;
use super::report::Report;
use super::request::{Protocol, Request};
use super::worker::{Random, Worker};
use crate::testing::target::Target;
use crate::testing::wait::within;

/// Which clients are to ask what.
#[derive(Clone, Debug)]
#[must_use = "nothing is asked before `start`"]
pub struct Plan {
    target: Target,
    protocol: Protocol,
    clients: Vec<(Kind, usize)>,
    pauses: BTreeMap<Kind, RangeInclusive<Duration>>,
    limit: Duration,
}

impl Plan {
    /// Asks this instead of `GET /`.
    pub fn request(mut self, request: Request) -> Self {
        self.protocol = Protocol::Http(request);
        self
    }

    /// Speaks the line protocol of the `echo` example instead of HTTP.
    pub fn lines(mut self) -> Self {
        self.protocol = Protocol::Lines;
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
                random: Random::new(seed as u64 + 1),
                report: Arc::clone(&report),
                stop: stop.subscribe(),
            };
            workers.spawn(worker.run());
        }
        Load {
            report,
            stop,
            workers,
        }
    }
}

/// A load that goes on until it is stopped or dropped.
#[derive(Debug)]
pub struct Load {
    report: Arc<watch::Sender<Report>>,
    stop: watch::Sender<bool>,
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
            limit: Duration::from_secs(10),
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
