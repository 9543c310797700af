//! The service wrapper: opens an exchange for each request, and announces the end of an HTTP/1 connection.

use std::{
    error::Error,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header::CONNECTION};
use http_body::Body;
use hyper::{body::Incoming, service::Service, upgrade::OnUpgrade};
use pin_project_lite::pin_project;

use super::{
    activity::{Activity, Ending, Exchange},
    body::ExchangeBody,
};

/// What the driver serves: a service of hyper, but for the body of the request, which it makes itself of the one that
/// hyper gives. A request is large, and would be moved in memory once more to get another body in between.
pub(crate) trait Application {
    type Body: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
    type Error: Into<BoxError>;
    type Future: Future<Output = Result<Response<Self::Body>, Self::Error>> + Send + 'static;

    /// Serves one request: `exchange` is open until its response is written, and as long as a body of `request` is
    /// not read to its end.
    fn call(&self, request: Request<Incoming>, exchange: &Exchange) -> Self::Future;
}

type BoxError = Box<dyn Error + Send + Sync>;

/// A service whose exchanges are counted, and whose last response on an HTTP/1 connection says so.
#[derive(Debug)]
pub(crate) struct ExchangeService<S> {
    service: S,
    activity: Arc<Activity>,
}

impl<S> ExchangeService<S> {
    pub(crate) fn new(service: S, activity: Arc<Activity>) -> Self {
        Self { service, activity }
    }

    pub(crate) fn into_inner(self) -> S {
        self.service
    }
}

impl<S: Application> Service<Request<Incoming>> for ExchangeService<S> {
    type Response = Response<ExchangeBody<S::Body>>;
    type Error = S::Error;
    type Future = ExchangeFuture<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let version = request.version();
        let exchange = match version < Version::HTTP_2 {
            true => self.activity.begin(
                request.body().is_end_stream(),
                request.extensions().get::<OnUpgrade>().is_some(),
            ),
            false => self.activity.begin_stream(),
        };
        let tunnel = request.method() == Method::CONNECT;
        let response = self.service.call(request, &exchange);
        ExchangeFuture {
            exchange: Some(exchange),
            version,
            tunnel,
            response,
        }
    }
}

pin_project! {
    /// The response to be.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct ExchangeFuture<F> {
        exchange: Option<Exchange>,
        // Of the request.
        version: Version,
        tunnel: bool,
        #[pin]
        response: F,
    }
}

impl<F, B, E> Future for ExchangeFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<ExchangeBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.response.poll(cx))?;
        let exchange = this
            .exchange
            .take()
            .expect("a future is not polled after it has resolved");
        if let Some(activity) = exchange.activity() {
            let upgrades = response.status() == StatusCode::SWITCHING_PROTOCOLS
                || (*this.tunnel && response.status().is_success());
            if upgrades {
                // It is the application's from here on, which goes on reading from it.
                activity.set_moves(false);
            } else if activity.is_last_response() {
                announce_close(&mut response, *this.version);
                activity.set_ending(Ending::Lingering);
            }
        }
        Poll::Ready(Ok(
            response.map(|body| ExchangeBody::of_response(exchange, body))
        ))
    }
}

/// Says that this response is the connection's last one (RFC 9112, section 9.6).
fn announce_close<B>(response: &mut Response<B>, version: Version) {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    if version == Version::HTTP_10 {
        // Otherwise hyper adds `keep-alive` if the request had it.
        *response.version_mut() = version;
    }
}
