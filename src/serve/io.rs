//! The I/O object between hyper and a transport.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use hyper::body::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    activity::{Activity, Ending},
    berth::Berth,
    linger::Linger,
    room::Place,
    transport::Transport,
};

/// A transport that replays what was read ahead, reports reads to the connection's account, and ends as that says.
///
/// It also is the connection's place in the server's count: after an upgrade hyper gives it to the application, and
/// the connection counts until the application drops it.
#[derive(Debug)]
pub(crate) struct Io<I> {
    /// Nothing while it lies in its berth.
    transport: Option<Box<I>>,
    /// Read from the transport, not yet by hyper.
    ahead: Bytes,
    berth: Option<Arc<Berth<I>>>,
    /// Who is woken there.
    task: Option<Waker>,
    /// Whether what was read last ended with a request head.
    head_read: bool,
    /// Whether there was nothing to read at the last attempt.
    exhausted: bool,
    activity: Arc<Activity>,
    linger: Option<Linger>,
    counted: Place,
}

impl<I: Transport> Io<I> {
    pub(crate) fn new(transport: I, activity: Arc<Activity>, counted: Place) -> Self {
        Self {
            transport: Some(Box::new(transport)),
            ahead: Bytes::new(),
            berth: None,
            task: None,
            head_read: false,
            exhausted: false,
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
        let arrived = |transport: &I| transport.has_arrived();
        !self.ahead.is_empty() || self.transport.as_deref().is_some_and(arrived)
    }

    /// From here on the transport lies there between two requests.
    pub(crate) fn set_berth(&mut self, berth: &Arc<Berth<I>>) {
        self.berth = Some(Arc::clone(berth));
        self.task = None;
    }

    /// From here on the transport is here.
    pub(crate) fn leave_berth(&mut self) {
        let berth = self.berth.take();
        if self.transport.is_none() {
            self.transport = berth.and_then(|berth| berth.fetch());
        }
    }

    fn transport(&mut self) -> io::Result<&mut I> {
        if self.transport.is_none() {
            self.transport = self.berth.as_ref().and_then(|berth| berth.fetch());
        }
        // Nobody reads or writes while the successor is asked.
        self.transport.as_deref_mut().ok_or_else(|| {
            let asked = "the successor is asked to take the connection";
            io::Error::new(io::ErrorKind::NotConnected, asked)
        })
    }

    /// Puts the transport into its berth if nothing else belongs to the connection. Whoever flushes has nothing to
    /// write. What was read is used up if it ended with the head of the last request and hyper has tried to read on:
    /// behind a head that it has not used it does not.
    fn lie_down(&mut self, cx: &Context<'_>) {
        if !(self.exhausted && self.head_read && self.activity.rests()) {
            return;
        }
        let Some(berth) = &self.berth else {
            return;
        };
        let transport = self.transport.take_if(|transport| transport.can_move());
        if let Some(transport) = transport {
            if !(self.task.as_ref()).is_some_and(|task| task.will_wake(cx.waker())) {
                self.task = Some(cx.waker().clone());
                berth.set_task(cx);
            }
            berth.put(transport);
        }
    }

    pub(crate) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Sends the connection, which is between two requests, to the successor, or waits for the answer if the successor
    /// is asked already.
    ///
    /// `kept` gets it back, as one that begins anew, if the successor does not take it; it moves only to another one then.
    pub(crate) fn hand_over(self, kept: impl FnOnce(Self) + Send + 'static) {
        let Self {
            transport,
            ahead,
            berth,
            activity,
            counted,
            ..
        } = self;
        let account = Arc::clone(&activity);
        let go_on = |transport, ahead| {
            account.restart();
            let mut io = Self::new(transport, account, counted);
            io.unread(ahead);
            kept(io);
        };
        match (transport, berth) {
            (Some(transport), _) => {
                activity.leave();
                transport.hand_over(ahead, move |transport, ahead| {
                    if transport.may_move_yet() {
                        activity.come_back();
                    }
                    go_on(transport, ahead);
                });
            }
            (None, Some(berth)) => berth.wait(move |transport| go_on(transport, ahead)),
            (None, None) => {}
        }
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
            let read = Pin::new(self.transport()?).poll_read(cx, buf);
            self.exhausted = read.is_pending();
            ready!(read)?;
        } else {
            let length = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..length]);
            self.ahead.advance(length);
            self.exhausted = false;
        }
        let read = &buf.filled()[before..];
        if !read.is_empty() {
            self.head_read = ends_head(read) && self.ahead.is_empty();
            self.activity.bytes_came();
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: Transport> AsyncWrite for Io<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.transport()?).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.transport()?).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        let is_vectored = |transport: &I| transport.is_write_vectored();
        self.transport.as_deref().is_some_and(is_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What lies in its berth is flushed.
        if let Some(transport) = &mut self.transport {
            ready!(Pin::new(transport).poll_flush(cx))?;
            self.lie_down(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ending = self.activity.ending();
        if ending == Ending::Kept {
            return self.poll_flush(cx);
        }
        self.transport()?;
        let this = &mut *self;
        let Some(transport) = &mut this.transport else {
            return Poll::Ready(Ok(()));
        };
        match ending {
            Ending::Lingering => (this.linger)
                .get_or_insert_with(Linger::new)
                .poll(cx, transport)
                .map(Ok),
            _ => Pin::new(transport).poll_shutdown(cx),
        }
    }
}

/// Whether the last line of a request head, which is empty, ends it, and not some line before that.
fn ends_head(read: &[u8]) -> bool {
    matches!(read, [.., before, b'\r', b'\n', b'\r', b'\n'] if !matches!(before, b'\r' | b'\n'))
}
