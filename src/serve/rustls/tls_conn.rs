//! A connection that speaks TLS.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{rustls::ServerConnection, server::TlsStream};

use super::below::Below;
use crate::{
    net::{conn::Conn, peer::Peer},
    serve::write_through::write_through,
};

/// A connection that a [`TlsListener`](super::TlsListener) has accepted, and whose handshake is complete.
///
/// What a [`Conn`] is to the drain, this is as well. Shutting it down says `close_notify`.
pub struct TlsConn {
    // The state of a session is large, and connections are moved.
    stream: Box<TlsStream<Below>>,
}

impl TlsConn {
    pub(super) fn new(mut stream: TlsStream<Below>) -> Self {
        // That was the handshake.
        stream.get_mut().0.begun = false;
        Self {
            stream: Box::new(stream),
        }
    }

    /// Returns the connection below. Reading from its socket, or writing to it, would break the session.
    #[must_use]
    pub fn get_ref(&self) -> &Conn {
        &self.stream.get_ref().0.conn
    }

    /// Returns the address of the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.get_ref().peer()
    }

    /// Returns the session: protocol, server name, certificates of the client.
    #[must_use]
    pub fn session(&self) -> &ServerConnection {
        self.stream.get_ref().1
    }
}

impl fmt::Debug for TlsConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConn")
            .field("peer", self.peer())
            .field("protocol", &self.session().protocol_version())
            .finish_non_exhaustive()
    }
}

impl AsyncRead for TlsConn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.stream.get_mut().0.begun = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsConn {
    write_through!(stream);

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(feature = "hyper")]
impl crate::serve::transport::Transport for TlsConn {
    fn has_arrived(&self) -> bool {
        // A session that wants to read has no plaintext left.
        let begun = self.stream.get_ref().0.begun;
        begun || !self.session().wants_read() || self.get_ref().has_arrived()
    }
}

/// The addresses of the connection below.
#[cfg(feature = "tonic")]
impl ::tonic::transport::server::Connected for TlsConn {
    type ConnectInfo = ::tonic::transport::server::TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.get_ref().connect_info()
    }
}
