//! Clients that we did not write, in their usual settings: through fifty handovers no request of theirs fails, and
//! nothing that can move is closed.
//!
//! A handover is over here when the old generation has ended by itself: each of its connections has moved, or has come
//! to its end.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;

use futures::future::join;
use futures::join;
use handover_tests::{Identity, Program, Signal, Target, eventually};
use tokio::process::Command;

use crate::outsider::{Counted, Outsider, Script, client_ports, outside};
use crate::support::{Running, signal};

#[tokio::test]
async fn wrk_keeps_its_connections() {
    let running = start(AXUM).await;
    let answered = wrk_keeps(&running, &[]).await;
    assert!(answered > u64::from(HANDOVERS), "{answered} answers");
}

#[tokio::test]
async fn wrk_keeps_its_connections_with_requests_in_a_pipeline() {
    let running = start(AXUM).await;
    let answered = wrk_keeps(&running, &["-s", &outside("pipelined.lua")]).await;
    assert!(answered > u64::from(HANDOVERS), "{answered} answers");
}

#[tokio::test]
async fn wrk_keeps_its_connections_when_it_thinks() {
    let running = start(AXUM).await;
    let answered = wrk_keeps(&running, &["-s", &outside("thinking.lua")]).await;
    assert!(answered > u64::from(HANDOVERS), "{answered} answers");
}

/// A connection ends with an announcement, which wrk follows.
#[tokio::test]
async fn wrk_loses_nothing_over_tls() {
    wrk_loses_nothing(&[]).await;
}

#[tokio::test]
async fn wrk_loses_nothing_over_tls_with_requests_in_a_pipeline() {
    wrk_loses_nothing(&["-s", &outside("pipelined.lua")]).await;
}

#[tokio::test]
async fn wrk_loses_nothing_over_tls_when_it_thinks() {
    wrk_loses_nothing(&["-s", &outside("thinking.lua")]).await;
}

async fn wrk_loses_nothing(options: &[&str]) {
    let running = start(TLS).await;
    let mut wrk = wrk(&running.target, options);
    wrk.connected(&running.target, CONNECTIONS).await;
    hand_over(&running).await;
    let answered = answers_of_wrk(&wrk.interrupt().await);
    assert!(answered > u64::from(HANDOVERS), "{answered} answers");
}

#[tokio::test]
async fn ab_is_always_let_in() {
    is_always_let_in(AXUM).await;
}

#[tokio::test]
async fn ab_is_always_let_in_over_tls() {
    is_always_let_in(TLS).await;
}

async fn is_always_let_in(program: &str) {
    let running = start(program).await;
    let ab = ab(&running.target, &[]);
    let mut incumbent = running.identity().await;
    for _ in 0..HANDOVERS {
        // By its answer those are in that were before it in the queue.
        let successor = running.hand_over(incumbent).await;
        running.ended(incumbent.generation).await;
        incumbent = successor;
    }
    let output = ab.interrupt().await;
    assert_eq!(number(&output, "Failed requests:"), Some(0), "{output}");
    assert_eq!(number(&output, "Non-2xx responses:"), None, "{output}");
    let answered = number(&output, "Complete requests:");
    assert!(answered > Some(u64::from(HANDOVERS)), "{output}");
}

/// It speaks HTTP/1.0, where a connection is kept by request.
#[tokio::test]
async fn ab_keeps_its_connections() {
    let running = start(AXUM).await;
    let mut ab = ab(&running.target, &["-k"]);
    keeps(&running, &mut ab).await;
    let output = ab.interrupt().await;
    assert_eq!(number(&output, "Failed requests:"), Some(0), "{output}");
    assert_eq!(number(&output, "Non-2xx responses:"), None, "{output}");
    let answered = number(&output, "Complete requests:");
    assert!(answered > Some(u64::from(HANDOVERS)), "{output}");
    let kept = number(&output, "Keep-Alive requests:");
    assert_eq!(kept, answered, "{output}");
}

/// As many requests as it opens streams for: all are under way before it can read a GOAWAY, after which it would send no
/// more, and does not connect again.
#[tokio::test]
async fn h2load_loses_no_stream() {
    let running = start(AXUM).await;
    let url = format!("http://{}/slow?ms=50", running.target);
    let runs = again_and_again(&running, async || {
        h2load(&[STREAMS, &[&url]].concat()).await
    })
    .await;
    assert!(runs > 1, "{runs} runs");
}

#[tokio::test]
async fn h2load_loses_no_stream_over_tls() {
    let running = start(TLS).await;
    let Target::Tls(address) = &running.target else {
        panic!("{} is not TLS", running.target);
    };
    let url = format!("https://{address}/");
    let runs = again_and_again(&running, async || {
        h2load(&[STREAMS, &[&url]].concat()).await
    })
    .await;
    assert!(runs > 1, "{runs} runs");
}

/// Unary calls of gRPC are requests of HTTP/2, which h2load can make from a file.
#[tokio::test]
async fn h2load_loses_no_call() {
    let running = start(TONIC).await;
    let directory = tempfile::tempdir().expect("a directory");
    let message = directory.path().join("message");
    // Not compressed, two bytes long: `WhoRequest { ms: 50 }`.
    fs::write(&message, [0, 0, 0, 0, 2, 0x08, 50]).expect("a file");
    let call = [
        &format!("--data={}", message.display()),
        "--header=content-type: application/grpc",
        "--header=te: trailers",
        &format!("http://{}/greeter.Greeter/Who", running.target),
    ];
    let runs = again_and_again(&running, async || h2load(&[STREAMS, &call].concat()).await).await;
    assert!(runs > 1, "{runs} runs");
}

/// Each of its runs has its own connections, which stay.
#[tokio::test]
async fn h2load_keeps_its_connections_of_http1() {
    let running = start(AXUM).await;
    let url = format!("http://{}/", running.target);
    let closed_loop = ["--h1", "--clients=20", "--requests=2000", &url];
    let runs = again_and_again(&running, async || h2load(&closed_loop).await).await;
    assert!(runs > 1, "{runs} runs");
}

/// A slow answer, an upload and a stream; each takes longer than the commit of a handover, over HTTP/1.1 and HTTP/2.
#[tokio::test]
async fn curl_ends_what_it_has_begun() {
    let running = start(AXUM).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("upload");
    let content: String = (0..12_000).map(|line| format!("line {line}\n")).collect();
    fs::write(&file, &content).expect("a file");
    let file = file.to_str().expect("UTF-8");
    let url = |path| format!("http://{}{path}", running.target);
    let slow = async |version| {
        let answer = curl(&[version, &url("/slow?ms=200")]).await;
        assert!(Identity::parse(&answer).is_some(), "{answer}");
    };
    let upload = async |version| {
        let upload = ["--limit-rate", "1M", "-X", "POST", "-T", file];
        let answer = curl(&[&[version], &upload[..], &[&url("/echo")]].concat()).await;
        assert!(answer == content, "{} bytes", answer.len());
    };
    let stream = async |version| {
        let answer = curl(&[version, &url("/stream?chunks=20&ms=10")]).await;
        let lines: BTreeSet<&str> = answer.lines().collect();
        assert_eq!((answer.lines().count(), lines.len()), (20, 1), "{answer}");
    };
    let runs = again_and_again(&running, async || {
        let (one, two) = ("--http1.1", "--http2-prior-knowledge");
        join!(
            slow(one),
            slow(two),
            upload(one),
            upload(two),
            stream(one),
            stream(two)
        );
    })
    .await;
    assert!(runs > 1, "{runs} runs");
}

/// 20 MiB at 1 MiB a second, in the midst of which the service is replaced as often as old generations may live.
#[tokio::test]
async fn curl_ends_an_upload_that_outlives_handovers() {
    let running = start(AXUM).await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("upload");
    let content: String = (0..2_000_000)
        .map(|line| format!("line {line:5}\n"))
        .collect();
    let content = &content[..20 << 20];
    fs::write(&file, content).expect("a file");
    let file = file.to_str().expect("UTF-8");
    let url = format!("http://{}/echo", running.target);
    let upload = async |version| {
        let upload = [
            version,
            "--limit-rate",
            "1M",
            "-X",
            "POST",
            "-T",
            file,
            &url,
        ];
        let answer = curl(&upload).await;
        assert!(answer == content, "{} bytes", answer.len());
    };
    let handovers = async {
        let begun = || (client_ports(&running.target).len() == 2).then_some(());
        eventually("two uploads", begun).await;
        let mut incumbent = running.identity().await;
        for _ in 0..3 {
            incumbent = running.hand_over(incumbent).await;
        }
        incumbent.generation
    };
    let ((), (), newest) = join!(
        upload("--http1.1"),
        upload("--http2-prior-knowledge"),
        handovers
    );
    for generation in 1..newest {
        running.ended(generation).await;
    }
    nothing_was_cut(&running);
}

#[tokio::test]
async fn requests_keeps_its_sessions() {
    let running = start(AXUM).await;
    let mut script = Script::start("with_requests.py", &url(&running.target));
    let ports = seen_and_ended(&running, &mut script).await;
    assert_eq!(
        ports,
        client_ports(&running.target),
        "connections were closed"
    );
    assert_eq!(ports.len(), CONNECTIONS);
    assert_nothing_lost(&script.stop().await);
}

#[tokio::test]
async fn requests_loses_nothing_over_tls() {
    let running = start(TLS).await;
    let mut script = Script::start("with_requests.py", &url(&running.target));
    seen_and_ended(&running, &mut script).await;
    assert_nothing_lost(&script.stop().await);
}

#[tokio::test]
async fn aiohttp_keeps_its_pool() {
    let running = start(AXUM).await;
    let mut script = Script::start("with_aiohttp.py", &url(&running.target));
    let ports = seen_and_ended(&running, &mut script).await;
    let then = client_ports(&running.target);
    // The pool may have grown.
    assert!(ports.is_subset(&then), "of {ports:?} there are {then:?}");
    assert!(!ports.is_empty() && then.len() <= CONNECTIONS, "{then:?}");
    assert_nothing_lost(&script.stop().await);
}

#[tokio::test]
async fn aiohttp_loses_nothing_over_tls() {
    let running = start(TLS).await;
    let mut script = Script::start("with_aiohttp.py", &url(&running.target));
    seen_and_ended(&running, &mut script).await;
    assert_nothing_lost(&script.stop().await);
}

/// Python's own client: connections that are silent for a moment before they ask, and some through all handovers.
#[tokio::test]
async fn silent_connections_are_answered() {
    let running = start(AXUM).await;
    let mut script = Script::start("with_http_client.py", &running.target.to_string());
    seen_and_ended(&running, &mut script).await;
    assert_nothing_lost(&script.stop().await);
}

/// Each connection ends with 1012, and what was answered had been received.
#[tokio::test]
async fn websockets_is_told_to_come_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("messages");
    let program = Program::new(env!("CARGO_BIN_EXE_endings")).arg("ours");
    let running = serving(program.env("ENDINGS_FILE", &file)).await;
    let mut script = Script::start("with_websockets.py", &format!("ws://{}/ws", running.target));
    for generation in 1..=HANDOVERS {
        script.sees(generation).await;
        signal(serves(&running, generation).await, Signal::HUP);
        // The goodbyes of several handovers may go on at once. Of too many the oldest would be cut.
        if let Some(old @ 1..) = generation.checked_sub(2) {
            running.ended(old).await;
        }
    }
    running.ended(HANDOVERS).await;
    let counted = script.stop().await;
    assert_nothing_lost(&counted);
    let codes: Vec<&str> = counted.codes.keys().map(String::as_str).collect();
    assert_eq!(codes, ["1012"], "{counted:?}");
    assert!(counted.codes["1012"] > u64::from(HANDOVERS), "{counted:?}");
    let received = fs::read_to_string(file).expect("what was received");
    let received: BTreeSet<&str> = received.lines().collect();
    for (client, &count) in counted.acknowledged.iter().enumerate() {
        assert!(count > 0, "client {client} was never answered: {counted:?}");
        for message in (0..count).map(|number| format!("{client}-{number}")) {
            assert!(received.contains(message.as_str()), "{message} was lost");
        }
    }
}

async fn start(program: &str) -> Running {
    let running = serving(Program::new(program).arg("127.0.0.1:0")).await;
    match running.target {
        Target::Tcp(address) if program == TLS => Running {
            target: handover_tests::tls(address),
            ..running
        },
        _ => running,
    }
}

async fn serving(program: Program) -> Running {
    let service = program.start().expect("a program that can be started");
    let target = service.listening(1).await.swap_remove(0);
    let running = Running { service, target };
    serves(&running, 1).await;
    running
}

/// Waits until a generation serves, and tells which process it is.
async fn serves(running: &Running, generation: u32) -> Identity {
    let serves = format!("serving phase=serving generation={generation} pid=");
    let line = running.service.output().find(&serves).await.text;
    let rest = line.split_once(&serves).expect("it was found").1;
    let pid = rest.split(' ').next().and_then(|pid| pid.parse().ok());
    Identity {
        generation,
        pid: pid.unwrap_or_else(|| panic!("no pid in `{line}`")),
    }
}

/// Hands over as often as can be, each time when the predecessor has ended.
async fn hand_over(running: &Running) {
    hand_over_and(running, || {}).await;
}

/// The same, with something to check after each handover.
async fn hand_over_and(running: &Running, check: impl Fn()) {
    for generation in 1..=HANDOVERS {
        signal(serves(running, generation).await, Signal::HUP);
        running.ended(generation).await;
        check();
    }
    nothing_was_cut(running);
}

/// The same, each time when all clients of a script have been answered by the successor. Gives the ports that they had
/// before.
async fn seen_and_ended(running: &Running, script: &mut Script) -> BTreeSet<String> {
    script.sees(1).await;
    let ports = client_ports(&running.target);
    for generation in 1..=HANDOVERS {
        signal(serves(running, generation).await, Signal::HUP);
        script.sees(generation + 1).await;
        running.ended(generation).await;
    }
    nothing_was_cut(running);
    ports
}

/// Lets a client start over and over, as long as there are handovers, and tells how often it has.
async fn again_and_again(running: &Running, run: impl AsyncFn()) -> u32 {
    let over = Cell::new(false);
    let handovers = async {
        hand_over(running).await;
        over.set(true);
    };
    let runs = async {
        let mut count = 0;
        while !over.get() {
            run().await;
            count += 1;
        }
        count
    };
    join(handovers, runs).await.1
}

/// Hands over while a client has its connections, which are the same afterwards.
async fn keeps(running: &Running, client: &mut Outsider) {
    let ports = client.connected(&running.target, CONNECTIONS).await;
    let check = || assert_eq!(client_ports(&running.target), ports, "not all were kept");
    hand_over_and(running, check).await;
}

fn nothing_was_cut(running: &Running) {
    let output = running.service.output().to_string();
    assert!(!output.contains("what is left is cut"), "{output}");
}

/// Gives how many answers there were; a failure would be told.
async fn wrk_keeps(running: &Running, options: &[&str]) -> u64 {
    let mut wrk = wrk(&running.target, options);
    keeps(running, &mut wrk).await;
    answers_of_wrk(&wrk.interrupt().await)
}

fn wrk(target: &Target, options: &[&str]) -> Outsider {
    let mut wrk = Command::new("wrk");
    // What it takes for an error is a connection, and not how long an answer takes.
    wrk.args(["--threads=1", "--duration=1h", "--timeout=60s"])
        .arg(format!("--connections={CONNECTIONS}"))
        .args(options)
        .arg(url(target));
    Outsider::start("wrk", &mut wrk)
}

fn answers_of_wrk(output: &str) -> u64 {
    for failure in ["Socket errors", "Non-2xx"] {
        assert!(!output.contains(failure), "{output}");
    }
    let line = output.lines().find(|line| line.contains(" requests in "));
    let count = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
    count.unwrap_or_else(|| panic!("wrk does not say how many answers there were:\n{output}"))
}

fn ab(target: &Target, options: &[&str]) -> Outsider {
    let mut ab = Command::new("ab");
    // -l: the generations have names of different lengths. -s: how long an answer takes is no error.
    ab.args(["-q", "-l", "-s", "3600", "-t", "3600", "-n", "10000000"])
        .arg("-c")
        .arg(CONNECTIONS.to_string())
        .args(options)
        .arg(url(target));
    Outsider::start("apache2-utils", &mut ab)
}

/// One of the numbers that ab prints.
fn number(output: &str, label: &str) -> Option<u64> {
    let line = output.lines().find_map(|line| line.strip_prefix(label))?;
    line.trim().parse().ok()
}

/// Lets h2load ask 2000 times, each of which has to succeed.
async fn h2load(arguments: &[&str]) {
    let mut h2load = Command::new("h2load");
    let h2load = Outsider::start("nghttp2-client", h2load.args(arguments));
    let output = h2load.done().await;
    for whole in [
        "requests: 2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout",
        "status codes: 2000 2xx, 0 3xx, 0 4xx, 0 5xx",
    ] {
        assert!(output.lines().any(|line| line == whole), "{output}");
    }
}

/// Gives the body of a successful answer.
async fn curl(arguments: &[&str]) -> String {
    let mut curl = Command::new("curl");
    let curl = curl
        .args(["--silent", "--show-error", "--fail"])
        .args(arguments);
    Outsider::start("curl", curl).done().await
}

fn url(target: &Target) -> String {
    match target {
        Target::Tls(address) => format!("https://{address}/"),
        target => format!("http://{target}/"),
    }
}

fn assert_nothing_lost(counted: &Counted) {
    assert_eq!(counted.failures, Vec::<String>::new());
    assert!(counted.answers > u64::from(HANDOVERS), "{counted:?}");
}

const AXUM: &str = env!("CARGO_BIN_EXE_example-axum");
const TLS: &str = env!("CARGO_BIN_EXE_example-tls");
const TONIC: &str = env!("CARGO_BIN_EXE_example-tonic");

/// 100 streams on each of 20 connections, each used once.
const STREAMS: &[&str] = &[
    "--clients=20",
    "--max-concurrent-streams=100",
    "--requests=2000",
];

/// What the clients with a fixed number of connections have.
const CONNECTIONS: usize = 8;
const HANDOVERS: u32 = 50;
