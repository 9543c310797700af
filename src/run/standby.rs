//! The standard error of a successor whose predecessor dies.
//!
//! It is a pipe that the predecessor forwards. Once nobody reads it, whoever writes to it waits for
//! room, perhaps with `std::io::stderr` locked, and then everybody else who has something to say waits
//! for that one: the lifecycle task as well, and with it whatever could help. So a thread of its own
//! stands by, which says nothing, until this generation writes elsewhere.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::{fd, stdio};

/// As long as it exists, the death of the predecessor is followed by what keeps writers from waiting:
/// the real standard error is put back, and what is in the pipe is written to it.
#[derive(Debug)]
pub(super) struct Standby {
    /// Closed when this is dropped.
    _until: OwnedFd,
}

impl Standby {
    pub(super) fn new(
        predecessor: &OwnedFd,
        pipe: &Arc<OwnedFd>,
        stderr: &OwnedFd,
    ) -> io::Result<Self> {
        let (over, until) = stdio::pipe()?;
        let predecessor = predecessor.try_clone()?;
        let stderr = File::from(stderr.try_clone()?);
        let pipe = Arc::clone(pipe);
        let stand_by = move || {
            if happens(&predecessor, &over).unwrap_or(false) {
                // Nobody else can be told, nor can anything else be done.
                relieve(&pipe, &stderr, &over).ok();
            }
        };
        thread::Builder::new()
            .name("handover-stderr".to_owned())
            .stack_size(STACK)
            .spawn(stand_by)?;
        Ok(Self { _until: until })
    }
}

const STACK: usize = 64 * 1024;

fn relieve(pipe: &OwnedFd, mut stderr: &File, over: &OwnedFd) -> io::Result<()> {
    fd::set_nonblocking(pipe, true)?;
    stdio::restore_stderr(stderr)?;
    let mut pipe = File::from(pipe.try_clone()?);
    let mut buffer = vec![0; 16 * 1024];
    while happens(&pipe, over)? {
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            // A standard error that leads nowhere is no reason to let anybody wait.
            Ok(count) => stderr.write_all(&buffer[..count]).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until there is something to read, and tells whether that is before it is over.
fn happens(what: &impl AsFd, over: &OwnedFd) -> io::Result<bool> {
    let mut both = [what.as_fd(), over.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    loop {
        match poll(&mut both, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            result => break result.map(drop)?,
        };
    }
    Ok(both[1].any() == Some(false))
}
