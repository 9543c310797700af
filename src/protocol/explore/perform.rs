//! What the shells do for the machines.

use super::message::{Down, Up};
use super::process::Slot;
use super::process::{End, Ending, Gate, Life, Main, Parent};
use super::promises::check;
use super::world::{Verdict, World};
use crate::protocol::{
    Abort, Capabilities, Offer, Outcome, ToIncumbent, ToSuccessor, Versions, incumbent, successor,
};

impl World {
    pub(super) fn do_incumbent(&mut self, slot: Slot, action: incumbent::Action) -> Verdict {
        use incumbent::Action;

        let child = self.at(slot).child;
        let process = self.at_mut(slot);
        match action {
            Action::Spawn => {
                check(
                    child.is_none() && !process.spawning && !process.accepted,
                    "two handovers at once",
                )?;
                check(process.serves(), "a handover of what is not served")?;
                process.spawning = true;
                process.accepted = true;
            }
            Action::SendOffer => {
                let child = child.ok_or("an offer to nobody")?;
                let offer = self.offer();
                let child = self.at_mut(child);
                child.down.push(Down::new(&offer));
                child.sockets = 2;
            }
            Action::Send(message) => {
                let child = child.ok_or("a message to nobody")?;
                let child = self.at_mut(child);
                if message == (ToSuccessor::Commit {}) {
                    check(
                        !matches!(child.main, Main::NotYet | Main::Running),
                        "a commit without ready",
                    )?;
                    child.committed = true;
                }
                if child.life != Life::Dead && !child.closed {
                    child.down.push(Down::new(&message));
                    check(child.down.len() <= 8, "a channel grows without bounds")?;
                }
            }
            Action::StartTimer(timer) => {
                check(
                    !*process.timers.incumbent(timer),
                    "a timer is started twice",
                )?;
                *process.timers.incumbent(timer) = true;
            }
            Action::StopTimer(timer) => *process.timers.incumbent(timer) = false,
            Action::Park { .. } => {
                check(
                    process.datagram == Gate::Open,
                    "what is parked was not open",
                )?;
                process.datagram = Gate::Closed;
                process.parking = true;
            }
            Action::Unpark => {
                check(
                    process.datagram == Gate::Closed,
                    "what is unparked was not parked",
                )?;
                check(
                    !process.heard_the_last,
                    "unparked after Settled or Stopping",
                )?;
                process.datagram = Gate::Open;
                process.parking = false;
            }
            Action::CloseGates { .. } => {
                check(
                    process.stream == Gate::Open,
                    "a gate is closed that was not open",
                )?;
                process.stream = Gate::Closed;
            }
            Action::ReopenGates => {
                check(
                    process.stream == Gate::Closed,
                    "a gate is reopened that was not closed",
                )?;
                check(
                    !process.heard_the_last,
                    "a gate is reopened after Settled or Stopping",
                )?;
                process.stream = Gate::Open;
                let child = child.ok_or("rolled back from nobody")?;
                check(
                    !self.at(child).said_settled,
                    "a gate is reopened although the successor has settled",
                )?;
            }
            Action::EndSuccessor => {
                let child = self.at_mut(child.ok_or("nobody to end")?);
                check(
                    matches!(child.ending, Ending::No | Ending::Noticed),
                    "ended twice",
                )?;
                child.ending = Ending::Asked;
            }
            Action::KillSuccessor => {
                let child = child.ok_or("nobody to kill")?;
                self.bury(child);
            }
            Action::BeginDrain => {
                process.end = End::Drains;
                process.owner = false;
                process.stream = Gate::Over;
                process.datagram = Gate::Over;
            }
            Action::BeginStop => self.begin_stop(slot)?,
            Action::ShortenDeadline(_) => {
                check(process.end != End::No, "a deadline without a drain")?
            }
            Action::AbortDrain => self.abort_drain(slot)?,
            Action::RunOnActive => {
                check(!process.active, "on_active runs twice")?;
                process.active = true;
                // Where a process in the middle of a chain has died, the newest cannot wait for the
                // oldest.
                let held = self.processes().any(|(other, process)| {
                    let holds = matches!(process.end, End::No | End::Drains | End::Stops);
                    other != slot && process.runs() && process.active && holds
                });
                check(
                    self.violence > 0 || self.hasty || !held,
                    "on_active runs while another holds what is exclusive",
                )?;
            }
            Action::Report(outcome) => {
                check(process.accepted, "a report without a trigger")?;
                process.accepted = false;
                process.unanswered -= 1;
                if outcome == Outcome::Aborted(Abort::SuccessorStopped) {
                    self.stopped = true;
                }
            }
            Action::Refuse(_) => {
                check(
                    process.unanswered > u8::from(process.accepted),
                    "a refusal without a trigger",
                )?;
                process.unanswered -= 1;
            }
        }
        Ok(())
    }

    pub(super) fn do_successor(&mut self, slot: Slot, action: successor::Action) -> Verdict {
        use successor::Action;

        let process = self.at_mut(slot);
        match action {
            // Only the shell listens to these.
            Action::Send(ToIncumbent::Taken { .. }) => {}
            Action::Send(message) => {
                if matches!(process.parent, Parent::Alive(_)) && !process.closed {
                    process.said_settled |= message == (ToIncumbent::Settled {});
                    check(
                        process.named || !process.said_settled,
                        "the predecessor may go before the pid file is written",
                    )?;
                    check(
                        process.audible || !process.said_settled,
                        "the predecessor may go while it forwards the standard error",
                    )?;
                    process.up.push(Up::new(&message));
                    check(process.up.len() <= 8, "a channel grows without bounds")?;
                }
            }
            Action::RunMain => {
                check(process.main == Main::NotYet, "main runs twice")?;
                process.main = Main::Running;
            }
            Action::StartTimer(timer) => {
                check(
                    !*process.timers.successor(timer),
                    "a timer is started twice",
                )?;
                *process.timers.successor(timer) = true;
            }
            Action::StopTimer(timer) => *process.timers.successor(timer) = false,
            Action::OpenGates => {
                let alone = matches!(process.parent, Parent::None | Parent::Gone);
                check(
                    alone || process.committed,
                    "a successor accepts before the commit",
                )?;
                check(process.gated(), "gates are opened twice")?;
                process.stream = Gate::Open;
                process.datagram = Gate::Open;
            }
            Action::ResolveReady(result) => {
                check(process.ready.is_none(), "ready() is resolved twice")?;
                check(
                    result.is_ok() || process.gated(),
                    "ready() is an error after the commit",
                )?;
                process.ready = Some(result.is_ok());
            }
            Action::WritePidFile => {
                check(!process.named, "the pid file is written twice")?;
                check(!process.gated(), "a pid file without a commit")?;
                process.named = true;
            }
            Action::BecomeOwner => {
                process.owner = true;
                if process.end != End::No {
                    self.check_unlinking(slot)?;
                }
            }
            Action::RestoreStderr => process.audible = true,
            Action::ApplyOptions | Action::JoinProcessGroup => {}
            Action::WatchPredecessor => process.watching = true,
            Action::CloseUnclaimed => check(
                process.parent == Parent::Gone,
                "the predecessor still needs a socket",
            )?,
            Action::EndNow => {
                check(process.gated(), "a process that serves ends at once")?;
                process.main = Main::Ended;
                process.end = End::Waits { stops: true };
            }
            Action::BeginStop => self.begin_stop(slot)?,
            Action::AbortDrain => self.abort_drain(slot)?,
            Action::PassOn(event) => self.incumbent(slot, event)?,
            Action::Refuse(_) => {
                check(
                    process.unanswered > u8::from(process.accepted),
                    "a refusal without a trigger",
                )?;
                process.unanswered -= 1;
            }
        }
        Ok(())
    }

    fn begin_stop(&mut self, slot: Slot) -> Verdict {
        let process = self.at_mut(slot);
        check(process.end == End::No, "it ends twice")?;
        process.end = End::Stops;
        process.stream = Gate::Over;
        process.datagram = Gate::Over;
        self.check_unlinking(slot)
    }

    fn abort_drain(&mut self, slot: Slot) -> Verdict {
        let process = self.at_mut(slot);
        check(
            process.end != End::No,
            "a drain is aborted that has not begun",
        )?;
        let stops = !process.drains();
        process.end = End::Exits { stops };
        self.hasty |= !stops;
        Ok(())
    }

    /// An owner that stops unlinks its paths.
    fn check_unlinking(&self, slot: Slot) -> Verdict {
        let served = self
            .processes()
            .any(|(other, process)| other != slot && process.serves());
        check(
            !self.at(slot).owner || !served,
            "a path is unlinked that another process serves on",
        )
    }

    fn offer(&self) -> ToSuccessor {
        ToSuccessor::Offer(Offer {
            versions: Versions::OURS,
            capabilities: Capabilities::ours(),
            generation: 2,
            pid: 1,
            process_group: None,
            sockets: 2,
            mask: Vec::new(),
            drain_timeout_ms: None,
            kill_grace_ms: None,
            probation_ms: u64::from(self.probation),
            older: Vec::new(),
            descriptors: Vec::new(),
        })
    }
}
