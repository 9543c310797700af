//! The server, as a user sets it up and awaits it: the same one for every adapter.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    accept::Accept, accepting::accept_and_serve, connect::Connect, http1_options::Http1Options,
    http2_options::Http2Options, options::Options,
};
use crate::net::listener::Listener;

/// A server, to be awaited.
///
/// `A` is what it serves: see [`axum::serve`](crate::axum::serve) and its neighbours, which make it. `L` is what it
/// accepts from.
///
/// When awaited it serves until this generation has drained: until the listener has ended, and every connection that
/// it has accepted has ended, upgraded ones included, or the drain was aborted. It can be awaited together with other
/// servers; dropping it stops the accepting, while the connections go on and drain.
///
/// Small segments are sent at once (`TCP_NODELAY`), unless the endpoint says otherwise
/// ([`Endpoint::no_delay`](crate::Endpoint::no_delay)): a response of HTTP/2, and one behind another in a pipeline,
/// would wait for the client's delayed acknowledgement, 40 ms and more.
///
/// # Examples
///
/// ```no_run
/// # async fn example(
/// #     listener: handover::Listener,
/// #     service: impl hyper::service::Service<
/// #         hyper::Request<hyper::body::Incoming>,
/// #         Response = hyper::Response<String>,
/// #         Error = std::convert::Infallible,
/// #         Future: Send,
/// #     > + Clone + Send + 'static,
/// # ) -> std::io::Result<()> {
/// use std::time::Duration;
///
/// handover::hyper::serve(listener, service)
///     .http1(|http1| http1.half_close(true).max_headers(64))
///     .http2(|http2| http2.max_concurrent_streams(1000))
///     .header_timeout(Duration::from_secs(10))
///     .max_connections(10_000)
///     .await
/// # }
/// ```
#[must_use = "a server does nothing unless it is awaited"]
pub struct Serve<A, L = Listener> {
    listener: L,
    app: A,
    options: Options,
}

impl<A, L> Serve<A, L> {
    pub(crate) fn new(listener: L, app: A) -> Self
    where
        L: Accept,
    {
        listener.listener().no_delay_by_default();
        Self {
            listener,
            app,
            options: Options::default(),
        }
    }

    /// Sets options for HTTP/1.
    pub fn http1(mut self, set: impl FnOnce(Http1Options) -> Http1Options) -> Self {
        self.options.http1 = set(self.options.http1);
        self
    }

    /// Sets options for HTTP/2.
    pub fn http2(mut self, set: impl FnOnce(Http2Options) -> Http2Options) -> Self {
        self.options.http2 = set(self.options.http2);
        self
    }

    /// Sets the longest time that a request head of HTTP/1 may take, from its first byte to its last; 30 s by default.
    ///
    /// A connection on which it takes longer is closed. The limit also holds for the 24 bytes with which a client of
    /// HTTP/2 begins. It does not hold between requests: an idle connection is not closed by it.
    pub fn header_timeout(mut self, limit: Duration) -> Self {
        self.options.header_timeout = limit;
        self
    }

    /// Sets how many connections are served at a time; there is no limit by default.
    ///
    /// At the limit accepting pauses: further connections wait in the kernel's queue (`listen(2)`) until one has
    /// ended. Nobody is refused before that queue is full, too. In a handover the successor takes them from there.
    ///
    /// An idle connection counts like any other, and so does an upgraded one. With a limit of 0 nobody is served.
    pub fn max_connections(mut self, limit: usize) -> Self {
        self.options.max_connections = Some(limit);
        self
    }

    /// Sets how long a silent or idle connection of HTTP/1 is kept in the drain; until shortly before its deadline by
    /// default.
    ///
    /// What is left of the drain is for those that are busy. A shorter time lets an old generation end earlier, and
    /// costs a client that has been quiet for as long its connection; it is told by the end of the connection only,
    /// and a request that it sends in that moment is lost to it.
    pub fn drain_idle_timeout(mut self, limit: Duration) -> Self {
        self.options.drain_idle_timeout = Some(limit);
        self
    }

    /// What it would accept from.
    #[cfg(test)]
    pub(super) fn into_listener(self) -> L {
        self.listener
    }

    pub(crate) fn start(self) -> ServeFuture
    where
        A: Connect,
        L: Accept,
    {
        ServeFuture(Box::pin(accept_and_serve(
            self.listener,
            self.app,
            self.options,
        )))
    }
}

impl<A, L: fmt::Debug> fmt::Debug for Serve<A, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("listener", &self.listener)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A server that runs; what awaiting [`Serve`] polls.
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
