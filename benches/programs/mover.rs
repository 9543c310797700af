//! The service of the bench `migration`: connections of HTTP/1.1 that move from generation to generation.
//!
//! Says `serving ADDRESS` when it is up, `draining MICROSECONDS` just before it lets go, and
//! `complete PID MICROSECONDS` when it serves as many connections as it was told.

use std::{
    env,
    error::Error,
    io::{self, Write},
    process,
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    extract::{ConnectInfo, connect_info::Connected},
    routing::get,
};
use handover::{BoxError, Context, Lifecycle, axum::IncomingStream};
use handover_benches::now;
use tokio::time::Instant;

#[handover::main]
async fn main(cx: Context) -> Result<(), Box<dyn Error>> {
    let count = env::args().nth(1).ok_or("usage: mover COUNT")?.parse()?;
    EXPECTED.store(count, Ordering::Relaxed);
    let listener = cx.bind("127.0.0.1:0").await?;
    cx.attach(Stamp).await?;
    let app = Router::new()
        .route(
            "/",
            get(async |_: ConnectInfo<Counted>| process::id().to_string()),
        )
        .into_make_service_with_connect_info::<Counted>();
    cx.ready().await?;
    writeln!(io::stdout(), "serving {}", listener.local_addr()?)?;
    handover::axum::serve(listener, app).await?;
    Ok(())
}

/// How many connections are still to come.
static EXPECTED: AtomicUsize = AtomicUsize::new(0);

/// Made once for each connection, when it gets its service.
#[derive(Clone, Copy, Debug)]
struct Counted;

impl Connected<IncomingStream<'_>> for Counted {
    fn connect_info(_: IncomingStream<'_>) -> Self {
        if EXPECTED.fetch_sub(1, Ordering::Relaxed) == 1 {
            let said = now().and_then(|now| {
                let (pid, now) = (process::id(), now.as_micros());
                writeln!(io::stdout(), "complete {pid} {now}")
            });
            said.expect("the bench listens");
        }
        Self
    }
}

/// Runs at the very end of what precedes `Released`.
struct Stamp;

impl Lifecycle for Stamp {
    async fn on_drain(&self, _: Instant) -> Result<(), BoxError> {
        writeln!(io::stdout(), "draining {}", now()?.as_micros())?;
        Ok(())
    }
}
