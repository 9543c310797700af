//! Claim: to accept from a `handover::Listener`, counted and bounded by the drain, costs at most 3 % of a connection that
//! asks one thing and ends, with a control socket, metrics and the record of what happens beside it, compared with Tokio's own accept loop, and with one that counts by tokio-util's tracker.
//!
//! `cargo bench -p handover-benches --bench accept` (a minute); with ` -- alone` behind it, without what stands beside
//! the listener, to see what that costs.

use std::{
    env,
    error::Error,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{self, ExitCode},
    time::Instant,
};

use handover::{Builder, Context, Flavor, Listener};
use handover_benches::{Bound, Report, Rounds, Unit};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_util::task::TaskTracker;

fn main() -> ExitCode {
    // One thread serves and one asks: there are not more processors on many machines.
    // What operators have is there, with the record that the control socket brings, and what it costs is in it.
    let mut builder = Builder::new().flavor(Flavor::CurrentThread);
    if !env::args().any(|argument| argument == "alone") {
        builder = builder
            .control(format!("unix:@handover-bench-{}", process::id()))
            .metrics();
    }
    builder.run(compare)
}

async fn compare(cx: Context) -> Result<ExitCode, Box<dyn Error>> {
    PrometheusBuilder::new().install_recorder()?;
    let ours = cx.bind("127.0.0.1:0").await?;
    let plain = TcpListener::bind("127.0.0.1:0").await?;
    let tracked = TcpListener::bind("127.0.0.1:0").await?;
    cx.ready().await?;

    let addresses = [
        ours.local_addr()?,
        plain.local_addr()?,
        tracked.local_addr()?,
    ];
    tokio::spawn(accept(ours));
    tokio::spawn(accept_plain(plain));
    tokio::spawn(accept_tracked(tracked));
    let rounds = tokio::task::spawn_blocking(move || {
        Rounds::measure(&CONTENDERS, 200, |contender| {
            ask_often(addresses[contender])
        })
    });
    let cycle = rounds.await??.compare(
        "a connection that asks and ends",
        Unit::Seconds,
        |seconds| *seconds,
    );

    let mut report = Report::new();
    report.measured(&cycle);
    let [ours, plain, tracked] = CONTENDERS;
    report.claim(cycle.claim(ours, plain, Some(Bound::AtMost(1.03))));
    report.claim(cycle.claim(ours, tracked, Some(Bound::AtMost(1.03))));
    report.claim(cycle.claim(tracked, plain, None));
    Ok(report.finish())
}

async fn accept(mut listener: Listener) -> io::Result<()> {
    while let Some(connection) = listener.accept().await? {
        tokio::spawn(answer(connection));
    }
    Ok(())
}

async fn accept_plain(listener: TcpListener) -> io::Result<()> {
    loop {
        let (connection, _) = listener.accept().await?;
        tokio::spawn(answer(connection));
    }
}

async fn accept_tracked(listener: TcpListener) -> io::Result<()> {
    let tracker = TaskTracker::new();
    loop {
        let (connection, _) = listener.accept().await?;
        tracker.spawn(answer(connection));
    }
}

async fn answer(mut connection: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut byte = [0];
    connection.read_exact(&mut byte).await?;
    connection.write_all(&byte).await
}

/// Seconds for each of a thousand connections, one after the other.
fn ask_often(address: SocketAddr) -> io::Result<f64> {
    let start = Instant::now();
    for _ in 0..CONNECTIONS {
        let mut connection = TcpStream::connect(address)?;
        connection.write_all(b"?")?;
        let mut answer = [0; 2];
        // The second read sees the end.
        if connection.read(&mut answer)? != 1 || connection.read(&mut answer)? != 0 {
            return Err(io::Error::other("the answer is one byte and the end"));
        }
    }
    Ok(start.elapsed().as_secs_f64() / f64::from(CONNECTIONS))
}

const CONTENDERS: [&str; 3] = ["handover", "plain loop", "TaskTracker"];
const CONNECTIONS: u32 = 1000;
