//! The connection below a session.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{net::conn::Conn, serve::write_through::write_through};

/// A connection that knows whether bytes were read from it of which nothing has come out of the session above: part of
/// a record, be it of a request. The session does not tell.
#[derive(Debug)]
pub(super) struct Below {
    pub(super) conn: Conn,
    pub(super) begun: bool,
}

impl Below {
    pub(super) fn new(conn: Conn) -> Self {
        Self { conn, begun: false }
    }
}

impl AsyncRead for Below {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.conn).poll_read(cx, buf))?;
        self.begun |= buf.filled().len() > before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Below {
    write_through!(conn);

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.conn).poll_shutdown(cx)
    }
}
