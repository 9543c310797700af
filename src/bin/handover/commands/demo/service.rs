//! The service: axum, with a component that can be told to fail.

use std::fs;
use std::future::pending;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use handover::{BoxError, Builder, Context, Lifecycle};

/// Serves until it is replaced or stopped. No thread may have been started by then.
pub(super) fn run(trouble: PathBuf) -> ExitCode {
    Builder::new()
        .ready_timeout(Duration::from_millis(1500))
        .run(|cx| serve(cx, trouble))
}

async fn serve(cx: Context, trouble: PathBuf) -> Result<(), BoxError> {
    let listener = cx.bind("127.0.0.1:0").await?;
    cx.attach(Cache { trouble }).await?;
    cx.ready().await?;
    let who = format!("pid={} generation={}", std::process::id(), cx.generation());
    let app = Router::new().route("/", get(|| async { who }));
    handover::axum::serve(listener, app).await?;
    Ok(())
}

/// What a real service loads before it can serve, and what can go wrong then.
#[derive(Debug)]
struct Cache {
    /// Names the trouble that a successor is to have, if it is there.
    trouble: PathBuf,
}

impl Lifecycle for Cache {
    async fn on_init(&mut self) -> Result<(), BoxError> {
        match fs::read_to_string(&self.trouble).as_deref() {
            Ok("crash") => panic!("the cache is corrupt"),
            Ok("hang") => pending().await,
            _ => Ok(()),
        }
    }
}
