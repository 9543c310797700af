//! The machine of the side that hands over.

use std::mem;

use super::action::{Action, Deadline};
use super::event::{Event, Timer};
use crate::protocol::failed::Failed;
use crate::protocol::failure::{Abort, Cause, Failure, Outcome, Refusal, Stage};
use crate::protocol::message::{ToIncumbent, ToSuccessor};
use crate::protocol::version::{Capabilities, Versions};

/// The state machine of a generation that serves, from the moment it has settled until it ends.
///
/// Triggers and stops do not come here directly: they go to
/// [`Successor`](crate::protocol::Successor), which passes on what belongs here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Incumbent {
    phase: Phase,
    stop: Stop,
    /// Whether the predecessor has let go: until then nothing that it holds can be released to a
    /// successor.
    released: bool,
    successor: Peer,
    /// The answer to the accepted trigger, where it is known before it can be given.
    outcome: Option<Outcome>,
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
            Event::AskerGone => self.asker_gone(),
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

    fn asker_gone(&mut self) -> Vec<Action> {
        match self.phase {
            Phase::Spawning | Phase::Starting { .. } | Phase::Parking => {
                self.call_off(Abort::AskerGone)
            }
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

    fn spawned(&mut self, pid: i32) -> Vec<Action> {
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

    fn spawn_failed(&mut self, error: String) -> Vec<Action> {
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

    fn received(&mut self, message: &ToIncumbent) -> Vec<Action> {
        match (self.phase, message) {
            // Says nothing about where the successor stands, in whichever phase it comes.
            (_, ToIncumbent::Taken { .. } | ToIncumbent::Unknown) => Vec::new(),
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

    fn accepted(&mut self, version: u32, capabilities: &Capabilities, pid: i32) -> Vec<Action> {
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

    fn successor_failed(&mut self, failed: &Failed) -> Vec<Action> {
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

    fn successor_serves(&mut self) -> Vec<Action> {
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
    fn successor_stops(&mut self, timer: Timer) -> Vec<Action> {
        let mut actions = vec![
            Action::StopTimer(timer),
            Action::Report(Outcome::Aborted(Abort::SuccessorStopped)),
        ];
        actions.extend(self.begin_stop());
        actions
    }

    fn garbage(&mut self, reason: String) -> Vec<Action> {
        match self.phase {
            // A successor that serves is worth more than a record that went wrong; the timer
            // settles what it said.
            Phase::Probation => Vec::new(),
            _ => self.fail(Cause::Garbage(reason)),
        }
    }

    fn successor_ended(&mut self, how: String) -> Vec<Action> {
        let Phase::Ending { parked } = self.phase else {
            return Vec::new();
        };
        if let Some(Outcome::Failed(failure)) = &mut self.outcome {
            failure.ended = Some(how);
        }
        self.resume(parked)
    }

    fn parked(&mut self) -> Vec<Action> {
        if self.phase != Phase::Parking {
            return Vec::new();
        }
        self.phase = Phase::Committing;
        vec![
            Action::StartTimer(Timer::Commit),
            Action::Send(ToSuccessor::Commit {}),
        ]
    }

    fn park_failed(&mut self, reason: String) -> Vec<Action> {
        match self.phase {
            Phase::Parking => self.fail(Cause::NotParked(reason)),
            _ => Vec::new(),
        }
    }

    fn elapsed(&mut self, timer: Timer) -> Vec<Action> {
        match (self.phase, timer) {
            (Phase::Starting { .. }, Timer::Ready) | (Phase::Committing, Timer::Commit) => {
                self.fail(Cause::TimedOut)
            }
            (Phase::Probation, Timer::Probation) => self.settle(),
            _ => Vec::new(),
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

    /// The successor is lost, at the stage that the phase tells.
    fn fail(&mut self, cause: Cause) -> Vec<Action> {
        let stage = match self.phase {
            Phase::Starting { accepted: false } => Stage::Start,
            Phase::Starting { accepted: true } => Stage::Init,
            Phase::Parking => Stage::Park,
            Phase::Committing => Stage::Commit,
            Phase::Probation => Stage::Probation,
            Phase::Serving
            | Phase::Spawning
            | Phase::Ending { .. }
            | Phase::Draining { .. }
            | Phase::Stopping => {
                return Vec::new();
            }
        };
        self.fail_at(stage, None, cause)
    }

    fn fail_at(&mut self, stage: Stage, component: Option<String>, cause: Cause) -> Vec<Action> {
        self.end_successor(Outcome::Failed(Failure {
            stage,
            component,
            cause,
            ended: None,
        }))
    }

    fn call_off(&mut self, abort: Abort) -> Vec<Action> {
        self.end_successor(Outcome::Aborted(abort))
    }

    /// Ends the successor; the trigger is answered once it has ended, so that the answer has its
    /// exit status and last words, and a new trigger is accepted at once.
    fn end_successor(&mut self, outcome: Outcome) -> Vec<Action> {
        self.outcome.get_or_insert(outcome);
        let (parked, mut actions) = match self.phase {
            // There is nothing to end yet.
            Phase::Spawning => return Vec::new(),
            Phase::Starting { .. } => (false, vec![Action::StopTimer(Timer::Ready)]),
            // Without a Commit the successor opens no gate while this process lives.
            Phase::Parking => (false, vec![Action::Unpark]),
            // From the Commit on it may read from what is parked, until it has ended.
            Phase::Committing => (true, vec![Action::StopTimer(Timer::Commit)]),
            Phase::Probation => (
                true,
                vec![Action::StopTimer(Timer::Probation), Action::ReopenGates],
            ),
            Phase::Serving | Phase::Ending { .. } | Phase::Draining { .. } | Phase::Stopping => {
                return Vec::new();
            }
        };
        self.phase = Phase::Ending { parked };
        actions.push(Action::EndSuccessor);
        actions
    }

    /// No successor is left: answers the trigger, and serves on or stops.
    fn resume(&mut self, parked: bool) -> Vec<Action> {
        self.phase = Phase::Serving;
        self.successor = Peer::default();
        let report = self.outcome.take().map(Action::Report);
        if self.stop != Stop::Not {
            return report.into_iter().chain(self.begin_stop()).collect();
        }
        parked
            .then_some(Action::Unpark)
            .into_iter()
            .chain(report)
            .collect()
    }

    fn settle(&mut self) -> Vec<Action> {
        self.phase = Phase::Draining { drained: false };
        vec![
            Action::BeginDrain,
            Action::Send(ToSuccessor::Draining {}),
            Action::Report(Outcome::Committed {
                pid: self.successor.pid,
            }),
        ]
    }

    fn stop_both(&mut self) -> Vec<Action> {
        self.phase = Phase::Draining { drained: false };
        vec![
            Action::Send(ToSuccessor::Stop {}),
            Action::BeginDrain,
            Action::ShortenDeadline(Deadline::Stop),
            Action::Report(Outcome::Aborted(Abort::Stopped)),
        ]
    }

    fn begin_stop(&mut self) -> Vec<Action> {
        self.phase = Phase::Stopping;
        vec![Action::BeginStop]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// No handover is in progress.
    Serving,
    /// `Spawn` is to be answered; with an outcome already, the child is to be ended as soon as it
    /// is there.
    Spawning,
    /// The successor initialises, under the timer `Ready`.
    Starting { accepted: bool },
    /// The successor is ready; what cannot overlap is being closed.
    Parking,
    /// Commit is sent, under the timer `Commit`.
    Committing,
    /// The successor serves, under the timer `Probation`; this generation can still take over
    /// again.
    Probation,
    /// `EndSuccessor` is to be answered.
    Ending { parked: bool },
    /// The successor serves for good.
    Draining { drained: bool },
    /// Nobody is to serve.
    Stopping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stop {
    Not,
    /// The predecessor passed it on. The signal may come as well (systemd sends it to every process
    /// of a unit), and must not count as a second one.
    Relayed,
    Received,
    Aborted,
}

/// What is known of the successor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    pid: i32,
    capabilities: Capabilities,
    claimed: Vec<String>,
}
