//! The standard error of a successor whose predecessor dies.
//!
//! It is a pipe that the predecessor forwards. Once nobody reads it, whoever writes to it waits for
//! room, perhaps with `std::io::stderr` locked, and then everybody else who has something to say waits
//! for that one: the lifecycle task as well, and with it whatever could help. So a thread of its own
//! stands by, which locks nothing and says nothing.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::lifecycle::token::Token;
use crate::sys::{fd, stdio};

/// Until it is over, the death of the predecessor is followed by what keeps writers from waiting: the
/// real standard error is put back, and what is in the pipe is written to it.
#[derive(Debug)]
pub(super) struct Standby {
    is_over: Arc<Mutex<bool>>,
    until: File,
    ended: Token,
}

/// What the thread has.
struct Watch {
    predecessor: OwnedFd,
    pipe: File,
    stderr: File,
    is_over: Arc<Mutex<bool>>,
    /// Readable once it is over.
    over: OwnedFd,
}

impl Standby {
    pub(super) fn new(predecessor: &OwnedFd, pipe: &OwnedFd, stderr: &OwnedFd) -> io::Result<Self> {
        let (over, until) = stdio::pipe()?;
        let watch = Watch {
            predecessor: predecessor.try_clone()?,
            pipe: File::from(pipe.try_clone()?),
            stderr: File::from(stderr.try_clone()?),
            is_over: Arc::default(),
            over,
        };
        fd::set_nonblocking(pipe, true)?;
        let standby = Self {
            is_over: Arc::clone(&watch.is_over),
            until: File::from(until),
            ended: Token::new(),
        };
        let ended = standby.ended.clone();
        let stand_by = move || {
            // There is nobody who could be told.
            watch.stand_by().ok();
            ended.cancel();
        };
        thread::Builder::new()
            .name("handover-stderr".to_owned())
            .stack_size(STACK)
            .spawn(stand_by)?;
        Ok(standby)
    }

    /// Reached when nobody here reads the pipe any more.
    pub(super) fn ended(&self) -> Token {
        self.ended.clone()
    }
}

/// This generation writes elsewhere from here on; what it has begun to write is seen to.
impl Drop for Standby {
    fn drop(&mut self) {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        // Not by closing it alone, which a child that was forked would keep from being seen.
        self.until.write_all(b".").unwrap_or_default();
    }
}

impl Watch {
    fn stand_by(mut self) -> io::Result<()> {
        let mut both = [awaited(&self.predecessor), awaited(&self.over)];
        wait(&mut both, None)?;
        if both[1].any() == Some(true) {
            // Who still writes is in the middle of it: before that is over, nobody hangs up.
            let hung_up = PollFd::new(self.pipe.as_fd(), PollFlags::empty());
            let mut both = [awaited(&self.predecessor), hung_up];
            wait(&mut both, Some(QUIET))?;
            if both[0].any() != Some(true) {
                return Ok(());
            }
        }
        let is_over = self.restore_stderr()?;
        self.forward(is_over)
    }

    /// Puts the real one back, unless that was done already.
    fn restore_stderr(&self) -> io::Result<bool> {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_over {
            stdio::restore_stderr(&self.stderr)?;
        }
        Ok(*is_over)
    }

    /// Empties the pipe until nobody has it to write any more, or until it is over and quiet: a child
    /// may have it as well.
    fn forward(&mut self, mut is_over: bool) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let mut both = [awaited(&self.pipe), awaited(&self.over)];
            let seen = match is_over {
                true => wait(&mut both[..1], Some(QUIET))?,
                false => wait(&mut both, None)?,
            };
            if !seen {
                return Ok(());
            }
            is_over |= both[1].any() == Some(true);
            match self.pipe.read(&mut buffer) {
                Ok(0) => return Ok(()),
                // A standard error that leads nowhere is no reason to let anybody wait.
                Ok(count) => self.stderr.write_all(&buffer[..count]).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The thread's, which has next to nothing to do.
const STACK: usize = 64 * 1024;
/// After so long without a word, nobody waits for room.
const QUIET: Duration = Duration::from_secs(1);

fn awaited(descriptor: &impl AsFd) -> PollFd<'_> {
    PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)
}

/// Tells whether something has come before the time was up.
fn wait(descriptors: &mut [PollFd<'_>], limit: Option<Duration>) -> io::Result<bool> {
    let limit = limit.map_or(Ok(PollTimeout::NONE), PollTimeout::try_from);
    let limit = limit.map_err(io::Error::other)?;
    loop {
        match poll(descriptors, limit) {
            Err(Errno::EINTR) => {}
            count => return Ok(count? > 0),
        }
    }
}
