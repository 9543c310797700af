//! Every server drains: what is in progress is finished, and a drain never hangs, whoever is at the other end.

use std::fmt::Display;

use handover_tests::load::{Kind, Protocol, Request};
use handover_tests::{Exit, Load, Program, Signal, Target, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::pool_load::pool_load;
use crate::support::{Running, all};

/// Clients that hold a connection and finish nothing are gone at the deadline of a stop, and so is the service.
#[tokio::test]
async fn a_stop_never_hangs() {
    drains(Signal::TERM).await;
}

/// In a handover they are gone from their generation, which ends by itself, before its successor would kill it. Some
/// of them have moved; they are gone with the successor.
#[tokio::test]
async fn a_handover_never_hangs() {
    drains(Signal::HUP).await;
}

async fn drains(by: Signal) {
    all(SERVERS, async |server| {
        let running = start(server, 1_500).await;
        let mut holding = Vec::new();
        for (what, bytes) in HALF_OPEN {
            let stream = within("a connection", TcpStream::connect(tcp(&running.target))).await;
            let mut stream = stream.expect("somebody listens");
            stream.write_all(bytes).await.expect("it is open");
            holding.push((what, stream));
        }
        // They are accepted in their order, so those before this one have been.
        match server.contains("tonic") {
            true => http2_is_spoken(&running.target).await,
            false => drop(Client::connect(&running.target).await.ask("/").await),
        }
        let first = running.service.first();
        first.signal(by).expect("it serves");

        assert_eq!(first.exited().await, Exit::Code(0), "{server}");
        running.service.stop().await;
        for (what, mut stream) in holding {
            let what = format!("the end of a connection with {what}, by {server}");
            ended(what, &mut stream).await;
        }
    })
    .await;
}

/// A client that has sent half a request head is answered when it sends the rest: in the drain, or by the successor.
#[tokio::test]
async fn half_a_request_may_be_finished_in_the_drain() {
    for server in ["handover-axum", "handover-hyper"] {
        let running = start(server, 30_000).await;
        let mut slow = Client::connect(&running.target).await;
        slow.send_raw(b"GET / HTTP/1.1\r\nho").await;
        Client::connect(&running.target).await.ask("/").await;
        hand_over(&running).await;
        slow.send_raw(b"st: fixture\r\n\r\n").await;
        slow.answer().await;
    }
}

/// Any service of hyper is served by ours as axum's are.
#[tokio::test]
async fn a_service_of_hyper_loses_nothing() {
    let running = start("handover-hyper", 30_000).await;
    let busy = [Kind::New, Kind::KeepAlive, Kind::ThinkTime];
    let plan = Load::on(running.target.clone());
    let load = busy
        .into_iter()
        .fold(plan, |plan, kind| plan.clients(kind, 2))
        .start();
    let mut incumbent = running.identity().await;
    for _ in 0..HANDOVERS {
        incumbent = running.hand_over(incumbent).await;
        load.progress(1).await;
        if let Some(old @ 1..) = incumbent.generation.checked_sub(3) {
            running.ended(old).await;
        }
    }
    load.stop().await.assert_nothing_lost();
}

/// 100 streams on each of 20 connections: each connection is left with a GOAWAY, and no stream fails.
#[tokio::test]
async fn http2_is_left_with_a_goaway_only() {
    let running = example().await;
    let load = Load::on(running.target.clone())
        .speak(Protocol::Http2(Request::get("/"), 100))
        .clients(Kind::KeepAlive, 20)
        .start();
    let mut incumbent = running.identity().await;
    for _ in 0..HANDOVERS {
        load.progress(1).await;
        incumbent = running.hand_over(incumbent).await;
        // Of those that drain at once the oldest is cut when there are too many.
        if let Some(old @ 1..) = incumbent.generation.checked_sub(2) {
            running.ended(old).await;
        }
    }
    load.progress(20 * 100).await;
    let report = load.stop().await;
    report.assert_nothing_lost();
    let all = report.all();
    assert!(
        all.closed_announced > 20,
        "no connection was left:\n{report}"
    );
    assert_eq!(all.closed_idle, 0, "without a GOAWAY:\n{report}");
}

/// reqwest, which has a pool of idle connections.
#[tokio::test]
async fn a_client_with_a_pool_loses_nothing() {
    let running = example().await;
    let load = pool_load(tcp(&running.target), 8);
    load.hand_over(&running, HANDOVERS).await;
    let report = load.stop().await;
    assert_eq!(report.failures, Vec::<String>::new());
    assert!(report.answered > u64::from(HANDOVERS), "{report:?}");
}

async fn example() -> Running {
    serving(Program::new(env!("CARGO_BIN_EXE_example-axum")).arg("127.0.0.1:0")).await
}

/// Starts a server of the fixture, which has so many milliseconds to drain.
async fn start(server: &str, drain: u32) -> Running {
    let program = Program::new(env!("CARGO_BIN_EXE_any-server"))
        .args([server, "multi_thread"])
        .env("ANY_SERVER_DRAIN", drain.to_string());
    let running = serving(program).await;
    running.service.output().find("generation=1 serves").await;
    running
}

async fn serving(program: Program) -> Running {
    let service = program.start().expect("a program that can be started");
    let target = service.listening(1).await.swap_remove(0);
    Running { service, target }
}

async fn hand_over(running: &Running) {
    running
        .service
        .first()
        .signal(Signal::HUP)
        .expect("it serves");
    let drains = "draining phase=draining generation=1";
    running.service.output().find(drains).await;
}

fn tcp(target: &Target) -> std::net::SocketAddr {
    match target {
        Target::Tcp(address) => *address,
        other => panic!("{other} is not TCP"),
    }
}

/// Waits until the server has read the client's settings and said its own.
async fn http2_is_spoken(target: &Target) {
    let stream = within("a connection", TcpStream::connect(tcp(target))).await;
    let mut stream = stream.expect("somebody listens");
    stream
        .write_all(PREFACE_AND_SETTINGS)
        .await
        .expect("it is open");
    let mut frame = [0; 9];
    let read = within("settings", stream.read_exact(&mut frame)).await;
    read.expect("a frame");
}

/// Reads to the end of a connection, be it orderly or not.
async fn ended(what: impl Display, stream: &mut TcpStream) {
    let mut rest = Vec::new();
    within(what, stream.read_to_end(&mut rest)).await.ok();
}

const SERVERS: [&str; 7] = [
    "axum",
    "axum-graceful",
    "hyper",
    "tonic",
    "handover-axum",
    "handover-hyper",
    "handover-tonic",
];

const HALF_OPEN: [(&str, &[u8]); 6] = [
    ("nothing", b""),
    ("one byte", b"G"),
    ("half a request head", b"GET / HTTP/1.1\r\nho"),
    (
        "half a request body",
        b"POST / HTTP/1.1\r\nhost: fixture\r\ncontent-length: 10\r\n\r\n12345",
    ),
    ("half an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\n"),
    ("SETTINGS and nothing more", PREFACE_AND_SETTINGS),
];

/// RFC 9113, section 3.4, and an empty SETTINGS frame.
const PREFACE_AND_SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const HANDOVERS: u32 = 50;
