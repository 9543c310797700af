//! tonic, alone or together with axum on one port, served and drained without loss.
//!
//! [`serve`] takes the place of tonic's `Server`. That one can be given a [`Listener`](crate::Listener), too: its
//! connections implement [`Connected`].

use std::{convert::Infallible, future::IntoFuture, io, net::SocketAddr};

use ::axum::{Router, body::Body, extract::ConnectInfo};
use ::tonic::{
    service::Routes,
    transport::server::{Connected, TcpConnectInfo},
};
use http::Request;
use hyper::{body::Incoming, service::Service as _};
use hyper_util::service::{TowerToHyperService, TowerToHyperServiceFuture};

use super::{
    accept::Accept,
    activity::Exchange,
    body::request_body,
    builder::{Serve, ServeFuture},
    connect::{Accepted, Connect},
    farewell::{Farewell, FarewellBody, FarewellFuture, is_grpc},
    service::Application,
};
use crate::{
    lifecycle::token::Token,
    net::{conn::Conn, peer::Peer},
};

#[cfg(feature = "tonic-health")]
#[cfg_attr(docsrs, doc(cfg(feature = "tonic-health")))]
pub use super::health::{Health, HealthService};

/// Serves gRPC services on `listener`, and drains them without losing a call.
///
/// It takes tonic's [`Routes`], and an [`axum::Router`](Router), from which routes can be made as well: so one port
/// serves both, whatever the client speaks (see below). Handlers find tonic's `remote_addr` and `local_addr` in the
/// requests of gRPC, and axum's `ConnectInfo<SocketAddr>` and `ConnectInfo<Peer>` in the others.
///
/// # The drain
///
/// Clients are told with a GOAWAY that refuses nothing, then with one that names the last stream; they open their
/// next call on a new connection, at the successor. What is open goes on:
///
/// | call | until shortly before the deadline | then |
/// |---|---|---|
/// | unary, client streaming | is answered | `UNAVAILABLE` |
/// | server streaming, bidirectional | goes on; its handler may end it, see [`Context::draining`] | what was sent has arrived; `UNAVAILABLE` |
///
/// So a call ends with a status that clients know how to take, and not with a broken connection, unless its client does
/// not read. Requests that are not gRPC fare as with [`axum::serve`](crate::axum::serve).
///
/// [`Context::draining`]: crate::Context::draining
///
/// # Examples
///
/// ```no_run
/// use handover::Context;
/// use tonic::service::Routes;
/// # use tonic_health::server::health_reporter;
///
/// #[handover::main]
/// async fn main(cx: Context) -> Result<(), Box<dyn std::error::Error>> {
///     let listener = cx.bind("0.0.0.0:50051").await?;
/// #   let (_, greeter) = health_reporter();
///     let routes = Routes::new(greeter);
///     cx.ready().await?;
///     handover::tonic::serve(listener, routes).await?;
///     Ok(())
/// }
/// ```
///
/// Together with axum on one port:
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use tonic::service::Routes;
/// # use tonic_health::server::health_reporter;
///
/// # async fn example(listener: handover::Listener) -> std::io::Result<()> {
/// # let (_, greeter) = health_reporter();
/// let app = Router::new().route("/", get(|| async { "hello" }));
/// let routes = Routes::from(app).add_service(greeter);
/// handover::tonic::serve(listener, routes).await
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
/// A dropped server accepts no more; nothing that it has accepted is lost.
pub fn serve<L: Accept>(listener: L, routes: impl Into<Routes>) -> Serve<App, L> {
    let closing = listener.listener().closing();
    // As `Routes::prepare` does: done once, and not for each connection.
    let router = routes.into().prepare().into_axum_router();
    Serve::new(listener, App { router, closing })
}

/// What a [`Serve`] of tonic serves.
#[derive(Debug)]
pub struct App {
    router: Router,
    closing: Token,
}

impl<L: Accept> IntoFuture for Serve<App, L> {
    type Output = io::Result<()>;
    type IntoFuture = ServeFuture;

    fn into_future(self) -> ServeFuture {
        self.start()
    }
}

impl Connect for App {
    type Service = Adapted;

    async fn connect(&mut self, accepted: Accepted<'_>) -> Adapted {
        let conn = accepted.conn;
        Adapted {
            router: TowerToHyperService::new(self.router.clone()),
            peer: conn.peer().clone(),
            addresses: conn.connect_info(),
            // Of its own: the streams of all connections would contend for the one.
            farewell: Farewell::new(self.closing.child()),
        }
    }
}

/// The service of one connection.
#[derive(Debug)]
pub(crate) struct Adapted {
    router: TowerToHyperService<Router>,
    peer: Peer,
    addresses: TcpConnectInfo,
    farewell: Farewell,
}

impl Application for Adapted {
    type Body = FarewellBody<Body>;
    type Error = Infallible;
    type Future = FarewellFuture<TowerToHyperServiceFuture<Router, Request<Body>>>;

    fn call(&self, request: Request<Incoming>, exchange: &Exchange) -> Self::Future {
        let mut request = request.map(|body| request_body(exchange, body));
        let grpc = is_grpc(request.headers());
        let extensions = request.extensions_mut();
        if grpc {
            extensions.insert(self.addresses.clone());
        } else {
            if let Some(address) = self.peer.socket_addr() {
                extensions.insert(ConnectInfo::<SocketAddr>(address));
            }
            extensions.insert(ConnectInfo::<Peer>(self.peer.clone()));
        }
        let farewell = grpc.then(|| self.farewell.clone());
        FarewellFuture::new(self.router.call(request), farewell)
    }
}

/// The addresses as tonic's own listener tells them, so that `Request::remote_addr` and
/// `Request::local_addr` have them; a Unix socket has none.
impl Connected for Conn {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo {
            local_addr: self.local_addr(),
            remote_addr: self.peer().socket_addr(),
        }
    }
}
