//! Datagrams to systemd (`sd_notify(3)`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::unix::pipe;

use crate::lifecycle::link::Link;
use crate::sys::channel::Channel;
use crate::sys::stdio;

/// Where systemd listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address(PathBuf);

impl Address {
    /// A path, or an abstract name behind an `@`.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let bytes = match text {
            [b'/', _, ..] => text.to_owned(),
            [b'@', name @ ..] if !name.is_empty() => [b"\0", name].concat(),
            _ => return None,
        };
        Some(Self(PathBuf::from(OsStr::from_bytes(&bytes))))
    }

    /// Sends one message, with descriptors if there are any. It waits while systemd has no room.
    ///
    /// The socket is made anew each time, as `sd_notify(3)` does: what is at the path may have been
    /// replaced.
    pub(super) async fn send(
        &self,
        message: &str,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let socket = Socket::new(Domain::UNIX, Type::DGRAM.nonblocking(), None)?;
        socket.connect(&SockAddr::unix(&self.0)?)?;
        let link = Link::new(Channel::from(OwnedFd::from(socket)))?;
        link.send(message.as_bytes(), descriptors).await
    }

    /// Waits until systemd has taken everything that was sent before.
    ///
    /// # Errors
    ///
    /// When it cannot be asked, or has not answered in time.
    pub(super) async fn barrier(&self) -> io::Result<()> {
        let (reader, writer) = stdio::pipe()?;
        self.send("BARRIER=1", &[writer.as_fd()]).await?;
        // systemd has the only other end now, and closes it when its turn comes.
        drop(writer);
        crate::sys::fd::set_nonblocking(&reader, true)?;
        let reader = pipe::Receiver::from_owned_fd(reader)?;
        let closed = async {
            reader.readable().await?;
            Ok(())
        };
        let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
        tokio::time::timeout(BARRIER, closed)
            .await
            .map_err(timed_out)?
    }
}

/// How long systemd may take to answer, as in `systemd-notify(1)`.
const BARRIER: Duration = Duration::from_secs(5);
