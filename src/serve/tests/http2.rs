//! HTTP/2: open streams finish, and the client is told in two steps.

use futures::future::try_join_all;
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, client::conn::http2::handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Bench, Client, must, settle};
use crate::serve::phase::Phase;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The last stream that a GOAWAY names when it refuses nothing.
const NONE_REFUSED: u32 = (1 << 31) - 1;

#[derive(Debug, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The last stream that this GOAWAY names.
    #[track_caller]
    fn last_stream(&self) -> u32 {
        assert_eq!(self.kind, GOAWAY, "{self:?}");
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// A GET without a body, in literals of HPACK (RFC 7541, section 6.2.1, and appendix A).
fn get(stream: u32, path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    let fields = [b"\x82\x86\x41\x04test\x44", &[length][..], path.as_bytes()].concat();
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields)
}

impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
    async fn frame(&mut self) -> Frame {
        let head = self.bytes(9).await;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes(head[5..].try_into().unwrap()),
            payload: self.bytes(length.try_into().unwrap()).await,
        }
    }

    /// The next frame that is not about settings or windows.
    async fn telling_frame(&mut self) -> Frame {
        loop {
            let frame = self.frame().await;
            if matches!(frame.kind, DATA | HEADERS | PING | GOAWAY) {
                return frame;
            }
        }
    }

    async fn greet(&mut self) {
        self.send([PREFACE, &frame(SETTINGS, 0, 0, b"")].concat())
            .await;
    }

    async fn response(&mut self, stream: u32, body: &str) {
        let head = self.telling_frame().await;
        assert_eq!((head.kind, head.stream), (HEADERS, stream), "{head:?}");
        let data = self.telling_frame().await;
        assert_eq!((data.kind, data.stream), (DATA, stream), "{data:?}");
        assert_eq!(data.payload, body.as_bytes());
    }

    /// The first step; returns the ping that the client has to return.
    async fn first_step(&mut self) -> Frame {
        assert_eq!(self.telling_frame().await.last_stream(), NONE_REFUSED);
        let ping = self.telling_frame().await;
        assert_eq!((ping.kind, ping.flags), (PING, 0), "{ping:?}");
        ping
    }

    async fn second_step(&mut self, ping: &Frame, last: u32) {
        self.send(frame(PING, ACK, 0, &ping.payload)).await;
        assert_eq!(self.telling_frame().await.last_stream(), last);
    }
}

#[tokio::test]
async fn clients_are_told_in_two_steps_and_open_streams_finish() {
    let bench = Bench::new();
    let (mut client, outcome) = bench.connect().await;
    client.greet().await;
    client.send(get(1, "/hold")).await;
    must(bench.app.entered()).await;

    bench.enter(Phase::Draining);
    let ping = client.first_step().await;
    // Sent before the client had read the first step.
    client.send(get(3, "/")).await;
    client.response(3, "hello").await;
    client.second_step(&ping, 3).await;
    settle().await;
    bench.app.release();

    client.response(1, "held").await;
    client.end().await.unwrap();
    drop(client);
    must(outcome).await.unwrap().unwrap();
}

/// As the crate `h2` sends what it has queued when it reads the goodbye.
#[tokio::test]
async fn a_request_right_behind_the_answer_to_the_goodbye_is_not_refused() {
    let bench = Bench::new();
    let (mut client, outcome) = bench.connect().await;
    client.greet().await;
    client.send(get(1, "/")).await;
    client.response(1, "hello").await;

    bench.enter(Phase::Draining);
    let ping = client.first_step().await;
    let answer = frame(PING, ACK, 0, &ping.payload);
    client.send([answer, get(3, "/")].concat()).await;
    client.response(3, "hello").await;

    assert_eq!(client.telling_frame().await.last_stream(), 3);
    client.end().await.unwrap();
    drop(client);
    must(outcome).await.unwrap().unwrap();
}

#[tokio::test]
async fn every_stream_of_a_busy_client_finishes() {
    const STREAMS: usize = 50;

    let bench = Bench::new();
    let (client, outcome) = bench.connect().await;
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(client.io))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let replies = try_join_all((0..STREAMS).map(|_| {
        let request = Request::get("http://test/hold").body(Empty::<Bytes>::new());
        let mut sender = sender.clone();
        async move { sender.send_request(request.unwrap()).await }
    }));
    let replies = tokio::spawn(replies);
    for _ in 0..STREAMS {
        must(bench.app.entered()).await;
    }

    bench.enter(Phase::Draining);
    settle().await;
    for _ in 0..STREAMS {
        bench.app.release();
    }

    for reply in replies.await.unwrap().unwrap() {
        assert_eq!(reply.version(), Version::HTTP_2);
        assert!(!reply.headers().contains_key("connection"));
        assert_eq!(
            reply.into_body().collect().await.unwrap().to_bytes(),
            "held"
        );
    }
    connection.await.unwrap().unwrap();
    must(outcome).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_that_begins_in_the_drain_gets_its_first_request_answered() {
    let bench = Bench::new();
    let (mut silent, _outcome) = bench.connect().await;
    let (mut half, _outcome) = bench.connect().await;
    half.send(&PREFACE[..10]).await;
    settle().await;
    bench.enter(Phase::Draining);
    settle().await;
    let (mut late, _outcome) = bench.connect().await;

    silent.send(PREFACE).await;
    half.send(&PREFACE[10..]).await;
    late.send(PREFACE).await;
    for client in [&mut silent, &mut half, &mut late] {
        client.send(frame(SETTINGS, 0, 0, b"")).await;
        settle().await;
        client.send(frame(PING, 0, 0, b"anynews?")).await;
        let news = client.telling_frame().await;
        assert_eq!((news.kind, news.flags), (PING, ACK), "{news:?}");
        client.send(get(1, "/")).await;

        let mut frames = Vec::new();
        while !frames.iter().any(|frame: &Frame| frame.kind == DATA) {
            frames.push(client.telling_frame().await);
        }
        let told = frames.iter().position(|frame| frame.kind == GOAWAY);
        assert_eq!(frames[told.unwrap()].last_stream(), NONE_REFUSED);
        let ping = frames.iter().find(|frame| frame.kind == PING).unwrap();
        client.second_step(ping, 1).await;
        client.end().await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_without_a_request_is_told_at_the_last_look() {
    let bench = Bench::new();
    bench.enter(Phase::Draining);
    let (mut client, outcome) = bench.connect().await;
    client.greet().await;
    settle().await;

    bench.enter(Phase::LastLook);

    let ping = client.first_step().await;
    client.second_step(&ping, 0).await;
    client.end().await.unwrap();
    drop(client);
    must(outcome).await.unwrap().unwrap();
}

#[tokio::test]
async fn frames_behind_the_last_response_cause_no_reset() {
    let bench = Bench::new();
    let (mut client, outcome) = bench.connect().await;
    client.greet().await;
    client.send(get(1, "/")).await;
    client.response(1, "hello").await;

    bench.enter(Phase::Draining);
    let ping = client.first_step().await;
    client.second_step(&ping, 1).await;
    settle().await;
    for _ in 0..64 {
        client
            .send(frame(PING, 0, 0, b"stillup?").repeat(1024))
            .await;
        settle().await;
    }

    client.end().await.unwrap();
    drop(client);
    must(outcome).await.unwrap().unwrap();
}
