//! All processes of a service, what the shells do for the machines, and what must hold.

use std::rc::Rc;

use super::message::{Down, Up};
use super::process::{End, Ending, Gate, Life, Main, Parent, Process, Slot};
use crate::protocol::{
    Abort, Capabilities, Offer, Outcome, ToIncumbent, ToSuccessor, Versions, incumbent, successor,
};

/// What breaks a promise.
pub(super) type Verdict = Result<(), String>;

/// How many processes exist at once: a predecessor that drains, an incumbent and its successor.
const PROCESSES: usize = 3;

/// A state of the whole service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    slots: [Option<Rc<Process>>; PROCESSES],
    probation: bool,
    pub(super) budget: Budget,
    /// A stop has reached a process whose end is the end of the service.
    stopped: bool,
    /// One that had nothing before it which could have kept it from that.
    stopped_for_sure: bool,
    /// A drain was aborted.
    hasty: bool,
    /// Something bad has happened, to anybody.
    violence: u8,
    /// Something bad has happened to a process that served.
    wounded: bool,
    /// Nobody could have been left to serve.
    excused: bool,
}

/// What the adversary can still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    pub(super) triggers: u8,
    pub(super) stops: u8,
    pub(super) drops: u8,
    pub(super) kills: u8,
    pub(super) faults: u8,
}

/// How bad something is for the process that it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violence {
    Deadly,
    Paralysing,
    Confusing,
}

impl Budget {
    pub(super) const NONE: Self = Self {
        triggers: 0,
        stops: 0,
        drops: 0,
        kills: 0,
        faults: 0,
    };
}

impl World {
    /// A first generation that serves.
    pub(super) fn new(probation: bool, budget: Budget) -> Self {
        let mut world = Self {
            slots: [Some(Rc::new(Process::first())), None, None],
            probation,
            budget,
            stopped: false,
            stopped_for_sure: false,
            hasty: false,
            violence: 0,
            wounded: false,
            excused: false,
        };
        world.at_mut(0).main = Main::Ready;
        world
            .successor(
                0,
                successor::Event::Ready {
                    claimed: Vec::new(),
                },
            )
            .unwrap();
        world
    }

    pub(super) fn processes(&self) -> impl Iterator<Item = (Slot, &Process)> {
        (0..)
            .zip(&self.slots)
            .filter_map(|(slot, process)| Some((slot, process.as_deref()?)))
    }

    pub(super) fn at(&self, slot: Slot) -> &Process {
        self.slots[usize::from(slot)].as_deref().unwrap()
    }

    pub(super) fn at_mut(&mut self, slot: Slot) -> &mut Process {
        Rc::make_mut(self.slots[usize::from(slot)].as_mut().unwrap())
    }

    /// Returns the living parent.
    pub(super) fn parent(&self, slot: Slot) -> Slot {
        let Parent::Alive(parent) = self.at(slot).parent else {
            unreachable!("only the living hear and wait")
        };
        parent
    }

    /// Gives an event to the successor machine of a process, and does what it says.
    pub(super) fn successor(&mut self, slot: Slot, event: successor::Event<'_>) -> Verdict {
        // A trigger that the predecessor passes on has no asker here, but is answered like any
        // other.
        if event == successor::Event::Received(&ToSuccessor::HandOver {}) && !self.at(slot).gated()
        {
            self.at_mut(slot).unanswered += 1;
        }
        let actions = self.at_mut(slot).successor.on(event);
        for action in actions {
            self.do_successor(slot, action)?;
        }
        Ok(())
    }

    /// Gives an event to the incumbent machine of a process, and does what it says.
    pub(super) fn incumbent(&mut self, slot: Slot, event: incumbent::Event<'_>) -> Verdict {
        let actions = self.at_mut(slot).incumbent.on(event);
        for action in actions {
            self.do_incumbent(slot, action)?;
        }
        Ok(())
    }

    pub(super) fn spawn(&mut self, slot: Slot) -> Verdict {
        self.at_mut(slot).spawning = false;
        let free = (0..)
            .zip(&self.slots)
            .find(|(_, process)| process.is_none());
        let Some((child, _)) = free else {
            return self.incumbent(
                slot,
                incumbent::Event::SpawnFailed {
                    error: String::new(),
                },
            );
        };
        self.slots[usize::from(child)] = Some(Rc::new(Process::spawned(child, slot)));
        self.at_mut(slot).child = Some(child);
        self.incumbent(
            slot,
            incumbent::Event::Spawned {
                pid: i32::from(child),
            },
        )
    }

    /// Lets a process die. It stays where it is for as long as a parent can still hear it and wait
    /// for it.
    pub(super) fn bury(&mut self, slot: Slot) {
        let process = self.at_mut(slot);
        process.life = Life::Dead;
        process.down.clear();
        process.sockets = 0;
        process.timers = Default::default();
        process.spawning = false;
        process.parking = false;
        let orphan = !matches!(process.parent, Parent::Alive(_));
        let child = process.child;
        if orphan {
            self.remove(slot);
        }
        if let Some(child) = child {
            let child_process = self.at_mut(child);
            child_process.parent = Parent::Died;
            child_process.sockets = 0;
            child_process.up.clear();
            if child_process.life == Life::Dead {
                self.remove(child);
            }
        }
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        self.slots[usize::from(slot)] = None;
    }

    fn do_incumbent(&mut self, slot: Slot, action: incumbent::Action) -> Verdict {
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

    fn do_successor(&mut self, slot: Slot, action: successor::Action) -> Verdict {
        use successor::Action;

        let process = self.at_mut(slot);
        match action {
            // Only the shell listens to these.
            Action::Send(ToIncumbent::Taken { .. }) => {}
            Action::Send(message) => {
                if matches!(process.parent, Parent::Alive(_)) && !process.closed {
                    process.said_settled |= message == (ToIncumbent::Settled {});
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
            Action::BecomeOwner => {
                process.owner = true;
                if process.end != End::No {
                    self.check_unlinking(slot)?;
                }
            }
            Action::RestoreStderr | Action::JoinProcessGroup => {}
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

fn check(holds: bool, otherwise: &str) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(otherwise.to_owned())
    }
}
