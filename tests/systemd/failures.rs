//! A reload that fails leaves the unit as it was, and says why.

use handover_tests::Load;

use crate::app::{App, reload_by};
use crate::machine::Machine;

on_each_version! {
    a_failed_reload_changes_nothing_and_says_why,
    a_successor_that_is_killed_changes_nothing,
    a_reload_that_asks_for_the_outcome_fails_with_the_handover,
    what_a_failed_successor_did_is_not_done_by_the_next,
}

async fn a_failed_reload_changes_nothing_and_says_why(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    app.load(&format!(
        "{}\nEnvironment=FIXTURE_READY_TIMEOUT=2000 FIXTURE_COMMIT_TIMEOUT=500",
        reload_by(&machine)
    ))
    .await;
    let mut incumbent = app.start().await;
    let load = app.load_of_every_kind();
    for case in FAILURES {
        load.progress(1).await;
        match case.way {
            Way::Fault(faults) => app.set_faults(faults),
            Way::Program(program) => app.deploy(program),
        }
        let before = machine.journal().len();
        machine.systemctl(["reload", &app.unit()]).await;
        for part in case.reason {
            app.logs(before, part).await;
        }
        let status = app.status(case.reason[0]).await;
        for part in case.reason {
            assert!(status.contains(part), "`{part}` is not in `{status}`");
        }
        let shown = machine.systemctl(["status", "--full", &app.unit()]).await;
        let line = shown
            .lines()
            .find(|line| line.trim().starts_with("Status: "));
        // Who drains may have changed since.
        let is_told = |part: &&str| line.is_some_and(|line| line.contains(*part));
        assert!(case.reason.iter().all(is_told), "{shown}");
        app.assert_serves(incumbent).await;

        app.set_faults("");
        app.deploy(FIXTURE);
        incumbent = app.reload(incumbent).await;
        app.status(&format!("generation {} serves", incumbent.generation))
            .await;
    }
    nothing_lost(load).await;
    app.stop().await;
}

/// At any time before it serves.
async fn a_successor_that_is_killed_changes_nothing(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    app.load(reload_by(&machine)).await;
    let mut incumbent = app.start().await;
    let load = app.load_of_every_kind();
    for stage in ["start", "init", "ready"] {
        load.progress(1).await;
        app.set_faults(&format!("{stage}:wait"));
        let unit = app.unit();
        // Newer versions wait for the end of the reload, which is what is waited for here.
        let reload = machine.systemctl(["reload", &unit]);
        let kill = async {
            let successor = app.waiting().await;
            machine.kill(successor.pid, "KILL").await;
        };
        tokio::join!(reload, kill);
        app.status("SIGKILL").await;
        app.assert_serves(incumbent).await;
        app.set_faults("");
        incumbent = app.reload(incumbent).await;
    }
    nothing_lost(load).await;
    app.stop().await;
}

/// `ExecReload=` with the command, which waits.
async fn a_reload_that_asks_for_the_outcome_fails_with_the_handover(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    app.load(
        "Type=notify\n\
         Environment=FIXTURE_CONTROL=unix:/run/app/control.sock\n\
         ExecReload=/usr/local/bin/handover --socket /run/app/control.sock upgrade",
    )
    .await;
    let mut incumbent = app.start().await;
    for faults in ["init:fail", "ready:kill", "start:exit0"] {
        app.set_faults(faults);
        let reload = machine.attempt(["systemctl", "reload", &app.unit()]).await;
        reload.expect_err("the handover fails, and so does the reload");
        app.status("handover failed").await;
        assert_eq!(app.show().await.get("ActiveState"), "active");
        app.assert_serves(incumbent).await;

        app.set_faults("");
        incumbent = app.reload(incumbent).await;
    }
    app.stop().await;
}

/// They have the same number, and the next one is told what happened before it. Of the first, systemd
/// would hear that the unit stops.
async fn what_a_failed_successor_did_is_not_done_by_the_next(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    app.load(reload_by(&machine)).await;
    let first = app.start().await;
    machine.write(
        &app.path("service.script"),
        r#"receive offer
send {"type":"accepted","version":1,"pid":{pid}}
send {"type":"events","events":[{"at_us":1,"generation":2,"pid":{pid},"event":"lame_duck","connections":3,"lame_duck_ms":60000}]}
send {"type":"events","events":[{"at_us":2,"generation":2,"pid":{pid},"event":"draining","stop":true,"connections":3,"tasks":[],"deadline_ms":60000}]}
"#,
    );
    app.deploy("/usr/local/bin/impostor");
    machine.systemctl(["reload", &app.unit()]).await;
    let status = app.status("handover failed").await;
    assert!(!status.contains("drain"), "{status}");
    app.assert_serves(first).await;

    app.deploy(FIXTURE);
    let second = app.reload(first).await;
    let status = app.status("generation 2 serves, 1 endpoint").await;
    assert!(!status.contains("drain"), "{status}");
    let third = app.reload(second).await;
    app.assert_serves(third).await;
    app.stop().await;
}

async fn nothing_lost(load: Load) {
    load.progress(1).await;
    load.stop().await.assert_nothing_lost();
}

/// How a successor fails, and what is said of it.
struct Failure {
    way: Way,
    reason: &'static [&'static str],
}

enum Way {
    /// A fault of the fixture.
    Fault(&'static str),
    /// What is started is another program.
    Program(&'static str),
}

const fn fault(faults: &'static str, reason: &'static [&'static str]) -> Failure {
    let way = Way::Fault(faults);
    Failure { way, reason }
}

const fn program(path: &'static str, reason: &'static [&'static str]) -> Failure {
    let way = Way::Program(path);
    Failure { way, reason }
}

const FIXTURE: &str = "/usr/local/bin/fixture";

const FAILURES: &[Failure] = &[
    fault("start:exit1", &["status 1"]),
    fault("start:exit0", &["status 0"]),
    fault("start:fail", &["status 1", "main returned an error"]),
    fault(
        "init:fail",
        &["fault", "on_init", "this fault was asked for"],
    ),
    fault("init:panic", &["fault", "this panic was asked for"]),
    fault("init:abort", &["SIGABRT"]),
    fault("init:hang", &["in time"]),
    fault("init:block-all", &["in time"]),
    fault("ready:fail", &["on_ready", "this fault was asked for"]),
    fault("ready:kill", &["SIGKILL"]),
    fault("start:return", &["main returned"]),
    program("/bin/false", &["status 1"]),
    program("/bin/true", &["status 0"]),
    program("/nonexistent", &["No such file"]),
    // A file that is none.
    program("/run/app/faults", &["Permission denied"]),
];
