//! axum, served and drained without loss.
//!
//! [`serve`] is what `axum::serve` is, for a [`Listener`] of this crate.
//!
//! [`Listener`]: crate::Listener

#[cfg(feature = "axum-ws")]
use std::sync::Arc;
use std::{
    convert::Infallible,
    future::{Future, IntoFuture, poll_fn},
    io,
    net::{Ipv4Addr, SocketAddr},
};

use ::axum::{
    Router,
    body::Body,
    extract::{Request, connect_info::Connected},
    handler::{Handler, HandlerService},
    response::Response,
    routing::MethodRouter,
    serve::IncomingStream as AxumStream,
};
#[cfg(feature = "axum-ws")]
use hyper::upgrade::OnUpgrade;
use hyper::{body::Incoming, service::Service as _};
use hyper_util::service::{TowerToHyperService, TowerToHyperServiceFuture};
use tower_service::Service;

use super::{
    accept::Accept,
    activity::Exchange,
    body::request_body,
    builder::{Serve, ServeFuture},
    connect::{Accepted, Connect},
    service::Application,
};
#[cfg(feature = "axum-ws")]
use crate::lifecycle::tokens::Tokens;
use crate::net::{conn::Conn, listener::Listener, peer::Peer};

#[cfg(feature = "axum-ws")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum-ws")))]
pub mod ws;

/// Serves an application of axum on `listener`, and drains it without losing a request.
///
/// It takes what `axum::serve` takes: a [`Router`], a [`MethodRouter`], a handler, and what
/// `into_make_service` and `into_make_service_with_connect_info` make of them. It speaks the same protocols, too:
/// HTTP/1.1 and HTTP/1.0, HTTP/2 with prior knowledge, and WebSockets over both.
///
/// When awaited it serves until this generation has drained: until the listener has ended, and every connection that
/// it has accepted has ended, upgraded ones included, or the drain was aborted. It can be awaited together with other
/// servers; dropping it stops the accepting, while the connections go on and drain.
///
/// # The drain
///
/// | connection | from the start of the drain |
/// |---|---|
/// | HTTP/1.1, silent or idle | moves to the successor, with what was read of its next request |
/// | HTTP/1.1, in a request or a response | is completed, and moves then |
/// | the same, where nobody takes it | stays open; a response whose head has not gone out announces the end |
/// | HTTP/2 | is told with a GOAWAY that refuses nothing, then with one that names the last stream; streams finish |
/// | HTTP/2, begun in the drain | the same after its first request |
/// | upgraded (WebSocket, CONNECT) | is the application's: see [`Context::draining`](crate::Context::draining); with the feature `axum-ws` a WebSocket says goodbye by itself |
///
/// An end is announced with `Connection: close` (RFC 9112, section 9.6). After that response the connection closes
/// slowly: it is shut on this side, and read and discarded until the client closes it as well, is silent for 1 s, or
/// has taken 5 s or sent 16 MiB. Otherwise what the client had sent meanwhile would destroy the response. Requests
/// that it had pipelined behind it are not answered; it knows that from the announcement.
///
/// Shortly before the deadline the silent and idle connections of HTTP/1.1 get a last look. One whose request has
/// arrived, be it only the first byte, is served; the others are closed. What is left at the deadline is cut.
///
/// A request head, and the preface of HTTP/2, have [a limit](Serve::header_timeout) on the time that they may
/// take, in the drain as before it. A connection that says nothing has none: it still may.
///
/// # Examples
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use handover::Context;
///
/// #[handover::main]
/// async fn main(cx: Context) -> Result<(), Box<dyn std::error::Error>> {
///     let listener = cx.bind("0.0.0.0:8080").await?;
///     let app = Router::new().route("/", get(|| async { "hello" }));
///     cx.ready().await?;
///     handover::axum::serve(listener, app).await?;
///     Ok(())
/// }
/// ```
///
/// With the address of the client:
///
/// ```no_run
/// use std::net::SocketAddr;
///
/// use axum::{Router, extract::ConnectInfo, routing::get};
///
/// # async fn example(listener: handover::Listener) -> std::io::Result<()> {
/// let app = Router::new().route(
///     "/",
///     get(|ConnectInfo(client): ConnectInfo<SocketAddr>| async move { client.to_string() }),
/// );
/// let app = app.into_make_service_with_connect_info::<SocketAddr>();
/// handover::axum::serve(listener, app).await
/// # }
/// ```
///
/// # Errors
///
/// Awaiting it gives an error of the listener; see [`Listener::accept`](crate::Listener::accept). An error of one
/// connection concerns nobody else and is logged (DEBUG), as is a panic of a handler (ERROR).
///
/// # Cancel safety
///
/// See above: a dropped server accepts no more; nothing that it has accepted is lost.
pub fn serve<L: Accept, M: MakeService>(listener: L, app: M) -> Serve<App<M>, L> {
    let app = App {
        app,
        #[cfg(feature = "axum-ws")]
        tokens: Arc::new(listener.listener().tokens().clone()),
    };
    Serve::new(listener, app)
}

/// What a [`Serve`] of axum serves.
#[derive(Debug)]
pub struct App<M> {
    app: M,
    #[cfg(feature = "axum-ws")]
    tokens: Arc<Tokens>,
}

impl<M: MakeService, L: Accept> IntoFuture for Serve<App<M>, L> {
    type Output = io::Result<()>;
    type IntoFuture = ServeFuture;

    fn into_future(self) -> ServeFuture {
        self.start()
    }
}

impl<M: MakeService> Connect for App<M> {
    type Service = Adapted<M::Service>;

    async fn connect(&mut self, accepted: Accepted<'_>) -> Self::Service {
        let service = self.app.make(IncomingStream { accepted }).await;
        Adapted {
            service: TowerToHyperService::new(service),
            #[cfg(feature = "axum-ws")]
            tokens: Arc::clone(&self.tokens),
        }
    }
}

/// What [`serve`] takes: it makes the service of each connection.
///
/// There is no need to implement this. The applications of axum do, and so does every [`tower`] service that takes an
/// [`IncomingStream`] and makes a service of it.
///
/// [`tower`]: tower_service
pub trait MakeService: Send + 'static {
    /// The service of one connection.
    type Service: Service<Request, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static;

    /// Makes the service of the connection `stream`.
    fn make(&mut self, stream: IncomingStream<'_>) -> impl Future<Output = Self::Service> + Send;
}

impl MakeService for Router {
    type Service = Self;

    async fn make(&mut self, _: IncomingStream<'_>) -> Self {
        self.clone()
    }
}

impl MakeService for MethodRouter {
    type Service = Self;

    async fn make(&mut self, _: IncomingStream<'_>) -> Self {
        self.clone()
    }
}

impl<H, T, S> MakeService for HandlerService<H, T, S>
where
    H: Handler<T, S>,
    T: 'static,
    S: Clone + Send + Sync + 'static,
{
    type Service = Self;

    async fn make(&mut self, _: IncomingStream<'_>) -> Self {
        self.clone()
    }
}

impl<M, S> MakeService for M
where
    M: for<'a> Service<IncomingStream<'a>, Response = S, Error = Infallible> + Send + 'static,
    for<'a> <M as Service<IncomingStream<'a>>>::Future: Send,
    S: Service<Request, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
{
    type Service = S;

    async fn make(&mut self, stream: IncomingStream<'_>) -> S {
        let Ok(()) = poll_fn(|cx| self.poll_ready(cx)).await;
        let Ok(service) = self.call(stream).await;
        service
    }
}

/// A connection that was accepted and is not served yet: what `ConnectInfo` is made from.
///
/// A type of one's own can be made from it by implementing [`Connected`] for it, as with axum's type of this name.
#[derive(Debug)]
pub struct IncomingStream<'a> {
    accepted: Accepted<'a>,
}

impl IncomingStream<'_> {
    /// Returns the connection.
    #[must_use]
    pub fn io(&self) -> &Conn {
        self.accepted.conn
    }

    /// Returns the address of the other end.
    #[must_use]
    pub fn remote_addr(&self) -> &Peer {
        self.accepted.conn.peer()
    }

    /// Returns the TLS session, whose handshake is complete: protocol, server name, certificates of the client. `None`
    /// for a connection without TLS.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use axum::{
    ///     Router,
    ///     extract::{ConnectInfo, connect_info::Connected},
    ///     routing::get,
    /// };
    /// use handover::{axum::IncomingStream, rustls::TlsListener};
    ///
    /// #[derive(Clone)]
    /// struct ServerName(Option<String>);
    ///
    /// impl Connected<IncomingStream<'_>> for ServerName {
    ///     fn connect_info(stream: IncomingStream<'_>) -> Self {
    ///         let name = stream.tls().and_then(|session| session.server_name());
    ///         Self(name.map(str::to_owned))
    ///     }
    /// }
    ///
    /// # async fn example(listener: TlsListener) -> std::io::Result<()> {
    /// let app = Router::new().route(
    ///     "/",
    ///     get(|ConnectInfo(ServerName(name))| async move { name.unwrap_or_default() }),
    /// );
    /// let app = app.into_make_service_with_connect_info::<ServerName>();
    /// handover::axum::serve(listener, app).await
    /// # }
    /// ```
    #[cfg(feature = "rustls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "rustls")))]
    #[must_use]
    pub fn tls(&self) -> Option<&tokio_rustls::rustls::ServerConnection> {
        self.accepted.tls
    }
}

/// For `ConnectInfo<handover::Peer>`, with [`serve`].
impl Connected<IncomingStream<'_>> for Peer {
    fn connect_info(stream: IncomingStream<'_>) -> Self {
        stream.remote_addr().clone()
    }
}

/// For `ConnectInfo<SocketAddr>`, with [`serve`]; `0.0.0.0:0` for a client that has connected to a Unix socket.
impl Connected<IncomingStream<'_>> for SocketAddr {
    fn connect_info(stream: IncomingStream<'_>) -> Self {
        match *stream.remote_addr() {
            Peer::Tcp(address) => address,
            _ => Self::from((Ipv4Addr::UNSPECIFIED, 0)),
        }
    }
}

/// For `ConnectInfo<handover::Peer>`, with `axum::serve`.
impl Connected<AxumStream<'_, Listener>> for Peer {
    fn connect_info(stream: AxumStream<'_, Listener>) -> Self {
        stream.remote_addr().clone()
    }
}

/// A service of axum as one of hyper.
#[derive(Debug)]
pub(crate) struct Adapted<S> {
    service: TowerToHyperService<S>,
    /// For what may become a WebSocket.
    #[cfg(feature = "axum-ws")]
    tokens: Arc<Tokens>,
}

impl<S> Application for Adapted<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
{
    type Body = Body;
    type Error = Infallible;
    type Future = TowerToHyperServiceFuture<S, Request>;

    fn call(&self, request: hyper::Request<Incoming>, exchange: &Exchange) -> Self::Future {
        #[cfg_attr(not(feature = "axum-ws"), expect(unused_mut, reason = "no extension"))]
        let mut request = request.map(|body| request_body(exchange, body));
        #[cfg(feature = "axum-ws")]
        if request.extensions().get::<OnUpgrade>().is_some() {
            request.extensions_mut().insert(Tokens::clone(&self.tokens));
        }
        self.service.call(request)
    }
}
