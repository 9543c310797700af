//! The control socket never goes away, says what runs, and holds nothing up.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use handover_tests::{Process, Program};
use serde_json::{Value, json};

use crate::operator::{COMMAND, Operated, with_control};
use crate::support::{Fixture, millis};

#[tokio::test]
async fn it_is_there_from_the_first_start_to_the_last_end() {
    let fixture = with_control(Fixture::new());
    fixture.set_faults("init:wait");
    let service = fixture.program().start().expect("a program");
    let waiting = fixture.waiting().await;
    let socket = fixture.path("control.sock");
    let mut client = crate::operator::Client::connect(&socket);
    let status = client.ask(json!({ "request": "status", "id": 7 }));
    assert_eq!(status["id"], 7);
    let generation = &status["generations"][0];
    assert_eq!(generation["phase"], "initialising");
    assert_eq!(generation["pid"], waiting.pid());
    let inode = |path: &Path| {
        let metadata = fs::symlink_metadata(path).expect("it is there");
        (metadata.ino(), metadata.permissions().mode() & 0o777)
    };
    let before = inode(&socket);
    assert_eq!(before.1, 0o600);
    fixture.set_faults("");
    waiting.go();
    service.listening(2).await;

    // The one connection goes through all of it.
    let mut last = 0;
    for generation in 2..=4 {
        // Ready comes a moment later in the first generation.
        let answer = loop {
            let answer = client.ask(json!({ "request": "upgrade" }));
            if answer["code"] != "refused" {
                break answer;
            }
        };
        assert_eq!(answer["successor"]["generation"], generation, "{answer}");
        last = answer["successor"]["pid"].as_u64().expect("a pid");
        let ping = client.ask(json!({ "request": "ping" }));
        assert_eq!(ping["pid"], last, "{ping}");
    }
    assert_eq!(inode(&socket), before);

    let mut other = crate::operator::Client::connect(&socket);
    let process = Process::open(u32::try_from(last).expect("a pid")).expect("it serves");
    let stopped = client.ask(json!({ "request": "stop", "wait": true }));
    assert_eq!(stopped["stopped"], true, "{stopped}");
    assert_eq!(client.rest(), "");
    process.exited().await;
    other.write(b"");
    assert!(!socket.exists());
    assert!(!fixture.path("control.sock.lock").exists());
}

#[tokio::test]
async fn a_stop_can_be_watched_and_cut_short() {
    let (_fixture, service) = Operated::start(Fixture::new()).await;
    let held = service.hold();
    let mut stopping = service.connect();
    stopping.send(&json!({ "request": "stop", "wait": true }));
    let begun = stopping.line().expect("progress");
    assert_eq!(begun["event"]["event"], "draining", "{begun}");
    // A new connection, to a service that accepts nothing else any more.
    let status = service.ask(json!({ "request": "status" }));
    let generation = &status["generations"][0];
    assert_eq!(generation["phase"], "draining");
    assert_eq!(generation["waits_for"]["connections"], 1, "{generation}");
    let oldest = &generation["connections"]["oldest"][0];
    let peer = held.local_addr().expect("an address").to_string();
    assert_eq!(oldest["peer"], peer, "{generation}");
    let aborted = service.ask(json!({ "request": "abort" }));
    assert_eq!(aborted["aborted"][0]["generation"], 1, "{aborted}");
    let answer = stopping.answer();
    assert_eq!(
        (&answer["stopped"], &answer["cut"]),
        (&json!(true), &json!(true))
    );
    service.running.service.ended().await;
}

#[tokio::test]
async fn a_handover_can_be_called_off_before_its_successor_serves() {
    let (fixture, service) = Operated::start(Fixture::new()).await;
    let first = service.running.identity().await;
    let _held = service.hold();
    fixture.set_faults("init:hang");
    let mut upgrading = service.connect();
    upgrading.send(&json!({ "request": "upgrade" }));
    let successor = loop {
        let line = upgrading.line().expect("progress");
        if line["event"]["event"] == "initialising" {
            break line["event"]["pid"].clone();
        }
    };
    // Nothing drains, and what could be meant is told.
    let output = service.command(&["abort"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("handover abort --upgrade"), "{told}");

    let output = service.command(&["abort", "--upgrade"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!(
            "✓ called off: generation 2 (pid {successor}) has ended, generation 1 (pid {}) serves on\n",
            first.pid
        )
    );
    let pid = u32::try_from(successor.as_u64().expect("a pid")).expect("a pid");
    assert!(Process::open(pid).is_err(), "it was reaped");
    let answer = upgrading.answer();
    assert_eq!(answer["code"], "called_off", "{answer}");
    assert_eq!(answer["incumbent"]["pid"], first.pid, "{answer}");
    assert_eq!(answer["handover"]["outcome"], "called_off", "{answer}");
    assert_eq!(service.running.identity().await, first);

    // It is too late for what is over; and what drains is not touched.
    let request = json!({ "request": "abort", "upgrade": true });
    assert_eq!(service.ask(request.clone())["code"], "nothing_begun");
    fixture.set_faults("");
    let answer = service.ask(json!({ "request": "upgrade" }));
    assert_eq!(answer["successor"]["generation"], 2, "{answer}");
    assert_eq!(service.ask(request)["code"], "nothing_begun");
    let status = service.ask(json!({ "request": "status" }));
    let draining = &status["generations"][1];
    assert_eq!(draining["waits_for"]["connections"], 1, "{status}");
}

/// An incumbent that is killed takes what it knew with it; what its successor knows is there.
#[tokio::test]
async fn a_handover_whose_incumbent_was_killed_is_on_the_timeline() {
    let (fixture, service) = Operated::start(Fixture::new()).await;
    let first = service.running.identity().await;
    fixture.set_faults("init:wait");
    let mut upgrading = service.connect();
    upgrading.send(&json!({ "request": "upgrade" }));
    let waiting = fixture.waiting().await;
    let pid = waiting.pid();
    Process::open(first.pid).expect("it serves").kill();
    waiting.go();
    service
        .running
        .service
        .generation(&service.running.target, 2)
        .await;
    // Everybody has let go a moment after it serves.
    let handover = loop {
        let timeline = service.ask(json!({ "request": "timeline" }));
        if let Some(handover) = timeline["handovers"].get(0) {
            break handover.clone();
        }
    };
    assert_eq!(handover["outcome"], "unknown", "{handover}");
    assert_eq!(handover["incumbent"]["pid"], first.pid, "{handover}");
    assert_eq!(handover["successor"]["pid"], pid, "{handover}");
    let spans = handover["spans"].as_array().expect("parts");
    let names: Vec<_> = spans.iter().map(|span| &span["name"]).collect();
    assert!(names.contains(&&json!("init")), "{handover}");
    let told = service.command(&["timeline"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("generation 1 died on the way"), "{told}");
}

#[tokio::test]
async fn whoever_waits_for_the_drain_is_told_by_the_successor() {
    let (_fixture, service) = Operated::start(Fixture::new()).await;
    let first = service.running.identity().await;
    let process = Process::open(first.pid).expect("it serves");
    let held = service.hold();
    let mut client = service.connect();
    client.send(&json!({ "request": "upgrade", "wait": "drained", "id": "u" }));
    loop {
        let line = client.line().expect("progress");
        assert_eq!(line["id"], "u");
        // Told in the drain of a second or more, by a process that has taken the client.
        if line["event"]["event"] == "drain_progress" {
            assert_eq!(line["event"]["connections"], 1, "{line}");
            break;
        }
    }
    drop(held);
    process.exited().await;
    let answer = client.answer();
    assert_eq!(
        (&answer["id"], &answer["drained"]),
        (&json!("u"), &json!(true))
    );
    assert_eq!(answer["incumbent"]["pid"], first.pid, "{answer}");
    assert_eq!(answer["handover"]["outcome"], "done", "{answer}");
    let names: Vec<_> = spans(&answer["handover"]);
    for part in [
        "spawn",
        "exec",
        "adopt",
        "runtime",
        "init",
        "on_init",
        "on_ready",
        "ready",
        "commit",
        "close gates",
        "settle",
        "release",
        "on_drain",
        "activate",
        "drain",
        "exit",
    ] {
        assert!(
            names.contains(&part.to_owned()),
            "{part} is missing in {names:?}"
        );
    }
    // The same connection goes on.
    assert_eq!(client.ask(json!({ "request": "ping" }))["generation"], 2);
}

#[tokio::test]
async fn an_old_generation_is_asked_through_the_newest() {
    let (_fixture, service) = Operated::start(Fixture::new()).await;
    let first = service.running.identity().await;
    let oldest = Process::open(first.pid).expect("it serves");
    let held = service.hold();
    for generation in 2..=3 {
        let answer = service.ask(json!({ "request": "upgrade" }));
        assert_eq!(answer["successor"]["generation"], generation, "{answer}");
    }
    // The middle one has gone.
    service.running.ended(2).await;
    let generation = loop {
        let status = service.ask(json!({ "request": "status" }));
        let generations = status["generations"].as_array().expect("a list").clone();
        assert_eq!(generations[0]["generation"], 3, "{status}");
        let last = generations.last().expect("there are some").clone();
        assert_eq!(last["generation"], 1, "{status}");
        if generations.len() == 2 {
            break last;
        }
    };
    assert_eq!(generation["answers"], true, "{generation}");
    assert_eq!(
        (&generation["phase"], &generation["pid"]),
        (&json!("draining"), &json!(first.pid))
    );
    assert_eq!(generation["version"], "1.2.3");
    assert_eq!(generation["waits_for"]["connections"], 1);
    let peer = held.local_addr().expect("an address").to_string();
    assert_eq!(generation["connections"]["oldest"][0]["peer"], peer);
    let nobody = service.ask(json!({ "request": "abort", "generation": 2 }));
    assert_eq!(nobody["code"], "nothing_drains", "{nobody}");
    let aborted = service.ask(json!({ "request": "abort", "generation": 1 }));
    assert_eq!(aborted["aborted"][0]["pid"], first.pid, "{aborted}");
    oldest.exited().await;
    // Its last words are known, though nobody but the newest was there to hear them.
    let mut client = service.connect();
    client.send(&json!({ "request": "events", "follow": true }));
    loop {
        let line = client.line().expect("an event");
        let event = &line["event"];
        if event["event"] == "ended" && event["pid"] == first.pid {
            assert_eq!(event["cut"], true, "{event}");
            return;
        }
    }
}

#[tokio::test]
async fn events_are_followed_through_handovers_without_a_gap() {
    let (_fixture, service) = Operated::start(Fixture::new()).await;
    let mut follower = service.connect();
    follower.send(&json!({ "request": "events", "follow": true }));
    for _ in 0..3 {
        let answer = service.ask(json!({ "request": "upgrade", "wait": "drained" }));
        assert_eq!(answer["drained"], true, "{answer}");
    }
    let stopped = service.ask(json!({ "request": "stop", "wait": true }));
    assert_eq!(stopped["stopped"], true, "{stopped}");
    let text = follower.rest();
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["event"].clone())
        .collect();
    for (index, event) in events.iter().enumerate() {
        assert!(!events[..index].contains(event), "twice: {event}\n{text}");
    }
    for generation in 1..=4 {
        for name in [
            "executed",
            "adopted",
            "initialising",
            "ready",
            "serving",
            "active",
            "draining",
            "ended",
        ] {
            let told = events
                .iter()
                .filter(|event| event["generation"] == generation && event["event"] == name);
            assert_eq!(
                told.count(),
                1,
                "{name} of generation {generation}:\n{text}"
            );
        }
    }
}

#[tokio::test]
async fn a_library_that_knows_of_no_control_is_shown_with_what_is_known() {
    let fixture = with_control(Fixture::new());
    let older = Path::new(env!("CARGO_BIN_EXE_fixture-older"));
    let service = Operated::start_as(
        &fixture,
        fixture.started_by(older).env("FIXTURE_PROGRAM", ""),
    )
    .await;
    let first = service.running.identity().await;
    let process = Process::open(first.pid).expect("it serves");
    let held = service.hold();
    // It cannot pass its clients on: it answers itself, at its end.
    let mut waiting = service.connect();
    waiting.send(&json!({
        "request": "upgrade", "wait": "drained", "program": env!("CARGO_BIN_EXE_fixture"),
    }));
    service
        .running
        .service
        .generation(&service.running.target, 2)
        .await;
    let status = loop {
        let status = service.ask(json!({ "request": "status" }));
        // Until its gates are closed the old one may still answer.
        let newest = &status["generations"][0];
        if newest["generation"] == 2 && newest["answers"] == true {
            break status;
        }
    };
    let generation = &status["generations"][1];
    assert_eq!(generation["answers"], false, "{status}");
    assert_eq!(
        (&generation["pid"], &generation["generation"]),
        (&json!(first.pid), &json!(1))
    );
    assert!(generation["killed_us"].is_u64(), "{status}");
    drop(held);
    let answer = waiting.answer();
    assert_eq!(answer["drained"], true, "{answer}");
    process.exited().await;
}

#[tokio::test]
async fn an_upgrade_says_what_is_to_be_different() {
    let fixture = Fixture::new().env("GONE", "here");
    let (fixture, service) = Operated::start(fixture).await;
    let copy = fixture.path("other");
    fs::copy(env!("CARGO_BIN_EXE_fixture"), &copy).expect("a copy");
    let answer = service.ask(json!({
        "request": "upgrade", "program": copy, "arguments": ["--new"], "directory": "/",
        "environment": { "GONE": null, "ADDED": "yes" }, "colour": "red",
    }));
    assert_eq!(answer["successor"]["generation"], 2, "{answer}");
    assert_eq!(answer["ignored"], json!(["colour"]));
    let pid = answer["successor"]["pid"].as_u64().expect("a pid");
    let process = Process::open(u32::try_from(pid).expect("a pid")).expect("it serves");
    let environment = process.environment().expect("it is ours");
    assert!(environment.contains(&"ADDED=yes".into()), "{environment:?}");
    assert!(
        !environment.contains(&"GONE=here".into()),
        "{environment:?}"
    );
    let arguments = process.arguments().expect("it is ours");
    assert_eq!(arguments.last().map(|last| &**last), Some("--new".as_ref()));
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd")).expect("ours"),
        Path::new("/")
    );
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/exe")).expect("ours"),
        copy
    );

    // For that one handover.
    let limited = json!({ "request": "upgrade", "timeout_ms": 300 });
    fixture.set_faults("init:hang");
    let failed = service.ask(limited);
    assert_eq!(
        (&failed["code"], &failed["timed_out"]),
        (&json!("failed"), &json!(true)),
        "{failed}"
    );
    assert_eq!(failed["handover"]["outcome"], "failed");
    assert!(
        spans(&failed["handover"]).contains(&"init".to_owned()),
        "{failed}"
    );
}

#[tokio::test]
async fn a_second_upgrade_is_refused() {
    let (fixture, service) = Operated::start(Fixture::new()).await;
    fixture.set_faults("init:wait");
    let mut first = service.connect();
    first.send(&json!({ "request": "upgrade" }));
    let waiting = fixture.waiting().await;
    for wait in ["begun", "serving", "drained"] {
        let second = service.ask(json!({ "request": "upgrade", "wait": wait }));
        assert_eq!(second["code"], "refused", "{second}");
    }
    // The incumbent knows what it is told, which may be on its way.
    let status = handover_tests::eventually("a successor that is initialising", || {
        let status = service.ask(json!({ "request": "status" }));
        (status["generations"][0]["phase"] == "initialising").then_some(status)
    })
    .await;
    assert_eq!(status["generations"][0]["pid"], waiting.pid());
    assert_eq!(status["handover"]["outcome"], "under_way");
    waiting.go();
    assert_eq!(first.answer()["successor"]["generation"], 2);
}

#[tokio::test]
async fn another_user_is_refused() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let fixture = Fixture::new().env("FIXTURE_CONTROL_MODE", "666");
    fixture.open_to_everybody();
    let (_fixture, service) = Operated::start(fixture).await;
    let nobody = Program::new(COMMAND)
        .arg("--socket")
        .arg(&service.socket)
        .arg("stop")
        .user(65_534)
        .start()
        .expect("a program");
    let told = nobody.output().find("may not speak to this service").await;
    assert!(told.text.contains("user 65534"), "{told:?}");
    assert!(!nobody.first().exited().await.is_success());
    // Nothing has happened.
    assert_eq!(service.ask(json!({ "request": "ping" }))["generation"], 1);
    service.running.identity().await;
}

fn spans(handover: &Value) -> Vec<String> {
    let spans = handover["spans"].as_array().into_iter().flatten();
    spans
        .filter_map(|span| Some(span["name"].as_str()?.to_owned()))
        .collect()
}

#[tokio::test]
async fn floods_and_garbage_cost_nothing_but_their_connections() {
    use handover_tests::Load;
    use handover_tests::load::Kind;

    let (_fixture, service) = Operated::start(Fixture::new()).await;
    let load = Kind::ALL
        .into_iter()
        .fold(Load::on(service.running.target.clone()), |plan, kind| {
            plan.clients(kind, 2)
        })
        .pause(Kind::Idle, millis(200)..=millis(600))
        .pause(Kind::Silent, millis(0)..=millis(400))
        .start();
    let socket = service.socket.clone();
    let attacks = std::thread::spawn(move || attack::all(&socket));
    let mut operator = service.connect();
    for generation in 2..=4 {
        let answer = operator.ask(json!({ "request": "upgrade" }));
        assert_eq!(answer["successor"]["generation"], generation, "{answer}");
        load.progress(1).await;
    }
    attacks
        .join()
        .expect("the attackers have got what they should");
    let answer = service.ask(json!({ "request": "ping" }));
    assert_eq!(answer["generation"], 4, "{answer}");
    load.progress(1).await;
    load.stop().await.assert_nothing_lost();
    // Nobody of them has left anything behind.
    let pid = answer["pid"].as_u64().expect("a pid");
    let process = Process::open(u32::try_from(pid).expect("a pid")).expect("it serves");
    drop(operator);
    handover_tests::eventually("few descriptors", || {
        let open = process.descriptors().expect("it is ours").len();
        (open < 60).then_some(())
    })
    .await;
}

/// What can be done to a control socket by those who may connect to it.
mod attack {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::time::Duration;

    use crate::operator::Client;

    pub(super) fn all(socket: &Path) {
        let silent: Vec<_> = (0..40).map(|_| half_line(socket)).collect();
        let greedy: Vec<_> = (0..10).map(|_| never_reads(socket)).collect();
        assert!(long_line(socket).contains("too_long"));
        for seed in 0..50 {
            let said = garbage(socket, seed);
            assert!(
                said.contains("malformed") || said.contains("too_long"),
                "{said}"
            );
        }
        flood(socket);
        drop((silent, greedy));
    }

    fn connect(socket: &Path) -> UnixStream {
        let stream = UnixStream::connect(socket).expect("it listens");
        let limit = Some(Duration::from_secs(60));
        stream.set_read_timeout(limit).expect("a limit");
        stream.set_write_timeout(limit).expect("a limit");
        stream
    }

    fn half_line(socket: &Path) -> UnixStream {
        let mut stream = connect(socket);
        stream.write_all(b"{\"request\":").ok();
        stream
    }

    /// Asks until nobody listens any more, and reads nothing.
    fn never_reads(socket: &Path) -> UnixStream {
        let mut stream = connect(socket);
        stream.set_nonblocking(true).expect("a socket");
        for _ in 0..100_000 {
            if stream.write_all(b"{\"request\":\"events\"}\n").is_err() {
                break;
            }
        }
        stream
    }

    /// As much of 100 MB as the service takes, and what it says to it.
    fn long_line(socket: &Path) -> String {
        let mut stream = connect(socket);
        let part = vec![b'x'; 1 << 20];
        for _ in 0..100 {
            if stream.write_all(&part).is_err() {
                break;
            }
        }
        said(stream)
    }

    fn garbage(socket: &Path, seed: u32) -> String {
        let mut stream = connect(socket);
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let mut bytes: Vec<u8> = (0..20_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        bytes.push(b'\n');
        stream.write_all(&bytes).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        said(stream)
    }

    fn said(mut stream: UnixStream) -> String {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).ok();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Many connections at once, most of which say nothing; an operator comes through meanwhile.
    fn flood(socket: &Path) {
        let mut all = Vec::new();
        for number in 0..1_000 {
            // A full queue is an error here, and no business of others.
            all.extend(UnixStream::connect(socket));
            if number % 200 == 0 {
                let answer = Client::connect(socket).ask(serde_json::json!({ "request": "ping" }));
                assert_eq!(answer["type"], "answer", "{answer}");
            }
            if all.len() > 300 {
                all.drain(..100);
            }
        }
    }
}
