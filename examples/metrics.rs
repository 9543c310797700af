//! Metrics for Prometheus, at an endpoint that is handed over like any other.
//!
//! ```sh
//! cargo run --example metrics --features axum,metrics -- 127.0.0.1:9100
//! curl --silent http://127.0.0.1:9100/metrics | grep ^handover_
//! ```
//!
//! Then `kill -HUP` the pid that <http://127.0.0.1:9100/> shows, and look again: the generation is 2, one handover is
//! committed, and the connections count on.
//!
//! The exporter has no listener of its own: two generations would fight for its port. The handler
//! below renders what the exporter has recorded, and the listener is the library's, so that a scrape
//! is answered before, during and after a handover, on the connection that Prometheus keeps open.
//!
//! Counters of the library go on over generations. One of the program's own, such as
//! `greetings_total`, begins anew; Prometheus takes that for the restart that it is.

use std::error::Error;
use std::io::{IsTerminal, stderr};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use handover::Context;
use metrics_exporter_prometheus::PrometheusBuilder;
use tracing_subscriber::EnvFilter;

#[handover::main(metrics)]
async fn main(cx: Context) -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .init();
    // Before `ready()`: from there on something is counted.
    let exporter = PrometheusBuilder::new().install_recorder()?;
    metrics::describe_counter!("greetings_total", "Greetings by this process.");

    let endpoint = std::env::args().nth(1);
    let endpoint = endpoint.as_deref().unwrap_or("127.0.0.1:9100");
    let listener = cx.bind(endpoint).await?;
    println!("listening on {}", listener.local_addr()?);
    let scrape = async move || {
        exporter.run_upkeep();
        ([(CONTENT_TYPE, TEXT)], exporter.render())
    };
    let identity = format!(
        "pid={} generation={}\n",
        std::process::id(),
        cx.generation()
    );
    let greet = async move || {
        metrics::counter!("greetings_total").increment(1);
        identity
    };
    let app = Router::new()
        .route("/metrics", get(scrape))
        .route("/", get(greet));
    cx.ready().await?;

    handover::axum::serve(listener, app).await?;
    Ok(())
}

/// The content type of the text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
