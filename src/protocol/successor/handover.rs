//! What a successor makes of its predecessor, step by step.

use super::action::Action;
use super::machine::Successor;
use super::phase::{Phase, Predecessor};
use crate::protocol::failed::Failed;
use crate::protocol::failure::Stage;
use crate::protocol::incumbent;
use crate::protocol::message::{ToIncumbent, ToSuccessor};
use crate::protocol::offer::Offer;
use crate::protocol::sockets::Sockets;
use crate::protocol::version::{Capabilities, EVENTS, Versions};

impl Successor {
    pub(super) fn received(&mut self, message: &ToSuccessor) -> Vec<Action> {
        match (self.phase, message) {
            (_, ToSuccessor::Events { .. } | ToSuccessor::Client { .. } | ToSuccessor::Unknown) => {
                Vec::new()
            }
            #[cfg(handover_protocol = "newer")]
            (_, ToSuccessor::Novelty {}) => Vec::new(),
            (Phase::Ended, _) => Vec::new(),

            (Phase::Awaiting, ToSuccessor::Offer(offer)) => self.offer(offer),
            (Phase::Adopting { missing }, ToSuccessor::Sockets(sockets)) => {
                let missing = missing.saturating_sub(sockets.entries.len());
                // With the last of them the incumbent has nothing left that could wait.
                let taken = (missing > 0).then(|| taken(sockets));
                taken.into_iter().chain(self.adopt(missing)).collect()
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

    pub(super) fn offer(&mut self, offer: &Offer) -> Vec<Action> {
        let version = match Versions::OURS.negotiate(offer.versions) {
            Ok(version) => version,
            Err(error) => return self.fail(Failed::new(Stage::Negotiate, None, &error)),
        };
        self.probation = offer.probation_ms > 0;
        let ours = match self.hears {
            true => Capabilities::ours(),
            false => Capabilities::ours().without(EVENTS),
        };
        let mut actions = vec![
            Action::Send(ToIncumbent::Accepted {
                version,
                capabilities: ours.intersect(&offer.capabilities),
                pid: self.pid,
            }),
            #[cfg(handover_protocol = "newer")]
            Action::Send(ToIncumbent::Novelty {}),
        ];
        actions.extend(self.adopt(offer.sockets as usize));
        actions
    }

    pub(super) fn adopt(&mut self, missing: usize) -> Vec<Action> {
        if missing > 0 {
            self.phase = Phase::Adopting { missing };
            return Vec::new();
        }
        self.phase = Phase::Initialising;
        vec![Action::RunMain]
    }

    pub(super) fn garbage(&mut self, reason: &str) -> Vec<Action> {
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

    pub(super) fn predecessor_gone(&mut self) -> Vec<Action> {
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
}

fn taken(sockets: &Sockets) -> Action {
    Action::Send(ToIncumbent::Taken {
        descriptors: sockets.descriptors,
    })
}
