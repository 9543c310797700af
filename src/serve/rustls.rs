//! TLS in front of any server, with tokio-rustls.
//!
//! [`TlsListener`] wraps a [`Listener`]. What it yields, [`TlsConn`], counts in the drain as the
//! [`Conn`](crate::Conn) below does.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use tokio::{task::JoinSet, time::timeout};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use crate::net::{conn::Conn, listener::Listener, peer::Peer};

mod below;
mod tls_conn;

use self::below::Below;
pub use self::tls_conn::TlsConn;

/// A listener whose connections speak TLS.
///
/// It has the doors that a [`Listener`] has, and can be given to whatever takes one:
///
/// - `handover::axum::serve` and its neighbours, which drain what it yields without losing a request;
/// - [`accept`](Self::accept), and [`Stream`], which tonic takes;
/// - `axum::serve::Listener` (feature `axum`) and [`tokio_util::net::Listener`].
///
/// # Handshakes
///
/// Each runs in a task of its own, under a [time limit](Self::handshake_timeout), and so many [at a
/// time](Self::max_handshakes): a client that does not go on with its own holds up nobody else. One that fails is
/// logged (DEBUG). When this generation accepts no more, those that have begun come out yet; at the deadline of the
/// drain they end with everything else.
///
/// # The drain
///
/// A TLS connection cannot be moved to the successor once it has begun: its keys are in this process. It stays open;
/// its next response says `Connection: close`. One that stays quiet until shortly before the deadline is looked at a
/// last time and closed with `close_notify`. A request that is on its way at that moment is lost: keep the time for
/// which clients hold idle connections below the [drain timeout](crate::Builder::drain_timeout), and there is none.
///
/// # Crypto, protocols
///
/// The [`ServerConfig`] is the program's, with all that goes with it: the crypto provider (this crate turns none on:
/// choose `ring` or `aws_lc_rs` among the features of `rustls`), certificates, and `alpn_protocols`, which is to be
/// `h2` and `http/1.1` where HTTP/2 is to be spoken.
///
/// # Examples
///
/// ```no_run
/// use std::sync::Arc;
///
/// use handover::{BoxError, Context, rustls::TlsListener};
/// use tokio_rustls::rustls::ServerConfig;
///
/// async fn serve(cx: Context, mut config: ServerConfig) -> Result<(), BoxError> {
///     config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
///     let mut listener = TlsListener::new(cx.bind("0.0.0.0:443").await?, Arc::new(config));
///     cx.ready().await?;
///     // Or `handover::axum::serve(listener, app)`.
///     while let Some(conn) = listener.accept().await? {
///         tokio::spawn(async move { drop(conn) });
///     }
///     Ok(())
/// }
/// ```
#[must_use = "a listener does nothing unless it is accepted from"]
pub struct TlsListener {
    listener: Listener,
    acceptor: TlsAcceptor,
    handshake_timeout: Duration,
    max_handshakes: usize,
    handshakes: JoinSet<Option<TlsConn>>,
    /// Whether the inner listener has ended.
    ended: bool,
}

impl TlsListener {
    /// Wraps a listener.
    pub fn new(listener: Listener, config: Arc<ServerConfig>) -> Self {
        Self {
            listener,
            acceptor: TlsAcceptor::from(config),
            handshake_timeout: Duration::from_secs(10),
            max_handshakes: 1024,
            handshakes: JoinSet::new(),
            ended: false,
        }
    }

    /// Sets the longest time that a handshake may take, from the accept on; 10 s by default.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = limit;
        self
    }

    /// Sets how many handshakes may run at a time; 1024 by default.
    ///
    /// At the limit further connections wait in the kernel's queue (`listen(2)`).
    pub fn max_handshakes(mut self, limit: usize) -> Self {
        self.max_handshakes = limit.max(1);
        self
    }

    /// Accepts a connection whose handshake is complete; `None` when this generation accepts no more.
    ///
    /// # Errors
    ///
    /// As for [`Listener::accept`].
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: no connection is lost if the future is dropped.
    pub async fn accept(&mut self) -> io::Result<Option<TlsConn>> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// [`accept`](Self::accept) for those who poll.
    ///
    /// # Errors
    ///
    /// As for [`accept`](Self::accept).
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<TlsConn>>> {
        loop {
            match self.handshakes.poll_join_next(cx) {
                Poll::Ready(Some(Ok(Some(conn)))) => return Poll::Ready(Ok(Some(conn))),
                // It has said why.
                Poll::Ready(Some(_)) => continue,
                Poll::Ready(None) if self.ended => return Poll::Ready(Ok(None)),
                Poll::Ready(None) | Poll::Pending => {}
            }
            if self.ended || self.handshakes.len() >= self.max_handshakes {
                return Poll::Pending;
            }
            match ready!(self.listener.poll_accept(cx))? {
                Some(conn) => self.begin(conn),
                None => self.ended = true,
            }
        }
    }

    /// Returns the listener below.
    #[must_use]
    pub fn get_ref(&self) -> &Listener {
        &self.listener
    }

    /// Returns the address and port that the first socket is bound to; see [`Listener::local_addr`].
    ///
    /// # Errors
    ///
    /// As for [`Listener::local_addr`].
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn begin(&mut self, conn: Conn) {
        let peer = conn.peer().clone();
        let limit = self.handshake_timeout;
        let handshake = timeout(limit, self.acceptor.accept(Below::new(conn)));
        self.handshakes.spawn(async move {
            match handshake.await {
                Ok(Ok(stream)) => return Some(TlsConn::new(stream)),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                Err(_) => {
                    tracing::debug!(%peer, ?limit, "a TLS handshake was not complete in time");
                }
            }
            None
        });
    }

    /// See [`Listener::poll_endless`].
    fn poll_endless(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TlsConn, Peer)>> {
        match ready!(self.poll_accept(cx))? {
            Some(conn) => {
                let peer = conn.peer().clone();
                Poll::Ready(Ok((conn, peer)))
            }
            None => {
                // It has ended, and takes note that somebody waits all the same.
                let rest = self.listener.poll_endless(cx);
                debug_assert!(rest.is_pending(), "an ended listener has accepted");
                Poll::Pending
            }
        }
    }
}

impl fmt::Debug for TlsListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsListener")
            .field("listener", &self.listener)
            .field("handshakes", &self.handshakes.len())
            .finish_non_exhaustive()
    }
}

impl Stream for TlsListener {
    type Item = io::Result<TlsConn>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_accept(cx).map(Result::transpose)
    }
}

impl tokio_util::net::Listener for TlsListener {
    type Io = TlsConn;
    type Addr = Peer;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TlsConn, Peer)>> {
        self.poll_endless(cx)
    }

    fn local_addr(&self) -> io::Result<Peer> {
        self.listener.local_peer()
    }
}

#[cfg(feature = "axum")]
impl ::axum::serve::Listener for TlsListener {
    type Io = TlsConn;
    type Addr = Peer;

    async fn accept(&mut self) -> (TlsConn, Peer) {
        loop {
            match std::future::poll_fn(|cx| self.poll_endless(cx)).await {
                Ok(accepted) => return accepted,
                // axum leaves errors to the listener.
                Err(error) => self.listener.back_off(&error),
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        self.listener.local_peer()
    }
}

/// For `ConnectInfo<handover::Peer>`, with `axum::serve`.
#[cfg(feature = "axum")]
impl ::axum::extract::connect_info::Connected<::axum::serve::IncomingStream<'_, TlsListener>>
    for Peer
{
    fn connect_info(stream: ::axum::serve::IncomingStream<'_, TlsListener>) -> Self {
        stream.remote_addr().clone()
    }
}
