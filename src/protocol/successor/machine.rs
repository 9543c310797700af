//! The machine of the side that takes over.

use super::action::{Action, NotServing};
use super::event::{Event, Timer};
use super::phase::{Phase, Predecessor};
use crate::protocol::failed::Failed;
use crate::protocol::failure::{Abort, Refusal};
use crate::protocol::incumbent;
use crate::protocol::message::ToIncumbent;

/// The state machine of a generation from its start until its predecessor is gone.
///
/// Every trigger and every stop of the process goes here first; what belongs to the next handover
/// comes back as [`Action::PassOn`] for the [`Incumbent`](crate::protocol::Incumbent) of the same
/// process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Successor {
    pub(super) phase: Phase,
    pub(super) pid: i32,
    /// Whether somebody may ask this generation what happens in those before it.
    pub(super) hears: bool,
    pub(super) predecessor: Predecessor,
    /// Whether the offer asks for a probation.
    pub(super) probation: bool,
    /// How many stops this process has received before it settled.
    pub(super) stops: u8,
}

impl Successor {
    /// Creates the machine of a first generation: main runs at once, and every path that it binds
    /// is its own.
    pub(crate) fn first() -> Self {
        Self::new(0, true, Phase::Initialising, Predecessor::None)
    }

    /// Creates the machine of a generation that has found its channel and awaits the offer; `pid`
    /// is its own, and `hears` tells whether it wants to be told what happens in those before it.
    pub(crate) fn offered(pid: i32, hears: bool) -> Self {
        Self::new(pid, hears, Phase::Awaiting, Predecessor::Alive)
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
            Event::CallOff(why) => self.not_wanted(why),
            Event::Settle | Event::Elapsed(Timer::Probation) => self.settle(false),
            Event::Stop => self.stop(),
        }
    }

    /// Returns whether the predecessor can do nothing to this generation any more: it may hand over
    /// itself.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Settled | Phase::Active)
    }

    /// Returns whether it has said that it stays, so that the predecessor lets go.
    pub(crate) fn stays(&self) -> bool {
        self.is_settled() || matches!(self.phase, Phase::Settling { .. })
    }

    fn new(pid: i32, hears: bool, phase: Phase, predecessor: Predecessor) -> Self {
        Self {
            phase,
            pid,
            hears,
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

    pub(super) fn fail(&mut self, failed: Failed) -> Vec<Action> {
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

    pub(super) fn trigger(&mut self) -> Vec<Action> {
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

    fn not_wanted(&mut self, why: Abort) -> Vec<Action> {
        match self.phase {
            Phase::Settling { trigger: true } => {
                self.phase = Phase::Settling { trigger: false };
                vec![Action::Refuse(Refusal::NotServing)]
            }
            Phase::Settled | Phase::Active => vec![Action::PassOn(incumbent::Event::CallOff(why))],
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
}
