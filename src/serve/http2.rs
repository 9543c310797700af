//! The HTTP/2 stage of a connection.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::server::conn::http2::Connection;
use hyper_util::rt::TokioIo;

use super::{
    activity::{Activity, Ending},
    executor::Spawn,
    io::Io,
    patience::Patience,
    phase::Phase,
    server::Server,
    service::{Application, ExchangeService},
    transport::Transport,
};

/// A connection that speaks HTTP/2.
///
/// It leaves in two steps (RFC 9113, section 6.8), which are hyper's: a GOAWAY that refuses nothing and a ping; and
/// when that has come back, and what the client had accepted before is here ([`Patience`]), a GOAWAY with the last
/// stream that counts.
/// Open streams run to their ends.
pub(crate) struct Http2<I: Transport, S: Application> {
    hyper: Connection<TokioIo<Patience<I>>, ExchangeService<S>, Spawn>,
    activity: Arc<Activity>,
    leaving: Leaving,
}

/// When the connection says that it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    WhenDraining,
    /// It has begun in the drain, and gets its first request answered.
    AfterFirstRequest,
    Said,
}

impl<I: Transport, S: Application> Http2<I, S> {
    pub(crate) fn new(io: Io<I>, service: S, server: &Server) -> Self {
        let activity = Arc::clone(io.activity());
        // Not even between two requests, where it goes on reading: of the end that it has announced.
        activity.set_moves(false);
        let service = ExchangeService::new(service, Arc::clone(&activity));
        Self {
            hyper: (server.http2()).serve_connection(TokioIo::new(Patience::new(io)), service),
            activity,
            leaving: match server.phases().now() {
                Phase::Serving => Leaving::WhenDraining,
                _ => Leaving::AfterFirstRequest,
            },
        }
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        phase: Phase,
    ) -> Poll<Result<(), hyper::Error>> {
        self.leave_if_due(phase);
        loop {
            if let Poll::Ready(result) = Pin::new(&mut self.hyper).poll(cx) {
                return Poll::Ready(result);
            }
            // The first request may have come in this poll.
            if !self.leave_if_due(phase) {
                return Poll::Pending;
            }
        }
    }

    fn leave_if_due(&mut self, phase: Phase) -> bool {
        let due = match self.leaving {
            Leaving::WhenDraining => phase > Phase::Serving,
            Leaving::AfterFirstRequest => phase >= Phase::LastLook || self.activity.has_served(),
            Leaving::Said => false,
        };
        if due {
            self.leaving = Leaving::Said;
            self.activity.set_ending(Ending::Lingering);
            Pin::new(&mut self.hyper).graceful_shutdown();
        }
        due
    }
}

impl<I: Transport, S: Application> fmt::Debug for Http2<I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2")
            .field("activity", &self.activity)
            .field("leaving", &self.leaving)
            .finish_non_exhaustive()
    }
}
