//! This process among others: its group, its terminal, its clock.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, getpgid, getpgrp, setpgid, tcgetpgrp};

/// The group that this process belongs to.
pub(crate) fn group() -> i32 {
    getpgrp().as_raw()
}

/// Moves this process into a group of its session.
///
/// # Errors
///
/// `EPERM` where the group no longer exists or is of another session (`setpgid(2)`).
pub(crate) fn join_group(group: i32) -> io::Result<()> {
    Ok(setpgid(Pid::from_raw(0), Pid::from_raw(group))?)
}

/// The group that another process belongs to.
pub(crate) fn group_of(pid: u32) -> Option<u32> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?);
    u32::try_from(getpgid(Some(pid)).ok()?.as_raw()).ok()
}

/// How many threads this process has: as many directories has that of its tasks (`proc_pid_task(5)`),
/// each of which is a link to it, beside its own two.
///
/// # Errors
///
/// Where `/proc` is not mounted.
pub(crate) fn threads() -> io::Result<u64> {
    Ok(fs::metadata("/proc/self/task")?.nlink().saturating_sub(2))
}

/// Sends a signal to a child that has not been reaped; one that has ended is no error.
pub(crate) fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Sends a signal to every process of a group; a group that is gone is no error.
pub(crate) fn signal_group(group: u32, signal: Signal) -> io::Result<()> {
    let group = i32::try_from(group).map_err(io::Error::other)?;
    match killpg(Pid::from_raw(group), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether this process can reach a controlling terminal.
///
/// `/dev/tty` answers `ENXIO` without one and `EIO` after a hang-up (`tty(4)`).
pub(crate) fn has_terminal() -> bool {
    terminal().is_ok()
}

/// Whether this process is in the foreground of its terminal (`tcgetpgrp(3)`).
pub(crate) fn is_in_foreground() -> bool {
    terminal().is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}

fn terminal() -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open("/dev/tty")
}

/// The time since boot, which all generations share (`CLOCK_MONOTONIC`).
pub(crate) fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}
