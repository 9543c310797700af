//! A socket that is what it says.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener};

use super::address::Address;
use super::kind::Kind;
use super::path::OwnedPath;

/// A socket that was bound here, or inherited and verified.
///
/// There is no other way to make one, so whoever has it need not check:
///
/// - it is of its [`kind`](Self::kind), and listens if its kind does;
/// - it is CLOEXEC and, unless it is [`Kind::Descriptor`], does not block;
/// - it is bound to its [`address`](Self::address).
///
/// It is shared as an `Arc` between the [store](super::Store) and the listener: there is one
/// descriptor for each socket in each generation. Dropping the last one closes the descriptor and
/// touches nothing that other generations still use: a path stays, and so does its lock.
#[derive(Debug)]
pub(crate) struct Socket {
    io: Io,
    kind: Kind,
    address: Address,
    path: Option<OwnedPath>,
    activated: bool,
}

/// The socket as the standard library has it.
#[derive(Debug)]
pub(crate) enum Io {
    /// Of [`Kind::Tcp`].
    Tcp(TcpListener),
    /// Of [`Kind::Unix`] or [`Kind::UnixSeqpacket`].
    Unix(UnixListener),
    /// Of [`Kind::Udp`].
    Udp(UdpSocket),
    /// Of [`Kind::UnixDatagram`].
    UnixDatagram(UnixDatagram),
    /// Of [`Kind::Descriptor`].
    Descriptor(OwnedFd),
}

impl Socket {
    /// Only for binding and verification: they have made sure of what the type promises.
    pub(super) fn trusted(
        descriptor: OwnedFd,
        kind: Kind,
        address: Address,
        path: Option<OwnedPath>,
        activated: bool,
    ) -> Self {
        let io = match kind {
            Kind::Tcp => Io::Tcp(descriptor.into()),
            Kind::Unix | Kind::UnixSeqpacket => Io::Unix(descriptor.into()),
            Kind::Udp => Io::Udp(descriptor.into()),
            Kind::UnixDatagram => Io::UnixDatagram(descriptor.into()),
            Kind::Descriptor => Io::Descriptor(descriptor),
        };
        Self {
            io,
            kind,
            address,
            path,
            activated,
        }
    }

    /// The socket, to accept from it or to receive.
    pub(crate) fn io(&self) -> &Io {
        &self.io
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What it is bound to; the port is never 0.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The path that belongs to it: bound by a generation of this service, not by systemd.
    pub(super) fn path(&self) -> Option<&OwnedPath> {
        self.path.as_ref()
    }

    /// Did it come by socket activation?
    pub(crate) fn is_activated(&self) -> bool {
        self.activated
    }

    /// What has to be passed on: the socket, then the lock of its path if it has one.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.as_fd()).chain(self.path.as_ref().map(OwnedPath::lock))
    }

    /// Writes into the lock beside its path, if it has one, what it is for, so that somebody who looks
    /// for such a socket need not knock at every one.
    #[cfg(feature = "control")]
    pub(crate) fn mark(&self, text: &str) -> io::Result<()> {
        self.path.as_ref().map_or(Ok(()), |path| path.mark(text))
    }

    /// Removes its path and the lock beside it, if it has one and they are still what was bound.
    ///
    /// Only for the one who knows that no generation serves on it any more.
    pub(crate) fn remove_path(&self) -> io::Result<()> {
        self.path.as_ref().map_or(Ok(()), OwnedPath::remove)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

/// For `tokio::io::unix::AsyncFd`, which asks for it.
impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl AsFd for Io {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
            Self::UnixDatagram(socket) => socket.as_fd(),
            Self::Descriptor(descriptor) => descriptor.as_fd(),
        }
    }
}
