//! Promise 3: a successor accepts nothing before commit, and does nothing that cannot be undone.

use std::fs;
use std::os::unix::fs::MetadataExt;

use handover_tests::load::{Kind, Request, ask};
use handover_tests::{Load, Process, Signal, Target};

use crate::support::{Fixture, signal};

/// A successor that is as far as it can get without a commit leaves everything to the incumbent.
#[tokio::test]
async fn a_successor_accepts_nothing_before_commit() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    let incumbent = running.identity().await;
    for stage in ["start", "init", "ready"] {
        fixture.set_faults(&format!("{stage}:wait"));
        signal(incumbent, Signal::HUP);
        let successor = fixture.waiting().await;
        // While the incumbent is stopped, the successor is the only one that could accept.
        signal(incumbent, Signal::STOP);
        let load = Load::on(running.target.clone())
            .clients(Kind::New, 50)
            .clients(Kind::Silent, 50)
            .start();
        load.wait_for("100 connections", |report| report.all().connections == 100)
            .await;
        fixture.set_faults("");
        successor.kill();
        signal(incumbent, Signal::CONT);
        let report = load.progress(1).await;
        assert_eq!(report.newest(), Some(incumbent), "{stage}");
        load.stop().await.assert_nothing_lost();
    }
}

/// What a successor that fails might have destroyed is as it was: paths, the pid file, endpoints
/// that it does not know.
#[tokio::test]
async fn a_successor_that_fails_has_destroyed_nothing() {
    let fixture = Fixture::new();
    let (socket, pid_file) = (fixture.path("fixture.sock"), fixture.path("pid"));
    let fixture = fixture
        .env("FIXTURE_UNIX", format!("unix:{}", socket.display()))
        .env("FIXTURE_PID_FILE", &pid_file);
    let running = fixture.start().await;
    let incumbent = running.identity().await;
    let bind = Request::post("/bind", "late=127.0.0.1:0");
    let late = ask(&running.target, &bind)
        .await
        .expect("an endpoint that can be bound");
    let late = String::from_utf8_lossy(&late.body)
        .parse()
        .expect("an address");
    let targets = [
        running.target.clone(),
        Target::Unix(socket.clone()),
        Target::Tcp(late),
    ];

    let inode = || {
        fs::symlink_metadata(&socket)
            .map(|metadata| metadata.ino())
            .expect("a path")
    };
    let before = inode();
    let untouched = async |when: &str| {
        assert_eq!(inode(), before, "{when}");
        let pid = fs::read_to_string(&pid_file).expect("a pid file");
        assert_eq!(pid.trim(), incumbent.pid.to_string(), "{when}");
        for target in &targets {
            assert_eq!(
                running.service.identity(target).await,
                incumbent,
                "{target}, {when}"
            );
        }
    };
    running.service.output().find("active").await;
    untouched("at first").await;
    for stage in ["start", "init", "ready"] {
        fixture.set_faults(&format!("{stage}:wait"));
        let from = running.service.output().len();
        signal(incumbent, Signal::HUP);
        let successor = fixture.waiting().await;
        untouched(&format!("while the successor is at {stage}")).await;
        successor.kill();
        running
            .service
            .output()
            .find_from(from, "handover failed")
            .await;
        untouched(&format!("after the death of the successor at {stage}")).await;
    }

    // And the endpoint that no successor claims goes with the generation that has bound it.
    fixture.set_faults("");
    let predecessor = Process::open(incumbent.pid).expect("it serves");
    running.hand_over(incumbent).await;
    predecessor.exited().await;
    assert_eq!(inode(), before);
    running.service.identity(&Target::Unix(socket)).await;
}
