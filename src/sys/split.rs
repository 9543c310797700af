//! A process in two halves, so that whoever adopts orphans adopts the one that matters.
//!
//! A service manager treats a main process that is not its child as one that it can neither wait
//! for nor stop in peace, and a child can change its parent only by losing it. So the first half is
//! there to be lost: it waits for the second, ends as that one does, and can be killed at any time.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal};
use nix::sys::signal::{raise, sigaction, sigprocmask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// Goes on in a child of this process. What is left of this process ends as the child ends.
///
/// # Errors
///
/// When this process has other threads already, or cannot fork.
pub(crate) fn split() -> io::Result<()> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("there are other threads already"));
    }
    // SAFETY: this thread is the only one, so no lock is held that the child would wait for. If
    // that were false, the child could stand still for ever.
    match unsafe { fork() }? {
        ForkResult::Child => Ok(()),
        ForkResult::Parent { child } => end_as(child),
    }
}

/// Whether `child` is a child of `parent`.
pub(crate) fn is_child_of(child: u32, parent: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    // The name stands in parentheses and may have any character in it (proc(5)).
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    fields
        .split(' ')
        .nth(1)
        .and_then(|field| field.parse().ok())
        == Some(parent)
}

/// Holds nothing open, waits, and ends in the same way. No exit handler runs: they are the other
/// half's.
fn end_as(child: Pid) -> ! {
    // SAFETY: nothing of this process is used after this but the calls below, which use no
    // descriptor. If that were false, they would fail.
    unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) };
    let code = loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => break code,
            Ok(WaitStatus::Signaled(_, signal, _)) => die_of(signal),
            Ok(_) | Err(Errno::EINTR) => {}
            // There is nobody to tell.
            Err(_) => break libc::EXIT_FAILURE,
        }
    };
    // SAFETY: it does not return, and runs no code of ours.
    unsafe { libc::_exit(code) }
}

fn die_of(signal: Signal) -> ! {
    // The other half has left a core, if one was wanted. Whatever fails here shows in the status.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).ok();
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: no handler is installed.
    unsafe { sigaction(signal, &default) }.ok();
    sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&SigSet::from(signal)), None).ok();
    raise(signal).ok();
    // SAFETY: as above.
    unsafe { libc::_exit(128 + signal as i32) }
}
