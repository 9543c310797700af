//! The one that speaks: what is said to systemd, in which order, and by whom.

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::environment::Environment;
use super::keeping::Keeping;
use super::notify::Address;
use super::status::Status;
use super::unit::Triggers;
use crate::error::Error;
use crate::lifecycle::event::{Event, What};
use crate::lifecycle::own;
use crate::lifecycle::phase::Phase;
use crate::run::{Integration, Shared};
use crate::sys::log;

/// The integration with systemd.
#[derive(Debug)]
pub(super) struct Systemd {
    environment: Environment,
    orders: Mutex<Option<mpsc::UnboundedSender<Order>>>,
}

/// What the lifecycle task waits for.
#[derive(Debug)]
enum Order {
    /// Another process is the main one from here on.
    PassOn {
        successor: u32,
        done: oneshot::Sender<()>,
    },
    /// This generation ends.
    Finish { done: oneshot::Sender<()> },
}

impl Systemd {
    pub(super) fn new(environment: Environment) -> Self {
        Self {
            environment,
            orders: Mutex::new(None),
        }
    }

    /// Gives an order, and waits until it is carried out.
    fn order(&self, order: impl FnOnce(oneshot::Sender<()>) -> Order) -> BoxFuture<'_, ()> {
        let (done, carried_out) = oneshot::channel();
        if let Some(orders) = &*self.orders.lock().unwrap_or_else(PoisonError::into_inner) {
            // Whoever no longer takes orders drops them, and with them the other end.
            orders.send(order(done)).ok();
        }
        // Without an answer there is nobody left to wait for.
        carried_out.map(|_| ()).boxed()
    }
}

impl Integration for Systemd {
    fn adopts(&self) -> bool {
        matches!(self.environment.notify_socket(), Ok(Some(_)))
    }

    fn start(self: Arc<Self>, shared: Arc<Shared>) -> BoxFuture<'static, Result<(), Error>> {
        let is_successor = shared.predecessor.is_some();
        let socket = self.environment.notify_socket();
        if !is_successor {
            let triggers = Triggers {
                handover: &shared.options.handover_signals,
                stop: &shared.options.stop_signals,
            };
            let warnings = self.environment.warnings(std::process::id(), triggers);
            for warning in socket.clone().err().into_iter().chain(warnings) {
                shared.early.tell(move || log::warn!("{warning}"));
            }
        }
        if let Ok(Some(address)) = socket {
            let (orders, queue) = mpsc::unbounded_channel();
            *self.orders.lock().unwrap_or_else(PoisonError::into_inner) = Some(orders);
            let watchdog = self.environment.watchdog(is_successor);
            let room = self.environment.room();
            let speaker = Speaker::new(address, watchdog, room, Arc::clone(&shared));
            own::spawn(speaker.run(queue));
        }
        futures::future::ready(Ok(())).boxed()
    }

    fn pass_on(&self, successor: u32) -> BoxFuture<'_, ()> {
        self.order(move |done| Order::PassOn { successor, done })
    }

    fn finish(&self) -> BoxFuture<'_, ()> {
        self.order(|done| Order::Finish { done })
    }
}

/// The task that speaks. It runs among the others of the service, so that a runtime that is stuck
/// gives no sign of life.
struct Speaker {
    address: Address,
    watchdog: Option<Duration>,
    shared: Arc<Shared>,
    status: Status,
    /// The text that systemd has.
    told: String,
    /// Whether systemd hears this process: it is the main one.
    is_main: bool,
    /// Whether systemd waits for the end of a reload.
    reloading: bool,
    stopping: bool,
    /// Whether a successor serves: the last word of this process is who that is.
    leaving: bool,
    /// Until when a start may be extended.
    start_until: Instant,
    failed: bool,
    keeping: Keeping,
}

impl Speaker {
    fn new(address: Address, watchdog: Option<Duration>, room: usize, shared: Arc<Shared>) -> Self {
        let ready_timeout = shared.options.ready_timeout.min(LONGEST_START);
        Self {
            address,
            watchdog,
            status: Status::new(shared.generation),
            told: String::new(),
            is_main: shared.predecessor.is_none(),
            reloading: false,
            stopping: false,
            leaving: false,
            start_until: Instant::now() + ready_timeout,
            failed: false,
            keeping: Keeping::new(room, &shared),
            shared,
        }
    }

    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let (before, mut events) = self.shared.record.watch();
        for event in before {
            self.take(&event).await;
        }
        if !self.is_main && !self.wait_for_turn(&mut events, &mut orders).await {
            return;
        }
        let mut sign_of_life = every(self.watchdog.map(|interval| interval / 2));
        let mut extending = every(Some(self.extension_interval()));
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(order) => {
                        self.catch_up(&mut events).await;
                        if self.obey(order).await {
                            return;
                        }
                    }
                    None => return,
                },
                event = events.recv() => match event {
                    Ok(event) => self.take(&event).await,
                    Err(RecvError::Lagged(missed)) => log::debug!(missed, "events were missed"),
                    Err(RecvError::Closed) => return,
                },
                () = self.shared.store.changed() => self.keep().await,
                () = tick(&mut sign_of_life) => {
                    if !self.status.is_starting() {
                        self.say("WATCHDOG=1").await;
                    }
                }
                () = tick(&mut extending) => {
                    let start = self.status.is_starting() && Instant::now() < self.start_until;
                    if start || self.reloading || self.stopping {
                        self.say(&self.extension()).await;
                    }
                }
            }
        }
    }

    /// Waits until this process is the main one; `false` if it ends before that.
    async fn wait_for_turn(
        &mut self,
        events: &mut broadcast::Receiver<Arc<Event>>,
        orders: &mut mpsc::UnboundedReceiver<Order>,
    ) -> bool {
        let Some(predecessor) = self.shared.predecessor.clone() else {
            return true;
        };
        // Whoever is not heard yet can pass nothing on.
        let mut kept = None;
        let mut gone = pin!(async move {
            tokio::select! {
                () = predecessor.released.cancelled() => {}
                () = predecessor.exited.cancelled() => {}
            }
        });
        loop {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Ok(event) => {
                        self.take(&event).await;
                        if self.is_announced(&event) {
                            break;
                        }
                    }
                    Err(RecvError::Lagged(missed)) => log::debug!(missed, "events were missed"),
                    Err(RecvError::Closed) => return false,
                },
                // One that cannot tell of it says that it has let go, or ends.
                () = &mut gone => break,
                order = orders.recv() => match order {
                    Some(order @ Order::PassOn { .. }) => kept = Some(order),
                    Some(Order::Finish { .. }) | None => return false,
                },
            }
        }
        self.catch_up(events).await;
        self.is_main = true;
        let reloading = self.reloading.then(reloading);
        let stopping = self.stopping.then(|| "STOPPING=1".to_owned());
        let fields: Vec<_> = [reloading, stopping].into_iter().flatten().collect();
        self.tell(&fields.join("\n")).await;
        self.keep().await;
        match kept {
            Some(order) => !self.obey(order).await,
            None => true,
        }
    }

    fn is_announced(&self, event: &Event) -> bool {
        let own = std::process::id();
        event.generation < self.shared.generation
            && matches!(event.what, What::Announced { successor } if successor == own)
    }

    /// Takes what has happened before an order was given.
    async fn catch_up(&mut self, events: &mut broadcast::Receiver<Arc<Event>>) {
        loop {
            match events.try_recv() {
                Ok(event) => self.take(&event).await,
                Err(TryRecvError::Lagged(missed)) => log::debug!(missed, "events were missed"),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    async fn take(&mut self, event: &Event) {
        self.status.take(event);
        if event.generation != self.shared.generation || !event.is_own() {
            return self.tell("").await;
        }
        match &event.what {
            What::Serving { .. } => {
                self.tell("READY=1").await;
                self.keep().await;
            }
            What::HandoverBegins {} => {
                self.reloading = true;
                let extension = self.extension();
                self.tell(&format!("{}\n{extension}", reloading_since(event.at_us)))
                    .await;
            }
            What::HandoverFailed { .. } | What::HandoverCalledOff { .. } => {
                self.end_reload().await;
            }
            What::HandoverRefused { .. } => {
                // systemd may have sent the signal, and waits for the reload that is refused. One
                // that is under way answers for both.
                if !self.stopping && !self.status.is_starting() {
                    self.tell(&reloading_since(event.at_us)).await;
                    if !self.reloading {
                        self.end_reload().await;
                    }
                }
            }
            What::LameDuck { .. } | What::Draining { stop: true, .. } => {
                let first = !std::mem::replace(&mut self.stopping, true);
                self.reloading = false;
                let stopping = format!("STOPPING=1\n{}", self.extension());
                self.tell(if first { &stopping } else { "" }).await;
            }
            What::Draining { stop: false, .. } => self.leaving = true,
            _ => self.tell("").await,
        }
    }

    async fn end_reload(&mut self) {
        self.reloading = false;
        // A stop that is under way is not taken back.
        if !self.stopping {
            self.tell("READY=1").await;
        }
    }

    /// Carries out an order; whether that was the last.
    async fn obey(&mut self, order: Order) -> bool {
        match order {
            Order::PassOn { successor, done } => {
                let status = self.status.text_of_successor();
                // In one message, so that whoever waits for the end of the reload finds the new
                // process. What comes after it is said by that one.
                self.say(&format!("READY=1\nMAINPID={successor}\nSTATUS={status}"))
                    .await;
                self.is_main = false;
                if let Err(error) = self.address.barrier().await {
                    log::warn!(%error, successor, "systemd has not confirmed the main process");
                }
                self.shared.record.note(What::Announced { successor });
                // Whoever asked may no longer wait.
                done.send(()).ok();
                false
            }
            Order::Finish { done } => {
                done.send(()).ok();
                true
            }
        }
    }

    /// Lets systemd keep what this generation listens on, and nothing else.
    async fn keep(&mut self) {
        let changes = self.keeping.changes(&self.shared.store);
        // Looked at afterwards: a drain changes the phase, and then lets go of the sockets, which
        // are to be kept all the same.
        let serves = self.shared.phase() == Phase::Serving;
        if !self.is_main || self.leaving || self.stopping || !serves {
            return;
        }
        for name in changes.stale {
            self.say(&format!("FDSTOREREMOVE=1\nFDNAME={name}")).await;
            self.keeping.removed(&name);
        }
        for (names, socket) in changes.fresh {
            for (name, descriptor) in names.iter().zip(socket.descriptors()) {
                // A listener is not to be given up when nobody else has it.
                let message = format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}");
                self.send(&message, &[descriptor]).await;
            }
            self.keeping.added(names);
        }
        if self.keeping.has_any() {
            self.shared.store.set_kept();
        }
    }

    /// Sends fields, with the text if it has changed.
    async fn tell(&mut self, fields: &str) {
        let text = self.status.text();
        let mut message = fields.to_owned();
        if text != self.told {
            if !message.is_empty() {
                message.push('\n');
            }
            message.push_str("STATUS=");
            message.push_str(&text);
        }
        if self.is_main && !self.leaving && !message.is_empty() {
            self.told = text;
            self.say(&message).await;
        }
    }

    async fn say(&mut self, message: &str) {
        if self.is_main {
            self.send(message, &[]).await;
        }
    }

    async fn send(&mut self, message: &str, descriptors: &[BorrowedFd<'_>]) {
        log::trace!(text = message, "to systemd");
        let sent = self.address.send(message, descriptors);
        let sent = tokio::time::timeout(PATIENCE, sent).await;
        let sent = sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match sent {
            Ok(()) => self.failed = false,
            // Once, until it works again.
            Err(error) if !std::mem::replace(&mut self.failed, true) => {
                let text = message.to_owned();
                let tell = move || log::warn!(%error, text, "systemd cannot be told");
                self.shared.early.tell(tell);
            }
            Err(error) => log::debug!(%error, text = message, "systemd cannot be told"),
        }
    }

    /// The field also moves the watchdog, which must not become blind by it.
    fn extension(&self) -> String {
        let length = self.watchdog.map_or(EXTENSION, |w| w.min(EXTENSION));
        format!("EXTEND_TIMEOUT_USEC={}", length.as_micros())
    }

    fn extension_interval(&self) -> Duration {
        let length = self.watchdog.map_or(EXTENSION, |w| w.min(EXTENSION));
        EXTENDING.min(length / 3)
    }
}

fn reloading_since(at_us: u64) -> String {
    format!("RELOADING=1\nMONOTONIC_USEC={at_us}")
}

fn reloading() -> String {
    let now = crate::sys::process::uptime();
    reloading_since(u64::try_from(now.as_micros()).unwrap_or(u64::MAX))
}

fn every(interval: Option<Duration>) -> Option<Interval> {
    let mut interval = tokio::time::interval(interval.filter(|i| !i.is_zero())?);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(interval)
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

/// How much longer systemd waits than the last time that it was asked to.
const EXTENSION: Duration = Duration::from_secs(15);
/// How often it is asked to, at least. systemd counts anew when a command of `ExecReload=` ends, and
/// may be told to wait for a second or two only.
const EXTENDING: Duration = Duration::from_secs(1);
/// How long systemd may leave its socket full.
const PATIENCE: Duration = Duration::from_secs(5);
/// A limit that there is none for is one of thirty years.
const LONGEST_START: Duration = Duration::from_secs(30 * 365 * 86_400);
