//! The service of the bench `axum`: one short answer, served by `handover::axum::serve` or by `axum::serve`.
//!
//! Says `serving ADDRESS` when it is up.

use std::{env, error::Error};

use axum::{Router, routing::get};
use handover::Context;
use tokio::net::TcpListener;

#[handover::main]
async fn main(cx: Context) -> Result<(), Box<dyn Error>> {
    let app = Router::new().route("/", get(|| async { "hello" }));
    match env::args().nth(1).as_deref() {
        Some("handover") => {
            let listener = cx.bind("127.0.0.1:0").await?;
            cx.ready().await?;
            println!("serving {}", listener.local_addr()?);
            handover::axum::serve(listener, app).await?;
        }
        Some("axum") => {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            cx.ready().await?;
            println!("serving {}", listener.local_addr()?);
            axum::serve(listener, app).await?;
        }
        _ => return Err("usage: web handover|axum".into()),
    }
    Ok(())
}
