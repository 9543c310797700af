//! The last look, shortly before the deadline: what is quiet is closed, what has something to say is heard.

use std::io::Write;

use tokio::time::Instant;

use super::{
    Bench, Client, HEAD_TIMEOUT,
    app::{LARGE, MEDIUM},
    client::{get, post},
    must, settle,
};
use crate::serve::phase::Phase;

#[tokio::test]
async fn quiet_connections_are_closed() {
    let bench = Bench::new();
    let (mut silent, silent_outcome) = bench.connect().await;
    let (mut idle, idle_outcome) = bench.connect().await;
    idle.get("/").await;
    idle.reply().await.expect("hello", false);
    let (mut uploaded, uploaded_outcome) = bench.connect().await;
    uploaded.send(post("/length", 3) + "abc").await;
    uploaded.reply().await.expect("3", false);
    bench.enter(Phase::Draining);
    settle().await;

    bench.enter(Phase::LastLook);

    for client in [&mut silent, &mut idle, &mut uploaded] {
        client.end().await.unwrap();
    }
    drop((silent, idle, uploaded));
    for outcome in [silent_outcome, idle_outcome, uploaded_outcome] {
        must(outcome).await.unwrap().unwrap();
    }
}

/// The bytes are in the kernel, and nothing in this process has been told: epoll has not been asked since.
#[tokio::test]
async fn a_request_that_has_arrived_unnoticed_is_served() {
    for idle in [false, true] {
        let bench = Bench::new();
        let (mut client, outcome) = bench.connect().await;
        if idle {
            client.get("/").await;
            client.reply().await.expect("hello", false);
        }
        bench.enter(Phase::Draining);
        settle().await;
        let mut socket = client.io.into_std().unwrap();

        socket.write_all(get("/").as_bytes()).unwrap();
        bench.enter(Phase::LastLook);
        let mut client = Client::new(tokio::net::TcpStream::from_std(socket).unwrap());

        client.reply().await.expect("hello", true);
        client.end().await.unwrap();
        drop(client);
        must(outcome).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn half_a_request_is_waited_for() {
    for idle in [false, true] {
        let bench = Bench::new();
        let (mut client, outcome) = bench.connect().await;
        if idle {
            client.get("/").await;
            client.reply().await.expect("hello", false);
        }
        client.send("GET / HT").await;
        settle().await;
        bench.enter(Phase::Draining);
        settle().await;

        bench.enter(Phase::LastLook);
        settle().await;
        assert!(!outcome.is_finished());
        client.send(&get("/")["GET / HT".len()..]).await;

        client.reply().await.expect("hello", true);
        client.end().await.unwrap();
    }
}

#[tokio::test]
async fn a_request_in_progress_goes_on() {
    let bench = Bench::new();
    let (mut client, _outcome) = bench.connect().await;
    client.get("/hold").await;
    must(bench.app.entered()).await;

    bench.enter(Phase::LastLook);
    settle().await;
    bench.app.release();

    client.reply().await.expect("held", true);
    client.end().await.unwrap();
}

#[tokio::test]
async fn a_response_in_progress_goes_on_and_then_the_connection_is_closed() {
    let bench = Bench::new();
    let (mut client, outcome) = bench.connect().await;
    client.get("/stream").await;
    must(bench.app.entered()).await;
    settle().await;

    bench.enter(Phase::LastLook);
    settle().await;
    bench.app.release();

    client.reply().await.expect("firstlast", false);
    client.end().await.unwrap();
    drop(client);
    must(outcome).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_response_that_the_client_is_slow_to_read_goes_on() {
    let bench = Bench::new();
    let (mut client, outcome) = bench.connect().await;
    client.get("/large").await;
    settle().await;

    bench.enter(Phase::LastLook);
    settle().await;

    let reply = client.reply().await;
    assert_eq!(reply.body.len(), LARGE);
    client.end().await.unwrap();
    drop(client);
    must(outcome).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_comes_too_late_does_not_destroy_the_last_response() {
    let bench = Bench::new();
    let (mut client, outcome) = bench.connect().await;
    client.get("/medium").await;
    settle().await;
    bench.enter(Phase::LastLook);
    settle().await;

    client.get("/").await;
    settle().await;

    let reply = client.reply().await;
    assert_eq!(reply.body.len(), MEDIUM);
    client.end().await.unwrap();
    drop(client);
    must(outcome).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_behind_a_response_in_progress_is_served() {
    let bench = Bench::new();
    let (mut client, _outcome) = bench.connect().await;
    client.send(get("/stream") + &get("/")).await;
    must(bench.app.entered()).await;
    settle().await;

    bench.enter(Phase::LastLook);
    settle().await;
    bench.app.release();

    client.reply().await.expect("firstlast", false);
    client.reply().await.expect("hello", true);
    client.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_limit_on_heads_holds_after_it() {
    let bench = Bench::new();
    let (mut client, outcome) = bench.connect_within();
    client.get("/").await;
    client.reply().await.expect("hello", false);
    client.send("GET").await;
    settle().await;

    bench.enter(Phase::LastLook);
    let start = Instant::now();
    let error = must(outcome).await.unwrap().unwrap_err();

    assert!(error.to_string().contains("30s"), "{error}");
    assert_eq!(start.elapsed(), HEAD_TIMEOUT);
}
