//! The answer to a goodbye of HTTP/2, held back until what was on its way has come.

use std::{
    fmt,
    future::Future,
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::Buf;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};
use tokio_util::bytes::BytesMut;

use super::{activity::Ending, io::Io, transport::Transport};

/// The least time for which the answer is held back.
const SHORTEST: Duration = Duration::from_millis(10);

/// The longest: a goodbye at the last look has hardly more time.
const LONGEST: Duration = Duration::from_millis(500);

/// Read at once in the time between a goodbye and its answer, in bytes.
const READ: usize = 4 * 1024;

/// The bytes below hyper's HTTP/2, where a client that is told to go can finish what it was saying.
///
/// hyper names the last stream that counts when the ping of its goodbye has come back, and refuses those behind it.
/// But a client may send that answer in front of requests that it had accepted before it read the goodbye: the crate
/// `h2` does, and so do reqwest, which makes them again, and tonic, which does not. So hyper is given the answer only
/// when it has been here for as long as it took to come, and at least [`SHORTEST`]. The order of streams and of
/// answers to pings means nothing in the protocol (RFC 9113, section 6.7).
pub(super) struct Patience<I> {
    io: Io<I>,
    frames: Frames,
    goodbye: Goodbye,
}

/// How far the goodbye is.
enum Goodbye {
    Unsaid,
    Said(Box<Said>),
    /// hyper has the answer.
    Over,
}

struct Said {
    at: Instant,
    /// Runs while the answer is held back.
    held: Option<Pin<Box<Sleep>>>,
    /// Read, and to be given to hyper.
    passed: BytesMut,
    answered: bool,
}

impl<I: Transport> Patience<I> {
    pub(super) fn new(io: Io<I>) -> Self {
        Self {
            io,
            frames: Frames::new(),
            goodbye: Goodbye::Unsaid,
        }
    }
}

impl<I: Transport> AsyncRead for Patience<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            io,
            frames,
            goodbye,
        } = &mut *self;
        if matches!(goodbye, Goodbye::Unsaid) && io.activity().ending() == Ending::Lingering {
            *goodbye = Goodbye::Said(Box::new(Said {
                at: Instant::now(),
                held: None,
                passed: BytesMut::new(),
                answered: false,
            }));
        }
        if let Goodbye::Said(said) = goodbye {
            if !(said.answered && said.passed.is_empty()) {
                return said.poll_read(cx, buf, io, frames);
            }
            *goodbye = Goodbye::Over;
        }
        let before = buf.filled().len();
        ready!(Pin::new(io).poll_read(cx, buf))?;
        if matches!(goodbye, Goodbye::Unsaid) {
            frames.follow(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl Said {
    fn poll_read<I: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        io: &mut Io<I>,
        frames: &mut Frames,
    ) -> Poll<io::Result<()>> {
        loop {
            let due = match &mut self.held {
                Some(held) => held.as_mut().poll(cx).is_ready(),
                None => false,
            };
            if due && !self.answered && frames.are_between() {
                self.passed.extend_from_slice(&ANSWER);
                frames.let_go(&mut self.passed);
                self.answered = true;
            }
            if !self.passed.is_empty() {
                let length = self.passed.len().min(buf.remaining());
                buf.put_slice(&self.passed[..length]);
                self.passed.advance(length);
                return Poll::Ready(Ok(()));
            }
            let mut space = [MaybeUninit::uninit(); READ];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut *io).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                // hyper needs no answer any more.
                return Poll::Ready(Ok(()));
            }
            if frames.sift(read.filled(), &mut self.passed) && self.held.is_none() {
                let time = self.at.elapsed().clamp(SHORTEST, LONGEST);
                self.held = Some(Box::pin(sleep(time)));
            }
        }
    }
}

impl<I: Transport> AsyncWrite for Patience<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<I> fmt::Debug for Patience<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let goodbye = match self.goodbye {
            Goodbye::Unsaid => "unsaid",
            Goodbye::Said(_) => "said",
            Goodbye::Over => "over",
        };
        f.debug_struct("Patience")
            .field("goodbye", &goodbye)
            .finish_non_exhaustive()
    }
}

/// Where one frame ends and the next begins (RFC 9113, section 4.1).
struct Frames {
    /// What has come of a head; and of the frame behind it, while that may be the answer.
    head: [u8; ANSWER.len()],
    length: usize,
    /// How much of the head hyper has already.
    passed: usize,
    /// What is left of the payload; at first of the preface.
    left: usize,
    /// Within a header block nothing else may come (section 4.3).
    in_block: bool,
    /// An answer has been taken out.
    taken: bool,
}

impl Frames {
    fn new() -> Self {
        Self {
            head: [0; ANSWER.len()],
            length: 0,
            passed: 0,
            left: PREFACE,
            in_block: false,
            taken: false,
        }
    }

    /// Sees bytes that hyper has.
    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let now = match self.left {
                0 => self.gather(bytes, HEAD),
                left => left.min(bytes.len()),
            };
            if self.left > 0 {
                self.left -= now;
            } else if self.length == HEAD {
                self.begin();
            } else {
                self.passed = self.length;
            }
            bytes = &bytes[now..];
        }
    }

    /// Passes bytes on, but not the first answer, nor the beginning of what may become that. Returns whether it was
    /// in them.
    fn sift(&mut self, mut bytes: &[u8], passed: &mut BytesMut) -> bool {
        let had = self.taken;
        while !bytes.is_empty() {
            if self.left > 0 {
                let (now, rest) = bytes.split_at(self.left.min(bytes.len()));
                passed.extend_from_slice(now);
                self.left -= now.len();
                bytes = rest;
                continue;
            }
            let may_be_it = self.passed == 0 && !self.taken;
            let whole = match self.length {
                HEAD.. => ANSWER.len(),
                _ => HEAD,
            };
            let now = self.gather(bytes, whole);
            bytes = &bytes[now..];
            if self.length == ANSWER.len() && self.head == ANSWER {
                self.taken = true;
                self.length = 0;
            } else if self.length == ANSWER.len() {
                // Another ping: its payload is here.
                self.let_go(passed);
                (self.length, self.passed) = (0, 0);
            } else if self.length == HEAD && !(may_be_it && self.head[..HEAD] == ANSWER[..HEAD]) {
                self.let_go(passed);
                self.begin();
            }
        }
        self.taken && !had
    }

    /// Takes what is missing of a head, or of an answer.
    fn gather(&mut self, bytes: &[u8], whole: usize) -> usize {
        let now = (whole - self.length).min(bytes.len());
        self.head[self.length..][..now].copy_from_slice(&bytes[..now]);
        self.length += now;
        now
    }

    /// Passes on what is held of a head.
    fn let_go(&mut self, passed: &mut BytesMut) {
        passed.extend_from_slice(&self.head[self.passed..self.length]);
        self.passed = self.length;
    }

    /// The head is whole.
    fn begin(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.in_block = flags & END_HEADERS == 0;
        }
        (self.length, self.passed) = (0, 0);
    }

    /// Whether a frame may be put in front of what comes next.
    fn are_between(&self) -> bool {
        self.left == 0 && self.passed == 0 && !self.in_block
    }
}

/// The answer to the ping of a goodbye; the payload is h2's.
const ANSWER: [u8; 17] = *b"\0\0\x08\x06\x01\0\0\0\0\x0b\x7b\xa2\xf0\x8b\x9b\xfe\x54";
const HEAD: usize = 9;
const PREFACE: usize = 24;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// However the bytes are cut, and wherever the goodbye is said, the answer alone is taken out.
    #[test]
    fn only_the_answer_is_taken_out() {
        let head = frame(HEADERS, 0, b"half");
        let rest = frame(CONTINUATION, END_HEADERS, b"whole");
        let data = frame(0, 0, &ANSWER);
        let ping = [&ANSWER[..HEAD], b"another!"].concat();
        let before = [&[0; PREFACE][..], &frame(4, 0, b""), &data, &ping].concat();
        let after = [&ping[..], &ANSWER, &data, &head, &rest, &ANSWER, &ping].concat();
        let expected = [&ping[..], &data, &head, &rest, &ANSWER, &ping].concat();
        for cut in 1..40 {
            for early in 0..=HEAD {
                let mut frames = Frames::new();
                for bytes in before.chunks(cut) {
                    frames.follow(bytes);
                }
                // The goodbye may be said when hyper has part of a head.
                let (known, unknown) = after.split_at(early);
                frames.follow(known);
                let mut passed = BytesMut::from(known);
                let mut found = 0;
                for bytes in unknown.chunks(cut) {
                    found += usize::from(frames.sift(bytes, &mut passed));
                }
                assert_eq!((found, &passed[..]), (1, &expected[..]), "{cut} {early}");
            }
        }
    }

    #[test]
    fn nothing_is_put_into_a_frame_or_a_header_block() {
        let mut frames = Frames::new();
        let mut passed = BytesMut::new();
        frames.follow(&[0; PREFACE - 1]);
        assert!(!frames.are_between());
        frames.sift(&[0], &mut passed);
        assert!(frames.are_between());
        let head = frame(HEADERS, 0, b"half");
        let rest = frame(CONTINUATION, END_HEADERS, b"whole");
        for (index, byte) in head.iter().chain(&rest).enumerate() {
            frames.sift(&[*byte], &mut passed);
            // hyper does not have a head that is not whole.
            let between = index < HEAD - 1 || index == head.len() + rest.len() - 1;
            assert_eq!(frames.are_between(), between, "{index}");
        }
    }
}
