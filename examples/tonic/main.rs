//! A gRPC service that is replaced while it serves.
//!
//! ```text
//! cargo run --example tonic --features tonic-health -- 127.0.0.1:50051
//! grpcurl -plaintext -proto examples/tonic/greeter.proto 127.0.0.1:50051 greeter.Greeter/Who
//! kill -HUP <pid>
//! ```
//!
//! | call | kind | answer |
//! |---|---|---|
//! | `greeter.Greeter/Who` | unary | pid and generation, after as many milliseconds as asked for |
//! | `greeter.Greeter/Follow` | server streaming | the same, again and again; without end it is told to call again in the drain |
//! | `greeter.Greeter/Talk` | bidirectional | every word, and who has answered |
//! | `grpc.health.v1.Health/Check`, `Watch` | unary, server streaming | `SERVING`, and `NOT_SERVING` in the drain |
//!
//! The first argument is the endpoint (`127.0.0.1:50051` if there is none): an address, or `unix:/path`. The address
//! that it got, port 0 resolved, is printed to standard output as `listening on <address>`; the log goes to standard
//! error, and `RUST_LOG` filters it.
//!
//! `greeter.rs` was made from `greeter.proto` by tonic-prost-build, so that building this needs no `protoc`.

mod greeter;
mod service;

use std::error::Error;
use std::io::{IsTerminal, stderr};

use greeter::greeter_server::GreeterServer;
use handover::{Context, tonic::Health};
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
        .bind(endpoint.as_deref().unwrap_or("127.0.0.1:50051"))
        .await?;
    match listener.local_addr() {
        Ok(address) => println!("listening on {address}"),
        Err(_) => println!("listening on {}", listener.endpoint()),
    }
    let health = Health::new(listener.draining());
    health.set_serving::<GreeterServer<Who>>();
    let routes = Routes::new(health.service()).add_service(GreeterServer::new(Who::new(&cx)));
    cx.ready().await?;

    handover::tonic::serve(listener, routes).await?;
    Ok(())
}
