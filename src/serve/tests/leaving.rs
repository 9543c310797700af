//! Connections that leave to the successor from where they lie between two requests.

use std::{
    hint::spin_loop,
    io::{self, IoSlice},
    net::{Ipv4Addr, SocketAddr},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    thread,
};

use futures::{FutureExt, poll};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf, duplex};

use super::{
    Bench,
    client::{Client, get, post},
    must, settle,
};
use crate::serve::{
    accepting::spawn_connection,
    activity::Activity,
    berth::{Leave, Mooring, Turn},
    connection::serve_connection,
    phase::Phase,
    transport::Transport,
    write_through::write_through,
};

const MANY: usize = 1000;

/// A transport that can move, to the test.
struct Movable {
    stream: DuplexStream,
    port: Port,
    /// Whether it was kept from moving by itself.
    stays: Arc<AtomicBool>,
}

/// What has left.
#[derive(Clone, Default)]
struct Port(Arc<Mutex<Vec<Left>>>);

struct Left {
    transport: Movable,
    unread: Bytes,
    kept: Box<dyn FnOnce(Movable, Bytes) + Send>,
}

impl Port {
    fn connect(&self, bench: &Bench) -> Client<DuplexStream> {
        let (client, transport) = self.pair();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1)).into();
        spawn_connection(transport, peer, bench.app.clone(), &bench.server);
        Client::new(client)
    }

    /// Connections that rest: more than leave in one go.
    async fn connect_many(&self, bench: &Bench) -> Vec<Client<DuplexStream>> {
        let mut clients: Vec<_> = (0..MANY).map(|_| self.connect(bench)).collect();
        for client in &mut clients {
            client.get("/").await;
            client.reply().await.expect("hello", false);
        }
        clients
    }

    fn pair(&self) -> (DuplexStream, Movable) {
        let (client, stream) = duplex(64 * 1024);
        let port = self.clone();
        let stays = Arc::default();
        let transport = Movable {
            stream,
            port,
            stays,
        };
        (client, transport)
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }

    /// The only one that has left.
    #[track_caller]
    fn only(&self) -> Left {
        let mut all = std::mem::take(&mut *self.0.lock().unwrap());
        assert_eq!(all.len(), 1);
        all.remove(0)
    }
}

impl Left {
    /// Nobody takes it.
    fn keep(self) {
        (self.kept)(self.transport, self.unread);
    }
}

impl Transport for Movable {
    fn has_arrived(&self) -> bool {
        false
    }

    fn can_move(&self) -> bool {
        true
    }

    fn stay(&mut self) {
        self.stays.store(true, Ordering::Release);
        // A good moment for whoever waits for this.
        thread::yield_now();
    }

    fn hand_over(self, unread: Bytes, kept: impl FnOnce(Self, Bytes) + Send + 'static) {
        let port = self.port.clone();
        port.0.lock().unwrap().push(Left {
            transport: self,
            unread,
            kept: Box::new(kept),
        });
    }
}

impl AsyncRead for Movable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Movable {
    write_through!(stream);

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Bench {
    /// The successor takes connections; of those that have left the tasks have yet to be told.
    async fn leave(&self) -> Vec<Arc<dyn Leave>> {
        self.enter(Phase::Moving);
        self.server.berths().leave().await
    }

    /// The successor takes connections.
    async fn move_out(&self) {
        self.leave().await.into_iter().for_each(Leave::tell);
    }
}

#[tokio::test]
async fn one_that_rests_leaves_before_its_task_runs() {
    for told in [true, false] {
        let (bench, port) = (Bench::new(), Port::default());
        let mut client = port.connect(&bench);
        for _ in 0..2 {
            client.get("/").await;
            client.reply().await.expect("hello", false);
        }

        bench.enter(Phase::Moving);
        let mut leaving = pin!(bench.server.berths().leave());
        assert!(poll!(leaving.as_mut()).is_pending());
        let Left {
            mut transport,
            unread,
            kept,
        } = port.only();
        let asked = leaving.await;
        if told {
            asked.into_iter().for_each(Leave::tell);
        }

        assert!(unread.is_empty());
        client.send("next").await;
        bench.server.close();
        settle().await;
        assert!(bench.server.ended().now_or_never().is_none());
        drop(kept);
        must(bench.server.ended()).await;
        let mut read = [0; 4];
        must(transport.stream.read_exact(&mut read)).await.unwrap();
        assert_eq!(&read, b"next");
        drop(transport);
        client.end().await.unwrap();
    }
}

#[tokio::test]
async fn any_number_leaves_and_ends_with_the_answer() {
    let (bench, port) = (Bench::new(), Port::default());
    let _clients = port.connect_many(&bench).await;

    bench.leave().await;

    let left = std::mem::take(&mut *port.0.lock().unwrap());
    assert_eq!(left.len(), MANY);
    bench.server.close();
    drop(left);
    must(bench.server.ended()).await;
}

#[tokio::test]
async fn one_that_rests_or_has_rested_learns_of_the_end() {
    for (phase, busy) in [
        (Phase::LastLook, false),
        (Phase::Aborting, false),
        (Phase::Aborting, true),
    ] {
        let (bench, port) = (Bench::new(), Port::default());
        let mut client = port.connect(&bench);
        client.get("/").await;
        client.reply().await.expect("hello", false);
        if busy {
            client.get("/hold").await;
            must(bench.app.entered()).await;
        }
        settle().await;
        bench.enter(phase);
        must(client.end()).await.unwrap();
    }
}

#[tokio::test]
async fn one_that_has_rested_and_begins_a_request_leaves_with_it() {
    let (bench, port) = (Bench::new(), Port::default());
    let mut client = port.connect(&bench);
    client.get("/").await;
    client.reply().await.expect("hello", false);
    client.send("GET /ne").await;
    settle().await;

    bench.move_out().await;
    settle().await;

    assert_eq!(port.only().unread, "GET /ne");
}

#[tokio::test]
async fn one_that_begins_anew_learns_of_the_end_in_its_new_berth() {
    let (bench, port) = (Bench::new(), Port::default());
    let mut client = port.connect(&bench);
    client.get("/").await;
    client.reply().await.expect("hello", false);
    client.get("/medium").await;
    settle().await;
    bench.move_out().await;
    settle().await;
    // The successor is itself replaced before the response is over.
    bench.enter(Phase::Expecting);
    client.reply().await;
    client.get("/").await;
    client.reply().await.expect("hello", false);
    settle().await;
    assert!(port.is_empty());

    bench.enter(Phase::LastLook);
    must(client.end()).await.unwrap();
}

#[tokio::test]
async fn an_end_that_comes_while_some_leave_ends_the_others() {
    let (bench, port) = (Bench::new(), Port::default());
    let clients = port.connect_many(&bench).await;

    bench.enter(Phase::Moving);
    assert!(bench.server.berths().leave().now_or_never().is_none());
    bench.enter(Phase::Aborting);
    settle().await;

    let left = std::mem::take(&mut *port.0.lock().unwrap());
    assert!((1..MANY).contains(&left.len()), "{}", left.len());
    left.into_iter().for_each(Left::keep);
    for mut client in clients {
        client.end().await.unwrap();
    }
}

#[tokio::test]
async fn one_that_nobody_takes_goes_on_and_asks_the_next_successor() {
    let (bench, port) = (Bench::new(), Port::default());
    let mut client = port.connect(&bench);
    client.get("/").await;
    client.reply().await.expect("hello", false);
    let mut asked_before = false;
    for told in [false, true, false] {
        let asked = bench.leave().await;
        if told {
            asked.into_iter().for_each(Leave::tell);
        }
        let left = port.only();
        // Once it went on below what had served it.
        assert_eq!(left.transport.stays.load(Ordering::Relaxed), asked_before);
        asked_before = true;
        left.keep();
        settle().await;
        assert!(port.is_empty(), "who has said no is not asked again");
        bench.enter(Phase::Expecting);
    }
    client.get("/").await;
    client.reply().await.expect("hello", false);

    bench.move_out().await;
    client.get("/").await;
    settle().await;
    port.only().keep();

    // Nobody else is expected.
    client.reply().await.expect("hello", true);
    client.end().await.unwrap();
}

#[tokio::test]
async fn one_of_which_hyper_has_read_more_leaves_with_it() {
    let chunked = "POST /length HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
    for (request, more) in [
        (get("/"), "GET /ne"),
        (get("/"), "\r\n\r\n"),
        (get("/").replace('\r', ""), ""),
        (post("/length", 5) + "a\r\n\r\n", ""),
        (format!("{chunked}5\r\nabcde\r\n0\r\n\r\n"), ""),
        (format!("{}{}", get("/"), get("/")), "GET"),
    ] {
        let (bench, port) = (Bench::new(), Port::default());
        let mut client = port.connect(&bench);
        client.send(format!("{request}{more}")).await;
        for _ in 0..request.matches(" HTTP/1.1").count() {
            client.reply().await;
        }

        bench.move_out().await;

        assert!(port.is_empty(), "{request}{more}");
        settle().await;
        assert_eq!(port.only().unread, more, "{request}");
    }
}

#[tokio::test]
async fn one_with_requests_that_hyper_has_yet_to_look_at_leaves_with_them() {
    const REQUESTS: usize = 40;
    let (bench, port) = (Bench::new(), Port::default());
    let (client, transport) = port.pair();
    let mut client = Client::new(client);
    client.send(get("/").repeat(REQUESTS)).await;
    let server = Arc::clone(&bench.server);
    let mut connection = pin!(serve_connection(transport, bench.app.clone(), server));
    // hyper pauses after some of them.
    assert!(poll!(connection.as_mut()).is_pending());

    bench.move_out().await;

    assert!(port.is_empty());
    let left = must(connection).await.unwrap().unwrap();
    left.io.hand_over(|_| {});
    let left = port.only().unread.len() / get("/").len();
    assert!((1..REQUESTS).contains(&left), "{left}");
    for _ in left..REQUESTS {
        client.reply().await.expect("hello", false);
    }
}

#[tokio::test]
async fn one_with_half_a_body_that_nobody_reads_does_not_leave() {
    for moving in [false, true] {
        let (bench, port) = (Bench::new(), Port::default());
        let mut client = port.connect(&bench);
        if moving {
            bench.move_out().await;
        }
        client.send(post("/ignore", 100_000) + "half").await;
        let reply = client.reply().await;
        assert_eq!(reply.body, "ignored");
        bench.move_out().await;
        settle().await;
        assert!(port.is_empty(), "the rest would be taken for a request");
    }
}

#[tokio::test]
async fn one_whose_upgrade_was_declined_leaves_if_hyper_has_nothing_more() {
    let head = "GET / HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n";
    for more in ["", "GET / HTTP/1.1\r\nho"] {
        let (bench, port) = (Bench::new(), Port::default());
        let mut client = port.connect(&bench);
        client.send(format!("{head}{more}")).await;
        client.reply().await.expect("hello", false);

        // From its task, which is woken.
        bench.enter(Phase::Moving);
        bench.server.berths().leave().await;
        settle().await;

        if more.is_empty() {
            assert!(port.only().unread.is_empty());
        } else {
            assert!(port.is_empty());
            client.send("st: test\r\n\r\n").await;
            client.reply().await.expect("hello", false);
            settle().await;
            assert!(port.only().unread.is_empty());
        }
    }
}

#[tokio::test]
async fn one_that_is_busy_leaves_when_it_is_done() {
    let (bench, port) = (Bench::new(), Port::default());
    let mut client = port.connect(&bench);
    client.get("/").await;
    client.reply().await.expect("hello", false);
    client.get("/hold").await;
    must(bench.app.entered()).await;

    bench.move_out().await;
    settle().await;

    assert!(port.is_empty());
    bench.app.release();
    client.reply().await.expect("held", false);
    settle().await;
    assert!(port.only().unread.is_empty());
}

#[tokio::test]
async fn one_whose_response_is_not_written_leaves_behind_it() {
    let (bench, port) = (Bench::new(), Port::default());
    let mut client = port.connect(&bench);
    client.get("/").await;
    client.reply().await.expect("hello", false);
    client.get("/medium").await;
    settle().await;

    bench.move_out().await;
    settle().await;

    assert!(port.is_empty());
    let reply = client.reply().await;
    assert!(!reply.announces_close(), "{}", reply.head);
    settle().await;
    assert!(port.only().unread.is_empty());
}

#[tokio::test]
async fn one_whose_task_has_ended_meanwhile_is_closed_if_nobody_takes_it() {
    let (bench, port) = (Bench::new(), Port::default());
    let mut client = port.connect(&bench);
    client.get("/").await;
    client.reply().await.expect("hello", false);
    bench.move_out().await;
    let left = port.only();

    bench.enter(Phase::Aborting);
    settle().await;
    left.keep();

    client.end().await.unwrap();
}

#[tokio::test]
async fn one_that_was_upgraded_stays() {
    let (bench, port) = (Bench::new(), Port::default());
    let mut client = port.connect(&bench);
    client
        .send("GET /upgrade HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n")
        .await;
    client.read_until("\r\n\r\n").await;
    let mut upgraded = TokioIo::new(must(bench.app.upgraded()).await);

    bench.move_out().await;
    settle().await;

    assert!(port.is_empty());
    client.send("bird").await;
    let mut read = [0; 4];
    must(upgraded.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"bird");
}

#[test]
fn a_task_that_hears_that_nobody_takes_it_finds_it() {
    let (bench, port) = (Bench::new(), Port::default());
    bench.enter(Phase::Moving);
    for round in 0..MANY {
        let activity = Activity::new(Arc::clone(&bench.server));
        activity.set_moves(true);
        let mooring = Mooring::new(activity);
        let (_client, transport) = port.pair();
        mooring.berth().put(Box::new(transport));
        mooring.lie_open();
        assert!(Arc::clone(mooring.berth()).leave());
        let left = port.only();
        let stays = Arc::clone(&left.transport.stays);

        thread::scope(|scope| {
            scope.spawn(|| left.keep());
            // As if there were news on the connection itself, just then or a little later.
            while !stays.load(Ordering::Acquire) {
                spin_loop();
            }
            (0..round).for_each(|_| spin_loop());
            while mooring.begin_turn() == Turn::Asked {
                thread::yield_now();
            }
            assert!(mooring.berth().fetch().is_some());
        });
    }
}
