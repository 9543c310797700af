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
use super::{pidfd, process, signals, split};

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

/// A program that is about to be started.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    program: &'a Path,
    command: Command,
    blocked: &'a SigSet,
}

/// A child that has been started and not yet been reaped, leader of a process group of its own.
///
/// It may have [split](super::split) itself. Then the child is only the first half, which ends as
/// the second one does.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pidfd: Option<OwnedFd>,
    second: Option<OwnedFd>,
    /// Whether the first half was taken away.
    orphaned: bool,
}

impl<'a> Spawn<'a> {
    /// Does all that can be done ahead. The program will have the channel as its standard input and
    /// the pipe as its standard error.
    ///
    /// # Errors
    ///
    /// When its directory cannot be entered.
    pub(crate) fn prepare(self, channel: Channel, stderr: OwnedFd) -> io::Result<Launch<'a>> {
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
        Ok(Launch {
            program: self.program,
            command,
            blocked: self.blocked,
        })
    }
}

impl Launch<'_> {
    /// Starts the program.
    ///
    /// The calling thread stands still until the child has executed it, some hundred microseconds.
    ///
    /// # Errors
    ///
    /// What `chdir(2)` and `execve(2)` say, with the path.
    pub(crate) fn start(mut self) -> io::Result<Process> {
        let child = signals::with_blocked(self.blocked, || self.command.spawn())?
            .map_err(|error| explain("execute", self.program, &error))?;
        // Forbidden in some sandboxes; the death of the child is then seen by waiting for it.
        let pidfd = pidfd::open(child.id()).ok();
        Ok(Process {
            child,
            pidfd,
            second: None,
            orphaned: false,
        })
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

    /// Takes note that the process has split itself, and gives a descriptor that becomes readable
    /// when the second half ends. Not if this is no half of it: it may be made up.
    pub(crate) fn has_split(&mut self, second: u32) -> Option<OwnedFd> {
        if second == self.child.id() || self.second.is_some() {
            return None;
        }
        let pidfd = pidfd::open(second).ok()?;
        // By now the number cannot be given to another process unseen: the first half is its
        // parent, and reaps it only to end itself.
        if !split::is_child_of(second, self.child.id()) {
            return None;
        }
        let copy = pidfd.try_clone().ok()?;
        self.second = Some(pidfd);
        Some(copy)
    }

    /// The second half, if there is one.
    pub(crate) fn second(&self) -> Option<BorrowedFd<'_>> {
        self.second.as_ref().map(AsFd::as_fd)
    }

    /// Takes the first half away, so that the second is adopted by whoever adopts orphans. How that
    /// one ends is known to its new parent only.
    pub(crate) fn orphan(&mut self) -> io::Result<()> {
        if self.second.is_some() && !self.orphaned {
            self.child.kill()?;
            self.child.wait()?;
            self.orphaned = true;
        }
        Ok(())
    }

    /// Sends a signal to the process and its group, once, also if the process has left its group.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.orphaned {
            return self
                .second
                .as_ref()
                .map_or(Ok(()), |second| pidfd::signal(second, signal));
        }
        process::signal_group(self.child.id(), signal)?;
        // It is in the same group, unless it has left it, and one signal is enough for it; but not
        // too many that kill.
        if let (Some(second), Signal::SIGKILL) = (&self.second, signal) {
            pidfd::signal(second, signal)?;
        }
        match process::group_of(self.child.id()) {
            Some(group) if group != self.child.id() => process::signal(self.child.id(), signal),
            _ => Ok(()),
        }
    }

    /// Whether the process has ended; it is not reaped, so that its number stays its own.
    pub(crate) fn has_ended(&self) -> io::Result<bool> {
        Ok(self.status()? != WaitStatus::StillAlive)
    }

    /// How the process has ended, in words; it is not reaped.
    pub(crate) fn how_it_ended(&self) -> io::Result<Option<String>> {
        Ok(match self.status()? {
            WaitStatus::Exited(_, code) => Some(format!("exited with status {code}")),
            WaitStatus::Signaled(_, signal, core) => Some(killed_by(signal, core)),
            _ => None,
        })
    }

    fn status(&self) -> io::Result<WaitStatus> {
        let pid = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        Ok(waitid(Id::Pid(Pid::from_raw(pid)), flags)?)
    }

    /// Waits for the process to end, and reaps it.
    pub(crate) fn reap(&mut self) -> io::Result<ExitStatus> {
        if self.orphaned {
            return Err(io::Error::other("another process is its parent now"));
        }
        self.child.wait()
    }
}

fn explain(what: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("could not {what} {}: {error}", path.display()),
    )
}

/// The end of a process in words: `exited with status 1`, `was killed by SIGKILL`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (_, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => killed_by(signal, status.core_dumped()),
            Err(_) => format!("was killed by signal {number}"),
        },
        _ => "ended".to_owned(),
    }
}

fn killed_by(signal: Signal, core_dumped: bool) -> String {
    let core = if core_dumped { " (core dumped)" } else { "" };
    format!("was killed by {signal}{core}")
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
        let launch = spawn.prepare(theirs, write).expect("a directory");
        let mut process = launch.start().expect("a program");
        assert!(!process.has_ended().expect("a child"));
        process.signal(Signal::SIGKILL).expect("a group");
        while !process.has_ended().expect("a child") {
            std::thread::yield_now();
        }
        assert!(process.has_ended().expect("a child that was not reaped"));
        let how = process.how_it_ended().expect("a child that was not reaped");
        assert_eq!(how.as_deref(), Some("was killed by SIGKILL"));
        let status = process.reap().expect("a status");
        assert_eq!(describe(status), "was killed by SIGKILL");
    }
}
