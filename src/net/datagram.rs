//! Datagram sockets behind a gate.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::gate::Gate;
use crate::socket::{Endpoint, Io, Socket};
use crate::sys::watch::watch;

/// A UDP socket that was adopted or bound.
///
/// Two processes that read one socket would steal each other's datagrams. So this generation
/// receives nothing before its commit and nothing after that of its successor, and what comes in
/// between waits in the kernel's buffer. Sending is always possible: answers to what was received
/// can go out while this generation drains.
///
/// All methods take `&self`, so that it can be shared in an `Arc`.
pub struct UdpSocket(Datagrams);

/// A Unix datagram socket that was adopted or bound; see [`UdpSocket`] for when it receives.
pub struct UnixDatagram(Datagrams);

/// What both have in common.
pub(crate) struct Datagrams {
    socket: AsyncFd<Arc<Socket>>,
    gate: Arc<Gate>,
    endpoint: Endpoint,
}

impl UdpSocket {
    pub(crate) fn new(datagrams: Datagrams) -> Self {
        Self(datagrams)
    }

    /// Receives a datagram and tells its length in bytes and who sent it; `None` when this
    /// generation receives no more. What does not fit into `buffer` is cut off (`udp(7)`).
    ///
    /// # Errors
    ///
    /// What `recvfrom(2)` says.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: no datagram is lost if the future is dropped.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        self.0
            .receive(|io| match io {
                Io::Udp(socket) => socket.recv_from(buffer),
                _ => Err(io::ErrorKind::Unsupported.into()),
            })
            .await
    }

    /// Sends a datagram and tells how many bytes went out.
    ///
    /// # Errors
    ///
    /// What `sendto(2)` says.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: a dropped future has sent nothing.
    pub async fn send_to(&self, bytes: &[u8], target: SocketAddr) -> io::Result<usize> {
        self.0
            .send(|io| match io {
                Io::Udp(socket) => socket.send_to(bytes, target),
                _ => Err(io::ErrorKind::Unsupported.into()),
            })
            .await
    }

    /// The address and port that it is bound to.
    ///
    /// # Errors
    ///
    /// What `getsockname(2)` says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self.0.socket.get_ref().io() {
            Io::Udp(socket) => socket.local_addr(),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The endpoint, as it was asked for.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }
}

impl UnixDatagram {
    pub(crate) fn new(datagrams: Datagrams) -> Self {
        Self(datagrams)
    }

    /// Receives a datagram and tells its length in bytes and who sent it; `None` when this
    /// generation receives no more. What does not fit into `buffer` is cut off (`unix(7)`).
    ///
    /// # Errors
    ///
    /// What `recvfrom(2)` says.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: no datagram is lost if the future is dropped.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, UnixAddr)>> {
        self.0
            .receive(|io| match io {
                Io::UnixDatagram(socket) => socket.recv_from(buffer),
                _ => Err(io::ErrorKind::Unsupported.into()),
            })
            .await
    }

    /// Sends a datagram to a path and tells how many bytes went out.
    ///
    /// # Errors
    ///
    /// What `sendto(2)` says.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: a dropped future has sent nothing.
    pub async fn send_to(&self, bytes: &[u8], target: impl AsRef<Path>) -> io::Result<usize> {
        let target = target.as_ref();
        self.0
            .send(|io| match io {
                Io::UnixDatagram(socket) => socket.send_to(bytes, target),
                _ => Err(io::ErrorKind::Unsupported.into()),
            })
            .await
    }

    /// The endpoint, as it was asked for.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }
}

impl Datagrams {
    /// Makes it of a verified socket; an endpoint for datagrams has one. Has to be called on a
    /// runtime.
    pub(crate) fn new(
        endpoint: Endpoint,
        sockets: Vec<Arc<Socket>>,
        gate: Arc<Gate>,
    ) -> io::Result<Self> {
        let [socket] = <[_; 1]>::try_from(sockets).map_err(|sockets| {
            let count = sockets.len();
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("it has {count} sockets, expected one; name one address of the host"),
            )
        })?;
        Ok(Self {
            socket: watch(socket, Interest::READABLE | Interest::WRITABLE)?,
            gate,
            endpoint,
        })
    }

    async fn receive<T>(
        &self,
        mut receive: impl FnMut(&Io) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        while self.gate.passable().await {
            // The gate is looked at between readiness and the call: only a datagram that is being
            // taken this very moment comes out of a gate that has just been shut.
            let received = tokio::select! {
                biased;
                () = self.gate.impassable() => continue,
                received = self.socket.async_io(Interest::READABLE, |socket| receive(socket.io())) => received,
            };
            return received.map(Some);
        }
        Ok(None)
    }

    async fn send<T>(&self, mut send: impl FnMut(&Io) -> io::Result<T>) -> io::Result<T> {
        self.socket
            .async_io(Interest::WRITABLE, |socket| send(socket.io()))
            .await
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.socket.get_ref().as_fd()
    }
}

impl AsFd for UnixDatagram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.socket.get_ref().as_fd()
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSocket")
            .field("endpoint", &self.0.endpoint)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for UnixDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixDatagram")
            .field("endpoint", &self.0.endpoint)
            .finish_non_exhaustive()
    }
}
