//! What a service prints, line by line.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::testing::wait::within;

/// All that a service has printed so far, on standard output and standard error, by all of its
/// generations, in the order of its arrival.
#[derive(Debug)]
pub struct Output {
    lines: Arc<watch::Sender<Vec<Line>>>,
    /// How many pipes have not been read to their ends.
    open: Arc<watch::Sender<usize>>,
    readers: Vec<JoinHandle<()>>,
}

impl Output {
    pub(super) fn new() -> Self {
        Self {
            lines: Arc::new(watch::Sender::new(Vec::new())),
            open: Arc::new(watch::Sender::new(0)),
            readers: Vec::new(),
        }
    }

    /// Reads `pipe` until nobody holds its other end any more.
    ///
    /// A thread and not a task: a service that is never waited for must not block on a full pipe.
    pub(super) fn read(&mut self, source: Source, pipe: impl Read + Send + 'static) {
        let (lines, open) = (Arc::clone(&self.lines), Arc::clone(&self.open));
        open.send_modify(|open| *open += 1);
        self.readers.push(thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut bytes = Vec::new();
            while matches!(pipe.read_until(b'\n', &mut bytes), Ok(1..)) {
                let text = String::from_utf8_lossy(&bytes)
                    .trim_end_matches(['\n', '\r'])
                    .to_owned();
                lines.send_modify(|lines| {
                    lines.push(Line {
                        at: Instant::now(),
                        source,
                        text,
                    })
                });
                bytes.clear();
            }
            open.send_modify(|open| *open -= 1);
        }));
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.borrow().clone()
    }

    /// How many lines there are: the place from which [`find_from`](Self::find_from) looks for
    /// what is printed from now on.
    pub fn len(&self) -> usize {
        self.lines.borrow().len()
    }

    /// Tells whether nothing was printed yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for a line, old or new, with `text` in it.
    ///
    /// # Panics
    ///
    /// After [`LIMIT`](crate::testing::LIMIT).
    pub async fn find(&self, text: &str) -> Line {
        self.find_from(0, text).await
    }

    /// Waits for a line with `text` in it, not before the place `from`.
    ///
    /// # Panics
    ///
    /// After [`LIMIT`](crate::testing::LIMIT).
    pub async fn find_from(&self, from: usize, text: &str) -> Line {
        let what = format_args!("a line with `{text}`").to_string();
        self.wait_for(&what, |lines| {
            lines
                .iter()
                .skip(from)
                .find(|line| line.text.contains(text))
                .cloned()
        })
        .await
    }

    /// Waits until `look` finds something in the lines.
    ///
    /// # Panics
    ///
    /// After [`LIMIT`](crate::testing::LIMIT), with `what` in the message.
    pub async fn wait_for<T>(&self, what: &str, mut look: impl FnMut(&[Line]) -> Option<T>) -> T {
        let mut lines = self.lines.subscribe();
        within(what, async {
            loop {
                if let Some(found) = look(&lines.borrow_and_update()) {
                    return found;
                }
                lines.changed().await.expect("this output holds the sender");
            }
        })
        .await
    }

    /// Waits until all is here that was printed by processes which have ended; not for long, since
    /// others may hold the pipes that nobody knows of.
    pub(in crate::testing) async fn complete(&self) {
        let mut open = self.open.subscribe();
        tokio::time::timeout(COMPLETE, open.wait_for(|open| *open == 0))
            .await
            .ok();
    }

    /// Waits until the pipes have been read to their ends.
    pub(super) fn join(&mut self) {
        for reader in self.readers.drain(..) {
            // A reader has nothing to panic on.
            reader.join().ok();
        }
    }
}

/// How long what is in a pipe may take to be read.
const COMPLETE: Duration = Duration::from_secs(1);

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &*self.lines.borrow() {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// A line that a service has printed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Line {
    /// When it arrived.
    pub at: Instant,
    /// Where it was printed.
    pub source: Source,
    /// The line without its end; what is not UTF-8 is replaced.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            Source::Stdout => "out",
            Source::Stderr => "err",
        };
        write!(f, "{source}: {}", self.text)
    }
}

/// Where a line was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use super::*;

    #[tokio::test]
    async fn it_is_complete_when_every_pipe_was_read_to_its_end() {
        let mut output = Output::new();
        let (first, mut to_first) = io::pipe().expect("a pipe");
        let (second, to_second) = io::pipe().expect("a pipe");
        output.read(Source::Stderr, first);
        output.read(Source::Stdout, second);
        let writer = thread::spawn(move || {
            writeln!(to_first, "last words").expect("it is read");
            drop(to_first);
            drop(to_second);
        });
        output.complete().await;
        assert_eq!(output.lines().len(), 1);
        writer.join().expect("no panic");
    }
}
