//! What is to be verified, and how.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::kill::Kill;
use super::outcome::{Handover, Outcome};
use super::place::Place;
use super::session::Session;
use super::survey::Ground;
use super::trigger::Trigger;
use crate::testing::load::Counts;
use crate::testing::process::Program;
use crate::testing::target::Target;

/// Proves what a service loses when it is restarted under load.
///
/// # Examples
///
/// ```no_run
/// use handover::testing::{Program, verify::Verify};
///
/// # async fn test() -> Result<(), Box<dyn std::error::Error>> {
/// let outcome = Verify::new(Program::new("target/debug/my-server")).handovers(10).run().await?;
/// outcome.assert_nothing_lost();
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is verified before `run`"]
pub struct Verify {
    pub(super) program: Program,
    pub(super) places: Vec<Place>,
    pub(super) usages: BTreeSet<Usage>,
    pub(super) says: Option<String>,
    pub(super) clients: usize,
    pub(super) rate: Option<u32>,
    pub(super) handovers: usize,
    pub(super) duration: Option<Duration>,
    pub(super) pause: RangeInclusive<Duration>,
    pub(super) trigger: Trigger,
    pub(super) control: Option<Target>,
    pub(super) kill: Option<Kill>,
    pub(super) seed: u64,
    pub(super) timeout: Duration,
    pub(super) observer: Box<dyn FnMut(Event<'_>) + Send>,
}

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Usage {
    /// HTTP/1.1, a new connection for each request.
    New,
    /// HTTP/1.1, a connection on which each request follows the answer to the last at once.
    KeepAlive,
    /// HTTP/1.1, a connection with a pause of 0 to 200 ms before each request.
    ThinkTime,
    /// HTTP/1.1, a connection with a pause of 0.5 to 1.5 s before each request.
    Idle,
    /// HTTP/1.1, connects, says nothing for up to 1 s, and asks once.
    Silent,
    /// HTTP/2, several requests at once on each connection.
    Http2,
    /// WebSockets, on which pings have to come back.
    WebSocket,
    /// Lines over TCP or a Unix socket: new, busy, thinking and silent connections.
    Raw,
}

impl Usage {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::New,
        Self::KeepAlive,
        Self::ThinkTime,
        Self::Idle,
        Self::Silent,
        Self::Http2,
        Self::WebSocket,
        Self::Raw,
    ];
}

/// Something that happens while a service is verified.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The program was started.
    Started {
        /// Its process.
        pid: u32,
    },
    /// It was found out what is spoken at an endpoint.
    Found(&'a Ground),
    /// It was found out how it is restarted.
    Aimed {
        /// By what: a signal, a command, or `upgrade` on a control socket.
        trigger: &'a str,
    },
    /// Every load has had an answer; the first restart comes next.
    Loaded {
        /// The process that serves.
        pid: u32,
    },
    /// Something has come of a trigger.
    HandedOver(&'a Handover),
    /// Some time has passed, a tenth of a second or so.
    Progress {
        /// The figures so far, of all loads together.
        counts: &'a Counts,
        /// Who serves.
        pid: u32,
        /// How many restarts are over.
        handovers: usize,
    },
    /// The loads have ended; it is waited for the end of what was replaced, and then of the service.
    Stopping,
}

impl Verify {
    /// Verifies a program, which is started by [`run`](Self::run).
    pub fn new(program: Program) -> Self {
        Self {
            program,
            places: Vec::new(),
            usages: Usage::ALL.into(),
            says: None,
            clients: 4,
            rate: None,
            handovers: 10,
            duration: None,
            pause: Duration::from_millis(300)..=Duration::from_millis(900),
            trigger: Trigger::Default,
            control: None,
            kill: None,
            seed: 1,
            timeout: Duration::from_secs(30),
            observer: Box::new(|_| {}),
        }
    }

    /// Loads this place, and only those that are named; without one all on which the service listens.
    pub fn place(mut self, place: Place) -> Self {
        self.places.push(place);
        self
    }

    /// Loads in these ways only, where the service speaks what they take; all ways by default.
    pub fn usages(mut self, usages: impl IntoIterator<Item = Usage>) -> Self {
        self.usages = usages.into_iter().collect();
        self
    }

    /// Says this to a service of lines, which has to answer with a line; by default something that it may return.
    pub fn say(mut self, text: impl Into<String>) -> Self {
        self.says = Some(text.into());
        self
    }

    /// Sets the number of connections of each kind of load, 4 by default.
    pub fn clients(mut self, clients: usize) -> Self {
        self.clients = clients.max(1);
        self
    }

    /// Bounds the requests of each kind of load to so many in a second; not bounded by default.
    pub fn rate(mut self, per_second: u32) -> Self {
        self.rate = Some(per_second);
        self
    }

    /// Sets how often it is restarted, 10 times by default.
    pub fn handovers(mut self, handovers: usize) -> Self {
        self.handovers = handovers;
        self
    }

    /// Triggers nothing any more after this time, however few restarts there were.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = Some(duration);
        self
    }

    /// Sets the time between two restarts, a random one of 0.3 to 0.9 s by default.
    pub fn pause(mut self, pause: RangeInclusive<Duration>) -> Self {
        self.pause = pause;
        self
    }

    /// Sets what restarts it: its control socket by default, or `SIGHUP` where it has none.
    pub fn trigger(mut self, trigger: Trigger) -> Self {
        self.trigger = trigger;
        self
    }

    /// Names what may be its control socket; it is believed if the service listens there. Without a name it is found
    /// by the lock beside it.
    pub fn control(mut self, socket: impl Into<Target>) -> Self {
        self.control = Some(socket.into());
        self
    }

    /// Kills a process in each restart.
    pub fn kill(mut self, kill: Kill) -> Self {
        self.kill = Some(kill);
        self
    }

    /// Sets what all random times come from.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets how long the start, and each restart, may take, 30 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Is told what happens.
    pub fn observe(mut self, observer: impl FnMut(Event<'_>) + Send + 'static) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// Starts the program and the loads, for somebody who wants to take the steps one by one.
    ///
    /// # Errors
    ///
    /// If the program cannot be started, listens nowhere, or speaks nothing that a load could be made of.
    ///
    /// # Cancel safety
    ///
    /// Every process of the service is ended with the future.
    pub async fn start(self) -> Result<Session, Unverified> {
        Session::start(self).await
    }

    /// Does all of it.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start). What the service loses is no error but the outcome.
    ///
    /// # Cancel safety
    ///
    /// Every process of the service is ended with the future.
    pub async fn run(self) -> Result<Outcome, Unverified> {
        let mut session = self.start().await?;
        session.hand_over_all().await;
        session.finish().await
    }
}

impl fmt::Debug for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verify")
            .field("program", &self.program)
            .field("places", &self.places)
            .field("usages", &self.usages)
            .field("clients", &self.clients)
            .field("rate", &self.rate)
            .field("handovers", &self.handovers)
            .field("trigger", &self.trigger)
            .field("kill", &self.kill)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// Why a service could not be verified at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unverified(pub(super) String);

impl std::error::Error for Unverified {}

impl fmt::Display for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
