//! What the driver asks of a transport.

use std::mem::MaybeUninit;

use hyper::body::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{net::conn::Conn, protocol::Manner};

/// A byte stream that can be asked whether something has arrived.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + Sized + 'static {
    /// Returns whether bytes have arrived that nobody has read.
    ///
    /// This asks the kernel, now. A pending `poll_read` says less: Tokio does not try before epoll has reported.
    fn has_arrived(&self) -> bool;

    /// Returns whether [`hand_over`](Self::hand_over) can do anything, now.
    fn can_move(&self) -> bool {
        false
    }

    /// Keeps it from moving by itself.
    fn stay(&mut self) {}

    /// Returns whether it may move though nobody takes it now.
    fn may_move_yet(&self) -> bool {
        false
    }

    /// Moves the connection to the successor, between two requests, with the bytes that were read and not used.
    ///
    /// `kept` gets it back, and of those bytes what is not in front of it again, if the successor does not take it.
    fn hand_over(self, unread: Bytes, kept: impl FnOnce(Self, Bytes) + Send + 'static) {
        kept(self, unread);
    }
}

impl Transport for Conn {
    fn has_arrived(&self) -> bool {
        socket_has_arrived(&SockRef::from(self))
    }

    fn can_move(&self) -> bool {
        self.is_here()
    }

    fn stay(&mut self) {
        self.touch();
    }

    fn may_move_yet(&self) -> bool {
        Self::may_move_yet(self)
    }

    fn hand_over(self, unread: Bytes, kept: impl FnOnce(Self, Bytes) + Send + 'static) {
        // Even nothing has hyper's whole buffer behind it.
        let unread = match unread.is_empty() {
            true => Vec::new(),
            false => unread.into(),
        };
        self.send_off(Manner::Http1, unread, |conn| kept(conn, Bytes::new()));
    }
}

#[cfg(test)]
impl Transport for tokio::net::TcpStream {
    fn has_arrived(&self) -> bool {
        socket_has_arrived(&SockRef::from(self))
    }
}

#[cfg(test)]
impl Transport for tokio::io::DuplexStream {
    fn has_arrived(&self) -> bool {
        // Reading a duplex stream always tries, so after a pending read there is nothing.
        false
    }
}

fn socket_has_arrived(socket: &SockRef<'_>) -> bool {
    // The socket is non-blocking; an error, or the end of the stream, is nothing to wait for.
    matches!(socket.peek(&mut [MaybeUninit::uninit()]), Ok(1..))
}
