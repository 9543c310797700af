//! The standard streams, which change hands during a start.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Takes what is on standard input away and leaves `/dev/null` there.
pub(super) fn take_stdin() -> io::Result<OwnedFd> {
    let taken = io::stdin().as_fd().try_clone_to_owned()?;
    restore_stdin(&File::open("/dev/null")?)?;
    Ok(taken)
}

/// Puts a descriptor on standard input.
pub(crate) fn restore_stdin(fd: &impl AsFd) -> io::Result<()> {
    Ok(nix::unistd::dup2_stdin(fd)?)
}

/// Puts a descriptor on standard error.
pub(crate) fn restore_stderr(fd: &impl AsFd) -> io::Result<()> {
    Ok(nix::unistd::dup2_stderr(fd)?)
}

/// A pipe whose ends are both `CLOEXEC`: the end to read, the end to write.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// A copy of standard input, for the successor.
pub(crate) fn copy_stdin() -> io::Result<OwnedFd> {
    io::stdin().as_fd().try_clone_to_owned()
}

/// A copy of standard output, for a successor that was not given a standard error.
pub(crate) fn copy_stdout() -> io::Result<OwnedFd> {
    io::stdout().as_fd().try_clone_to_owned()
}

/// A copy of standard error, for the successor.
pub(crate) fn copy_stderr() -> io::Result<OwnedFd> {
    io::stderr().as_fd().try_clone_to_owned()
}
