//! The first stage of a connection: which protocol it speaks.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

use super::{head_timeout::HeadTimeout, io::Io, phase::Phase, transport::Transport};

/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Read at once, in bytes: most first requests fit, and then hyper need not read again.
const READ: usize = 2 * 1024;

/// A connection that has not said which protocol it speaks.
#[derive(Debug)]
pub(crate) struct Preface<I> {
    io: Io<I>,
    read: Vec<u8>,
    head_timeout: HeadTimeout,
}

/// How the stage ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    Http1,
    Http2,
    /// Nothing was said.
    Silence,
    /// It moves to the successor with what was said so far.
    Moves,
}

impl<I: Transport> Preface<I> {
    pub(crate) fn new(io: Io<I>, head_timeout: Duration) -> Self {
        Self {
            io,
            read: Vec::new(),
            head_timeout: HeadTimeout::new(head_timeout),
        }
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        phase: Phase,
    ) -> Poll<Result<Opening, PrefaceError>> {
        loop {
            let mut space = [MaybeUninit::uninit(); READ];
            let mut buf = ReadBuf::uninit(&mut space);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(PrefaceError::Read(error))),
                Poll::Pending => break,
            }
            self.read.extend_from_slice(buf.filled());
            if let Some(opening) = opening(&self.read, buf.filled().is_empty()) {
                return Poll::Ready(Ok(opening));
            }
        }
        // A silent one moves by itself, as every connection does on which nothing was read.
        if phase == Phase::Moving && !self.read.is_empty() && self.io.activity().moves() {
            return Poll::Ready(Ok(Opening::Moves));
        }
        if phase >= Phase::LastLook && self.read.is_empty() && !self.io.has_arrived() {
            return Poll::Ready(Ok(Opening::Silence));
        }
        self.head_timeout
            .poll(cx, !self.read.is_empty())
            .map(|limit| Err(PrefaceError::Slow(limit)))
    }

    /// Gives the I/O object back, with what was read in front again.
    pub(crate) fn into_io(mut self) -> Io<I> {
        self.io.unread(Bytes::from(self.read));
        self.io
    }
}

/// Why a connection ended before it had said which protocol it speaks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrefaceError {
    #[error("could not read the first bytes")]
    Read(#[source] io::Error),
    #[error("the first request was not complete within {0:?}")]
    Slow(Duration),
}

/// Tells the protocol by the bytes read so far, if they are enough.
fn opening(read: &[u8], ended: bool) -> Option<Opening> {
    let length = read.len().min(PREFACE.len());
    if read[..length] != PREFACE[..length] {
        Some(Opening::Http1)
    } else if length == PREFACE.len() {
        Some(Opening::Http2)
    } else if !ended {
        None
    } else if read.is_empty() {
        Some(Opening::Silence)
    } else {
        // Half a preface and then the end is nobody's protocol; HTTP/1.1 has an answer to that.
        Some(Opening::Http1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_differs_decides() {
        for (read, ended, expected) in [
            (&b""[..], false, None),
            (b"", true, Some(Opening::Silence)),
            (b"G", false, Some(Opening::Http1)),
            (b"P", false, None),
            (b"P", true, Some(Opening::Http1)),
            (b"POST / HTTP/1.1\r\n", false, Some(Opening::Http1)),
            (b"PRI * HTTP/2.0\r\n\r\nSM", false, None),
            (
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\t",
                false,
                Some(Opening::Http1),
            ),
            (PREFACE, false, Some(Opening::Http2)),
            (PREFACE, true, Some(Opening::Http2)),
            (
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0",
                false,
                Some(Opening::Http2),
            ),
        ] {
            assert_eq!(opening(read, ended), expected, "{}", read.escape_ascii());
        }
    }
}
