//! The lifecycle task: takes every input in turn, and is the only one that acts on them.

mod ending;
mod incumbent;
mod lame_duck;
mod lane;
mod successor;
mod telling;

use std::collections::VecDeque;
use std::future;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::lame_duck::LameDuck;
use self::lane::{Lanes, Sending};
use super::assisted::Finishing;
use super::drain::Drain;
use super::handover::Handover;
use super::input::{Input, MainEnd, Reply};
use super::old::Old;
use super::peer::Peer;
use super::program::Changes;
use super::shared::Shared;
use super::standby::Standby;
use super::start::{Inheritance, Offered};
use crate::lifecycle::event::What;
use crate::lifecycle::own;
use crate::lifecycle::phase::Phase;
use crate::lifecycle::token::Token;
use crate::protocol::{self, ALL_OFFERED, Abort, Failed, Incumbent, Stage, Successor};
use crate::socket::Mark;
use crate::sys::inherited::Start;
use crate::sys::log;
use crate::sys::process;

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

/// How the lifecycle task has ended.
#[derive(Debug)]
pub(crate) enum Course {
    Over(End),
    /// Nothing but main is left: where main runs, the end of both costs no way between threads.
    AwaitsMain(Rest),
}

/// The lifecycle task, when nothing but main is left.
#[derive(Debug)]
pub(crate) struct Rest {
    engine: Box<Engine>,
    inputs: mpsc::UnboundedReceiver<Input>,
}

impl Rest {
    /// Runs until this generation has ended.
    pub(crate) async fn run(self) -> End {
        let Self {
            mut engine,
            mut inputs,
        } = self;
        while let Some(input) = inputs.recv().await {
            engine.step(input).await;
            if engine.has_ended() {
                break;
            }
        }
        engine.flush().await;
        engine.finish()
    }
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
    /// What is forwarded in the place of generations that have ended, as long as it is.
    stderr_pipes: Vec<Weak<OwnedFd>>,
    standby: Option<Standby>,
    /// Reached when that one reads nothing any more.
    stood_by: Option<Token>,
    /// Whether the predecessor has said that it, and whoever came before it, has let go.
    released: bool,
    /// Whether the predecessor has died without saying so, and older generations live.
    unreleased: bool,

    handover: Option<Handover>,
    handovers: u64,
    /// Whether a successor's program is being started, which may yet need an end.
    spawning: bool,
    /// Whether a successor is being ended, which this generation has to outlive.
    ending: bool,
    /// What came after it was not in the Offer that this generation made.
    offered_until: Mark,
    /// What came after it was not in the Offer that this generation had.
    inherited_until: Mark,
    /// Endpoints whose listener was dropped while a handover was under way.
    abandoned: Vec<Arc<str>>,
    /// Endpoints that the successor has claimed.
    claimed: Vec<String>,
    /// Endpoints that were opened since the Offer.
    late: Vec<Arc<str>>,
    /// Whether inherited endpoints that nobody claimed are to be closed, once no successor can
    /// want them.
    close_unclaimed: bool,
    /// Who asks, while a trigger is looked at or kept for later.
    asking: Option<Asker>,
    /// Who waits for the handover under way.
    waiting: Option<Asker>,

    /// Whether the successor is told to stop, too.
    stops_both: bool,
    sending: Sending,
    /// When the older generations were told last what this one takes.
    granted: Option<Instant>,
    /// Whether this generation, or its successor, is the one that reads what older ones send.
    lanes: Lanes,

    /// What the machine asked for before there was a runtime.
    unperformed: Vec<protocol::successor::Action>,

    /// The task that runs `on_active` and writes the pid file.
    active: Option<JoinHandle<()>>,
    /// What older generations have told and this one has not heard, record by record.
    unheard: VecDeque<Vec<u8>>,
    /// Tells the successor what happens.
    telling: Option<Finishing>,
    /// Whether Unix paths and the pid file are this generation's to remove.
    owner: bool,
    lame_duck: LameDuck,
    /// Whether this generation stops and the predecessor has yet to tell, by its drain or by its
    /// end, whether the older generations are this one's to end.
    undecided: bool,
    drain: Option<Drain>,
    main: Option<MainEnd>,
    failed: bool,
}

/// Who asked for a handover.
#[derive(Debug)]
struct Asker {
    id: u64,
    reply: Option<Reply>,
    changes: Option<Box<Changes>>,
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
            stderr_pipes: Vec::new(),
            standby: None,
            stood_by: None,
            released: false,
            unreleased: false,
            handover: None,
            handovers: 0,
            spawning: false,
            ending: false,
            stops_both: false,
            sending: Sending::default(),
            granted: None,
            lanes: Lanes::default(),
            unperformed: Vec::new(),
            offered_until: Mark::default(),
            inherited_until: Mark::default(),
            abandoned: Vec::new(),
            claimed: Vec::new(),
            late: Vec::new(),
            close_unclaimed: false,
            asking: None,
            waiting: None,
            active: None,
            unheard: VecDeque::new(),
            telling: None,
            lame_duck: LameDuck::Not,
            undecided: false,
            drain: None,
            main: None,
            failed: false,
        };
        let Some(Inheritance {
            channel,
            mut offer,
            until,
            orphaned,
            machine,
            unperformed,
        }) = inheritance
        else {
            return Ok(engine);
        };
        engine.successor = machine;
        engine.inherited_until = until;
        engine.unperformed = unperformed;
        if !orphaned {
            let queue = engine.shared.queue.clone();
            let tell = move |from| {
                queue.send(Input::Predecessor(from)).ok();
            };
            let failed = |error| log::debug!(%error, "the predecessor does not listen");
            let peer = Peer::new(channel, failed)?;
            engine.shared.listen_to(peer.link());
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
            engine.show_older();
        }
        engine.offered = offer;
        if orphaned {
            engine.predecessor_gone();
            engine.shared.tell_of_orphanage();
        } else if Handle::current().runtime_flavor() != RuntimeFlavor::MultiThread {
            // Main comes first there, and may wait.
            engine.stand_by();
        }
        Ok(engine)
    }

    /// Runs until this generation has ended, or until nothing but main is left.
    pub(crate) async fn run(mut self, mut inputs: mpsc::UnboundedReceiver<Input>) -> Course {
        self.perform_rest();
        self.later(READY_OVERDUE, Input::ReadyOverdue);
        let mut next = inputs.try_recv().ok();
        // A main that has next to nothing to do is ready by now, and its word goes first.
        let mut is_untold = matches!(next, Some(Input::Ready));
        if !is_untold {
            self.stand_by();
            self.tell_of_the_start();
        }
        while let Some(input) = match next.take() {
            None => self.next(&mut inputs).await,
            next => next,
        } {
            self.step(input).await;
            if std::mem::take(&mut is_untold) {
                // Nearly all have settled by then.
                self.later(MOMENT, Input::Unsettled);
                self.tell_of_the_start();
            }
            if self.has_ended() {
                break;
            }
            if self.awaits_main_only() {
                return Course::AwaitsMain(Rest {
                    engine: Box::new(self),
                    inputs,
                });
            }
        }
        // Whoever waits for an input to be taken has waited long enough, and may be one of those whose
        // last answers are waited for.
        drop(inputs);
        self.flush().await;
        Course::Over(self.finish())
    }

    /// The next input; what can wait is done when there was none for a moment.
    async fn next(&mut self, inputs: &mut mpsc::UnboundedReceiver<Input>) -> Option<Input> {
        if !self.unheard.is_empty() {
            if let Ok(input) = tokio::time::timeout(MOMENT, inputs.recv()).await {
                return input;
            }
        }
        loop {
            match inputs.try_recv() {
                Err(TryRecvError::Empty) if !self.unheard.is_empty() => {
                    self.guarded(Self::hear_some);
                    tokio::task::yield_now().await;
                }
                Err(_) => return inputs.recv().await,
                Ok(input) => return Some(input),
            }
        }
    }

    async fn step(&mut self, input: Input) {
        log::trace!(?input, "input");
        let may_wait = match input {
            Input::Departing => !self.shared.lane.is_complete(),
            // The first word is waited for.
            Input::Consenting => self.granted.is_some(),
            _ => false,
        };
        if may_wait {
            // What others have to say at the same time goes into the same record.
            tokio::task::yield_now().await;
        }
        self.guarded(|engine| engine.take(input));
        if !self.unperformed.is_empty() {
            // By now it is the task that goes on, and not the thread that has got its answer.
            let mut asked = false;
            future::poll_fn(|cx| match std::mem::replace(&mut asked, true) {
                true => Poll::Ready(()),
                false => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            })
            .await;
            self.guarded(Self::perform_rest);
        }
    }

    fn perform_rest(&mut self) {
        for action in std::mem::take(&mut self.unperformed) {
            self.perform_as_successor(action);
        }
    }

    /// An error of this library must not take the service down, nor its way to end.
    fn guarded(&mut self, act: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| act(self))).is_err() {
            log::error!(
                generation = self.shared.generation,
                pid = std::process::id(),
                "the lifecycle task has panicked, and goes on"
            );
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Signal(signal) => self.signal(signal),
            Input::Trigger {
                asker,
                reply,
                changes,
            } => self.trigger(asker, reply, changes),
            Input::AskerGone { asker } => {
                let mut askers = self.waiting.iter().chain(&self.asking);
                if askers.any(|waiting| waiting.id == asker) {
                    self.succeed(protocol::successor::Event::CallOff(Abort::AskerGone));
                }
            }
            Input::CallOff { reply } => {
                if self.successor.is_settled() {
                    self.succeed(protocol::successor::Event::CallOff(Abort::CalledOff));
                }
                // Whoever asked may have gone.
                reply.send(self.incumbent.is_called_off()).ok();
            }
            Input::Stop { by } => self.stop(by),
            Input::Abort { by } => self.cut_short(by),
            Input::Ready => {
                let elapsed_ms = self.shared.set_phase(Phase::Ready);
                log::info!(
                    phase = %Phase::Ready,
                    generation = self.shared.generation,
                    pid = std::process::id(),
                    elapsed_ms,
                    "ready"
                );
                let (all, mut claimed) = self.shared.store.claimed_keys(self.inherited_until);
                if all {
                    claimed.push(ALL_OFFERED.to_owned());
                }
                self.succeed(protocol::successor::Event::Ready { claimed });
                // What waits for it has been sent.
                self.note(What::Ready {});
            }
            Input::NotReady => {
                let failed = self.init_failure("an on_ready failed".to_owned());
                self.succeed(protocol::successor::Event::Failed(failed));
            }
            Input::MainEnded(end) => self.main_ended(end),
            Input::Opened { key } => self.opened(key),
            Input::Abandoned { key } => self.abandoned(key),
            // Whoever asked may no longer wait.
            Input::Mark(reached) => drop(reached.send(())),
            Input::Predecessor(from) => self.heard_from_predecessor(from),
            Input::OlderGone { generation } => {
                self.older_ended(generation);
                self.older_gone();
            }
            Input::Spawned { handover, result } => self.spawned(handover, result),
            Input::Successor { handover, from } => {
                if self.is_current(handover) {
                    self.heard_from_successor(from);
                }
            }
            Input::SuccessorEnded { handover, how } => {
                if self.is_current(handover) {
                    self.ending = false;
                    self.hand_over(protocol::incumbent::Event::SuccessorEnded { how });
                    self.forget_handover();
                }
            }
            Input::Elapsed { handover, timer } => {
                if self.is_current(handover) {
                    self.hand_over(protocol::incumbent::Event::Elapsed(timer));
                }
            }
            Input::Unclaimed => {
                // A generation that ends closes everything in its own way.
                if self.drain.is_none() {
                    self.close_unclaimed();
                }
            }
            Input::ProbationOver => {
                self.succeed(protocol::successor::Event::Elapsed(
                    protocol::successor::Timer::Probation,
                ));
            }
            Input::Departing => self.send_connections(),
            Input::Consenting => self.heed_consents(),
            Input::Unsent { batch } => self.unsent(batch),
            Input::LaneOverdue { epoch } => self.shared.lane.decide(epoch),
            Input::Older { generation, record } => self.heard_from_older(generation, record),
            Input::LaneOver { generation } => self.forget_lane(generation),
            Input::LanesGivenUp => self.tell_successor(&protocol::ToSuccessor::Lanes {}),
            Input::HooksDrained => self.hooks_drained(),
            Input::Quiet => {}
            Input::LameDuckOver => self.end_lame_duck(),
            Input::LastLook => {
                let due = |drain: &Drain| drain.last_look() <= Instant::now();
                if self.drain.as_ref().is_some_and(due) {
                    self.shared.tokens.closing.cancel();
                }
            }
            Input::Deadline => {
                if self
                    .drain
                    .as_ref()
                    .is_some_and(|drain| drain.deadline <= Instant::now())
                {
                    self.abort(ending::DEADLINE);
                }
            }
            Input::MainOver => {
                if let Some(drain) = &mut self.drain {
                    drain.drop_main = true;
                }
            }
            Input::AbortOver => {
                if let Some(drain) = &mut self.drain {
                    drain.drop_main = true;
                    drain.over = true;
                }
                // A hook that blocks its thread has met its limit, too.
                self.hooks_drained();
            }
            // Whoever has not settled the handover by now ends this generation, and serves.
            Input::Undecided => self.undecided = false,
            Input::DrainTick => self.report_drain(),
            Input::ReadyOverdue => self.report_overdue(),
            Input::Unsettled => self.stand_by(),
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
            log::debug!(%signal, "trigger");
            self.trigger(0, None, None);
        }
    }

    fn trigger(&mut self, id: u64, reply: Option<Reply>, changes: Option<Box<Changes>>) {
        let asker = Asker { id, reply, changes };
        self.ask(Some(asker), protocol::successor::Event::Trigger);
    }

    /// Takes a trigger. The machine keeps one until the predecessor drains; whoever asked for that
    /// one goes on waiting while others are answered.
    fn ask(&mut self, asker: Option<Asker>, event: protocol::successor::Event<'_>) {
        let kept = std::mem::replace(&mut self.asking, asker);
        self.succeed(event);
        if self.asking.is_none() {
            self.asking = kept;
        }
    }

    fn stop(&mut self, by: &str) {
        log::info!(
            generation = self.shared.generation,
            pid = std::process::id(),
            by,
            "stop"
        );
        self.note(What::Stop { by: by.to_owned() });
        // The machine has counted the one that ended the lame-duck time, and is done counting.
        let hurried = self.lame_duck == LameDuck::Hurried;
        self.succeed(protocol::successor::Event::Stop);
        if hurried {
            self.abort("another stop");
        }
    }

    fn main_ended(&mut self, end: MainEnd) {
        self.main = Some(end.clone());
        self.show_ending();
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
            self.succeed(protocol::successor::Event::Failed(failed));
            return;
        }
        if !success {
            log::error!(generation = self.shared.generation, "{how} while it serves");
        }
        if self.lame_duck == LameDuck::Lasts {
            return self.end_lame_duck();
        }
        if !success && !self.successor.is_settled() {
            let failed = Failed::new(Stage::Probation, None, &how);
            self.succeed(protocol::successor::Event::Failed(failed));
        } else {
            self.stop("the end of main");
        }
    }

    /// The failure that this library saw, or else what main's end says.
    fn init_failure(&self, otherwise: String) -> Failed {
        self.shared
            .take_noted()
            .unwrap_or_else(|| Failed::new(Stage::Init, None, &otherwise))
    }

    fn is_current(&self, number: u64) -> bool {
        self.handover
            .as_ref()
            .is_some_and(|handover| handover.number == number)
    }

    fn succeed(&mut self, event: protocol::successor::Event<'_>) {
        let mut actions = self.successor.on(event).into_iter();
        while let Some(action) = actions.next() {
            let answers = matches!(action, protocol::successor::Action::ResolveReady(Ok(())));
            self.perform_as_successor(action);
            if answers && self.shared.hastened.load(Ordering::SeqCst) {
                self.unperformed.extend(actions);
                return;
            }
        }
    }

    fn hand_over(&mut self, event: protocol::incumbent::Event<'_>) {
        for action in self.incumbent.on(event) {
            self.perform_as_incumbent(action);
        }
    }

    /// Records something for those who watch.
    fn note(&self, what: What) {
        self.shared.record.note(what);
    }

    fn later(&self, after: Duration, input: Input) {
        let queue = self.shared.queue.clone();
        own::spawn(async move {
            tokio::time::sleep(after).await;
            queue.send(input).ok();
        });
    }
}

/// When a service that accepts and is not ready has probably forgotten to say so.
const READY_OVERDUE: Duration = Duration::from_secs(10);
/// How long nothing has to happen until what can wait is done.
const MOMENT: Duration = Duration::from_millis(5);
