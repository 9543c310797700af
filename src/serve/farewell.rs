//! The end of gRPC calls that outlive the drain: a status, where there would be a broken connection.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use ::tonic::Status;
use http::{HeaderMap, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::lifecycle::token::Token;

/// The moment at which the calls of a connection end, whatever they do.
#[derive(Clone, Debug)]
pub(crate) struct Farewell(Token);

impl Farewell {
    pub(crate) fn new(closing: Token) -> Self {
        Self(closing)
    }

    fn status() -> Status {
        Status::unavailable("this process has been replaced, and its time to finish calls is over")
    }

    fn trailers() -> HeaderMap {
        Self::status()
            .into_http::<()>()
            .headers()
            .iter()
            .filter(|(name, _)| **name != CONTENT_TYPE)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

/// Returns whether a message is one of gRPC over HTTP/2, by its `content-type`; gRPC-Web is none.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let subtype = content_type.and_then(|value| value.strip_prefix(b"application/grpc"));
    matches!(subtype, Some([] | [b'+' | b';', ..]))
}

pin_project! {
    /// Waits for the farewell, from when something else has made it wait.
    #[derive(Debug)]
    struct Waiting {
        farewell: Option<Farewell>,
        #[pin]
        said: Option<WaitForCancellationFutureOwned>,
    }
}

impl Waiting {
    fn new(farewell: Option<Farewell>) -> Self {
        Self {
            farewell,
            said: None,
        }
    }

    /// Returns whether the farewell is due; the task is woken when it is.
    ///
    /// Most calls never wait, and never register.
    fn is_due(self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        let mut this = self.project();
        let Some(farewell) = this.farewell else {
            return false;
        };
        if this.said.is_none() {
            this.said.set(Some(farewell.0.cancelled_owned()));
        }
        let said = this.said.as_pin_mut().map(|said| said.poll(cx));
        said.is_some_and(|said| said.is_ready())
    }

    /// Returns whether the farewell is due, now.
    fn is_over(&self) -> bool {
        self.farewell
            .as_ref()
            .is_some_and(|farewell| farewell.0.is_cancelled())
    }
}

pin_project! {
    /// The response to be; at the farewell a status instead.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct FarewellFuture<F> {
        #[pin]
        response: F,
        #[pin]
        waiting: Waiting,
    }
}

impl<F> FarewellFuture<F> {
    /// Without a farewell it is `response`, and nothing but it.
    pub(crate) fn new(response: F, farewell: Option<Farewell>) -> Self {
        Self {
            response,
            waiting: Waiting::new(farewell),
        }
    }
}

impl<F, B, E> Future for FarewellFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body + Default,
{
    type Output = Result<Response<FarewellBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let response = match this.response.poll(cx) {
            Poll::Ready(response) => response?,
            Poll::Pending if this.waiting.as_mut().is_due(cx) => Farewell::status().into_http(),
            Poll::Pending => return Poll::Pending,
        };
        // A handler of axum may have answered; its body has no room for a status.
        let grpc = is_grpc(response.headers());
        let farewell = this.waiting.project().farewell.take().filter(|_| grpc);
        Poll::Ready(Ok(response.map(|body| FarewellBody {
            body,
            waiting: Waiting::new(farewell),
            stage: Stage::Open,
        })))
    }
}

pin_project! {
    /// A body that ends with a status at the farewell.
    #[derive(Debug)]
    pub(crate) struct FarewellBody<B> {
        #[pin]
        body: B,
        #[pin]
        waiting: Waiting,
        stage: Stage,
    }
}

/// How far a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It goes to its own end.
    Open,
    /// The farewell is due, and a message was under way. A unary response has no second one.
    Late,
    /// Its status is next.
    Ending,
    Over,
}

impl<B: Body> Body for FarewellBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        if matches!(this.stage, Stage::Open | Stage::Late) {
            match this.body.poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                    // A stream that always has a message would never wait.
                    *this.stage = match this.stage {
                        Stage::Late => Stage::Ending,
                        _ if this.waiting.is_over() => Stage::Late,
                        _ => Stage::Open,
                    };
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(end) => return Poll::Ready(end),
                Poll::Pending if this.waiting.is_due(cx) => *this.stage = Stage::Ending,
                Poll::Pending => return Poll::Pending,
            }
        }
        if *this.stage == Stage::Over {
            return Poll::Ready(None);
        }
        *this.stage = Stage::Over;
        Poll::Ready(Some(Ok(Frame::trailers(Farewell::trailers()))))
    }

    fn is_end_stream(&self) -> bool {
        match self.stage {
            Stage::Open | Stage::Late => self.body.is_end_stream(),
            Stage::Ending => false,
            Stage::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
