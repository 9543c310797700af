//! The listening side of an endpoint, as a service uses it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream as AsyncStream;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use super::backoff::{Backoff, Concern, concern};
use super::conn::Conn;
use super::door::Door;
use super::gate::State;
use super::peer::Peer;
use super::stream::Stream;
use crate::lifecycle::token::Token;
use crate::lifecycle::tokens::Tokens;
use crate::lifecycle::tracker::{Arrival, Resting};
use crate::protocol::Manner;
use crate::socket::{Endpoint, Io, Socket};
use crate::sys::log;
use crate::sys::watch::watch;

/// The listener of an endpoint: adopted from the predecessor or from systemd, or bound.
///
/// It has all the doors through which servers take connections:
///
/// - [`accept`](Self::accept), which ends with `None` when this generation accepts no more;
/// - [`Stream`](futures::Stream), which ends then, too;
/// - `axum::serve::Listener` (feature `axum`) and [`tokio_util::net::Listener`], which have no word
///   for an end and wait for ever instead: their servers are stopped by their own graceful
///   shutdown, or dropped when nothing is left to drain.
///
/// Nothing comes out before the commit of this generation, whichever door is used: until
/// [`ready`](crate::Context::ready) has resolved, connections wait in the kernel's queue, where the
/// predecessor finds them if this generation fails.
///
/// Connections that the predecessor sends, because they can go on here, come out ahead of new ones.
///
/// Dropping it while this generation serves ends the endpoint: its sockets are closed, and it can be
/// bound anew.
///
/// An error that concerns one connection is skipped. A lack of descriptors or memory makes
/// accepting pause, for 5 ms to 1 s, and is logged once. What else `accept(2)` says is returned.
///
/// It is not `Clone`: several tasks that accept from one endpoint would be served no faster, and
/// an end would have to be told to each.
pub struct Listener {
    // Left to the kernel at the end: out of epoll(7) first, then closed.
    sockets: Vec<AsyncFd<Arc<Socket>>>,
    /// Where the search for the next connection starts, so that no socket starves another.
    next: usize,
    door: Arc<Door>,
    /// Whether somebody has accepted from an open gate.
    attended: bool,
    backoff: Backoff,
    endpoint: Endpoint,
    /// Set once a server waits at the end.
    resting: Option<Resting>,
    tokens: Tokens,
    _last: Last,
}

impl Listener {
    /// Makes a listener of verified sockets. Has to be called on a runtime.
    pub(crate) fn new(
        endpoint: Endpoint,
        sockets: Vec<Arc<Socket>>,
        door: Arc<Door>,
        tokens: Tokens,
    ) -> io::Result<Self> {
        let sockets = sockets
            .into_iter()
            .map(|socket| watch(socket, Interest::READABLE))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            sockets,
            next: 0,
            _last: Last(Arc::clone(&door)),
            door,
            attended: false,
            backoff: Backoff::default(),
            endpoint,
            resting: None,
            tokens,
        })
    }

    /// Accepts a connection; `None` when this generation accepts no more.
    ///
    /// # Errors
    ///
    /// An error of `accept(2)` that concerns the listener itself.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: no connection is lost if the future is dropped.
    pub async fn accept(&mut self) -> io::Result<Option<Conn>> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// [`accept`](Self::accept) for those who poll.
    ///
    /// # Errors
    ///
    /// As for [`accept`](Self::accept).
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Conn>>> {
        loop {
            // Ahead of everything that is looked at, so that a change of it wakes.
            let passable = self.door.gate().poll_passable(cx);
            if let Some(conn) = ready!(self.poll_arrived(cx)) {
                return Poll::Ready(Ok(Some(conn)));
            }
            let state = ready!(passable);
            if state == State::Ended || self.sockets.is_empty() {
                if !self.door.end() {
                    return Poll::Pending;
                }
                self.sockets.clear();
                return Poll::Ready(Ok(None));
            }
            if !self.attended {
                self.attended = true;
                self.door.attend();
            }
            if state == State::Open {
                ready!(self.backoff.poll_over(cx));
            }
            let error = match self.poll_sockets(cx, state) {
                Poll::Ready(Ok(conn)) => {
                    self.backoff.succeeded();
                    return Poll::Ready(Ok(Some(conn)));
                }
                Poll::Ready(Err(error)) => error,
                Poll::Pending if state == State::Emptying => {
                    self.door.gate().set(State::Ended);
                    continue;
                }
                Poll::Pending => {
                    self.backoff.emptied(&self.endpoint);
                    return Poll::Pending;
                }
            };
            let concern = concern(&error);
            self.door.failed(concern);
            match concern {
                Concern::Connection => log::debug!(%error, "a connection went away"),
                // What is queued at the end cannot wait for resources to come back, nor for a
                // server that would try again at once.
                Concern::Resources | Concern::Listener if state == State::Emptying => {
                    log::warn!(endpoint = %self.endpoint, %error, "what is queued is given up");
                    self.door.gate().set(State::Ended);
                }
                Concern::Resources => self.backoff.start(&self.endpoint, &error),
                Concern::Listener => return Poll::Ready(Err(error)),
            }
        }
    }

    /// The address and port that the first socket is bound to, with the port that the kernel
    /// picked.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) for a Unix socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self.sockets.first().map(|socket| socket.get_ref().io()) {
            Some(Io::Tcp(listener)) => listener.local_addr(),
            Some(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("endpoint `{}` has no IP address", self.endpoint),
            )),
            None => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                format!("the listener of endpoint `{}` has ended", self.endpoint),
            )),
        }
    }

    /// The addresses and ports of all its sockets; empty for a Unix socket.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.sockets
            .iter()
            .filter_map(|socket| match socket.get_ref().io() {
                Io::Tcp(listener) => listener.local_addr().ok(),
                _ => None,
            })
            .collect()
    }

    /// The endpoint, as it was asked for.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The start of this generation's drain; see [`Context::draining`](crate::Context::draining).
    #[must_use]
    pub fn draining(&self) -> Token {
        self.tokens.draining.clone()
    }

    /// The end of this generation's drain; see [`Context::aborting`](crate::Context::aborting).
    #[must_use]
    pub fn aborting(&self) -> Token {
        self.tokens.aborting.clone()
    }

    /// Pauses after an error, for a server that leaves errors to its listener.
    #[cfg(feature = "axum")]
    pub(crate) fn back_off(&mut self, error: &io::Error) {
        self.backoff.start(&self.endpoint, error);
    }

    #[cfg(feature = "axum-ws")]
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The moment shortly before the deadline of the drain.
    #[cfg(feature = "hyper")]
    pub(crate) fn closing(&self) -> Token {
        self.tokens.closing.clone()
    }

    /// Asks for connections that the predecessor [hands over](Conn::hand_over) in the middle of
    /// their protocol: they come out of this listener, ahead of new ones, and
    /// [`Conn::resumed`] tells them by their state.
    ///
    /// A service that does not ask gets none: one that greets would greet twice.
    #[must_use]
    pub fn resuming(self) -> Self {
        self.door.consent(Manner::Resumed);
        self
    }

    /// The moment from which the successor takes connections of this endpoint that are handed over;
    /// see [`Conn::migrating`].
    #[must_use]
    pub fn migrating(&self) -> Token {
        self.door.migrating()
    }

    /// Sends small segments at once, unless the endpoint says something about that: what is accepted
    /// inherits it.
    #[cfg(feature = "hyper")]
    pub(crate) fn no_delay_by_default(&self) {
        if self.endpoint.options().no_delay.is_some() {
            return;
        }
        for socket in self.sockets.iter().map(AsyncFd::get_ref) {
            if let Io::Tcp(listener) = socket.io() {
                if let Err(error) = socket2::SockRef::from(listener).set_tcp_nodelay(true) {
                    log::debug!(endpoint = %self.endpoint, %error, "small segments are delayed");
                }
            }
        }
    }

    /// Goes on with connections of HTTP/1.1, which come between two of their requests.
    #[cfg(feature = "hyper")]
    pub(crate) fn serves_http1(&self) {
        self.door.consent(Manner::Http1);
    }

    /// Whether the successor goes on with connections of HTTP/1.1.
    #[cfg(feature = "hyper")]
    pub(crate) fn http1_prospect(&self) -> super::door::Prospect {
        self.door.prospect(Manner::Http1)
    }

    /// The next connection that has come from the predecessor.
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Poll<Option<Conn>> {
        if !self.door.has_arrivals() {
            return Poll::Ready(None);
        }
        // Thousands may come at once, and nothing else here gives way to other tasks.
        let budget = ready!(tokio::task::coop::poll_proceed(cx));
        budget.made_progress();
        Poll::Ready(self.door.arrived())
    }

    /// Waits until this generation accepts no more, and leaves what is queued where it is; for a server that
    /// has no room for a connection.
    #[cfg(feature = "hyper")]
    pub(crate) async fn ended(&self) {
        std::future::poll_fn(|cx| match self.door.gate().poll_passable(cx) {
            Poll::Ready(State::Ended) => Poll::Ready(()),
            _ => Poll::Pending,
        })
        .await;
    }

    fn poll_sockets(&mut self, cx: &mut Context<'_>, state: State) -> Poll<io::Result<Conn>> {
        let count = self.sockets.len();
        for index in (self.next..self.next + count).map(|index| index % count) {
            let socket = &self.sockets[index];
            let accepted = match state {
                // Readiness may be held back by Tokio's cooperative budget; the end of the queue
                // is what the kernel says it is.
                State::Emptying => match accept(socket.get_ref()) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                    other => Poll::Ready(other),
                },
                _ => poll_socket(socket, cx),
            };
            if let Poll::Ready(accepted) = accepted {
                self.next = (index + 1) % count;
                return Poll::Ready(accepted.map(|(stream, peer)| {
                    let tracked = self.door.track(&stream, Arrival::Accepted);
                    Conn::new(tracked, stream, peer, Arc::clone(&self.door))
                }));
            }
        }
        Poll::Pending
    }

    /// The next connection, for a server that has no word for the end of its listener: it waits for
    /// ever then. The lifecycle is told, so that it need not wait for whoever waits here.
    pub(crate) fn poll_endless(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Conn, Peer)>> {
        match ready!(self.poll_accept(cx))? {
            Some(conn) => {
                let peer = conn.peer().clone();
                Poll::Ready(Ok((conn, peer)))
            }
            None => {
                let tracker = self.door.lane().tracker();
                self.resting.get_or_insert_with(|| tracker.rest());
                Poll::Pending
            }
        }
    }

    pub(crate) fn local_peer(&self) -> io::Result<Peer> {
        match self.sockets.first().map(|socket| socket.get_ref().io()) {
            Some(Io::Unix(listener)) => listener.local_addr().map(Peer::from),
            _ => self.local_addr().map(Peer::from),
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("endpoint", &self.endpoint)
            .field("gate", &self.door.gate().state())
            .finish_non_exhaustive()
    }
}

impl AsyncStream for Listener {
    type Item = io::Result<Conn>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_accept(cx).map(Result::transpose)
    }
}

impl tokio_util::net::Listener for Listener {
    type Io = Conn;
    type Addr = Peer;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Conn, Peer)>> {
        self.poll_endless(cx)
    }

    fn local_addr(&self) -> io::Result<Peer> {
        self.local_peer()
    }
}

#[cfg(feature = "axum")]
impl axum::serve::Listener for Listener {
    type Io = Conn;
    type Addr = Peer;

    async fn accept(&mut self) -> (Conn, Peer) {
        loop {
            match std::future::poll_fn(|cx| self.poll_endless(cx)).await {
                Ok(accepted) => return accepted,
                // axum leaves errors to the listener.
                Err(error) => self.back_off(&error),
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        self.local_peer()
    }
}

/// What has arrived and was not fetched is this generation's all the same, and goes on to the
/// successor where there is one.
impl Drop for Listener {
    fn drop(&mut self) {
        self.door.abandon().into_iter().for_each(Conn::pass_on);
    }
}

/// Says that a listener is gone; the last of its fields, so that its sockets are gone by then.
struct Last(Arc<Door>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn poll_socket(
    socket: &AsyncFd<Arc<Socket>>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<(Stream, Peer)>> {
    loop {
        let mut ready = ready!(socket.poll_read_ready(cx))?;
        match ready.try_io(|socket| accept(socket.get_ref())) {
            Ok(result) => return Poll::Ready(result),
            Err(_would_block) => {}
        }
    }
}

/// `accept(2)`; what is accepted inherits the options of the listening socket (`tcp(7)`).
fn accept(socket: &Socket) -> io::Result<(Stream, Peer)> {
    match socket.io() {
        Io::Tcp(listener) => {
            let (stream, peer) = listener.accept()?;
            stream.set_nonblocking(true)?;
            Ok((Stream::of_tcp(stream)?, Peer::Tcp(peer)))
        }
        Io::Unix(listener) => {
            let (stream, peer) = listener.accept()?;
            stream.set_nonblocking(true)?;
            Ok((
                Stream::Unix(UnixStream::from_std(stream)?),
                Peer::from(peer),
            ))
        }
        // A listener is made of stream sockets only; the store hands out no others for it.
        _ => Err(io::Error::from(io::ErrorKind::Unsupported)),
    }
}
