//! Promise 2: initialisation may fail in any way.
//!
//! Whatever becomes of a successor, the incumbent serves on as if nothing had happened, the
//! operator gets the reason, and the next handover works.

use std::path::Path;

use handover_tests::load::{Request, ask};
use handover_tests::{Identity, Load, Process, Signal, eventually};

use crate::support::{Fixture, Running, signal};

/// A way to fail, and what the operator is told.
struct Failure {
    /// What is wrong with the successor.
    wrong: Wrong,
    stage: &'static str,
    /// What else the report has to have in it.
    reason: &'static [&'static str],
}

enum Wrong {
    /// The program is not there.
    Missing,
    /// The program is another one.
    Program(&'static str),
    /// The program is a file with this content and mode.
    File(&'static str, u32),
    /// The successor does this.
    Fault(&'static str),
}

#[tokio::test]
async fn a_program_that_is_not_ours() {
    use Wrong::{File, Missing, Program};
    fails_in_all_these_ways(&[
        Failure {
            wrong: Missing,
            stage: "spawn",
            reason: &["No such file or directory"],
        },
        Failure {
            wrong: Program("/"),
            stage: "spawn",
            reason: &["Permission denied"],
        },
        Failure {
            wrong: File("#!/bin/sh\n", 0o644),
            stage: "spawn",
            reason: &["Permission denied"],
        },
        Failure {
            wrong: File("no program\n", 0o755),
            stage: "spawn",
            reason: &["Exec format error"],
        },
        Failure {
            wrong: File("#!/nonexistent\n", 0o755),
            stage: "spawn",
            reason: &["No such file"],
        },
        Failure {
            wrong: Program("/bin/true"),
            stage: "start",
            reason: &["exited with status 0"],
        },
        Failure {
            wrong: Program("/bin/false"),
            stage: "start",
            reason: &["exited with status 1"],
        },
        Failure {
            wrong: File("#!/bin/sh\necho the disk is full >&2; exit 7\n", 0o755),
            stage: "start",
            reason: &["exited with status 7", "the disk is full"],
        },
        Failure {
            wrong: File("#!/bin/sh\nkill -SEGV $$\n", 0o755),
            stage: "start",
            reason: &["SIGSEGV"],
        },
        Failure {
            wrong: File("#!/bin/sh\necho thinking >&2; exec sleep 1000\n", 0o755),
            stage: "start",
            reason: &["was not ready in time", "thinking"],
        },
        Failure {
            wrong: File(
                "#!/bin/sh\ntrap '' TERM; sleep 1000 & while :; do wait; done\n",
                0o755,
            ),
            stage: "start",
            reason: &["was not ready in time", "SIGKILL"],
        },
    ])
    .await;
}

#[tokio::test]
async fn main_fails() {
    use Wrong::Fault;
    fails_in_all_these_ways(&[
        Failure {
            wrong: Fault("start:return"),
            stage: "init",
            reason: &["exited with status 0"],
        },
        Failure {
            wrong: Fault("start:fail"),
            stage: "init",
            reason: &["this fault was asked for"],
        },
        Failure {
            wrong: Fault("start:panic"),
            stage: "init",
            reason: &["this panic was asked for"],
        },
        Failure {
            wrong: Fault("start:abort"),
            stage: "init",
            reason: &["SIGABRT", "Abort at Start"],
        },
        Failure {
            wrong: Fault("start:exit0"),
            stage: "init",
            reason: &["exited with status 0", "Exit0 at Start"],
        },
        Failure {
            wrong: Fault("start:exit1"),
            stage: "init",
            reason: &["exited with status 1", "Exit1 at Start"],
        },
        Failure {
            wrong: Fault("start:kill"),
            stage: "init",
            reason: &["SIGKILL", "Kill at Start"],
        },
        Failure {
            wrong: Fault("start:hang"),
            stage: "init",
            reason: &["was not ready in time"],
        },
        Failure {
            wrong: Fault("start:block"),
            stage: "init",
            reason: &["was not ready in time"],
        },
    ])
    .await;
}

#[tokio::test]
async fn on_init_fails() {
    use Wrong::Fault;
    fails_in_all_these_ways(&[
        Failure {
            wrong: Fault("init:fail"),
            stage: "init",
            reason: &["component=\"fault\"", "this fault was asked for"],
        },
        Failure {
            wrong: Fault("init:panic"),
            stage: "init",
            reason: &["component=\"fault\"", "this panic was asked for"],
        },
        Failure {
            wrong: Fault("init:abort"),
            stage: "init",
            reason: &["SIGABRT", "Abort at Init"],
        },
        Failure {
            wrong: Fault("init:exit0"),
            stage: "init",
            reason: &["exited with status 0", "Exit0 at Init"],
        },
        Failure {
            wrong: Fault("init:exit1"),
            stage: "init",
            reason: &["exited with status 1", "Exit1 at Init"],
        },
        Failure {
            wrong: Fault("init:kill"),
            stage: "init",
            reason: &["SIGKILL", "Kill at Init"],
        },
        Failure {
            wrong: Fault("init:hang"),
            stage: "init",
            reason: &["was not ready in time"],
        },
        Failure {
            wrong: Fault("init:block"),
            stage: "init",
            reason: &["was not ready in time"],
        },
    ])
    .await;
}

#[tokio::test]
async fn on_ready_fails() {
    use Wrong::Fault;
    fails_in_all_these_ways(&[
        Failure {
            wrong: Fault("ready:fail"),
            stage: "ready",
            reason: &["component=\"fault\"", "this fault was asked for"],
        },
        Failure {
            wrong: Fault("ready:panic"),
            stage: "ready",
            reason: &["component=\"fault\"", "this panic was asked for"],
        },
        Failure {
            wrong: Fault("ready:abort"),
            stage: "init",
            reason: &["SIGABRT", "Abort at Ready"],
        },
        Failure {
            wrong: Fault("ready:exit0"),
            stage: "init",
            reason: &["exited with status 0", "Exit0 at Ready"],
        },
        Failure {
            wrong: Fault("ready:exit1"),
            stage: "init",
            reason: &["exited with status 1", "Exit1 at Ready"],
        },
        Failure {
            wrong: Fault("ready:kill"),
            stage: "init",
            reason: &["SIGKILL", "Kill at Ready"],
        },
        Failure {
            wrong: Fault("ready:hang"),
            stage: "init",
            reason: &["was not ready in time"],
        },
        Failure {
            wrong: Fault("ready:block"),
            stage: "init",
            reason: &["was not ready in time"],
        },
    ])
    .await;
}

/// Whoever asks for a handover from inside the program is told in parts what went wrong.
#[tokio::test]
async fn the_error_has_the_reason_in_parts() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    for (fault, parts) in [
        (
            "init:fail",
            vec![r#"Some("init"), Some("fault"), Some("exited with status 1")"#],
        ),
        (
            "ready:panic",
            vec![
                r#"Some("ready"), Some("fault")"#,
                "this panic was asked for",
            ],
        ),
        (
            "init:kill",
            vec![
                r#"Some("init"), None, Some("was killed by SIGKILL")"#,
                "fault: Kill at Init",
            ],
        ),
    ] {
        fixture.set_faults(fault);
        let answer = ask(&running.target, &Request::get("/handover"))
            .await
            .expect("an answer");
        let answer = String::from_utf8_lossy(&answer.body);
        for part in parts {
            assert!(
                answer.contains(part),
                "{fault}: `{part}` is not in: {answer}"
            );
        }
    }
}

/// The successor ends when it has said that it is ready and before it has heard of the commit: the
/// incumbent is stopped meanwhile, and finds both messages, the readiness and the death, at once.
#[tokio::test]
async fn death_right_after_ready() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    let load = running.load();
    let mut incumbent = running.identity().await;
    for (fault, reason) in [
        ("waiting:kill", "SIGKILL"),
        ("waiting:abort", "SIGABRT"),
        ("waiting:exit0", "exited with status 0"),
        ("waiting:exit1", "exited with status 1"),
    ] {
        fixture.set_faults(fault);
        let from = running.service.output().len();
        signal(incumbent, Signal::HUP);
        successor_waits(&running, from).await.exited().await;
        signal(incumbent, Signal::CONT);
        let report = running
            .service
            .output()
            .find_from(from, "handover failed")
            .await
            .text;
        assert!(
            report.contains(reason),
            "{fault}: `{reason}` is not reported: {report}"
        );
        served_on(&running, &load, incumbent).await;
        fixture.set_faults("");
        incumbent = running.hand_over(incumbent).await;
    }
    load.progress(1).await;
    load.stop().await.assert_nothing_lost();
}

/// A service that collects no events is told on standard error.
#[tokio::test]
async fn the_operator_is_told_without_a_subscriber() {
    let fixture = Fixture::new().env("FIXTURE_LOG", "none");
    let running = fixture.start().await;
    let incumbent = running.identity().await;
    fixture.set_faults("init:fail");
    signal(incumbent, Signal::HUP);
    let told = running.service.output();
    let told = told.find("handover failed, generation 1 serves on").await;
    assert!(told.text.contains("`fault`"), "{}", told.text);
    assert!(
        told.text.contains("this fault was asked for"),
        "{}",
        told.text
    );
    assert_eq!(running.identity().await, incumbent);
}

/// The successor stops answering when it has said that it is ready.
#[tokio::test]
async fn silence_after_the_commit() {
    let fixture = Fixture::new().env("FIXTURE_COMMIT_TIMEOUT", "500");
    let running = fixture.start().await;
    let load = running.load();
    let incumbent = running.identity().await;
    fixture.set_faults("waiting:stop");
    let from = running.service.output().len();
    signal(incumbent, Signal::HUP);
    let successor = successor_waits(&running, from).await;
    eventually("the stop of the successor", || {
        (successor.status().ok()?.state == 'T').then_some(())
    })
    .await;
    signal(incumbent, Signal::CONT);
    let report = running
        .service
        .output()
        .find_from(from, "handover failed")
        .await
        .text;
    assert!(
        report.contains("stage=commit") && report.contains("was not ready in time"),
        "{report}"
    );
    served_on(&running, &load, incumbent).await;
    fixture.set_faults("");
    running.hand_over(incumbent).await;
    load.progress(1).await;
    load.stop().await.assert_nothing_lost();
}

/// After the commit an error is reported, and the successor serves.
#[tokio::test]
async fn on_active_fails() {
    let fixture = Fixture::new().env("FIXTURE_HOOK_TIMEOUT", "500");
    let running = fixture.start().await;
    let load = running.load();
    let mut incumbent = running.identity().await;
    for (fault, reason) in [
        (
            "active:fail",
            "on_active of `fault` failed: this fault was asked for",
        ),
        (
            "active:panic",
            "on_active of `fault` panicked: this panic was asked for",
        ),
        (
            "active:hang",
            "on_active of `fault` did not end within 500ms",
        ),
    ] {
        fixture.set_faults(fault);
        let from = running.service.output().len();
        incumbent = running.hand_over(incumbent).await;
        running.service.output().find_from(from, reason).await;
        load.progress(1).await;
        assert_eq!(running.identity().await, incumbent, "{fault}");
    }
    load.stop().await.assert_nothing_lost();
}

/// Death in `on_active` is the death of the only generation that serves: nothing is left that
/// looks like a service and is none.
#[tokio::test]
async fn death_in_on_active_leaves_nothing_behind() {
    for fault in ["active:kill", "active:abort", "active:exit1"] {
        let fixture = Fixture::new();
        let running = fixture.start().await;
        fixture.set_faults(fault);
        signal(running.identity().await, Signal::HUP);
        running.service.ended().await;
    }
}

/// One service, loaded all the time, meets one bad successor after the other, and a good one
/// after each.
async fn fails_in_all_these_ways(failures: &[Failure]) {
    let fixture = Fixture::new().env("FIXTURE_READY_TIMEOUT", "1500");
    let running = fixture.start().await;
    let load = running.load();
    let mut incumbent = running.identity().await;
    for failure in failures {
        println!("--- {}", failure.wrong.describe());
        failure.wrong.arrange(&fixture);
        load.progress(1).await;
        let report = failed_handover(&running, incumbent).await;
        for part in failure
            .reason
            .iter()
            .chain([&format!("stage={}", failure.stage).as_str()])
        {
            assert!(report.contains(part), "`{part}` is not reported: {report}");
        }
        served_on(&running, &load, incumbent).await;

        fixture.deploy_fixture();
        fixture.set_faults("");
        incumbent = running.hand_over(incumbent).await;
    }
    load.progress(1).await;
    load.stop().await.assert_nothing_lost();
}

/// Asks for a handover, and returns what is reported of its failure.
async fn failed_handover(running: &Running, incumbent: Identity) -> String {
    let output = running.service.output();
    let from = output.len();
    signal(incumbent, Signal::HUP);
    output.find_from(from, "handover failed").await.text
}

/// Waits until the successor has said that it is ready, and its predecessor is stopped.
async fn successor_waits(running: &Running, from: usize) -> Process {
    let line = running
        .service
        .output()
        .find_from(from, "waiting: pid=")
        .await
        .text;
    let pid = line.rsplit('=').next().and_then(|pid| pid.parse().ok());
    Process::open(pid.expect("the line ends with the pid")).expect("nobody can have reaped it")
}

/// Checks that the incumbent serves as if nothing had happened, and nobody else has ever served.
async fn served_on(running: &Running, load: &Load, incumbent: Identity) {
    let report = load.progress(1).await;
    assert_eq!(running.identity().await, incumbent);
    assert_eq!(report.newest(), Some(incumbent));
    // Whatever it had started has been reaped, and what that had started has gone with it.
    let process = Process::open(incumbent.pid).expect("it has just answered");
    assert_eq!(process.children().expect("/proc can be read"), [0_u32; 0]);
    eventually("the end of all that the successor had started", || {
        let processes = running.service.processes();
        processes
            .iter()
            .all(|process| process.pid() <= incumbent.pid)
            .then_some(())
    })
    .await;
}

impl Wrong {
    fn arrange(&self, fixture: &Fixture) {
        match self {
            Self::Missing => fixture.remove_program(),
            Self::Program(path) => fixture.deploy(Path::new(path)),
            Self::File(content, mode) => fixture.deploy_file(content, *mode),
            Self::Fault(fault) => fixture.set_faults(fault),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Missing => "the program is missing".to_owned(),
            Self::Program(path) => format!("the program is {path}"),
            Self::File(content, mode) => format!("the program is {content:?} with mode {mode:o}"),
            Self::Fault(fault) => (*fault).to_owned(),
        }
    }
}
