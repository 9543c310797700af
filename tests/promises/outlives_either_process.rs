//! Promise 6: the service outlives either process.
//!
//! Killing the incumbent or the successor at any instant leaves one of them serving, on the same
//! sockets. (The successor's deaths before the commit are those of promise 2.)

use std::hash::{BuildHasher, RandomState};

use handover_tests::load::{Cause, Kind, Report, Request, ask};
use handover_tests::{Exit, Line, Load, Process, Signal, eventually, within};

use crate::client::Client;
use crate::support::{Fixture, signal};

/// The incumbent dies while the successor gets ready: the successor carries on, and answers all
/// that has waited in the queue.
#[tokio::test]
async fn an_orphan_that_becomes_ready_serves() {
    for stage in ["start", "init", "ready"] {
        let fixture = Fixture::new();
        let running = fixture.start().await;
        let incumbent = running.identity().await;
        fixture.set_faults(&format!("{stage}:wait"));
        signal(incumbent, Signal::HUP);
        let successor = fixture.waiting().await;
        let process = Process::open(incumbent.pid).expect("it serves");
        process.kill();
        assert_eq!(process.exited().await, Exit::Signal(9));

        let load = Load::on(running.target.clone())
            .clients(Kind::New, 20)
            .clients(Kind::Silent, 20)
            .start();
        load.wait_for("40 connections", |report| report.all().connections == 40)
            .await;
        fixture.set_faults("");
        let pid = successor.pid();
        successor.go();
        let report = load.progress(1).await;
        assert_eq!(
            report.newest().map(|newest| newest.pid),
            Some(pid),
            "{stage}"
        );
        let told = "the predecessor has died: this generation carries on without it";
        running.service.output().find(told).await;
        // The orphan is an incumbent like any other.
        let newest = report.newest().expect("it was just compared");
        running.hand_over(newest).await;
        load.progress(1).await;
        load.stop().await.assert_nothing_lost();
    }
}

/// The incumbent dies while the successor waits for it to forward what it writes to its standard error.
#[tokio::test]
async fn an_orphan_that_has_much_to_say_serves() {
    let levels = ["none", "info", "info,handover=trace"];
    for (flavor, level) in ["multi_thread", "current_thread"]
        .into_iter()
        .flat_map(|flavor| levels.map(|level| (flavor, level)))
    {
        let fixture = Fixture::new()
            .env("FIXTURE_FLAVOR", flavor)
            .env("FIXTURE_LOG", level);
        let running = fixture.start().await;
        let incumbent = running.identity().await;
        fixture.set_faults("init:shout");
        let process = Process::open(incumbent.pid).expect("it serves");
        signal(incumbent, Signal::HUP);
        assert_eq!(process.exited().await, Exit::Signal(9));

        fixture.set_faults("");
        let orphan = running.service.generation(&running.target, 2).await;
        running.service.output().find(".shouted").await;
        running.hand_over(orphan).await;
    }
}

/// The incumbent dies when the successor has said that it is ready.
#[tokio::test]
async fn a_ready_orphan_serves_at_once() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    let incumbent = running.identity().await;
    fixture.set_faults("waiting:block");
    let from = running.service.output().len();
    signal(incumbent, Signal::HUP);
    running
        .service
        .output()
        .find_from(from, "waiting: pid=")
        .await;
    let process = Process::open(incumbent.pid).expect("it serves");
    process.kill();
    let successor = running.service.generation(&running.target, 2).await;
    fixture.set_faults("");
    running.hand_over(successor).await;
}

/// The predecessor dies while the successor takes what is exclusive: that goes on, and so does the
/// service.
#[tokio::test]
async fn a_predecessor_that_dies_during_on_active_is_missed_by_nobody() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    // It drains for as long as its request lasts.
    let mut held = Client::holding(&running, "/hang").await;
    let incumbent = running.identity().await;
    fixture.set_faults("active:wait");
    signal(incumbent, Signal::HUP);
    let successor = fixture.waiting().await;
    let load = running.load();
    Process::open(incumbent.pid).expect("it drains").kill();
    held.closed().await;
    fixture.set_faults("");
    let pid = successor.pid();
    successor.go();
    let active = format!("active generation=2 pid={pid}");
    running.service.output().find(&active).await;
    let newest = running.identity().await;
    assert_eq!((newest.generation, newest.pid), (2, pid));
    running.hand_over(newest).await;
    load.progress(1).await;
    load.stop().await.assert_nothing_lost();
}

/// The predecessor dies while it lets go: what is exclusive is free, and `on_active` runs.
#[tokio::test]
async fn a_predecessor_that_dies_in_on_drain_has_let_go() {
    let fixture = Fixture::new();
    let lock = fixture.path("lock");
    let fixture = fixture.env("FIXTURE_LOCK", lock);
    fixture.set_faults("drain:hang@1");
    let running = fixture.start().await;
    let incumbent = running.identity().await;
    running
        .service
        .output()
        .find(&format!("locked by pid={}", incumbent.pid))
        .await;
    let successor = running.hand_over(incumbent).await;
    let output = running.service.output();
    output.find("fault: Hang at Drain").await;
    let locked = format!("locked by pid={}", successor.pid);
    assert!(
        !output.to_string().contains(&locked),
        "it is active before the other has let go"
    );
    Process::open(incumbent.pid).expect("it drains").kill();
    output.find(&locked).await;
}

/// Whichever dies, and whenever: the other one serves. The instants are spread over the whole
/// handover.
#[tokio::test]
async fn death_at_any_instant() {
    // A path and not a port of the kernel's choice: an incumbent that dies before it has offered its
    // sockets leaves nothing but its configuration.
    let fixture = Fixture::new().env("FIXTURE_TCP", "");
    let path = fixture.path("fixture.sock");
    let fixture = fixture.env("FIXTURE_UNIX", format!("unix:{}", path.display()));
    for round in 0..ROUNDS {
        let running = fixture.start().await;
        let incumbent = running.identity().await;
        let process = Process::open(incumbent.pid).expect("it serves");
        let from = running.service.output().len();
        signal(incumbent, Signal::HUP);
        // The instant is measured in questions, each of which takes a part of a millisecond.
        let mut newest = incumbent;
        for _ in 0..round / 2 {
            newest = newest.max(running.identity().await);
        }
        if round % 2 == 0 {
            process.kill();
            // Without a successor there is nobody left to serve, as it has to be.
            process.exited().await;
            if !running.service.processes().is_empty() {
                let identity = within("an answer of the successor", async {
                    loop {
                        // A successor that has to bind anew is not there for a moment.
                        match ask(&running.target, &Request::get("/")).await {
                            Ok(answer) => break answer.identity,
                            Err(_) => tokio::task::yield_now().await,
                        }
                    }
                });
                // The Offer lay in its channel before it was started.
                let identity = identity.await.expect("every answer names its process");
                assert_eq!(identity.generation, 2, "round {round}");
            }
        } else {
            let children = process.children().unwrap_or_default();
            let Some(successor) = children.first().and_then(|pid| Process::open(*pid).ok()) else {
                continue;
            };
            successor.kill();
            successor.exited().await;
            // After the commit it is the incumbent itself that has died.
            let outcome = running
                .service
                .output()
                .wait_for("the end of the handover", |lines| {
                    lines[from..].iter().find_map(|line| {
                        let committed = line.text.contains("handover committed");
                        (committed || line.text.contains("handover failed")).then_some(committed)
                    })
                });
            if outcome.await {
                running.service.ended().await;
            } else {
                eventually("the death of the successor", || {
                    process.children().ok()?.is_empty().then_some(())
                })
                .await;
                assert_eq!(running.identity().await, incumbent, "round {round}");
                running.hand_over(incumbent).await;
            }
        }
    }
}

/// At moments that nobody has chosen, with clients of every kind: a successor that dies before the
/// commit costs nothing at all, and an incumbent what it had accepted; nobody is refused.
#[tokio::test]
async fn random_kills_under_load_cost_no_more_than_the_killed_had() {
    for round in 0..ROUNDS / 2 {
        let fixture = Fixture::new();
        let running = fixture.start().await;
        let incumbent = running.identity().await;
        let process = Process::open(incumbent.pid).expect("it serves");
        let load = running.load();
        load.progress(1).await;
        signal(incumbent, Signal::HUP);
        let successor = eventually("a successor", || {
            Process::open(*process.children().ok()?.first()?).ok()
        })
        .await;
        let questions = RandomState::new().hash_one(round) % 12;
        for _ in 0..questions {
            running.identity().await;
        }
        let context = format!("round {round}, after {questions} questions");
        if round % 2 == 0 {
            process.kill();
            process.exited().await;
            let is_newer = |report: &Report| report.generation(2).is_some();
            load.wait_for("an answer of the successor", is_newer).await;
            load.progress(1).await;
            let report = load.stop().await;
            for failure in &report.failures {
                let cut = matches!(failure.cause, Cause::Reset | Cause::Eof);
                let its_own = failure.last.is_none_or(|last| last == incumbent);
                assert!(cut && its_own, "{context}: {failure}");
            }
        } else {
            successor.kill();
            successor.exited().await;
            let outcome = running.service.output();
            let outcome = outcome.wait_for("the end of the handover", |lines| {
                let ends = ["handover committed", "handover failed"];
                let is_end = |line: &&Line| ends.iter().any(|end| line.text.contains(end));
                lines.iter().find(is_end).map(|line| line.text.clone())
            });
            let outcome = outcome.await;
            // Once it has been told to serve it may have accepted somebody.
            if outcome.contains("handover failed") && !outcome.contains("stage=commit") {
                load.progress(1).await;
                let report = load.stop().await;
                assert!(report.failures.is_empty(), "{context}: {report}");
            }
        }
    }
}

const ROUNDS: u32 = 60;
