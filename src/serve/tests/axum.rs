//! The adapter for axum, on a real listener.

use std::{
    future::{IntoFuture, pending},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use ::axum::{
    Router,
    extract::{
        ConnectInfo,
        ws::{WebSocket, WebSocketUpgrade},
    },
    handler::{Handler, HandlerWithoutStateExt},
    routing::{any, get},
};
use tokio::{net::UnixStream, task::JoinHandle};
#[cfg(feature = "axum-ws")]
use {
    http::{Method, Request, Version},
    http_body_util::Empty,
    hyper::{body::Bytes, client::conn::http2::handshake, ext::Protocol},
    hyper_util::rt::{TokioExecutor, TokioIo},
    tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    },
};

use super::{
    Client,
    generation::{Generation, connect},
    must, settle,
};
use crate::{
    net::{gate::State, peer::Peer},
    serve::{
        axum::{App, MakeService, serve},
        builder::Serve,
    },
    socket::Endpoint,
};

fn spawn<M: MakeService>(server: Serve<App<M>>) -> JoinHandle<std::io::Result<()>> {
    tokio::spawn(server.into_future())
}

/// The request that opens a WebSocket.
fn web_socket(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

async fn hello() -> &'static str {
    "hello"
}

async fn client_address(ConnectInfo(client): ConnectInfo<SocketAddr>) -> String {
    client.to_string()
}

async fn client_peer(ConnectInfo(client): ConnectInfo<Peer>) -> String {
    client.to_string()
}

#[tokio::test]
async fn everything_that_axum_serves_is_served() {
    async fn serves(app: impl MakeService) {
        let (_generation, listener, address) = Generation::on_tcp().await;
        let _server = spawn(serve(listener, app));
        let mut client = connect(address).await;
        client.get("/").await;
        client.reply().await.expect("hello", false);
    }

    let router = || Router::new().route("/", get(hello));
    serves(router()).await;
    serves(router().into_make_service()).await;
    serves(router().into_make_service_with_connect_info::<SocketAddr>()).await;
    serves(router().into_make_service_with_connect_info::<Peer>()).await;
    serves(get(hello)).await;
    serves(get(hello).into_make_service()).await;
    serves(hello.into_service()).await;
    serves(hello.with_state(7)).await;
    serves(hello.into_make_service()).await;
    serves(hello.into_make_service_with_connect_info::<SocketAddr>()).await;
}

#[tokio::test]
async fn a_handler_learns_the_address_of_its_client() {
    let app = Router::new()
        .route("/address", get(client_address))
        .into_make_service_with_connect_info::<SocketAddr>();
    let (_generation, listener, address) = Generation::on_tcp().await;
    let _server = spawn(serve(listener, app));
    let mut client = connect(address).await;
    let own = client.io.local_addr().unwrap().to_string();
    client.get("/address").await;
    client.reply().await.expect(&own, false);

    let app = || {
        Router::new()
            .route("/peer", get(client_peer))
            .into_make_service_with_connect_info::<Peer>()
    };
    let (_generation, listener, address) = Generation::on_tcp().await;
    let _server = spawn(serve(listener, app()));
    let (_generation, listener, other_address) = Generation::on_tcp().await;
    let _other = tokio::spawn(::axum::serve(listener, app()).into_future());
    for address in [address, other_address] {
        let mut client = connect(address).await;
        let own = client.io.local_addr().unwrap().to_string();
        client.get("/peer").await;
        client.reply().await.expect(&own, false);
    }
}

#[tokio::test]
async fn a_client_on_a_unix_socket_has_no_ip_address() {
    async fn ask<M: MakeService>(folder: &Path, app: M, expected: &str) {
        let path = folder.join("socket");
        let (_generation, listener) = Generation::new(&Endpoint::unix(&path)).await;
        let _server = spawn(serve(listener, app));
        let mut client = Client::new(UnixStream::connect(&path).await.unwrap());
        client.get("/").await;
        client.reply().await.expect(expected, false);
    }

    let address = Router::new().route("/", get(client_address));
    let peer = Router::new().route("/", get(client_peer));
    let folder = tempfile::tempdir().unwrap();
    let address = address.into_make_service_with_connect_info::<SocketAddr>();
    ask(folder.path(), address, "0.0.0.0:0").await;
    let folder = tempfile::tempdir().unwrap();
    let peer = peer.into_make_service_with_connect_info::<Peer>();
    ask(folder.path(), peer, &Peer::Unix(None).to_string()).await;
}

#[tokio::test]
async fn serving_ends_when_the_last_connection_has() {
    let (generation, listener, address) = Generation::on_tcp().await;
    let server = spawn(serve(listener, get(hello)));
    let silent = connect(address).await;
    let mut idle = connect(address).await;
    idle.get("/").await;
    idle.reply().await.expect("hello", false);
    settle().await;

    generation.drain();
    for mut client in [silent, idle] {
        settle().await;
        assert!(!server.is_finished());
        client.get("/").await;
        client.reply().await.expect("hello", true);
        client.end().await.unwrap();
    }

    must(server).await.unwrap().unwrap();
    assert_eq!(generation.tracker.open(), 0);
}

#[tokio::test]
async fn a_web_socket_counts_until_it_is_closed() {
    async fn echo(mut socket: WebSocket) {
        while let Some(Ok(message)) = socket.recv().await {
            // After the client's close frame, which axum answers, nothing can be sent.
            socket.send(message).await.ok();
        }
    }

    let (generation, listener, address) = Generation::on_tcp().await;
    let app = any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(echo));
    let server = spawn(serve(listener, app));
    let mut client = connect(address).await;
    client.send(web_socket("/")).await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");

    generation.drain();
    settle().await;
    assert!(!server.is_finished());
    // A text, masked with zeros as a client has to (RFC 6455, section 5.3), and its echo.
    client.send(b"\x81\x82\0\0\0\0hi").await;
    assert_eq!(client.bytes(4).await, b"\x81\x02hi");
    assert!(!server.is_finished());
    client.send(b"\x88\x82\0\0\0\0\x03\xe8").await;

    assert_eq!(client.bytes(4).await, b"\x88\x02\x03\xe8");
    client.end().await.unwrap();
    must(server).await.unwrap().unwrap();
    assert_eq!(generation.tracker.open(), 0);
}

/// On a stream of HTTP/2 (RFC 8441), next to others; the drain says goodbye on it, and waits for the answer.
#[cfg(feature = "axum-ws")]
#[tokio::test]
async fn a_web_socket_over_http2_is_told_to_come_back() {
    async fn echo(mut socket: crate::serve::axum::ws::WebSocket) {
        while let Some(Ok(message)) = socket.recv().await {
            socket.send(message).await.ok();
        }
    }

    let (generation, listener, address) = Generation::on_tcp().await;
    let upgrade = async |upgrade: crate::serve::axum::ws::WebSocketUpgrade| {
        upgrade.spread(Duration::ZERO).on_upgrade(echo)
    };
    let app = Router::new()
        .route("/", get(hello))
        .route("/ws", any(upgrade));
    let server = spawn(serve(listener, app));
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut client, connection) = handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = |method| {
        let request = Request::builder().method(method).uri("http://test/ws");
        request.version(Version::HTTP_2)
    };
    // By its answer the server's settings are here.
    let plain = request(Method::GET).uri("http://test/");
    let plain = plain.body(Empty::<Bytes>::new()).unwrap();
    must(client.send_request(plain)).await.unwrap();
    let socket = request(Method::CONNECT)
        .header("sec-websocket-version", "13")
        .extension(Protocol::from_static("websocket"))
        .body(Empty::new())
        .unwrap();
    let response = must(client.send_request(socket)).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut socket = TokioIo::new(must(hyper::upgrade::on(response)).await.unwrap());
    socket.write_all(b"\x81\x82\0\0\0\0hi").await.unwrap();
    let mut message = [0; 4];
    must(socket.read_exact(&mut message)).await.unwrap();
    assert_eq!(&message, b"\x81\x02hi");

    generation.drain();

    must(socket.read_exact(&mut message)).await.unwrap();
    assert_eq!(
        (message[0], &message[2..]),
        (0x88, &1012_u16.to_be_bytes()[..])
    );
    settle().await;
    assert!(!server.is_finished());
    socket.write_all(b"\x88\x82\0\0\0\0\x03\xf4").await.unwrap();
    must(server).await.unwrap().unwrap();
    must(connection).await.unwrap().unwrap();
    assert_eq!(generation.tracker.open(), 0);
}

#[tokio::test]
async fn an_abort_ends_what_is_left() {
    async fn forget(socket: WebSocket) {
        pending::<()>().await;
        drop(socket);
    }

    let (generation, listener, address) = Generation::on_tcp().await;
    let app = Router::new()
        .route("/", get(async || pending::<()>().await))
        .route(
            "/ws",
            any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(forget)),
        );
    let server = spawn(serve(listener, app));
    let mut client = connect(address).await;
    client.get("/").await;
    let mut forgotten = connect(address).await;
    forgotten.send(web_socket("/ws")).await;
    forgotten.read_until("\r\n\r\n").await;
    settle().await;
    generation.drain();
    settle().await;
    assert!(!server.is_finished());

    generation.abort();

    must(server).await.unwrap().unwrap();
    client.end().await.unwrap();
    settle().await;
    // The one that nobody reads is told, and still held.
    forgotten.end().await.unwrap();
    assert_eq!(generation.tracker.open(), 1);
}

#[tokio::test]
async fn connections_drain_though_the_server_was_dropped() {
    let (generation, listener, address) = Generation::on_tcp().await;
    let server = spawn(serve(listener, get(hello)));
    let mut client = connect(address).await;
    client.get("/").await;
    client.reply().await.expect("hello", false);
    server.abort();
    assert!(must(server).await.unwrap_err().is_cancelled());

    generation.drain();
    settle().await;
    client.get("/").await;

    client.reply().await.expect("hello", true);
    client.end().await.unwrap();
}

#[tokio::test]
async fn options_reach_the_connections() {
    let (_generation, listener, address) = Generation::on_tcp().await;
    let server = serve(listener, get(hello))
        .header_timeout(Duration::ZERO)
        .http1(|http1| http1.title_case_headers(true));
    let _server = spawn(server);

    let mut client = connect(address).await;
    client.get("/").await;
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.contains("\r\nContent-Length: 5\r\n"), "{head}");
    assert_eq!(client.exactly(5).await, "hello");
    client.send("GET").await;
    client.end().await.unwrap();
}

#[tokio::test]
async fn at_the_limit_connections_wait_in_the_queue() {
    let (generation, listener, address) = Generation::on_tcp().await;
    let server = spawn(serve(listener, get(hello)).max_connections(2));
    let mut first = connect(address).await;
    let mut second = connect(address).await;
    let mut third = connect(address).await;
    for client in [&mut first, &mut second, &mut third] {
        client.get("/").await;
    }
    for client in [&mut first, &mut second] {
        client.reply().await.expect("hello", false);
    }
    settle().await;
    assert_eq!(generation.tracker.open(), 2);
    drop(second);

    third.reply().await.expect("hello", false);

    // A successor takes what waits: this generation leaves it where it is, and ends.
    let _waits = connect(address).await;
    settle().await;
    generation.drain();
    for mut client in [first, third] {
        client.get("/").await;
        client.reply().await.expect("hello", true);
        drop(client);
    }
    must(server).await.unwrap().unwrap();
    assert_eq!(generation.tracker.open(), 0);
}

#[tokio::test]
async fn at_a_stop_what_waits_at_the_limit_is_served() {
    let (generation, listener, address) = Generation::on_tcp().await;
    let server = spawn(serve(listener, get(hello)).max_connections(1));
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = connect(address).await;
        client.get("/").await;
        clients.push(client);
    }
    settle().await;
    generation.gate.set(State::Emptying);
    generation.tokens.draining.cancel();

    // Its response is out already, and the others are in the queue.
    let mut first = clients.remove(0);
    first.reply().await.expect("hello", false);
    drop(first);
    for mut client in clients {
        client.reply().await.expect("hello", true);
    }

    must(server).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_abort_ends_the_wait_at_the_limit() {
    let (generation, listener, address) = Generation::on_tcp().await;
    let app = get(async || pending::<()>().await);
    let server = spawn(serve(listener, app).max_connections(1));
    let mut busy = connect(address).await;
    busy.get("/").await;
    let _waits = connect(address).await;
    settle().await;
    generation.gate.set(State::Emptying);
    generation.tokens.draining.cancel();
    settle().await;
    assert!(!server.is_finished());

    generation.abort();

    must(server).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_limit_on_idleness_in_the_drain_closes_what_is_quiet() {
    let (generation, listener, address) = Generation::on_tcp().await;
    let app = Router::new()
        .route("/", get(hello))
        .route("/hang", get(async || pending::<()>().await));
    let server = spawn(serve(listener, app).drain_idle_timeout(Duration::ZERO));
    let mut silent = connect(address).await;
    let mut idle = connect(address).await;
    idle.get("/").await;
    idle.reply().await.expect("hello", false);
    let mut busy = connect(address).await;
    busy.get("/hang").await;
    settle().await;

    generation.drain();

    silent.end().await.unwrap();
    idle.end().await.unwrap();
    drop((silent, idle));
    settle().await;
    assert!(!server.is_finished(), "one is busy");
    drop(busy);
    must(server).await.unwrap().unwrap();
}
