//! The machine of the side that takes over.

use super::action::{Action, NotServing};
use super::event::{Event, Timer};
use crate::protocol::failed::Failed;
use crate::protocol::failure::{Refusal, Stage};
use crate::protocol::incumbent;
use crate::protocol::message::{ToIncumbent, ToSuccessor};
use crate::protocol::offer::Offer;
use crate::protocol::sockets::Sockets;
use crate::protocol::version::{Capabilities, Versions};

/// The state machine of a generation from its start until its predecessor is gone.
///
/// Every trigger and every stop of the process goes here first; what belongs to the next handover
/// comes back as [`Action::PassOn`] for the [`Incumbent`](crate::protocol::Incumbent) of the same
/// process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Successor {
    phase: Phase,
    pid: i32,
    predecessor: Predecessor,
    /// Whether the offer asks for a probation.
    probation: bool,
    /// How many stops this process has received before it settled.
    stops: u8,
}

impl Successor {
    /// Creates the machine of a first generation: main runs at once, and every path that it binds
    /// is its own.
    pub(crate) fn first() -> Self {
        Self::new(0, Phase::Initialising, Predecessor::None)
    }

    /// Creates the machine of a generation that has found its channel and awaits the offer; `pid`
    /// is its own.
    pub(crate) fn offered(pid: i32) -> Self {
        Self::new(pid, Phase::Awaiting, Predecessor::Alive)
    }

    /// Takes an event and returns what to do, in this order.
    pub(crate) fn on(&mut self, event: Event<'_>) -> Vec<Action> {
        match event {
            Event::Ready { claimed } => self.ready(claimed),
            Event::Failed(failed) => self.fail(failed),
            Event::Received(message) => self.received(message),
            Event::Garbage { reason } => self.garbage(&reason),
            Event::PredecessorGone => self.predecessor_gone(),
            Event::Trigger => self.trigger(),
            Event::AskerGone => self.asker_gone(),
            Event::Settle | Event::Elapsed(Timer::Probation) => self.settle(false),
            Event::Stop => self.stop(),
        }
    }

    /// Returns whether the predecessor can do nothing to this generation any more: it may hand over
    /// itself.
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
            (Phase::Initialising, Predecessor::None | Predecessor::Gone) => self.serve_alone(),
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
            Phase::Probation | Phase::Settling { .. } => self.give_up(ToIncumbent::Failed(failed)),
            Phase::Settled | Phase::Active | Phase::Ended | Phase::Stopping => Vec::new(),
        }
    }

    fn received(&mut self, message: &ToSuccessor) -> Vec<Action> {
        match (self.phase, message) {
            (_, ToSuccessor::Unknown) => Vec::new(),
            #[cfg(handover_protocol = "newer")]
            (_, ToSuccessor::Novelty {}) => Vec::new(),
            (Phase::Ended, _) => Vec::new(),

            (Phase::Awaiting, ToSuccessor::Offer(offer)) => self.offer(offer),
            (Phase::Adopting { missing }, ToSuccessor::Sockets(sockets)) => {
                let mut actions = vec![taken(sockets)];
                actions.extend(self.adopt(missing.saturating_sub(sockets.entries.len())));
                actions
            }
            (Phase::AwaitingCommit, ToSuccessor::Commit {}) => self.serve(),
            (Phase::Initialising | Phase::AwaitingCommit, ToSuccessor::Sockets(sockets)) => {
                vec![taken(sockets)]
            }
            (
                Phase::Awaiting
                | Phase::Adopting { .. }
                | Phase::Initialising
                | Phase::AwaitingCommit,
                unexpected,
            ) => self.garbage(&format!("unexpected `{}`", unexpected.name())),

            (Phase::Probation | Phase::Settling { .. }, ToSuccessor::Draining {}) => {
                self.settled(None)
            }
            // The predecessor only drains: the rest of the stop, with the paths, is for this
            // generation.
            (Phase::Probation | Phase::Settling { .. }, ToSuccessor::Stop {}) => {
                self.settled(Some(incumbent::Event::StopRelayed))
            }
            (Phase::Settled | Phase::Active, ToSuccessor::Stop {}) => {
                vec![Action::PassOn(incumbent::Event::StopRelayed)]
            }
            (Phase::Stopping, ToSuccessor::Draining {} | ToSuccessor::Stop {}) => self.take_over(),
            (Phase::Settled, ToSuccessor::Released {}) => self.activate(),
            (_, ToSuccessor::HandOver {}) => self.trigger(),
            (_, ToSuccessor::Sockets(sockets)) => vec![taken(sockets)],
            (
                Phase::Probation
                | Phase::Settling { .. }
                | Phase::Settled
                | Phase::Active
                | Phase::Stopping,
                _,
            ) => Vec::new(),
        }
    }

    fn offer(&mut self, offer: &Offer) -> Vec<Action> {
        let version = match Versions::OURS.negotiate(offer.versions) {
            Ok(version) => version,
            Err(error) => return self.fail(Failed::new(Stage::Negotiate, None, &error)),
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

    fn garbage(&mut self, reason: &str) -> Vec<Action> {
        let stage = match self.phase {
            Phase::Awaiting => Stage::Start,
            Phase::Adopting { .. } => Stage::Adopt,
            Phase::Initialising => Stage::Init,
            Phase::AwaitingCommit => Stage::Commit,
            // This generation serves: nothing that a predecessor says can be a reason to end.
            Phase::Probation
            | Phase::Settling { .. }
            | Phase::Settled
            | Phase::Active
            | Phase::Ended
            | Phase::Stopping => return Vec::new(),
        };
        let error = format_args!("the incumbent broke the protocol: {reason}");
        self.fail(Failed::new(stage, None, &error))
    }

    fn predecessor_gone(&mut self) -> Vec<Action> {
        if self.predecessor != Predecessor::Alive {
            return Vec::new();
        }
        self.predecessor = Predecessor::Gone;
        let mut actions = Vec::new();
        match self.phase {
            Phase::Awaiting | Phase::Adopting { .. } => {
                self.phase = Phase::Initialising;
                actions.extend(self.take_over());
                actions.push(Action::RunMain);
            }
            Phase::Initialising | Phase::Stopping => actions.extend(self.take_over()),
            Phase::AwaitingCommit => {
                actions.extend(self.take_over());
                actions.extend(self.serve_alone());
            }
            Phase::Probation | Phase::Settling { .. } => {
                actions.extend(self.settled(None));
                actions.extend(self.activate());
            }
            Phase::Settled => actions.extend(self.activate()),
            Phase::Active => actions.push(Action::CloseUnclaimed),
            // The paths are not its own: it has never served.
            Phase::Ended => actions.push(Action::RestoreStderr),
        }
        actions
    }

    fn trigger(&mut self) -> Vec<Action> {
        match self.phase {
            Phase::Awaiting
            | Phase::Adopting { .. }
            | Phase::Initialising
            | Phase::AwaitingCommit => {
                vec![Action::Refuse(Refusal::NotServing)]
            }
            Phase::Probation => self.settle(true),
            // The predecessor may yet end this generation, which must not leave a third one
            // orphaned.
            Phase::Settling { trigger: false } => {
                self.phase = Phase::Settling { trigger: true };
                Vec::new()
            }
            Phase::Settling { trigger: true } => vec![Action::Refuse(Refusal::InProgress)],
            Phase::Settled | Phase::Active => vec![Action::PassOn(incumbent::Event::Trigger)],
            Phase::Ended | Phase::Stopping => vec![Action::Refuse(Refusal::Stopping)],
        }
    }

    fn asker_gone(&mut self) -> Vec<Action> {
        match self.phase {
            Phase::Settling { trigger: true } => {
                self.phase = Phase::Settling { trigger: false };
                vec![Action::Refuse(Refusal::NotServing)]
            }
            Phase::Settled | Phase::Active => vec![Action::PassOn(incumbent::Event::AskerGone)],
            _ => Vec::new(),
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
            Phase::Probation | Phase::Settling { .. } => self.give_up(ToIncumbent::Stopping {}),
            _ => self.end(ToIncumbent::Stopping {}, NotServing::Stopped),
        }
    }

    /// Serves from the commit on; `ready()` can be no error any more.
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
            actions.extend(self.settle(false));
        }
        actions
    }

    /// Serves where there is nobody to ask.
    fn serve_alone(&mut self) -> Vec<Action> {
        let mut actions = vec![Action::OpenGates, Action::ResolveReady(Ok(()))];
        actions.extend(self.activate());
        actions
    }

    /// Ends the probation, and remembers whether a handover is to follow.
    fn settle(&mut self, trigger: bool) -> Vec<Action> {
        if self.phase != Phase::Probation {
            return Vec::new();
        }
        let mut actions = self.stop_timer();
        self.phase = Phase::Settling { trigger };
        actions.push(Action::Send(ToIncumbent::Settled {}));
        actions.push(Action::WatchPredecessor);
        actions
    }

    /// The predecessor can do nothing to this generation any more. `first` goes ahead of a handover
    /// that is due.
    fn settled(&mut self, first: Option<incumbent::Event<'static>>) -> Vec<Action> {
        let mut actions = self.stop_timer();
        let trigger = self.phase == Phase::Settling { trigger: true };
        self.phase = Phase::Settled;
        actions.extend(self.take_over());
        actions.extend(first.map(Action::PassOn));
        if trigger {
            actions.push(Action::PassOn(incumbent::Event::Trigger));
        }
        actions
    }

    /// Takes what belongs to the generation that is responsible.
    fn take_over(&mut self) -> Vec<Action> {
        let mut actions = vec![
            Action::BecomeOwner,
            Action::RestoreStderr,
            Action::JoinProcessGroup,
        ];
        if self.predecessor == Predecessor::Alive {
            actions.push(Action::WatchPredecessor);
        }
        actions
    }

    /// Nobody else holds what is exclusive.
    fn activate(&mut self) -> Vec<Action> {
        self.phase = Phase::Active;
        let mut actions = Vec::new();
        if self.predecessor == Predecessor::Gone {
            actions.push(Action::CloseUnclaimed);
        }
        actions.push(Action::PassOn(incumbent::Event::Released));
        actions
    }

    /// Ends without having served.
    fn end(&mut self, message: ToIncumbent, reason: NotServing) -> Vec<Action> {
        self.phase = Phase::Ended;
        let mut actions = Vec::new();
        if self.predecessor == Predecessor::Alive {
            actions.push(Action::Send(message));
        }
        actions.push(Action::ResolveReady(Err(reason)));
        actions.push(Action::EndNow);
        actions
    }

    /// Ends having served, while the predecessor could still take over again.
    fn give_up(&mut self, message: ToIncumbent) -> Vec<Action> {
        let mut actions = self.stop_timer();
        if self.phase == (Phase::Settling { trigger: true }) {
            actions.push(Action::Refuse(Refusal::Stopping));
        }
        self.phase = Phase::Stopping;
        actions.push(Action::Send(message));
        actions.push(Action::BeginStop);
        actions
    }

    fn stop_timer(&self) -> Vec<Action> {
        if self.phase == Phase::Probation && self.probation {
            vec![Action::StopTimer(Timer::Probation)]
        } else {
            Vec::new()
        }
    }
}

fn taken(sockets: &Sockets) -> Action {
    Action::Send(ToIncumbent::Taken {
        descriptors: sockets.descriptors,
    })
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
    /// It serves and means to stay, but the predecessor's limit may have run out before it heard of
    /// that.
    Settling { trigger: bool },
    /// It serves for good, while the predecessor lets go of what is exclusive.
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
