//! The line protocol of the `echo` example.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time;

use super::fault::{Cause, Fault};
use super::http::{Answer, read_more};
use crate::testing::identity::Identity;
use crate::testing::target::Socket;

/// A client's end of a connection.
#[derive(Debug)]
pub(super) struct Lines {
    socket: Socket,
    unread: Vec<u8>,
    identity: Identity,
    /// Makes each line another one, so that an answer cannot be taken for that to another.
    next: u64,
}

impl Lines {
    /// Waits for the greeting, without which the connection was not made.
    pub(super) async fn greeted(socket: Socket, limit: Duration) -> Result<Self, Fault> {
        let nobody = Identity {
            generation: 0,
            pid: 0,
        };
        let mut lines = Self {
            socket,
            unread: Vec::new(),
            identity: nobody,
            next: 0,
        };
        let greeting = match time::timeout(limit, lines.line()).await {
            Ok(greeting) => greeting?,
            Err(_) => {
                return Err(Fault::new(
                    Cause::Timeout,
                    format!("no greeting in {limit:?}"),
                ));
            }
        };
        lines.identity = Identity::parse(&greeting)
            .ok_or_else(|| Fault::new(Cause::BadAnswer, format!("a greeting of `{greeting}`")))?;
        Ok(lines)
    }

    /// Who has greeted.
    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// Resolves when the service does anything on a connection on which nothing is asked; without
    /// a fault if it announces that it is about to close.
    ///
    /// # Cancel safety
    ///
    /// A part of a line stays in the buffer.
    pub(super) async fn disturbed(&mut self) -> Option<Fault> {
        match self.line().await {
            Ok(line) if line == BYE => None,
            Ok(line) => Some(Fault::new(Cause::BadAnswer, format!("`{line}`, unasked"))),
            Err(fault) => Some(fault),
        }
    }

    /// Sends a line and waits for it to come back.
    pub(super) async fn ask(&mut self, limit: Duration) -> Result<Answer, Fault> {
        self.next += 1;
        let line = format!("line {}", self.next);
        let mut sent = 0;
        let exchange = async {
            let bytes = format!("{line}\n").into_bytes();
            while sent < bytes.len() {
                match self.socket.write(&bytes[sent..]).await {
                    Ok(count) => sent += count,
                    // What it means is for the reader to see.
                    Err(_) => break,
                }
            }
            let mut closes = false;
            loop {
                let answer = self.line().await?;
                if answer == line {
                    return Ok(Answer {
                        identity: Some(self.identity),
                        body: Vec::new(),
                        closes,
                    });
                }
                if answer != BYE {
                    let detail = format!("`{answer}` instead of `{line}`");
                    return Err(Fault::new(Cause::BadAnswer, detail));
                }
                closes = true;
            }
        };
        let answer = match time::timeout(limit, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::new(
                Cause::Timeout,
                format!("no answer in {limit:?}"),
            )),
        };
        answer.map_err(|fault| Fault { sent, ..fault })
    }

    async fn line(&mut self) -> Result<String, Fault> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            match read_more(&mut self.socket, &mut self.unread).await {
                Ok(0) if self.unread.is_empty() => return Err(Fault::new(Cause::Eof, "closed")),
                Ok(0) => return Err(Fault::new(Cause::Eof, "closed within a line")),
                Ok(_) => {}
                Err(error) => return Err(Fault::reading(&error)),
            }
        }
    }
}

/// What the service says before it closes.
const BYE: &str = "bye";
