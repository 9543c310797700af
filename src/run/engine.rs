//! The lifecycle task: takes every input in turn, and is the only one that acts on them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::drain::Drain;
use super::handover::{Handover, Started, report_forwarding};
use super::input::{FromPeer, Input, MainEnd, Reply};
use super::old::Old;
use super::peer::{Lent, Peer};
use super::shared::Shared;
use super::start::{Inheritance, Offered, Refused, adopt};
use crate::context::Successor as Taken;
use crate::error::Error;
use crate::lifecycle::forward::{Tail, forward};
use crate::lifecycle::phase::Phase;
use crate::lifecycle::pid_file::PidFile;
use crate::lifecycle::token::Token;
use crate::net::gate::State;
use crate::protocol::incumbent::{self, Deadline};
use crate::protocol::successor::{self, NotServing};
use crate::protocol::{
    Capabilities, Failed, Incumbent, LATE_SOCKETS, MAX_DESCRIPTORS, Offer, Outcome, Role, Sockets,
    Stage, Successor, ToIncumbent, ToSuccessor, Versions, decode, encode,
};
use crate::socket::{Description, Socket};
use crate::sys::inherited::Start;
use crate::sys::{pidfd, process, stdio};

/// How this process came to be.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) start: Start,
    /// The mask of the service's threads.
    pub(crate) mask: SigSet,
    /// What a successor blocks until its handlers stand.
    pub(crate) blocked: SigSet,
}

/// How this generation ended.
#[derive(Debug)]
pub(crate) struct End {
    /// Whether the deadline or a second stop cut something.
    pub(crate) cut: bool,
    /// Whether it ended because it could not serve.
    pub(crate) failed: bool,
}

/// The lifecycle task.
#[derive(Debug)]
pub(crate) struct Engine {
    shared: Arc<Shared>,
    origin: Origin,
    /// Drops main.
    end_main: Token,
    quiet: Arc<Notify>,

    successor: Successor,
    incumbent: Incumbent,
    predecessor: Option<Peer>,
    offered: Option<Offered>,
    /// The generations before this one that still drain, the oldest first.
    older: Vec<Old>,

    handover: Option<Handover>,
    handovers: u64,
    /// Whether a successor is being ended, which this generation has to outlive.
    ending: bool,
    /// Endpoints that were opened since the Offer.
    late: Vec<String>,
    /// Who asks, while a trigger is looked at.
    asking: Option<Asker>,
    /// Who waits for the handover under way.
    waiting: Option<Asker>,

    /// Whether Unix paths and the pid file are this generation's to remove.
    owner: bool,
    drain: Option<Drain>,
    main: Option<MainEnd>,
    failed: bool,
}

/// Who asked for a handover.
#[derive(Debug)]
struct Asker {
    id: u64,
    reply: Option<Reply>,
}

impl Engine {
    /// Has to be called on a runtime.
    pub(crate) fn new(
        shared: Arc<Shared>,
        inheritance: Option<Inheritance>,
        origin: Origin,
        end_main: Token,
        quiet: Arc<Notify>,
    ) -> io::Result<Self> {
        let mut engine = Self {
            owner: inheritance.is_none(),
            shared,
            origin,
            end_main,
            quiet,
            successor: Successor::first(),
            incumbent: Incumbent::new(),
            predecessor: None,
            offered: None,
            older: Vec::new(),
            handover: None,
            handovers: 0,
            ending: false,
            late: Vec::new(),
            asking: None,
            waiting: None,
            drain: None,
            main: None,
            failed: false,
        };
        let Some(Inheritance {
            channel,
            mut offer,
            orphaned,
            machine,
        }) = inheritance
        else {
            return Ok(engine);
        };
        engine.successor = machine;
        if !orphaned {
            let queue = engine.shared.queue.clone();
            let tell = move |from| {
                queue.send(Input::Predecessor(from)).ok();
            };
            let failed = |error| tracing::debug!(%error, "the predecessor does not listen");
            let peer = Peer::new(channel, failed)?;
            let pidfd = match offer
                .as_ref()
                .and_then(|offered| offered.incumbent.as_ref())
            {
                Some(pidfd) => Some(pidfd.try_clone()?),
                None => None,
            };
            peer.watch(pidfd, false, tell);
            engine.predecessor = Some(peer);
        }
        if let Some(offered) = &mut offer {
            engine.older = std::mem::take(&mut offered.older);
            for old in &engine.older {
                old.watch(engine.shared.queue.clone());
            }
        }
        engine.offered = offer;
        if orphaned {
            engine.predecessor_gone();
        }
        Ok(engine)
    }

    /// Runs until this generation has ended.
    pub(crate) async fn run(mut self, mut inputs: mpsc::UnboundedReceiver<Input>) -> End {
        tracing::info!(
            generation = self.shared.generation,
            pid = std::process::id(),
            predecessor = self.shared.predecessor.as_ref().map(|p| p.pid),
            "initialising"
        );
        self.later(READY_OVERDUE, Input::ReadyOverdue);
        while let Some(input) = inputs.recv().await {
            tracing::trace!(?input, "input");
            self.take(input);
            if self.has_ended() {
                break;
            }
        }
        self.finish()
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Signal(signal) => self.signal(signal),
            Input::Trigger { asker, reply } => self.trigger(asker, reply),
            Input::AskerGone { asker } => {
                if self
                    .waiting
                    .as_ref()
                    .is_some_and(|waiting| waiting.id == asker)
                {
                    self.succeed(successor::Event::AskerGone);
                }
            }
            Input::Stop => self.stop("the program"),
            Input::Ready => {
                self.shared.set_phase(Phase::Ready);
                let claimed = self.shared.store.claimed_keys();
                self.succeed(successor::Event::Ready { claimed });
            }
            Input::NotReady => {
                let failed = self.init_failure("an on_ready failed".to_owned());
                self.succeed(successor::Event::Failed(failed));
            }
            Input::MainEnded(end) => self.main_ended(end),
            Input::Opened { key } => self.opened(key),
            Input::Predecessor(from) => self.from_predecessor(from),
            Input::OlderGone { generation } => {
                self.older.retain(|old| old.generation != generation);
            }
            Input::Spawned { handover, result } => self.spawned(handover, result),
            Input::Successor { handover, from } => {
                if self.is_current(handover) {
                    self.from_successor(from);
                }
            }
            Input::SuccessorEnded { handover, how } => {
                if self.is_current(handover) {
                    self.ending = false;
                    self.hand_over(incumbent::Event::SuccessorEnded { how });
                }
            }
            Input::Elapsed { handover, timer } => {
                if self.is_current(handover) {
                    self.hand_over(incumbent::Event::Elapsed(timer));
                }
            }
            Input::ProbationOver => {
                self.succeed(successor::Event::Elapsed(successor::Timer::Probation));
            }
            Input::HooksDrained => {
                if let Some(drain) = &mut self.drain {
                    drain.hooks_drained = true;
                }
                self.hand_over(incumbent::Event::HooksDrained);
            }
            Input::Quiet => {}
            Input::Deadline => {
                if self
                    .drain
                    .as_ref()
                    .is_some_and(|drain| drain.deadline <= Instant::now())
                {
                    self.abort("the deadline has come");
                }
            }
            Input::AbortOver => {
                if let Some(drain) = &mut self.drain {
                    drain.over = true;
                }
            }
            Input::DrainTick => self.report_drain(),
            Input::ReadyOverdue => self.report_overdue(),
        }
    }

    fn signal(&mut self, signal: Signal) {
        let options = &self.shared.options;
        let is_one_of = |signals: &[crate::lifecycle::signal::Signal]| {
            signals.iter().any(|trigger| trigger.to_nix() == signal)
        };
        let hung_up =
            signal == Signal::SIGHUP && self.origin.start.terminal && !process::has_terminal();
        if is_one_of(&options.stop_signals) || hung_up {
            self.stop(if hung_up {
                "the loss of the terminal"
            } else {
                signal.as_str()
            });
        } else if is_one_of(&options.handover_signals) {
            tracing::debug!(%signal, "trigger");
            self.trigger(0, None);
        }
    }

    fn trigger(&mut self, id: u64, reply: Option<Reply>) {
        self.asking = Some(Asker { id, reply });
        self.succeed(successor::Event::Trigger);
        // A trigger that the machine keeps for later has nobody to wait for it.
        self.asking = None;
    }

    fn stop(&mut self, by: &str) {
        tracing::info!(
            generation = self.shared.generation,
            pid = std::process::id(),
            by,
            "stop"
        );
        self.succeed(successor::Event::Stop);
    }

    fn main_ended(&mut self, end: MainEnd) {
        self.main = Some(end.clone());
        if self.drain.is_some() || end == MainEnd::Dropped {
            return;
        }
        let (success, how) = match end {
            MainEnd::Returned { success: true } => (true, "main returned".to_owned()),
            MainEnd::Returned { success: false } => (false, "main returned an error".to_owned()),
            MainEnd::Panicked(message) => (false, format!("main panicked: {message}")),
            MainEnd::Dropped => (false, "main was dropped".to_owned()),
        };
        if self.shared.phase() < Phase::Serving {
            let failed = self.init_failure(format!("{how} before this generation was ready"));
            self.succeed(successor::Event::Failed(failed));
        } else if !success && !self.successor.is_settled() {
            let failed = Failed {
                stage: Stage::Probation,
                component: None,
                error: how,
            };
            self.succeed(successor::Event::Failed(failed));
        } else {
            if !success {
                tracing::error!(generation = self.shared.generation, "{how} while it serves");
            }
            self.stop("the end of main");
        }
    }

    /// The failure that this library saw, or else what main's end says.
    fn init_failure(&self, otherwise: String) -> Failed {
        self.shared.take_noted().unwrap_or(Failed {
            stage: Stage::Init,
            component: None,
            error: otherwise,
        })
    }

    fn from_predecessor(&mut self, from: FromPeer) {
        let record = match from {
            FromPeer::Record(record) => record,
            FromPeer::Broken(error) => {
                return self.succeed(successor::Event::Garbage {
                    reason: error.to_string(),
                });
            }
            FromPeer::Gone(how) => {
                tracing::debug!(how, "the predecessor has gone");
                self.predecessor_gone();
                return self.succeed(successor::Event::PredecessorGone);
            }
        };
        let message = match decode::<ToSuccessor>(&record.bytes) {
            Ok(message) => message,
            Err(garbage) => {
                return self.succeed(successor::Event::Garbage {
                    reason: garbage.to_string(),
                });
            }
        };
        tracing::debug!(?message, "from the predecessor");
        if let ToSuccessor::Sockets(sockets) = &message {
            match adopt(sockets, record.descriptors, &self.shared.store) {
                Ok(()) => {}
                Err(Refused::Garbage(reason)) => {
                    return self.succeed(successor::Event::Garbage { reason });
                }
                Err(Refused::Failed(failed)) => {
                    return self.succeed(successor::Event::Failed(failed));
                }
            }
        }
        if matches!(message, ToSuccessor::Released {}) {
            if let Some(predecessor) = &self.shared.predecessor {
                predecessor.released.cancel();
            }
        }
        self.succeed(successor::Event::Received(&message));
    }

    /// What follows from the predecessor's death whatever the machine makes of it.
    fn predecessor_gone(&mut self) {
        if let Some(predecessor) = &self.shared.predecessor {
            predecessor.released.cancel();
            predecessor.exited.cancel();
        }
        // Nobody else forwards what a child of this generation, started early, still writes.
        if let Some(pipe) = self
            .offered
            .as_mut()
            .and_then(|offered| offered.stderr_pipe.take())
        {
            tokio::spawn(async move {
                let forwarded = forward(pipe, Tail::default(), Token::new()).await;
                report_forwarding(Ok(forwarded));
            });
        }
    }

    fn from_successor(&mut self, from: FromPeer) {
        let record = match from {
            FromPeer::Record(record) => record,
            FromPeer::Broken(error) => {
                return self.hand_over(incumbent::Event::Garbage {
                    reason: error.to_string(),
                });
            }
            FromPeer::Gone(how) => {
                if self.drain.as_ref().is_some_and(|drain| !drain.is_stop) {
                    if let Some(how) = self.handover.as_ref().and_then(Handover::reap) {
                        tracing::warn!(how, "the successor has ended");
                    }
                }
                return self.hand_over(incumbent::Event::SuccessorGone { how });
            }
        };
        match decode::<ToIncumbent>(&record.bytes) {
            Ok(message) => {
                tracing::debug!(?message, "from the successor");
                if let (ToIncumbent::Taken { .. }, Some(peer)) =
                    (&message, self.handover.as_ref().and_then(Handover::peer))
                {
                    peer.taken();
                }
                self.hand_over(incumbent::Event::Received(&message));
                self.offer_late();
            }
            Err(garbage) => {
                self.hand_over(incumbent::Event::Garbage {
                    reason: garbage.to_string(),
                });
            }
        }
    }

    fn spawned(&mut self, number: u64, result: io::Result<Started>) {
        let Some(handover) = self.handover.as_mut().filter(|now| now.number == number) else {
            return;
        };
        match result.and_then(|started| handover.run(started)) {
            Ok(pid) => {
                tracing::info!(
                    generation = self.shared.generation + 1,
                    pid,
                    "successor started"
                );
                self.hand_over(incumbent::Event::Spawned {
                    pid: pid.cast_signed(),
                });
            }
            Err(error) => {
                self.hand_over(incumbent::Event::SpawnFailed {
                    error: error.to_string(),
                });
            }
        }
    }

    fn opened(&mut self, key: String) {
        if self.handover.is_some() && self.drain.is_none() {
            self.late.push(key);
            self.offer_late();
        }
    }

    /// Offers what was opened since the Offer, once the successor has said that it can take it.
    fn offer_late(&mut self) {
        if self.late.is_empty() || !self.incumbent.successor_can(LATE_SOCKETS) {
            return;
        }
        for key in std::mem::take(&mut self.late) {
            let entries = self.shared.store.offer_of(&key);
            self.send_sockets(entries);
        }
    }

    fn is_current(&self, number: u64) -> bool {
        self.handover
            .as_ref()
            .is_some_and(|handover| handover.number == number)
    }

    // The two machines and what they ask for.

    fn succeed(&mut self, event: successor::Event<'_>) {
        for action in self.successor.on(event) {
            self.perform_as_successor(action);
        }
    }

    fn hand_over(&mut self, event: incumbent::Event<'_>) {
        for action in self.incumbent.on(event) {
            self.perform_as_incumbent(action);
        }
    }

    fn perform_as_successor(&mut self, action: successor::Action) {
        use successor::Action;
        match action {
            Action::Send(message) => self.tell_predecessor(&message),
            Action::RunMain => {}
            Action::StartTimer(successor::Timer::Probation) => {
                let offer = self.offered.as_ref().map(|offered| &offered.offer);
                let length = offer.map_or(0, |offer| offer.probation_ms);
                self.later(Duration::from_millis(length), Input::ProbationOver);
            }
            // The machine knows what to make of one that comes late.
            Action::StopTimer(successor::Timer::Probation) => {}
            Action::OpenGates => self.open_gates(),
            Action::ResolveReady(Ok(())) => self.shared.resolve(Ok(())),
            Action::ResolveReady(Err(NotServing::Failed(reason))) => {
                self.failed = true;
                self.shared.resolve(Err(reason));
            }
            // Main is dropped where it waits.
            Action::ResolveReady(Err(NotServing::Stopped)) => {}
            Action::BecomeOwner => self.become_owner(),
            Action::RestoreStderr => self.restore_stderr(),
            Action::JoinProcessGroup => self.join_process_group(),
            Action::WatchPredecessor => self.watch_predecessor(),
            Action::CloseUnclaimed => {
                let keys = self.shared.store.close_unclaimed();
                if !keys.is_empty() {
                    tracing::warn!(endpoints = ?keys, "inherited endpoints that nobody claimed are closed");
                }
            }
            Action::EndNow => self.end_now(),
            Action::BeginStop => self.begin_drain(true),
            Action::AbortDrain => self.abort("a second stop"),
            Action::PassOn(event) => self.hand_over(event),
            Action::Refuse(refusal) => self.answer(Error::refused(refusal)),
        }
    }

    fn perform_as_incumbent(&mut self, action: incumbent::Action) {
        use incumbent::Action;
        match action {
            Action::Spawn => self.spawn(),
            Action::SendOffer => self.send_offer(),
            Action::Send(message) => self.tell_successor(&message),
            Action::StartTimer(timer) => {
                let options = &self.shared.options;
                let after = match timer {
                    incumbent::Timer::Ready => options.ready_timeout,
                    incumbent::Timer::Commit | incumbent::Timer::Probation => {
                        options.commit_timeout
                    }
                };
                if let Some(handover) = &mut self.handover {
                    handover.start_timer(timer, after);
                }
            }
            Action::StopTimer(timer) => {
                if let Some(handover) = &mut self.handover {
                    handover.stop_timer(timer);
                }
            }
            Action::Park { claimed } => {
                self.shared.set_gates_of(&claimed, true, State::Shut);
                self.hand_over(incumbent::Event::Parked);
            }
            Action::Unpark | Action::ReopenGates => self.shared.set_gates(State::Open),
            Action::CloseGates { claimed } => {
                self.shared.set_gates_of(&claimed, false, State::Shut);
            }
            Action::EndSuccessor => {
                self.ending = true;
                if let Some(handover) = &mut self.handover {
                    handover.end();
                }
            }
            Action::KillSuccessor => {
                self.ending = false;
                if let Some(handover) = &self.handover {
                    handover.kill();
                }
            }
            Action::BeginDrain => self.begin_drain(false),
            Action::BeginStop => self.begin_drain(true),
            Action::ShortenDeadline(deadline) => self.shorten(deadline),
            Action::AbortDrain => self.abort("a second stop"),
            Action::RunOnActive => self.run_on_active(),
            Action::Report(outcome) => self.report(outcome),
            Action::Refuse(refusal) => self.answer(Error::refused(refusal)),
        }
    }

    // As a successor.

    fn tell_predecessor(&self, message: &ToIncumbent) {
        tracing::debug!(?message, "to the predecessor");
        match (encode(message), &self.predecessor) {
            (Ok(record), Some(peer)) => peer.send(record, Vec::new()),
            (Err(error), _) => tracing::error!(%error, "a message to the predecessor is too long"),
            (_, None) => {}
        }
    }

    fn open_gates(&mut self) {
        self.shared.set_gates(State::Open);
        self.shared.set_phase(Phase::Serving);
        for warning in self.shared.store.apply_options() {
            tracing::warn!("{warning}");
        }
        tracing::info!(
            phase = %Phase::Serving,
            generation = self.shared.generation,
            pid = std::process::id(),
            endpoints = self.shared.endpoints(),
            "serving"
        );
    }

    fn become_owner(&mut self) {
        self.owner = true;
        if self.drain.as_ref().is_some_and(|drain| drain.is_stop) {
            self.remove_paths();
        }
    }

    fn restore_stderr(&mut self) {
        let Some(stderr) = self
            .offered
            .as_mut()
            .and_then(|offered| offered.stderr.take())
        else {
            return;
        };
        if let Err(error) = stdio::restore_stderr(&stderr) {
            tracing::warn!(%error, "standard error cannot be restored");
        }
    }

    fn join_process_group(&self) {
        let group = self
            .offered
            .as_ref()
            .and_then(|offered| offered.offer.process_group);
        if let Some(Err(error)) = group.map(process::join_group) {
            tracing::debug!(%error, "the predecessor's process group has gone");
        }
    }

    /// From here on the predecessor is one of the older generations.
    fn watch_predecessor(&mut self) {
        let (Some(offered), Some(peer)) = (&mut self.offered, &self.predecessor) else {
            return;
        };
        let generation = offered.offer.generation.saturating_sub(1);
        if self.older.iter().any(|old| old.generation == generation) {
            return;
        }
        let Ok(channel) = peer.channel().as_fd().try_clone_to_owned() else {
            return;
        };
        let limit = |ms: Option<u64>| Duration::from_millis(ms.unwrap_or(0));
        let deadline = process::uptime()
            .saturating_add(limit(offered.offer.drain_timeout_ms))
            .saturating_add(limit(offered.offer.kill_grace_ms));
        let old = Old {
            generation,
            pid: offered.offer.pid.cast_unsigned(),
            deadline,
            channel: Arc::new(channel),
            pidfd: offered.incumbent.take().map(Arc::new),
        };
        old.watch(self.shared.queue.clone());
        self.older.push(old);
        self.limit_older();
    }

    /// With more old generations than may drain, the oldest end now.
    fn limit_older(&mut self) {
        let excess = self
            .older
            .len()
            .saturating_sub(self.shared.options.max_draining.max(1));
        let (now, grace) = (process::uptime(), self.shared.options.kill_grace);
        for old in self.older.iter_mut().take(excess) {
            tracing::warn!(
                generation = old.generation,
                pid = old.pid,
                "too many old generations drain: the oldest is ended"
            );
            shorten(old, now, grace, &self.shared);
        }
    }

    // As an incumbent.

    fn spawn(&mut self) {
        self.handovers += 1;
        self.waiting = self.asking.take();
        self.late.clear();
        tracing::info!(
            generation = self.shared.generation,
            pid = std::process::id(),
            "handover begins"
        );
        let program = self.shared.options.program.resolve(&self.origin.start);
        let queue = self.shared.queue.clone();
        self.handover = Some(Handover::start(
            self.handovers,
            program,
            self.origin.blocked,
            queue,
        ));
    }

    fn send_offer(&mut self) {
        let mut descriptors = Vec::new();
        let mut roles = Vec::new();
        let mut lend = |role, fd: io::Result<OwnedFd>| match fd {
            Ok(fd) => {
                roles.push(role);
                descriptors.push(Lent::Other(Arc::new(fd)));
            }
            Err(error) => tracing::debug!(?role, %error, "nothing to lend"),
        };
        lend(Role::IncumbentPidfd, pidfd::open(std::process::id()));
        lend(Role::Stdin, stdio::copy_stdin());
        lend(Role::Stderr, stdio::copy_stderr());
        if let Some(pipe) = self.handover.as_ref().and_then(Handover::pipe) {
            roles.push(Role::StderrPipe);
            descriptors.push(pipe);
        }
        let mut older = Vec::new();
        for old in &self.older {
            if let Some(pidfd) = &old.pidfd {
                older.push(old.describe());
                roles.extend([Role::OlderChannel, Role::OlderPidfd]);
                descriptors.push(Lent::Other(Arc::clone(&old.channel)));
                descriptors.push(Lent::Other(Arc::clone(pidfd)));
            }
        }
        let options = &self.shared.options;
        let millis = |time: Duration| u64::try_from(time.as_millis()).ok();
        let entries = self.shared.store.offer();
        let offer = Offer {
            versions: Versions::OURS,
            capabilities: Capabilities::ours(),
            generation: self.shared.generation.saturating_add(1),
            pid: std::process::id().cast_signed(),
            process_group: Some(process::group()),
            sockets: u32::try_from(entries.len()).unwrap_or(u32::MAX),
            mask: self
                .origin
                .mask
                .iter()
                .map(|signal| signal as i32)
                .collect(),
            drain_timeout_ms: millis(options.drain_timeout),
            kill_grace_ms: millis(options.kill_grace),
            probation_ms: 0,
            older,
            descriptors: roles,
        };
        self.send_to_successor(&ToSuccessor::Offer(offer), descriptors);
        self.send_sockets(entries);
    }

    fn send_sockets(&self, entries: Vec<(Description, Arc<Socket>)>) {
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let mut sockets = Sockets {
                entries: Vec::new(),
                descriptors: 0,
            };
            let mut lent = Vec::new();
            let mut room = RECORD_BUDGET;
            while let Some((description, _)) = entries.peek() {
                let count = description.descriptors();
                let size = serde_json::to_vec(description).map_or(RECORD_BUDGET, |json| json.len());
                let full = sockets.descriptors as usize + count > MAX_DESCRIPTORS || size > room;
                if full && !lent.is_empty() {
                    break;
                }
                let Some((description, socket)) = entries.next() else {
                    break;
                };
                room = room.saturating_sub(size);
                sockets.descriptors += u32::try_from(count).unwrap_or(2);
                sockets.entries.push(description);
                lent.push(Lent::Socket(socket));
            }
            self.send_to_successor(&ToSuccessor::Sockets(sockets), lent);
        }
    }

    fn tell_successor(&self, message: &ToSuccessor) {
        self.send_to_successor(message, Vec::new());
    }

    fn send_to_successor(&self, message: &ToSuccessor, descriptors: Vec<Lent>) {
        tracing::debug!(?message, "to the successor");
        match (
            encode(message),
            self.handover.as_ref().and_then(Handover::peer),
        ) {
            (Ok(record), Some(peer)) => peer.send(record, descriptors),
            (Err(error), _) => tracing::error!(%error, "a message to the successor is too long"),
            (_, None) => {}
        }
    }

    fn run_on_active(&self) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            shared.components.active(shared.options.hook_timeout).await;
            if let Some(Err(error)) = pid_file(&shared).map(|file| file.write()) {
                tracing::error!(%error, "no pid file");
            }
            tracing::info!(
                generation = shared.generation,
                pid = std::process::id(),
                "active: the predecessor has let go"
            );
        });
    }

    /// Answers whoever asked, when the handover has ended well or badly.
    fn report(&mut self, outcome: Outcome) {
        let Some(handover) = &self.handover else {
            return;
        };
        let (generation, since) = (self.shared.generation, handover.since);
        let elapsed = since.elapsed();
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let answer = match outcome {
            Outcome::Committed { pid } => {
                tracing::info!(
                    generation = generation + 1,
                    pid,
                    elapsed_ms,
                    "handover committed: the successor serves"
                );
                let generation = generation + 1;
                Ok(Taken {
                    pid: pid.cast_unsigned(),
                    generation,
                    elapsed,
                })
            }
            Outcome::Failed(failure) => {
                let lines = handover.last_lines();
                tracing::error!(
                    generation,
                    stage = %failure.stage,
                    component = failure.component,
                    exit = failure.ended,
                    elapsed_ms,
                    stderr = lines.join("\n"),
                    "handover failed, this generation serves on: {failure}"
                );
                self.assert_pid_file();
                Err(Error::handover(failure, lines))
            }
            Outcome::Aborted(abort) => {
                tracing::warn!(generation, elapsed_ms, "handover called off: {abort}");
                Err(Error::aborted(abort))
            }
        };
        if let Some(reply) = self.waiting.take().and_then(|asker| asker.reply) {
            // Whoever asked may have gone.
            reply.send(answer).ok();
        }
    }

    /// Answers a trigger that is not accepted.
    fn answer(&mut self, error: Error) {
        tracing::warn!(generation = self.shared.generation, "{error}");
        if let Some(reply) = self.asking.take().and_then(|asker| asker.reply) {
            reply.send(Err(error)).ok();
        }
    }

    fn assert_pid_file(&self) {
        if let Some(Err(error)) = pid_file(&self.shared).map(|file| file.assert()) {
            tracing::error!(%error, "no pid file");
        }
    }

    // The end.

    /// Starts the drain: for good if a successor serves, as a stop if nobody will.
    fn begin_drain(&mut self, is_stop: bool) {
        if self.drain.is_some() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let timeout = match is_stop {
            true => shared.options.stop_timeout(),
            false => shared.options.drain_timeout,
        };
        let drain = Drain::new(is_stop, timeout, shared.queue.clone());
        let deadline = drain.deadline;
        self.drain = Some(drain);
        shared.set_phase(Phase::Draining);
        if is_stop {
            if self.owner {
                self.remove_paths();
            }
            shared.set_gates(State::Emptying);
            let at = process::uptime().saturating_add(timeout);
            for old in &mut self.older {
                shorten(old, at, shared.options.kill_grace, &shared);
            }
        } else {
            shared.set_gates(State::Ended);
        }
        shared.draining.cancel();
        tracing::info!(
            phase = %Phase::Draining,
            generation = shared.generation,
            pid = std::process::id(),
            connections = shared.tracker.open(),
            tasks = ?shared.tasks.names(),
            deadline_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            "draining"
        );
        self.drain_hooks(deadline);
        let (quiet, queue) = (Arc::clone(&self.quiet), shared.queue.clone());
        tokio::spawn(async move {
            while queue.send(Input::Quiet).is_ok() {
                quiet.notified().await;
            }
        });
    }

    /// Ends without having served.
    fn end_now(&mut self) {
        if self.drain.is_some() {
            return;
        }
        let timeout = self.shared.options.hook_timeout;
        let mut drain = Drain::new(true, timeout, self.shared.queue.clone());
        let deadline = drain.deadline;
        // A main that is told of the failure may say what it has to say; one that is told to stop
        // has nothing to wait for.
        drain.begin_abort();
        drain.over = !self.failed;
        self.drain = Some(drain);
        self.shared.set_gates(State::Ended);
        self.shared.draining.cancel();
        for path in self.shared.store.remove_bound_paths() {
            tracing::warn!("{path}");
        }
        tracing::info!(
            generation = self.shared.generation,
            pid = std::process::id(),
            "ending without having served"
        );
        self.drain_hooks(deadline);
    }

    fn drain_hooks(&self, deadline: Instant) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let limit = shared.options.hook_timeout;
            shared.components.drain(limit, deadline).await;
            shared.send(Input::HooksDrained);
        });
    }

    fn shorten(&mut self, deadline: Deadline) {
        let left = match deadline {
            Deadline::Stop => self.shared.options.stop_timeout(),
            Deadline::At(ms) => Duration::from_millis(ms).saturating_sub(process::uptime()),
        };
        if let Some(drain) = &mut self.drain {
            drain.shorten(Instant::now() + left);
        }
    }

    fn abort(&mut self, why: &str) {
        let Some(drain) = self.drain.as_mut().filter(|drain| !drain.aborted) else {
            return;
        };
        drain.begin_abort();
        self.shared.set_phase(Phase::Aborting);
        let tasks = self.shared.tasks.names();
        self.shared.aborting.cancel();
        let connections = self.shared.tracker.abort();
        drain.cut = connections > 0 || !tasks.is_empty() || self.main.is_none();
        tracing::warn!(
            phase = %Phase::Aborting,
            generation = self.shared.generation,
            pid = std::process::id(),
            connections,
            ?tasks,
            "{why}: what is left is cut"
        );
    }

    fn report_drain(&self) {
        let Some(drain) = self.drain.as_ref().filter(|drain| !drain.aborted) else {
            return;
        };
        drain.tick();
        tracing::info!(
            phase = %Phase::Draining,
            generation = self.shared.generation,
            connections = self.shared.tracker.open(),
            oldest_ms = self.shared.tracker.oldest().map(|age| age.as_millis()),
            tasks = ?self.shared.tasks.names(),
            left_ms = drain.deadline.saturating_duration_since(Instant::now()).as_millis(),
            "draining"
        );
    }

    fn report_overdue(&self) {
        let waiting = self.shared.waiting();
        if self.shared.phase() == Phase::Initialising && !waiting.is_empty() {
            tracing::warn!(
                endpoints = ?waiting,
                "listeners wait for connections, but `ready()` has not been called: nothing is \
                 accepted before"
            );
        }
    }

    fn remove_paths(&self) {
        for warning in self.shared.store.remove_paths() {
            tracing::warn!("{warning}");
        }
    }

    /// Whether nothing is left; drops main where that is all that is left.
    fn has_ended(&mut self) -> bool {
        let Some(drain) = &self.drain else {
            return false;
        };
        let main_ended = self.main.is_some();
        if drain.over && !main_ended {
            self.end_main.cancel();
        }
        if self.ending || !main_ended && !drain.hooks_drained {
            return false;
        }
        let quiet = self.shared.tracker.open() == 0 && self.shared.tasks.is_empty();
        if quiet && !main_ended && self.shared.tracker.is_resting() {
            self.end_main.cancel();
        }
        main_ended && (drain.over || quiet) && drain.hooks_drained
    }

    fn finish(mut self) -> End {
        let drain = self.drain.take();
        let cut = drain.as_ref().is_some_and(|drain| drain.cut);
        if self.owner && drain.as_ref().is_some_and(|drain| drain.is_stop) {
            if let Some(Err(error)) = pid_file(&self.shared).map(|file| file.remove()) {
                tracing::warn!(%error, "the pid file cannot be removed");
            }
        }
        tracing::info!(
            generation = self.shared.generation,
            pid = std::process::id(),
            elapsed_ms = drain.map(|drain| drain.since.elapsed().as_millis()),
            "ended"
        );
        End {
            cut,
            failed: self.failed,
        }
    }

    fn later(&self, after: Duration, input: Input) {
        let queue = self.shared.queue.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            queue.send(input).ok();
        });
    }
}

fn shorten(old: &mut Old, deadline: Duration, grace: Duration, shared: &Shared) {
    match old.shorten(deadline, grace) {
        Ok(()) => old.watch(shared.queue.clone()),
        Err(error) => tracing::debug!(
            generation = old.generation,
            %error,
            "an old generation cannot be asked to end earlier"
        ),
    }
}

fn pid_file(shared: &Shared) -> Option<PidFile> {
    let path = shared.options.pid_file.clone()?;
    Some(PidFile::new(path, std::process::id()))
}

/// When a service that accepts and is not ready has probably forgotten to say so.
const READY_OVERDUE: Duration = Duration::from_secs(10);
/// Bytes of descriptions in one record; the rest of [`MAX_RECORD`](crate::protocol::MAX_RECORD) is
/// for what surrounds them.
const RECORD_BUDGET: usize = 96 * 1024;
