//! The accept loop of a server.

use std::{error::Error, future::pending, io, sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::sleep};

use super::{
    connect::Connect, connection::serve_connection, executor::LogPanic, options::Options,
    server::Server, service::Application,
};
use crate::{
    lifecycle::token::Token,
    net::{conn::Conn, listener::Listener},
};

/// Serves what `listener` accepts, and returns when all of it has ended, or the drain was aborted.
pub(crate) async fn accept_and_serve<A: Connect>(
    mut listener: Listener,
    mut app: A,
    options: Options,
) -> io::Result<()> {
    let idle_limit = options.drain_idle_timeout;
    let server = Arc::new(Server::new(options));
    let aborting = listener.aborting();
    listener.serves_http1();
    // A task of its own, for the connections must be told of the drain though this future be dropped.
    tokio::spawn(follow_drain(Arc::clone(&server), &listener, idle_limit));
    let accepting = Accepting(Arc::clone(&server));
    while let Some(conn) = accept(&mut listener, &server, &aborting).await? {
        let service = app.connect(&conn).await;
        spawn_connection(conn, service, &server);
    }
    drop(accepting);
    drop(listener);
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
async fn accept(
    listener: &mut Listener,
    server: &Server,
    aborting: &Token,
) -> io::Result<Option<Conn>> {
    tokio::select! {
        biased;
        () = server.has_room() => {}
        // What waits in the queue is the successor's.
        () = listener.ended() => {}
        () = aborting.cancelled() => return Ok(None),
    }
    listener.accept().await
}

fn follow_drain(
    server: Arc<Server>,
    listener: &Listener,
    idle_limit: Option<Duration>,
) -> impl Future<Output = ()> + use<> {
    let draining = listener.draining();
    let closing = listener.closing();
    let aborting = listener.aborting();
    let prospect = listener.http1_prospect();
    // What moves to the successor is not closed: the limit is for those that stay.
    let (moved_out, have_moved_out) = oneshot::channel();
    let last_look = async move {
        let idle = async {
            match idle_limit {
                None => pending().await,
                Some(limit) => {
                    // Sent in any case but that of the end of everything.
                    have_moved_out.await.ok();
                    sleep(limit).await;
                }
            }
        };
        tokio::select! {
            () = closing.cancelled() => {}
            () = idle => {}
        }
    };
    async move {
        let draining = async {
            server.move_out(draining.cancelled(), prospect).await;
            // Without a limit nobody waits.
            moved_out.send(()).ok();
        };
        server
            .follow(draining, last_look, aborting.cancelled())
            .await;
    }
}

fn spawn_connection<S>(conn: Conn, service: S, server: &Arc<Server>)
where
    S: Application + Send + 'static,
{
    let peer = conn.peer().clone();
    let connection = serve_connection(conn, service, Arc::clone(server));
    tokio::spawn(LogPanic::new("an http connection", async move {
        if let Err(error) = connection.await {
            let error: &dyn Error = &error;
            tracing::debug!(%peer, error, "an http connection failed");
        }
    }));
}
