//! The engine of a service that stops and still accepts.

use super::Engine;
use crate::lifecycle::event::What;
use crate::run::drain::FOREVER;
use crate::run::input::Input;
use crate::sys::log;

/// The time in which a service that stops still accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LameDuck {
    /// It has not begun, or there is none.
    Not,
    Lasts,
    /// Its time is up.
    Over,
    /// A second stop has ended it.
    Hurried,
}

impl Engine {
    /// Nobody will serve after this generation: says so, and drains when whoever directs clients
    /// here has had the time to hear it. The machines know nothing of that time: for them the
    /// service stops from its start on, so that a handover is refused and a neighbour stops, too.
    pub(super) fn begin_stop(&mut self) {
        let time = self.shared.options.lame_duck;
        // When main has ended nobody accepts, and what drains already is not asked twice.
        let waits = !time.is_zero() && self.main.is_none() && self.drain.is_none();
        if !waits {
            return self.begin_drain(true);
        }
        self.lame_duck = LameDuck::Lasts;
        self.shared.tokens.stopping.cancel();
        self.later(time.min(FOREVER), Input::LameDuckOver);
        let connections = self.shared.tracker.open();
        let lame_duck_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        log::info!(
            generation = self.shared.generation,
            pid = std::process::id(),
            connections,
            lame_duck_ms,
            "stopping: not ready for more, accepting what comes"
        );
        self.note(What::LameDuck {
            connections,
            lame_duck_ms,
        });
    }

    pub(super) fn end_lame_duck(&mut self) {
        if self.lame_duck == LameDuck::Lasts {
            self.lame_duck = LameDuck::Over;
            self.begin_drain(true);
        }
    }

    /// A second stop: ends the lame-duck time, or else the drain.
    pub(super) fn hurry(&mut self) {
        if self.lame_duck == LameDuck::Lasts {
            self.lame_duck = LameDuck::Hurried;
            self.begin_drain(true);
        } else {
            self.abort("a second stop");
        }
    }
}
