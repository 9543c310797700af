//! An axum service and a gRPC service on one port, replaced while they serve.
//!
//! ```text
//! cargo run --example axum_and_tonic --features tonic-health -- 127.0.0.1:8080
//! curl http://127.0.0.1:8080/
//! grpcurl -plaintext -proto examples/tonic/greeter.proto 127.0.0.1:8080 greeter.Greeter/Who
//! kill -HUP <pid>
//! ```
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | `pid=<pid> generation=<n>`, over HTTP/1.1 or HTTP/2 |
//! | `GET /client` | the address of the client |
//! | the calls of the example `tonic` | as there |
//!
//! The first argument is the endpoint (`127.0.0.1:8080` if there is none): an address, or `unix:/path`. The address
//! that it got, port 0 resolved, is printed to standard output as `listening on <address>`; the log goes to standard
//! error, and `RUST_LOG` filters it.

#[path = "tonic/greeter.rs"]
mod greeter;
#[path = "tonic/service.rs"]
mod service;

use std::error::Error;
use std::io::{IsTerminal, stderr};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use greeter::greeter_server::GreeterServer;
use handover::{Context, Peer, tonic::Health};
use service::Who;
use tonic::service::Routes;
use tracing_subscriber::EnvFilter;

#[handover::main]
async fn main(cx: Context) -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .init();
    let endpoint = std::env::args().nth(1);
    let listener = cx
        .bind(endpoint.as_deref().unwrap_or("127.0.0.1:8080"))
        .await?;
    match listener.local_addr() {
        Ok(address) => println!("listening on {address}"),
        Err(_) => println!("listening on {}", listener.endpoint()),
    }
    let who = format!("pid={} generation={}", std::process::id(), cx.generation());
    let app = Router::new()
        .route("/", get(|| async { who }))
        .route("/client", get(client));
    let health = Health::new(listener.draining());
    health.set_serving::<GreeterServer<Who>>();
    let routes = Routes::from(app)
        .add_service(health.service())
        .add_service(GreeterServer::new(Who::new(&cx)));
    cx.ready().await?;

    handover::tonic::serve(listener, routes).await?;
    Ok(())
}

async fn client(ConnectInfo(peer): ConnectInfo<Peer>) -> String {
    peer.to_string()
}
