//! The control socket, from the start of a generation to its end.

use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::answer::Complaint;
use super::clients::Clients;
use super::connection::{Connection, State};
use super::options::Control;
use crate::error::Error;
use crate::lifecycle::own;
use crate::lifecycle::token::Token;
use crate::net::backoff::{Concern, concern};
use crate::net::gate::Gate;
use crate::run::{Client, Integration, Shared};
use crate::socket::{Io, Kind, Socket};
use crate::sys::log;
use crate::sys::watch::watch;

/// The integration.
#[derive(Debug)]
pub(super) struct Server {
    options: Control,
    host: OnceLock<Arc<Host>>,
}

/// What the clients of one generation have in common.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) shared: Arc<Shared>,
    options: Control,
    /// The key of the endpoint.
    pub(super) key: String,
    pub(super) clients: Arc<Clients>,
    /// Reached when the end of this generation is recorded, and answers have to be given.
    pub(super) ended: Token,
    tasks: TaskTracker,
    /// The clients of a generation that has ended: the end of their connection is that of the
    /// process.
    kept: Mutex<Vec<UnixStream>>,
    /// How many more can be told at once why they are not served.
    turned_away: Arc<Semaphore>,
}

impl Server {
    pub(super) fn new(options: Control) -> Self {
        Self {
            options,
            host: OnceLock::new(),
        }
    }
}

impl Integration for Server {
    fn start(self: Arc<Self>, shared: Arc<Shared>) -> BoxFuture<'static, Result<(), Error>> {
        async move {
            let endpoint = self.options.endpoint.clone()?;
            if endpoint.kind().is_some_and(|kind| kind != Kind::Unix) {
                let expected = "expected a Unix socket, such as `unix:/run/app.sock`";
                return Err(Error::io(
                    format!("the control socket cannot be `{endpoint}`"),
                    io::Error::new(io::ErrorKind::InvalidInput, expected),
                ));
            }
            let (claimed, gate) = shared.open_lasting(&endpoint).await?;
            let host = Arc::new(Host::new(
                Arc::clone(&shared),
                self.options.clone(),
                claimed.key.to_string(),
            ));
            for socket in claimed.sockets {
                if let Err(error) = socket.mark(MARK) {
                    log::debug!(%endpoint, %error, "a command has to be told of this socket");
                }
                let socket = watch(socket, Interest::READABLE).map_err(|error| {
                    Error::io(format!("could not watch endpoint `{endpoint}`"), error)
                })?;
                host.spawn(Arc::clone(&host).accept(socket, Arc::clone(&gate)));
            }
            // It is started once.
            self.host.set(host).ok();
            Ok(())
        }
        .boxed()
    }

    fn take_client(&self, client: Client) -> Option<Client> {
        let Some(host) = self.host.get() else {
            return Some(client);
        };
        let state = State::of(&client.state);
        let stream = StdUnixStream::from(client.socket);
        let stream = stream
            .set_nonblocking(true)
            .and_then(|()| UnixStream::from_std(stream));
        match stream {
            Ok(stream) => host.serve(stream, state),
            Err(error) => log::debug!(%error, "a client cannot be served"),
        }
        None
    }

    fn finish(&self) -> BoxFuture<'_, ()> {
        async move {
            if let Some(host) = self.host.get() {
                host.ended.cancel();
                host.tasks.close();
                host.tasks.wait().await;
            }
        }
        .boxed()
    }
}

impl Host {
    pub(super) fn new(shared: Arc<Shared>, options: Control, key: String) -> Self {
        Self {
            shared,
            options,
            key,
            clients: Arc::default(),
            ended: Token::new(),
            tasks: TaskTracker::new(),
            kept: Mutex::default(),
            turned_away: Arc::new(Semaphore::new(MOST_TURNED_AWAY)),
        }
    }

    /// Spawns something that ends with this generation at the latest.
    pub(super) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let host = Arc::clone(self);
        own::spawn(async move {
            tokio::select! {
                biased;
                () = task => {}
                () = host.ended.cancelled() => {}
            }
        });
    }

    /// Serves a client, or another generation, until it goes. What ends here with this generation
    /// is the client's own answer.
    fn serve(self: &Arc<Self>, stream: UnixStream, state: State) {
        let place = match state.is_link() {
            true => None,
            false => match self.clients.enter() {
                Some(place) => Some(place),
                None => return self.turn_away(stream, &too_many()),
            },
        };
        let connection = Connection::new(Arc::clone(self), stream, place);
        self.tasks.spawn(connection.serve(state));
    }

    /// Keeps a connection open until the process has ended.
    pub(super) fn keep(&self, stream: UnixStream) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(stream);
    }

    /// Lets go of those that are kept.
    #[cfg(any(test, fuzzing))]
    pub(super) fn let_go(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
    }

    async fn accept(self: Arc<Self>, socket: AsyncFd<Arc<Socket>>, gate: Arc<Gate>) {
        let mut pace = Pace::new();
        while gate.passable().await {
            let accepted = tokio::select! {
                biased;
                () = gate.impassable() => continue,
                accepted = accept(&socket) => accepted,
            };
            match accepted {
                Ok(stream) => self.admit(stream),
                Err(error) if concern(&error) == Concern::Connection => {}
                Err(error) => {
                    log::warn!(%error, "the control socket does not accept");
                    tokio::time::sleep(BACKOFF).await;
                }
            }
            pace.keep().await;
        }
    }

    /// Serves whoever may speak to this service.
    fn admit(self: &Arc<Self>, stream: UnixStream) {
        let complaint = match stream.peer_cred() {
            Ok(peer) if self.options.admits(peer.uid()) => {
                return self.serve(stream, State::default());
            }
            Ok(peer) => {
                log::warn!(user = peer.uid(), pid = ?peer.pid(), "the control socket refuses a user");
                format!("user {} may not speak to this service", peer.uid())
            }
            Err(error) => format!("nobody knows who you are: {error}"),
        };
        self.turn_away(stream, &Complaint::new("forbidden", complaint));
    }

    /// Tells somebody why, unless so many are being told that it would cost the others.
    fn turn_away(self: &Arc<Self>, stream: UnixStream, complaint: &Complaint) {
        let Ok(permit) = Arc::clone(&self.turned_away).try_acquire_owned() else {
            return;
        };
        let line = complaint.line(None);
        self.spawn(async move {
            part(stream, &line).await;
            drop(permit);
        });
    }
}

/// Keeps a flood of connections from taking the time of the service: so many at once, and then no
/// more than one a millisecond.
#[derive(Debug)]
struct Pace {
    since: Instant,
    count: u32,
}

impl Pace {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            count: 0,
        }
    }

    async fn keep(&mut self) {
        self.count += 1;
        if self.count < BURST {
            return;
        }
        tokio::time::sleep_until(self.since + BURST_LENGTH).await;
        *self = Self::new();
    }
}

async fn accept(socket: &AsyncFd<Arc<Socket>>) -> io::Result<UnixStream> {
    let stream = socket
        .async_io(Interest::READABLE, |socket| match socket.io() {
            Io::Unix(listener) => listener.accept(),
            _ => Err(io::ErrorKind::Unsupported.into()),
        })
        .await?
        .0;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Says the last line, and takes what still comes for a moment: a close with something unread would
/// be a reset, and the line might be lost.
pub(super) async fn part(mut stream: UnixStream, line: &[u8]) {
    let parting = async {
        stream.write_all(line).await?;
        stream.shutdown().await?;
        let mut rest = stream.take(MOST_UNREAD);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    if !matches!(tokio::time::timeout(PATIENCE, parting).await, Ok(Ok(_))) {
        log::debug!("a client of the control socket went away unheard");
    }
}

fn too_many() -> Complaint {
    let message = format!("{} clients wait for their answers", super::clients::MOST);
    Complaint::new("busy", message)
}

/// What stands in the lock beside a control socket.
const MARK: &str = "handover control 1\n";
/// So many connections are accepted at once.
const BURST: u32 = 32;
const BURST_LENGTH: Duration = Duration::from_millis(32);
/// How long nothing is accepted after a failure.
const BACKOFF: Duration = Duration::from_millis(100);
/// How many are told at once why they are not served.
const MOST_TURNED_AWAY: usize = 16;
/// How much of what somebody says is taken who is not served, in bytes.
const MOST_UNREAD: u64 = 1 << 20;
/// How long somebody is waited for who goes.
const PATIENCE: Duration = Duration::from_millis(500);
