//! All processes of a service, what the shells do for the machines, and what must hold.

use std::rc::Rc;

use super::process::{Life, Main, Parent, Process, Slot};
use crate::protocol::{ToSuccessor, incumbent, successor};

/// What breaks a promise.
pub(super) type Verdict = Result<(), String>;

/// How many processes exist at once: a predecessor that drains, an incumbent and its successor.
const PROCESSES: usize = 3;

/// A state of the whole service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) slots: [Option<Rc<Process>>; PROCESSES],
    pub(super) probation: bool,
    pub(super) budget: Budget,
    /// A stop has reached a process whose end is the end of the service.
    pub(super) stopped: bool,
    /// One that had nothing before it which could have kept it from that.
    pub(super) stopped_for_sure: bool,
    /// A drain was aborted.
    pub(super) hasty: bool,
    /// Something bad has happened, to anybody.
    pub(super) violence: u8,
    /// Something bad has happened to a process that served.
    pub(super) wounded: bool,
    /// Nobody could have been left to serve.
    pub(super) excused: bool,
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
}
