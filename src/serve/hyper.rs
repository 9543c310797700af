//! Services of hyper, served and drained without loss.
//!
//! [`serve`] takes the place of the accept loop, the connection builder and the graceful shutdown that a program on
//! hyper writes for itself.

use std::{error::Error, fmt, future::IntoFuture, io};

use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, service::Service};

use super::{
    accept::Accept,
    activity::Exchange,
    builder::{Serve, ServeFuture},
    connect::{Accepted, Connect},
    service::Application,
};
use crate::net::conn::Conn;

/// Serves a service of hyper on `listener`, and drains it without losing a request.
///
/// Each connection gets a clone of `service`; [`serve_with`] makes one that knows its connection. HTTP/1.1, HTTP/1.0
/// and HTTP/2 with prior knowledge are spoken, and `hyper::upgrade::on` works.
///
/// What happens in the drain is what [`axum::serve`] describes, the errors and the end as well.
///
/// [`axum::serve`]: https://docs.rs/handover/latest/handover/axum/fn.serve.html
///
/// # Examples
///
/// ```no_run
/// use std::convert::Infallible;
///
/// use handover::Context;
/// use hyper::{Request, Response, body::Incoming, service::service_fn};
///
/// #[handover::main]
/// async fn main(cx: Context) -> Result<(), Box<dyn std::error::Error>> {
///     let listener = cx.bind("0.0.0.0:8080").await?;
///     let hello = service_fn(async |_: Request<Incoming>| {
///         Ok::<_, Infallible>(Response::new("hello".to_owned()))
///     });
///     cx.ready().await?;
///     handover::hyper::serve(listener, hello).await?;
///     Ok(())
/// }
/// ```
///
/// # Errors
///
/// Awaiting it gives an error of the listener; see [`Listener::accept`](crate::Listener::accept). An error of one
/// connection concerns nobody else and is logged (DEBUG), as is a panic of the service (ERROR).
///
/// # Cancel safety
///
/// A dropped server accepts no more; nothing that it has accepted is lost.
pub fn serve<L: Accept, S: HttpService + Clone>(listener: L, service: S) -> Serve<Cloned<S>, L> {
    Serve::new(listener, Cloned(service))
}

/// Serves each connection with a service that `make` makes for it; otherwise it is [`serve`].
///
/// # Examples
///
/// ```no_run
/// # use std::convert::Infallible;
/// # use handover::{Conn, Listener};
/// # use hyper::{Request, Response, body::Incoming, service::service_fn};
/// # async fn example(listener: Listener) -> std::io::Result<()> {
/// handover::hyper::serve_with(listener, |conn: &Conn| {
///     let peer = conn.peer().clone();
///     service_fn(move |_: Request<Incoming>| {
///         let hello = format!("hello, {peer}");
///         async { Ok::<_, Infallible>(Response::new(hello)) }
///     })
/// })
/// .await
/// # }
/// ```
pub fn serve_with<L, M, S>(listener: L, make: M) -> Serve<Made<M>, L>
where
    L: Accept,
    M: FnMut(&Conn) -> S + Send + 'static,
    S: HttpService,
{
    Serve::new(listener, Made(make))
}

/// What [`serve`] takes: a service of hyper.
///
/// This is a name for the bounds that hyper has, and nothing but them: there is no need to implement it.
pub trait HttpService:
    Service<
        Request<Incoming>,
        Response = Response<Self::ResponseBody>,
        Error: Into<BoxError>,
        Future: Send + 'static,
    > + Send
    + 'static
{
    /// The body of its responses.
    type ResponseBody: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
}

type BoxError = Box<dyn Error + Send + Sync>;

impl<S, B> HttpService for S
where
    S: Service<
            Request<Incoming>,
            Response = Response<B>,
            Error: Into<BoxError>,
            Future: Send + 'static,
        > + Send
        + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type ResponseBody = B;
}

/// What a [`Serve`] of [`serve`] serves.
#[derive(Debug)]
pub struct Cloned<S>(S);

impl<S: HttpService + Clone, L: Accept> IntoFuture for Serve<Cloned<S>, L> {
    type Output = io::Result<()>;
    type IntoFuture = ServeFuture;

    fn into_future(self) -> ServeFuture {
        self.start()
    }
}

impl<S: HttpService + Clone> Connect for Cloned<S> {
    type Service = Adapted<S>;

    async fn connect(&mut self, _: Accepted<'_>) -> Adapted<S> {
        Adapted(self.0.clone())
    }
}

/// What a [`Serve`] of [`serve_with`] serves.
pub struct Made<M>(M);

impl<M, S, L> IntoFuture for Serve<Made<M>, L>
where
    L: Accept,
    M: FnMut(&Conn) -> S + Send + 'static,
    S: HttpService,
{
    type Output = io::Result<()>;
    type IntoFuture = ServeFuture;

    fn into_future(self) -> ServeFuture {
        self.start()
    }
}

impl<M, S> Connect for Made<M>
where
    M: FnMut(&Conn) -> S + Send + 'static,
    S: HttpService,
{
    type Service = Adapted<S>;

    async fn connect(&mut self, accepted: Accepted<'_>) -> Adapted<S> {
        Adapted((self.0)(accepted.conn))
    }
}

impl<M> fmt::Debug for Made<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made").finish_non_exhaustive()
    }
}

/// A service that takes hyper's own body, whose end we do not see.
#[derive(Debug)]
pub(crate) struct Adapted<S>(S);

impl<S: HttpService> Application for Adapted<S> {
    type Body = S::ResponseBody;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, request: Request<Incoming>, exchange: &Exchange) -> S::Future {
        if let (false, Some(activity)) = (request.body().is_end_stream(), exchange.activity()) {
            activity.lose_sight();
        }
        self.0.call(request)
    }
}
