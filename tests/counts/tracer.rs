//! Counts the system calls of a process, as `strace -c` does.

use std::{collections::BTreeMap, fs, io};

use nix::{
    errno::Errno,
    libc,
    sys::{
        ptrace::{self, Options},
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// How often each system call was made, by number.
pub(crate) type Calls = BTreeMap<u64, u64>;

/// Counts the calls of all threads of `pid` until it ends.
///
/// A call that would have blocked does not count: how often a server asks in vain depends on how fast the events come.
///
/// Only the thread that calls this can be the tracer of `pid`, and it must be the one that has started it.
pub(crate) fn count_until_end(pid: Pid) -> io::Result<Calls> {
    // Of this thread only: other tests of this process wait for children of their own.
    let ours = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    for thread in threads(pid)? {
        ptrace::seize(
            thread,
            Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE,
        )?;
        ptrace::interrupt(thread)?;
    }

    let mut calls = Calls::new();
    // A stop at a call comes twice, when it is entered and when it is left.
    let mut inside = BTreeMap::new();
    loop {
        match waitpid(Pid::from_raw(-1), Some(ours)) {
            Ok(WaitStatus::PtraceSyscall(thread)) => {
                let (number, result) = registers(thread)?;
                if let Some(number) = inside.remove(&thread) {
                    if result != -i64::from(libc::EAGAIN) {
                        *calls.entry(number).or_default() += 1;
                    }
                } else {
                    inside.insert(thread, number);
                }
                resume(thread, None)?;
            }
            Ok(WaitStatus::PtraceEvent(thread, ..)) => resume(thread, None)?,
            Ok(WaitStatus::Stopped(thread, signal)) => resume(thread, Some(signal))?,
            Ok(WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, ..))
                if thread == pid =>
            {
                return Ok(calls);
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn resume(thread: Pid, signal: Option<Signal>) -> io::Result<()> {
    match ptrace::syscall(thread, signal) {
        // It is being killed; its end is the next thing to be heard of it.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn threads(pid: Pid) -> io::Result<Vec<Pid>> {
    fs::read_dir(format!("/proc/{pid}/task"))?
        .map(|entry| {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.parse().ok());
            number
                .map(Pid::from_raw)
                .ok_or_else(|| io::Error::other(format!("{name:?} is no thread")))
        })
        .collect()
}

/// The number of the call that the thread is stopped at, and when it leaves it, the result.
#[cfg(target_arch = "x86_64")]
fn registers(thread: Pid) -> io::Result<(u64, i64)> {
    let registers = ptrace::getregs(thread)?;
    Ok((
        registers.orig_rax,
        i64::from_ne_bytes(registers.rax.to_ne_bytes()),
    ))
}

/// The number of the call that the thread is stopped at, and when it leaves it, the result.
#[cfg(target_arch = "aarch64")]
fn registers(thread: Pid) -> io::Result<(u64, i64)> {
    let registers = ptrace::getregs(thread)?;
    Ok((
        registers.regs[8],
        i64::from_ne_bytes(registers.regs[0].to_ne_bytes()),
    ))
}

/// The name of the calls that a server makes, for messages; a number says enough of the others.
pub(crate) fn name(number: u64) -> String {
    let known = [
        (libc::SYS_accept4, "accept4"),
        (libc::SYS_close, "close"),
        (libc::SYS_epoll_ctl, "epoll_ctl"),
        (libc::SYS_epoll_pwait, "epoll_pwait"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_epoll_wait, "epoll_wait"),
        (libc::SYS_fcntl, "fcntl"),
        (libc::SYS_futex, "futex"),
        (libc::SYS_getpeername, "getpeername"),
        (libc::SYS_getsockname, "getsockname"),
        (libc::SYS_getsockopt, "getsockopt"),
        (libc::SYS_ioctl, "ioctl"),
        (libc::SYS_read, "read"),
        (libc::SYS_recvfrom, "recvfrom"),
        (libc::SYS_sendto, "sendto"),
        (libc::SYS_setsockopt, "setsockopt"),
        (libc::SYS_shutdown, "shutdown"),
        (libc::SYS_write, "write"),
    ];
    known
        .iter()
        .find(|(known, _)| u64::try_from(*known) == Ok(number))
        .map_or_else(|| format!("call {number}"), |(_, name)| (*name).to_owned())
}
