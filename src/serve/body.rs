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
        exchange: Option<Exchange>,
        #[pin]
        body: B,
    }
}

impl<B: Body> ExchangeBody<B> {
    /// Most requests have no body: those keep nothing open, and cost nothing.
    pub(crate) fn of_request(exchange: &Exchange, body: B) -> Self {
        Self {
            exchange: (!body.is_end_stream()).then(|| exchange.clone()),
            body,
        }
    }

    /// Gives the body of a request away, for a service that takes no other. Its end will not be seen.
    pub(crate) fn into_unwatched(self) -> B {
        if let Some(exchange) = self.exchange {
            exchange.activity().lose_sight();
        }
        self.body
    }

    pub(crate) fn of_response(exchange: Exchange, body: B) -> Self {
        Self {
            exchange: Some(exchange),
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
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
