//! One process, held by its pidfd.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::procfs;
use crate::testing::wait::{LIMIT, within};

/// A process that cannot be mistaken for another one that got its number later.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Process {
    /// Takes hold of a process.
    ///
    /// # Errors
    ///
    /// If there is none of this number.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidInput, format!("{pid} is no pid"))
            })?;
        Ok(Self {
            pid,
            pidfd: pidfd_open(pid, PidfdFlags::empty())?,
        })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// If it has ended and was reaped.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Kills it; one that has ended already is as dead as it can be.
    pub fn kill(&self) {
        // The only possible failure is that it has ended.
        self.signal(Signal::KILL).ok();
    }

    /// Tells whether it still runs (a zombie does not).
    pub fn is_running(&self) -> bool {
        !self.wait_blocking(Timespec::default())
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// After [`LIMIT`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped: the exit status stays with the kernel until
    /// the [`Service`](crate::testing::Service) is dropped.
    pub async fn exited(&self) -> Exit {
        within(
            format_args!("the end of process {}", self.pid()),
            self.exit_seen(),
        )
        .await
    }

    #[expect(
        deprecated,
        reason = "the new name is unsafe, for types that lie about their descriptor"
    )]
    async fn exit_seen(&self) -> Exit {
        let pidfd = AsyncFd::with_interest(self.pidfd.as_fd(), Interest::READABLE)
            .expect("a pidfd can be polled within a runtime");
        // An error here would be one of the runtime's end, at which nobody waits any more.
        let _guard = pidfd
            .readable()
            .await
            .expect("the runtime lives as long as its task");
        self.exit()
    }

    fn exit(&self) -> Exit {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (_, Some(signal)) => Exit::Signal(signal),
                _ => Exit::Unknown,
            },
            _ => Exit::Unknown,
        }
    }

    /// Waits on this thread; false if the time was up first.
    fn wait_blocking(&self, limit: Timespec) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        loop {
            match poll(&mut fds, Some(&limit)) {
                Ok(count) => return count == 1,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("could not poll the pidfd of {}: {error}", self.pid()),
            }
        }
    }

    /// Kills it, waits for its end and takes its exit status from the kernel if it is our child.
    pub(super) fn end_and_reap(&self) {
        self.kill();
        let limit = Timespec {
            tv_sec: LIMIT.as_secs() as i64,
            tv_nsec: 0,
        };
        assert!(
            self.wait_blocking(limit),
            "process {} outlives SIGKILL",
            self.pid()
        );
        // Not our child: whoever is its parent reaps it.
        waitid(
            WaitId::PidFd(self.pidfd.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        )
        .ok();
    }

    /// Its open descriptors, in order.
    ///
    /// # Errors
    ///
    /// If it has ended, or belongs to another user.
    pub fn descriptors(&self) -> io::Result<Vec<procfs::Descriptor>> {
        procfs::descriptors(self.pid())
    }

    /// The processes whose parent it is, zombies among them.
    ///
    /// # Errors
    ///
    /// If `/proc` cannot be read.
    pub fn children(&self) -> io::Result<Vec<u32>> {
        let entries = procfs::processes()?.into_iter();
        Ok(entries
            .filter(|entry| entry.parent == self.pid())
            .map(|entry| entry.pid)
            .collect())
    }

    /// Its state, threads and signal masks.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn status(&self) -> io::Result<procfs::Status> {
        procfs::status(self.pid())
    }

    /// Its memory.
    ///
    /// # Errors
    ///
    /// If it has ended, or belongs to another user.
    pub fn memory(&self) -> io::Result<procfs::Memory> {
        procfs::memory(self.pid())
    }

    /// Its environment as it was at its start, in order.
    ///
    /// # Errors
    ///
    /// If it has ended, or belongs to another user.
    pub fn environment(&self) -> io::Result<Vec<std::ffi::OsString>> {
        procfs::strings(self.pid(), "environ")
    }

    /// Its arguments, with the name of the program in front.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn arguments(&self) -> io::Result<Vec<std::ffi::OsString>> {
        procfs::strings(self.pid(), "cmdline")
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pid().fmt(f)
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Its parent has taken the status: it was not orphaned, so it was not ours to ask for.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "with status {code}"),
            Self::Signal(signal) => write!(f, "by signal {signal}"),
            Self::Unknown => f.write_str("in an unknown way"),
        }
    }
}

impl Exit {
    /// Tells whether it ended by itself with code 0.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}
