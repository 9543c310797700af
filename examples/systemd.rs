//! A unit of systemd that a reload replaces: what the units in `contrib/systemd` start.
//!
//! ```text
//! cargo build --release --example systemd --features axum,systemd
//! sudo install target/release/examples/systemd /usr/local/bin/app
//! sudo install --mode=644 contrib/systemd/app.service /etc/systemd/system/
//! sudo systemctl daemon-reload
//! sudo systemctl start app
//! curl http://127.0.0.1:8080/
//! sudo systemctl reload app
//! systemctl status app
//! ```
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | `pid=<pid> generation=<n>` |
//! | `GET /slow?ms=N` | the same, after N milliseconds |
//!
//! The first argument is the endpoint, `http=0.0.0.0:8080` if there is none. Its name is that of the
//! socket in `contrib/systemd/app.socket`: where systemd passes it, it is taken, and else bound.

use std::error::Error;
use std::io::stderr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::routing::get;
use handover::Context;
use serde::Deserialize;
use tokio::time::sleep;
use tracing_subscriber::EnvFilter;

#[handover::main(systemd)]
async fn main(cx: Context) -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(false)
        // The journal has the time of each line.
        .without_time()
        .init();
    let endpoint = std::env::args().nth(1);
    let listener = cx
        .bind(endpoint.as_deref().unwrap_or("http=0.0.0.0:8080"))
        .await?;
    // From here on systemd takes the unit for started, or its reload for done.
    cx.ready().await?;

    let app = Router::new()
        .route("/", get(who))
        .route("/slow", get(slow))
        .with_state(Who {
            pid: std::process::id(),
            generation: cx.generation(),
        });
    handover::axum::serve(listener, app).await?;
    Ok(())
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

async fn who(State(Who { pid, generation }): State<Who>) -> String {
    format!("pid={pid} generation={generation}")
}

async fn slow(state: State<Who>, Query(Slow { ms }): Query<Slow>) -> String {
    sleep(Duration::from_millis(ms)).await;
    who(state).await
}
