//! What the driver asks of a transport.

use std::mem::MaybeUninit;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::net::conn::Conn;

/// A byte stream that can be asked whether something has arrived.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Returns whether bytes have arrived that nobody has read.
    ///
    /// This asks the kernel, now. A pending `poll_read` says less: Tokio does not try before epoll has reported.
    fn has_arrived(&self) -> bool;
}

impl Transport for Conn {
    fn has_arrived(&self) -> bool {
        socket_has_arrived(&SockRef::from(self))
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
