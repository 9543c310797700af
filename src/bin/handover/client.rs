//! The control protocol, as a client speaks it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::arguments::Global;
use crate::exit::{Exit, Failure};
use crate::find;

/// A connection to the control socket of a service.
#[derive(Debug)]
pub(crate) struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

/// A line that a service says.
#[derive(Debug)]
pub(crate) enum Said {
    /// The last one of a request.
    Answer(Map<String, Value>),
    /// Why the request was not done.
    Error(Map<String, Value>),
    /// What happens meanwhile, or has happened.
    Event(Value),
    /// So many events are lost, because nobody has read them in time.
    Missed(u64),
}

impl Client {
    /// Connects to the service that is named, or to the only one that there is.
    pub(crate) fn connect(global: &Global) -> Result<Self, Failure> {
        let path = match &global.socket {
            Some(path) => path.clone(),
            None => find::only()?,
        };
        Self::open(&path).map_err(|error| {
            let path = path.display();
            Failure::unavailable(format_args!("could not connect to `{path}`: {error}"))
        })
    }

    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            stream: BufReader::new(UnixStream::connect(path)?),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How long an answer may take that does not wait for anything.
    pub(crate) fn limit(&self, limit: Option<Duration>) -> io::Result<()> {
        self.stream.get_ref().set_read_timeout(limit)?;
        self.stream.get_ref().set_write_timeout(limit)
    }

    /// Asks for something whose answer does not wait, and gives it.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, request: &Value) -> Result<T, Failure> {
        self.limit(Some(PATIENCE))
            .map_err(|error| self.lost(error))?;
        self.send(request)?;
        loop {
            match self.next()? {
                Said::Answer(fields) => {
                    return serde_json::from_value(fields.into()).map_err(|error| {
                        self.lost(format_args!("its answer is not understood: {error}"))
                    });
                }
                Said::Error(fields) => return Err(refusal(&fields)),
                Said::Event(_) | Said::Missed(_) => {}
            }
        }
    }

    pub(crate) fn send(&mut self, request: &Value) -> Result<(), Failure> {
        let line = format!("{request}\n");
        let sent = self.stream.get_mut().write_all(line.as_bytes());
        match sent {
            // What it has said before it went is still there to be read.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(self.lost(error)),
            _ => Ok(()),
        }
    }

    /// The next line.
    pub(crate) fn next(&mut self) -> Result<Said, Failure> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => return Err(self.lost("it closed the connection before it had answered")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(self.lost(format_args!("no answer within {PATIENCE:?}")));
            }
            Err(error) => return Err(self.lost(error)),
        }
        let parsed = serde_json::from_str::<Map<String, Value>>(&line);
        let mut fields = parsed.map_err(|error| {
            self.lost(format_args!(
                "it does not speak the control protocol: {error}"
            ))
        })?;
        let kind = fields.remove("type");
        fields.remove("id");
        match kind.as_ref().and_then(Value::as_str) {
            Some("answer") => Ok(Said::Answer(fields)),
            Some("error") => Ok(Said::Error(fields)),
            Some("event" | "progress") => {
                Ok(Said::Event(fields.remove("event").unwrap_or_default()))
            }
            Some("missed") => Ok(Said::Missed(
                fields.get("count").and_then(Value::as_u64).unwrap_or(0),
            )),
            // Of a newer protocol.
            _ => self.next(),
        }
    }

    /// Waits until the service says anything, or until a time has passed.
    pub(crate) fn anything(&mut self, limit: Duration) -> Result<(), Failure> {
        self.limit(Some(limit)).map_err(|error| self.lost(error))?;
        match self.stream.read(&mut [0; 4096]) {
            Ok(0) => Err(self.lost("it has ended")),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(self.lost(error)),
            _ => Ok(()),
        }
    }

    /// Waits until the service has closed the connection, as it does when it has ended.
    pub(crate) fn closed(&mut self) {
        let mut line = String::new();
        while matches!(self.stream.read_line(&mut line), Ok(count) if count > 0) {
            line.clear();
        }
    }

    fn lost(&self, why: impl std::fmt::Display) -> Failure {
        let path = self.path.display();
        Failure::unavailable(format_args!("the service at `{path}`: {why}"))
    }
}

/// What a service says why it does not do something: the answer is no.
pub(crate) fn refusal(fields: &Map<String, Value>) -> Failure {
    let message = fields.get("message").and_then(Value::as_str);
    let exit = match fields.get("code").and_then(Value::as_str) {
        Some("forbidden" | "busy" | "timeout") => Exit::Unavailable,
        _ => Exit::Failed,
    };
    Failure::new(
        exit,
        message.unwrap_or("it was refused, and nobody says why"),
    )
}

/// How long an answer may take that waits for nothing.
const PATIENCE: Duration = Duration::from_secs(10);
