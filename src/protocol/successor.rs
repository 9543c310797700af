//! The side that takes over.

use thiserror::Error;

use super::failure::{Refusal, Stage};
use super::incumbent;
use super::message::{Failed, ToIncumbent, ToSuccessor};
use super::offer::Offer;
use super::version::{Capabilities, Versions};

/// The state machine of a generation from its start until its predecessor is gone.
///
/// Every trigger and every stop of the process goes here first; what belongs to the next handover comes back as
/// [`Action::PassOn`] for the [`Incumbent`](super::Incumbent) of the same process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Successor {
    phase: Phase,
    pid: i32,
    predecessor: Predecessor,
    /// Whether the offer asks for a probation.
    probation: bool,
    /// How many stops this process has received.
    stops: u8,
}

/// What happens to a successor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// `ready()` was called and every `on_ready` has passed; only the first counts.
    Ready {
        /// The keys of the endpoints that it will serve.
        claimed: Vec<String>,
    },
    /// A socket does not verify, a hook failed, main returned an error or panicked, or main returned before `ready()`.
    Failed(Failed),
    /// The predecessor said something. The descriptors of `Offer` and `Sockets` are owned and verified by then.
    Received(&'a ToSuccessor),
    /// The predecessor sent what is not a message, or descriptors that do not fit it.
    Garbage {
        /// What is wrong with it.
        reason: String,
    },
    /// The predecessor died. Delivered only after everything that it said before.
    PredecessorGone,
    /// A handover is asked for.
    Trigger,
    /// The program ends its probation.
    Settle,
    /// The future that asked for a handover was dropped.
    AskerGone,
    /// A stop was received by this process, or main returned without an error while it serves.
    Stop,
    /// The probation is over.
    Elapsed(Timer),
}

/// What a successor has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send a message.
    Send(ToIncumbent),
    /// Run main: the offer is complete, or nobody is left to complete it.
    RunMain,
    /// Start a timer; answered by `Elapsed` unless it is stopped.
    StartTimer(Timer),
    /// Stop a timer.
    StopTimer(Timer),
    /// Open the gates of what is claimed.
    OpenGates,
    /// Resolve `ready()`, also where it is called later.
    ResolveReady(Result<(), NotServing>),
    /// The Unix paths belong to this generation: remove them on a final stop.
    BecomeOwner,
    /// Put the real standard error back.
    RestoreStderr,
    /// Join the predecessor's process group.
    JoinProcessGroup,
    /// Kill the predecessor a grace period after its drain deadline.
    WatchPredecessor,
    /// Report and close inherited sockets that were not claimed.
    CloseUnclaimed,
    /// Stop before having served: drop main, drain the components that are initialised, end.
    EndNow,
    /// Stop having served: close all gates for good, drain, run `on_drain`, end; unlink paths if they are ours.
    BeginStop,
    /// End the drain now.
    AbortDrain,
    /// Give an event to the `Incumbent` of this process.
    PassOn(incumbent::Event<'static>),
    /// Answer a trigger that is not accepted.
    Refuse(Refusal),
}

/// The limits that a successor watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Timer {
    /// From `Serving` to `Settled`: `Offer::probation_ms`.
    Probation,
}

/// Why `ready()` is an error.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Error)]
pub(crate) enum NotServing {
    /// This generation was told to stop.
    #[error("this generation was told to stop before it served")]
    Stopped,
    /// It failed.
    #[error("this generation will not serve: {0}")]
    Failed(String),
}

impl Successor {
    /// Creates the machine of a first generation: main runs at once, and every path that it binds is its own.
    pub(crate) fn first() -> Self {
        Self::new(0, Phase::Initialising, Predecessor::None)
    }

    /// Creates the machine of a generation that has found its channel and awaits the offer; `pid` is its own.
    pub(crate) fn offered(pid: i32) -> Self {
        Self::new(pid, Phase::Awaiting, Predecessor::Alive)
    }

    /// Takes an event and returns what to do, in this order.
    pub(crate) fn on(&mut self, event: Event<'_>) -> Vec<Action> {
        match event {
            Event::Ready { claimed } => self.ready(claimed),
            Event::Failed(failed) => self.fail(failed),
            Event::Received(message) => self.received(message),
            Event::Garbage { reason } => self.garbage(reason),
            Event::PredecessorGone => self.predecessor_gone(),
            Event::Trigger => self.trigger(),
            Event::AskerGone if self.is_settled() => {
                vec![Action::PassOn(incumbent::Event::AskerGone)]
            }
            Event::AskerGone => Vec::new(),
            Event::Stop => self.stop(),
            Event::Settle | Event::Elapsed(Timer::Probation) => self.settle(),
        }
    }

    /// Returns whether the predecessor is no longer needed: the next handover may begin.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Settled | Phase::Active)
    }

    fn new(pid: i32, phase: Phase, predecessor: Predecessor) -> Self {
        Self {
            phase,
            pid,
            predecessor,
            probation: false,
            stops: 0,
        }
    }

    fn ready(&mut self, claimed: Vec<String>) -> Vec<Action> {
        match (self.phase, self.predecessor) {
            (Phase::Initialising, Predecessor::Alive) => {
                self.phase = Phase::AwaitingCommit;
                ToIncumbent::ready(claimed).map(Action::Send).collect()
            }
            (Phase::Initialising, _) => self.serve_alone(),
            _ => Vec::new(),
        }
    }

    fn fail(&mut self, failed: Failed) -> Vec<Action> {
        match self.phase {
            Phase::Awaiting
            | Phase::Adopting { .. }
            | Phase::Initialising
            | Phase::AwaitingCommit => {
                let reason = NotServing::Failed(failed.error.clone());
                self.end(ToIncumbent::Failed(failed), reason)
            }
            Phase::Probation => self.give_up(ToIncumbent::Failed(failed)),
            Phase::Settled | Phase::Active | Phase::Ended | Phase::Stopping => Vec::new(),
        }
    }

    fn received(&mut self, message: &ToSuccessor) -> Vec<Action> {
        match (self.phase, message) {
            (_, ToSuccessor::Unknown) => Vec::new(),
            #[cfg(handover_protocol = "newer")]
            (_, ToSuccessor::Novelty {}) => Vec::new(),
            (Phase::Ended | Phase::Stopping, _) => Vec::new(),

            (Phase::Awaiting, ToSuccessor::Offer(offer)) => self.offer(offer),
            (Phase::Adopting { missing }, ToSuccessor::Sockets(sockets)) => {
                let mut actions = vec![Action::Send(ToIncumbent::Taken {
                    descriptors: sockets.descriptors,
                })];
                actions.extend(self.adopt(missing.saturating_sub(sockets.entries.len())));
                actions
            }
            (
                Phase::Initialising
                | Phase::AwaitingCommit
                | Phase::Probation
                | Phase::Settled
                | Phase::Active,
                ToSuccessor::Sockets(sockets),
            ) => vec![Action::Send(ToIncumbent::Taken {
                descriptors: sockets.descriptors,
            })],

            (Phase::AwaitingCommit, ToSuccessor::Commit {}) => self.serve(),

            (
                Phase::Probation | Phase::Settled | Phase::Active,
                ToSuccessor::Settle { hand_over },
            ) => {
                let mut actions = self.settle();
                if *hand_over {
                    actions.push(Action::PassOn(incumbent::Event::Trigger));
                }
                actions
            }
            (Phase::Probation | Phase::Settled, ToSuccessor::Released {}) => {
                let mut actions = self.settle();
                self.phase = Phase::Active;
                actions.push(Action::PassOn(incumbent::Event::Released));
                actions
            }
            // The predecessor drains, and leaves the rest of the stop to this generation, paths and all.
            (Phase::Probation | Phase::Settled | Phase::Active, ToSuccessor::Stop {}) => {
                let mut actions = self.settle();
                actions.push(Action::PassOn(incumbent::Event::StopRelayed));
                actions
            }

            (
                Phase::Awaiting
                | Phase::Adopting { .. }
                | Phase::Initialising
                | Phase::AwaitingCommit,
                unexpected,
            ) => self.garbage(format!("unexpected {}", unexpected.name())),
            (Phase::Probation | Phase::Settled | Phase::Active, _) => Vec::new(),
        }
    }

    fn offer(&mut self, offer: &Offer) -> Vec<Action> {
        let version = match Versions::OURS.negotiate(offer.versions) {
            Ok(version) => version,
            Err(disagreement) => {
                return self.fail(Failed::new(Stage::Negotiate, None, &disagreement));
            }
        };
        self.probation = offer.probation_ms > 0;
        let mut actions = vec![
            Action::Send(ToIncumbent::Accepted {
                version,
                capabilities: Capabilities::ours().intersect(&offer.capabilities),
                pid: self.pid,
            }),
            #[cfg(handover_protocol = "newer")]
            Action::Send(ToIncumbent::Novelty {}),
        ];
        actions.extend(self.adopt(offer.sockets as usize));
        actions
    }

    fn adopt(&mut self, missing: usize) -> Vec<Action> {
        if missing > 0 {
            self.phase = Phase::Adopting { missing };
            return Vec::new();
        }
        self.phase = Phase::Initialising;
        vec![Action::RunMain]
    }

    fn garbage(&mut self, reason: String) -> Vec<Action> {
        let stage = match self.phase {
            Phase::Awaiting => Stage::Start,
            Phase::Adopting { .. } => Stage::Adopt,
            Phase::Initialising => Stage::Init,
            Phase::AwaitingCommit => Stage::Commit,
            // This is the generation that serves: nothing that a predecessor says can be a reason to end.
            Phase::Probation | Phase::Settled | Phase::Active | Phase::Ended | Phase::Stopping => {
                return Vec::new();
            }
        };
        self.fail(Failed::new(
            stage,
            None,
            &format_args!("the incumbent sent garbage: {reason}"),
        ))
    }

    fn predecessor_gone(&mut self) -> Vec<Action> {
        if self.predecessor != Predecessor::Alive {
            return Vec::new();
        }
        match self.phase {
            Phase::Awaiting | Phase::Adopting { .. } => {
                self.phase = Phase::Initialising;
                let mut actions = self.take_over(Predecessor::Gone);
                actions.push(Action::RunMain);
                actions
            }
            Phase::Initialising => self.take_over(Predecessor::Gone),
            Phase::AwaitingCommit => {
                let mut actions = self.take_over(Predecessor::Gone);
                actions.extend(self.serve_alone());
                actions
            }
            Phase::Probation => {
                let mut actions = vec![Action::StopTimer(Timer::Probation)];
                actions.extend(self.take_over(Predecessor::Gone));
                actions.extend(self.activate());
                actions
            }
            Phase::Settled => {
                self.predecessor = Predecessor::Gone;
                self.activate()
            }
            Phase::Active => {
                self.predecessor = Predecessor::Gone;
                vec![Action::CloseUnclaimed]
            }
            // What this generation has not served is not its own to remove.
            Phase::Ended => {
                self.predecessor = Predecessor::Gone;
                vec![Action::RestoreStderr]
            }
            Phase::Stopping => self.take_over(Predecessor::Gone),
        }
    }

    fn trigger(&mut self) -> Vec<Action> {
        match self.phase {
            Phase::Awaiting
            | Phase::Adopting { .. }
            | Phase::Initialising
            | Phase::AwaitingCommit => {
                vec![Action::Refuse(Refusal::NotServing)]
            }
            Phase::Probation | Phase::Settled | Phase::Active => {
                let mut actions = self.settle();
                actions.push(Action::PassOn(incumbent::Event::Trigger));
                actions
            }
            Phase::Ended | Phase::Stopping => vec![Action::Refuse(Refusal::Stopping)],
        }
    }

    fn stop(&mut self) -> Vec<Action> {
        if self.is_settled() {
            return vec![Action::PassOn(incumbent::Event::Stop)];
        }
        self.stops = self.stops.saturating_add(1);
        match self.phase {
            Phase::Ended | Phase::Stopping if self.stops == 2 => vec![Action::AbortDrain],
            Phase::Ended | Phase::Stopping => Vec::new(),
            Phase::Probation => self.give_up(ToIncumbent::Stopping {}),
            _ => self.end(ToIncumbent::Stopping {}, NotServing::Stopped),
        }
    }

    /// Commit: from here `ready()` is never an error.
    fn serve(&mut self) -> Vec<Action> {
        self.phase = Phase::Probation;
        let mut actions = vec![
            Action::OpenGates,
            Action::Send(ToIncumbent::Serving {}),
            Action::ResolveReady(Ok(())),
        ];
        if self.probation {
            actions.push(Action::StartTimer(Timer::Probation));
        } else {
            actions.extend(self.settle());
        }
        actions
    }

    /// There is nobody to ask.
    fn serve_alone(&mut self) -> Vec<Action> {
        let mut actions = vec![Action::OpenGates, Action::ResolveReady(Ok(()))];
        actions.extend(self.activate());
        actions
    }

    fn activate(&mut self) -> Vec<Action> {
        self.phase = Phase::Active;
        let unclaimed = (self.predecessor == Predecessor::Gone).then_some(Action::CloseUnclaimed);
        unclaimed
            .into_iter()
            .chain([Action::PassOn(incumbent::Event::Released)])
            .collect()
    }

    /// Ends the probation, if there is one.
    fn settle(&mut self) -> Vec<Action> {
        if self.phase != Phase::Probation {
            return Vec::new();
        }
        self.phase = Phase::Settled;
        let timer = self
            .probation
            .then_some(Action::StopTimer(Timer::Probation));
        let mut actions: Vec<_> = timer
            .into_iter()
            .chain([Action::Send(ToIncumbent::Settled {})])
            .collect();
        actions.extend(self.take_over(Predecessor::Alive));
        actions
    }

    /// Takes what belongs to the generation that is responsible.
    fn take_over(&mut self, predecessor: Predecessor) -> Vec<Action> {
        self.predecessor = predecessor;
        let mut actions = vec![
            Action::BecomeOwner,
            Action::RestoreStderr,
            Action::JoinProcessGroup,
        ];
        if predecessor == Predecessor::Alive {
            actions.push(Action::WatchPredecessor);
        }
        actions
    }

    /// Ends without having served.
    fn end(&mut self, message: ToIncumbent, reason: NotServing) -> Vec<Action> {
        self.phase = Phase::Ended;
        let message = (self.predecessor == Predecessor::Alive).then_some(Action::Send(message));
        message
            .into_iter()
            .chain([Action::ResolveReady(Err(reason)), Action::EndNow])
            .collect()
    }

    /// Ends having served, with a predecessor that could still take over again.
    fn give_up(&mut self, message: ToIncumbent) -> Vec<Action> {
        self.phase = Phase::Stopping;
        vec![
            Action::StopTimer(Timer::Probation),
            Action::Send(message),
            Action::BeginStop,
        ]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// No offer has come.
    Awaiting,
    /// The offer is not complete.
    Adopting { missing: usize },
    /// Main runs.
    Initialising,
    /// Ready is sent.
    AwaitingCommit,
    /// It serves, and the predecessor can still take over again.
    Probation,
    /// It serves for good; the predecessor holds what is exclusive.
    Settled,
    /// It alone is responsible.
    Active,
    /// It will never serve.
    Ended,
    /// It has served, did not settle, and stops.
    Stopping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Predecessor {
    None,
    Alive,
    Gone,
}
