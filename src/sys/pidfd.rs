//! Processes by descriptor: `pidfd_open(2)`, `pidfd_send_signal(2)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::fd;

/// Opens a descriptor that becomes readable when the process ends (Linux 5.3).
///
/// `pid` must be this process, or a child that it has not reaped, so that the number cannot have
/// been given to another process in the meantime; or it is looked at afterwards whose it is.
pub(crate) fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let raw = Errno::result(raw)?;
    RawFd::try_from(raw).map(fd::own).map_err(io::Error::other)
}

/// Whether the process behind the descriptor has ended.
pub(crate) fn has_ended(pidfd: &impl AsFd) -> bool {
    let mut poll = libc::pollfd {
        fd: pidfd.as_fd().as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: it is one structure, which outlives the call.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

/// Sends a signal to exactly the process behind the descriptor (Linux 5.1).
///
/// A process that has ended already is no error.
pub(crate) fn signal(pidfd: &impl AsFd, signal: Signal) -> io::Result<()> {
    let raw = pidfd.as_fd().as_raw_fd();
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null `siginfo_t` is allowed and means what kill(2) would send.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, raw, signal as i32, info, 0) };
    match Errno::result(sent) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
