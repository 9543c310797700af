//! What must hold, and what excuses that it does not.

use super::process::{End, Ending, Gate, Life, Main, Parent, Slot};
use super::world::{Verdict, World};
use crate::protocol::ToIncumbent;

/// How bad something is for the process that it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violence {
    Deadly,
    Paralysing,
    Confusing,
}

impl World {
    /// Notes what a parent hears last from a successor that it does not end itself.
    pub(super) fn note_last_words(&mut self, slot: Slot, message: &ToIncumbent) {
        let process = self.at(slot);
        let last = match message {
            ToIncumbent::Settled {} => true,
            ToIncumbent::Stopping {} => process.committed,
            _ => false,
        };
        if last && matches!(process.ending, Ending::No | Ending::Noticed) {
            let parent = self.parent(slot);
            self.at_mut(parent).heard_the_last = true;
        }
    }

    /// Notes what a stop, sent to this process, means for the service.
    pub(super) fn note_stop(&mut self, slot: Slot) {
        let process = self.at(slot);
        let drains = process.drains();
        let dispensable = process.gated() && matches!(process.parent, Parent::Alive(_));
        if drains || dispensable || matches!(process.ending, Ending::Asked | Ending::Terminated) {
            return;
        }
        let sure = process.successor.is_settled();
        self.stopped = true;
        self.stopped_for_sure |= sure;
    }

    /// Notes that something bad happens to this process, and whether somebody must be left to
    /// serve.
    pub(super) fn note_violence(&mut self, slot: Slot, violence: Violence) {
        let process = self.at(slot);
        let parent = match process.parent {
            Parent::Alive(parent) if self.at(parent).runs() => Some(self.at(parent)),
            _ => None,
        };
        let drains = process.drains();
        let dispensable = drains
            || parent.is_some()
                && (process.gated()
                    || matches!(process.ending, Ending::Asked | Ending::Terminated));
        let excused = match violence {
            _ if dispensable => false,
            Violence::Confusing => false,
            Violence::Paralysing => true,
            Violence::Deadly => {
                let heir = process
                    .child
                    .is_some_and(|child| self.at(child).could_take_over());
                let elder =
                    parent.is_some_and(|parent| parent.end == End::No) && !process.said_settled;
                !heir && !elder
            }
        };
        self.wounded |= !dispensable;
        self.excused |= excused || self.violence > 0;
        self.violence = self.violence.saturating_add(1).min(2);
    }

    /// Checks what holds in every state.
    pub(super) fn check(&self) -> Verdict {
        let datagram = self
            .processes()
            .filter(|(_, process)| process.life != Life::Dead && process.datagram == Gate::Open);
        check(
            datagram.count() <= 1,
            "two processes read one datagram socket",
        )?;
        let served = self.processes().any(|(_, process)| process.serves());
        check(served || self.stopped || self.wounded, "nobody serves")?;
        for (_, process) in self.processes() {
            check(
                !process.timers.incumbent_probation || process.stream == Gate::Closed,
                "two generations accept beyond the commit",
            )?;
            check(
                process.end == End::No || !process.timers.any(),
                "a timer outlives the handover",
            )?;
            check(
                process.end == End::No || process.unanswered == 0,
                "a process ends with its trigger unanswered",
            )?;
        }
        Ok(())
    }

    /// Checks what holds once nothing happens any more by itself.
    pub(super) fn check_at_rest(&self) -> Verdict {
        let mut serving = 0;
        for (_, process) in self.processes().filter(|(_, process)| process.runs()) {
            let waits_for_the_hung = match process.parent {
                Parent::Alive(parent) => self.at(parent).life == Life::Hung,
                _ => false,
            };
            if process.gated() && waits_for_the_hung {
                continue;
            }
            serving += 1;
            check(
                process.stream == Gate::Open && process.datagram == Gate::Open,
                "a process runs and does not serve",
            )?;
            check(
                process.main == Main::Ready && process.ready == Some(true),
                "ready() is not resolved",
            )?;
            check(process.unanswered == 0, "a trigger is not answered")?;
            check(process.owner, "the paths are nobody's")?;
            check(process.named, "the pid file names another")?;
            check(process.active, "on_active has not run")?;
            check(
                matches!(process.parent, Parent::None | Parent::Gone),
                "the old generation stays",
            )?;
        }
        check(serving <= 1, "two generations serve")?;
        check(
            serving == 1 || self.stopped || self.excused,
            "nobody serves, for good",
        )?;
        let calm = self.violence == 0;
        check(
            !calm || !self.stopped_for_sure || serving == 0,
            "a stop was lost",
        )
    }
}

pub(super) fn check(holds: bool, otherwise: &str) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(otherwise.to_owned())
    }
}
