//! Before the drain: plain HTTP/1.1, and the limit on heads.

use std::time::Duration;

use tokio::time::{Instant, advance};

use super::{
    Bench, HEAD_TIMEOUT,
    client::{get, post},
    must, settle,
};

#[tokio::test]
async fn connections_are_kept_alive() {
    let bench = Bench::new();
    let (mut client, outcome) = bench.connect().await;

    for _ in 0..3 {
        client.get("/").await;
        client.reply().await.expect("hello", false);
    }
    drop(client);

    must(outcome).await.unwrap().unwrap();
}

#[tokio::test]
async fn pipelined_requests_are_all_answered() {
    let bench = Bench::new();
    let (mut client, _outcome) = bench.connect().await;

    client.send(get("/").repeat(40)).await;

    for _ in 0..40 {
        client.reply().await.expect("hello", false);
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_read() {
    let bench = Bench::new();
    let (mut client, _outcome) = bench.connect_within();

    for byte in post("/length", 3).bytes() {
        client.send([byte]).await;
        settle().await;
    }
    client.send("abc").await;

    client.reply().await.expect("3", false);
}

#[tokio::test(start_paused = true)]
async fn a_partial_first_head_ends_at_its_limit() {
    for head in ["P", "PRI * HTTP/2.0\r\n\r\n", "GET / HTTP/1.1\r\nhost:"] {
        let bench = Bench::new();
        let (mut client, outcome) = bench.connect_within();
        advance(Duration::from_secs(100)).await;
        let start = Instant::now();

        client.send(head).await;
        let error = must(outcome).await.unwrap().unwrap_err();

        assert!(error.to_string().contains("30s"), "{head:?}: {error}");
        assert_eq!(start.elapsed(), HEAD_TIMEOUT, "{head:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_partial_later_head_ends_at_its_limit() {
    let bench = Bench::new();
    let (mut client, outcome) = bench.connect_within();
    client.send(post("/length", 3) + "abc").await;
    client.reply().await.expect("3", false);
    advance(Duration::from_secs(100)).await;
    let start = Instant::now();

    client.send("GET / HT").await;
    settle().await;
    advance(Duration::from_secs(20)).await;
    client.send("TP/1.1\r\n").await;
    let error = must(outcome).await.unwrap().unwrap_err();

    assert!(error.to_string().contains("30s"), "{error}");
    assert_eq!(start.elapsed(), HEAD_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn the_limit_on_heads_leaves_everything_else_alone() {
    const HOUR: Duration = Duration::from_secs(3600);

    let bench = Bench::new();
    let (mut client, _outcome) = bench.connect_within();
    let wait = async || {
        settle().await;
        advance(HOUR).await;
        settle().await;
    };

    wait().await; // silent
    client.get("/").await;
    client.reply().await.expect("hello", false);
    wait().await; // idle
    client.send(post("/length", 6) + "abc").await;
    wait().await; // within the body of a request
    client.send("def").await;
    client.reply().await.expect("6", false);
    client.send(post("/later", 6) + "abc").await;
    client.reply().await.expect("accepted", false);
    client.send("d").await;
    wait().await; // within the body of a request that has its response
    client.send("ef").await;
    must(bench.app.entered()).await;
    client.get("/hold").await;
    wait().await; // within the call
    bench.app.release();
    client.reply().await.expect("held", false);
    client.get("/stream").await;
    client.read_until("first\r\n").await;
    client.send("GET / HTTP/1.1\r\n").await; // a part of the next head, behind an open exchange
    wait().await; // within the body of a response
    bench.app.release();
    client.read_until("0\r\n\r\n").await;
    client.send("host: test\r\n\r\n").await;
    client.reply().await.expect("hello", false);
}

#[tokio::test]
async fn a_panic_in_a_handler_ends_its_connection_only() {
    let bench = Bench::new();
    let (mut client, outcome) = bench.connect().await;
    let (mut other, _outcome) = bench.connect().await;

    client.get("/panic").await;
    client.end().await.unwrap();

    assert!(must(outcome).await.unwrap_err().is_panic());
    other.get("/").await;
    other.reply().await.expect("hello", false);
}
