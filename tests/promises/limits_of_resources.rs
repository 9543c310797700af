//! A lack of descriptors is survived: while accepting, and on either side of a handover.

use std::fs;
use std::time::{Duration, Instant};

use handover_tests::load::Kind;
use handover_tests::{Identity, Line, Load, Process, Signal, Target, eventually, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::kernel::{listening_inodes, streams};
use crate::support::program::unprivileged;
use crate::support::{Fixture, Running, signal};

/// With no descriptor left a service waits, without spinning, says so once, and goes on as soon as
/// it can: with the connections that have waited, too.
#[tokio::test]
async fn accepting_without_descriptors_waits_and_recovers() {
    let fixture = Fixture::new();
    let running = fixture.start_as(fixture.program().descriptors(64)).await;
    let incumbent = running.identity().await;
    let process = Process::open(incumbent.pid).expect("it serves");
    let mut connections = exhaust(&running, 64).await;
    running.service.output().find(PAUSES).await;

    // Each of its threads that wakes up and goes to sleep again has tried in vain. The pauses
    // between grow, and what passes meanwhile is not spent.
    let (since, spent, slept) = (Instant::now(), cpu_time(&process), sleeps(&process));
    eventually("more attempts to accept", || {
        (sleeps(&process) >= slept + 20).then_some(())
    })
    .await;
    let spent = cpu_time(&process) - spent;
    let passed = since.elapsed();
    assert!(
        passed > Duration::from_millis(200),
        "tried 20 times in {passed:?}"
    );
    assert!(passed > spent * 5, "{spent:?} of {passed:?} were spent");

    // The ones that have waited are served when the others have gone.
    let last = connections.split_off(connections.len() - 10);
    drop(connections);
    for connection in last {
        let answer = exchange(connection).await;
        assert!(answer.ends_with(&incumbent.to_string()), "{answer}");
    }
    running.service.output().find("accepting goes on").await;
    let count = |text: &str| {
        let lines = running.service.output().lines();
        lines.iter().filter(|line| line.text.contains(text)).count()
    };
    assert_eq!((count(PAUSES), count("accepting goes on")), (1, 1));
    running.hand_over_and_end(incumbent).await;
}

/// A successor that may have fewer descriptors than it is offered sockets fails and says why.
#[tokio::test]
async fn a_successor_with_too_low_a_limit_fails_and_says_why() {
    let fixture = Fixture::new().env("FIXTURE_LISTENERS", "300");
    let running = fixture.start().await;
    let load = running.load();
    let incumbent = running.identity().await;
    let fixture_file = env!("CARGO_BIN_EXE_fixture");
    // Enough to be executed, for the first sockets, for nearly all.
    for limit in [8, 12, 20, 100, 290, 302] {
        let script = format!("#!/bin/sh\nulimit -n {limit}\nexec {fixture_file} \"$@\"\n");
        fixture.deploy_file(&script, 0o755);
        let from = running.service.output().len();
        let answer = running.try_hand_over().await;
        assert!(answer.starts_with("error: "), "{limit}: {answer}");
        // Its own last words stand in the log, too.
        let says_why = |lines: &[Line]| {
            let mut lines = lines[from..].iter();
            lines.any(|line| says_why(&line.text)).then_some(())
        };
        let what = format!("the reason with a limit of {limit}");
        running.service.output().wait_for(&what, says_why).await;
        load.progress(1).await;
        assert_eq!(running.identity().await, incumbent, "{limit}");
    }
    fixture.deploy_fixture();
    running.hand_over(incumbent).await;
    load.progress(1).await;
    load.stop().await.assert_nothing_lost();
}

/// An incumbent that has few descriptors left, or none, either hands over completely or not at all.
#[tokio::test]
async fn an_incumbent_without_descriptors_serves_on() {
    let fixture = Fixture::new();
    let limit = 64;
    let running = fixture.start_as(fixture.program().descriptors(limit)).await;
    let mut incumbent = running.identity().await;
    let theirs = streams(incumbent);
    let (mut failed, mut committed) = (0, 0);
    for free in 0..12 {
        let connections = leave(&running, incumbent, limit, free).await;
        let from = running.service.output().len();
        signal(incumbent, Signal::HUP);
        let line = running
            .service
            .output()
            .wait_for("the end of the handover", |lines| ended(&lines[from..]))
            .await;
        drop(connections);
        if line.text.contains("handover failed") {
            failed += 1;
            assert!(says_why(&line.text), "{free} free: {line}");
            assert_eq!(running.identity().await, incumbent);
        } else {
            committed += 1;
            let predecessor = Process::open(incumbent.pid);
            if let Ok(predecessor) = predecessor {
                predecessor.exited().await;
            }
            let before = incumbent;
            incumbent = running.identity().await;
            assert_eq!(incumbent.generation, before.generation + 1);
        }
        assert_eq!(streams(incumbent), theirs, "{free} free");
    }
    assert!(
        failed > 0 && committed > 0,
        "{failed} failed, {committed} committed"
    );
    running.hand_over_and_end(incumbent).await;
}

/// A sender without privileges may have no more descriptors on their way than it may have open, all
/// processes of the user together: it waits until others have taken theirs.
#[tokio::test]
async fn many_sockets_of_an_unprivileged_user_are_handed_over() {
    let fixture = Fixture::new();
    fixture.open_to_everybody();
    let fixture = fixture
        .env("FIXTURE_LISTENERS", "100")
        .env("FIXTURE_READY_TIMEOUT", "60000")
        .env("FIXTURE_LOG", "info,handover=debug");
    let start = || {
        // No other test has this user.
        let program = unprivileged(fixture.program().descriptors(150), 65533);
        fixture.start_as(program)
    };
    // Two whose successors take nothing.
    let hogs = [start().await, start().await];
    let running = start().await;
    fixture.deploy_file(
        "#!/bin/sh\necho takes nothing >&2\nexec sleep 1000\n",
        0o755,
    );
    for hog in &hogs {
        signal(hog.identity().await, Signal::HUP);
        hog.service.output().find("takes nothing").await;
    }
    fixture.deploy_copy();
    let incumbent = running.identity().await;
    let handover = running.try_hand_over();
    let release = async {
        running
            .service
            .output()
            .find("descriptors in flight went down")
            .await;
        assert_eq!(running.identity().await, incumbent, "it waits");
        drop(hogs);
    };
    let (answer, ()) = tokio::join!(handover, release);
    assert!(answer.starts_with("Successor {"), "{answer}");
    assert_eq!(
        running
            .service
            .generation(&running.target, 2)
            .await
            .generation,
        2
    );
}

/// Ten thousand endpoints are adopted, and every one of them answers.
#[tokio::test]
async fn ten_thousand_listeners_are_handed_over() {
    const COUNT: usize = 10_000;
    let fixture = Fixture::new()
        .env("FIXTURE_LISTENERS", (COUNT - 1).to_string())
        .env("FIXTURE_LOG", "warn");
    let running = fixture
        .start_as(fixture.program().descriptors(COUNT as u32 + 200))
        .await;
    let targets = running.service.listening(COUNT).await;
    assert_eq!(targets.len(), COUNT);
    let incumbent = running.identity().await;
    let load = Load::on(running.target.clone())
        .clients(Kind::KeepAlive, 1)
        .start();
    let successor = running.hand_over_and_end(incumbent).await;
    load.progress(1).await;
    load.stop().await.assert_nothing_lost();
    for part in targets.chunks(100) {
        let answers = part.iter().map(|target| running.service.identity(target));
        for answer in futures::future::join_all(answers).await {
            assert_eq!(answer, successor);
        }
    }
    let adopted = listening_inodes(successor);
    assert_eq!(adopted.len(), COUNT);
    let output = running.service.output().to_string();
    assert!(!output.contains("ERROR"), "{output}");
}

/// Opens connections until the service has no descriptor left, and ten more.
async fn exhaust(running: &Running, limit: usize) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..limit + 10 {
        connections.push(connect(&running.target).await);
    }
    connections
}

/// Opens connections until the service has so many descriptors left.
async fn leave(running: &Running, incumbent: Identity, limit: u32, free: u32) -> Vec<TcpStream> {
    let process = Process::open(incumbent.pid).expect("it serves");
    let open = || {
        let descriptors = process.descriptors().expect("it serves");
        descriptors
            .iter()
            .filter(|descriptor| descriptor.number < limit)
            .count()
    };
    let wanted = (limit - free) as usize;
    let mut connections = Vec::new();
    while open() < wanted {
        let mut connection = connect(&running.target).await;
        within("an answer", async {
            connection.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
            connection.read(&mut [0; 1024]).await
        })
        .await
        .expect("an answer");
        connections.push(connection);
    }
    connections
}

async fn connect(target: &Target) -> TcpStream {
    let Target::Tcp(address) = target else {
        panic!("{target} is no TCP");
    };
    TcpStream::connect(address)
        .await
        .expect("the queue has room")
}

async fn exchange(mut connection: TcpStream) -> String {
    let request = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";
    let mut answer = Vec::new();
    within("an answer", async {
        connection.write_all(request).await?;
        connection.shutdown().await?;
        connection.read_to_end(&mut answer).await
    })
    .await
    .expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

fn ended(lines: &[Line]) -> Option<Line> {
    let end = |line: &&Line| {
        line.text.contains("handover failed") || line.text.contains(" active generation=")
    };
    lines.iter().find(end).cloned()
}

/// Whether an operator learns that descriptors are what is lacking.
fn says_why(text: &str) -> bool {
    ["Too many open files", "RLIMIT_NOFILE"]
        .iter()
        .any(|why| text.contains(why))
}

/// The processor time of a process, user and system (proc_pid_stat(5)).
fn cpu_time(process: &Process) -> Duration {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let fields: Vec<_> = text
        .rsplit(')')
        .next()
        .expect("it has a name")
        .split(' ')
        .collect();
    let ticks = |at: usize| fields[at].parse::<u32>().expect("a number");
    Duration::from_millis(10) * (ticks(12) + ticks(13))
}

/// How often the threads of a process have gone to sleep.
fn sleeps(process: &Process) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let count = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("status")).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    };
    tasks.flatten().filter_map(count).sum()
}

const PAUSES: &str = "accepting pauses";
