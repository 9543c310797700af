//! Sockets of systemd's own: of every kind, by name and by address.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use handover_tests::{Identity, Target, within};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::spawn_blocking;

use crate::app::{App, identity, reload_by};
use crate::machine::Machine;

on_each_version! {
    sockets_of_every_kind_are_taken,
    a_socket_unit_that_accepts_itself_is_an_error,
}

/// Stream (TCP, path, abstract), datagram (UDP, path) and seqpacket; several under one name, and
/// without a name of their own by their address.
pub(crate) async fn sockets_of_every_kind_are_taken(machine: Machine) {
    let app = App::new(&machine, "app", 7001);
    let sockets = Sockets::of(&machine);
    app.load(&format!(
        "{2}\nEnvironment='FIXTURE_TCP=systemd:http' \
         'FIXTURE_STREAMS=unix:/run/app/stream.sock unix:{0} unix-seqpacket:/run/app/seq.sock' \
         'FIXTURE_DATAGRAMS=udp:{1} unix-datagram:/run/app/datagram.sock'\n\
         Sockets=http.socket other.socket unclaimed.socket\n",
        sockets.abstract_name,
        sockets.udp,
        reload_by(&machine)
    ))
    .await;
    sockets.listen(&machine).await;
    assert_eq!(app.show().await.get("ActiveState"), "inactive");

    // The first request starts the service.
    let first = identity(&sockets.http[1].into()).await;
    assert_eq!(first.generation, 1);
    assert_eq!(app.show().await.main_pid(), first.pid);
    sockets.all_answer(&machine, first).await;

    // What the service does not ask for is not kept from whoever reads its log.
    let unclaimed = app.logs(0, "nobody claimed").await;
    assert!(
        unclaimed.message().contains("unclaimed.socket"),
        "{unclaimed}"
    );

    // They pass through handovers like all others.
    let mut incumbent = first;
    for _ in 0..3 {
        incumbent = app.reload(incumbent).await;
        sockets.all_answer(&machine, incumbent).await;
    }

    // The sockets are systemd's: they outlive the service, and the next client starts it anew.
    app.stop().await;
    for socket in ["http.socket", "other.socket"] {
        let state = machine.show(socket).await;
        assert_eq!(state.get("SubState"), "listening", "{socket}");
    }
    for path in ["stream", "seq", "datagram"] {
        let path = machine.path(app.path(&format!("{path}.sock")));
        assert!(path.exists(), "{} was removed", path.display());
    }
    let second = identity(&sockets.http[0].into()).await;
    assert_eq!(second.generation, 1);
    sockets.all_answer(&machine, second).await;
}

/// However the endpoint is claimed, the error names what is wrong with the unit.
async fn a_socket_unit_that_accepts_itself_is_an_error(machine: Machine) {
    let address = machine.address(7001);
    for endpoint in ["systemd:http".to_owned(), format!("http={address}")] {
        let from = machine.journal().len();
        let socket =
            format!("[Socket]\nListenStream={address}\nFileDescriptorName=http\nAccept=yes\n");
        let service = format!("[Service]\nType=notify\nExecStart=/usr/local/bin/app {endpoint}\n");
        machine
            .load([
                ("accepting.socket", &socket),
                ("accepting@.service", &service),
            ])
            .await;
        machine.systemctl(["start", "accepting.socket"]).await;
        let client = TcpStream::connect(address).await.expect("systemd listens");
        let entry = machine
            .journal()
            .find(from, "accepting@", "Accept=no")
            .await;
        let message = entry.message();
        for part in [&*endpoint, "systemd passed a connection", "Accept=yes"] {
            assert!(message.contains(part), "`{part}` is not in `{message}`");
        }
        drop(client);
        machine.systemctl(["stop", "accepting.socket"]).await;
    }
}

/// The sockets of three socket units.
#[derive(Debug)]
struct Sockets {
    http: [SocketAddr; 2],
    abstract_name: String,
    udp: SocketAddr,
    unclaimed: SocketAddr,
}

impl Sockets {
    fn of(machine: &Machine) -> Self {
        let http = [7001, 7002].map(|port| machine.address(port));
        Self {
            http,
            // Abstract names are of the network namespace, which is everybody's.
            abstract_name: format!("@handover-{}", http[0]),
            udp: machine.address(7003),
            unclaimed: machine.address(7004),
        }
    }

    async fn listen(&self, machine: &Machine) {
        let Self {
            http: [one, two], ..
        } = self;
        let socket = |lines: &str| format!("[Socket]\nService=app.service\n{lines}");
        let http = format!("FileDescriptorName=http\nListenStream={one}\nListenStream={two}\n");
        let other = format!(
            "ListenStream=/run/app/stream.sock\n\
             ListenStream={}\n\
             ListenSequentialPacket=/run/app/seq.sock\n\
             ListenDatagram={}\n\
             ListenDatagram=/run/app/datagram.sock\n",
            self.abstract_name, self.udp
        );
        let unclaimed = format!("ListenStream={}\n", self.unclaimed);
        let units = [
            ("http.socket", &*socket(&http)),
            ("other.socket", &*socket(&other)),
            ("unclaimed.socket", &*socket(&unclaimed)),
        ];
        machine.load(units).await;
        let [http, other, unclaimed] = units.map(|(name, _)| name);
        machine.systemctl(["start", http, other, unclaimed]).await;
    }

    /// Checks that one process answers on all that are claimed.
    async fn all_answer(&self, machine: &Machine, expected: Identity) {
        let path = |name: &str| machine.path(format!("/run/app/{name}.sock"));
        let streams = [
            Target::Tcp(self.http[0]),
            Target::Tcp(self.http[1]),
            Target::Unix(path("stream")),
            Target::Unix(PathBuf::from(&self.abstract_name)),
        ];
        for target in streams {
            assert_eq!(identity(&target).await, expected, "{target}");
        }
        let answers = [
            ("UDP", ask_udp(self.udp).await),
            ("a datagram", ask_datagram(machine).await),
            ("a record", ask_seqpacket(path("seq")).await),
        ];
        for (kind, answer) in answers {
            assert_eq!(Identity::parse(&answer), Some(expected), "{kind}: {answer}");
        }
    }
}

pub(crate) async fn ask_udp(address: SocketAddr) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.send_to(b"who", address).await.expect("a datagram");
    let mut answer = [0; 1024];
    let received = within("an answer over UDP", socket.recv(&mut answer)).await;
    text(&answer[..received.expect("an answer")])
}

/// From within the machine: the service answers to the path that the client has bound.
async fn ask_datagram(machine: &Machine) -> String {
    let script = r#"
        use Socket;
        alarm 60;
        unlink "/run/app/client.sock";
        socket(S, PF_UNIX, SOCK_DGRAM, 0) or die $!;
        bind(S, sockaddr_un("/run/app/client.sock")) or die $!;
        send(S, "who", 0, sockaddr_un("/run/app/datagram.sock")) or die $!;
        defined recv(S, $_, 1024, 0) or die $!;
        print;
    "#;
    machine.run(["perl", "-e", script]).await
}

async fn ask_seqpacket(path: PathBuf) -> String {
    let ask = move || -> io::Result<String> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.connect(&SockAddr::unix(path)?)?;
        socket.send(b"GET / HTTP/1.1\r\nhost: service\r\nconnection: close\r\n\r\n")?;
        let mut answer = [0; 1024];
        let length = io::Read::read(&mut &socket, &mut answer)?;
        let answer = text(&answer[..length]);
        let body = answer.split("\r\n\r\n").nth(1);
        Ok(body.unwrap_or(&answer).to_owned())
    };
    let answer = within("an answer over seqpacket", spawn_blocking(ask)).await;
    answer.expect("no panic").expect("an answer")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
