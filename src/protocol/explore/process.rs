//! One generation, as the model sees it.

use super::message::{Down, Up};
use crate::protocol::{Incumbent, Successor, incumbent, successor};

/// Where a process is in the model.
pub(super) type Slot = u8;

/// A process: its machines, what its shell has under way, and the channel to its parent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) successor: Successor,
    pub(super) incumbent: Incumbent,
    pub(super) life: Life,
    pub(super) main: Main,
    pub(super) stream: Gate,
    pub(super) datagram: Gate,
    pub(super) timers: Timers,
    pub(super) spawning: bool,
    pub(super) parking: bool,
    pub(super) end: End,
    pub(super) watching: bool,
    pub(super) owner: bool,
    pub(super) active: bool,
    /// What `ready()` has returned.
    pub(super) ready: Option<bool>,
    /// Triggers without an answer yet.
    pub(super) unanswered: u8,
    /// The trigger that is being carried out.
    pub(super) accepted: bool,
    pub(super) child: Option<Slot>,

    pub(super) parent: Parent,
    pub(super) down: Vec<Down>,
    pub(super) up: Vec<Up>,
    /// `Sockets` records that the parent has yet to send.
    pub(super) sockets: u8,
    pub(super) closed: bool,
    /// What the parent does to end this process.
    pub(super) ending: Ending,

    /// The parent has sent Commit.
    pub(super) committed: bool,
    /// This process has written the pid file.
    pub(super) named: bool,
    /// This process writes to its own standard error, and not to the parent's pipe.
    pub(super) audible: bool,
    /// This process has said Settled.
    pub(super) said_settled: bool,
    /// The parent has heard Settled, or Stopping after the commit.
    pub(super) heard_the_last: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Life {
    Running,
    /// It exists, and does nothing any more.
    Hung,
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Main {
    NotYet,
    Running,
    Ready,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Gate {
    /// It was never open.
    New,
    Open,
    /// Closed or parked: it may open again.
    Closed,
    /// Closed for good.
    Over,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Timers {
    pub(super) ready: bool,
    pub(super) commit: bool,
    pub(super) incumbent_probation: bool,
    pub(super) successor_probation: bool,
}

/// How far a process is with ending itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    No,
    /// `BeginDrain`: `on_drain` runs.
    Drains,
    /// `BeginStop`: `on_drain` runs.
    Stops,
    /// Its hooks have run; connections may keep it.
    Waits {
        stops: bool,
    },
    /// Nothing keeps it.
    Exits {
        stops: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Parent {
    None,
    Alive(Slot),
    /// Dead, and this process has not noticed.
    Died,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ending {
    No,
    /// The parent has seen that it died; nothing more.
    Noticed,
    Asked,
    Terminated,
}

impl Process {
    pub(super) fn first() -> Self {
        Self {
            owner: true,
            main: Main::Running,
            ..Self::new(Successor::first(), Parent::None, 0)
        }
    }

    pub(super) fn spawned(slot: Slot, parent: Slot) -> Self {
        Self::new(
            Successor::offered(i32::from(slot), true),
            Parent::Alive(parent),
            0,
        )
    }

    pub(super) fn runs(&self) -> bool {
        self.life == Life::Running
    }

    pub(super) fn serves(&self) -> bool {
        self.runs() && self.stream == Gate::Open
    }

    /// Returns whether it has handed over for good.
    pub(super) fn drains(&self) -> bool {
        matches!(
            self.end,
            End::Drains | End::Waits { stops: false } | End::Exits { stops: false }
        )
    }

    pub(super) fn gated(&self) -> bool {
        self.stream == Gate::New
    }

    /// Returns whether it could carry on if its parent died now.
    pub(super) fn could_take_over(&self) -> bool {
        self.runs()
            && self.end == End::No
            && self.main != Main::Ended
            && self.ending == Ending::No
            && !self.closed
    }

    fn new(successor: Successor, parent: Parent, sockets: u8) -> Self {
        Self {
            successor,
            incumbent: Incumbent::new(),
            life: Life::Running,
            main: Main::NotYet,
            stream: Gate::New,
            datagram: Gate::New,
            timers: Timers::default(),
            spawning: false,
            parking: false,
            end: End::No,
            watching: false,
            owner: false,
            active: false,
            ready: None,
            unanswered: 0,
            accepted: false,
            child: None,
            parent,
            down: Vec::new(),
            up: Vec::new(),
            sockets,
            closed: false,
            ending: Ending::No,
            committed: false,
            named: false,
            audible: false,
            said_settled: false,
            heard_the_last: false,
        }
    }
}

impl Timers {
    pub(super) fn incumbent(&mut self, timer: incumbent::Timer) -> &mut bool {
        match timer {
            incumbent::Timer::Ready => &mut self.ready,
            incumbent::Timer::Commit => &mut self.commit,
            incumbent::Timer::Probation => &mut self.incumbent_probation,
        }
    }

    pub(super) fn successor(&mut self, timer: successor::Timer) -> &mut bool {
        match timer {
            successor::Timer::Probation => &mut self.successor_probation,
        }
    }

    pub(super) fn any(self) -> bool {
        self != Self::default()
    }
}
