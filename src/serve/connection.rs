//! The driver of one connection.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::{
    activity::{Activity, Ending},
    http1::{Between, Http1, Http1End, Http1Error},
    http2::Http2,
    io::Io,
    phase::{Heed, Phase},
    preface::{Opening, Preface, PrefaceError},
    server::Server,
    service::Application,
    transport::Transport,
};

/// Serves one connection of `server` to its end: that of the peer's making, of the drain, or of its deadline. Gives
/// back one that is to move to the successor, between two requests.
///
/// The connection counts from the call on. The future belongs into a task of its own and must stay there: it
/// registers for the drain once. Dropping it closes the connection.
pub(crate) fn serve_connection<I: Transport, S: Application>(
    transport: I,
    service: S,
    server: Arc<Server>,
) -> impl Future<Output = Result<Option<Between<I, S>>, ConnectionError>> {
    let activity = Activity::new(Arc::clone(&server));
    activity.set_moves(transport.can_move());
    let io = Io::new(transport, activity, server.count());
    go_on(io, service, server)
}

/// The same for a connection that was given back, and that nobody has taken.
pub(crate) fn go_on<I: Transport, S: Application>(
    io: Io<I>,
    service: S,
    server: Arc<Server>,
) -> impl Future<Output = Result<Option<Between<I, S>>, ConnectionError>> {
    let mut stage = Stage::Preface(Preface::new(io, server.head_timeout()), service);
    async move {
        let mut phase = pin!(server.phases().watch());
        poll_fn(|cx| {
            loop {
                let epoch = server.phases().epoch();
                let now = phase.as_mut().look(cx);
                if now == Phase::Aborting {
                    return Poll::Ready(Ok(None));
                }
                if let Poll::Ready(result) = stage.poll(cx, now, &server) {
                    return Poll::Ready(result);
                }
                // One that has got another berth may have been passed over meanwhile.
                if !phase.as_mut().heed(stage.heeds()) && server.phases().epoch() == epoch {
                    stage.end_turn();
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Preface(#[from] PrefaceError),
    #[error(transparent)]
    Http1(#[from] Http1Error),
    #[error(transparent)]
    Http2(hyper::Error),
}

/// How far a connection is.
enum Stage<I: Transport, S: Application> {
    /// It has not said which protocol it speaks.
    Preface(Preface<I>, S),
    Http1(Box<Http1<I, S>>),
    Http2(Box<Http2<I, S>>),
    /// It is between two requests, and the successor is to take it.
    Moving(Between<I, S>),
    /// It was quiet at the last look.
    Closing(Io<I>),
    Over,
}

impl<I: Transport, S: Application> Stage<I, S> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        phase: Phase,
        server: &Server,
    ) -> Poll<Result<Option<Between<I, S>>, ConnectionError>> {
        loop {
            *self = match self {
                Self::Preface(preface, _) => {
                    let opening = ready!(preface.poll(cx, phase))?;
                    self.after_preface(opening, server)
                }
                Self::Http1(http1) => match ready!(http1.poll(cx, phase))? {
                    Http1End::Closed => Self::Over,
                    Http1End::Between => self.after_http1(phase, server),
                    Http1End::WithinBody => self.within_body(),
                    Http1End::Asked => self.asked(),
                },
                Self::Http2(http2) => {
                    ready!(http2.poll(cx, phase)).map_err(ConnectionError::Http2)?;
                    Self::Over
                }
                Self::Moving(_) => {
                    let Self::Moving(between) = mem::replace(self, Self::Over) else {
                        return Poll::Ready(Ok(None));
                    };
                    return Poll::Ready(Ok(Some(between)));
                }
                Self::Closing(io) => {
                    // A lingering close does not fail.
                    ready!(Pin::new(io).poll_shutdown(cx)).ok();
                    Self::Over
                }
                Self::Over => return Poll::Ready(Ok(None)),
            };
        }
    }

    /// What it has to be told of the drain.
    fn heeds(&mut self) -> Heed {
        match self {
            // Its connections do not move, whatever the others do.
            Self::Http2(_) => Heed::All,
            // Its berth wakes it.
            Self::Http1(http1) => match http1.is_moored() {
                true => Heed::None,
                false => Heed::Moves,
            },
            _ => Heed::Moves,
        }
    }

    fn end_turn(&self) {
        if let Self::Http1(http1) = self {
            http1.end_turn();
        }
    }

    fn after_preface(&mut self, opening: Opening, server: &Server) -> Self {
        let Self::Preface(preface, service) = mem::replace(self, Self::Over) else {
            return Self::Over;
        };
        let io = preface.into_io();
        match opening {
            Opening::Http1 => Self::Http1(Box::new(Http1::new(io, service, server))),
            Opening::Http2 => Self::Http2(Box::new(Http2::new(io, service, server))),
            Opening::Silence => Self::close(io),
            Opening::Moves => Self::Moving(Between { io, service }),
        }
    }

    /// Moves, or gets its last look: a request that has arrived, be it in part, is still served.
    fn after_http1(&mut self, phase: Phase, server: &Server) -> Self {
        let Self::Http1(http1) = mem::replace(self, Self::Over) else {
            return Self::Over;
        };
        match http1.into_between() {
            None => Self::Over,
            Some(between) if phase < Phase::LastLook => {
                if phase == Phase::Moving {
                    Self::Moving(between)
                } else {
                    Self::begin_anew(between.io, between.service, server)
                }
            }
            Some(between) if between.io.has_arrived() => {
                Self::Http1(Box::new(Http1::after_last_look(between, server)))
            }
            Some(between) => Self::close(between.io),
        }
    }

    fn within_body(&mut self) -> Self {
        match mem::replace(self, Self::Over) {
            Self::Http1(http1) => http1
                .into_between()
                .map_or(Self::Over, |between| Self::close(between.io)),
            _ => Self::Over,
        }
    }

    /// Gives up what has served it: the successor is asked already.
    fn asked(&mut self) -> Self {
        match mem::replace(self, Self::Over) {
            Self::Http1(http1) => http1.into_asked().map_or(Self::Over, Self::Moving),
            _ => Self::Over,
        }
    }

    fn begin_anew(io: Io<I>, service: S, server: &Server) -> Self {
        io.activity().restart();
        Self::Preface(Preface::new(io, server.head_timeout()), service)
    }

    fn close(io: Io<I>) -> Self {
        io.activity().set_ending(Ending::Lingering);
        Self::Closing(io)
    }
}
