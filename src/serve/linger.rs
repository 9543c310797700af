//! The lingering close.

use std::{
    fmt,
    future::Future,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// Silence after which a peer is taken to have nothing more to say.
const QUIET: Duration = Duration::from_secs(1);

/// The longest a close lingers, whatever the peer sends.
const LONGEST: Duration = Duration::from_secs(5);

/// The most that is read and discarded, in bytes.
const MOST: usize = 16 * 1024 * 1024;

/// A close that does not destroy what was sent before it.
///
/// A socket that is closed with bytes unread, or that receives bytes after it was closed, answers with a reset, and a
/// reset makes the peer's kernel drop what it has not sent or read yet: the last response (RFC 9112, section 9.6).
/// So the write side is shut, and what comes is read and discarded until the peer closes, too; or until it has been
/// quiet for 1 s, or 5 s or 16 MiB have passed.
pub(super) struct Linger {
    write_shut: bool,
    discarded: usize,
    latest: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Linger {
    pub(super) fn new() -> Self {
        Self {
            write_shut: false,
            discarded: 0,
            latest: Instant::now() + LONGEST,
            timer: Box::pin(sleep(LONGEST)),
        }
    }

    /// Drives the close. An error of the transport ends it: there is nobody left to protect a response for.
    pub(super) fn poll<I>(&mut self, cx: &mut Context<'_>, transport: &mut I) -> Poll<()>
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        if self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !self.write_shut {
            if ready!(Pin::new(&mut *transport).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            self.write_shut = true;
            self.expect_within(QUIET);
        }
        loop {
            let mut space = [MaybeUninit::uninit(); 8 * 1024];
            let mut discard = ReadBuf::uninit(&mut space);
            let Poll::Ready(read) = Pin::new(&mut *transport).poll_read(cx, &mut discard) else {
                break;
            };
            self.discarded += discard.filled().len();
            if read.is_err() || discard.filled().is_empty() || self.discarded > MOST {
                return Poll::Ready(());
            }
            self.expect_within(QUIET);
        }
        // Polled after it was set, or nothing would wake the task.
        self.timer.as_mut().poll(cx)
    }

    fn expect_within(&mut self, quiet: Duration) {
        let until = (Instant::now() + quiet).min(self.latest);
        self.timer.as_mut().reset(until);
    }
}

impl fmt::Debug for Linger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linger")
            .field("write_shut", &self.write_shut)
            .field("discarded", &self.discarded)
            .finish_non_exhaustive()
    }
}
