//! Promise 7: ports stay, and so do paths.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use handover_tests::load::{Kind, Request};
use handover_tests::{Exit, Load, Process, Signal, Target};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::kernel::{listening_inodes, socket_inodes};
use crate::support::{Fixture, Running, signal};

/// One service on everything that it can listen on: each successor has the very same sockets, at
/// the same addresses, and answers on all of them.
#[tokio::test]
async fn every_endpoint_keeps_its_socket() {
    let fixture = Fixture::new();
    let abstract_name = format!("handover-tests-{}", std::process::id());
    let path = |name| fixture.path(name).display().to_string();
    let streams = format!(
        "127.0.0.1:0 one=127.0.0.1:0 two=127.0.0.1:0 six=[::1]:0 localhost:0 unix:{} \
         named=unix:{} unix:@{abstract_name} unix-seqpacket:{} unix-seqpacket:@{abstract_name}",
        path("a.sock"),
        path("b.sock"),
        path("c.sock"),
    );
    let fixture = fixture.env("FIXTURE_STREAMS", &streams);
    let running = fixture.start().await;
    let mut incumbent = running.identity().await;
    let lines = running.endpoints(incumbent).await;
    assert_eq!(lines.len(), 11, "{lines:?}");
    let ports = lines.iter().filter(|line| line.contains(":0 [")).count();
    assert_eq!(ports, 6, "{lines:?}");
    let targets = running.service.listening(9).await;
    let (inodes, targets) = (listening_inodes(incumbent), targets);
    let resolved: BTreeSet<_> = "localhost:0"
        .to_socket_addrs()
        .expect("it resolves")
        .collect();
    let localhost = lines.iter().find(|line| line.starts_with("localhost:0"));
    let on = localhost.expect("one of them").matches("1:").count();
    assert_eq!(on, resolved.len(), "{localhost:?} is {resolved:?}");
    let port = localhost
        .and_then(|line| line.rsplit(':').next())
        .expect("a port");
    assert_eq!(
        localhost.map(|line| line.matches(port).count()),
        Some(resolved.len()),
        "one port on all addresses: {localhost:?}"
    );
    for _ in 0..3 {
        incumbent = running.hand_over_and_end(incumbent).await;
        assert_eq!(running.endpoints(incumbent).await, lines);
        assert!(inodes.is_subset(&socket_inodes(incumbent)), "others");
        for target in &targets {
            assert_eq!(running.service.identity(target).await, incumbent);
        }
        for address in [
            SockAddr::unix(fixture.path("c.sock")),
            SockAddr::unix(format!("\0{abstract_name}")),
        ] {
            let answer = ask_records(&address.expect("an address"));
            assert!(answer.ends_with(&incumbent.to_string()), "{answer}");
        }
    }
}

/// An endpoint that each generation binds only after it serves, and after the one before has gone:
/// its socket waits for that, with whoever is in its queue. What nobody binds is closed in the end.
#[tokio::test]
async fn an_endpoint_that_is_bound_late_keeps_its_port() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    let mut incumbent = running.identity().await;
    let late = Request::post("/bind", "late=127.0.0.1:0");
    let address = running.ask(&late).await;
    for _ in 0..3 {
        incumbent = running.hand_over_and_end(incumbent).await;
        let mut early = TcpStream::connect(&address).expect("its queue is there");
        assert_eq!(running.ask(&late).await, address);
        early
            .write_all(b"GET / HTTP/1.1\r\n\r\n")
            .expect("it is open");
        let mut answer = [0; 1024];
        let length = early.read(&mut answer).expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..length]);
        assert!(answer.ends_with(&incumbent.to_string()), "{answer}");
    }
    running.hand_over_and_end(incumbent).await;
    let line = running
        .service
        .output()
        .find("that nobody claimed are closed")
        .await;
    assert!(line.text.contains("late=127.0.0.1:0"), "{}", line.text);
    TcpStream::connect(&address).expect_err("nobody listens there any more");
}

/// Nobody could tell two of them apart.
#[tokio::test]
async fn a_second_endpoint_without_a_name_on_port_0_is_refused() {
    let running = Fixture::new()
        .env("FIXTURE_STREAMS", "127.0.0.1:0")
        .start()
        .await;
    let answer = running.ask(&Request::post("/bind", "127.0.0.1:0")).await;
    assert!(
        answer.contains("two endpoints on port 0 want names"),
        "{answer}"
    );
    let answer = running
        .ask(&Request::post("/bind", "more=127.0.0.1:0"))
        .await;
    assert!(answer.starts_with("127.0.0.1:"), "{answer}");
}

/// While generations come and go, good ones and bad ones, the path leads to the same socket at
/// every moment, and whoever connects gets through.
#[tokio::test]
async fn a_path_is_there_at_every_moment() {
    let fixture = Fixture::new();
    let (path, lock) = (fixture.path("app.sock"), fixture.path("app.sock.lock"));
    let fixture = fixture.env("FIXTURE_UNIX", format!("unix:{}", path.display()));
    let running = fixture.start().await;
    let load = Load::on(path.clone())
        .clients(Kind::New, 2)
        .clients(Kind::KeepAlive, 1)
        .start();
    let watch = Watch::start(vec![path.clone(), lock.clone()]);
    let mut incumbent = running.identity().await;
    for round in 0..20 {
        match round % 5 {
            1 => fixture.set_faults("init:fail"),
            2 => fixture.set_faults("ready:kill"),
            3 => fixture.set_faults("init:wait"),
            _ => {}
        }
        if round % 5 == 3 {
            // A successor that is told to stop.
            signal(incumbent, Signal::HUP);
            let waiting = fixture.waiting().await;
            let successor = Process::open(waiting.pid()).expect("it waits");
            let from = running.service.output().len();
            successor.signal(Signal::TERM).expect("it waits");
            running
                .service
                .output()
                .find_from(from, "handover failed")
                .await;
            successor.exited().await;
        } else if matches!(round % 5, 1 | 2) {
            let answer = running.try_hand_over().await;
            assert!(answer.starts_with("error: "), "{answer}");
        }
        fixture.set_faults("");
        incumbent = running.hand_over_and_end(incumbent).await;
        load.progress(1).await;
    }
    watch.stop();
    load.stop().await.assert_nothing_lost();
    assert_eq!(incumbent.generation, 21);

    let exits = running.service.stop().await;
    assert!(exits.iter().all(|exit| exit.is_success()), "{exits:?}");
    assert!(
        !path.exists() && !lock.exists(),
        "a final stop leaves no path"
    );
}

/// What a killed service has left behind is replaced, whatever kind of socket it was.
#[tokio::test]
async fn a_stale_path_is_replaced() {
    for kind in ["unix:", "unix-seqpacket:"] {
        let fixture = Fixture::new();
        let path = fixture.path("app.sock");
        let fixture = fixture.env("FIXTURE_UNIX", format!("{kind}{}", path.display()));
        let running = fixture.start().await;
        let incumbent = running.hand_over_and_end(running.identity().await).await;
        signal(incumbent, Signal::KILL);
        running.service.ended().await;
        assert!(path.exists());

        let running = fixture.start().await;
        let line = running.endpoints(running.identity().await).await.pop();
        assert_eq!(line, Some(format!("{kind}{} []", path.display())));
        running.hand_over_and_end(running.identity().await).await;
        running.service.stop().await;
        assert!(!path.exists());
    }
}

/// The path of a live service is an error for another one, and the live one does not notice.
#[tokio::test]
async fn a_live_path_is_an_error_and_is_not_disturbed() {
    let fixture = Fixture::new();
    let path = fixture.path("app.sock");
    let fixture = fixture.env("FIXTURE_UNIX", format!("unix:{}", path.display()));
    let running = fixture.start().await;
    // In the second generation the lock is an inherited one.
    for round in 0..2 {
        let before = inode(&path);
        let load = Load::on(path.clone()).clients(Kind::KeepAlive, 1).start();
        refused(&fixture, &path).await;
        load.progress(1).await;
        load.stop().await.assert_nothing_lost();
        assert_eq!(inode(&path), before);
        if round == 0 {
            running.hand_over_and_end(running.identity().await).await;
        }
    }
    running.service.stop().await;
    drop(running);

    // Nor does one that knows nothing of our locks.
    let listener = UnixListener::bind(&path).expect("the path is free");
    listener.set_nonblocking(true).expect("a socket");
    let before = inode(&path);
    refused(&fixture, &path).await;
    assert_eq!(inode(&path), before);
    let probe = listener.accept().expect_err("nobody has connected");
    assert_eq!(probe.kind(), std::io::ErrorKind::WouldBlock);
}

async fn refused(fixture: &Fixture, path: &Path) {
    let service = fixture
        .program()
        .start()
        .expect("a program that can be started");
    assert_eq!(service.first().exited().await, Exit::Code(1));
    let expected = format!("could not bind endpoint `unix:{}`", path.display());
    let line = service.output().find(&expected).await.text;
    assert!(line.contains("a live process"), "{line}");
}

/// Asks over a socket that keeps records: the request is one, and so is the answer.
fn ask_records(address: &SockAddr) -> String {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
    socket.connect(address).expect("somebody listens");
    let request = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";
    assert_eq!(socket.send(request).expect("room for it"), request.len());
    let mut answer = [0; 1024];
    let length = Read::read(&mut &socket, &mut answer).expect("an answer");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// A dropped listener lets go of its endpoint, also for whoever binds it in the same moment.
#[tokio::test]
async fn an_endpoint_that_was_let_go_is_bound_again() {
    let fixture = Fixture::new().env("FIXTURE_REBIND", "100");
    let service = fixture.program().start();
    let service = service.expect("a program that can be started");
    // The kernel would list the endpoint that comes and goes as well.
    let line = service.output().find("listening on http=").await.text;
    let address = line
        .split_once('[')
        .and_then(|(_, rest)| rest.strip_suffix(']'));
    let address = address.expect("it says on which address");
    let target = Target::Tcp(address.parse().expect("an address"));
    let first = service.generation(&target, 1).await;
    service.output().find(" 100 times").await;
    let running = Running { service, target };
    running.hand_over(first).await;
}

fn inode(path: &Path) -> (u64, u64) {
    let found = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    (found.dev(), found.ino())
}

/// Looks at paths all the time, and connects to the first of them.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<u64>,
}

impl Watch {
    fn start(paths: Vec<PathBuf>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let before: Vec<_> = paths.iter().map(|path| inode(path)).collect();
        let thread = thread::spawn(move || {
            let mut looks = 0;
            while !stopped.load(Ordering::Relaxed) {
                for (path, before) in paths.iter().zip(&before) {
                    assert_eq!(inode(path), *before, "{path:?} was replaced");
                }
                // Every so often: whoever connects has to be accepted by somebody.
                if looks % 64 == 0 {
                    UnixStream::connect(&paths[0]).expect("somebody listens");
                }
                looks += 1;
                thread::yield_now();
            }
            looks
        });
        Self { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let looks = self.thread.join().expect("the path was there all the time");
        // How often is up to the machine.
        assert!(looks > 0, "nobody has looked");
    }
}
