//! The adapter for hyper, on a real listener.

use std::{convert::Infallible, future::IntoFuture, sync::Arc, time::Duration};

use ::hyper::{Request, Response, body::Incoming, service::service_fn};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use super::{
    generation::{Generation, connect},
    must, settle,
};
use crate::{
    net::conn::Conn,
    serve::hyper::{serve, serve_with},
};

async fn length(request: Request<Incoming>) -> Result<Response<String>, ::hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    Ok(Response::new(body.len().to_string()))
}

#[tokio::test]
async fn a_service_that_takes_hypers_own_body_is_served_and_drained() {
    let (generation, listener, address) = Generation::on_tcp().await;
    let server = tokio::spawn(serve(listener, service_fn(length)).into_future());
    let post = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello";
    let mut idle = connect(address).await;
    idle.send(post).await;
    idle.reply().await.expect("5", false);
    let mut uploads = connect(address).await;
    let (begun, rest) = post.split_at(post.len() - 2);
    uploads.send(begun).await;
    settle().await;

    generation.drain();
    settle().await;
    assert!(!server.is_finished());
    uploads.send(rest).await;
    uploads.reply().await.expect("5", true);
    uploads.end().await.unwrap();
    generation.tokens.closing.cancel();

    idle.end().await.unwrap();
    drop((idle, uploads));
    must(server).await.unwrap().unwrap();
}

#[tokio::test]
async fn each_connection_can_have_a_service_of_its_own() {
    let (_generation, listener, address) = Generation::on_tcp().await;
    let server = serve_with(listener, |conn: &Conn| {
        let peer = conn.peer().to_string();
        service_fn(move |_: Request<Incoming>| {
            let peer = peer.clone();
            async { Ok::<_, Infallible>(Response::new(peer)) }
        })
    });
    let _server = tokio::spawn(server.into_future());
    for _ in 0..2 {
        let mut client = connect(address).await;
        let own = client.io.local_addr().unwrap().to_string();
        client.get("/").await;
        client.reply().await.expect(&own, false);
    }
}

/// The response is out, and the service still reads: the limit on heads is not for bodies, and at the last look the
/// rest of a body is not taken for a next request.
#[tokio::test]
async fn a_body_that_outlives_its_response_is_read_to_its_end() {
    let (generation, listener, address) = Generation::on_tcp().await;
    let read = Arc::new(Semaphore::new(0));
    let service = {
        let read = Arc::clone(&read);
        service_fn(move |request: Request<Incoming>| {
            let read = Arc::clone(&read);
            tokio::spawn(async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                read.add_permits(body.len());
            });
            async { Ok::<_, Infallible>(Response::new("accepted".to_owned())) }
        })
    };
    let server = serve(listener, service).header_timeout(Duration::ZERO);
    let server = tokio::spawn(server.into_future());
    let mut client = connect(address).await;
    client
        .send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\n12345")
        .await;
    client.reply().await.expect("accepted", false);
    generation.drain();
    generation.tokens.closing.cancel();
    settle().await;

    client.send("678").await;
    settle().await;
    client.send("90").await;

    must(read.acquire_many(10)).await.unwrap().forget();
    client.end().await.unwrap();
    must(server).await.unwrap().unwrap();
}
