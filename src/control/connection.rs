//! One client: lines in, lines out, and its move to the successor.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use super::answer::{self, Complaint, fields};
use super::clients::Place;
use super::host::{Host, part};
use super::lines::{Lines, MAX_LINE, TooLong};
use super::request::{Asked, Request};
use super::status;
use super::timeline::timelines;
use crate::lifecycle::token::Token;
use crate::run::Client;
use crate::sys::log;

/// One client, in the generation that it speaks to.
pub(super) struct Connection {
    pub(super) host: Arc<Host>,
    stream: UnixStream,
    lines: Lines,
    /// When the first byte of a line came whose end has not.
    half: Option<Instant>,
    /// Whether the client says no more.
    at_end: bool,
    /// `None` for another generation, which is not counted.
    place: Option<Place>,
    leave: Token,
    /// Whether it goes on here whatever happens.
    stays: bool,
}

/// Where a client stands that is passed on.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// Whether it is another generation, which has chosen this one.
    link: bool,
    /// What it waits for.
    pending: Option<Pending>,
    /// What it has said already.
    unread: String,
}

/// What a client waits for that has moved.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Pending {
    /// The end of a generation that drains, after an `upgrade`.
    Drained {
        id: Option<Value>,
        pid: u32,
        began_us: u64,
        answer: Map<String, Value>,
    },
    /// Events; of each process it has seen those up to this time.
    Events {
        id: Option<Value>,
        since_us: u64,
        seen: BTreeMap<u32, u64>,
    },
}

/// Why a conversation is over.
#[derive(Debug)]
pub(super) enum Over {
    /// The client has gone, or has to.
    Gone,
    /// The client has to go, and is told why.
    Parts(Complaint),
    /// This generation has ended, and everything is said.
    Ended,
    /// It goes on with the successor.
    Moves(Option<Pending>),
}

impl State {
    /// That of a generation which asks this one.
    pub(super) fn link() -> Self {
        Self {
            link: true,
            ..Self::default()
        }
    }

    /// Reads what another generation has sent; what is not understood is left out.
    pub(super) fn of(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|error| {
            log::debug!(%error, "a client of another generation begins anew");
            Self::default()
        })
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn is_link(&self) -> bool {
        self.link
    }
}

impl Connection {
    pub(super) fn new(host: Arc<Host>, stream: UnixStream, place: Option<Place>) -> Self {
        let leave = match &place {
            Some(place) => place.leave.clone(),
            None => Token::new(),
        };
        Self {
            stays: place.is_none(),
            host,
            stream,
            lines: Lines::default(),
            half: None,
            at_end: false,
            place,
            leave,
        }
    }

    /// Serves the client until it goes, moves, or this generation ends.
    pub(super) async fn serve(mut self, state: State) {
        self.lines = Lines::new(state.unread.into_bytes());
        let mut pending = state.pending;
        loop {
            let over = match pending.take() {
                Some(pending) => match self.resume(pending).await {
                    Ok(()) => continue,
                    Err(over) => over,
                },
                None => self.converse().await,
            };
            match over {
                Over::Gone => return,
                Over::Parts(complaint) => return part(self.stream, &complaint.line(None)).await,
                Over::Ended => return self.host.keep(self.stream),
                Over::Moves(state) => match self.pass_on(state) {
                    Some((kept, state)) => (self, pending) = (kept, state),
                    None => return,
                },
            }
        }
    }

    async fn resume(&mut self, pending: Pending) -> Result<(), Over> {
        match pending {
            Pending::Drained {
                id,
                pid,
                began_us,
                answer,
            } => {
                self.set_busy(true);
                self.drained(id, pid, began_us, answer).await?;
                self.set_busy(false);
            }
            Pending::Events { id, since_us, seen } => {
                self.events(id, since_us, true, seen).await?;
            }
        }
        Ok(())
    }

    async fn converse(&mut self) -> Over {
        loop {
            if self.is_leaving() {
                return Over::Moves(None);
            }
            let line = match self.lines.take() {
                Ok(Some(line)) => Some(line),
                Ok(None) if self.at_end => match self.lines.rest() {
                    Some(line) => Some(line),
                    None => return Over::Gone,
                },
                Ok(None) => None,
                Err(TooLong) => return Over::Parts(too_long()),
            };
            let Some(line) = line else {
                match self.more().await {
                    Ok(()) => continue,
                    Err(over) => return over,
                }
            };
            self.half = None;
            self.set_busy(true);
            if let Err(over) = self.line(&line).await {
                return over;
            }
            self.set_busy(false);
            if self.lines.bytes().contains(&b'\n') {
                // Nobody who asks for more than this needs the answers.
                sleep(PACE).await;
            }
        }
    }

    /// Waits for more from a client that waits for nothing.
    async fn more(&mut self) -> Result<(), Over> {
        if self.lines.bytes().is_empty() {
            self.half = None;
        } else {
            self.half.get_or_insert_with(Instant::now);
        }
        let half = self.half;
        let host = Arc::clone(&self.host);
        let (leave, stays, is_link) = (self.leave.clone(), self.stays, self.place.is_none());
        let overdue = async {
            match half {
                Some(since) => tokio::time::sleep_until(since + HALF_LINE).await,
                None if is_link => std::future::pending().await,
                None => sleep(QUIET).await,
            }
        };
        tokio::select! {
            biased;
            () = leaving(&host, stays) => Err(Over::Moves(None)),
            () = host.ended.cancelled() => Err(Over::Ended),
            () = leave.cancelled() => Err(Over::Gone),
            read = self.read() => read,
            () = overdue => Err(Over::Parts(too_slow(half.is_some()))),
        }
    }

    /// Reads what the client says.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub(super) async fn read(&mut self) -> Result<(), Over> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes).await {
            Ok(0) => self.at_end = true,
            Ok(count) => self.lines.push(&bytes[..count]),
            Err(_) => return Err(Over::Gone),
        }
        Ok(())
    }

    /// Listens to a client that waits for events: until it says that it wants no more.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub(super) async fn gone(&mut self) {
        while !self.at_end && self.lines.bytes().len() <= MAX_LINE {
            if self.read().await.is_err() {
                return;
            }
        }
    }

    async fn line(&mut self, line: &[u8]) -> Result<(), Over> {
        let Asked {
            id,
            request,
            ignored,
        } = match Asked::parse(line) {
            Ok(asked) => asked,
            Err((id, complaint)) => return self.say(&complaint.line(id.as_ref())).await,
        };
        let mut extra = Map::new();
        if !ignored.is_empty() {
            extra.insert("ignored".to_owned(), ignored.into());
        }
        let shared = Arc::clone(&self.host.shared);
        match request {
            Request::Ping => {
                let own = json!({ "generation": shared.generation, "pid": std::process::id() });
                self.answer("ping", id, extra, own).await
            }
            Request::Status { own: true } => {
                let own = json!({ "generation": status::own(&self.host) });
                self.answer("status", id, extra, own).await
            }
            Request::Status { own: false } => {
                status::informed(&self.host).await;
                let all = status::status(&self.host).await;
                self.answer("status", id, extra, Value::Object(all)).await
            }
            Request::Upgrade { changes, until } => self.upgrade(id, extra, changes, until).await,
            Request::Stop { wait } => self.stop(id, extra, wait).await,
            Request::CallOff => self.call_off(id, extra).await,
            Request::Abort { generation, own } => {
                status::informed(&self.host).await;
                self.abort(id, extra, generation, own).await
            }
            Request::Events { follow, since_us } => {
                status::informed(&self.host).await;
                self.set_busy(false);
                self.events(id, since_us, follow, BTreeMap::new()).await
            }
            Request::Timeline { last } => {
                status::informed(&self.host).await;
                let mut handovers = timelines(&shared.record.events());
                handovers.drain(..handovers.len().saturating_sub(last));
                self.answer("timeline", id, extra, json!({ "handovers": handovers }))
                    .await
            }
        }
    }

    pub(super) async fn answer(
        &mut self,
        request: &str,
        id: Option<Value>,
        mut extra: Map<String, Value>,
        answer: Value,
    ) -> Result<(), Over> {
        extra.extend(fields(answer));
        self.say(&answer::answer(request, id.as_ref(), extra)).await
    }

    /// Says a line. A client that does not read it goes.
    pub(super) async fn say(&mut self, line: &[u8]) -> Result<(), Over> {
        // A process that has ended does not wait long for somebody who does not read.
        let ended = async {
            self.host.ended.cancelled().await;
            sleep(UNREAD_AT_THE_END).await;
        };
        tokio::select! {
            biased;
            written = timeout(UNREAD, self.stream.write_all(line)) => match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(Over::Gone),
            },
            () = ended => Err(Over::Gone),
        }
    }

    pub(super) fn set_busy(&self, busy: bool) {
        if let Some(place) = &self.place {
            place.set_busy(busy);
        }
    }

    /// What a wait has to look at besides what it waits for.
    pub(super) fn signs(&self) -> Signs {
        Signs {
            host: Arc::clone(&self.host),
            leave: self.leave.clone(),
            stays: self.stays,
        }
    }

    fn is_leaving(&self) -> bool {
        !self.stays && self.host.shared.onwards().is_some()
    }

    /// Passes the client on to the successor, or goes on with it here.
    fn pass_on(mut self, pending: Option<Pending>) -> Option<(Self, Option<Pending>)> {
        self.stays = true;
        let state = State {
            link: false,
            unread: String::from_utf8_lossy(self.lines.bytes()).into_owned(),
            pending,
        };
        // The registration goes; the socket is the same.
        let copy = match copy_of(&self.stream) {
            Ok(copy) => copy,
            Err(error) => {
                log::debug!(%error, "a client of the control socket stays");
                return Some((self, state.pending));
            }
        };
        let client = Client {
            socket: copy,
            state: state.text(),
        };
        let kept = match &*self.host.shared.onwards() {
            Some(onwards) => onwards.pass(&self.host.key, client),
            None => Some(client),
        };
        kept.map(|_| (self, state.pending))
    }
}

/// What a wait has to look at besides what it waits for.
pub(super) struct Signs {
    host: Arc<Host>,
    leave: Token,
    stays: bool,
}

impl Signs {
    /// The client is to go on with the successor.
    pub(super) async fn leaving(&self) {
        leaving(&self.host, self.stays).await;
    }

    /// This generation has ended.
    pub(super) async fn ended(&self) {
        self.host.ended.cancelled().await;
    }

    /// Another client needs the place.
    pub(super) async fn giving_way(&self) {
        self.leave.cancelled().await;
    }
}

async fn leaving(host: &Host, stays: bool) {
    if stays {
        std::future::pending::<()>().await;
    }
    host.shared.tokens.draining.cancelled().await;
    if host.shared.onwards().is_none() {
        // It stops, or the successor takes no clients.
        std::future::pending::<()>().await;
    }
}

fn copy_of(stream: &UnixStream) -> io::Result<OwnedFd> {
    use std::os::fd::AsFd;
    stream.as_fd().try_clone_to_owned()
}

fn too_long() -> Complaint {
    let message = format!("a line is longer than {MAX_LINE} bytes");
    Complaint::new("too_long", message)
}

fn too_slow(half: bool) -> Complaint {
    let message = match half {
        true => format!("the end of a line did not come within {HALF_LINE:?}"),
        false => format!("nothing was asked for {QUIET:?}"),
    };
    Complaint::new("timeout", message)
}

/// From the first byte of a line to its end.
const HALF_LINE: Duration = Duration::from_secs(10);
/// How long a client may ask for nothing.
const QUIET: Duration = Duration::from_secs(300);
/// How long a client may leave a line unread that has no room.
const UNREAD: Duration = Duration::from_secs(5);
const UNREAD_AT_THE_END: Duration = Duration::from_millis(200);
/// Between the requests of a client that does not wait for its answers.
const PACE: Duration = Duration::from_millis(1);
