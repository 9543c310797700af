//! The service: that of the `axum` example, with one more component that can be told to fail.

use std::env;
use std::error::Error;
use std::fs;
use std::future::pending;
use std::path::PathBuf;

use handover::{BoxError, Context, Lifecycle};

#[path = "../axum.rs"]
mod axum_example;

/// The variable that names a file with the trouble that a successor is to have.
pub(crate) const TROUBLE: &str = "DEMO_TROUBLE";

#[handover::main(ready_timeout = "1500ms")]
pub(crate) async fn serve(cx: Context) -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let listener = cx.bind("127.0.0.1:0").await?;
    cx.attach(Cache).await?;
    cx.ready().await?;
    handover::axum::serve(listener, axum_example::app(&cx)).await?;
    Ok(())
}

/// What a real service loads before it can serve, and what can go wrong then.
#[derive(Debug)]
struct Cache;

impl Lifecycle for Cache {
    async fn on_init(&mut self) -> Result<(), BoxError> {
        let trouble = env::var_os(TROUBLE).map(PathBuf::from);
        let trouble = trouble.and_then(|file| fs::read_to_string(file).ok());
        match trouble.as_deref() {
            Some("crash") => panic!("the cache is corrupt"),
            Some("hang") => pending().await,
            _ => Ok(()),
        }
    }
}
