//! The drain, as any stack of `tower` services sees it.
//!
//! [`DrainLayer`] tells HTTP clients that a connection ends, whatever server is below. [`Readiness`] tells load
//! balancers whether to send clients here.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{CACHE_CONTROL, CONNECTION, RETRY_AFTER},
};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    context::Context,
    lifecycle::{phase::Phase, tokens::Tokens},
};

/// A layer that announces the end of HTTP/1 connections when this generation drains.
///
/// Every response to a request of HTTP/1 says `Connection: close` from then on, whatever the server, so that the
/// client's next request makes a new connection, to the successor. [`handover::axum::serve`] does that by itself and
/// better; this is for the servers of others, such as `axum::serve` and bare `hyper`. HTTP/2 has its GOAWAY, which is
/// the server's to send.
///
/// # Examples
///
/// ```no_run
/// use axum::Router;
/// use handover::{Context, tower::DrainLayer};
///
/// async fn serve(cx: Context, app: Router) -> Result<(), Box<dyn std::error::Error>> {
///     let listener = cx.bind("0.0.0.0:8080").await?;
///     cx.ready().await?;
///     Ok(axum::serve(listener, app.layer(DrainLayer::new(&cx))).await?)
/// }
/// ```
#[cfg_attr(
    feature = "axum",
    doc = "\n[`handover::axum::serve`]: crate::axum::serve"
)]
#[cfg_attr(
    not(feature = "axum"),
    doc = "\n[`handover::axum::serve`]: https://docs.rs/handover/latest/handover/axum/fn.serve.html"
)]
#[derive(Debug, Clone)]
pub struct DrainLayer {
    tokens: Tokens,
    retry_after: Option<HeaderValue>,
}

impl DrainLayer {
    /// Makes the layer.
    #[must_use]
    pub fn new(cx: &Context) -> Self {
        Self {
            tokens: cx.tokens().clone(),
            retry_after: None,
        }
    }

    /// Refuses requests that begin in the drain with 503 (service unavailable), and has them come back after
    /// `retry_after`, which is said in whole seconds.
    ///
    /// By default they are answered, and that is better for clients. This is for services whose requests take longer
    /// than the drain may.
    #[must_use]
    pub fn refuse(mut self, retry_after: Duration) -> Self {
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        self.retry_after = Some(seconds.into());
        self
    }
}

impl<S> Layer<S> for DrainLayer {
    type Service = Drain<S>;

    fn layer(&self, service: S) -> Drain<S> {
        Drain {
            service,
            layer: self.clone(),
        }
    }
}

/// A service below a [`DrainLayer`].
#[derive(Debug, Clone)]
pub struct Drain<S> {
    service: S,
    layer: DrainLayer,
}

impl<S, A, B> Service<Request<A>> for Drain<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: Default,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = DrainFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> DrainFuture<S::Future> {
        let DrainLayer {
            tokens,
            retry_after,
        } = &self.layer;
        let refused = retry_after
            .as_ref()
            .filter(|_| tokens.draining.is_cancelled());
        DrainFuture {
            version: request.version(),
            tokens: tokens.clone(),
            course: match refused {
                Some(retry_after) => Course::Refused {
                    retry_after: retry_after.clone(),
                },
                None => Course::Taken {
                    response: self.service.call(request),
                },
            },
        }
    }
}

pin_project! {
    /// The response of a [`Drain`] to be.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct DrainFuture<F> {
        // Of the request.
        version: Version,
        tokens: Tokens,
        #[pin]
        course: Course<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = CourseProjection]
    enum Course<F> {
        Taken { #[pin] response: F },
        Refused { retry_after: HeaderValue },
    }
}

impl<F, B, E> Future for DrainFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut response = match this.course.project() {
            CourseProjection::Taken { response } => task::ready!(response.poll(cx))?,
            CourseProjection::Refused { retry_after } => {
                let mut response = Response::new(B::default());
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                let retry_after = retry_after.clone();
                response.headers_mut().insert(RETRY_AFTER, retry_after);
                response
            }
        };
        // Asked now: the drain may have begun since the request came. An upgrade has its own option here.
        if *this.version < Version::HTTP_2
            && this.tokens.draining.is_cancelled()
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        Poll::Ready(Ok(response))
    }
}

/// A service that answers whether clients should be sent here: 200 (OK), or 503 (service unavailable).
///
/// | the service | answer |
/// |---|---|
/// | serves | 200, `serving` |
/// | has not called [`ready`](Context::ready) | 503, `initialising`; only where it is asked through another listener |
/// | stops: from the start of its [lame-duck time](crate::Builder::lame_duck) on | 503, `stopping` |
/// | has a successor, and this generation drains | 200, `serving`: who asks again asks the successor |
///
/// So a handover is not seen by a load balancer, even by one that keeps its connection. For who asks about this process
/// and not about the service there is [`of_this_generation`](Self::of_this_generation).
///
/// # Examples
///
/// ```
/// # use axum::Router;
/// # use handover::{Context, tower::Readiness};
/// # fn example(cx: Context) -> Router {
/// Router::new().route_service("/ready", Readiness::new(&cx))
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Readiness {
    cx: Context,
    of_this_generation: bool,
}

impl Readiness {
    /// Makes the service.
    #[must_use]
    pub fn new(cx: &Context) -> Self {
        Self {
            cx: cx.clone(),
            of_this_generation: false,
        }
    }

    /// Answers 503, `draining`, also when this generation drains because it has a successor.
    #[must_use]
    pub fn of_this_generation(mut self) -> Self {
        self.of_this_generation = true;
        self
    }

    fn state(&self) -> (StatusCode, &'static str) {
        if self.cx.is_stopping() {
            return (StatusCode::SERVICE_UNAVAILABLE, "stopping");
        }
        match self.cx.phase() {
            Phase::Initialising | Phase::Ready => (StatusCode::SERVICE_UNAVAILABLE, "initialising"),
            Phase::Draining | Phase::Aborting if self.of_this_generation => {
                (StatusCode::SERVICE_UNAVAILABLE, "draining")
            }
            _ => (StatusCode::OK, "serving"),
        }
    }
}

impl<A> Service<Request<A>> for Readiness {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<A>) -> Self::Future {
        let (status, text) = self.state();
        let mut response = Response::new(text.to_owned());
        *response.status_mut() = status;
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().insert(CACHE_CONTROL, no_store);
        ready(Ok(response))
    }
}
