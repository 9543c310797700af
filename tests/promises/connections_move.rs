//! Established connections move to the successor: their clients notice nothing.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use handover_tests::{Identity, Line, Process, Program, Service, Signal, Target, within};
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::SockRef;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};

use crate::support::kernel::listening_inodes;
use crate::support::program::unprivileged;
use crate::support::signal;

#[tokio::test]
async fn an_idle_connection_of_http_moves() {
    let running = Moving::start("http").await;
    let mut client = Client::connect(running.first()).await;
    assert_eq!(client.ask().await.generation, 1);
    for generation in 2..=4 {
        running.hand_over(generation).await;
        running.predecessors_end(generation - 1).await;
        for _ in 0..2 {
            assert_eq!(client.ask().await.generation, generation);
        }
    }
}

#[tokio::test]
async fn a_busy_connection_of_http_finishes_its_response_and_moves_then() {
    let running = Moving::start("http").await;
    let mut idle = Client::connect(running.first()).await;
    let mut busy = Client::connect(running.first()).await;
    idle.ask().await;
    busy.send("POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc")
        .await;
    busy.arrived(&running).await;
    running.hand_over(2).await;
    // The lane is open, by the evidence of this one.
    idle.answered_by(2).await;
    busy.send("def").await;
    let reply = busy.reply().await;
    assert_eq!(reply.identity.generation, 1, "{reply:?}");
    assert!(reply.body.ends_with(" 6") && !reply.closes, "{reply:?}");
    running.predecessors_end(1).await;
    assert_eq!(busy.ask().await.generation, 2);
}

/// Whether the lane is open or not when the requests come: each is answered once, and in order.
#[tokio::test]
async fn pipelined_requests_and_partial_heads_are_carried_over() {
    let running = Moving::start("http").await;
    let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let post = "POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n";
    let mut clients = Vec::new();
    for before in [
        "G",
        "GET / HTTP/1.1\r\nho",
        "PRI * HTT",
        &format!("{get}GET / HT"),
        &format!("{get}{get}{get}GET"),
        &format!("{post}0123456789G"),
        &format!("{post}0123456789{get}{get}"),
    ] {
        let mut client = Client::connect(running.first()).await;
        client.send(before).await;
        let whole = before.matches("\r\n\r\n").count();
        for _ in 0..whole {
            assert_eq!(client.reply().await.identity.generation, 1, "{before:?}");
        }
        client.arrived(&running).await;
        clients.push((before.to_owned(), client));
    }
    running.hand_over(2).await;
    running.predecessors_end(1).await;
    for (before, mut client) in clients {
        let begun = match before.rfind("\r\n\r\n") {
            Some(end) => &before[end + 4..],
            None => &before,
        };
        let begun = begun.strip_prefix("0123456789").unwrap_or(begun);
        if begun.starts_with("PRI") {
            // What began like HTTP/2 goes on as what it is.
            client.send("P/1.1\r\n\r\n").await;
            assert!(
                client.read_until(b'\n').await.contains("HTTP/1.1 "),
                "{before:?}"
            );
            continue;
        }
        client.send(&get[begun.len()..]).await;
        client.send(get).await;
        for _ in 0..2 {
            assert_eq!(client.reply().await.identity.generation, 2, "{before:?}");
        }
    }
}

/// The request is complete only when most of its response has not been written.
#[tokio::test]
async fn a_response_is_whole_though_the_request_ends_late() {
    let running = Moving::start("http").await;
    let mut idle = Client::connect(running.first()).await;
    idle.ask().await;
    let mut busy = Client::connect(running.first()).await;
    busy.send("POST /large HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\na")
        .await;
    let head = busy.head().await;
    assert!(head.contains("chunked") && !closes(&head), "{head}");
    running.hand_over(2).await;
    idle.answered_by(2).await;
    busy.send("bc").await;
    let body = busy.chunks().await;
    let line = body.iter().position(|&byte| byte == b'\n').expect("a line");
    assert_eq!(body.len() - line - 1, 100_000_000);
    assert_eq!(busy.ask().await.generation, 2);
    running.predecessors_end(1).await;
}

/// What is left of a body must never be taken for a request, by whichever generation.
#[tokio::test]
async fn a_body_that_nobody_reads_does_not_move_as_a_request() {
    let running = Moving::start("http").await;
    let mut idle = Client::connect(running.first()).await;
    idle.ask().await;
    let body = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut client = Client::connect(running.first()).await;
    let length = body.len();
    client
        .send(format!(
            "POST /ignore HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n"
        ))
        .await;
    // The rest waits for room: far more than the kernel keeps for a client that does not read.
    client.head().await;
    running.hand_over(2).await;
    idle.answered_by(2).await;
    client.send(body).await;
    let mut rest = Vec::new();
    // An end of whatever kind.
    within("the end", client.0.read_to_end(&mut rest))
        .await
        .ok();
    assert!(rest.iter().all(|&byte| byte == b'x'), "a request was seen");
    running.predecessors_end(1).await;
}

/// Nothing was read or written: any server will do on either side.
#[tokio::test]
async fn untouched_connections_move_whatever_the_server() {
    for server in ["http", "axum", "lines"] {
        let running = Moving::start(server).await;
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(Client::connect(running.first()).await);
        }
        let mut last = Client::connect(running.first()).await;
        // Those before have been accepted by then.
        last.greet(server).await;
        drop(last);
        for generation in 2..=4 {
            running.hand_over(generation).await;
            running.predecessors_end(generation - 1).await;
        }
        for client in &mut clients {
            assert_eq!(client.greet(server).await.generation, 4, "{server}");
        }
    }
}

/// A client keeps its one connection through a hundred handovers, and is greeted once.
#[tokio::test]
async fn a_connection_of_any_protocol_is_handed_over_with_its_state() {
    let running = Moving::start("numbers").await;
    let mut client = Client::connect(running.first()).await;
    assert_eq!(client.read_until(b'\n').await, "hello\n");
    let mut number = 0;
    for generation in 1..=101 {
        if generation > 1 {
            // The beginning of a line, and two whole ones that may or may not have been read.
            let lines = if generation % 2 == 0 {
                "a\nb\nc"
            } else {
                "a\nb\n"
            };
            client.send(lines).await;
            running.hand_over(generation).await;
            client
                .send(if generation % 2 == 0 { "\n" } else { "c\n" })
                .await;
            for _ in 0..3 {
                number += 1;
                assert_eq!(client.number().await.0, number);
            }
            running.predecessors_end(generation - 1).await;
        }
        number += 1;
        client.send("x\n").await;
        let (answered, identity) = client.number().await;
        assert_eq!((answered, identity.generation), (number, generation));
    }
}

/// The old generation, which drains for the sake of another one, keeps no copy of a connection open
/// that has moved; and with it go the tasks that nobody has ended.
#[tokio::test]
async fn a_connection_that_has_moved_ends_where_it_is_dropped() {
    let program = Program::new(MOVING)
        .arg("numbers")
        .env("MOVING_FORGETS", "1");
    let running = Moving::start_as(program).await;
    let mut clients = Vec::new();
    for said in ["x\n", "stay\n"] {
        let mut client = Client::connect(running.first()).await;
        assert_eq!(client.read_until(b'\n').await, "hello\n");
        client.send(said).await;
        assert_eq!(client.number().await.1.generation, 1);
        clients.push(client);
    }
    running.hand_over(2).await;
    let [moved, staying] = &mut clients[..] else {
        panic!("there are two");
    };
    // The old generation may still be the first to read.
    let mut answered = 1;
    while answered == 1 {
        moved.send("x\n").await;
        answered = moved.number().await.1.generation;
    }
    moved.send("drop\n").await;
    moved.ends().await;
    staying.send("x\n").await;
    assert_eq!(staying.number().await.1.generation, 1);
    staying.send("drop\n").await;
    running.predecessors_end(1).await;
    let output = running.service.output();
    output
        .find("what generation 1 had forgotten is dropped")
        .await;
}

#[tokio::test]
async fn addresses_and_options_of_a_connection_survive() {
    let running = Moving::start("numbers").await;
    let mut client = Client::connect(running.first()).await;
    assert_eq!(client.read_until(b'\n').await, "hello\n");
    client.send("socket\nnodelay\nsocket\n").await;
    assert!(client.read_until(b'\n').await.ends_with(" false\n"));
    client.number().await;
    let before = client.read_until(b'\n').await;
    let local = client.0.get_ref().local_addr().expect("connected");
    let peer = client.0.get_ref().peer_addr().expect("connected");
    assert_eq!(before, format!("{local} Some({peer}) true\n"));
    running.hand_over(2).await;
    running.predecessors_end(1).await;
    client.send("socket\nx\n").await;
    assert_eq!(client.read_until(b'\n').await, before);
    assert_eq!(client.number().await.1.generation, 2);
}

/// A protocol that greets would greet twice.
#[tokio::test]
async fn a_service_that_does_not_ask_for_resumed_connections_gets_none() {
    let program = Program::new(MOVING).arg("numbers").env("MOVING_ALOOF", "2");
    let running = Moving::start_as(program).await;
    let mut client = Client::connect(running.first()).await;
    assert_eq!(client.read_until(b'\n').await, "hello\n");
    running.hand_over(2).await;
    running.draining().await;
    let mut silent = Client::connect(running.first()).await;
    assert_eq!(silent.read_until(b'\n').await, "hello\n");
    silent.send("x\n").await;
    assert_eq!(silent.number().await.1.generation, 2);
    for number in 1..=3 {
        client.send("x\n").await;
        let (answered, identity) = client.number().await;
        assert_eq!((answered, identity.generation), (number, 1));
    }
    drop(client);
    running.predecessors_end(1).await;
}

/// There is never a moment in which no request is under way.
#[tokio::test]
async fn a_client_that_never_pauses_moves_with_its_requests() {
    let running = Moving::start("http").await;
    let client = Client::connect(running.first()).await;
    let (reading, mut writing) = client.0.into_inner().into_split();
    let writer = tokio::spawn(async move {
        let requests = "GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(100);
        // Until the other half is dropped, and the service hears of it.
        while writing.write_all(requests.as_bytes()).await.is_ok() {}
    });
    let mut client = Client(BufReader::new(reading));
    assert_eq!(client.reply().await.identity.generation, 1);
    running.hand_over(2).await;
    within("an answer of the successor", async {
        loop {
            let reply = client.reply().await;
            assert!(!reply.closes, "{reply:?}");
            if reply.identity.generation == 2 {
                break;
            }
        }
    })
    .await;
    running.predecessors_end(1).await;
    writer.abort();
}

/// The `echo` example keeps its clients, on TCP and on a Unix socket, and greets each once.
#[tokio::test]
async fn the_echo_example_keeps_its_clients() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("echo.sock");
    let program = Program::new(env!("CARGO_BIN_EXE_example-echo"));
    let service = program.arg("127.0.0.1:0").arg(&path).start();
    let service = service.expect("a program that can be started");
    let targets = service.listening(2).await;
    let tcp = targets
        .iter()
        .find(|target| matches!(target, Target::Tcp(_)));
    let mut tcp = Client::connect(tcp.expect("a TCP listener")).await;
    let unix = within("a connection", UnixStream::connect(&path)).await;
    let mut unix = Client(BufReader::new(unix.expect("somebody listens")));
    tcp.greeted().await;
    let mut incumbent = unix.greeted().await;
    for number in 1..=20 {
        signal(incumbent, Signal::HUP);
        tcp.echoes(number).await;
        unix.echoes(number).await;
        let process = Process::open(incumbent.pid);
        if let Ok(process) = process {
            process.exited().await;
        }
        let processes = service.processes();
        assert_eq!(processes.len(), 1, "{processes:?}");
        incumbent = Identity {
            pid: processes[0].pid(),
            generation: incumbent.generation + 1,
        };
        tcp.echoes(number).await;
        unix.echoes(number).await;
    }
}

/// A generation that is itself replaced takes no more: what it has not taken goes to its successor, and to the one
/// after that, and none is closed.
#[tokio::test]
async fn handovers_that_follow_each_other_at_once_close_none() {
    let running = Moving::start("http").await;
    let mut clients = Vec::new();
    for number in 0..200 {
        let mut client = Client::connect(running.first()).await;
        if number % 2 == 0 {
            client.ask().await;
        }
        clients.push(client);
    }
    for generation in 2..=10 {
        running.hand_over(generation).await;
    }
    running.predecessors_end(9).await;
    for client in &mut clients {
        assert_eq!(client.ask().await.generation, 10);
    }
}

/// The one between them is held by a request of its own, and takes nothing while it drains.
#[tokio::test]
async fn a_lane_leads_past_a_generation_that_drains() {
    let running = Moving::start("http").await;
    let mut oldest = busy_with_a_body(&running).await;
    running.hand_over(2).await;
    running.draining().await;
    let mut middle = busy_with_a_body(&running).await;
    running.hand_over(3).await;
    let mut newest = Client::connect(running.first()).await;
    newest.answered_by(3).await;
    for (client, generation) in [(&mut oldest, 1), (&mut middle, 2)] {
        client.send("def").await;
        let reply = client.reply().await;
        assert_eq!(reply.identity.generation, generation, "{reply:?}");
        assert!(!reply.closes, "{reply:?}");
        running.ends(generation).await;
        assert_eq!(client.ask().await.generation, 3);
    }
}

/// The one between them is killed before it has said anything of its successor's.
#[tokio::test]
async fn a_lane_leads_past_a_generation_that_was_killed() {
    let running = Moving::start("http").await;
    let mut oldest = busy_with_a_body(&running).await;
    running.hand_over(2).await;
    running.draining().await;
    let middle = busy_with_a_body(&running).await;
    running.hand_over(3).await;
    signal(running.generation(2).await, Signal::KILL);
    running.ends(2).await;
    drop(middle);
    oldest.send("def").await;
    let reply = oldest.reply().await;
    assert!(reply.identity.generation == 1 && !reply.closes, "{reply:?}");
    running.ends(1).await;
    assert_eq!(oldest.ask().await.generation, 3);
}

/// The one before it has not let go, and hears the oldest still: the newest leaves it to that one.
#[tokio::test]
async fn a_lane_has_one_reader_though_a_generation_was_killed() {
    let gate = Gate::new();
    let program = Program::new(MOVING).arg("http");
    let program = program.env("RUST_LOG", "handover=debug");
    let running = Moving::start_as(program.env("MOVING_HELD", gate.path())).await;
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(busy_with_a_body(&running).await);
    }
    for generation in 2..=4 {
        running.hand_over(generation).await;
    }
    signal(running.generation(3).await, Signal::KILL);
    running.ends(3).await;
    // The newest has done what it does about it.
    let credit = "Credit { connections: ";
    let output = running.service.output();
    output
        .wait_for("the credit of the newest", |lines| {
            let of_the_newest = |line: &&Line| line.text.contains("generation: Some(4)");
            let credits = lines.iter().filter(|line| line.text.contains(credit));
            credits.filter(of_the_newest).map(|_| ()).next()
        })
        .await;
    for client in &mut clients {
        client.send("def").await;
        let reply = client.reply().await;
        assert!(reply.identity.generation == 1 && !reply.closes, "{reply:?}");
    }
    gate.open();
    running.ends(2).await;
    running.ends(1).await;
    for client in &mut clients {
        assert_eq!(client.ask().await.generation, 4);
    }
}

/// A client whose request is incomplete, in the generation that accepts now.
async fn busy_with_a_body(running: &Moving) -> Client {
    let mut client = Client::connect(running.first()).await;
    client
        .send("POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc")
        .await;
    client.arrived(running).await;
    client
}

/// A client that goes away in this very moment concerns nobody else.
#[tokio::test]
async fn connections_whose_peer_has_gone_keep_nobody() {
    let running = Moving::start("http").await;
    let mut clients = Vec::new();
    for number in 0..60 {
        let mut client = Client::connect(running.first()).await;
        if number % 2 == 0 {
            client.ask().await;
        }
        clients.push(client);
    }
    let last = clients.split_off(40);
    signal(running.generation(1).await, Signal::HUP);
    for (number, client) in clients.into_iter().enumerate() {
        if number % 4 < 2 {
            // Closed without a word: reset.
            let socket = SockRef::from(client.0.get_ref());
            socket.set_linger(Some(Duration::ZERO)).expect("a socket");
        }
        drop(client);
    }
    running.generation(2).await;
    running.predecessors_end(1).await;
    for mut client in last {
        assert_eq!(client.ask().await.generation, 2);
    }
}

/// The successor says so, and what does not fit stays and drains in the ordinary way.
#[tokio::test]
async fn what_the_successor_has_no_descriptors_for_stays() {
    let program = Program::new(MOVING).arg("http").descriptors(100);
    let program = program.env("MOVING_DRAIN", "4000");
    let running = Moving::start_as(program).await;
    stays_in_part(&running, 70).await;
}

/// The descriptors are gone between its word and the arrival of the connections.
#[tokio::test]
async fn what_finds_no_descriptor_on_arrival_stays() {
    let (running, mut clients, gate) = at_the_gate(100).await;
    let mut cramping = Client::connect(running.first()).await;
    assert_eq!(cramping.read_until(b'\n').await, "hello\n");
    cramping.send("cramp 20\n").await;
    assert_eq!(cramping.number().await.1.generation, 2);
    gate.open();
    // It hears of what has not moved after all that has.
    running.service.output().find("refused: [").await;
    let mut moved = 0;
    for client in &mut clients {
        client.send("x\n").await;
        let (number, identity) = client.number().await;
        assert_eq!(number, 2);
        moved += usize::from(identity.generation == 2);
    }
    assert!((1..=20).contains(&moved), "{moved} moved");
    drop(clients);
    running.predecessors_end(1).await;
}

async fn stays_in_part(running: &Moving, count: usize) {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(running.first()).await;
        client.ask().await;
        clients.push(client);
    }
    running.hand_over(2).await;
    let mut stayed = Vec::new();
    let mut moved = 0;
    for mut client in clients {
        // Each is asked until it is clear where it is.
        let at = within("an answer that decides", async {
            loop {
                client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
                let reply = client.reply().await;
                match (reply.identity.generation, reply.closes) {
                    (1, false) => {}
                    (1, true) => return 1,
                    (2, false) => return 2,
                    _ => panic!("{reply:?}"),
                }
            }
        })
        .await;
        match at {
            1 => stayed.push(client),
            _ => moved += 1,
        }
    }
    assert!(moved > 0 && !stayed.is_empty(), "{moved} of {count} moved");
    drop(stayed);
    running.predecessors_end(1).await;
}

#[tokio::test]
async fn an_unprivileged_service_moves_its_connections() {
    let program = unprivileged(Program::new(MOVING).arg("http"), 31_416);
    let running = Moving::start_as(program.descriptors(500)).await;
    let mut clients = Vec::new();
    for _ in 0..400 {
        let mut client = Client::connect(running.first()).await;
        client.ask().await;
        clients.push(client);
    }
    running.hand_over(2).await;
    running.predecessors_end(1).await;
    for client in &mut clients {
        assert_eq!(client.ask().await.generation, 2);
    }
}

/// The successor dies with a thousand connections that it has not seen yet.
#[tokio::test]
async fn a_successor_that_dies_on_the_lane_takes_none_with_it() {
    let (running, mut clients) = on_the_lane().await;
    let second = Process::open(running.generation(2).await.pid).expect("it is stopped");
    second.kill();
    for client in &mut clients {
        client.send("x\n").await;
    }
    for client in &mut clients {
        let (number, identity) = client.number().await;
        assert_eq!((number, identity.generation), (2, 1));
    }
}

/// The predecessor dies, and what it has sent is the successor's.
#[tokio::test]
async fn a_predecessor_that_dies_on_the_lane_takes_none_with_it() {
    let (running, mut clients) = on_the_lane().await;
    let first = Process::open(running.generation(1).await.pid).expect("it drains");
    first.kill();
    first.exited().await;
    signal(running.generation(2).await, Signal::CONT);
    for client in &mut clients {
        client.send("x\n").await;
    }
    for client in &mut clients {
        let (number, identity) = client.number().await;
        assert_eq!((number, identity.generation), (2, 2));
    }
}

/// A service whose second generation is stopped, with a thousand connections on their way to it.
async fn on_the_lane() -> (Moving, Vec<Client>) {
    let (running, clients, gate) = at_the_gate(1000).await;
    let second = running.generation(2).await;
    signal(second, Signal::STOP);
    let process = Process::open(second.pid).expect("it is stopped");
    handover_tests::eventually("a stopped process", || {
        (process.status().ok()?.state == 'T').then_some(())
    })
    .await;
    gate.open();
    handover_tests::eventually("a thousand connections on their way", || {
        let lines = running.service.output().lines();
        let sent = |line: &&Line| line.text.contains("to the successor Connections");
        let batches: Vec<_> = lines.iter().filter(sent).collect();
        let connections = |line: &&Line| line.text.matches("Connection {").count();
        let connections: usize = batches.iter().map(connections).sum();
        // Each batch has a descriptor for the bytes of all.
        let all = in_flight(second.pid) == connections + batches.len();
        (connections == 1000 && all).then_some(())
    })
    .await;
    (running, clients)
}

/// A service whose second generation takes connections, and whose first has so many and waits.
async fn at_the_gate(count: usize) -> (Moving, Vec<Client>, Gate) {
    let gate = Gate::new();
    let program = Program::new(MOVING).arg("numbers").descriptors(4096);
    let program = program.env("RUST_LOG", "handover=debug");
    let running = Moving::start_as(program.env("MOVING_GATE", gate.path())).await;
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(running.first()).await;
        assert_eq!(client.read_until(b'\n').await, "hello\n");
        client.send("x\n").await;
        assert_eq!(client.number().await.0, 1);
        clients.push(client);
    }
    running.hand_over(2).await;
    running.service.output().find("at the gate").await;
    (running, clients, gate)
}

/// A FIFO at which a generation waits.
struct Gate(TempDir);

impl Gate {
    fn new() -> Self {
        let gate = Self(tempfile::tempdir().expect("a directory"));
        mkfifoat(CWD, gate.path(), Mode::RUSR | Mode::WUSR).expect("a FIFO");
        gate
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("gate")
    }

    fn open(self) {
        // Somebody waits on the other side.
        let gate = fs::File::options().write(true).open(self.path());
        drop(gate.expect("a FIFO"));
    }
}

/// How many descriptors wait in the sockets of a process, by the kernel's word.
fn in_flight(pid: u32) -> usize {
    let infos = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("/proc can be read");
    let waiting = infos.filter_map(|info| {
        let info = fs::read_to_string(info.ok()?.path()).ok()?;
        let field = |name| info.lines().find_map(|line| line.strip_prefix(name));
        let count: usize = field("scm_fds:")?.trim().parse().ok()?;
        Some((field("ino:")?.to_owned(), count))
    });
    // Two descriptors may be of the same socket.
    waiting.collect::<HashMap<_, _>>().into_values().sum()
}

/// It has never heard of the lane: everything drains as without one, at once.
#[tokio::test]
async fn nothing_moves_to_a_successor_of_an_older_version() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("service");
    symlink(MOVING, &program).expect("a link");
    let service = Program::new(&program).arg("http");
    let service = service.env("FIXTURE_TCP", "first=127.0.0.1:0");
    let running = Moving::start_as(service).await;
    let mut idle = Client::connect(running.first()).await;
    idle.ask().await;
    let silent = Client::connect(running.first()).await;
    silent.arrived(&running).await;
    fs::remove_file(&program).expect("a link");
    symlink(OLDER, &program).expect("a link");
    running.hand_over(2).await;
    running.draining().await;
    for mut client in [idle, silent] {
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let reply = client.reply().await;
        assert!(reply.identity.generation == 1 && reply.closes, "{reply:?}");
    }
    running.predecessors_end(1).await;
}

/// The successor may yet say that it serves it, until a quarter of the drain has passed.
#[tokio::test]
async fn connections_of_an_endpoint_that_nobody_serves_drain() {
    let program = Program::new(MOVING).arg("http").env("MOVING_SECOND", "1");
    let running = Moving::start_as(program.env("MOVING_DRAIN", "4000")).await;
    let line = running.service.output().find("second on ").await.text;
    let address = line.rsplit(' ').next().expect("an address");
    let second = Target::Tcp(address.parse().expect("an address"));
    let mut moves = Client::connect(running.first()).await;
    moves.ask().await;
    let mut stays = Client::connect(&second).await;
    stays.ask().await;
    running.hand_over(2).await;
    moves.answered_by(2).await;
    within("an announced end", async {
        loop {
            stays.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            let reply = stays.reply().await;
            assert_eq!(reply.identity.generation, 1, "{reply:?}");
            if reply.closes {
                break;
            }
        }
    })
    .await;
    drop(stays);
    running.predecessors_end(1).await;
}

/// Ten thousand clients that say nothing, ten times over.
#[tokio::test]
async fn ten_thousand_idle_connections_survive_ten_handovers() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("a limit of our own");
    let count = usize::try_from(most.saturating_sub(500))
        .expect("a number")
        .min(10_000);
    let running = Moving::start("http").await;
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = Client::connect(running.first()).await;
        client.ask().await;
        clients.push(client);
    }
    let mut memory = Vec::new();
    for generation in 2..=11 {
        running.hand_over(generation).await;
        running.predecessors_end(generation - 1).await;
        // Some speak, so that there is more to move than silence.
        for client in clients.iter_mut().step_by(100) {
            assert_eq!(client.ask().await.generation, generation);
        }
        let pid = running.generation(generation).await.pid;
        let process = Process::open(pid).expect("it serves");
        memory.push(process.memory().expect("it serves").resident);
    }
    for client in &mut clients {
        assert_eq!(client.ask().await.generation, 11);
    }
    let (first, last) = (memory[1], memory[9]);
    assert!(last < first + first / 4, "{memory:?}");
}

/// A service, and where it listens.
#[derive(Debug)]
struct Moving {
    service: Service,
    first: Target,
}

impl Moving {
    async fn start(server: &str) -> Self {
        Self::start_as(Program::new(MOVING).arg(server)).await
    }

    async fn start_as(program: Program) -> Self {
        let service = program.start().expect("a program that can be started");
        let line = service.output().find("first on ").await.text;
        let address = line.rsplit(' ').next().expect("an address");
        service.output().find("generation=1 serves").await;
        Self {
            service,
            first: Target::Tcp(address.parse().expect("an address")),
        }
    }

    fn first(&self) -> &Target {
        &self.first
    }

    /// Hands over to that generation, and waits until it serves.
    async fn hand_over(&self, to: u32) -> Identity {
        signal(self.generation(to - 1).await, Signal::HUP);
        self.generation(to).await
    }

    async fn generation(&self, number: u32) -> Identity {
        let says = format!("generation={number} serves");
        let line = self.service.output().find(&says).await.text;
        Identity::parse(line.trim_end_matches(" serves")).expect("it says who it is")
    }

    /// Waits until the first generation drains.
    async fn draining(&self) {
        let first = self.generation(1).await;
        handover_tests::eventually("a generation that does not listen", || {
            listening_inodes(first).is_empty().then_some(())
        })
        .await;
    }

    /// Waits until the generations before the last have ended: `count` of them ever were.
    async fn predecessors_end(&self, count: u32) {
        for generation in 1..=count {
            self.ends(generation).await;
        }
    }

    async fn ends(&self, generation: u32) {
        let pid = self.generation(generation).await.pid;
        if let Ok(process) = Process::open(pid) {
            process.exited().await;
        }
    }
}

#[derive(Debug)]
struct Client<S = TcpStream>(BufReader<S>);

#[derive(Debug)]
struct Reply {
    identity: Identity,
    body: String,
    closes: bool,
}

impl Client {
    async fn connect(target: &Target) -> Self {
        let Target::Tcp(address) = target else {
            panic!("{target} is not TCP");
        };
        let stream = within("a connection", TcpStream::connect(address)).await;
        let stream = stream.expect("somebody listens");
        stream.set_nodelay(true).expect("a socket of TCP");
        Self(BufReader::new(stream))
    }

    /// Waits until the service has read all that was sent: a later connection was answered, and
    /// nothing waits in the kernel.
    async fn arrived(&self, running: &Moving) {
        Self::connect(running.first()).await.ask().await;
        handover_tests::eventually("what was sent has been read", || {
            let address = self.0.get_ref().peer_addr().expect("connected");
            let ours = self.0.get_ref().local_addr().expect("connected");
            unread(address.port(), ours.port()).then_some(())
        })
        .await;
    }

    /// Asks over HTTP: the connection must stay.
    async fn ask(&mut self) -> Identity {
        self.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let reply = self.reply().await;
        assert!(!reply.closes, "{reply:?}");
        reply.identity
    }

    /// Asks until that generation answers.
    async fn answered_by(&mut self, generation: u32) {
        within(format_args!("generation {generation}"), async {
            while self.ask().await.generation != generation {}
        })
        .await;
    }

    async fn greet(&mut self, server: &str) -> Identity {
        if server == "lines" {
            self.send("hello\n").await;
            let line = self.read_until(b'\n').await;
            return Identity::parse(line.trim_end()).expect("it says who it is");
        }
        self.ask().await
    }

    async fn number(&mut self) -> (u64, Identity) {
        let line = self.read_until(b'\n').await;
        let (number, identity) = line.trim_end().split_once(' ').expect("two words");
        let identity = Identity::parse(identity).expect("it says who it is");
        (number.parse().expect("a number"), identity)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn greeted(&mut self) -> Identity {
        let greeting = self.read_until(b'\n').await;
        let identity = Identity::parse(greeting.trim_end()).expect("a greeting");
        assert_eq!(identity.generation, 1);
        identity
    }

    async fn echoes(&mut self, number: u32) {
        self.send(format!("half of {number}")).await;
        self.send(format!(" and the rest\nmore {number}\n")).await;
        let expected = format!("half of {number} and the rest\n");
        assert_eq!(self.read_until(b'\n').await, expected);
        assert_eq!(self.read_until(b'\n').await, format!("more {number}\n"));
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let written = within("room", self.0.write_all(bytes.as_ref())).await;
        written.expect("the connection is open");
    }
}

impl<S: AsyncRead + Unpin> Client<S> {
    async fn reply(&mut self) -> Reply {
        let head = self.head().await;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .unwrap_or_else(|| panic!("no length: {head}"));
        let mut body = vec![0; length.parse().expect("a length")];
        within("a body", self.0.read_exact(&mut body))
            .await
            .expect("a whole body");
        let body = String::from_utf8(body).expect("text");
        let identity = body.split(' ').take(2).collect::<Vec<_>>().join(" ");
        Reply {
            identity: Identity::parse(&identity).unwrap_or_else(|| panic!("who is {body}?")),
            body,
            closes: closes(&head),
        }
    }

    async fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head += &self.read_until(b'\n').await;
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        head
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let length = self.read_until(b'\n').await;
            let length = usize::from_str_radix(length.trim_end(), 16).expect("a length");
            let mut chunk = vec![0; length + 2];
            within("a chunk", self.0.read_exact(&mut chunk))
                .await
                .expect("a whole chunk");
            if length == 0 {
                return body;
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }

    /// Waits for the end, before which nothing comes.
    async fn ends(&mut self) {
        let mut rest = Vec::new();
        let read = within("the end", self.0.read_to_end(&mut rest)).await;
        assert_eq!(read.expect("an orderly end"), 0, "{}", rest.escape_ascii());
    }

    async fn read_until(&mut self, end: u8) -> String {
        let mut text = Vec::new();
        let read = within("an answer", self.0.read_until(end, &mut text)).await;
        read.expect("the connection is open");
        assert!(text.ends_with(&[end]), "it ended: {}", text.escape_ascii());
        String::from_utf8(text).expect("text")
    }
}

fn closes(head: &str) -> bool {
    head.to_ascii_lowercase()
        .contains("\r\nconnection: close\r\n")
}

/// Whether nothing waits to be read on the connection of these ports, by the kernel's table.
fn unread(server: u16, client: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").expect("/proc can be read");
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let port = |field: usize| fields.get(field).and_then(|f| f.rsplit_once(':')?.1.into());
        port(1) == Some(format!("{server:04X}").as_str())
            && port(2) == Some(format!("{client:04X}").as_str())
            && fields
                .get(4)
                .is_some_and(|queues| queues.ends_with(":00000000"))
    })
}

const MOVING: &str = env!("CARGO_BIN_EXE_moving");
const OLDER: &str = env!("CARGO_BIN_EXE_fixture-older");
