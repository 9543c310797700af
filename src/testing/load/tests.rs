//! The instrument, held against services that do one thing wrong.

use std::future::pending;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::*;
use crate::testing::Target;

const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\npid=1 generation=1";
const LAST: &str =
    "HTTP/1.1 200 OK\r\ncontent-length: 18\r\nconnection: close\r\n\r\npid=1 generation=1";

/// A service that treats every connection alike.
struct Toy {
    target: Target,
    task: AbortHandle,
}

impl Toy {
    async fn new<F>(serve: fn(TcpStream) -> F) -> Self
    where
        F: Future<Output = Option<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().into();
        let task = tokio::spawn(async move {
            loop {
                tokio::spawn(serve(listener.accept().await.unwrap().0));
            }
        });
        Self {
            target,
            task: task.abort_handle(),
        }
    }

    /// Loads it with one kind of client until `count` things have happened.
    async fn load(&self, kind: Kind, count: u64) -> Counts {
        let short = Duration::from_millis(5)..=Duration::from_millis(10);
        let mut plan = Load::on(self.target.clone()).timeout(Duration::from_millis(200));
        if !matches!(kind, Kind::New | Kind::KeepAlive) {
            plan = plan.pause(kind, short);
        }
        let load = plan.clients(kind, 2).start();
        load.wait_for("things to happen", |report| {
            let counts = report.kind(kind);
            counts.requests() + counts.closed() >= count
        })
        .await;
        let report = load.stop().await;
        assert_eq!(
            report.failed() as usize,
            report.failures.len().min(report.failed() as usize)
        );
        println!("{report}");
        report.kind(kind)
    }
}

impl Drop for Toy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads the head of a request and not a byte more; `None` at the end of the stream.
async fn request(stream: &mut TcpStream) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(())
}

async fn say(stream: &mut TcpStream, text: &str) -> Option<()> {
    stream.write_all(text.as_bytes()).await.ok()
}

fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

async fn serve(mut stream: TcpStream) -> Option<()> {
    loop {
        request(&mut stream).await?;
        say(&mut stream, GOOD).await?;
    }
}

#[tokio::test]
async fn a_good_service_loses_nothing() {
    let toy = Toy::new(serve).await;
    for kind in Kind::ALL {
        let counts = toy.load(kind, 20).await;
        assert_eq!((counts.failed(), counts.closed()), (0, 0), "{kind}");
        assert!(counts.answered >= 20, "{kind}");
        let per_connection = counts.answered.div_ceil(counts.connections);
        assert_eq!(per_connection == 1, kind.asks_once(), "{kind}: {counts:?}");
        assert!(counts.longest > Duration::ZERO && counts.total >= counts.longest);
    }
}

#[tokio::test]
async fn every_failure_is_counted_under_its_cause() {
    macro_rules! expect {
        ($cause:ident: $serve:expr) => {
            let toy = Toy::new($serve).await;
            for kind in Kind::ALL {
                let counts = toy.load(kind, 4).await;
                let failed: Vec<Cause> = counts.failed.keys().copied().collect();
                assert_eq!(
                    failed,
                    [Cause::$cause],
                    "{kind} at `{}`",
                    stringify!($serve)
                );
                assert_eq!((counts.answered, counts.closed()), (0, 0), "{kind}");
            }
        };
    }
    async fn half_a_head(mut stream: TcpStream) -> Option<()> {
        request(&mut stream).await?;
        say(&mut stream, "HTTP/1.1 200 OK\r\ncontent-le").await
    }
    async fn half_a_body(mut stream: TcpStream) -> Option<()> {
        request(&mut stream).await?;
        say(&mut stream, &GOOD[..GOOD.len() - 1]).await
    }
    async fn no_answer(mut stream: TcpStream) -> Option<()> {
        request(&mut stream).await
    }
    async fn a_reset_instead(mut stream: TcpStream) -> Option<()> {
        request(&mut stream).await?;
        reset(&stream);
        None
    }
    async fn half_and_a_reset(mut stream: TcpStream) -> Option<()> {
        request(&mut stream).await?;
        say(&mut stream, "HTTP/1.1 200 OK\r\n").await?;
        reset(&stream);
        None
    }
    async fn silence(mut stream: TcpStream) -> Option<()> {
        request(&mut stream).await?;
        pending().await
    }
    async fn another_status(mut stream: TcpStream) -> Option<()> {
        request(&mut stream).await?;
        say(
            &mut stream,
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
        )
        .await
    }
    async fn nobody(mut stream: TcpStream) -> Option<()> {
        request(&mut stream).await?;
        say(
            &mut stream,
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        )
        .await
    }
    async fn too_much(mut stream: TcpStream) -> Option<()> {
        request(&mut stream).await?;
        say(&mut stream, &format!("{GOOD}{GOOD}")).await
    }
    expect!(Eof: half_a_head);
    expect!(Eof: half_a_body);
    expect!(Eof: no_answer);
    expect!(Reset: a_reset_instead);
    expect!(Reset: half_and_a_reset);
    expect!(Timeout: silence);
    expect!(BadAnswer: another_status);
    expect!(BadAnswer: nobody);
    expect!(BadAnswer: too_much);
}

#[tokio::test]
async fn a_port_without_a_listener_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    drop(listener);
    let load = Load::on(target).clients(Kind::New, 1).start();
    load.wait_for("failures", |report| report.failed() >= 3)
        .await;
    let report = load.stop().await;
    assert_eq!(
        report.all().failed.keys().copied().collect::<Vec<_>>(),
        [Cause::Refused]
    );
    assert_eq!(report.all().connections, 0);
}

#[tokio::test]
async fn a_close_while_idle_is_no_failure() {
    async fn one_answer(mut stream: TcpStream) -> Option<()> {
        request(&mut stream).await?;
        say(&mut stream, GOOD).await
    }
    async fn no_word(_: TcpStream) -> Option<()> {
        None
    }
    let toy = Toy::new(one_answer).await;
    for kind in [Kind::ThinkTime, Kind::Idle] {
        let counts = toy.load(kind, 20).await;
        assert_eq!((counts.failed(), counts.closed_announced), (0, 0), "{kind}");
        assert!(counts.closed_idle > 0, "{kind}");
    }
    let toy = Toy::new(no_word).await;
    for kind in [Kind::ThinkTime, Kind::Idle, Kind::Silent] {
        let counts = toy.load(kind, 20).await;
        assert_eq!((counts.failed(), counts.answered), (0, 0), "{kind}");
        assert!(counts.closed_idle > 0, "{kind}");
    }
}

#[tokio::test]
async fn a_close_that_meets_a_request_is_a_failure() {
    // Closes without an announcement while the next request of a closed loop is on its way.
    async fn one_answer(mut stream: TcpStream) -> Option<()> {
        request(&mut stream).await?;
        say(&mut stream, GOOD).await?;
        stream.read_u8().await.ok()?;
        None
    }
    let toy = Toy::new(one_answer).await;
    let counts = toy.load(Kind::KeepAlive, 20).await;
    assert!(counts.failed() > 0);
    assert!(counts.answered > 0);
}

#[tokio::test]
async fn a_reset_while_idle_is_a_failure() {
    async fn reset_at_once(stream: TcpStream) -> Option<()> {
        reset(&stream);
        None
    }
    let toy = Toy::new(reset_at_once).await;
    for kind in [Kind::ThinkTime, Kind::Idle, Kind::Silent] {
        let counts = toy.load(kind, 10).await;
        assert_eq!(
            counts.failed.keys().copied().collect::<Vec<_>>(),
            [Cause::Reset],
            "{kind}"
        );
    }
}

#[tokio::test]
async fn an_announced_close_is_no_failure() {
    async fn last_answer(mut stream: TcpStream) -> Option<()> {
        request(&mut stream).await?;
        say(&mut stream, LAST).await
    }
    let toy = Toy::new(last_answer).await;
    for kind in [Kind::KeepAlive, Kind::ThinkTime, Kind::Idle] {
        let counts = toy.load(kind, 20).await;
        assert_eq!((counts.failed(), counts.closed_idle), (0, 0), "{kind}");
        assert_eq!(counts.closed_announced, counts.answered, "{kind}");
    }
}

#[tokio::test]
async fn bodies_go_both_ways_at_once() {
    const SIZE: usize = 1 << 20;
    async fn echo(mut stream: TcpStream) -> Option<()> {
        request(&mut stream).await?;
        say(
            &mut stream,
            &format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"),
        )
        .await?;
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut (&mut reader).take(SIZE as u64), &mut writer)
            .await
            .ok()?;
        pending().await
    }
    let toy = Toy::new(echo).await;
    let body: Vec<u8> = (0..SIZE).map(|index| (index % 251) as u8).collect();
    let load = Load::on(toy.target.clone())
        .request(Request::echo("/echo", body))
        .clients(Kind::New, 2)
        .start();
    load.progress(3).await;
    load.stop().await.assert_nothing_lost();
}

#[tokio::test]
async fn lines_are_counted_in_the_same_way() {
    async fn echo(stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"pid=1 generation=1\n").await.ok()?;
        let mut line = String::new();
        while stream.read_line(&mut line).await.ok()? > 0 {
            stream.write_all(line.as_bytes()).await.ok()?;
            line.clear();
        }
        Some(())
    }
    async fn goodbye(stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"pid=1 generation=1\n").await.ok()?;
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        stream.write_all(b"bye\n").await.ok()?;
        stream.write_all(line.as_bytes()).await.ok()?;
        pending().await
    }
    async fn dumb(mut stream: TcpStream) -> Option<()> {
        say(&mut stream, "hello\n").await
    }
    let toy = Toy::new(echo).await;
    let load = Load::on(toy.target.clone())
        .lines()
        .clients(Kind::KeepAlive, 2)
        .start();
    load.progress(100).await;
    let report = load.stop().await;
    report.assert_nothing_lost();
    assert_eq!((report.all().closed(), report.all().connections), (0, 2));

    let toy = Toy::new(goodbye).await;
    let load = Load::on(toy.target.clone())
        .lines()
        .clients(Kind::KeepAlive, 2)
        .start();
    load.progress(10).await;
    let report = load.stop().await;
    report.assert_nothing_lost();
    assert!(report.all().closed_announced >= 4, "{report}");

    let toy = Toy::new(dumb).await;
    let load = Load::on(toy.target.clone())
        .lines()
        .clients(Kind::KeepAlive, 1)
        .start();
    load.wait_for("a failure", |report| report.failed() > 0)
        .await;
    assert!(
        load.stop()
            .await
            .all()
            .failed
            .contains_key(&Cause::BadAnswer)
    );
}
