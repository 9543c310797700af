//! How a successor comes to serve, and how it ends.

use super::action::{Action, NotServing};
use super::event::Timer;
use super::machine::Successor;
use super::phase::{Phase, Predecessor};
use crate::protocol::failure::Refusal;
use crate::protocol::incumbent;
use crate::protocol::message::ToIncumbent;

impl Successor {
    /// Serves from the commit on; `ready()` can be no error any more.
    pub(super) fn serve(&mut self) -> Vec<Action> {
        self.phase = Phase::Probation;
        let mut actions = vec![
            Action::OpenGates,
            Action::ResolveReady(Ok(())),
            Action::Send(ToIncumbent::Serving {}),
            Action::ApplyOptions,
        ];
        if self.probation {
            actions.push(Action::StartTimer(Timer::Probation));
        } else {
            actions.extend(self.settle(false));
        }
        actions
    }

    /// Serves where there is nobody to ask.
    pub(super) fn serve_alone(&mut self) -> Vec<Action> {
        let mut actions = vec![
            Action::OpenGates,
            Action::WritePidFile,
            Action::ResolveReady(Ok(())),
            Action::ApplyOptions,
        ];
        actions.extend(self.activate());
        actions
    }

    /// Ends the probation, and remembers whether a handover is to follow.
    pub(super) fn settle(&mut self, trigger: bool) -> Vec<Action> {
        if self.phase != Phase::Probation {
            return Vec::new();
        }
        let mut actions = self.stop_timer();
        self.phase = Phase::Settling { trigger };
        // Before the predecessor can go: whoever sees its end finds the new pid.
        actions.push(Action::WritePidFile);
        // Whoever writes to it waits for room once nobody forwards it.
        actions.push(Action::RestoreStderr);
        actions.push(Action::Send(ToIncumbent::Settled {}));
        actions.push(Action::WatchPredecessor);
        actions
    }

    /// The predecessor can do nothing to this generation any more. `first` goes ahead of a handover
    /// that is due.
    pub(super) fn settled(&mut self, first: Option<incumbent::Event<'static>>) -> Vec<Action> {
        let mut actions = self.stop_timer();
        if self.phase == Phase::Probation {
            actions.push(Action::WritePidFile);
        }
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
    pub(super) fn take_over(&mut self) -> Vec<Action> {
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
    pub(super) fn activate(&mut self) -> Vec<Action> {
        self.phase = Phase::Active;
        let mut actions = Vec::new();
        if self.predecessor == Predecessor::Gone {
            actions.push(Action::CloseUnclaimed);
        }
        actions.push(Action::PassOn(incumbent::Event::Released));
        actions
    }

    /// Ends without having served.
    pub(super) fn end(&mut self, message: ToIncumbent, reason: NotServing) -> Vec<Action> {
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
    pub(super) fn give_up(&mut self, message: ToIncumbent) -> Vec<Action> {
        let mut actions = self.stop_timer();
        if self.phase == (Phase::Settling { trigger: true }) {
            actions.push(Action::Refuse(Refusal::Stopping));
        }
        self.phase = Phase::Stopping;
        actions.push(Action::Send(message));
        actions.push(Action::BeginStop);
        actions
    }

    pub(super) fn stop_timer(&self) -> Vec<Action> {
        if self.phase == Phase::Probation && self.probation {
            vec![Action::StopTimer(Timer::Probation)]
        } else {
            Vec::new()
        }
    }
}
