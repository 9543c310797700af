//! HTTP on ecdysis, as its documentation has it: hyper-util's server, and its graceful shutdown for the old process.
//!
//! `ecdysis-http ADDRESS`; `SIGHUP` replaces it.

use std::{convert::Infallible, env, error::Error, net::SocketAddr, process, time::Duration};

use ecdysis::tokio_ecdysis::{SignalKind, StopOnShutdown, TokioEcdysisBuilder};
use futures::StreamExt;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = env::args().nth(1).ok_or("usage: ecdysis-http ADDRESS")?.parse()?;
    let ecdysis = TokioEcdysisBuilder::new(SignalKind::hangup())?;
    let mut connections = ecdysis.listen_tcp(StopOnShutdown::Yes, address)?;
    let (_ecdysis, replaced) = ecdysis.ready()?;
    let server = auto::Builder::new(TokioExecutor::new());
    let graceful = GracefulShutdown::new();
    let accepting = async {
        while let Some(connection) = connections.next().await {
            let Ok(connection) = connection else { continue };
            let serving = server.serve_connection(TokioIo::new(connection), service_fn(answer));
            let serving = graceful.watch(serving.into_owned());
            tokio::spawn(async move {
                // A client that goes away in the middle concerns nobody else.
                serving.await.ok();
            });
        }
        Ok(())
    };
    let replaced = async { replaced.await.map_err(|error| format!("not replaced: {error:?}")) };
    tokio::try_join!(accepting, replaced)?;
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(Duration::from_secs(30)) => {}
    }
    Ok(())
}

async fn answer(_: Request<Incoming>) -> Result<Response<String>, Infallible> {
    Ok(Response::new(format!("pid={}\n", process::id())))
}
