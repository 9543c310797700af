//! axum, served and drained without loss.
//!
//! [`serve`] is `axum::serve` for a [`Listener`] of this crate: the same applications, the same protocols (HTTP/1.1,
//! HTTP/1.0, HTTP/2 with prior knowledge, WebSockets), and in addition a drain in which no request is lost.
//!
//! [`Listener`]: crate::Listener

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::{Future, IntoFuture, pending, poll_fn},
    io,
    marker::PhantomData,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use ::axum::{
    Router,
    body::Body,
    extract::{Request, connect_info::Connected},
    handler::{Handler, HandlerService},
    response::Response,
    routing::MethodRouter,
    serve as axum_serve,
};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::TokioTimer,
    service::{TowerToHyperService, TowerToHyperServiceFuture},
};
use tower_service::Service;

use super::{
    body::ExchangeBody, connection::serve_connection, executor::log_panic, server::Server,
};
use crate::net::{Conn, Listener, Peer};

/// Serves an axum application on a listener, and drains it without losing a request.
pub fn serve<M>(listener: Listener, app: M) -> Serve<M>
where
    M: MakeService,
{
    let mut http1 = http1::Builder::new();
    // hyper's own limit on heads also closes idle connections; ours does not (`head_timeout`).
    http1.timer(TokioTimer::new()).header_read_timeout(None);
    Serve {
        listener,
        app,
        http1,
        http1_header_timeout: Duration::from_secs(30),
    }
}

/// A server to be; made by [`serve`], runs when awaited.
#[must_use = "a server does nothing unless awaited"]
pub struct Serve<M> {
    listener: Listener,
    app: M,
    http1: http1::Builder,
    http1_header_timeout: Duration,
}

impl<M: MakeService> Serve<M> {
    /// Sets t
    pub fn http1_header_timeout(mut self, limit: Duration) -> Self {
        self.http1_header_timeout = limit;
        self
    }

    /// hyper
    pub fn http1(mut self, set: impl FnOnce(&mut http1::Builder)) -> Self {
        set(&mut self.http1);
        self
    }

    async fn run(self) -> io::Result<()> {
        let Self {
            mut listener,
            mut app,
            http1,
            http1_header_timeout,
        } = self;
        let server = Arc::new(Server::new(http1, http1_header_timeout));
        let accepting = Accepting(Arc::clone(&server));
        let draining = listener.draining();
        let aborting = listener.aborting();
        tokio::spawn({
            let server = Arc::clone(&server);
            let aborting = aborting.clone();
            async move {
                server
                    .follow(draining.cancelled(), pending(), aborting.cancelled())
                    .await;
            }
        });
        while let Some(conn) = listener.accept().await? {
            let service = app.make(IncomingStream { io: &conn }).await;
            let peer = conn.peer().clone();
            let connection = serve_connection(
                conn,
                App(TowerToHyperService::new(service)),
                Arc::clone(&server),
            );
            tokio::spawn(log_panic("an http connection", async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%peer, error = &error as &dyn Error, "an http connection failed");
                }
            }));
        }
        drop(listener);
        drop(accepting);
        tokio::select! {
            () = server.ended() => {}
            () = aborting.cancelled() => {}
        }
        Ok(())
    }
}

impl<M: MakeService> IntoFuture for Serve<M> {
    type Output = io::Result<()>;
    type IntoFuture = ServeFuture;

    fn into_future(self) -> ServeFuture {
        ServeFuture(Box::pin(self.run()))
    }
}

impl<M> fmt::Debug for Serve<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").finish_non_exhaustive()
    }
}

/// future
#[must_use = "futures do nothing unless polled"]
pub struct ServeFuture(Pin<Box<dyn Future<Output = io::Result<()>> + Send>>);

impl Future for ServeFuture {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ServeFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeFuture").finish_non_exhaustive()
    }
}

/// The accept loop; when it ends, or is dropped, no further connection will come.
struct Accepting(Arc<Server>);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// axum's services as hyper's.
struct App<S>(TowerToHyperService<S>);

impl<S> hyper::service::Service<hyper::Request<ExchangeBody<Incoming>>> for App<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone,
{
    type Response = Response;
    type Error = Infallible;
    type Future = TowerToHyperServiceFuture<S, Request>;

    fn call(&self, request: hyper::Request<ExchangeBody<Incoming>>) -> Self::Future {
        self.0.call(request.map(Body::new))
    }
}

/// app
pub trait MakeService: Send + 'static {
    /// one connection
    type Service: Service<Request, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static;

    /// make
    fn make(&mut self, stream: IncomingStream<'_>) -> impl Future<Output = Self::Service> + Send;
}

/// stream
#[derive(Debug)]
pub struct IncomingStream<'a> {
    io: &'a Conn,
}

impl Connected<IncomingStream<'_>> for Peer {
    fn connect_info(stream: IncomingStream<'_>) -> Self {
        stream.io.peer().clone()
    }
}
impl Connected<IncomingStream<'_>> for SocketAddr {
    fn connect_info(stream: IncomingStream<'_>) -> Self {
        match stream.io.peer() {
            Peer::Tcp(a) => *a,
            _ => (Ipv4Addr::UNSPECIFIED, 0).into(),
        }
    }
}
impl Connected<axum_serve::IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: axum_serve::IncomingStream<'_, Listener>) -> Self {
        stream.remote_addr().clone()
    }
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
