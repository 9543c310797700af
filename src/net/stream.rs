//! The socket of a connection, of whatever kind its listener is.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use super::peer::Peer;
use super::tcp::Tcp;

/// The socket of a connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(Tcp),
    Unix(UnixStream),
}

impl Stream {
    /// Makes it of a descriptor that another generation has sent, and tells who is at the other end,
    /// which that one may have said. Has to be called on a runtime.
    ///
    /// That it is a stream, and does not block, the sender knows: it was one of these there, and both
    /// are properties of the socket and not of a process. Thousands come at once, so nobody asks.
    ///
    /// # Errors
    ///
    /// When the runtime cannot watch it, or, where nobody has said who is at the other end, it is no
    /// connected socket of a kind that a listener gives.
    pub(super) fn receive(
        descriptor: OwnedFd,
        peer: Option<SocketAddr>,
    ) -> io::Result<(Self, Peer)> {
        if let Some(peer) = peer {
            let stream = Self::of_tcp(descriptor.into())?;
            return Ok((stream, Peer::from(peer)));
        }
        let peer = SockRef::from(&descriptor).peer_addr()?;
        if let Some(peer) = peer.as_socket() {
            let stream = Self::of_tcp(descriptor.into())?;
            return Ok((stream, Peer::from(peer)));
        }
        if peer.is_unix() {
            let stream = std::os::unix::net::UnixStream::from(descriptor);
            // Nearly all have no name, for which socket2 has no word.
            let peer = Peer::from(stream.peer_addr()?);
            return Ok((Self::Unix(UnixStream::from_std(stream)?), peer));
        }
        let domain = peer.domain();
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("a socket of {domain:?} is no connection"),
        ))
    }

    /// Has to be called on a runtime, with a socket that does not block.
    pub(super) fn of_tcp(stream: TcpStream) -> io::Result<Self> {
        Tcp::new(stream).map(Self::Tcp)
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is buffered on this side of the kernel.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
