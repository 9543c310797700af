//! Many streams on each of a few HTTP/2 connections, by the `h2` crate: the client below hyper's, which tells a request
//! that it has not sent from a stream that broke off.

use std::error::Error;
use std::net::SocketAddr;

use futures::future::join_all;
use h2::client::{self, SendRequest};
use handover_tests::Identity;
use hyper::Request;
use hyper::body::Bytes;
use tokio::net::TcpStream;

use crate::goaway::{LastStream, Watched};
use crate::tally::{Share, Tally};

/// Lets `connections` clients ask on `streams` streams each, without a pause.
pub(crate) fn http2_load(address: SocketAddr, connections: usize, streams: usize) -> Tally {
    let mut tally = Tally::new();
    for _ in 0..connections {
        tally.add(async move |share: Share| {
            while !share.is_over() {
                if let Err(error) = converse(address, streams, &share).await {
                    share.failed(format_args!("a connection failed: {error}"));
                }
            }
        });
    }
    tally
}

/// Asks on one connection until it is left, or all is over.
async fn converse(
    address: SocketAddr,
    streams: usize,
    share: &Share,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (io, last) = Watched::new(TcpStream::connect(address).await?);
    let (sender, connection) = client::handshake(io).await?;
    let connection = tokio::spawn(connection);
    let streams = (0..streams).map(|_| stream(address, sender.clone(), &last, share));
    join_all(streams).await;
    drop(sender);
    // A GOAWAY without an error ends it without one.
    connection.await??;
    if !share.is_over() {
        share.left();
    }
    Ok(())
}

async fn stream(address: SocketAddr, sender: SendRequest<Bytes>, last: &LastStream, share: &Share) {
    let mut sender = Some(sender);
    while let Some(ready) = sender.take().filter(|_| !share.is_over()) {
        let request = Request::get(format!("http://{address}/")).body(());
        let request = request.expect("a request");
        let sent = match ready.ready().await {
            Ok(mut ready) => ready
                .send_request(request, true)
                .map(|(response, _)| (ready, response)),
            Err(error) => Err(error),
        };
        let response = match sent {
            Ok((ready, response)) => {
                sender = Some(ready);
                response
            }
            // It was told to go, and sends no more here.
            Err(error) if error.is_go_away() && error.is_remote() => return share.unsent(),
            Err(error) => return share.failed(format_args!("nothing could be sent: {error}")),
        };
        let id = response.stream_id().as_u32();
        match identity(response).await {
            Ok(identity) => share.answered(identity),
            // It was queued behind the answer to the server's ping.
            Err(_) if last.is_before(id) => return share.unsent(),
            Err(error) => share.failed(format_args!("a stream failed: {error}")),
        }
    }
}

/// Reads who has answered.
async fn identity(
    response: client::ResponseFuture,
) -> Result<Identity, Box<dyn Error + Send + Sync>> {
    let response = response.await?;
    let status = response.status();
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        text.extend_from_slice(&data);
    }
    let text = String::from_utf8(text)?;
    Identity::parse(&text)
        .filter(|_| status.is_success())
        .ok_or_else(|| format!("{status}: {text}").into())
}
