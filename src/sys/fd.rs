//! Where a descriptor number becomes an owned descriptor.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Takes ownership of a descriptor that the kernel has just given to this process, or that its
/// starter left open for it. Only the latter is not CLOEXEC yet.
///
/// This is the only door through which an integer becomes a descriptor. Its callers are
/// `recvmsg(2)` with `SCM_RIGHTS`, `pidfd_open(2)`, `F_DUPFD` of `fcntl(2)`, and the range of `LISTEN_FDS`, each of which
/// hands every number over once.
pub(super) fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: the number is open and nobody else in this process owns it, by the contract above.
    // If that were false, dropping the result would close a descriptor under its real owner.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Sets `FD_CLOEXEC`, so that no child of the service inherits the descriptor.
pub(crate) fn set_cloexec(fd: &impl AsFd) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(())
}

/// Sets or clears `O_NONBLOCK` on the open file description.
pub(crate) fn set_nonblocking(fd: &impl AsFd, nonblocking: bool) -> io::Result<()> {
    let mut flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, nonblocking);
    fcntl(fd, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

/// Whether nothing is left in a pipe, and nobody can write into it.
pub(crate) fn has_ended(pipe: &impl AsFd) -> bool {
    let mut poll_fd = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    let seen = poll(&mut poll_fd, PollTimeout::ZERO).is_ok();
    let events = poll_fd[0].revents().unwrap_or(PollFlags::empty());
    seen && events.contains(PollFlags::POLLHUP) && !events.contains(PollFlags::POLLIN)
}

/// Whether the number names an open descriptor.
pub(super) fn is_open(raw: RawFd) -> bool {
    std::path::Path::new(&format!("/proc/self/fd/{raw}"))
        .symlink_metadata()
        .is_ok()
}

/// Device and inode of a descriptor, the two numbers by which `fstat(2)` tells files apart.
pub(crate) fn identity(fd: &impl AsFd) -> io::Result<(u64, u64)> {
    let stat = nix::sys::stat::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::stdio;

    #[test]
    fn a_pipe_has_ended_when_it_is_empty_and_nobody_can_write() {
        let (read, write) = stdio::pipe().expect("a pipe");
        assert!(!has_ended(&read), "somebody can write");
        nix::unistd::write(&write, b"x").expect("room");
        drop(write);
        assert!(!has_ended(&read), "something is in it");
        nix::unistd::read(&read, &mut [0]).expect("what was written");
        assert!(has_ended(&read));
    }
}
