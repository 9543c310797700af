//! A terminal for a service.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

/// The side of a pseudo-terminal on which a user sits.
///
/// Dropping it closes the terminal, as a window or a connection is closed.
#[derive(Debug)]
pub struct Terminal(OwnedFd);

impl Terminal {
    /// Makes one, and gives the side that is a program's.
    pub(super) fn open() -> io::Result<(Self, OwnedFd)> {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&user)?;
        unlockpt(&user)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let program = ioctl_tiocgptpeer(&user, flags)?;
        Ok((Self(user), program))
    }

    /// Presses these keys; `\x03` is Ctrl-C.
    ///
    /// # Panics
    ///
    /// If nobody has read what was typed before.
    pub fn press(&self, keys: &str) {
        let written = rustix::io::write(self.0.as_fd(), keys.as_bytes());
        assert_eq!(written, Ok(keys.len()), "the terminal takes `{keys}`");
    }
}
