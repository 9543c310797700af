//! The standard error of a successor that has not settled yet.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncWriteExt, Interest};

use super::token::Token;
use crate::sys::fd;
use crate::sys::watch::watch;

/// What was forwarded last, at most [`Tail::LIMIT`] bytes of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    /// Bytes that are kept.
    const LIMIT: usize = 64 * 1024;

    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(Self::LIMIT);
        kept.drain(..excess);
    }

    /// The last lines, at most `count`, without a first one that is cut and without colours.
    pub(crate) fn last_lines(&self, count: usize) -> Vec<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = kept.iter().copied().collect();
        drop(kept);
        let text = String::from_utf8_lossy(&bytes);
        let mut lines: Vec<_> = text.lines().map(plain).collect();
        if bytes.len() == Self::LIMIT && lines.len() > 1 {
            lines.remove(0);
        }
        lines.split_off(lines.len().saturating_sub(count))
    }
}

/// A line without its control sequences (ECMA-48, 5.4), which are meant for a terminal: a log shows
/// them as noise.
fn plain(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // Parameters, and one final byte.
        let end = part.find(|byte| ('@'..='~').contains(&byte));
        plain.push_str(end.map_or("", |end| &part[end + 1..]));
    }
    plain
}

/// Copies what comes out of a pipe to this process's standard error, whole lines at a time, until
/// its end; after `finish`, until nothing is left in it for the moment.
///
/// A standard error that leads nowhere, such as that of a terminal that was closed, is no reason to
/// stop reading: the successor would wait for room in the pipe.
pub(crate) async fn forward<T>(pipe: T, tail: Tail, finish: Token) -> io::Result<()>
where
    T: AsFd + AsRawFd,
{
    fd::set_nonblocking(&pipe, true)?;
    let pipe = watch(pipe, Interest::READABLE)?;
    let read = |buffer: &mut Vec<u8>| {
        let (start, room) = (buffer.len(), 16 * 1024);
        buffer.resize(start + room, 0);
        let result = nix::unistd::read(pipe.get_ref(), &mut buffer[start..]);
        buffer.truncate(start + result.unwrap_or(0));
        result.map_err(io::Error::from)
    };
    let mut stderr = tokio::io::stderr();
    let mut written = Ok(());
    let mut buffer = Vec::new();
    loop {
        let count = tokio::select! {
            biased;
            count = pipe.async_io(Interest::READABLE, |_| read(&mut buffer)) => count?,
            () = finish.cancelled() => match read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                other => other?,
            },
        };
        let whole = match buffer.iter().rposition(|&byte| byte == b'\n') {
            _ if count == 0 => buffer.len(),
            Some(last) => last + 1,
            // A line without an end is not held back for ever.
            None if buffer.len() >= Tail::LIMIT => buffer.len(),
            None => 0,
        };
        tail.push(&buffer[..whole]);
        if written.is_ok() {
            written = stderr.write_all(&buffer[..whole]).await;
        }
        if written.is_ok() {
            written = stderr.flush().await;
        }
        buffer.drain(..whole);
        if count == 0 {
            return written;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept() {
        let (read, write) = crate::sys::stdio::pipe().expect("a pipe");
        let (tail, finish) = (Tail::default(), Token::new());
        let forwarding = tokio::spawn(forward(read, tail.clone(), finish.clone()));
        let mut write = std::fs::File::from(write);
        write.write_all(b"one\ntwo\nthree").expect("room");
        // The write end stays open, as in the hands of a grandchild.
        finish.cancel();
        forwarding.await.expect("no panic").expect("no error");
        assert_eq!(tail.last_lines(2), ["two", "three"]);
        assert_eq!(tail.last_lines(9), ["one", "two", "three"]);
    }

    #[test]
    fn colours_are_left_out() {
        for (line, expected) in [
            ("no colour", "no colour"),
            (
                "\x1b[2m12:00\x1b[0m \x1b[1;31mERROR\x1b[0m no",
                "12:00 ERROR no",
            ),
            ("cut \x1b[1;3", "cut "),
            ("\x1b[", ""),
        ] {
            assert_eq!(plain(line), expected);
        }
    }

    #[test]
    fn no_more_is_kept_than_the_limit() {
        let tail = Tail::default();
        for line in 0..20_000 {
            tail.push(format!("line {line}\n").as_bytes());
        }
        let lines = tail.last_lines(usize::MAX);
        assert!(lines.iter().map(|line| line.len() + 1).sum::<usize>() <= Tail::LIMIT);
        assert!(lines.iter().all(|line| line.starts_with("line ")));
        assert_eq!(lines.last().map(String::as_str), Some("line 19999"));
    }
}
