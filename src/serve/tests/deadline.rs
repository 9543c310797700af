//! The deadline: what is left ends, whatever it does.

use std::time::Duration;

use tokio::{sync::oneshot, time::timeout};

use super::{Bench, client::get, must, settle};
use crate::serve::phase::Phase;

#[tokio::test]
async fn nothing_outlives_the_deadline() {
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = "\0\0\0\x04\0\0\0\0\0";
    for sent in [
        "",
        "GE",
        "GET / HTTP/1.1\r\n",
        &get("/hold"),
        &get("/stream"),
        "POST /length HTTP/1.1\r\ncontent-length: 5\r\n\r\n",
        "PRI * HT",
        preface,
        &format!("{preface}{settings}"),
        &format!("{preface}{settings}\0\0"),
    ] {
        for phase in [Phase::Serving, Phase::Draining, Phase::LastLook] {
            let bench = Bench::new();
            let (mut client, outcome) = bench.connect().await;
            client.send(sent).await;
            settle().await;
            bench.enter(phase);
            settle().await;

            bench.enter(Phase::Aborting);

            // Nothing here waits for a clock; the limit only keeps a failure from hanging.
            timeout(Duration::from_secs(10), outcome)
                .await
                .unwrap_or_else(|_| panic!("{sent:?} in {phase:?}"))
                .unwrap()
                .unwrap();
            bench.server.close();
            must(bench.server.ended()).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_followed_step_by_step() {
    let bench = Bench::new();
    let (draining, when_draining) = oneshot::channel::<()>();
    let (last_look, when_last_look) = oneshot::channel::<()>();
    let (aborting, when_aborting) = oneshot::channel::<()>();
    let server = std::sync::Arc::clone(&bench.server);
    let following = tokio::spawn(async move {
        server
            .follow(
                async { when_draining.await.unwrap() },
                async { when_last_look.await.unwrap() },
                async { when_aborting.await.unwrap() },
            )
            .await;
    });

    for (step, phase) in [
        (draining, Phase::Draining),
        (last_look, Phase::LastLook),
        (aborting, Phase::Aborting),
    ] {
        settle().await;
        assert!(bench.server.phases().now() < phase);
        step.send(()).unwrap();
        settle().await;
        assert_eq!(bench.server.phases().now(), phase);
    }
    must(following).await.unwrap();
}

#[tokio::test]
async fn following_ends_with_the_last_connection() {
    let bench = Bench::new();
    let (mut client, _outcome) = bench.connect().await;
    let server = std::sync::Arc::clone(&bench.server);
    let following = tokio::spawn(async move {
        let never = std::future::pending;
        server
            .follow(std::future::ready(()), never(), never())
            .await;
    });
    bench.server.close();
    settle().await;
    assert!(!following.is_finished());

    client.get("/").await;
    client.reply().await.expect("hello", true);
    drop(client);

    must(following).await.unwrap();
}
