//! Promise 1 for datagrams: each is answered exactly once, whatever generations come and go.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use handover_tests::{Identity, Process, Signal, within};
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::{Fixture, Running, signal};

#[tokio::test]
async fn udp_over_ipv4() {
    survive("dns=udp:127.0.0.1:0").await;
}

#[tokio::test]
async fn udp_over_ipv6() {
    survive("udp:[::1]:0").await;
}

#[tokio::test]
async fn unix_datagrams() {
    survive("unix-datagram:PATH").await;
}

/// Twenty handovers under load, with successors in between that fail, before and after they are
/// ready.
async fn survive(endpoint: &str) {
    let fixture = Fixture::new();
    let server = fixture.path("datagrams.sock");
    let endpoint = endpoint.replace("PATH", &server.display().to_string());
    let fixture = fixture.env("FIXTURE_DATAGRAMS", &endpoint);
    let running = fixture.start().await;
    let mut clients = Vec::new();
    for number in 0..3 {
        let socket = if endpoint.starts_with("unix") {
            ClientSocket::unix(fixture.path(&format!("client{number}")), server.clone())
        } else {
            ClientSocket::udp(address(&running).await).await
        };
        clients.push(Client::start(socket));
    }
    let mut incumbent = running.identity().await;
    let mut served = vec![incumbent];
    for round in 0..20 {
        let fault = match round % 4 {
            0 => "init:fail",
            1 => "ready:kill",
            2 => "waiting:exit1",
            _ => "",
        };
        if !fault.is_empty() {
            fixture.set_faults(fault);
            fail(&running, incumbent, fault).await;
            fixture.set_faults("");
        }
        for client in &mut clients {
            client.progress(incumbent).await;
        }
        if fault.is_empty() {
            // One that has bound the endpoint, and receives nothing.
            fixture.set_faults("init:wait");
            signal(incumbent, Signal::HUP);
            let waiting = fixture.waiting().await;
            for client in &mut clients {
                client.progress(incumbent).await;
            }
            fixture.set_faults("");
            let from = running.service.output().len();
            waiting.kill();
            let output = running.service.output();
            output.find_from(from, "handover failed").await;
        }
        incumbent = running.hand_over_and_end(incumbent).await;
        served.push(incumbent);
    }
    for client in &mut clients {
        client.progress(incumbent).await;
    }
    for client in clients {
        let answers = client.stop().await;
        let by: Vec<_> = answers.into_keys().collect();
        assert_eq!(by, served, "nobody else may have answered");
    }
}

/// Has a handover fail in the way that was set.
async fn fail(running: &Running, incumbent: Identity, fault: &str) {
    if fault.starts_with("waiting") {
        // The successor stops the incumbent while it fails.
        let from = running.service.output().len();
        signal(incumbent, Signal::HUP);
        let line = running
            .service
            .output()
            .find_from(from, "waiting: pid=")
            .await;
        let pid = line
            .text
            .rsplit('=')
            .next()
            .and_then(|pid| pid.parse().ok());
        let successor = Process::open(pid.expect("a pid")).expect("unreaped");
        successor.exited().await;
        signal(incumbent, Signal::CONT);
        running
            .service
            .output()
            .find_from(from, "handover failed")
            .await;
    } else {
        let answer = running.try_hand_over().await;
        assert!(answer.starts_with("error: "), "{fault}: {answer}");
    }
}

async fn address(running: &Running) -> SocketAddr {
    let line = running.service.output().find("datagrams on ").await;
    let text = line
        .text
        .rsplit(' ')
        .next()
        .and_then(|text| text.parse().ok());
    text.expect("the line ends with the address")
}

/// Sends numbered datagrams as fast as they are answered, a few at a time: never more than fit into
/// the smallest buffer on their way (`net.unix.max_dgram_qlen` is 10).
struct Client {
    answers: watch::Receiver<BTreeMap<Identity, u64>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Client {
    fn start(socket: ClientSocket) -> Self {
        let (sender, answers) = watch::channel(BTreeMap::new());
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(exchange(socket, sender, stopped));
        Self {
            answers,
            stop,
            task,
        }
    }

    /// Waits until a generation has answered some more.
    async fn progress(&mut self, by: Identity) {
        let count =
            |answers: &BTreeMap<Identity, u64>| answers.get(&by).copied().unwrap_or_default();
        let before = count(&self.answers.borrow());
        let more = self
            .answers
            .wait_for(|answers| count(answers) >= before + 20);
        within(format_args!("datagrams of {by}"), more)
            .await
            .expect("the client goes on until it is stopped");
    }

    /// Ends the exchange, and tells how often each generation has answered.
    async fn stop(self) -> BTreeMap<Identity, u64> {
        self.stop.send_replace(true);
        self.task.await.expect("every datagram was answered once");
        self.answers.borrow().clone()
    }
}

async fn exchange(
    mut socket: ClientSocket,
    answers: watch::Sender<BTreeMap<Identity, u64>>,
    stop: watch::Receiver<bool>,
) {
    let mut next = 0_u64;
    let mut missing = std::collections::BTreeSet::new();
    let mut buffer = [0; 256];
    loop {
        while missing.len() < IN_FLIGHT && !*stop.borrow() {
            socket
                .send(format!("number {next}").as_bytes())
                .await
                .expect("the service is there");
            missing.insert(next);
            next += 1;
        }
        if missing.is_empty() {
            return;
        }
        let received = timeout(LOST_AFTER, socket.receive(&mut buffer)).await;
        let length =
            received.unwrap_or_else(|_| panic!("of {next} datagrams {missing:?} are lost"));
        let length = length.expect("a socket of ours");
        let text = std::str::from_utf8(&buffer[..length]).expect("text");
        let identity = Identity::parse(text).unwrap_or_else(|| panic!("`{text}`"));
        let number = text
            .rsplit(' ')
            .next()
            .and_then(|number| number.parse().ok());
        let number = number.unwrap_or_else(|| panic!("`{text}`"));
        assert!(
            missing.remove(&number),
            "a second answer, or none of ours: `{text}`"
        );
        answers.send_modify(|answers| *answers.entry(identity).or_default() += 1);
    }
}

const IN_FLIGHT: usize = 3;
const LOST_AFTER: Duration = Duration::from_secs(10);

enum ClientSocket {
    Udp(UdpSocket),
    Unix(UnixDatagram, PathBuf),
}

impl ClientSocket {
    async fn udp(server: SocketAddr) -> Self {
        let local = SocketAddr::new(server.ip(), 0);
        let socket = UdpSocket::bind(local).await.expect("a socket");
        socket.connect(server).await.expect("an address");
        Self::Udp(socket)
    }

    fn unix(path: PathBuf, server: PathBuf) -> Self {
        Self::Unix(UnixDatagram::bind(path).expect("a socket"), server)
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => socket.send(bytes).await,
            Self::Unix(socket, server) => socket.send_to(bytes, server).await,
        }
    }

    async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => socket.recv(buffer).await,
            Self::Unix(socket, _) => socket.recv(buffer).await,
        }
    }
}
