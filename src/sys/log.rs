//! Events that cannot do harm.
//!
//! Whoever collects events is the program's, and may panic: `tracing-subscriber` does where standard
//! error is a pipe that nobody reads any more. That must not keep a service from handing over, nor
//! from stopping. The target of an event is the floor that it comes from, such as `handover::net`,
//! or, with `floor;` in front, the one that it is about; files may move.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs what makes an event, and lets its panic be.
pub(crate) fn quietly(event: impl FnOnce()) {
    // There is nobody left who could be told.
    catch_unwind(AssertUnwindSafe(event)).ok();
}

/// The target of events from a module of this crate.
pub(crate) const fn target(module: &str) -> &'static str {
    let mut floor = 0;
    while floor < TARGETS.len() {
        if is_in(module.as_bytes(), TARGETS[floor].as_bytes()) {
            return TARGETS[floor];
        }
        floor += 1;
    }
    // What stands beside the folders is one floor with it.
    "handover::run"
}

/// Whether the second part of a module's path is that of a target. The first is the name that the
/// crate was built under.
const fn is_in(module: &[u8], target: &[u8]) -> bool {
    let (mut at, mut same) = (0, "handover".len());
    while at < module.len() && module[at] != b':' {
        at += 1;
    }
    while at < module.len() && same < target.len() && module[at] == target[same] {
        at += 1;
        same += 1;
    }
    same == target.len() && (at == module.len() || module[at] == b':')
}

macro_rules! event {
    ($level:ident, $floor:ident; $($event:tt)*) => {
        $crate::sys::log::quietly(|| {
            ::tracing::$level!(target: concat!("handover::", stringify!($floor)), $($event)*)
        })
    };
    ($level:ident, $($event:tt)*) => {
        $crate::sys::log::quietly(|| {
            ::tracing::$level!(target: $crate::sys::log::target(module_path!()), $($event)*)
        })
    };
}

macro_rules! error_event { ($($event:tt)*) => { $crate::sys::log::event!(error, $($event)*) }; }
macro_rules! warn_event { ($($event:tt)*) => { $crate::sys::log::event!(warn, $($event)*) }; }
macro_rules! info_event { ($($event:tt)*) => { $crate::sys::log::event!(info, $($event)*) }; }
macro_rules! debug_event { ($($event:tt)*) => { $crate::sys::log::event!(debug, $($event)*) }; }
macro_rules! trace_event { ($($event:tt)*) => { $crate::sys::log::event!(trace, $($event)*) }; }

pub(crate) use {
    debug_event as debug, error_event as error, event, info_event as info, trace_event as trace,
    warn_event as warn,
};

/// The targets of all events: one for each floor, and for each integration.
pub(crate) const TARGETS: [&str; 10] = [
    "handover::sys",
    "handover::socket",
    "handover::protocol",
    "handover::lifecycle",
    "handover::net",
    "handover::run",
    "handover::serve",
    "handover::systemd",
    "handover::control",
    "handover::metrics",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_floor_and_no_file() {
        for (module, expected) in [
            (module_path!(), "handover::sys"),
            ("handover::net", "handover::net"),
            ("handover_older::serve::rustls::below", "handover::serve"),
            ("handover::run::engine::lane", "handover::run"),
            ("handover::context", "handover::run"),
            ("handover::network::peer", "handover::run"),
            ("handover", "handover::run"),
        ] {
            assert_eq!(target(module), expected, "{module}");
        }
    }
}
