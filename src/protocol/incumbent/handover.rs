//! What an incumbent makes of its successor, step by step.

use std::mem;

use super::action::{Action, Deadline};
use super::event::Timer;
use super::machine::Incumbent;
use super::phase::{Phase, Stop};
use crate::protocol::failed::Failed;
use crate::protocol::failure::{Abort, Cause, Failure, Outcome, Stage};
use crate::protocol::message::{ToIncumbent, ToSuccessor};
use crate::protocol::version::{Capabilities, Versions};

impl Incumbent {
    pub(super) fn spawned(&mut self, pid: i32) -> Vec<Action> {
        match self.phase {
            Phase::Spawning if self.outcome.is_some() => {
                self.phase = Phase::Ending { parked: false };
                vec![Action::EndSuccessor]
            }
            Phase::Spawning => {
                self.phase = Phase::Starting { accepted: false };
                self.successor.pid = pid;
                vec![
                    Action::StartTimer(Timer::Ready),
                    Action::SendOffer,
                    #[cfg(handover_protocol = "newer")]
                    Action::Send(ToSuccessor::Novelty {}),
                ]
            }
            // Only a second stop leaves `Spawning` before its answer.
            _ => vec![Action::KillSuccessor],
        }
    }

    pub(super) fn spawn_failed(&mut self, error: String) -> Vec<Action> {
        if self.phase != Phase::Spawning {
            return Vec::new();
        }
        let failure = Failure {
            stage: Stage::Spawn,
            component: None,
            cause: Cause::NotSpawned(error),
            ended: None,
        };
        self.outcome.get_or_insert(Outcome::Failed(failure));
        self.resume(false)
    }

    pub(super) fn received(&mut self, message: &ToIncumbent) -> Vec<Action> {
        match (self.phase, message) {
            // Says nothing about where the successor stands, in whichever phase it comes.
            (
                _,
                ToIncumbent::Taken { .. }
                | ToIncumbent::Events { .. }
                | ToIncumbent::Client { .. }
                | ToIncumbent::Unknown,
            ) => Vec::new(),
            #[cfg(handover_protocol = "newer")]
            (_, ToIncumbent::Novelty {}) => Vec::new(),

            (
                Phase::Starting { .. } | Phase::Parking | Phase::Committing | Phase::Probation,
                ToIncumbent::Failed(failed),
            ) => self.successor_failed(failed),

            (
                Phase::Starting { accepted: false },
                ToIncumbent::Accepted {
                    version,
                    capabilities,
                    pid,
                },
            ) => self.accepted(*version, capabilities, *pid),
            (Phase::Starting { accepted: true }, ToIncumbent::Claims { keys }) => {
                self.successor.claimed.extend(keys.iter().cloned());
                Vec::new()
            }
            (Phase::Starting { accepted: true }, ToIncumbent::Ready { claimed }) => {
                self.phase = Phase::Parking;
                self.successor.claimed.extend(claimed.iter().cloned());
                vec![
                    Action::StopTimer(Timer::Ready),
                    Action::Park {
                        claimed: self.successor.claimed.clone(),
                    },
                ]
            }
            (Phase::Starting { .. } | Phase::Parking, ToIncumbent::Stopping {}) => {
                self.fail(Cause::Stopped)
            }

            (Phase::Committing, ToIncumbent::Serving {}) => self.successor_serves(),
            (Phase::Committing, ToIncumbent::Stopping {}) => self.successor_stops(Timer::Commit),

            (Phase::Probation, ToIncumbent::Settled {}) => {
                let mut actions = vec![Action::StopTimer(Timer::Probation)];
                actions.extend(self.settle());
                actions
            }
            (Phase::Probation, ToIncumbent::Stopping {}) => self.successor_stops(Timer::Probation),
            (Phase::Probation, _) => Vec::new(),

            (Phase::Draining { .. } | Phase::Stopping, ToIncumbent::Shorten { deadline_ms }) => {
                vec![Action::ShortenDeadline(Deadline::At(*deadline_ms))]
            }
            // It was told to stop before it heard of this drain.
            (Phase::Draining { .. }, ToIncumbent::Stopping {}) => {
                vec![Action::ShortenDeadline(Deadline::Stop)]
            }
            // What is still on its way from a successor that is being ended, or that serves for
            // good.
            (
                Phase::Serving
                | Phase::Spawning
                | Phase::Ending { .. }
                | Phase::Draining { .. }
                | Phase::Stopping,
                _,
            ) => Vec::new(),

            (Phase::Starting { .. } | Phase::Parking | Phase::Committing, unexpected) => self.fail(
                Cause::Garbage(format!("unexpected `{}`", unexpected.name())),
            ),
        }
    }

    pub(super) fn accepted(
        &mut self,
        version: u32,
        capabilities: &Capabilities,
        pid: i32,
    ) -> Vec<Action> {
        let offered = Versions::OURS;
        if !(offered.min..=offered.max).contains(&version) {
            let reason =
                format!("the successor speaks protocol version {version}, {offered} was offered");
            return self.fail_at(Stage::Negotiate, None, Cause::Garbage(reason));
        }
        self.phase = Phase::Starting { accepted: true };
        self.successor.pid = pid;
        self.successor.capabilities = Capabilities::ours().intersect(capabilities);
        Vec::new()
    }

    pub(super) fn successor_failed(&mut self, failed: &Failed) -> Vec<Action> {
        let stage = match self.phase {
            Phase::Probation => Stage::Probation,
            _ => failed.stage,
        };
        self.fail_at(
            stage,
            failed.component.clone(),
            Cause::Reported(failed.error.clone()),
        )
    }

    pub(super) fn successor_serves(&mut self) -> Vec<Action> {
        let mut actions = vec![Action::StopTimer(Timer::Commit)];
        if self.stop == Stop::Not {
            self.phase = Phase::Probation;
            actions.push(Action::CloseGates {
                claimed: mem::take(&mut self.successor.claimed),
            });
            actions.push(Action::StartTimer(Timer::Probation));
        } else {
            actions.extend(self.stop_both());
        }
        actions
    }

    /// The successor was told to stop, and with it the service: a stopped service does not rise
    /// again.
    pub(super) fn successor_stops(&mut self, timer: Timer) -> Vec<Action> {
        let mut actions = vec![
            Action::StopTimer(timer),
            Action::Report(Outcome::Aborted(Abort::SuccessorStopped)),
        ];
        actions.extend(self.begin_stop());
        actions
    }

    pub(super) fn garbage(&mut self, reason: String) -> Vec<Action> {
        match self.phase {
            // A successor that serves is worth more than a record that went wrong; the timer
            // settles what it said.
            Phase::Probation => Vec::new(),
            _ => self.fail(Cause::Garbage(reason)),
        }
    }

    pub(super) fn successor_ended(&mut self, how: String) -> Vec<Action> {
        let Phase::Ending { parked } = self.phase else {
            return Vec::new();
        };
        if let Some(Outcome::Failed(failure)) = &mut self.outcome {
            failure.ended = Some(how);
        }
        self.resume(parked)
    }

    pub(super) fn parked(&mut self) -> Vec<Action> {
        if self.phase != Phase::Parking {
            return Vec::new();
        }
        self.phase = Phase::Committing;
        vec![
            Action::Send(ToSuccessor::Commit {}),
            Action::StartTimer(Timer::Commit),
        ]
    }

    pub(super) fn park_failed(&mut self, reason: String) -> Vec<Action> {
        match self.phase {
            Phase::Parking => self.fail(Cause::NotParked(reason)),
            _ => Vec::new(),
        }
    }

    pub(super) fn elapsed(&mut self, timer: Timer) -> Vec<Action> {
        match (self.phase, timer) {
            (Phase::Starting { .. }, Timer::Ready) | (Phase::Committing, Timer::Commit) => {
                self.fail(Cause::TimedOut)
            }
            (Phase::Probation, Timer::Probation) => self.settle(),
            _ => Vec::new(),
        }
    }
}
