//! The prover, proven: it finds nothing where nothing is lost, and finds it where something is.

use std::time::Duration;

use handover_tests::load::{Cause, Counts};
use handover_tests::verify::{Ending, Moment, Outcome, Usage, Verify};
use handover_tests::verify::{Kill, Trigger, Victim};
use handover_tests::{LIMIT, Program, Signal};

const AXUM: &str = env!("CARGO_BIN_EXE_example-axum");
const ECHO: &str = env!("CARGO_BIN_EXE_example-echo");
const BROKEN: &str = env!("CARGO_BIN_EXE_broken");

/// HTTP/1.1 in every way, HTTP/2 and WebSockets, through fifty handovers.
#[tokio::test]
async fn axum_loses_nothing_in_fifty_handovers() {
    let outcome = verify(axum("127.0.0.1:0"), 50).await;
    outcome.assert_nothing_lost();
    let protocols: Vec<&str> = outcome.rows.iter().map(|row| row.protocol).collect();
    for (protocol, count) in [("HTTP/1.1", 5), ("HTTP/2", 2), ("WebSocket", 1)] {
        let found = protocols.iter().filter(|found| **found == protocol).count();
        assert_eq!(found, count, "{protocol}: {protocols:?}");
    }
    let http1 = sum(&outcome, "HTTP/1.1");
    assert!(http1.migrated > 0, "{http1:?}");
    assert_eq!(
        (http1.closed_idle, http1.closed_announced),
        (0, 0),
        "{http1:?}"
    );
    for protocol in ["HTTP/2", "WebSocket"] {
        let counts = sum(&outcome, protocol);
        assert!(counts.closed_announced > 0, "{protocol}: {counts:?}");
        assert_eq!(
            (counts.closed_idle, counts.refused),
            (0, 0),
            "{protocol}: {counts:?}"
        );
    }
    assert_eq!(
        (outcome.after.processes, outcome.left_over.len()),
        (1, 0),
        "{outcome:?}"
    );
    assert!(
        outcome.after.descriptors <= outcome.before.descriptors + 2,
        "{outcome:?}"
    );
    assert!(http1.during.count() > 0 && http1.outside.count() > 0);
}

/// Lines over TCP and a Unix socket, where connections are greeted once, through fifty handovers.
#[tokio::test]
async fn echo_loses_nothing_in_fifty_handovers() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = Program::new(ECHO)
        .arg("127.0.0.1:0")
        .arg(directory.path().join("echo.sock"));
    let outcome = verify(program, 50).await;
    outcome.assert_nothing_lost();
    assert_eq!(
        outcome.rows.len(),
        8,
        "four ways on two sockets: {outcome:?}"
    );
    let lines = sum(&outcome, "lines");
    assert!(lines.migrated > 0, "{lines:?}");
}

#[tokio::test]
async fn connections_that_are_closed_at_a_restart_are_found() {
    let outcome = hunt("closes").await;
    let all = outcome.all();
    assert!(all.failed() > 0, "{outcome:#?}");
    assert!(all.closed_idle > 0, "{outcome:#?}");
    assert!(!outcome.is_clean(0));
    assert!(
        outcome.is_clean(all.failed()),
        "all handovers came out: {outcome:#?}"
    );
}

#[tokio::test]
async fn a_listener_that_is_gone_for_a_moment_is_found() {
    let outcome = hunt("rebinds").await;
    assert!(
        outcome.all().failed.contains_key(&Cause::Refused),
        "{outcome:#?}"
    );
    assert!(!outcome.is_clean(0));
}

#[tokio::test]
async fn a_new_version_that_crashes_is_found() {
    let outcome = verify(broken("crashes"), 1).await;
    assert_eq!(outcome.failed(), 0, "{outcome:#?}");
    assert!(!outcome.is_clean(0), "{outcome:#?}");
    let Ending::Failed { why } = &outcome.handovers[0].ending else {
        panic!("{outcome:#?}");
    };
    assert!(why.contains("the new version is broken"), "{why}");
}

#[tokio::test]
async fn a_service_that_a_signal_would_only_end_is_left_alone() {
    let outcome = verify(broken("deaf"), 3).await;
    assert_eq!(
        (outcome.failed(), outcome.handovers.len()),
        (0, 1),
        "{outcome:#?}"
    );
    let why = outcome.ended_early.as_deref().expect("it cannot go on");
    assert!(why.contains("has no handler for SIGHUP"), "{why}");
}

/// A successor that is killed while it starts costs nothing.
#[tokio::test]
async fn a_killed_successor_costs_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let faults = directory.path().join("faults");
    let kill = Kill {
        victim: Victim::Successor,
        moment: Moment::After(Duration::ZERO),
    };
    let program = Program::new(env!("CARGO_BIN_EXE_fixture")).env("FIXTURE_FAULTS", &faults);
    let session = plan(program, 0).kill(kill).start().await;
    let mut session = session.expect("it can be verified");
    std::fs::write(&faults, "init:hang").expect("a file");
    for _ in 0..5 {
        session.pause().await;
        session.hand_over().await;
    }
    let outcome = session.finish().await.expect("it can be verified");
    outcome.assert_nothing_lost();
    assert_eq!(survivals(&outcome), 5, "{outcome:#?}");
    assert_eq!(outcome.all().cut, 0, "it had no connections: {outcome:#?}");
}

/// When the incumbent is killed, at whatever moment, its successor serves.
#[tokio::test]
async fn a_killed_incumbent_is_survived() {
    let kill = Kill {
        victim: Victim::Incumbent,
        moment: Moment::Random,
    };
    // One that is killed before it could offer its sockets leaves its successor nothing but the address.
    let address = format!("127.0.0.1:{}", free_port());
    let outcome = plan(axum(&address), 10).kill(kill).run().await;
    let outcome = outcome.expect("it can be verified");
    assert_eq!(outcome.succeeded(), 10, "{outcome:#?}");
    assert!(survivals(&outcome) > 0, "{outcome:#?}");
}

fn survivals(outcome: &Outcome) -> usize {
    let survived = |ending: &Ending| matches!(ending, Ending::Survived { .. });
    let handovers = outcome.handovers.iter();
    handovers
        .filter(|handover| survived(&handover.ending))
        .count()
}

/// A control socket is found, asked, and not loaded; and what it says of a failure is told.
#[tokio::test]
async fn a_service_is_restarted_by_its_control_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let faults = directory.path().join("faults");
    let control = directory.path().join("control.sock");
    let program = Program::new(env!("CARGO_BIN_EXE_fixture"))
        .env("FIXTURE_CONTROL", format!("unix:{}", control.display()))
        .env("FIXTURE_FAULTS", &faults);
    let plan = plan(program, 0).usages([Usage::New, Usage::KeepAlive]);
    let mut session = plan.start().await.expect("it can be verified");
    for _ in 0..2 {
        session.pause().await;
        session.hand_over().await;
    }
    std::fs::write(&faults, "init:error").expect("a file");
    assert!(session.hand_over().await, "the next may come out");
    assert!(session.reject().await);
    std::fs::remove_file(&faults).expect("the file");
    session.hand_over().await;
    session.pause().await;
    let outcome = session.finish().await.expect("it can be verified");
    let socket = format!("unix:{}", control.display());
    assert_eq!(
        outcome.trigger,
        format!("`upgrade` on the control socket {socket}")
    );
    let grounds: Vec<String> = outcome.grounds.iter().map(ToString::to_string).collect();
    assert!(
        !grounds.is_empty() && grounds.iter().all(|ground| !ground.contains(&socket)),
        "{grounds:?}"
    );
    assert_eq!((outcome.failed(), outcome.handovers.len()), (0, 5));
    assert_eq!(outcome.succeeded(), 4, "{outcome:#?}");
    let Ending::Failed { why } = &outcome.handovers[2].ending else {
        panic!("{outcome:#?}");
    };
    assert!(why.contains("failed at stage `init`"), "{why}");
}

/// A control socket that is asked for has to be there; by default there need not be one.
#[tokio::test]
async fn a_service_without_a_control_socket_is_restarted_by_a_signal() {
    let error = plan(axum("127.0.0.1:0"), 1).trigger(Trigger::Control);
    let error = error.run().await.expect_err("there is none").to_string();
    assert!(error.contains("has no control socket"), "{error}");
    // That of another service is none of this one.
    let outcome = plan(axum("127.0.0.1:0"), 1)
        .control(std::path::PathBuf::from("/nonexistent"))
        .usages([Usage::New])
        .run()
        .await;
    let outcome = outcome.expect("it can be verified");
    outcome.assert_nothing_lost();
    assert_eq!(outcome.trigger, "SIGHUP");
}

/// A shell command can be the trigger, and gets the process that serves.
#[tokio::test]
async fn a_command_restarts_it() {
    let trigger = Trigger::Command("kill -HUP {pid}".to_owned());
    let outcome = plan(axum("127.0.0.1:0"), 3)
        .trigger(trigger)
        .usages([Usage::New])
        .run()
        .await;
    outcome.expect("it can be verified").assert_nothing_lost();
}

/// Of a master and its workers the master is asked; without our help nothing of the rest is known.
#[tokio::test]
async fn masters_of_others_are_restarted() {
    let directory = tempfile::tempdir().expect("a directory");
    let port = free_port();
    let config = format!(
        "global\n  stats socket unix@{path}/stats.sock level admin expose-fd listeners\n\
         defaults\n  mode http\n  timeout client 10s\n  timeout server 10s\n  timeout connect 1s\n\
         frontend web\n  bind 127.0.0.1:{port}\n  http-request return status 200\n",
        path = directory.path().display()
    );
    let file = directory.path().join("haproxy.cfg");
    std::fs::write(&file, config).expect("a file");
    let program = Program::new("haproxy").args(["-W", "-f"]).arg(&file);
    let trigger = Trigger::Signal(Signal::USR2);
    let outcome = plan(program, 2)
        .trigger(trigger)
        .usages([Usage::New])
        .run()
        .await;
    outcome.expect("it can be verified").assert_nothing_lost();

    let config = format!(
        "pid {path}/nginx.pid; error_log stderr; events {{}}\n\
         http {{ access_log off; client_body_temp_path {path}/b; proxy_temp_path {path}/p; \
         fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;\n\
         server {{ listen 127.0.0.1:{port}; location / {{ return 200 hello; }} }} }}\n",
        path = directory.path().display()
    );
    let file = directory.path().join("nginx.conf");
    std::fs::write(&file, config).expect("a file");
    let program = Program::new("nginx")
        .arg("-c")
        .arg(&file)
        .args(["-g", "daemon off;"]);
    let outcome = plan(program, 2).usages([Usage::New]).run().await;
    outcome.expect("it can be verified").assert_nothing_lost();
}

/// Clients that are busy all the time meet what is only there for a moment.
async fn hunt(what: &str) -> Outcome {
    let plan = Verify::new(broken(what)).clients(4).handovers(10);
    let millis = Duration::from_millis;
    let outcome = plan.pause(millis(20)..=millis(100)).run().await;
    outcome.expect("it can be verified")
}

async fn verify(program: Program, handovers: usize) -> Outcome {
    let outcome = plan(program, handovers).run().await;
    outcome.expect("it can be verified")
}

/// Short pauses, and rates that leave the machine to the service.
fn plan(program: Program, handovers: usize) -> Verify {
    let millis = Duration::from_millis;
    Verify::new(program)
        .clients(2)
        .rate(200)
        .handovers(handovers)
        .pause(millis(20)..=millis(100))
        .timeout(LIMIT)
}

fn axum(address: &str) -> Program {
    Program::new(AXUM).arg(address).env("RUST_BACKTRACE", "0")
}

fn broken(what: &str) -> Program {
    Program::new(BROKEN).args([what, "127.0.0.1:0"])
}

fn sum(outcome: &Outcome, protocol: &str) -> Counts {
    let mut counts = Counts::default();
    for row in outcome.rows.iter().filter(|row| row.protocol == protocol) {
        counts.add(&row.counts);
    }
    counts
}

/// One that was free just now, for programs that cannot be given port 0.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
