//! Any server that is given our listener adopts, serves and drains with no help from us, on any
//! runtime, and its generation ends by itself when its last connection has gone.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use futures::{SinkExt, StreamExt};
use handover_tests::load::Kind;
use handover_tests::{Exit, Identity, Load, Program, Signal, Target, within};
use rcgen::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::client::Client;
use crate::support::{Running, all};

/// `axum::serve` closes nothing of its own accord, and so loses nothing.
#[tokio::test]
async fn axum_loses_no_request_on_any_runtime() {
    all(RUNTIMES, async |runtime| {
        let running = start(&["axum", runtime]).await;
        let load = Load::on(running.target.clone());
        let load = load.clients(Kind::New, 4).start();
        let mut incumbent = running.identity().await;
        for _ in 0..3 {
            incumbent = running.hand_over(incumbent).await;
            load.progress(20).await;
        }
        load.stop().await.assert_nothing_lost();
        ended_by_itself(&running).await;
        stopped(&running).await;
    })
    .await;
}

/// The others close what is idle at once, be it that a request is on its way; what they have read
/// of, they answer.
#[tokio::test]
async fn http_servers_complete_what_is_in_progress() {
    for server in ["axum", "axum-graceful", "hyper"] {
        all(RUNTIMES, async |runtime| {
            let running = start(&[server, runtime]).await;
            let (mut slow, first) = Client::of_generation(&running.target, 1).await;
            slow.send("/?ms=500").await;
            // An answer to a later request on another connection: that one has arrived.
            Client::of_generation(&running.target, 1).await;
            hand_over(&running).await;
            assert_eq!(slow.answer().await, first, "{server} {runtime}");
            drop(slow);
            ended_by_itself(&running).await;
            Client::of_generation(&running.target, 2).await;
            stopped(&running).await;
        })
        .await;
    }
}

/// `axum::serve` alone tells nobody that it is over: whoever keeps a connection may go on.
#[tokio::test]
async fn axum_alone_serves_who_stays() {
    let running = start(&["axum", "multi_thread"]).await;
    let (mut client, first) = Client::of_generation(&running.target, 1).await;
    let second = running.hand_over(first).await;
    for _ in 0..10 {
        assert_eq!(client.ask("/").await, first);
    }
    assert!(running.service.first().is_running(), "a client stays");
    drop(client);
    ended_by_itself(&running).await;
    assert_eq!(running.identity().await, second);
}

#[tokio::test]
async fn websockets_are_closed_with_a_word() {
    all(RUNTIMES, async |runtime| {
        let running = start(&["websocket", runtime]).await;
        let mut sockets = Vec::new();
        for _ in 0..5 {
            let mut socket = websocket(&running.target).await;
            let identity = converse(&mut socket).await.expect("an answer");
            assert_eq!(identity.generation, 1);
            sockets.push(socket);
        }
        hand_over(&running).await;
        for mut socket in sockets {
            // The successor may have answered before its predecessor knew of it.
            let close = loop {
                match converse(&mut socket).await {
                    Ok(identity) => assert_eq!(identity.generation, 1),
                    Err(close) => break close,
                }
            };
            assert_eq!(close, CloseCode::Restart);
        }
        ended_by_itself(&running).await;
        let mut socket = websocket(&running.target).await;
        let identity = converse(&mut socket).await.expect("an answer");
        assert_eq!(identity.generation, 2);
        drop(socket);
        stopped(&running).await;
    })
    .await;
}

#[tokio::test]
async fn tls_completes_what_is_in_progress() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("self-signed");
    let connector = self_signed(&path);
    let path = path.to_str().expect("a name that is text");
    all(RUNTIMES, async |runtime| {
        let running = start(&["tls", runtime, path]).await;
        let mut slow = tls(&connector, &running.target).await;
        let mut idle = tls(&connector, &running.target).await;
        // Its first answer shows that it has been accepted.
        request(&mut idle, "/").await;
        assert_eq!(answer(&mut idle).await.generation, 1);
        request(&mut slow, "/?ms=500").await;
        hand_over(&running).await;
        assert_eq!(
            answer(&mut slow).await.generation,
            1,
            "what was in progress"
        );
        // The end of an idle connection is said, not only done.
        let rest = within("the end of an idle connection", idle.read(&mut [0])).await;
        assert_eq!(rest.expect("an orderly end of TLS"), 0);
        drop((slow, idle));
        ended_by_itself(&running).await;
        let mut stream = tls(&connector, &running.target).await;
        request(&mut stream, "/").await;
        assert_eq!(answer(&mut stream).await.generation, 2);
        drop(stream);
        stopped(&running).await;
    })
    .await;
}

#[tokio::test]
async fn grpc_calls_and_streams_are_carried_to_their_ends() {
    all(RUNTIMES, async |runtime| {
        let running = start(&["tonic", runtime]).await;
        let mut client = grpc(&running.target).await;
        assert_eq!(check(&mut client, 1).await, Ok(()));
        assert_eq!(check(&mut client, 2).await, Err(Code::NotFound));
        let watch = HealthCheckRequest {
            service: "generation 1".to_owned(),
        };
        let mut stream = grpc(&running.target).await;
        let stream_of_first = stream.watch(watch).await.expect("a stream");
        let mut statuses = stream_of_first.into_inner();
        let status = within("a status", statuses.message()).await;
        assert!(status.expect("no error").is_some());

        hand_over(&running).await;
        let mut new = grpc(&running.target).await;
        assert_eq!(check(&mut new, 2).await, Ok(()), "{runtime}");
        // The channel that is kept learns of it, and connects anew. A call in that moment hyper
        // gives back unsent, as cancelled, and tonic does not try again.
        within("the successor on a channel that is kept", async {
            while let Err(code) = check(&mut client, 2).await {
                assert!(matches!(code, Code::NotFound | Code::Cancelled), "{code}");
            }
        })
        .await;
        assert!(running.service.first().is_running(), "a stream is open");
        drop((statuses, stream));
        ended_by_itself(&running).await;
        drop((client, new));
        stopped(&running).await;
    })
    .await;
}

/// Starts a server, and waits until it serves.
async fn start(arguments: &[&str]) -> Running {
    let program = Program::new(env!("CARGO_BIN_EXE_any-server"));
    let service = program.args(arguments).start().expect("a program");
    let target = service.listening(1).await.swap_remove(0);
    service.output().find("generation=1 serves").await;
    Running { service, target }
}

/// Hands over where nobody can be asked over HTTP, and waits until the first one accepts no more.
async fn hand_over(running: &Running) {
    let first = running.service.first();
    first.signal(Signal::HUP).expect("it serves");
    running.service.output().find("generation=2 serves").await;
    let drains = "draining phase=draining generation=1";
    running.service.output().find(drains).await;
}

/// Waits for the end of the first generation, for which no deadline was needed.
async fn ended_by_itself(running: &Running) {
    assert_eq!(running.service.first().exited().await, Exit::Code(0));
    let output = running.service.output().to_string();
    assert!(!output.contains("what is left is cut"), "{output}");
}

/// Stops the service, and checks that it ends by itself.
async fn stopped(running: &Running) {
    running.service.stop().await;
    let output = running.service.output().to_string();
    assert!(!output.contains("what is left is cut"), "{output}");
}

async fn connect(target: &Target) -> (TcpStream, SocketAddr) {
    let Target::Tcp(address) = target else {
        panic!("{target} is not TCP");
    };
    let stream = within("a connection", TcpStream::connect(address)).await;
    (stream.expect("somebody listens"), *address)
}

async fn websocket(target: &Target) -> WebSocketStream<TcpStream> {
    let (stream, address) = connect(target).await;
    let url = format!("ws://{address}/");
    let handshake = tokio_tungstenite::client_async(url, stream);
    let (socket, _) = within("a handshake", handshake).await.expect("WebSocket");
    socket
}

/// Asks who is there, or learns why the socket was closed.
async fn converse(socket: &mut WebSocketStream<TcpStream>) -> Result<Identity, CloseCode> {
    // One that is being closed takes nothing more; what it says is read all the same.
    socket.send(Message::text("who is there?")).await.ok();
    let message = within("a message", socket.next()).await;
    match message
        .expect("an answer or a farewell")
        .expect("WebSocket")
    {
        Message::Text(text) => Ok(Identity::parse(&text).expect("an identity")),
        Message::Close(Some(frame)) => Err(frame.code),
        other => panic!("not expected: {other}"),
    }
}

/// Makes a certificate, puts it where the server looks, and believes it.
fn self_signed(path: &Path) -> TlsConnector {
    let names = vec!["localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let CertifiedKey { cert, signing_key } = made;
    fs::write(path.with_extension("cert"), cert.der()).expect("a file");
    fs::write(path.with_extension("key"), signing_key.serialize_der()).expect("a file");
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from(cert.der().to_vec());
    roots.add(certificate).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn tls(connector: &TlsConnector, target: &Target) -> TlsStream<TcpStream> {
    let (stream, _) = connect(target).await;
    let name = ServerName::try_from("localhost").expect("a name");
    let handshake = connector.connect(name, stream);
    within("a handshake", handshake).await.expect("TLS")
}

async fn request(stream: &mut TlsStream<TcpStream>, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let written = stream.write_all(request.as_bytes()).await;
    written.expect("the connection is open");
}

async fn answer(stream: &mut TlsStream<TcpStream>) -> Identity {
    let mut text = String::new();
    let whole = async {
        let mut buffer = [0; 1024];
        loop {
            let count = stream.read(&mut buffer).await.expect("TLS");
            assert!(count > 0, "no whole answer: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            // The server sends an answer as short as this one at once.
            if let Some((_, body)) = text.split_once("\r\n\r\n") {
                return Identity::parse(body).expect("an identity");
            }
        }
    };
    within("an answer", whole).await
}

async fn grpc(target: &Target) -> HealthClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{target}")).expect("an address");
    let channel = within("a connection", endpoint.connect()).await;
    HealthClient::new(channel.expect("gRPC"))
}

/// Asks for a service that only one generation has.
async fn check(client: &mut HealthClient<Channel>, generation: u32) -> Result<(), Code> {
    let service = format!("generation {generation}");
    let answer = within("an answer", client.check(HealthCheckRequest { service })).await;
    answer.map(drop).map_err(|status| status.code())
}

const RUNTIMES: [&str; 4] = ["multi_thread", "current_thread", "local", "own"];
