//! A stream that ends with the drain.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::stream::FusedStream;
use pin_project_lite::pin_project;

use super::tokens::Tokens;

pin_project! {
    /// A stream that ends when this generation drains; made by
    /// [`Context::until_draining`](crate::Context::until_draining).
    ///
    /// What the inner stream has ready at that moment still comes; then this one ends as if the
    /// inner one had, so that a response that is made of it is complete: with its last chunk over
    /// HTTP/1.1, with the end of its stream over HTTP/2.
    #[must_use = "streams do nothing unless polled"]
    pub struct UntilDraining<S> {
        #[pin]
        stream: S,
        tokens: Tokens,
        // Made anew by every change of the window, and then only polled.
        goodbye: Goodbye,
        // How much may still come that was ready at the end.
        rest: Option<usize>,
        ended: bool,
    }
}

type Goodbye = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

impl<S> UntilDraining<S> {
    pub(crate) fn new(stream: S, tokens: Tokens) -> Self {
        Self {
            stream,
            goodbye: Box::pin(tokens.clone().goodbye(Duration::ZERO)),
            tokens,
            rest: None,
            ended: false,
        }
    }

    /// Sets the time over which the ends of several such streams are spread, each at a random
    /// moment of it, so that the clients do not all come back at once; 0 by default.
    ///
    /// It is bounded by half of the drain timeout.
    pub fn spread(mut self, window: Duration) -> Self {
        self.goodbye = Box::pin(self.tokens.clone().goodbye(window));
        self
    }
}

impl<S: Stream> Stream for UntilDraining<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        if this.rest.is_none() && this.goodbye.as_mut().poll(cx).is_ready() {
            *this.rest = Some(REST);
        }
        let next = match this.rest {
            Some(0) => Poll::Ready(None),
            Some(rest) => {
                *rest -= 1;
                match this.stream.poll_next(cx) {
                    Poll::Pending => Poll::Ready(None),
                    ready => ready,
                }
            }
            None => this.stream.poll_next(cx),
        };
        *this.ended = matches!(next, Poll::Ready(None));
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self.ended {
            true => (0, Some(0)),
            false => (0, self.stream.size_hint().1),
        }
    }
}

impl<S: Stream> FusedStream for UntilDraining<S> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<S> fmt::Debug for UntilDraining<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UntilDraining")
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// The most that may still come when it is time: a stream that always has something never ends.
const REST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    use futures::channel::mpsc::unbounded;
    use futures::{FutureExt, StreamExt, stream};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn what_is_ready_comes_before_the_end() {
        let tokens = Tokens::new();
        let (sender, receiver) = unbounded();
        let mut events = UntilDraining::new(receiver, tokens.clone());
        assert!(events.next().now_or_never().is_none(), "it is early");
        for event in 0..3 {
            sender.unbounded_send(event).expect("it is received");
        }
        tokens.drain(Instant::now());
        let rest: Vec<_> = events.by_ref().collect().await;
        assert_eq!(rest, [0, 1, 2]);
        sender.unbounded_send(3).expect("it is not dropped");
        assert_eq!(events.next().await, None, "it has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_always_has_something_ends() {
        let tokens = Tokens::new();
        tokens.drain(Instant::now());
        let events = UntilDraining::new(stream::repeat(()), tokens);
        assert_eq!(events.count().await, REST);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_spread() {
        let tokens = Tokens::new();
        tokens.drain(Instant::now() + Duration::from_secs(60));
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            let since = Instant::now();
            let events = UntilDraining::new(stream::pending::<()>(), tokens.clone());
            events.spread(Duration::from_secs(1)).next().await;
            longest = longest.max(since.elapsed());
        }
        assert!(longest > Duration::from_millis(100), "{longest:?}");
    }
}
