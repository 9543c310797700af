//! The adapter for tonic, on a real listener; its services are handlers of axum that say they speak gRPC.

use std::{
    convert::Infallible,
    future::{IntoFuture, pending},
    net::SocketAddr,
};

use ::axum::{
    Extension, Router,
    body::Body,
    extract::ConnectInfo,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use ::tonic::{service::Routes, transport::server::TcpConnectInfo};
use futures::{StreamExt, stream};
use http::{HeaderMap, Request, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http2::{SendRequest, handshake},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use socket2::SockRef;
use tokio::net::TcpStream;

use super::{
    generation::{Generation, connect},
    must, settle,
};
use crate::{
    net::{listener::Listener, peer::Peer},
    serve::tonic::serve,
    socket::Endpoint,
};

const UNAVAILABLE: &str = "14";
const MESSAGE: usize = 10_000;

fn grpc(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/grpc")], body).into_response()
}

fn routes() -> Routes {
    let messages = |messages: &'static [&'static str]| {
        stream::iter(messages).map(|message| Ok::<_, Infallible>(*message))
    };
    let some = move || messages(&["first", "second"]).chain(stream::pending());
    let address = async |ConnectInfo(address): ConnectInfo<SocketAddr>| address.to_string();
    let peer = async |ConnectInfo(peer): ConnectInfo<Peer>| peer.to_string();
    let called = async |Extension(info): Extension<TcpConnectInfo>| {
        grpc(Body::from(info.remote_addr.unwrap().to_string()))
    };
    let endless = async || {
        let always = stream::repeat_with(|| Ok::<_, Infallible>(" ".repeat(MESSAGE)));
        grpc(Body::from_stream(always))
    };
    let app = Router::new()
        .route("/address", get(address))
        .route("/peer", get(peer))
        .route("/hang", get(async || pending::<()>().await))
        .route("/call", post(called))
        .route("/never", post(async || pending::<()>().await))
        .route("/some", post(async move || grpc(Body::from_stream(some()))))
        .route("/endless", post(endless));
    Routes::from(app)
}

type Caller = SendRequest<Empty<Bytes>>;

async fn caller(address: SocketAddr) -> Caller {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (caller, connection) = must(handshake(TokioExecutor::new(), io)).await.unwrap();
    tokio::spawn(connection);
    caller
}

/// Calls, and does not wait for the response.
fn call(
    caller: &mut Caller,
    path: &str,
) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
    let request = Request::post(format!("http://test{path}"))
        .header(CONTENT_TYPE, "application/grpc")
        .body(Empty::new());
    caller.send_request(request.unwrap())
}

async fn data(response: &mut Response<Incoming>) -> Bytes {
    let frame = must(response.frame()).await.unwrap().unwrap();
    frame.into_data().unwrap()
}

async fn trailers(response: Response<Incoming>) -> HeaderMap {
    let rest = must(response.into_body().collect()).await.unwrap();
    rest.trailers().cloned().unwrap()
}

#[tokio::test]
async fn handlers_of_both_kinds_learn_the_address_of_their_client() {
    let (_generation, listener, address) = Generation::on_tcp().await;
    let _server = tokio::spawn(serve(listener, routes()).into_future());
    let mut client = connect(address).await;
    let own = client.io.local_addr().unwrap().to_string();
    for path in ["/address", "/peer"] {
        client.get(path).await;
        client.reply().await.expect(&own, false);
    }

    let mut response = must(call(&mut caller(address).await, "/call"))
        .await
        .unwrap();
    let seen = data(&mut response).await;
    let seen: SocketAddr = std::str::from_utf8(&seen).unwrap().parse().unwrap();
    assert!(seen.ip().is_loopback(), "{seen}");
}

/// As with tonic's own server, and by every server here; the user's word is the last.
#[tokio::test]
async fn small_messages_are_sent_at_once_unless_the_endpoint_says_otherwise() {
    let endpoint: Endpoint = "127.0.0.1:0".parse().unwrap();
    for (endpoint, at_once) in [
        (endpoint.clone(), true),
        (endpoint.clone().no_delay(true), true),
        (endpoint.clone().no_delay(false), false),
    ] {
        let (_generation, listener) = Generation::new(&endpoint).await;
        let mut listener = serve(listener, routes()).into_listener();
        assert_eq!(no_delay(&mut listener).await, at_once, "{endpoint:?}");
    }
    let (_generation, listener) = Generation::new(&endpoint).await;
    let mut listener = crate::serve::axum::serve(listener, Router::new()).into_listener();
    assert!(no_delay(&mut listener).await);
}

/// Whether a connection that it accepts has the option.
async fn no_delay(listener: &mut Listener) -> bool {
    let _client = connect(listener.local_addr().unwrap()).await;
    let conn = must(listener.accept()).await.unwrap().unwrap();
    SockRef::from(&conn).tcp_nodelay().unwrap()
}

#[tokio::test]
async fn calls_that_outlive_the_drain_end_with_a_status() {
    let (generation, listener, address) = Generation::on_tcp().await;
    let server = tokio::spawn(serve(listener, routes()).into_future());
    let mut caller = caller(address).await;
    let never = tokio::spawn(call(&mut caller, "/never"));
    let mut some = must(call(&mut caller, "/some")).await.unwrap();
    assert_eq!(data(&mut some).await, "first");
    let mut endless = must(call(&mut caller, "/endless")).await.unwrap();
    assert_eq!(data(&mut endless).await.len(), MESSAGE);
    let mut hangs = connect(address).await;
    hangs.get("/hang").await;
    settle().await;

    generation.drain();
    assert_eq!(data(&mut some).await, "second");
    settle().await;
    assert!(!never.is_finished());
    generation.tokens.closing.cancel();

    let response = must(never).await.unwrap().unwrap();
    assert_eq!(response.headers()["grpc-status"], UNAVAILABLE);
    assert_eq!(trailers(some).await["grpc-status"], UNAVAILABLE);
    let ended = trailers(endless).await;
    assert_eq!(ended["grpc-status"], UNAVAILABLE);
    assert!(!ended.contains_key(CONTENT_TYPE), "{ended:?}");
    settle().await;
    assert!(!server.is_finished(), "a request that is not gRPC goes on");
    generation.abort();
    hangs.end().await.unwrap();
    must(server).await.unwrap().unwrap();
}
