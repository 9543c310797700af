//! While draining: what is there is finished, and the end of each connection is announced.

use super::{
    Bench,
    client::{get, post},
    must, settle,
};
use crate::serve::phase::Phase;

#[tokio::test]
async fn a_silent_connection_gets_its_first_request_answered() {
    for first in ["", "GE"] {
        let bench = Bench::new();
        let (mut client, outcome) = bench.connect().await;
        client.send(first).await;
        settle().await;

        bench.enter(Phase::Draining);
        settle().await;
        client.send(&get("/")[first.len()..]).await;

        client.reply().await.expect("hello", true);
        client.end().await.unwrap();
        drop(client);
        must(outcome).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_connection_accepted_in_the_drain_gets_its_first_request_answered() {
    let bench = Bench::new();
    bench.enter(Phase::Draining);
    let (mut client, _outcome) = bench.connect().await;

    client.get("/").await;

    client.reply().await.expect("hello", true);
    client.end().await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_stays_and_its_next_response_announces_the_end() {
    let bench = Bench::new();
    let (mut client, outcome) = bench.connect().await;
    client.get("/").await;
    client.reply().await.expect("hello", false);

    bench.enter(Phase::Draining);
    settle().await;
    assert!(!outcome.is_finished());
    client.get("/").await;

    client.reply().await.expect("hello", true);
    client.end().await.unwrap();
}

#[tokio::test]
async fn a_request_in_progress_is_completed_and_announces_the_end() {
    let bench = Bench::new();
    let (mut client, _outcome) = bench.connect().await;
    client.get("/hold").await;
    must(bench.app.entered()).await;

    bench.enter(Phase::Draining);
    settle().await;
    bench.app.release();

    client.reply().await.expect("held", true);
    client.end().await.unwrap();
}

#[tokio::test]
async fn a_response_whose_head_is_out_is_completed_and_the_next_one_announces_the_end() {
    let bench = Bench::new();
    let (mut client, outcome) = bench.connect().await;
    client.get("/stream").await;
    must(bench.app.entered()).await;
    settle().await;

    bench.enter(Phase::Draining);
    settle().await;
    bench.app.release();

    client.reply().await.expect("firstlast", false);
    settle().await;
    assert!(!outcome.is_finished());
    client.get("/").await;
    client.reply().await.expect("hello", true);
    client.end().await.unwrap();
}

#[tokio::test]
async fn an_upload_in_progress_is_completed() {
    const PART: usize = 1024 * 1024;
    const PARTS: usize = 20;

    let bench = Bench::new();
    let (mut client, _outcome) = bench.connect().await;
    client.send(post("/length", PARTS * PART)).await;
    must(bench.app.entered()).await;

    for part in 0..PARTS {
        if part == PARTS / 2 {
            bench.enter(Phase::Draining);
        }
        client.send(vec![b'x'; PART]).await;
    }

    client
        .reply()
        .await
        .expect(&(PARTS * PART).to_string(), true);
    client.end().await.unwrap();
}

#[tokio::test]
async fn older_clients_are_told_as_well() {
    for request in [
        "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n",
    ] {
        let bench = Bench::new();
        bench.enter(Phase::Draining);
        let (mut client, _outcome) = bench.connect().await;

        client.send(request).await;

        let reply = client.reply().await;
        assert!(reply.announces_close(), "{reply:?}");
        assert!(!reply.head.contains("keep-alive"), "{reply:?}");
        client.end().await.unwrap();
    }
}
