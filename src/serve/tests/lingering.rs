//! The close after the last response: never a reset, and never for long.

use std::time::Duration;

use tokio::{
    io::AsyncWriteExt,
    time::{Instant, advance},
};

use super::{
    Bench,
    client::{get, post},
    must, settle,
};
use crate::serve::phase::Phase;

/// More than all the buffers between the two ends hold.
const LOT: usize = 8 * 1024 * 1024;

#[tokio::test]
async fn requests_behind_the_last_response_cause_no_reset() {
    let bench = Bench::new();
    let (client, outcome) = bench.connect().await;
    bench.enter(Phase::Draining);
    let mut requests = get("/");
    while requests.len() < LOT {
        requests.push_str(&get("/"));
    }

    let (read, mut write) = client.io.into_split();
    let mut reader = super::Client::new(tokio::io::join(read, tokio::io::sink()));
    let writer = tokio::spawn(async move { write.write_all(requests.as_bytes()).await });
    writer.await.unwrap().unwrap();

    reader.reply().await.expect("hello", true);
    reader.end().await.unwrap();
    must(outcome).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_upload_that_nobody_reads_causes_no_reset() {
    let bench = Bench::new();
    bench.enter(Phase::Draining);
    let (mut client, _outcome) = bench.connect().await;

    client.send(post("/ignore", LOT)).await;
    client.send(vec![b'x'; LOT]).await;

    client.reply().await.expect("ignored", true);
    client.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_closes_is_left_after_a_second() {
    let bench = Bench::new();
    bench.enter(Phase::Draining);
    let (mut client, outcome) = bench.connect_within();
    let start = Instant::now();

    client.get("/").await;
    client.reply().await.expect("hello", true);
    client.end().await.unwrap();
    must(outcome).await.unwrap().unwrap();

    assert_eq!(start.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_stops_is_left_after_five_seconds() {
    let bench = Bench::new();
    bench.enter(Phase::Draining);
    let (mut client, outcome) = bench.connect_within();
    let start = Instant::now();

    client.get("/").await;
    client.reply().await.expect("hello", true);
    while !outcome.is_finished() {
        assert!(start.elapsed() < Duration::from_secs(10));
        // It fails once the other end has gone.
        client.io.write_all(b"more").await.ok();
        settle().await;
        advance(Duration::from_millis(900)).await;
        settle().await;
    }

    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_floods_is_left_after_sixteen_mebibytes() {
    let bench = Bench::new();
    bench.enter(Phase::Draining);
    let (mut client, outcome) = bench.connect_within();
    client.get("/").await;
    client.reply().await.expect("hello", true);

    let mut sent = 0;
    while client.io.write_all(&[b'x'; 64 * 1024]).await.is_ok() {
        sent += 64 * 1024;
    }

    must(outcome).await.unwrap().unwrap();
    assert!((16 << 20..17 << 20).contains(&sent), "{sent}");
}
