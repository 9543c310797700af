//! An accepted connection, which counts itself in the drain.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::peer::Peer;
use crate::lifecycle::tracker::Tracked;

/// A connection that a [`Listener`](crate::Listener) has accepted: TCP or Unix, for any server.
///
/// It counts in the drain of its generation until it is dropped, wherever it has been moved to:
/// into a server, a TLS session, an upgraded WebSocket, a task of its own. So a drain waits for
/// it, and knows what it waits for, with no help from the server.
///
/// When the drain is aborted the connection is shut down from outside: whoever reads or writes is
/// woken, reads fail with [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) and writes with
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe). Until then it costs what a
/// [`TcpStream`] or a [`UnixStream`] costs.
///
/// It is not `Clone`, because a connection is owned in exactly one place; split it with
/// [`tokio::io::split`].
pub struct Conn {
    // Dropped first: the count lets go of the descriptor before it is closed.
    tracked: Tracked,
    stream: Stream,
    peer: Peer,
}

#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Conn {
    pub(super) fn new(tracked: Tracked, stream: Stream, peer: Peer) -> Self {
        Self {
            tracked,
            stream,
            peer,
        }
    }

    /// The address of the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The address and port of this end, for a TCP connection.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.stream {
            Stream::Tcp(stream) => stream.local_addr().ok(),
            Stream::Unix(_) => None,
        }
    }

    /// Process, user and group of the other end of a Unix socket, as they were when it connected
    /// (`SO_PEERCRED` in `unix(7)`).
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) for a TCP connection, and what `getsockopt(2)`
    /// says.
    pub fn peer_credentials(&self) -> io::Result<tokio::net::unix::UCred> {
        match &self.stream {
            Stream::Tcp(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("the TCP connection from {} has no credentials", self.peer),
            )),
            Stream::Unix(stream) => stream.peer_cred(),
        }
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        })?;
        let end = buf.filled().len() == before;
        if end && buf.remaining() > 0 && self.tracked.is_aborted() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the drain of this generation was aborted",
            )));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
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
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
