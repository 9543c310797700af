//! A stop always wins: whenever it comes and from wherever, the service ends, with what it had
//! begun answered, and nothing of it is left.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};

use handover_tests::load::{Cause, Kind};
use handover_tests::{Exit, Load, Process, Signal, Target, eventually};
use tokio::time::Instant;

use crate::client::Client;
use crate::support::{Fixture, Running, all, millis, signal};

/// What the successor does when the stop comes.
enum Doing {
    /// This fault, which prints where it strikes.
    Fault(&'static str, &'static str),
    /// The program is this script, and has printed this.
    Script(&'static str, &'static str),
}

#[tokio::test]
async fn a_stop_of_the_incumbent_ends_both_in_every_phase() {
    use Doing::{Fault, Script};
    let phases = [
        // Before the successor has answered the offer.
        Script("echo thinking >&2; exec sleep 1000", "thinking"),
        Script(
            "trap '' TERM; echo thinking >&2; sleep 1000 & while :; do wait; done",
            "thinking",
        ),
        // In main, in on_init, in on_ready: waiting well, or blocking its runtime.
        Fault("multi_thread", "start:hang"),
        Fault("multi_thread", "start:block"),
        Fault("current_thread", "start:block"),
        Fault("multi_thread", "init:hang"),
        Fault("current_thread", "init:block"),
        Fault("multi_thread", "ready:hang"),
        Fault("current_thread", "ready:block"),
        // Stopped by a debugger.
        Fault("multi_thread", "init:stop"),
    ];
    let attempt = async |doing: Doing| {
        let fixture = doing.fixture();
        let running = fixture.start().await;
        let incumbent = running.identity().await;
        doing.arrange(&fixture);
        signal(incumbent, Signal::HUP);
        running.service.output().find(doing.printed()).await;
        signal(incumbent, Signal::TERM);
        ended(&running, Exit::Code(0), doing.printed()).await;
    };
    all(phases, attempt).await;
}

/// All threads of the runtime are taken for ever, so that nobody can look at a stop: whoever goes on
/// asking gets what a program without handlers would have done at once.
#[tokio::test]
async fn a_stop_that_nobody_can_look_at_is_obeyed_when_it_is_insisted_on() {
    for flavor in ["multi_thread", "current_thread"] {
        let fixture = Fixture::new().env("FIXTURE_FLAVOR", flavor);
        let running = fixture.start().await;
        let incumbent = running.identity().await;
        let mut client = Client::connect(&running.target).await;
        client.send("/block-all").await;
        running
            .service
            .output()
            .find("every thread is blocked")
            .await;
        let first = running.service.first();
        eventually("the end of what is stopped again and again", || {
            if first.is_running() {
                signal(incumbent, Signal::TERM);
            }
            (!first.is_running()).then_some(())
        })
        .await;
        ended(&running, Exit::Signal(Signal::TERM.as_raw()), flavor).await;
    }
}

/// The same with a single stop, as service managers send it: the kernel wakes the handler when the
/// time of a stop is over, though it has no thread to do anything else.
#[tokio::test]
async fn a_stop_that_nobody_can_look_at_is_obeyed_when_its_time_is_over() {
    let limits = [
        "HOOK_TIMEOUT",
        "STOP_TIMEOUT",
        "COMMIT_TIMEOUT",
        "KILL_GRACE",
    ];
    let attempt = async |flavor: &str| {
        let fixture = Fixture::new().env("FIXTURE_FLAVOR", flavor);
        let fixture = limits.into_iter().fold(fixture, |fixture, limit| {
            fixture.env(&format!("FIXTURE_{limit}"), "100")
        });
        let running = fixture.start().await;
        let incumbent = running.identity().await;
        let mut client = Client::connect(&running.target).await;
        client.send("/block-all").await;
        let output = running.service.output();
        output.find("every thread is blocked").await;
        signal(incumbent, Signal::TERM);
        output.find("has not ended in time").await;
        ended(&running, Exit::Signal(Signal::TERM.as_raw()), flavor).await;
    };
    all(["multi_thread", "current_thread"], attempt).await;
}

/// The successor is ready, and the incumbent hears of it and of the stop at once.
#[tokio::test]
async fn a_stop_of_the_incumbent_beats_a_ready_successor() {
    for fault in ["waiting:hang", "waiting:stop"] {
        let fixture = Fixture::new().env("FIXTURE_COMMIT_TIMEOUT", "500");
        let running = fixture.start().await;
        let incumbent = running.identity().await;
        fixture.set_faults(fault);
        signal(incumbent, Signal::HUP);
        running.service.output().find("waiting: pid=").await;
        signal(incumbent, Signal::TERM);
        signal(incumbent, Signal::CONT);
        ended(&running, Exit::Code(0), fault).await;
    }
}

/// The commit is under way, and the successor does not answer it.
#[tokio::test]
async fn a_stop_of_the_incumbent_after_the_commit_ends_both() {
    let fixture = Fixture::new()
        .env("FIXTURE_COMMIT_TIMEOUT", "1000")
        .env("FIXTURE_LOG", "debug");
    let running = fixture.start().await;
    let incumbent = running.identity().await;
    fixture.set_faults("waiting:stop");
    signal(incumbent, Signal::HUP);
    let line = running.service.output().find("waiting: pid=").await;
    let successor = process(&line.text);
    eventually("the stop of the successor", || {
        (successor.status().ok()?.state == 'T').then_some(())
    })
    .await;
    signal(incumbent, Signal::CONT);
    let output = running.service.output();
    output.find("to the successor Commit").await;
    signal(incumbent, Signal::TERM);
    ended(&running, Exit::Code(0), "commit").await;
}

/// A successor that failed is being ended, and takes its time.
#[tokio::test]
async fn a_stop_of_the_incumbent_waits_for_a_successor_that_is_being_ended() {
    let fixture = Fixture::new().env("FIXTURE_READY_TIMEOUT", "200");
    let running = fixture.start().await;
    let incumbent = running.identity().await;
    // It knows nothing of the signals that it starts with blocked.
    fixture.deploy_file("#!/bin/sh\nexec sleep 1000\n", 0o755);
    signal(incumbent, Signal::HUP);
    let first = running.service.first();
    eventually("the end that the successor is asked for", || {
        let child = *first.children().ok()?.first()?;
        let status = fs::read_to_string(format!("/proc/{child}/status")).ok()?;
        let pending = status.split("ShdPnd:").nth(1)?.split_whitespace().next()?;
        let pending = u64::from_str_radix(pending, 16).ok()?;
        (pending & 1 << (Signal::TERM.as_raw() - 1) != 0).then_some(())
    })
    .await;
    signal(incumbent, Signal::TERM);
    ended(&running, Exit::Code(0), "being ended").await;
}

#[tokio::test]
async fn a_stop_of_the_successor_before_the_commit_is_its_failure() {
    for fault in ["start:wait", "init:wait", "ready:wait"] {
        let fixture = Fixture::new();
        let running = fixture.start().await;
        let load = running.load();
        let incumbent = running.identity().await;
        fixture.set_faults(fault);
        let from = running.service.output().len();
        signal(incumbent, Signal::HUP);
        let successor = fixture.waiting().await;
        successor.signal(Signal::TERM);
        let report = running.service.output();
        let report = report.find_from(from, "handover failed").await.text;
        assert!(report.contains("was told to stop"), "{fault}: {report}");
        load.progress(1).await;
        assert_eq!(running.identity().await, incumbent);
        fixture.set_faults("");
        running.hand_over(incumbent).await;
        load.stop().await.assert_nothing_lost();
    }
}

/// Whichever of the two has heard what by then: the service does not rise again.
#[tokio::test]
async fn a_stop_of_the_successor_right_after_the_commit_stops_the_service() {
    for fault in ["", "", "", "", "", "active:hang", "drain:hang@1"] {
        let fixture = Fixture::new().env("FIXTURE_STOP_TIMEOUT", "500");
        let running = fixture.start().await;
        let (mut client, incumbent) = Client::of_generation(&running.target, 1).await;
        fixture.set_faults(fault);
        signal(incumbent, Signal::HUP);
        let line = running.service.output().find("generation=2 serves").await;
        let successor = process(&line.text);
        successor.signal(Signal::TERM).expect("it serves");
        client.send("/").await;
        assert_eq!(client.answer().await, incumbent, "what it was asked");
        drop(client);
        ended(&running, Exit::Code(0), fault).await;
    }
}

/// The old generation is not the service any more: a stop that only it receives is about its
/// drain. The first makes its deadline that of a stop, the second cuts what is left.
#[tokio::test]
async fn an_old_generation_that_is_told_to_stop_ends_earlier() {
    for by_signal in [true, false] {
        for (stop_timeout, stops) in [("600", 1), ("100000", 2)] {
            let fixture = Fixture::new()
                .env("FIXTURE_DRAIN_TIMEOUT", "100000")
                .env("FIXTURE_STOP_TIMEOUT", stop_timeout);
            let running = fixture.start().await;
            let mut clients = Vec::new();
            for _ in 0..=stops {
                clients.push(Client::of_generation(&running.target, 1).await);
            }
            let (mut left, incumbent) = clients.pop().expect("one more than stops");
            let successor = running.hand_over(incumbent).await;
            let drains = "draining phase=draining generation=1";
            running.service.output().find(drains).await;
            let since = Instant::now();
            for (client, _) in &mut clients {
                let from = running.service.output().len();
                match by_signal {
                    true => signal(incumbent, Signal::TERM),
                    false => drop(client.ask("/stop").await),
                }
                let told = running.service.output();
                told.find_from(from, "stop generation=1").await;
            }
            assert_eq!(running.service.first().exited().await, Exit::Code(0));
            assert!(stops == 2 || since.elapsed() >= millis(600));
            left.closed().await;
            assert_eq!(running.identity().await, successor);
        }
    }
}

#[tokio::test]
async fn a_stop_ends_all_old_generations_too() {
    for faults in ["", "draining:block@1 drain:hang@2"] {
        let fixture = Fixture::new()
            .env("FIXTURE_DRAIN_TIMEOUT", "100000")
            .env("FIXTURE_STOP_TIMEOUT", "500")
            .env("FIXTURE_KILL_GRACE", "500");
        fixture.set_faults(faults);
        let running = fixture.start().await;
        let mut clients = Vec::new();
        let mut newest = running.identity().await;
        for generation in 1..=3 {
            let (client, identity) = Client::of_generation(&running.target, generation).await;
            clients.push(client);
            newest = running.hand_over(identity).await;
        }
        assert_eq!(running.service.processes().len(), 4);
        // Its predecessor may still have answered whoever asked now.
        signal(newest, Signal::TERM);
        running.service.ended().await;
    }
}

/// Whoever collects events panics where standard error is a pipe that nobody reads any more.
#[tokio::test]
async fn a_broken_standard_error_keeps_nobody_from_handing_over_and_stopping() {
    let fixture = Fixture::new();
    let service = fixture
        .started_by("sh")
        .args(["-c", "exec 3>&1; \"$0\" 2>&1 >&3 | true"])
        .arg(fixture.path("service"))
        .start()
        .expect("`sh` can be executed");
    let mut target = None;
    for generation in 1..=3 {
        let serves = format!("generation={generation} serves");
        let line = service.output().find(&serves).await.text;
        let lines = service.output().lines();
        let target = target.get_or_insert_with(|| {
            let line = lines.iter().find(|line| line.text.contains("listening on"));
            let address = line.and_then(|line| line.text.split(['[', ']']).nth(1));
            Target::from(
                address
                    .expect("an address")
                    .parse::<SocketAddr>()
                    .expect("one"),
            )
        });
        let identity = service.generation(target, generation).await;
        assert!(line.contains(&format!("pid={}", identity.pid)), "{line}");
        let asked = match generation {
            3 => Signal::TERM,
            _ => Signal::HUP,
        };
        signal(identity, asked);
    }
    service.ended().await;
}

/// A successor that stops before its predecessor has answered still knows of the old generations:
/// it waits for that answer, and ends them then.
#[tokio::test]
async fn a_stop_before_the_predecessor_drains_ends_all_old_generations_too() {
    for signals in [&[Signal::TERM][..], &[Signal::TERM, Signal::INT]] {
        let fixture = Fixture::new()
            .env("FIXTURE_DRAIN_TIMEOUT", "100000")
            .env("FIXTURE_COMMIT_TIMEOUT", "100000")
            .env("FIXTURE_STOP_TIMEOUT", "500")
            .env("FIXTURE_LOG", "debug");
        fixture.set_faults("committed:hang@1 waiting:stop@3");
        let running = fixture.start().await;
        let output = running.service.output();
        let first = running.identity().await;
        let second = running.hand_over(first).await;
        let from = output.len();
        signal(second, Signal::HUP);
        let successor = process(&output.find("waiting: pid=").await.text);
        reaches(&successor, 'T').await;
        let incumbent = Process::open(second.pid).expect("it is stopped");
        incumbent.signal(Signal::CONT).expect("it is stopped");
        let sent = "to the successor Commit";
        output.find_from(from, sent).await;
        reaches(&incumbent, 'S').await;
        incumbent.signal(Signal::STOP).expect("it runs");
        reaches(&incumbent, 'T').await;

        successor.signal(Signal::CONT).expect("it is stopped");
        output.find("generation=3 serves").await;
        for signal in signals {
            successor.signal(*signal).expect("it serves");
            reaches(&successor, 'S').await;
        }
        incumbent.signal(Signal::CONT).expect("it is stopped");
        running.service.ended().await;
    }
}

/// Waits until every thread of a process is in this state, or none is left.
async fn reaches(process: &Process, state: char) {
    let tasks = format!("/proc/{}/task", process.pid());
    eventually(format_args!("`{state}` of {tasks}"), || {
        let mut tasks = fs::read_dir(&tasks).into_iter().flatten().flatten();
        let reached = tasks.all(|task| {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            status.is_empty() || status.contains(&format!("State:\t{state}"))
        });
        reached.then_some(())
    })
    .await;
}

/// The process is stopped while clients connect and ask; then it finds them in the queue together
/// with the signal.
#[tokio::test]
async fn a_stop_answers_what_was_queued() {
    for (flavor, signals) in [
        ("multi_thread", &[Signal::TERM][..]),
        ("current_thread", &[Signal::INT]),
        ("multi_thread", &[Signal::TERM, Signal::HUP]),
        ("current_thread", &[Signal::INT, Signal::USR2]),
    ] {
        let fixture = Fixture::new().env("FIXTURE_FLAVOR", flavor);
        let running = fixture.start().await;
        let (mut kept, incumbent) = Client::of_generation(&running.target, 1).await;
        signal(incumbent, Signal::STOP);
        let mut clients = Vec::new();
        // More than are accepted at one go, so that some are in the queue when the stop is looked at.
        for _ in 0..600 {
            let mut client = Client::connect(&running.target).await;
            client.send("/").await;
            clients.push(client);
        }
        kept.send("/").await;
        for asked in signals {
            signal(incumbent, *asked);
        }
        signal(incumbent, Signal::CONT);
        for client in clients.iter_mut().chain([&mut kept]) {
            assert_eq!(client.answer().await, incumbent);
        }
        drop((clients, kept));
        ended(&running, Exit::Code(0), flavor).await;
    }
}

/// A request is in progress when the program stops itself, or its main ends; it is answered.
#[tokio::test]
async fn the_program_stops_itself_or_main_ends() {
    for (path, expected) in [
        ("/stop", Exit::Code(0)),
        ("/end?return", Exit::Code(0)),
        ("/end?fail", Exit::Code(1)),
        ("/end?panic", Exit::Code(101)),
    ] {
        for during_a_handover in [false, true] {
            let fixture = Fixture::new();
            let running = fixture.start().await;
            let (mut slow, incumbent) = Client::of_generation(&running.target, 1).await;
            slow.send("/slow?300").await;
            let waiting = if during_a_handover {
                fixture.set_faults("init:wait");
                signal(incumbent, Signal::HUP);
                Some(fixture.waiting().await)
            } else {
                None
            };
            let (mut client, _) = Client::of_generation(&running.target, 1).await;
            assert_eq!(client.ask(path).await, incumbent);
            assert_eq!(slow.answer().await, incumbent, "what was in progress");
            drop((client, slow));
            ended(&running, expected, path).await;
            drop(waiting);
        }
    }
}

/// Whom it will not serve it does not leave waiting for the end of its drain.
#[tokio::test]
async fn a_service_that_stops_refuses_new_connections_at_once() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    let (mut client, incumbent) = Client::of_generation(&running.target, 1).await;
    signal(incumbent, Signal::TERM);
    let Target::Tcp(address) = running.target else {
        panic!("it listens on TCP");
    };
    let refused = || {
        let error = TcpStream::connect(address).err()?;
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        Some(())
    };
    eventually("a refusal", refused).await;
    assert_eq!(client.ask("/").await, incumbent);
    drop(client);
    ended(&running, Exit::Code(0), "refusing").await;
}

/// An old generation whose main fails has failed; the service has not.
#[tokio::test]
async fn main_fails_while_it_drains() {
    for (fault, expected) in [
        ("draining:fail@1", Exit::Code(1)),
        ("draining:panic@1", Exit::Code(101)),
        ("drain:fail@1", Exit::Code(0)),
        ("drain:panic@1", Exit::Code(0)),
    ] {
        let fixture = Fixture::new();
        fixture.set_faults(fault);
        let running = fixture.start().await;
        let load = running.load();
        let incumbent = running.identity().await;
        let successor = running.hand_over(incumbent).await;
        assert_eq!(running.service.first().exited().await, expected, "{fault}");
        load.progress(1).await;
        assert_eq!(running.identity().await, successor);
        load.stop().await.assert_nothing_lost();
    }
}

/// Once it was committed to, the only generation that serves has ended: nothing is left that
/// looks like a service.
#[tokio::test]
async fn main_of_the_successor_ends_right_after_the_commit() {
    for fault in ["committed:return", "committed:fail", "committed:panic"] {
        let fixture = Fixture::new();
        let running = fixture.start().await;
        let incumbent = running.identity().await;
        fixture.set_faults(fault);
        signal(incumbent, Signal::HUP);
        ended(&running, Exit::Code(0), fault).await;
    }
}

#[tokio::test]
async fn main_of_the_first_generation_ends_before_it_is_ready() {
    for (fault, expected) in [
        ("start:return", Exit::Code(0)),
        ("start:fail", Exit::Code(1)),
        ("start:panic", Exit::Code(101)),
        ("init:fail", Exit::Code(1)),
        ("init:panic", Exit::Code(1)),
        ("ready:fail", Exit::Code(1)),
        ("ready:panic", Exit::Code(1)),
    ] {
        let fixture = Fixture::new();
        fixture.set_faults(fault);
        let service = fixture.program().start().expect("a program");
        assert_eq!(service.first().exited().await, expected, "{fault}");
        service.ended().await;
    }
}

/// A service that does not serve yet has nothing to hand over, and can be stopped.
#[tokio::test]
async fn a_trigger_before_ready_is_refused_and_a_stop_is_not() {
    for fault in ["start:wait", "init:wait", "ready:wait"] {
        let fixture = Fixture::new();
        fixture.set_faults(fault);
        let service = fixture.program().start().expect("a program");
        let _waiting = fixture.waiting().await;
        for trigger in [Signal::HUP, Signal::USR2] {
            let from = service.output().len();
            service.first().signal(trigger).expect("it waits");
            let refused = "refused: this generation does not serve yet";
            service.output().find_from(from, refused).await;
        }
        service.first().signal(Signal::TERM).expect("it waits");
        assert_eq!(service.first().exited().await, Exit::Code(0), "{fault}");
        service.ended().await;
    }
}

/// A load that goes on meets a service that answers or one that refuses; whom it has answered once,
/// it does not leave in the middle.
#[tokio::test]
async fn a_stop_under_load_breaks_off_nothing() {
    for flavor in ["multi_thread", "current_thread"] {
        let fixture = Fixture::new().env("FIXTURE_FLAVOR", flavor);
        let running = fixture.start().await;
        let load = Load::on(running.target.clone())
            .clients(Kind::KeepAlive, 8)
            .clients(Kind::ThinkTime, 8)
            .start();
        load.progress(5).await;
        signal(running.identity().await, Signal::TERM);
        ended(&running, Exit::Code(0), flavor).await;
        let report = load.stop().await;
        let broken: Vec<_> = report
            .failures
            .iter()
            .filter(|failure| failure.last.is_some() && failure.cause != Cause::Refused)
            .collect();
        assert!(broken.is_empty(), "{flavor}: {report}");
    }
}

impl Doing {
    fn fixture(&self) -> Fixture {
        match self {
            Self::Fault(flavor, _) => Fixture::new().env("FIXTURE_FLAVOR", flavor),
            Self::Script(..) => Fixture::new(),
        }
    }

    fn arrange(&self, fixture: &Fixture) {
        match self {
            Self::Fault(_, fault) => fixture.set_faults(fault),
            Self::Script(script, _) => {
                fixture.deploy_file(&format!("#!/bin/sh\n{script}\n"), 0o755);
            }
        }
    }

    /// What says that it is doing it.
    fn printed(&self) -> &'static str {
        match self {
            Self::Fault(..) => "fault: ",
            Self::Script(_, printed) => printed,
        }
    }
}

/// Waits until nothing is left of a service, and checks how its first generation has ended.
async fn ended(running: &Running, expected: Exit, what: &str) {
    let exit = running.service.first().exited().await;
    assert_eq!(exit, expected, "{what}");
    running.service.ended().await;
}

/// The process that a line names.
fn process(line: &str) -> Process {
    let pid = line
        .split("pid=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let pid = pid.expect("a pid").parse().expect("a number");
    Process::open(pid).expect("it runs")
}
