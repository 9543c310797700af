//! What the lifecycle task, the context and the listeners share.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot, watch};

use super::assisted::Assistant;
use super::early::Early;
use super::engine::Course;
use super::input::{FromPeer, Input};
use super::old::Old;
use super::onwards::Onwards;
use crate::builder::Options;
use crate::context::Predecessor;
use crate::error::Error;
use crate::lifecycle::component::Components;
use crate::lifecycle::link::Link;
use crate::lifecycle::phase::Phase;
use crate::lifecycle::record::Record;
use crate::lifecycle::task::Tasks;
use crate::lifecycle::tokens::Tokens;
use crate::lifecycle::tracker::Tracker;
use crate::net::datagram::{Datagrams, UdpSocket, UnixDatagram};
use crate::net::door::Door;
use crate::net::gate::{Gate, State};
use crate::net::lane::{Lane, Told};
use crate::net::listener::Listener;
use crate::protocol::{ALL_OFFERED, Failed};
use crate::socket::{Claimed, Endpoint, KeyMap, Kind, Mark, Socket, Store};
use crate::sys::{log, process};

/// The state of one generation that more than one task looks at.
///
/// Only the lifecycle task cancels the tokens, changes the phase and moves the gates; everybody
/// else tells it what happened, through [`send`](Self::send).
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) generation: u32,
    pub(crate) predecessor: Option<Predecessor>,
    pub(crate) store: Store,
    pub(crate) tracker: Arc<Tracker>,
    pub(crate) lane: Arc<Lane>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) components: Components,
    pub(crate) tokens: Tokens,
    /// The names under which descriptors were kept while the service was down.
    #[allow(dead_code, reason = "only integrations look, and each is a feature")]
    pub(crate) kept: Vec<String>,
    /// What has happened, for those who watch.
    pub(crate) record: Arc<Record>,
    /// The generations before this one that still drain, the oldest first.
    pub(crate) older: watch::Sender<Vec<Old>>,
    /// When this process was started, as a time since boot.
    #[allow(dead_code, reason = "only integrations tell, and each is a feature")]
    pub(crate) started: Duration,
    /// Whether somebody has run the `on_ready` hooks; locked while they run.
    pub(crate) ready_called: tokio::sync::Mutex<bool>,
    pub(crate) queue: mpsc::UnboundedSender<Input>,
    /// Pushes the lifecycle task on.
    assistant: OnceLock<Assistant<Course>>,
    /// The channel to the predecessor.
    to_predecessor: OnceLock<Arc<Link>>,
    /// Whether a thread waits until `ready()` is answered, and other threads can do the rest.
    pub(crate) hastened: Arc<AtomicBool>,
    pub(crate) early: Early,
    /// Whether the lifecycle task is to be told of what is opened: while a handover, whose Offer
    /// has been made up, or a drain is under way.
    news_wanted: AtomicBool,
    phase: watch::Sender<Phase>,
    ending: Mutex<Ending>,
    /// The successor that serves, once this generation drains.
    onwards: Mutex<Option<Onwards>>,
    /// The answer of `ready()`, once there is one.
    resolved: watch::Sender<Option<Result<(), String>>>,
    gates: Mutex<Gates>,
    /// The last error of the initialisation that this library saw.
    noted: Mutex<Option<Failed>>,
    askers: AtomicU64,
}

/// What the end of this generation waits for, beside connections and tasks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending {
    /// When the phase has changed, as a time since boot.
    pub(crate) since: Duration,
    /// The deadline of the drain, as a time since boot.
    pub(crate) deadline: Option<Duration>,
    /// Whether every `on_drain` has returned or met its limit.
    pub(crate) hooks_drained: bool,
    pub(crate) main_ended: bool,
}

/// The gates of all open endpoints, by key.
#[derive(Debug)]
struct Gates {
    /// What an endpoint that is opened now begins with.
    initial: State,
    endpoints: KeyMap<Arc<str>, (Kind, Arc<Gate>)>,
    /// The endpoints of integrations, on which a service that stops accepts until its end.
    lasting: HashSet<String>,
}

impl Shared {
    pub(crate) fn new(
        options: Options,
        (generation, started): (u32, Duration),
        predecessor: Option<Predecessor>,
        store: Store,
        queue: mpsc::UnboundedSender<Input>,
        (tracker, tasks): (Arc<Tracker>, Arc<Tasks>),
    ) -> Self {
        let record = Arc::new(Record::new(generation));
        let endpoints = store.count();
        let told = queue.clone();
        let lane = Lane::new(Arc::clone(&tracker), move |tell| {
            let input = match tell {
                Told::Departing => Input::Departing,
                Told::Consenting => Input::Consenting,
                Told::Abandoned(key) => Input::Abandoned { key },
            };
            // A lifecycle task that has ended has nothing left to send.
            told.send(input).ok();
        });
        lane.reserve(endpoints);
        Self {
            options,
            generation,
            predecessor,
            store,
            lane,
            tracker,
            tasks,
            components: Components::new(Arc::clone(&record)),
            kept: Vec::new(),
            record,
            tokens: Tokens::new(),
            ready_called: tokio::sync::Mutex::new(false),
            queue,
            assistant: OnceLock::new(),
            to_predecessor: OnceLock::new(),
            hastened: Arc::default(),
            early: Early::new(),
            news_wanted: AtomicBool::new(false),
            phase: watch::Sender::new(Phase::Initialising),
            ending: Mutex::new(Ending {
                since: started,
                ..Ending::default()
            }),
            onwards: Mutex::default(),
            older: watch::Sender::default(),
            started,
            resolved: watch::Sender::new(None),
            gates: Mutex::new(Gates {
                initial: State::Shut,
                endpoints: KeyMap::with_capacity_and_hasher(
                    endpoints,
                    BuildHasherDefault::default(),
                ),
                lasting: HashSet::new(),
            }),
            noted: Mutex::new(None),
            askers: AtomicU64::new(1),
        }
    }

    /// A first generation whose lifecycle task is the caller.
    #[cfg(all(feature = "control", any(test, fuzzing)))]
    pub(crate) fn alone() -> (Arc<Self>, mpsc::UnboundedReceiver<Input>) {
        let (queue, inputs) = mpsc::unbounded_channel();
        let quiet = Arc::new(tokio::sync::Notify::new());
        let tracker = Arc::new(Tracker::new(Arc::clone(&quiet)));
        let tasks = Arc::new(Tasks::new(quiet));
        let options = crate::Builder::new().into_options();
        let start = (1, process::uptime());
        let counts = (tracker, tasks);
        let shared = Self::new(options, start, None, Store::new(), queue, counts);
        (Arc::new(shared), inputs)
    }

    /// Tells of the start, when main asks for something for the first time: by then whoever collects
    /// events has been installed.
    pub(crate) fn announce(&self) {
        self.early.begin(|| {
            log::info!(
                phase = %Phase::Initialising,
                generation = self.generation,
                pid = std::process::id(),
                predecessor = self.predecessor.as_ref().map(|predecessor| predecessor.pid),
                "initialising"
            );
        });
    }

    /// Tells of the death of a predecessor that had not handed over yet.
    pub(crate) fn tell_of_orphanage(&self) {
        let generation = self.generation;
        let predecessor = self.predecessor.as_ref().map(|predecessor| predecessor.pid);
        self.early.tell(move || {
            log::warn!(
                generation,
                pid = std::process::id(),
                predecessor,
                "the predecessor has died: this generation carries on without it"
            );
        });
    }

    /// Whether the predecessor has gone.
    pub(crate) fn is_orphan(&self) -> bool {
        let predecessor = self.predecessor.as_ref();
        predecessor.is_some_and(|predecessor| predecessor.exited.is_cancelled())
    }

    /// Tells the lifecycle task. One that has ended has nothing left to be told.
    pub(crate) fn send(&self, input: Input) {
        self.queue.send(input).ok();
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Changes the phase, and tells how many milliseconds the one before it has lasted.
    pub(crate) fn set_phase(&self, phase: Phase) -> u64 {
        let mut ending = self.ending();
        let now = process::uptime();
        let lasted = now.saturating_sub(std::mem::replace(&mut ending.since, now));
        self.phase.send_replace(phase);
        u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX)
    }

    /// The phase, and its changes.
    #[allow(dead_code, reason = "only integrations watch, and each is a feature")]
    pub(crate) fn watch_phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(crate) fn onwards(&self) -> MutexGuard<'_, Option<Onwards>> {
        self.onwards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the end of this generation waits for.
    pub(crate) fn ending(&self) -> MutexGuard<'_, Ending> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers `ready()`; the first answer counts.
    pub(crate) fn resolve(&self, answer: Result<(), String>) {
        self.resolved.send_if_modified(|resolved| {
            let first = resolved.is_none();
            resolved.get_or_insert(answer);
            first
        });
    }

    /// Waits for the answer of `ready()`.
    pub(crate) async fn resolved(&self) -> Result<(), String> {
        let mut resolved = self.resolved.subscribe();
        match resolved.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or(Ok(())),
            Err(_) => Err("the lifecycle task has ended".to_owned()),
        }
    }

    /// Names who pushes the lifecycle task on.
    pub(crate) fn assist(&self, assistant: Assistant<Course>) {
        self.assistant.set(assistant).ok();
    }

    /// Names the channel by which the predecessor answers.
    pub(crate) fn listen_to(&self, predecessor: Arc<Link>) {
        self.to_predecessor.set(predecessor).ok();
    }

    /// Has the lifecycle task take what it was told here and now, and waits for the predecessor's
    /// answer as long as that one usually takes.
    ///
    /// This thread stands still meanwhile, a millisecond at most and once in a generation, before it
    /// serves anybody. Two threads that wake each other take longer than the predecessor.
    pub(crate) fn hasten(&self) {
        let Some(assistant) = self.assistant.get() else {
            return;
        };
        // Whoever calls `ready()` may go on to hold its thread. It is none of the runtime's own where it
        // runs main, and no task.
        let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
        let is_multi_thread = matches!(flavor, Ok(RuntimeFlavor::MultiThread));
        let others = is_multi_thread && tokio::task::try_id().is_none();
        self.hastened.store(others, Ordering::SeqCst);
        match self.to_predecessor.get() {
            None => drop(assistant.push()),
            Some(link) => link.receive_here(
                MOMENT,
                |received| {
                    let from = received.map_or_else(FromPeer::Broken, FromPeer::Record);
                    self.send(Input::Predecessor(from));
                },
                || {
                    assistant.push();
                    self.resolved.borrow().is_none()
                },
            ),
        }
        self.hastened.store(false, Ordering::SeqCst);
    }

    /// Waits until the lifecycle task has taken what it was told so far.
    pub(crate) async fn settled(&self) {
        let (mark, reached) = oneshot::channel();
        self.send(Input::Mark(mark));
        // Without an answer it has ended.
        reached.await.ok();
    }

    pub(crate) fn next_asker(&self) -> u64 {
        self.askers.fetch_add(1, Ordering::Relaxed)
    }

    /// Says whether the lifecycle task is to be told of what is opened from here on. What was put
    /// into the store before is in it for whoever looks after this call.
    pub(crate) fn want_news(&self, wanted: bool) {
        self.news_wanted.store(wanted, Ordering::SeqCst);
    }

    /// Remembers a failure of the initialisation.
    pub(crate) fn note(&self, failed: Failed) {
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
    }

    pub(crate) fn take_noted(&self) -> Option<Failed> {
        self.noted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    pub(crate) async fn open_stream(&self, endpoint: Endpoint) -> Result<Listener, Error> {
        let (claimed, gate) = self.open(&endpoint, Kind::STREAMS).await?;
        let door = Door::new(claimed.key, Arc::clone(&self.lane), gate);
        Listener::new(endpoint.clone(), claimed.sockets, door, self.tokens.clone())
            .map_err(|error| Error::io(format!("could not watch endpoint `{endpoint}`"), error))
    }

    pub(crate) async fn open_udp(&self, endpoint: Endpoint) -> Result<UdpSocket, Error> {
        self.open_datagrams(endpoint.datagram(), Kind::Udp)
            .await
            .map(UdpSocket::new)
    }

    pub(crate) async fn open_unix_datagram(
        &self,
        endpoint: Endpoint,
    ) -> Result<UnixDatagram, Error> {
        self.open_datagrams(endpoint.datagram(), Kind::UnixDatagram)
            .await
            .map(UnixDatagram::new)
    }

    async fn open_datagrams(&self, endpoint: Endpoint, kind: Kind) -> Result<Datagrams, Error> {
        let (claimed, gate) = self.open(&endpoint, &[kind]).await?;
        Datagrams::new(endpoint.clone(), claimed.sockets, gate)
            .map_err(|error| Error::io(format!("could not watch endpoint `{endpoint}`"), error))
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        kinds: &[Kind],
    ) -> Result<(Claimed, Arc<Gate>), Error> {
        let mut claimed = self.store.open(endpoint, kinds).await;
        if matches!(&claimed, Err(error) if error.is_in_use()) {
            // The listener that had it may have been dropped a moment ago.
            self.settled().await;
            claimed = self.store.open(endpoint, kinds).await;
        }
        let claimed = claimed?;
        for warning in &claimed.warnings {
            log::warn!(socket; %endpoint, "{warning}");
        }
        for socket in &claimed.sockets {
            log::debug!(
                socket;
                %endpoint,
                address = %socket.address(),
                adopted = claimed.adopted,
                "endpoint opened"
            );
        }
        let kind = claimed
            .sockets
            .first()
            .map_or(Kind::Tcp, |socket| socket.kind());
        let gate = {
            let mut gates = self.gates();
            let gate = Arc::new(Gate::new(gates.initial));
            gates
                .endpoints
                .insert(claimed.key.clone(), (kind, Arc::clone(&gate)));
            gate
        };
        if self.news_wanted.load(Ordering::SeqCst) {
            self.send(Input::Opened {
                key: claimed.key.clone(),
            });
        }
        Ok((claimed, gate))
    }

    /// Opens an endpoint of an integration: connections to it are not counted, so that nothing waits
    /// for them.
    ///
    /// Where there is no predecessor that answers, it is open at once: a service that does not get
    /// ready can be asked what it does.
    #[cfg(feature = "control")]
    pub(crate) async fn open_lasting(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(Claimed, Arc<Gate>), Error> {
        let (claimed, gate) = self.open(endpoint, &[Kind::Unix]).await?;
        self.gates().lasting.insert(claimed.key.to_string());
        if self.predecessor.is_none() {
            gate.set(State::Open);
        }
        Ok((claimed, gate))
    }

    /// See [`Context::take`](crate::Context::take).
    pub(crate) fn take(&self, name: &str) -> Result<Option<OwnedFd>, Error> {
        self.store
            .take(name)
            .map_err(|error| Error::io(format!("could not take descriptor `{name}`"), error))
    }

    /// See [`Context::lend`](crate::Context::lend).
    pub(crate) fn lend(&self, name: &str, descriptor: OwnedFd) -> Result<(), Error> {
        self.store
            .lend(name, descriptor)
            .map_err(|error| Error::io(format!("could not lend descriptor `{name}`"), error))
    }

    /// Moves every gate, and those of endpoints to come.
    pub(crate) fn set_gates(&self, state: State) {
        let mut gates = self.gates();
        gates.initial = state;
        for (key, (_, gate)) in &gates.endpoints {
            if state != State::Emptying || !gates.lasting.contains(&**key) {
                gate.set(state);
            }
        }
    }

    /// Nobody serves after this generation: removes the paths, and leaves the sockets to their
    /// listeners, so that each closes as soon as its queue is empty and a client is refused, not
    /// left to wait for the end of the drain. What lasts stays until that end.
    pub(crate) fn give_up_endpoints(&self) -> Vec<String> {
        let lasting = self.gates().lasting.clone();
        let warnings = self.store.remove_paths_but(&lasting);
        self.store.close_but(&lasting);
        warnings
    }

    /// Lets go of an endpoint that nobody listens on any more, and gives what was behind it.
    pub(crate) fn close(&self, key: &str) -> Vec<Arc<Socket>> {
        self.gates().endpoints.remove(key);
        self.lane.remove(key);
        self.store.release(key)
    }

    /// Moves the gates of some endpoints, of those kinds; [`ALL_OFFERED`] among the keys stands for
    /// those that came before `until`.
    pub(crate) fn set_gates_of(
        &self,
        keys: &[String],
        until: Mark,
        kinds: fn(Kind) -> bool,
        state: State,
    ) {
        let gates = self.gates();
        let mut of_kind = gates
            .endpoints
            .iter()
            .filter(|(_, (kind, _))| kinds(*kind))
            .peekable();
        if of_kind.peek().is_none() {
            return;
        }
        if keys.iter().any(|key| key == ALL_OFFERED) {
            for (key, (_, gate)) in of_kind {
                if !self.store.came_after(key, until) {
                    gate.set(state);
                }
            }
        }
        for (kind, gate) in keys
            .iter()
            .filter_map(|key| gates.endpoints.get(key.as_str()))
        {
            if kinds(*kind) {
                gate.set(state);
            }
        }
    }

    /// The endpoints whose listener is polled in vain, because this generation is not ready.
    pub(crate) fn waiting(&self) -> Vec<String> {
        let gates = self.gates();
        let waiting = gates
            .endpoints
            .iter()
            .filter(|(key, (_, gate))| gate.is_awaited() && !gates.lasting.contains(&***key));
        waiting.map(|(key, _)| key.to_string()).collect()
    }

    /// How many endpoints of the service are open.
    pub(crate) fn endpoints(&self) -> usize {
        let gates = self.gates();
        gates.endpoints.len() - gates.lasting.len()
    }

    /// The endpoints of the service that are open, by key.
    #[allow(dead_code, reason = "only integrations tell, and each is a feature")]
    pub(crate) fn endpoint_keys(&self) -> Vec<String> {
        let gates = self.gates();
        let keys = gates.endpoints.keys();
        let mut keys: Vec<_> = keys
            .filter(|key| !gates.lasting.contains(&***key))
            .map(ToString::to_string)
            .collect();
        keys.sort();
        keys
    }

    fn gates(&self) -> MutexGuard<'_, Gates> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a predecessor that has nothing else to do takes to answer, and some more.
const MOMENT: Duration = Duration::from_millis(1);
