//! What lasts is told of the drain in its own words: WebSockets by a close frame, endless responses
//! by their end, connections by an announcement, load balancers by a readiness that flips.

use std::collections::BTreeSet;
use std::fs;

use futures::future::join_all;
use futures::{SinkExt, StreamExt};
use handover_tests::{Exit, Identity, Program, Signal, Target, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::client::Client;
use crate::support::{Running, all, millis};

/// Members say something all the time, and come back whenever they are sent away.
#[tokio::test]
async fn every_websocket_gets_a_close_frame_and_no_message_is_lost() {
    all(["ours", "axum", "tungstenite"], async |server| {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("taken");
        let endings = Endings::new(server).env("ENDINGS_FILE", &file);
        let running = endings.start().await;
        let closes = watch::Sender::new(Vec::new());
        let members = join_all((0..MEMBERS).map(|member| talk(&running.target, member, &closes)));
        let hand_over = async {
            for handover in 1..=HANDOVERS {
                let answered = |events: &Vec<Event>| members_of(events, handover, false) == MEMBERS;
                let mut seen = closes.subscribe();
                within("answers", seen.wait_for(answered))
                    .await
                    .expect("members");
                let (_, process) = serving(&running, handover).await;
                process.signal(Signal::HUP).expect("it serves");
                let closed = |events: &Vec<Event>| members_of(events, handover, true) == MEMBERS;
                within("closes", seen.wait_for(closed))
                    .await
                    .expect("members");
            }
        };
        let (sent, ()) = tokio::join!(members, hand_over);
        for handover in 1..=HANDOVERS {
            let of_this = closes.borrow().clone().into_iter();
            let of_this = of_this.filter(|event| event.generation == handover);
            let at: Vec<_> = of_this.filter_map(|event| event.closed).collect();
            let (first, last) = (at.iter().min(), at.iter().max());
            let spread = *last.expect("closes") - *first.expect("closes");
            assert!(spread > millis(50), "{server}: all within {spread:?}");
        }
        let taken = fs::read_to_string(&file).expect("a file");
        let taken: BTreeSet<&str> = taken.lines().collect();
        let lost: Vec<_> = sent
            .iter()
            .flatten()
            .filter(|message| !taken.contains(message.as_str()))
            .collect();
        assert_eq!(lost, [""; 0], "{server}");
        running.stopped().await;
    })
    .await;
}

/// A handler that only waits for the drain need not say a word.
#[tokio::test]
async fn a_websocket_of_the_example_comes_back() {
    let service = Program::new(env!("CARGO_BIN_EXE_example-websocket"))
        .arg("127.0.0.1:0")
        .start()
        .expect("a program");
    let target = service.listening(1).await.swap_remove(0);
    let running = Running { service, target };
    let hears = async |socket: &mut Socket, text: &str| {
        let heard = within(format_args!("`{text}`"), socket.next()).await;
        let heard = heard.expect("a message").expect("WebSocket");
        assert_eq!(heard, Message::text(text));
    };
    running.service.output().find("serving phase=serving").await;
    for generation in 1..=3 {
        let welcome = format!("* welcome to the room of generation {generation}");
        let mut ada = websocket(&running.target, "room").await;
        let mut bob = websocket(&running.target, "room").await;
        hears(&mut ada, &welcome).await;
        hears(&mut bob, &welcome).await;
        ada.send(Message::text("ada: hello"))
            .await
            .expect("it is open");
        hears(&mut ada, "ada: hello").await;
        hears(&mut bob, "ada: hello").await;
        let pid = pid_of(&running, generation).await;
        let process = handover_tests::Process::open(pid).expect("it serves");
        process.signal(Signal::HUP).expect("it serves");
        for socket in [&mut ada, &mut bob] {
            assert_eq!(closed(socket).await, CloseCode::Restart);
        }
        assert_eq!(process.exited().await, Exit::Code(0));
    }
    running.stopped().await;
}

/// The response is complete, so that the client asks again.
#[tokio::test]
async fn endless_responses_end_with_their_last_chunk() {
    all(["ours", "axum"], async |server| {
        let running = Endings::new(server).start().await;
        let mut stream = connect(&running.target).await;
        send(&mut stream, "/events").await;
        let mut text = String::new();
        read_until(&mut stream, &mut text, "data: 3\n\n").await;
        running.hand_over_quietly().await;
        read_until(&mut stream, &mut text, "\r\n0\r\n\r\n").await;
        assert!(text.ends_with("\r\n0\r\n\r\n"), "{text}");
        drop(stream);
        running.ended_by_itself().await;
        running.stopped().await;
    })
    .await;
}

#[tokio::test]
async fn the_layer_announces_the_end_of_connections_of_any_server() {
    let running = Endings::new("axum").start().await;
    let mut stream = connect(&running.target).await;
    let mut asks_service = connect(&running.target).await;
    let mut asks_generation = connect(&running.target).await;
    for (stream, path) in [
        (&mut stream, "/"),
        (&mut asks_service, "/ready"),
        (&mut asks_generation, "/alive"),
    ] {
        let answer = ask(stream, path).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(!answer.contains("connection:"), "{answer}");
    }
    running.hand_over_quietly().await;
    let answer = ask(&mut stream, "/").await;
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(answer.contains("generation=1"), "{answer}");
    assert_eq!(stream.read(&mut [0]).await.expect("an orderly end"), 0);
    // The service is as ready as ever; this generation is not.
    let answer = ask(&mut asks_service, "/ready").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    let answer = ask(&mut asks_generation, "/alive").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.ends_with("draining"), "{answer}");
    drop((stream, asks_service, asks_generation));
    running.ended_by_itself().await;
    let mut stream = connect(&running.target).await;
    let answer = ask(&mut stream, "/").await;
    assert!(!answer.contains("connection:"), "{answer}");
    assert!(answer.contains("generation=2"), "{answer}");
    drop(stream);
    running.stopped().await;
}

#[tokio::test]
async fn the_layer_refuses_what_begins_in_the_drain_where_it_is_told_to() {
    let running = Endings::new("refusing").start().await;
    let mut idle = connect(&running.target).await;
    let mut busy = connect(&running.target).await;
    assert!(ask(&mut idle, "/").await.contains("generation=1"));
    send(&mut busy, "/slow?ms=500").await;
    // An answer to a later request on another connection: that one has arrived.
    assert!(ask(&mut idle, "/").await.contains("generation=1"));
    running.hand_over_quietly().await;
    let answer = ask(&mut idle, "/").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: 2\r\n"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    let answer = receive(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    drop((idle, busy));
    running.ended_by_itself().await;
    running.stopped().await;
}

/// A service that stops is not ready, and answers all the same, until its lame-duck time is over.
#[tokio::test]
async fn a_lame_duck_says_that_it_is_not_ready_and_accepts() {
    let endings = Endings::new("ours").env("ENDINGS_LAME_DUCK", "100000");
    let running = endings.start().await;
    let output = running.service.output();
    output.find("before it serves: 503").await;
    let mut balancer = connect(&running.target).await;
    let answer = ask(&mut balancer, "/ready").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let first = running.service.first();
    first.signal(Signal::TERM).expect("it serves");
    output.find("stopping: not ready for more").await;
    let answer = ask(&mut balancer, "/ready").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.ends_with("stopping"), "{answer}");
    assert!(!answer.contains("connection: close"), "{answer}");
    for _ in 0..3 {
        let (_, identity) = Client::of_generation(&running.target, 1).await;
        assert_eq!(identity.pid, first.pid());
    }
    first.signal(Signal::HUP).expect("it serves");
    output.find("this generation is stopping").await;

    // The second stop ends that time, and the drain completes what there is.
    let mut busy = connect(&running.target).await;
    send(&mut busy, "/slow?ms=500").await;
    assert!(!ask(&mut balancer, "/").await.contains("connection: close"));
    first.signal(Signal::TERM).expect("it serves");
    output.find("draining phase=draining generation=1").await;
    let answer = receive(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(ask(&mut balancer, "/").await.contains("connection: close"));
    drop((balancer, busy));
    running.ended_by_itself().await;
}

#[tokio::test]
async fn a_lame_duck_ends_by_itself_and_at_once_at_the_third_stop() {
    let endings = Endings::new("ours").env("ENDINGS_LAME_DUCK", "400");
    let running = endings.start().await;
    let since = Instant::now();
    running
        .service
        .first()
        .signal(Signal::TERM)
        .expect("it serves");
    running.ended_by_itself().await;
    assert!(since.elapsed() >= millis(400));

    let endings = Endings::new("ours").env("ENDINGS_LAME_DUCK", "100000");
    let running = endings.start().await;
    let (first, output) = (running.service.first(), running.service.output());
    let mut busy = connect(&running.target).await;
    send(&mut busy, "/slow?ms=100000").await;
    let (_, _) = Client::of_generation(&running.target, 1).await;
    for said in [
        "stopping: not ready for more",
        "draining phase=draining generation=1",
        "another stop: what is left is cut",
    ] {
        first.signal(Signal::TERM).expect("it serves");
        output.find(said).await;
    }
    assert_eq!(first.exited().await, Exit::Code(0));
}

/// The fixture, with what it is to serve.
struct Endings(Program);

impl Endings {
    fn new(server: &str) -> Self {
        Self(Program::new(env!("CARGO_BIN_EXE_endings")).arg(server))
    }

    fn env(self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        Self(self.0.env(name, value))
    }

    async fn start(self) -> Running {
        let service = self.0.start().expect("a program");
        let target = service.listening(1).await.swap_remove(0);
        service.output().find("generation=1 serves").await;
        Running { service, target }
    }
}

impl Running {
    /// Hands over, without a request, and waits until the first generation drains.
    async fn hand_over_quietly(&self) {
        let first = self.service.first();
        first.signal(Signal::HUP).expect("it serves");
        let output = self.service.output();
        output.find("generation=2 serves").await;
        output.find("draining phase=draining generation=1").await;
    }

    /// Waits for the end of the first generation, for which no deadline was needed.
    async fn ended_by_itself(&self) {
        assert_eq!(self.service.first().exited().await, Exit::Code(0));
        let output = self.service.output().to_string();
        assert!(!output.contains("what is left is cut"), "{output}");
    }

    /// Stops the service, and checks that it ends by itself.
    async fn stopped(&self) {
        self.service.stop().await;
        let output = self.service.output().to_string();
        assert!(!output.contains("what is left is cut"), "{output}");
    }
}

type Socket = WebSocketStream<TcpStream>;

/// An answer, or the close frame that the connection ended with.
#[derive(Clone, Debug)]
struct Event {
    member: usize,
    generation: u32,
    closed: Option<Instant>,
}

/// How many members a generation has answered, or closed.
fn members_of(events: &[Event], generation: u32, closed: bool) -> usize {
    let of_this = events.iter().filter(|event| event.generation == generation);
    let of_this = of_this.filter(|event| event.closed.is_some() == closed);
    of_this
        .map(|event| event.member)
        .collect::<BTreeSet<_>>()
        .len()
}

/// Sends one message after the other over one connection after the other, and returns them all.
async fn talk(target: &Target, member: usize, events: &watch::Sender<Vec<Event>>) -> Vec<String> {
    let mut sent = Vec::new();
    let mut pace = interval(millis(5));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ended = 0;
    while ended < HANDOVERS {
        let mut socket = websocket(target, "ws").await;
        let mut generation = None;
        loop {
            let message = tokio::select! {
                message = within("a message", socket.next()) => message,
                _ = pace.tick() => {
                    let text = format!("{member} says {}", sent.len());
                    sent.push(text.clone());
                    socket.send(Message::text(text)).await.expect("nobody has said goodbye");
                    continue;
                }
            };
            match message.expect("a word before the end").expect("WebSocket") {
                Message::Text(answer) => {
                    let identity = Identity::parse(&answer).expect("an identity");
                    generation = Some(identity.generation);
                    events.send_modify(|events| {
                        events.push(Event {
                            member,
                            generation: identity.generation,
                            closed: None,
                        });
                    });
                }
                Message::Close(frame) => {
                    assert_eq!(frame.expect("a reason").code, CloseCode::Restart);
                    break;
                }
                other => panic!("not expected: {other}"),
            }
        }
        let closed = Some(Instant::now());
        assert!(
            within("the end", socket.next()).await.is_none(),
            "an orderly end"
        );
        // One that was sent away before its first answer does not count.
        if let Some(generation) = generation {
            ended += 1;
            events.send_modify(|events| {
                events.push(Event {
                    member,
                    generation,
                    closed,
                })
            });
        }
    }
    sent
}

/// The generation that serves, from what it has printed.
async fn serving(running: &Running, generation: u32) -> (u32, handover_tests::Process) {
    let pid = pid_of(running, generation).await;
    (pid, handover_tests::Process::open(pid).expect("it serves"))
}

async fn pid_of(running: &Running, generation: u32) -> u32 {
    let active = format!("active generation={generation} pid=");
    let line = running.service.output().find(&active).await.text;
    let pid = line
        .split("pid=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    pid.and_then(|pid| pid.parse().ok()).expect("a pid")
}

async fn websocket(target: &Target, path: &str) -> Socket {
    let handshake =
        tokio_tungstenite::client_async(format!("ws://{target}/{path}"), connect(target).await);
    within("a handshake", handshake).await.expect("WebSocket").0
}

/// Waits for the close frame, whatever comes before it, and for the end.
async fn closed(socket: &mut Socket) -> CloseCode {
    within("a close", async {
        loop {
            if let Message::Close(frame) = socket.next().await.expect("a word").expect("WebSocket")
            {
                assert!(socket.next().await.is_none(), "an orderly end");
                return frame.expect("a reason").code;
            }
        }
    })
    .await
}

async fn connect(target: &Target) -> TcpStream {
    let Target::Tcp(address) = target else {
        panic!("{target} is not TCP");
    };
    let stream = within("a connection", TcpStream::connect(address)).await;
    stream.expect("somebody listens")
}

async fn send(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let written = stream.write_all(request.as_bytes()).await;
    written.expect("the connection is open");
}

async fn ask(stream: &mut TcpStream, path: &str) -> String {
    send(stream, path).await;
    receive(stream).await
}

/// Reads an answer that has a length, in small letters but for its body.
async fn receive(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    read_until(stream, &mut text, "\r\n\r\n").await;
    let length = text.split("content-length: ").nth(1).expect("a length");
    let length: usize = length
        .split('\r')
        .next()
        .unwrap_or_default()
        .parse()
        .expect("a number");
    let head = text.find("\r\n\r\n").expect("a head") + 4;
    let mut body = vec![0; (head + length).saturating_sub(text.len())];
    within("a body", stream.read_exact(&mut body))
        .await
        .expect("a body");
    text + &String::from_utf8_lossy(&body)
}

async fn read_until(stream: &mut TcpStream, text: &mut String, end: &str) {
    within(format_args!("`{}`", end.escape_debug()), async {
        while !text.contains(end) {
            let mut buffer = [0; 1024];
            let count = stream.read(&mut buffer).await.expect("no error");
            assert!(count > 0, "the end came first: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    })
    .await;
}

const HANDOVERS: u32 = 5;
const MEMBERS: usize = 8;
