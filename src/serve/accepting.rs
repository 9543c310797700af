//! The accept loop of a server.

use std::{error::Error, io, sync::Arc, time::Duration};

use super::{
    accept::Accept, connect::Connect, connection::serve_connection, executor::LogPanic,
    options::Options, server::Server, service::Application, transport::Transport,
};
use crate::{
    lifecycle::token::Token,
    net::{listener::Listener, peer::Peer},
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
    tokio::spawn(follow_drain(
        Arc::clone(&server),
        source.listener(),
        idle_limit,
    ));
    let accepting = Accepting(Arc::clone(&server));
    while let Some(io) = accept(&mut source, &server, &aborting).await? {
        let service = app.connect(L::conn(&io)).await;
        let peer = L::conn(&io).peer().clone();
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

fn follow_drain(
    server: Arc<Server>,
    listener: &Listener,
    idle_limit: Option<Duration>,
) -> impl Future<Output = ()> + use<> {
    let draining = listener.draining();
    let closing = listener.closing();
    let aborting = listener.aborting();
    let last_look = async move {
        match idle_limit {
            None => closing.cancelled().await,
            // The drain has begun when this is first polled.
            Some(limit) => tokio::select! {
                () = closing.cancelled() => {}
                () = tokio::time::sleep(limit) => {}
            },
        }
    };
    async move {
        server
            .follow(draining.cancelled(), last_look, aborting.cancelled())
            .await;
    }
}

fn spawn_connection<I, S>(io: I, peer: Peer, service: S, server: &Arc<Server>)
where
    I: Transport,
    S: Application + Send + 'static,
{
    let connection = serve_connection(io, service, Arc::clone(server));
    tokio::spawn(LogPanic::new("an http connection", async move {
        if let Err(error) = connection.await {
            let error: &dyn Error = &error;
            tracing::debug!(%peer, error, "an http connection failed");
        }
    }));
}
