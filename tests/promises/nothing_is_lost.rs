//! Promise 1: nothing is lost.
//!
//! No connection that reached the accept queue, and no request of which a byte was sent, goes
//! unanswered because of a handover.

use handover_tests::load::{Kind, Plan, Report, Request};
use handover_tests::{Identity, Load, Program, Signal, Target, within};
use tokio::net::UdpSocket;

use crate::support::{Fixture, millis, signal};

/// Hands over under load, several times.
async fn hand_over(load: &Load) {
    for _ in 0..HANDOVERS {
        let before = load.progress(1).await;
        let incumbent = before.newest().expect("somebody has answered");
        signal(incumbent, Signal::HUP);
        load.wait_for("an answer of the successor", |report| {
            report
                .newest()
                .is_some_and(|newest| newest.generation > incumbent.generation)
        })
        .await;
    }
    load.progress(1).await;
}

/// Checks that nothing was lost, though every generation has answered.
fn assert_nothing_lost(report: &Report) {
    report.assert_nothing_lost();
    let seen: Vec<u32> = report
        .seen
        .iter()
        .map(|seen| seen.identity.generation)
        .collect();
    let all: Vec<u32> = (1..=HANDOVERS + 1).collect();
    assert_eq!(seen, all, "{report}");
    assert_eq!(
        report.all().closed_idle,
        0,
        "idle connections were closed:\n{report}"
    );
}

/// All kinds of clients, all with pauses that a handover fits into.
fn all_kinds(plan: Plan) -> Plan {
    let plan = plan
        .pause(Kind::Idle, millis(200)..=millis(600))
        .pause(Kind::Silent, millis(0)..=millis(400));
    Kind::ALL
        .into_iter()
        .fold(plan, |plan, kind| plan.clients(kind, 4))
}

#[tokio::test]
async fn by_the_engine_over_tcp_and_a_unix_socket() {
    let fixture = Fixture::new();
    let path = fixture.path("fixture.sock");
    let fixture = fixture.env("FIXTURE_UNIX", format!("unix:{}", path.display()));
    let running = fixture.start().await;
    let tcp = all_kinds(Load::on(running.target.clone())).start();
    let unix = all_kinds(Load::on(path)).start();
    hand_over(&tcp).await;
    unix.progress(1).await;
    assert_nothing_lost(&tcp.stop().await);
    unix.stop().await.assert_nothing_lost();
}

/// Requests that take longer than a handover, and bodies larger than any buffer.
#[tokio::test]
async fn requests_in_progress_are_answered() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    let busy = [Kind::New, Kind::KeepAlive, Kind::ThinkTime];
    let start = |request: Request| {
        let plan = Load::on(running.target.clone()).request(request);
        busy.into_iter()
            .fold(plan, |plan, kind| plan.clients(kind, 2))
            .start()
    };
    let slow = start(Request::get("/slow?300"));
    let body: Vec<u8> = (0..4 << 20).map(|index: u32| (index % 251) as u8).collect();
    let large = start(Request::echo("/echo", body));
    hand_over(&slow).await;
    large.progress(1).await;
    assert_nothing_lost(&slow.stop().await);
    large.stop().await.assert_nothing_lost();
}

/// A connection that nobody has accepted yet belongs to whoever serves next.
#[tokio::test]
async fn what_waits_in_the_queue_is_answered() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    let incumbent = running.identity().await;
    // While it is stopped, the clients connect and ask, and only the kernel answers.
    signal(incumbent, Signal::STOP);
    let load = Load::on(running.target.clone())
        .clients(Kind::New, 200)
        .start();
    load.wait_for("200 connections", |report| report.all().connections == 200)
        .await;
    signal(incumbent, Signal::HUP);
    signal(incumbent, Signal::CONT);
    load.wait_for("an answer of the successor", |report| {
        report.generation(2).is_some()
    })
    .await;
    load.stop().await.assert_nothing_lost();
}

/// The `axum` example, with all that it can do.
#[tokio::test]
async fn by_axum() {
    let service = Program::new(env!("CARGO_BIN_EXE_example-axum"))
        .arg("127.0.0.1:0")
        .start()
        .expect("a program that can be started");
    let target = service.listening(1).await.swap_remove(0);
    let busy = |request: Request| {
        let plan = Load::on(target.clone()).request(request);
        let kinds = [Kind::New, Kind::KeepAlive, Kind::ThinkTime];
        kinds
            .into_iter()
            .fold(plan, |plan, kind| plan.clients(kind, 2))
            .start()
    };
    let short = all_kinds(Load::on(target.clone())).start();
    let slow = busy(Request::get("/slow?ms=300"));
    let stream = busy(Request::get("/stream?chunks=10&ms=30"));
    let large = busy(Request::echo("/echo", vec![b'x'; 4 << 20]));
    hand_over(&short).await;
    let report = short.stop().await;
    assert_nothing_lost(&report);
    for load in [slow, stream, large] {
        load.progress(1).await;
        load.stop().await.assert_nothing_lost();
    }
}

/// The `axum` example on a Unix socket.
#[tokio::test]
async fn by_axum_over_a_unix_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("axum.sock");
    let service = Program::new(env!("CARGO_BIN_EXE_example-axum"))
        .arg(format!("unix:{}", path.display()))
        .start()
        .expect("a program that can be started");
    let target = service.listening(1).await.swap_remove(0);
    let load = all_kinds(Load::on(target)).start();
    hand_over(&load).await;
    assert_nothing_lost(&load.stop().await);
}

/// The `echo` example, over both of its sockets.
#[tokio::test]
async fn by_the_echo_example() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let service = Program::new(env!("CARGO_BIN_EXE_example-echo"))
        .arg("127.0.0.1:0")
        .arg(&path)
        .start()
        .expect("a program that can be started");
    let targets = service.listening(2).await;
    let tcp = targets
        .iter()
        .find(|target| matches!(target, Target::Tcp(_)))
        .expect("TCP");
    let lines = |target: Target| all_kinds(Load::on(target).lines()).start();
    let (tcp, unix) = (lines(tcp.clone()), lines(Target::Unix(path)));
    hand_over(&tcp).await;
    unix.progress(1).await;
    assert_nothing_lost(&tcp.stop().await);
    unix.stop().await.assert_nothing_lost();
}

/// Each datagram that a client sends is answered by one of the generations.
#[tokio::test]
async fn datagrams_are_answered() {
    let fixture = Fixture::new().env("FIXTURE_UDP", "dns=udp:127.0.0.1:0");
    let running = fixture.start().await;
    let line = running.service.output().find("datagrams on ").await.text;
    let address = line.rsplit(' ').next().expect("a last word").to_owned();
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    client.connect(&address).await.expect("an address");
    let ask = async || {
        let mut buffer = [0; 128];
        client.send(b"who?").await.expect("the socket is connected");
        let length = within("an answer to a datagram", client.recv(&mut buffer)).await;
        let answer = String::from_utf8_lossy(&buffer[..length.expect("an answer")]).into_owned();
        Identity::parse(&answer).expect("an identity")
    };
    let mut incumbent = ask().await;
    for _ in 0..HANDOVERS {
        signal(incumbent, Signal::HUP);
        let before = incumbent;
        while incumbent == before {
            incumbent = ask().await;
        }
        assert_eq!(incumbent.generation, before.generation + 1);
    }
}

const HANDOVERS: u32 = 10;
