//! Starting the successor.
//!
//! `std::process::Command` without `pre_exec` takes the `posix_spawn(3)` path
//! (`CLONE_VM | CLONE_VFORK`), whose cost does not grow with the memory of the caller.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::channel::Channel;
use super::inherited::{CHANNEL_VARIABLE, PERSONAL_VARIABLES, format_identity};
use super::{pidfd, process, signals};

/// What to start, and with what.
#[derive(Debug)]
pub(crate) struct Spawn<'a> {
    pub(crate) program: &'a Path,
    /// The arguments, the program's name first.
    pub(crate) arguments: &'a [OsString],
    pub(crate) environment: &'a [(OsString, OsString)],
    /// Where to start it; `None` is where this process is.
    pub(crate) directory: Option<&'a Path>,
    /// The signals that stay blocked until the successor has its handlers.
    pub(crate) blocked: &'a SigSet,
}

/// A child that has been started and not yet been reaped, leader of a process group of its own.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pidfd: Option<OwnedFd>,
}

impl Spawn<'_> {
    /// Starts the program with the channel as its standard input and the pipe as its standard
    /// error.
    ///
    /// The calling thread stands still until the child has executed the program, some hundred
    /// microseconds.
    ///
    /// # Errors
    ///
    /// What `chdir(2)` and `execve(2)` say, with the path.
    pub(crate) fn start(self, channel: Channel, stderr: OwnedFd) -> io::Result<Process> {
        let explain = |what: &str, path: &Path, error: &io::Error| {
            io::Error::new(
                error.kind(),
                format!("could not {what} {}: {error}", path.display()),
            )
        };
        let mut command = Command::new(self.program);
        if let Some((name, arguments)) = self.arguments.split_first() {
            command.arg0(name).args(arguments);
        }
        command
            .env_clear()
            .envs(
                self.environment
                    .iter()
                    .filter(|(key, _)| !PERSONAL_VARIABLES.iter().any(|personal| key == personal))
                    .map(|(key, value)| (key, value)),
            )
            .env(CHANNEL_VARIABLE, format_identity(channel.identity()?))
            .stdin(Stdio::from(OwnedFd::from(channel)))
            .stderr(Stdio::from(stderr))
            .process_group(0);
        if let Some(directory) = self.directory {
            // Asked beforehand, because a failed chdir(2) and a failed execve(2) look the same.
            std::fs::metadata(directory)
                .map_err(|error| explain("enter directory", directory, &error))?;
            command.current_dir(directory);
        }
        let child = signals::with_blocked(self.blocked, || command.spawn())?
            .map_err(|error| explain("execute", self.program, &error))?;
        // Forbidden in some sandboxes; the death of the child is then seen by waiting for it.
        let pidfd = pidfd::open(child.id()).ok();
        Ok(Process { child, pidfd })
    }
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A descriptor that becomes readable when the process ends, where the kernel grants one.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Sends a signal to the process and its group, once, also if the process has left its group.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        process::signal_group(self.child.id(), signal)?;
        match process::group_of(self.child.id()) {
            Some(group) if group != self.child.id() => process::signal(self.child.id(), signal),
            _ => Ok(()),
        }
    }

    /// Whether the process has ended; it is not reaped, so that its number stays its own.
    pub(crate) fn has_ended(&self) -> io::Result<bool> {
        let id = Id::Pid(Pid::from_raw(self.child.id().cast_signed()));
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        Ok(waitid(id, flags)? != WaitStatus::StillAlive)
    }

    /// Reaps the process if it has ended.
    pub(crate) fn try_reap(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for the process to end, and reaps it.
    pub(crate) fn reap(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

/// The end of a process in words: `exited with status 1`, `was killed by SIGKILL`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (_, Some(number)) => match Signal::try_from(number) {
            Ok(signal) if status.core_dumped() => format!("was killed by {signal} (core dumped)"),
            Ok(signal) => format!("was killed by {signal}"),
            Err(_) => format!("was killed by signal {number}"),
        },
        _ => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::stdio;

    #[test]
    fn an_end_is_seen_before_it_is_reaped() {
        let (_ours, theirs) = Channel::pair().expect("a channel");
        let (_read, write) = stdio::pipe().expect("a pipe");
        let spawn = Spawn {
            program: Path::new("/bin/sleep"),
            arguments: &["sleep".into(), "1000".into()],
            environment: &[],
            directory: None,
            blocked: &SigSet::empty(),
        };
        let mut process = spawn.start(theirs, write).expect("a program");
        assert!(!process.has_ended().expect("a child"));
        process.signal(Signal::SIGKILL).expect("a group");
        while !process.has_ended().expect("a child") {
            std::thread::yield_now();
        }
        assert!(process.has_ended().expect("a child that was not reaped"));
        let status = process.reap().expect("a status");
        assert_eq!(describe(status), "was killed by SIGKILL");
    }
}
