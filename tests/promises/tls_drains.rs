//! Behind TLS nothing is lost either, as long as clients do not think for longer than the drain lasts:
//! a connection is announced to end, and neither handshakes nor quiet clients hold anybody up.

use std::convert::Infallible;
use std::fs;
use std::io::Write;
use std::sync::Arc;

use handover_tests::load::{Kind, Report};
use handover_tests::{Exit, Load, Program, Signal, Target, believing, within};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{Running, all, millis, signal};

/// Our server, that of axum with the layer, and the example.
#[tokio::test]
async fn requests_over_tls_are_answered() {
    let endings = |server: &str| Program::new(env!("CARGO_BIN_EXE_endings")).arg(server);
    let example = Program::new(env!("CARGO_BIN_EXE_example-tls")).arg("127.0.0.1:0");
    let servers = ["tls", "axum-tls", "hyper-tls"].map(|server| (endings(server), HANDOVERS));
    for (program, handovers) in servers.into_iter().chain([(example, 50)]) {
        let running = start(program).await;
        let plan = Load::on(running.target.clone())
            .pause(Kind::Idle, millis(200)..=millis(600))
            .pause(Kind::Silent, millis(0)..=millis(400));
        let load = Kind::ALL
            .into_iter()
            .fold(plan, |plan, kind| plan.clients(kind, 3))
            .start();
        for _ in 0..handovers {
            let before = load.progress(1).await;
            let incumbent = before.newest().expect("somebody has answered");
            signal(incumbent, Signal::HUP);
            let is_newer = |report: &Report| {
                report
                    .newest()
                    .is_some_and(|newest| newest.generation > incumbent.generation)
            };
            load.wait_for("an answer of the successor", is_newer).await;
        }
        load.progress(1).await;
        let report = load.stop().await;
        report.assert_nothing_lost();
        assert_eq!(
            report.all().closed_idle,
            0,
            "closed without a word:\n{report}"
        );
    }
}

/// Ours and tonic's own, on the same listener.
#[tokio::test]
async fn grpc_over_tls_is_carried_to_its_end() {
    all(["grpc-tls", "tonic-tls"], async |server| {
        let running = start(Program::new(env!("CARGO_BIN_EXE_endings")).arg(server)).await;
        let mut client = grpc(&running.target).await;
        assert_eq!(check(&mut client, 1).await, Ok(()), "{server}");
        running
            .service
            .first()
            .signal(Signal::HUP)
            .expect("it serves");
        running
            .service
            .output()
            .find("draining phase=draining generation=1")
            .await;
        assert_eq!(running.service.first().exited().await, Exit::Code(0));
        let output = running.service.output().to_string();
        assert!(!output.contains("what is left is cut"), "{output}");
        // The channel connects anew.
        assert_eq!(check(&mut client, 2).await, Ok(()), "{server}");
    })
    .await;
}

#[tokio::test]
async fn the_address_of_a_client_is_known_behind_tls() {
    all(["tls", "axum-tls"], async |server| {
        let running = start(Program::new(env!("CARGO_BIN_EXE_endings")).arg(server)).await;
        let mut stream = connect(&running.target).await;
        let address = stream.get_ref().0.local_addr().expect("an address");
        let answer = ask(&mut stream, "/peer").await;
        assert!(answer.ends_with(&format!("\r\n\r\n{address}")), "{answer}");
    })
    .await;
}

/// Nothing is secret yet.
#[tokio::test]
async fn a_silent_connection_moves_before_its_handshake() {
    all(["tls", "axum-tls"], async |server| {
        let running = start(Program::new(env!("CARGO_BIN_EXE_endings")).arg(server)).await;
        let Target::Tls(address) = running.target else {
            panic!("{} is not TLS", running.target);
        };
        let silent = TcpStream::connect(address).await;
        let silent = silent.expect("somebody listens");
        // By its answer the silent one is in, which was before it in the queue.
        let incumbent = running.identity().await;
        running.hand_over(incumbent).await;
        running.ended(1).await;
        ring::default_provider().install_default().ok();
        let name = ServerName::from(address.ip());
        let shaken = believing().expect("a provider").connect(name, silent);
        let mut stream = within("a handshake", shaken).await.expect("a session");
        let answer = ask(&mut stream, "/").await;
        assert!(answer.ends_with(" generation=2"), "{answer}");
    })
    .await;
}

/// Handlers learn what the client has asked for, and who it is, with a certificate or without one.
#[tokio::test]
async fn the_session_of_a_client_is_known() {
    ring::default_provider().install_default().ok();
    let own = rcgen::generate_simple_self_signed(vec!["a client".to_owned()]);
    let own = own.expect("a certificate");
    let directory = tempfile::tempdir().expect("a directory");
    let trusted = directory.path().join("client.der");
    fs::write(&trusted, own.cert.der()).expect("a file that can be written");
    let program = Program::new(env!("CARGO_BIN_EXE_endings")).arg("session-tls");
    let running = start(program.env("ENDINGS_CLIENTS", trusted)).await;

    let mut anonymous = ClientConfig::clone(believing().expect("a provider").config());
    anonymous.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut certified = anonymous.clone();
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()).into();
    let chain = vec![own.cert.der().clone()];
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider()).expect("a pair");
    certified.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(key));
    for (config, certificates) in [(anonymous, 0), (certified, 1)] {
        let name = ServerName::try_from("some.where").expect("a name");
        let shaken = TlsConnector::from(Arc::new(config)).connect(name, tcp(&running.target).await);
        let mut stream = within("a handshake", shaken).await.expect("a session");
        let answer = ask(&mut stream, "/").await;
        let expected = format!("\r\n\r\nsome.where http/1.1 {certificates}");
        assert!(answer.ends_with(&expected), "{answer}");
    }
}

/// They are many, and have begun; others are served, and the drain ends them with everything else.
#[tokio::test]
async fn handshakes_that_stall_hold_up_nobody() {
    all(["tls", "axum-tls"], async |server| {
        let program = Program::new(env!("CARGO_BIN_EXE_endings")).arg(server);
        let program = program.env("ENDINGS_HANDSHAKE_TIMEOUT", "100000");
        let running = start(program.env("ENDINGS_DRAIN_TIMEOUT", "1000")).await;
        let mut stalled = Vec::new();
        for _ in 0..50 {
            stalled.push(stall(&running.target).await);
        }
        let mut stream = connect(&running.target).await;
        assert!(ask(&mut stream, "/").await.contains("generation=1"));
        drop(stream);
        running
            .service
            .first()
            .signal(Signal::HUP)
            .expect("it serves");
        running.service.output().find("generation=2 serves").await;
        running
            .service
            .output()
            .find("draining phase=draining generation=1")
            .await;
        let mut stream = connect(&running.target).await;
        assert!(ask(&mut stream, "/").await.contains("generation=2"));
        assert_eq!(running.service.first().exited().await, Exit::Code(0));
    })
    .await;
}

#[tokio::test]
async fn a_handshake_has_a_time_limit() {
    let program = Program::new(env!("CARGO_BIN_EXE_endings")).arg("tls");
    let running = start(program.env("ENDINGS_HANDSHAKE_TIMEOUT", "300")).await;
    let mut stalled = stall(&running.target).await;
    let mut rest = Vec::new();
    // One that is reset is closed as well.
    within("the end", stalled.read_to_end(&mut rest)).await.ok();
    let mut stream = connect(&running.target).await;
    assert!(ask(&mut stream, "/").await.contains("generation=1"));
}

/// It is quiet until the deadline, and is told with the words of TLS.
#[tokio::test]
async fn a_quiet_connection_is_closed_with_a_word_at_the_deadline() {
    let program = Program::new(env!("CARGO_BIN_EXE_endings")).arg("tls");
    let running = start(program.env("ENDINGS_DRAIN_TIMEOUT", "2000")).await;
    let mut quiet = connect(&running.target).await;
    assert!(ask(&mut quiet, "/").await.contains("generation=1"));
    running
        .service
        .first()
        .signal(Signal::HUP)
        .expect("it serves");
    running
        .service
        .output()
        .find("draining phase=draining generation=1")
        .await;
    // Without `close_notify` this would be an error.
    let end = within("the end", quiet.read(&mut [0])).await;
    assert_eq!(end.expect("an orderly end of TLS"), 0);
    drop(quiet);
    assert_eq!(running.service.first().exited().await, Exit::Code(0));
    let output = running.service.output().to_string();
    assert!(!output.contains("what is left is cut"), "{output}");
}

/// The last look comes when part of a request has been read, and nothing of it can be understood yet.
#[tokio::test]
async fn part_of_a_record_is_a_request_that_has_arrived() {
    let program = Program::new(env!("CARGO_BIN_EXE_endings")).arg("tls");
    let running = start(program.env("ENDINGS_DRAIN_TIMEOUT", "5000")).await;
    let mut quiet = connect(&running.target).await;
    let mut torn = connect(&running.target).await;
    for stream in [&mut quiet, &mut torn] {
        assert!(ask(stream, "/").await.contains("generation=1"));
    }
    let first = running.service.first();
    first.signal(Signal::HUP).expect("it serves");
    let drains = "draining phase=draining generation=1";
    running.service.output().find(drains).await;
    let mut record = Vec::new();
    let (stream, session) = torn.get_mut();
    let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    session.writer().write_all(request).expect("memory");
    session.write_tls(&mut record).expect("memory");
    let (begin, rest) = record.split_at(record.len() / 2);
    stream.write_all(begin).await.expect("it is open");
    // Its end is the last look.
    let end = within("the last look", quiet.read(&mut [0])).await;
    assert_eq!(end.expect("an orderly end"), 0);
    stream.write_all(rest).await.expect("it is open");
    let answer = receive(&mut torn).await;
    assert!(answer.contains("generation=1"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

/// Starts a service that speaks TLS, and waits until it serves.
async fn start(program: Program) -> Running {
    let service = program.start().expect("a program");
    let Target::Tcp(address) = service.listening(1).await.swap_remove(0) else {
        panic!("not TCP");
    };
    service.output().find("serving phase=serving").await;
    Running {
        service,
        target: handover_tests::tls(address),
    }
}

/// Begins a handshake and does not go on.
async fn stall(target: &Target) -> TcpStream {
    let mut stream = tcp(target).await;
    // The head of a record of 512 bytes, and the first of them: a ClientHello.
    let begun = stream
        .write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
        .await;
    begun.expect("it is open");
    stream
}

async fn tcp(target: &Target) -> TcpStream {
    let Target::Tls(address) = target else {
        panic!("{target} is not TLS");
    };
    let stream = within("a connection", TcpStream::connect(address)).await;
    stream.expect("somebody listens")
}

async fn connect(target: &Target) -> TlsStream<TcpStream> {
    let name = ServerName::try_from("localhost").expect("a name");
    let connector = believing().expect("a connector");
    let handshake = connector.connect(name, tcp(target).await);
    within("a handshake", handshake).await.expect("TLS")
}

async fn grpc(target: &Target) -> HealthClient<Channel> {
    let target = target.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let target = target.clone();
        async move { Ok::<_, Infallible>(TokioIo::new(connect(&target).await)) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = within("a connection", endpoint.connect_with_connector(connector)).await;
    HealthClient::new(channel.expect("gRPC"))
}

/// Asks for a service that only one generation has.
async fn check(client: &mut HealthClient<Channel>, generation: u32) -> Result<(), Code> {
    let service = format!("generation {generation}");
    let answer = within("an answer", client.check(HealthCheckRequest { service })).await;
    answer.map(drop).map_err(|status| status.code())
}

async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it is open");
    receive(stream).await
}

async fn receive(stream: &mut TlsStream<TcpStream>) -> String {
    let mut buffer = [0; 1024];
    // A server sends an answer as short as this one at once.
    let count = within("an answer", stream.read(&mut buffer))
        .await
        .expect("TLS");
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

const HANDOVERS: u32 = 5;
