//! An axum service that is replaced while it serves.
//!
//! ```text
//! cargo run --example axum --features axum-ws,control -- 127.0.0.1:8080 unix:/tmp/axum.sock
//! curl http://127.0.0.1:8080/
//! handover --socket /tmp/axum.sock upgrade
//! ```
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | `pid=<pid> generation=<n>` |
//! | `GET /slow?ms=N` | the same, after N milliseconds |
//! | `POST /echo` | the body of the request |
//! | `GET /stream?chunks=N&ms=M` | N lines like the first answer, one every M milliseconds |
//! | `GET /ws` | a WebSocket that returns every message, and says goodbye when its generation drains |
//!
//! The first argument is the endpoint (`127.0.0.1:8080` if there is none): an address, or
//! `unix:/path`. The second, if there is one, is where the control socket is. The address that it got, port 0 resolved, is printed to standard output as
//! `listening on <address>`; the log goes to standard error, and `RUST_LOG` filters it.

use std::error::Error;
use std::future::ready;
use std::io::{IsTerminal, stderr};
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::Message;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{any, get, post};
use futures::{StreamExt, stream};
use handover::axum::ws::{WebSocket, WebSocketUpgrade};
use handover::{Builder, Context};
use serde::Deserialize;
use tokio::time::sleep;
use tracing_subscriber::EnvFilter;

/// What `#[handover::main]` would be with options that are known only now.
fn main() -> ExitCode {
    let builder = Builder::new().version(env!("CARGO_PKG_VERSION"));
    let builder = match std::env::args().nth(2) {
        Some(control) => builder.control(control),
        None => builder,
    };
    builder.run(serve)
}

async fn serve(cx: Context) -> Result<(), Box<dyn Error>> {
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
    cx.ready().await?;

    handover::axum::serve(listener, app(&cx)).await?;
    Ok(())
}

/// The application, answering in the name of this generation.
pub(crate) fn app(cx: &Context) -> Router {
    Router::new()
        .route("/", get(who))
        .route("/slow", get(slow))
        .route("/echo", post(echo))
        .route("/stream", get(stream_lines))
        .route("/ws", any(web_socket))
        .with_state(Who {
            pid: std::process::id(),
            generation: cx.generation(),
        })
}

/// Which process answers.
#[derive(Clone, Copy)]
struct Who {
    pid: u32,
    generation: u32,
}

#[derive(Deserialize)]
struct Slow {
    ms: u64,
}

#[derive(Deserialize)]
struct Lines {
    chunks: u64,
    ms: u64,
}

async fn who(State(Who { pid, generation }): State<Who>) -> String {
    format!("pid={pid} generation={generation}")
}

async fn slow(state: State<Who>, Query(Slow { ms }): Query<Slow>) -> String {
    sleep(Duration::from_millis(ms)).await;
    who(state).await
}

async fn echo(body: Body) -> Body {
    body
}

async fn stream_lines(state: State<Who>, Query(Lines { chunks, ms }): Query<Lines>) -> Body {
    let line = who(state).await + "\n";
    let lines = stream::iter(0..chunks).then(move |_| {
        let line = line.clone();
        async move {
            sleep(Duration::from_millis(ms)).await;
            Ok::<_, std::convert::Infallible>(line)
        }
    });
    Body::from_stream(lines)
}

async fn web_socket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(return_messages)
}

/// axum answers pings and close frames by itself.
async fn return_messages(socket: WebSocket) {
    let (to_client, from_client) = socket.split();
    let messages = from_client.filter(|message| {
        ready(matches!(
            message,
            Ok(Message::Text(_) | Message::Binary(_)) | Err(_)
        ))
    });
    if let Err(error) = messages.forward(to_client).await {
        tracing::debug!(%error, "a WebSocket ended");
    }
}
