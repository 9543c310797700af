//! A connection whose GOAWAY frames are read along.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The last stream that the server names in a GOAWAY: those behind it were not processed, and may be sent anew
/// (RFC 9113, section 6.8). `h2` does not tell it.
#[derive(Clone, Debug)]
pub(super) struct LastStream(Arc<AtomicU32>);

impl LastStream {
    /// Whether the server has refused this stream.
    pub(super) fn is_before(&self, stream: u32) -> bool {
        stream > self.0.load(Ordering::Acquire)
    }

    /// Whether the server has said goodbye.
    pub(super) fn is_told(&self) -> bool {
        self.0.load(Ordering::Acquire) != u32::MAX
    }
}

/// A connection with HTTP/2 on it.
#[derive(Debug)]
pub(super) struct Watched<S> {
    io: S,
    last: LastStream,
    /// The head of the current frame, and as much of its payload as is looked at.
    frame: Vec<u8>,
    /// What is left of the current frame.
    left: usize,
}

impl<S> Watched<S> {
    pub(super) fn new(io: S) -> (Self, LastStream) {
        let last = LastStream(Arc::new(AtomicU32::new(u32::MAX)));
        let watched = Self {
            io,
            last: last.clone(),
            frame: Vec::new(),
            left: HEAD,
        };
        (watched, last)
    }

    fn look(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= now.len();
            bytes = rest;
            let wanted = (HEAD + 4).saturating_sub(self.frame.len()).min(now.len());
            self.frame.extend_from_slice(&now[..wanted]);
            if self.left > 0 {
                return;
            }
            if self.frame.len() == HEAD {
                let [high, middle, low, ..] = self.frame[..] else {
                    unreachable!("it is that long");
                };
                self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
            }
            if self.left == 0 {
                self.frame_ended();
            }
        }
    }

    fn frame_ended(&mut self) {
        if let [_, _, _, GOAWAY, _, _, _, _, _, a, b, c, d] = self.frame[..] {
            let last = u32::from_be_bytes([a, b, c, d]) & u32::MAX >> 1;
            self.last.0.store(last, Ordering::Release);
        }
        self.frame.clear();
        self.left = HEAD;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.look(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// RFC 9113, section 4.1.
const HEAD: usize = 9;
const GOAWAY: u8 = 7;
