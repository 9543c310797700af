//! What can happen next.

use super::message::{Down, Up};
use super::process::{End, Ending, Life, Main, Parent, Process, Slot};
use super::promises::Violence;
use super::world::{Verdict, World};
use crate::protocol::failure::Abort;
use crate::protocol::{Failed, Sockets, Stage, ToSuccessor, incumbent, successor};

/// One thing that happens, to the process in a slot.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// It hears its parent.
    HearParent(Slot),
    /// Its parent hears it.
    HearChild(Slot),
    /// Its parent sends the next part of the sockets.
    SendSockets(Slot),
    Spawn(Slot),
    Park(Slot),
    Ready(Slot),
    IncumbentTimer(Slot, incumbent::Timer),
    SuccessorTimer(Slot, successor::Timer),
    RunHooks(Slot),
    Exit(Slot),
    NoticeParent(Slot),
    NoticeChild(Slot),
    /// Its parent sends it SIGTERM.
    Terminate(Slot),
    /// Its parent sends it SIGKILL.
    Kill(Slot),
    Reap(Slot),
    /// It kills its parent, whose deadline has passed.
    KillParent(Slot),

    Trigger(Slot),
    Stop(Slot),
    DropAsker(Slot),

    /// SIGKILL from elsewhere, or a crash.
    Die(Slot),
    /// A hook fails, or main ends with an error.
    Fail(Slot),
    Hang(Slot),
    BabbleToParent(Slot),
    BabbleToChild(Slot),
    CloseChannel(Slot),
    SpawnFails(Slot),
    ParkFails(Slot),
}

impl Step {
    /// Returns whether it happens by itself, sooner or later, and costs the adversary nothing.
    pub(super) fn is_inevitable(self) -> bool {
        !matches!(
            self,
            Self::Trigger(_)
                | Self::Stop(_)
                | Self::DropAsker(_)
                | Self::Die(_)
                | Self::Fail(_)
                | Self::Hang(_)
                | Self::BabbleToParent(_)
                | Self::BabbleToChild(_)
                | Self::CloseChannel(_)
                | Self::SpawnFails(_)
                | Self::ParkFails(_)
        )
    }
}

impl World {
    /// Returns everything that can happen.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (slot, process) in self.processes() {
            let parent_runs =
                matches!(process.parent, Parent::Alive(parent) if self.at(parent).runs());
            let mut when = |condition: bool, step: Step| {
                if condition {
                    steps.push(step);
                }
            };

            when(parent_runs && !process.up.is_empty(), Step::HearChild(slot));
            let ended = process.life == Life::Dead || process.closed;
            let alone =
                parent_runs && ended && process.up.is_empty() && process.ending == Ending::No;
            when(alone, Step::NoticeChild(slot));
            when(
                parent_runs && process.ending == Ending::Terminated && process.life != Life::Dead,
                Step::Kill(slot),
            );
            let asked = matches!(process.ending, Ending::Asked | Ending::Terminated);
            when(
                parent_runs && asked && process.life == Life::Dead,
                Step::Reap(slot),
            );
            if process.life == Life::Dead {
                continue;
            }
            when(
                parent_runs && process.ending == Ending::Asked,
                Step::Terminate(slot),
            );
            when(
                parent_runs && process.sockets > 0 && !process.closed,
                Step::SendSockets(slot),
            );

            let any_fault = self.budget.faults > 0;
            when(self.budget.kills > 0, Step::Die(slot));
            if process.life == Life::Hung {
                continue;
            }
            when(!process.down.is_empty(), Step::HearParent(slot));
            when(
                process.parent == Parent::Died && process.down.is_empty(),
                Step::NoticeParent(slot),
            );
            when(
                process.watching && self.parent_hangs(process),
                Step::KillParent(slot),
            );

            when(process.spawning, Step::Spawn(slot));
            when(process.parking, Step::Park(slot));
            when(
                process.main == Main::Running && process.end == End::No,
                Step::Ready(slot),
            );
            let unheard = process
                .child
                .map(|child| self.at(child))
                .is_some_and(|child| {
                    !child.up.is_empty() || child.life == Life::Dead || child.closed
                });
            when(
                process.timers.ready,
                Step::IncumbentTimer(slot, incumbent::Timer::Ready),
            );
            when(
                process.timers.commit,
                Step::IncumbentTimer(slot, incumbent::Timer::Commit),
            );
            when(
                process.timers.incumbent_probation && !unheard,
                Step::IncumbentTimer(slot, incumbent::Timer::Probation),
            );
            let timer = successor::Timer::Probation;
            when(
                *process.timers.clone().successor(timer),
                Step::SuccessorTimer(slot, timer),
            );
            when(
                matches!(process.end, End::Drains | End::Stops),
                Step::RunHooks(slot),
            );
            let may_exit = match process.end {
                End::No | End::Drains | End::Stops => false,
                End::Waits { stops } => stops || process.incumbent.may_exit(),
                End::Exits { .. } => true,
            };
            when(may_exit, Step::Exit(slot));

            when(self.budget.triggers > 0, Step::Trigger(slot));
            when(self.budget.stops > 0, Step::Stop(slot));
            when(
                self.budget.drops > 0 && process.accepted,
                Step::DropAsker(slot),
            );
            let failing = matches!(process.main, Main::NotYet | Main::Running | Main::Ready);
            let child_of_another = process.parent != Parent::None;
            when(
                any_fault && failing && process.end == End::No && child_of_another,
                Step::Fail(slot),
            );
            when(any_fault, Step::Hang(slot));
            when(
                any_fault && parent_runs && !process.closed,
                Step::BabbleToParent(slot),
            );
            when(
                any_fault && parent_runs && !process.closed,
                Step::BabbleToChild(slot),
            );
            when(
                any_fault && parent_runs && !process.closed,
                Step::CloseChannel(slot),
            );
            when(any_fault && process.spawning, Step::SpawnFails(slot));
            when(any_fault && process.parking, Step::ParkFails(slot));
        }
        steps
    }

    /// Takes a step.
    pub(super) fn take(&mut self, step: Step) -> Verdict {
        match step {
            Step::HearParent(slot) => {
                let record = self.at_mut(slot).down.remove(0);
                match record.message() {
                    Some(message) => self.successor(slot, successor::Event::Received(&message)),
                    None => self.successor(
                        slot,
                        successor::Event::Garbage {
                            reason: String::new(),
                        },
                    ),
                }
            }
            Step::HearChild(slot) => {
                let record = self.at_mut(slot).up.remove(0);
                let parent = self.parent(slot);
                match record.message() {
                    Some(message) => {
                        self.note_last_words(slot, &message);
                        self.incumbent(parent, incumbent::Event::Received(&message))
                    }
                    None => self.incumbent(
                        parent,
                        incumbent::Event::Garbage {
                            reason: String::new(),
                        },
                    ),
                }
            }
            Step::SendSockets(slot) => {
                let process = self.at_mut(slot);
                process.sockets -= 1;
                process.down.push(Down::new(&Self::sockets()));
                Ok(())
            }
            Step::Spawn(slot) => self.spawn(slot),
            Step::Park(slot) => {
                self.at_mut(slot).parking = false;
                self.incumbent(slot, incumbent::Event::Parked)
            }
            Step::Ready(slot) => {
                self.at_mut(slot).main = Main::Ready;
                self.successor(
                    slot,
                    successor::Event::Ready {
                        claimed: Vec::new(),
                    },
                )
            }
            Step::IncumbentTimer(slot, timer) => {
                *self.at_mut(slot).timers.incumbent(timer) = false;
                self.incumbent(slot, incumbent::Event::Elapsed(timer))
            }
            Step::SuccessorTimer(slot, timer) => {
                *self.at_mut(slot).timers.successor(timer) = false;
                self.successor(slot, successor::Event::Elapsed(timer))
            }
            Step::RunHooks(slot) => {
                let process = self.at_mut(slot);
                process.end = End::Waits {
                    stops: process.end == End::Stops,
                };
                self.incumbent(slot, incumbent::Event::HooksDrained)
            }
            Step::Exit(slot) => {
                self.bury(slot);
                Ok(())
            }
            Step::NoticeParent(slot) => {
                self.at_mut(slot).parent = Parent::Gone;
                self.successor(slot, successor::Event::PredecessorGone)
            }
            Step::NoticeChild(slot) => {
                self.at_mut(slot).ending = Ending::Noticed;
                let parent = self.parent(slot);
                self.incumbent(
                    parent,
                    incumbent::Event::SuccessorGone { how: String::new() },
                )
            }
            Step::Terminate(slot) => {
                self.at_mut(slot).ending = Ending::Terminated;
                match self.at(slot).life {
                    Life::Running => self.successor(slot, successor::Event::Stop),
                    Life::Hung | Life::Dead => Ok(()),
                }
            }
            Step::Kill(slot) => {
                self.bury(slot);
                Ok(())
            }
            Step::Reap(slot) => {
                let parent = self.parent(slot);
                self.remove(slot);
                self.at_mut(parent).child = None;
                self.incumbent(
                    parent,
                    incumbent::Event::SuccessorEnded { how: String::new() },
                )
            }
            Step::KillParent(slot) => {
                let parent = self.parent(slot);
                self.bury(parent);
                Ok(())
            }

            Step::Trigger(slot) => {
                self.budget.triggers -= 1;
                self.at_mut(slot).unanswered += 1;
                self.successor(slot, successor::Event::Trigger)
            }
            Step::Stop(slot) => {
                self.budget.stops -= 1;
                self.note_stop(slot);
                self.successor(slot, successor::Event::Stop)
            }
            Step::DropAsker(slot) => {
                self.budget.drops -= 1;
                self.successor(slot, successor::Event::CallOff(Abort::AskerGone))
            }

            Step::Die(slot) => {
                self.budget.kills -= 1;
                self.note_violence(slot, Violence::Deadly);
                self.bury(slot);
                Ok(())
            }
            Step::Fail(slot) => {
                self.budget.faults -= 1;
                self.note_violence(slot, Violence::Deadly);
                let was_gated = self.at(slot).gated();
                self.at_mut(slot).main = Main::Ended;
                let failed = Failed::new(Stage::Init, None, &"");
                self.successor(slot, successor::Event::Failed(failed))?;
                // Where the machine leaves it to the shell, the process drains and exits.
                let process = self.at_mut(slot);
                if process.end == End::No {
                    if was_gated {
                        return Err("a failed successor goes on".to_owned());
                    }
                    self.bury(slot);
                }
                Ok(())
            }
            Step::Hang(slot) => {
                self.budget.faults -= 1;
                self.note_violence(slot, Violence::Paralysing);
                self.at_mut(slot).life = Life::Hung;
                Ok(())
            }
            Step::BabbleToParent(slot) => {
                self.budget.faults -= 1;
                self.note_violence(slot, Violence::Confusing);
                self.at_mut(slot).up.push(Up::GARBAGE);
                Ok(())
            }
            Step::BabbleToChild(slot) => {
                self.budget.faults -= 1;
                self.note_violence(slot, Violence::Confusing);
                self.at_mut(slot).down.push(Down::GARBAGE);
                Ok(())
            }
            Step::CloseChannel(slot) => {
                self.budget.faults -= 1;
                self.note_violence(slot, Violence::Confusing);
                let process = self.at_mut(slot);
                process.closed = true;
                process.down.clear();
                Ok(())
            }
            Step::SpawnFails(slot) => {
                self.budget.faults -= 1;
                self.at_mut(slot).spawning = false;
                self.incumbent(
                    slot,
                    incumbent::Event::SpawnFailed {
                        error: String::new(),
                    },
                )
            }
            Step::ParkFails(slot) => {
                self.budget.faults -= 1;
                self.at_mut(slot).parking = false;
                self.incumbent(
                    slot,
                    incumbent::Event::ParkFailed {
                        reason: String::new(),
                    },
                )
            }
        }
    }

    fn parent_hangs(&self, process: &Process) -> bool {
        matches!(process.parent, Parent::Alive(parent) if self.at(parent).life == Life::Hung)
    }

    fn sockets() -> ToSuccessor {
        let described = r#"{"endpoint":"127.0.0.1:80","kind":"tcp"}"#;
        let entries = vec![serde_json::from_str(described).expect("a description")];
        ToSuccessor::Sockets(Sockets {
            entries,
            descriptors: 1,
        })
    }
}
