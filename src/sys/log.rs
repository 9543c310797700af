//! Events that cannot do harm.
//!
//! Whoever collects events is the program's, and may panic: `tracing-subscriber` does where standard
//! error is a pipe that nobody reads any more. That must not keep a service from handing over, nor
//! from stopping. All events have the target `handover`, whatever file they come from.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs what makes an event, and lets its panic be.
pub(crate) fn quietly(event: impl FnOnce()) {
    // There is nobody left who could be told.
    catch_unwind(AssertUnwindSafe(event)).ok();
}

macro_rules! event {
    ($level:ident, $($event:tt)*) => {
        $crate::sys::log::quietly(|| ::tracing::$level!(target: "handover", $($event)*))
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
