//! The machine of the side that hands over.

use std::mem;

use super::action::{Action, Deadline};
use super::event::{Event, Timer};
use super::phase::{Peer, Phase, Stop};
use crate::protocol::failure::{Abort, Cause, Outcome, Refusal};
use crate::protocol::message::ToSuccessor;

/// The state machine of a generation that serves, from the moment it has settled until it ends.
///
/// Triggers and stops do not come here directly: they go to
/// [`Successor`](crate::protocol::Successor), which passes on what belongs here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Incumbent {
    pub(super) phase: Phase,
    pub(super) stop: Stop,
    /// Whether the predecessor has let go: until then nothing that it holds can be released to a
    /// successor.
    pub(super) released: bool,
    pub(super) successor: Peer,
    /// The answer to the accepted trigger, where it is known before it can be given.
    pub(super) outcome: Option<Outcome>,
}

impl Incumbent {
    /// Creates the machine; the first event comes once `Successor` has settled and passes on.
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Serving,
            stop: Stop::Not,
            released: false,
            successor: Peer::default(),
            outcome: None,
        }
    }

    /// Takes an event and returns what to do, in this order.
    pub(crate) fn on(&mut self, event: Event<'_>) -> Vec<Action> {
        match event {
            Event::Trigger => self.trigger(),
            Event::CallOff(why) => self.not_wanted(why),
            Event::Stop => self.stop(),
            Event::StopRelayed => self.stop_relayed(),
            Event::Released => self.released(),
            Event::Spawned { pid } => self.spawned(pid),
            Event::SpawnFailed { error } => self.spawn_failed(error),
            Event::Received(message) => self.received(message),
            Event::Garbage { reason } => self.garbage(reason),
            Event::SuccessorGone { how } => self.fail(Cause::Gone(how)),
            Event::SuccessorEnded { how } => self.successor_ended(how),
            Event::Parked => self.parked(),
            Event::ParkFailed { reason } => self.park_failed(reason),
            Event::Elapsed(timer) => self.elapsed(timer),
            Event::HooksDrained => self.hooks_drained(),
        }
    }

    /// Returns whether the successor has `capability`, as far as is known.
    pub(crate) fn successor_can(&self, capability: &str) -> bool {
        self.successor.capabilities.has(capability)
    }

    /// Returns the successor's process ID, while this generation drains because that one serves.
    pub(crate) fn drains_for(&self) -> Option<u32> {
        matches!(self.phase, Phase::Draining { .. }).then(|| self.successor_pid())
    }

    /// Returns whether the handover in progress ends because an operator has called it off.
    pub(crate) fn is_called_off(&self) -> bool {
        self.outcome == Some(Outcome::Aborted(Abort::CalledOff))
    }

    /// Returns the process ID of the successor under way, as it has told it.
    pub(crate) fn successor_pid(&self) -> u32 {
        self.successor.pid.unsigned_abs()
    }

    /// Returns whether a drain that has nothing left to do may end the process.
    ///
    /// It may not before `Released` is sent: the successor would take the end of this process for
    /// it, while the predecessor of this one still holds what is exclusive.
    pub(crate) fn may_exit(&self) -> bool {
        match self.phase {
            Phase::Draining { drained } => drained && self.released,
            Phase::Stopping => true,
            _ => false,
        }
    }

    fn trigger(&mut self) -> Vec<Action> {
        let pid = self.successor.pid;
        match self.phase {
            Phase::Serving => {
                self.phase = Phase::Spawning;
                vec![Action::Spawn]
            }
            Phase::Probation => vec![
                Action::Send(ToSuccessor::HandOver {}),
                Action::Refuse(Refusal::PassedOn { pid }),
            ],
            Phase::Draining { .. } => vec![Action::Refuse(Refusal::Superseded { pid })],
            Phase::Stopping => vec![Action::Refuse(Refusal::Stopping)],
            _ if self.stop != Stop::Not => vec![Action::Refuse(Refusal::Stopping)],
            _ => vec![Action::Refuse(Refusal::InProgress)],
        }
    }

    fn not_wanted(&mut self, why: Abort) -> Vec<Action> {
        match self.phase {
            Phase::Spawning | Phase::Starting { .. } | Phase::Parking => self.call_off(why),
            _ => Vec::new(),
        }
    }

    fn stop(&mut self) -> Vec<Action> {
        match self.stop {
            Stop::Not => {
                self.stop = Stop::Received;
                self.first_stop()
            }
            Stop::Relayed => {
                self.stop = Stop::Received;
                Vec::new()
            }
            Stop::Received => {
                self.stop = Stop::Aborted;
                self.second_stop()
            }
            Stop::Aborted => Vec::new(),
        }
    }

    fn stop_relayed(&mut self) -> Vec<Action> {
        if self.stop != Stop::Not {
            return Vec::new();
        }
        self.stop = Stop::Relayed;
        self.first_stop()
    }

    fn first_stop(&mut self) -> Vec<Action> {
        match self.phase {
            Phase::Serving => self.begin_stop(),
            // A successor that outlives this process would take it for dead, and serve: it has to
            // end first.
            Phase::Spawning | Phase::Starting { .. } | Phase::Parking => {
                self.call_off(Abort::Stopped)
            }
            // The successor may serve already. Its answer, or the limit, decides who has to stop
            // what.
            Phase::Committing | Phase::Ending { .. } => Vec::new(),
            Phase::Probation => {
                let mut actions = vec![Action::StopTimer(Timer::Probation)];
                actions.extend(self.stop_both());
                actions
            }
            Phase::Draining { .. } => vec![Action::ShortenDeadline(Deadline::Stop)],
            Phase::Stopping => Vec::new(),
        }
    }

    /// Waits for nothing any more, so that no hanging successor or file system can keep the service
    /// from stopping.
    fn second_stop(&mut self) -> Vec<Action> {
        let mut actions = match self.phase {
            Phase::Draining { .. } | Phase::Stopping => return vec![Action::AbortDrain],
            Phase::Serving | Phase::Spawning => Vec::new(),
            Phase::Starting { .. } => vec![Action::StopTimer(Timer::Ready), Action::KillSuccessor],
            Phase::Committing => vec![Action::StopTimer(Timer::Commit), Action::KillSuccessor],
            Phase::Probation => vec![Action::StopTimer(Timer::Probation), Action::KillSuccessor],
            Phase::Parking | Phase::Ending { .. } => vec![Action::KillSuccessor],
        };
        let outcome = self
            .outcome
            .take()
            .unwrap_or(Outcome::Aborted(Abort::Stopped));
        actions.push(Action::Report(outcome));
        actions.extend(self.begin_stop());
        actions.push(Action::AbortDrain);
        actions
    }

    fn released(&mut self) -> Vec<Action> {
        if mem::replace(&mut self.released, true) {
            return Vec::new();
        }
        match self.phase {
            Phase::Draining { drained: true } => vec![Action::Send(ToSuccessor::Released {})],
            // What `on_active` would take now, no `on_drain` would give back.
            Phase::Draining { drained: false } | Phase::Stopping => Vec::new(),
            _ => vec![Action::RunOnActive],
        }
    }

    fn hooks_drained(&mut self) -> Vec<Action> {
        match self.phase {
            Phase::Draining { drained: false } => {
                self.phase = Phase::Draining { drained: true };
                if self.released {
                    vec![Action::Send(ToSuccessor::Released {})]
                } else {
                    Vec::new()
                }
            }
            _ => Vec::new(),
        }
    }
}
