//! A message body that keeps its exchange open.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::activity::Exchange;

pin_project! {
    /// A body, of a request or of a response, and the exchange that it belongs to.
    // The order of the fields is the order of their drops: dropping the body can wake the connection, which then
    // must find the exchange closed, for nothing else would wake it.
    #[derive(Debug)]
    pub(crate) struct ExchangeBody<B> {
        part: Option<Part>,
        #[pin]
        body: B,
    }
}

/// What a body is of its exchange.
#[derive(Debug)]
enum Part {
    Request(Unread),
    #[expect(dead_code, reason = "it is held, and dropped with the body")]
    Response(Exchange),
}

/// The body of a request that has not been read to its end.
#[derive(Debug)]
struct Unread {
    exchange: Exchange,
    ended: bool,
}

impl Drop for Unread {
    fn drop(&mut self) {
        if let (false, Some(activity)) = (self.ended, self.exchange.activity()) {
            activity.leave_body();
        }
    }
}

impl<B: Body> ExchangeBody<B> {
    #[cfg_attr(
        not(any(feature = "axum", test)),
        expect(dead_code, reason = "a service of hyper takes no body but hyper's")
    )]
    pub(crate) fn of_request(exchange: &Exchange, body: B) -> Self {
        Self {
            part: (!body.is_end_stream()).then(|| {
                Part::Request(Unread {
                    exchange: exchange.clone(),
                    ended: false,
                })
            }),
            body,
        }
    }

    pub(crate) fn of_response(exchange: Exchange, body: B) -> Self {
        Self {
            part: Some(Part::Response(exchange)),
            body,
        }
    }
}

impl<B: Body> Body for ExchangeBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = this.body.as_mut().poll_frame(cx);
        if let Some(Part::Request(unread)) = this.part {
            unread.ended |= match &frame {
                Poll::Ready(Some(Ok(_))) => this.body.is_end_stream(),
                Poll::Ready(None) => true,
                Poll::Ready(Some(Err(_))) | Poll::Pending => false,
            };
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request, as axum has them. Most requests have none: that takes no memory, and keeps nothing open.
#[cfg(feature = "axum")]
pub(crate) fn request_body(exchange: &Exchange, body: hyper::body::Incoming) -> ::axum::body::Body {
    match body.is_end_stream() {
        true => ::axum::body::Body::empty(),
        false => ::axum::body::Body::new(ExchangeBody::of_request(exchange, body)),
    }
}
