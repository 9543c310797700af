//! Asks the generations that drain.
//!
//! Each serves whoever is at the other end of a socket that comes through its channel, as it serves
//! a client. Answers do not go into the channel: every younger generation that lives holds the same
//! end of it, and whoever reads first gets what is there.

use std::io;
use std::os::fd::AsFd;

use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;

use super::connection::State;
use crate::run::Old;

/// Asks one of them, and gives the first line that it says.
pub(super) async fn ask(old: &Old, request: &Value) -> io::Result<Map<String, Value>> {
    let mut lines = open(old, request).await?;
    match lines
        .next_line()
        .await?
        .map(|line| serde_json::from_str(&line))
    {
        Some(Ok(Value::Object(fields))) => Ok(fields),
        Some(Ok(_)) => Err(io::ErrorKind::InvalidData.into()),
        Some(Err(error)) => Err(error.into()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

async fn open(old: &Old, request: &Value) -> io::Result<Lines<BufReader<UnixStream>>> {
    let (mut ours, theirs) = UnixStream::pair()?;
    old.ask(theirs.as_fd(), State::link().text())?;
    // Its end is the end of the stream.
    drop(theirs);
    ours.write_all(format!("{request}\n").as_bytes()).await?;
    Ok(BufReader::new(ours).lines())
}
