//! The HTTP/1 stage of a connection.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::server::conn::http1::UpgradeableConnection;
use hyper_util::rt::TokioIo;

use super::{
    activity::{Activity, Ending},
    berth::{Mooring, Turn},
    head_timeout::HeadTimeout,
    io::Io,
    phase::Phase,
    server::Server,
    service::{Application, ExchangeService},
    transport::Transport,
};

/// A connection that speaks HTTP/1.1 or HTTP/1.0.
///
/// Between two requests it can be taken out of hyper, together with the bytes that hyper has read and not used.
/// hyper's public interface allows that in two cases:
///
/// - no request was ever read, or the connection lies in its [berth](super::berth): hyper is taken apart as it stands;
/// - no exchange is open: after hyper's graceful shutdown, which adds nothing to a response whose head has gone out,
///   hyper flushes, shuts the I/O object, which has been told to live on, and resolves; it is taken apart then.
///
/// In all others it announces an end that is none (a call runs, a first head is incomplete) or loses what it has not
/// flushed (`poll_without_shutdown`).
pub(crate) struct Http1<I: Transport, S: Application> {
    hyper: UpgradeableConnection<TokioIo<Io<I>>, ExchangeService<S>>,
    activity: Arc<Activity>,
    mooring: Mooring<I>,
    head_timeout: HeadTimeout,
    course: Course,
    /// Whether a service had dropped a body before its end when the connection began to leave.
    had_left_body: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// Stays until the successor takes it, or until the last look.
    Serving,
    /// Is on its way out of hyper.
    Leaving,
    /// Has had its last look, and stays until its next response.
    Staying,
}

/// How the stage ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http1End {
    /// hyper has closed the connection, or has given it to an upgrade.
    Closed,
    /// The connection is between two requests and can be fetched with [`Http1::into_between`].
    Between,
    /// The same, but that the rest of a body is to come, which nobody can tell from a next request.
    WithinBody,
    /// The successor is asked to take the connection; what is left can be fetched with [`Http1::into_asked`].
    Asked,
}

/// A connection between two requests.
#[derive(Debug)]
pub(crate) struct Between<I, S> {
    pub(crate) io: Io<I>,
    pub(crate) service: S,
}

impl<I: Transport, S: Application> Http1<I, S> {
    pub(crate) fn new(io: Io<I>, service: S, server: &Server) -> Self {
        Self::on_course(Course::Serving, io, service, server)
    }

    /// Goes on with a connection that has had its last look.
    pub(crate) fn after_last_look(between: Between<I, S>, server: &Server) -> Self {
        Self::on_course(Course::Staying, between.io, between.service, server)
    }

    fn on_course(course: Course, mut io: Io<I>, service: S, server: &Server) -> Self {
        let activity = Arc::clone(io.activity());
        let mooring = Mooring::new(Arc::clone(&activity));
        io.set_berth(mooring.berth());
        let service = ExchangeService::new(service, Arc::clone(&activity));
        Self {
            hyper: server
                .http1()
                .serve_connection(TokioIo::new(io), service)
                .with_upgrades(),
            activity,
            mooring,
            head_timeout: HeadTimeout::new(server.head_timeout()),
            course,
            had_left_body: false,
        }
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        phase: Phase,
    ) -> Poll<Result<Http1End, Http1Error>> {
        match self.mooring.begin_turn() {
            Turn::Going => {}
            Turn::Asked => return Poll::Ready(Ok(Http1End::Asked)),
            Turn::Moved => return Poll::Ready(Ok(Http1End::Closed)),
        }
        loop {
            let mut polled = Pin::new(&mut self.hyper).poll(cx);
            if polled.is_pending() && self.leaves(phase) && self.activity.may_be_in_body() {
                // Only now it notices that a body was dropped, and reads the rest of it or ends the connection.
                polled = Pin::new(&mut self.hyper).poll(cx);
            }
            if let Poll::Ready(result) = polled {
                return Poll::Ready(match result {
                    Ok(()) if self.course == Course::Leaving => {
                        Ok(match self.activity.has_left_body() == self.had_left_body {
                            true => Http1End::Between,
                            false => Http1End::WithinBody,
                        })
                    }
                    Ok(()) => Ok(Http1End::Closed),
                    Err(error) => Err(Http1Error::Hyper(error)),
                });
            }
            if self.course == Course::Leaving && self.activity.may_be_in_body() {
                // hyper, which could have gone at once if it were idle, still reads a request: its connection ends
                // behind that, for nobody can tell what is left of it from a next one.
                self.course = Course::Staying;
                self.activity.set_ending(Ending::Lingering);
            }
            if !self.leaves(phase) {
                break;
            }
            // hyper has answered nothing yet, or has nothing left.
            if !self.activity.has_served() || self.mooring.is_lying() {
                return Poll::Ready(Ok(Http1End::Between));
            }
            self.course = Course::Leaving;
            self.had_left_body = self.activity.has_left_body();
            self.activity.set_ending(Ending::Kept);
            Pin::new(&mut self.hyper).graceful_shutdown();
        }
        self.head_timeout
            .poll(cx, self.activity.awaits_head())
            .map(|limit| Err(Http1Error::SlowHead(limit)))
    }

    /// Whether it leaves from its berth when others do.
    pub(crate) fn is_moored(&mut self) -> bool {
        self.mooring.is_moored()
    }

    /// Nothing more is done with it before it is polled again.
    pub(crate) fn end_turn(&self) {
        self.mooring.lie_open();
    }

    /// Whether it is to be taken out of hyper now.
    fn leaves(&self, phase: Phase) -> bool {
        let goes = match phase {
            Phase::Moving => self.activity.moves(),
            phase => phase >= Phase::LastLook,
        };
        goes
            && self.course == Course::Serving
            && self.activity.is_idle()
            // hyper would give it to the upgrade, which nobody waits for.
            && (self.mooring.is_lying() || !self.activity.has_wanted_upgrade())
    }

    /// Takes out of hyper what is left after [`Http1End::Asked`].
    pub(crate) fn into_asked(self) -> Option<Between<I, S>> {
        let parts = self.hyper.into_parts()?;
        debug_assert!(parts.read_buf.is_empty(), "nothing is left behind");
        self.mooring.leave();
        Some(Between {
            io: parts.io.into_inner(),
            service: parts.service.into_inner(),
        })
    }

    /// Takes the connection out of hyper after [`Http1End::Between`]; `None` if an upgrade has it.
    pub(crate) fn into_between(self) -> Option<Between<I, S>> {
        self.activity.set_ending(Ending::Plain);
        let parts = self.hyper.into_parts()?;
        let mut io = parts.io.into_inner();
        io.leave_berth();
        io.unread(parts.read_buf);
        Some(Between {
            io,
            service: parts.service.into_inner(),
        })
    }
}

impl<I: Transport, S: Application> fmt::Debug for Http1<I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1")
            .field("activity", &self.activity)
            .field("course", &self.course)
            .finish_non_exhaustive()
    }
}

/// Why an HTTP/1 connection failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Http1Error {
    #[error(transparent)]
    Hyper(hyper::Error),
    #[error("a request head was not complete within {0:?}")]
    SlowHead(Duration),
}
