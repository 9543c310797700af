//! How a handover ends: without the successor, with it, or with both.

use super::action::{Action, Deadline};
use super::event::Timer;
use super::machine::Incumbent;
use super::phase::{Peer, Phase, Stop};
use crate::protocol::failure::{Abort, Cause, Failure, Outcome, Stage};
use crate::protocol::message::ToSuccessor;

impl Incumbent {
    /// The successor is lost, at the stage that the phase tells.
    pub(super) fn fail(&mut self, cause: Cause) -> Vec<Action> {
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

    pub(super) fn fail_at(
        &mut self,
        stage: Stage,
        component: Option<String>,
        cause: Cause,
    ) -> Vec<Action> {
        self.end_successor(Outcome::Failed(Failure {
            stage,
            component,
            cause,
            ended: None,
        }))
    }

    pub(super) fn call_off(&mut self, abort: Abort) -> Vec<Action> {
        self.end_successor(Outcome::Aborted(abort))
    }

    /// Ends the successor; the trigger is answered once it has ended, so that the answer has its
    /// exit status and last words, and a new trigger is accepted at once.
    pub(super) fn end_successor(&mut self, outcome: Outcome) -> Vec<Action> {
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
    pub(super) fn resume(&mut self, parked: bool) -> Vec<Action> {
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

    pub(super) fn settle(&mut self) -> Vec<Action> {
        self.phase = Phase::Draining { drained: false };
        vec![
            Action::BeginDrain,
            Action::Send(ToSuccessor::Draining {}),
            Action::Report(Outcome::Committed {
                pid: self.successor.pid,
            }),
        ]
    }

    pub(super) fn stop_both(&mut self) -> Vec<Action> {
        self.phase = Phase::Draining { drained: false };
        vec![
            Action::Send(ToSuccessor::Stop {}),
            Action::BeginDrain,
            Action::ShortenDeadline(Deadline::Stop),
            Action::Report(Outcome::Aborted(Abort::Stopped)),
        ]
    }

    pub(super) fn begin_stop(&mut self) -> Vec<Action> {
        self.phase = Phase::Stopping;
        vec![Action::BeginStop]
    }
}
