//! The accept loop of a server.

use std::{
    error::Error,
    future::{Future, pending},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{runtime::Handle, sync::Notify};

use super::{
    accept::Accept,
    connect::Connect,
    connection::{ConnectionError, go_on, serve_connection},
    executor::LogPanic,
    http1::Between,
    options::Options,
    server::Server,
    service::Application,
    transport::Transport,
};
use crate::sys::log;
use crate::{
    lifecycle::{own, token::Token},
    net::peer::Peer,
};

/// Serves what `listener` accepts, and returns when all of it has ended, or the drain was aborted.
pub(crate) async fn accept_and_serve<A: Connect, L: Accept>(
    mut source: L,
    mut app: A,
    options: Options,
) -> io::Result<()> {
    let idle_limit = options.drain_idle_timeout;
    let server = Arc::new(Server::new(options));
    let aborting = source.listener().aborting();
    // A task of its own, for the connections must be told of the drain though this future be dropped.
    own::spawn(follow_drain(Arc::clone(&server), &source, idle_limit));
    let accepting = Accepting(Arc::clone(&server));
    while let Some(io) = accept(&mut source, &server, &aborting).await? {
        let accepted = L::accepted(&io);
        let peer = accepted.conn.peer().clone();
        let service = app.connect(accepted).await;
        spawn_connection(io, peer, service, &server);
    }
    drop(accepting);
    drop(source);
    tokio::select! {
        () = server.ended() => {}
        () = aborting.cancelled() => {}
    }
    Ok(())
}

/// The accept loop; when it ends, or is dropped, no further connection will come.
struct Accepting(Arc<Server>);

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Accepts the next connection for which there is room.
async fn accept<L: Accept>(
    source: &mut L,
    server: &Server,
    aborting: &Token,
) -> io::Result<Option<L::Io>> {
    tokio::select! {
        biased;
        () = server.has_room() => {}
        // What waits in the queue is the successor's.
        () = source.listener().ended() => {}
        () = aborting.cancelled() => return Ok(None),
    }
    source.accept().await
}

fn follow_drain<L: Accept>(
    server: Arc<Server>,
    source: &L,
    idle_limit: Option<Duration>,
) -> impl Future<Output = ()> + use<L> {
    let listener = source.listener();
    let draining = listener.draining();
    let closing = listener.closing();
    let aborting = listener.aborting();
    let prospect = L::MOVES.then(|| {
        listener.serves_http1();
        listener.http1_prospect()
    });
    async move {
        let stays = Notify::new();
        let moving = async {
            server.move_out(draining.cancelled(), prospect).await;
            stays.notify_one();
        };
        let last_look = async {
            let idle = async {
                // What moves is not idle here.
                stays.notified().await;
                match idle_limit {
                    Some(limit) => tokio::time::sleep(limit).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = closing.cancelled() => {}
                () = idle => {}
            }
        };
        server.follow(moving, last_look, aborting.cancelled()).await;
    }
}

pub(super) fn spawn_connection<I, S>(io: I, peer: Peer, service: S, server: &Arc<Server>)
where
    I: Transport,
    S: Application + Send + 'static,
{
    let connection = serve_connection(io, service, Arc::clone(server));
    spawn(&Handle::current(), connection, peer, Arc::clone(server));
}

fn spawn<C, I, S>(runtime: &Handle, connection: C, peer: Peer, server: Arc<Server>)
where
    C: Future<Output = Result<Option<Between<I, S>>, ConnectionError>> + Send + 'static,
    I: Transport,
    S: Application + Send + 'static,
{
    let task = Task {
        connection,
        rest: Some((peer, server)),
    };
    runtime.spawn(LogPanic::new("an http connection", task));
}

pin_project! {
    /// The task of a connection, until its end or until it moves. Nothing runs for it while the successor is asked to
    /// take it: there may be thousands.
    // Not an `async` block: it would have room for `connection` twice.
    struct Task<C> {
        #[pin]
        connection: C,
        rest: Option<(Peer, Arc<Server>)>,
    }
}

impl<C, I, S> Future for Task<C>
where
    C: Future<Output = Result<Option<Between<I, S>>, ConnectionError>> + Send + 'static,
    I: Transport,
    S: Application + Send + 'static,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let ended = ready!(this.connection.poll(cx));
        let Some((peer, server)) = this.rest.take() else {
            return Poll::Ready(());
        };
        match ended {
            Ok(None) => {}
            Ok(Some(Between { io, service })) => {
                let runtime = Handle::current();
                io.hand_over(move |io| {
                    let connection = go_on(io, service, Arc::clone(&server));
                    spawn(&runtime, connection, peer, server);
                });
            }
            Err(error) => {
                let error: &dyn Error = &error;
                log::debug!(%peer, error, "an http connection failed");
            }
        }
        Poll::Ready(())
    }
}
