//! An upgraded connection is the application's, and counts until the application drops it.

use std::future::Future;

use futures::FutureExt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Bench, must};
use crate::serve::phase::Phase;

const UPGRADE: &str =
    "GET /upgrade HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n";

#[tokio::test]
async fn an_upgraded_connection_counts_until_it_is_dropped() {
    for phase in [Phase::Serving, Phase::Draining] {
        let bench = Bench::new();
        bench.enter(phase);
        let (mut client, outcome) = bench.connect().await;

        client.send(format!("{UPGRADE}early ")).await;
        let head = client.read_until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("\r\nconnection: upgrade\r\n"), "{head}");
        must(outcome).await.unwrap().unwrap();
        let mut upgraded = TokioIo::new(must(bench.app.upgraded()).await);
        bench.server.close();
        bench.enter(Phase::LastLook);
        assert!(is_pending(bench.server.ended()));

        client.send("bird").await;
        let mut read = [0; 10];
        upgraded.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"early bird");
        upgraded.write_all(b"worm").await.unwrap();
        upgraded.shutdown().await.unwrap();
        client.send("half-closed").await;
        assert_eq!(client.exactly(4).await, "worm");
        client.end().await.unwrap();
        let mut read = [0; 11];
        upgraded.read_exact(&mut read).await.unwrap();
        assert!(is_pending(bench.server.ended()));

        drop(upgraded);
        must(bench.server.ended()).await;
    }
}

fn is_pending(future: impl Future<Output = ()>) -> bool {
    future.now_or_never().is_none()
}
