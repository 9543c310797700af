//! The I/O object between hyper and a transport.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hyper::body::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    activity::{Activity, Ending},
    linger::Linger,
    room::Place,
    transport::Transport,
    write_through::write_through,
};

/// A transport that replays what was read ahead, reports reads to the connection's account, and ends as that says.
///
/// It also is the connection's place in the server's count: after an upgrade hyper gives it to the application, and
/// the connection counts until the application drops it.
#[derive(Debug)]
pub(crate) struct Io<I> {
    transport: I,
    /// Read from the transport, not yet by hyper.
    ahead: Bytes,
    activity: Arc<Activity>,
    linger: Option<Linger>,
    counted: Place,
}

impl<I: Transport> Io<I> {
    pub(crate) fn new(transport: I, activity: Arc<Activity>, counted: Place) -> Self {
        Self {
            transport,
            ahead: Bytes::new(),
            activity,
            linger: None,
            counted,
        }
    }

    /// Puts `bytes`, which were read last, back in front.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        self.ahead = if self.ahead.is_empty() {
            bytes
        } else {
            [bytes, self.ahead.split_off(0)].concat().into()
        };
    }

    /// Returns whether something has arrived that hyper has not read.
    pub(crate) fn has_arrived(&self) -> bool {
        !self.ahead.is_empty() || self.transport.has_arrived()
    }

    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Sends the connection, which is between two requests, to the successor. `kept` gets it back, as one that begins
    /// anew, if the successor does not take it; it moves only to another one then.
    pub(crate) fn hand_over(self, kept: impl FnOnce(Self) + Send + 'static) {
        let Self {
            transport,
            ahead,
            activity,
            counted,
            ..
        } = self;
        activity.leave();
        transport.hand_over(ahead, |transport, ahead| {
            if transport.may_move_yet() {
                activity.come_back();
            }
            activity.restart();
            let mut io = Self::new(transport, activity, counted);
            io.unread(ahead);
            kept(io);
        });
    }
}

impl<I: Transport> AsyncRead for Io<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.ahead.is_empty() {
            ready!(Pin::new(&mut self.transport).poll_read(cx, buf))?;
        } else {
            let length = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..length]);
            self.ahead.advance(length);
        }
        if buf.filled().len() > before {
            self.activity.bytes_came();
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: Transport> AsyncWrite for Io<I> {
    write_through!(transport);

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match this.activity.ending() {
            Ending::Plain => Pin::new(&mut this.transport).poll_shutdown(cx),
            Ending::Lingering => this
                .linger
                .get_or_insert_with(Linger::new)
                .poll(cx, &mut this.transport)
                .map(Ok),
            Ending::Kept => Pin::new(&mut this.transport).poll_flush(cx),
        }
    }
}
