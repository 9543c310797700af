//! A clock that all processes of the machine read alike.

use nix::time::{ClockId, clock_gettime};
use std::{io, time::Duration};

/// Returns the time since some moment in the past, the same for all processes (`CLOCK_MONOTONIC`).
///
/// # Errors
///
/// What `clock_gettime(2)` says.
pub fn now() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}
