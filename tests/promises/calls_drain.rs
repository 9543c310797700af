//! gRPC drains: unary calls are answered, streams end with a status, health says so, and clients that we did not write
//! follow the GOAWAY.

use std::process::Stdio;

use futures::StreamExt;
use handover_tests::load::Kind;
use handover_tests::{Exit, Identity, Load, Program, Signal, Target, within};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::greeter::greeter_client::GreeterClient;
use crate::greeter::{self, FollowRequest, WhoRequest, Word};
use crate::support::{Running, signal};
use crate::tally::{Share, Tally};

/// tonic's own client, with every kind of call.
#[tokio::test]
async fn tonics_client_loses_no_call() {
    let running = start(TONIC).await;
    let mut tally = Tally::new();
    for number in 0..4 {
        let client = connect(&running.target).await;
        let ms = number % 3;
        tally.add(|share| ask(client, ms, share));
    }
    for _ in 0..2 {
        let client = connect(&running.target).await;
        tally.add(|share| follow(client, 10, share));
        let client = connect(&running.target).await;
        tally.add(|share| follow(client, 0, share));
        let client = connect(&running.target).await;
        tally.add(|share| talk(client, share));
    }
    tally.hand_over(&running, HANDOVERS).await;
    // The endless streams of the second to last one at least.
    tally
        .wait_for("ends of streams", |seen| seen.ended > 2)
        .await;
    let seen = tally.stop().await;
    assert_eq!(seen.failures, Vec::<String>::new());
}

/// gRPC's own client, which sends anew what it could not send; from Debian's python3-grpcio.
#[tokio::test]
async fn grpcio_loses_no_call() {
    #[derive(Debug, Deserialize)]
    struct Counted {
        unary: u64,
        streams: u64,
        failed: Vec<String>,
    }

    let running = start(TONIC).await;
    let mut client = Command::new("/usr/bin/python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/promises/greeter.py"))
        .arg(running.target.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("/usr/bin/python3 can be executed (Debian: python3)");
    let output = client.stdout.take().expect("it was asked for");
    let mut output = BufReader::new(output).lines();
    let mut line = async || {
        let line = within("a line of the client", output.next_line()).await;
        line.expect("text")
            .expect("the client failed: install python3-grpcio if it has no module `grpc`")
    };
    for generation in 1..=HANDOVERS {
        let line = line().await;
        let numbers: Vec<u32> = line.split(' ').flat_map(str::parse).collect();
        let [pid, answered] = numbers[..] else {
            panic!("not who has answered: {line}");
        };
        assert_eq!(answered, generation);
        signal(Identity { generation, pid }, Signal::HUP);
        // Of those that drain at once the oldest is cut when there are too many.
        if let Some(old @ 1..) = generation.checked_sub(2) {
            running.ended(old).await;
        }
    }
    line().await;
    // Its standard input ends.
    drop(client.stdin.take());
    let counted: Counted = serde_json::from_str(&line().await).expect("what it has counted");
    assert_eq!(counted.failed, Vec::<String>::new(), "{counted:?}");
    assert!(counted.unary > 0 && counted.streams > 0, "{counted:?}");
}

/// At the deadline a stream ends with a status, and not with a broken connection; so does a call without an answer.
#[tokio::test]
async fn what_outlives_the_drain_ends_with_a_status() {
    let program = Program::new(env!("CARGO_BIN_EXE_any-server"))
        .args(["handover-tonic", "multi_thread"])
        .env("ANY_SERVER_DRAIN", "2000");
    let running = serving(program).await;
    let mut client = HealthClient::new(channel(&running.target).await);
    let request = health_of("generation 1");
    let watch = within("a stream", client.watch(request)).await;
    let mut statuses = watch.expect("it is served").into_inner();
    let first = within("a status", statuses.message()).await;
    assert_eq!(serving_status(first), Ok(Some(ServingStatus::Serving)));

    let first = running.service.first();
    first.signal(Signal::HUP).expect("it serves");

    let end = within("the end of the stream", statuses.message()).await;
    let status = end.expect_err("the stream has no other end");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("has been replaced"), "{status}");
    // The generation ended by itself then: there was nothing left to cut.
    assert_eq!(first.exited().await, Exit::Code(0));
    let output = running.service.output().to_string();
    assert!(!output.contains("what is left is cut"), "{output}");
}

#[tokio::test]
async fn health_says_that_it_does_not_serve_any_more() {
    let running = start(TONIC).await;
    // A call in progress keeps the connection, on which health can still be asked.
    let mut busy = connect(&running.target).await;
    let mut words = busy_talk(&mut busy).await;
    let mut client = HealthClient::new(channel(&running.target).await);
    for name in ["", "greeter.Greeter"] {
        let answer = client
            .check(health_of(name))
            .await
            .map(|answer| Some(answer.into_inner()));
        assert_eq!(serving_status(answer), Ok(Some(ServingStatus::Serving)));
    }
    let watch = client.watch(health_of("greeter.Greeter")).await;
    let mut statuses = watch.expect("it is served").into_inner();
    let first = within("a status", statuses.message()).await;
    assert_eq!(serving_status(first), Ok(Some(ServingStatus::Serving)));

    running
        .service
        .first()
        .signal(Signal::HUP)
        .expect("it serves");

    let then = within("a status", statuses.message()).await;
    assert_eq!(serving_status(then), Ok(Some(ServingStatus::NotServing)));
    let end = within("the end", statuses.message()).await;
    assert_eq!(serving_status(end), Ok(None), "watching keeps nobody");
    // What goes on is not disturbed.
    assert_eq!(words.say("still there?").await.generation, 1);
    assert!(running.service.first().is_running());
    drop(words);
    assert_eq!(running.service.first().exited().await, Exit::Code(0));
}

/// HTTP/1.1 and gRPC on the one port of the example `axum_and_tonic`.
#[tokio::test]
async fn one_port_serves_axum_and_tonic() {
    let running = start(env!("CARGO_BIN_EXE_example-axum-and-tonic")).await;
    let busy = [Kind::New, Kind::KeepAlive, Kind::ThinkTime];
    let plan = Load::on(running.target.clone());
    let load = busy
        .into_iter()
        .fold(plan, |plan, kind| plan.clients(kind, 2))
        .start();
    let mut tally = Tally::new();
    for _ in 0..2 {
        let client = connect(&running.target).await;
        tally.add(|share| ask(client, 0, share));
    }
    tally.hand_over(&running, 10).await;
    load.progress(1).await;
    assert_eq!(tally.stop().await.failures, Vec::<String>::new());
    load.stop().await.assert_nothing_lost();
}

async fn start(program: &str) -> Running {
    serving(Program::new(program).arg("127.0.0.1:0")).await
}

async fn serving(program: Program) -> Running {
    let service = program.start().expect("a program that can be started");
    let target = service.listening(1).await.swap_remove(0);
    Running { service, target }
}

async fn channel(target: &Target) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{target}")).expect("an address");
    within("a connection", endpoint.connect())
        .await
        .expect("gRPC")
}

async fn connect(target: &Target) -> GreeterClient<Channel> {
    GreeterClient::new(channel(target).await)
}

fn identity(identity: &greeter::Identity) -> Identity {
    Identity {
        generation: identity.generation,
        pid: identity.pid,
    }
}

/// Unary calls, one after the other.
async fn ask(mut client: GreeterClient<Channel>, ms: u64, share: Share) {
    while !share.is_over() {
        match client.who(WhoRequest { ms }).await {
            Ok(answer) => share.answered(identity(answer.get_ref())),
            Err(status) if was_not_sent(&status) => share.unsent(),
            Err(status) => share.failed(format_args!("unary: {status:?}")),
        }
    }
}

/// Streams of `count` answers; without a count they end when they are told to.
async fn follow(mut client: GreeterClient<Channel>, count: u64, share: Share) {
    let request = FollowRequest { count, ms: 2 };
    while !share.is_over() {
        let mut answers = match client.follow(request).await {
            Ok(answers) => answers.into_inner(),
            Err(status) if was_not_sent(&status) => {
                share.unsent();
                continue;
            }
            Err(status) => {
                share.failed(format_args!("follow: {status:?}"));
                continue;
            }
        };
        let mut seen = 0;
        let end = loop {
            match answers.message().await {
                Ok(Some(answer)) => {
                    seen += 1;
                    share.answered(identity(&answer));
                    if count == 0 && share.is_over() {
                        return;
                    }
                }
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            }
        };
        match end {
            Ok(()) if seen == count => {}
            Err(status) if count == 0 && status.code() == Code::Unavailable => {
                match status.message().contains("has been replaced") {
                    true => share.ended(),
                    false => share.failed(format_args!("broken off: {status:?}")),
                }
            }
            end => share.failed(format_args!("{seen} of {count}: {end:?}")),
        }
    }
}

/// Conversations of a few words, each answered before the next is said.
async fn talk(mut client: GreeterClient<Channel>, share: Share) {
    while !share.is_over() {
        match Words::open(&mut client).await {
            Ok(mut words) => {
                for _ in 0..5 {
                    share.answered(words.say("hello").await);
                }
                match words.end().await {
                    Ok(()) => {}
                    Err(status) => share.failed(format_args!("talk: {status:?}")),
                }
            }
            Err(status) if was_not_sent(&status) => share.unsent(),
            Err(status) => share.failed(format_args!("talk: {status:?}")),
        }
    }
}

async fn busy_talk(client: &mut GreeterClient<Channel>) -> Words {
    let words = within("a conversation", Words::open(client)).await;
    let mut words = words.expect("it is served");
    words.say("hello").await;
    words
}

/// A conversation.
struct Words {
    say: futures::channel::mpsc::UnboundedSender<Word>,
    answers: tonic::Streaming<greeter::Answer>,
}

impl Words {
    async fn open(client: &mut GreeterClient<Channel>) -> Result<Self, Status> {
        let (say, words) = futures::channel::mpsc::unbounded();
        let answers = client.talk(words).await?.into_inner();
        Ok(Self { say, answers })
    }

    /// Says a word, and tells who has answered it.
    async fn say(&mut self, text: &str) -> Identity {
        let text = text.to_owned();
        self.say
            .unbounded_send(Word { text: text.clone() })
            .expect("the call goes on");
        let answer = within("an answer", self.answers.message()).await;
        let answer = answer.expect("the call goes on").expect("an answer");
        assert_eq!(answer.text, text);
        identity(&answer.by.expect("who has answered"))
    }

    async fn end(mut self) -> Result<(), Status> {
        self.say.close_channel();
        match self.answers.next().await {
            None => Ok(()),
            Some(Err(status)) => Err(status),
            Some(Ok(answer)) => Err(Status::internal(format!("one answer too many: {answer:?}"))),
        }
    }
}

/// Whether a call was given back because its connection was left in that moment: hyper had not begun with it, or HTTP/2
/// would not send it after the GOAWAY. Other clients of gRPC send it anew, tonic's does not. That a server breaks off
/// no stream with a GOAWAY is seen by a client that can tell the two apart, in `servers_drain`.
fn was_not_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let hyper: Option<&hyper::Error> = error.downcast_ref();
        let h2: Option<&h2::Error> = error.downcast_ref();
        let left = |error: &h2::Error| {
            error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
        };
        if hyper.is_some_and(hyper::Error::is_canceled) || h2.is_some_and(left) {
            return true;
        }
        source = error.source();
    }
    false
}

fn health_of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

fn serving_status(
    answer: Result<Option<HealthCheckResponse>, Status>,
) -> Result<Option<ServingStatus>, Code> {
    match answer {
        Ok(answer) => Ok(answer.map(|answer| answer.status())),
        Err(status) => Err(status.code()),
    }
}

const TONIC: &str = env!("CARGO_BIN_EXE_example-tonic");
const HANDOVERS: u32 = 50;
