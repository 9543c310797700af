//! Lines: the protocol of the `echo` example, and others like it.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time;

use super::fault::{Cause, Fault};
use super::http::{Answer, Turn, read_more};
use super::request::Lines as Manner;
use crate::testing::identity::Identity;
use crate::testing::target::Socket;

/// A client's end of a connection.
#[derive(Debug)]
pub(super) struct Lines {
    socket: Socket,
    unread: Vec<u8>,
    manner: Manner,
    identity: Option<Identity>,
    /// Makes each line another one, so that an answer cannot be taken for that to another.
    next: u64,
}

impl Lines {
    /// Waits for the greeting, where there is one, without which the connection was not made.
    pub(super) async fn connect(
        socket: Socket,
        manner: &Manner,
        limit: Duration,
    ) -> Result<Self, Fault> {
        let mut lines = Self {
            socket,
            unread: Vec::new(),
            manner: manner.clone(),
            identity: None,
            next: 0,
        };
        if !manner.greets {
            return Ok(lines);
        }
        let greeting = match time::timeout(limit, lines.line()).await {
            Ok(greeting) => greeting?,
            Err(_) => {
                return Err(Fault::new(
                    Cause::Timeout,
                    format!("no greeting in {limit:?}"),
                ));
            }
        };
        lines.identity = Identity::parse(&greeting);
        if manner.named && lines.identity.is_none() {
            let detail = format!("a greeting of `{greeting}`");
            return Err(Fault::new(Cause::BadAnswer, detail));
        }
        Ok(lines)
    }

    /// Who has greeted.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Resolves when the service does anything on a connection on which nothing is asked; without
    /// a fault if it announces that it is about to close.
    ///
    /// # Cancel safety
    ///
    /// A part of a line stays in the buffer.
    pub(super) async fn disturbed(&mut self) -> Option<Fault> {
        let mut told = false;
        loop {
            match self.line().await {
                Ok(line) if self.manner.named && line == BYE => return None,
                Ok(line) if self.manner.named => {
                    return Some(Fault::new(Cause::BadAnswer, format!("`{line}`, unasked")));
                }
                // Whatever a service says unasked before it closes is its goodbye.
                Ok(_) => told = true,
                Err(fault) if told && fault.is_idle_close() => return None,
                Err(fault) => return Some(fault),
            }
        }
    }

    /// Sends a line and waits for its answer.
    pub(super) async fn ask(&mut self, limit: Duration) -> Result<Turn, Fault> {
        self.next += 1;
        let line = match &self.manner.says {
            Some(text) => text.clone(),
            None => format!("line {}", self.next),
        };
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
                if answer == line || self.manner.says.is_some() {
                    return Ok(Turn::from(Answer {
                        status: 200,
                        identity: self.identity,
                        body: Vec::new(),
                        closes,
                    }));
                }
                if answer != BYE && self.manner.named {
                    let detail = format!("`{answer}` instead of `{line}`");
                    return Err(Fault::new(Cause::BadAnswer, detail));
                }
                closes |= answer == BYE;
            }
        };
        let answer = match time::timeout(limit, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::new(
                Cause::Timeout,
                format!("no answer in {limit:?}"),
            )),
        };
        answer.map_err(|fault| fault.after(sent))
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
