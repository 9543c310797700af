//! HTTP/2 as a client speaks it, by the `h2` crate: it tells a request that was not sent from one that broke off
//! (RFC 9113).

use std::time::Duration;

use futures::future::join_all;
use h2::Reason;
use h2::client::{self, ResponseFuture, SendRequest};
use http::Request as Head;
use tokio::task::JoinHandle;
use tokio::time;
use tokio_util::bytes::Bytes;

use super::fault::{Cause, Fault};
use super::goaway::{LastStream, Watched};
use super::http::{Answer, Turn};
use super::request::Request;
use crate::testing::identity::Identity;
use crate::testing::target::Socket;

/// A client's end of a connection.
#[derive(Debug)]
pub(super) struct Http2 {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
    last: LastStream,
    request: Request,
    streams: usize,
}

impl Http2 {
    pub(super) async fn connect(
        socket: Socket,
        request: &Request,
        streams: usize,
    ) -> Result<Self, Fault> {
        let (io, last) = Watched::new(socket);
        let (sender, connection) = client::handshake(io)
            .await
            .map_err(|error| Fault::new(Cause::Refused, format!("no HTTP/2: {error}")))?;
        Ok(Self {
            sender,
            connection: tokio::spawn(connection),
            last,
            request: request.clone(),
            streams,
        })
    }

    /// Resolves when the service ends a connection on which nothing is asked; without a fault if it said so.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(super) async fn disturbed(&mut self) -> Option<Fault> {
        let ended = (&mut self.connection).await;
        if self.last.is_told() {
            return None;
        }
        match ended {
            Ok(Ok(())) => Some(Fault::new(Cause::Eof, "closed while idle")),
            Ok(Err(error)) => Some(fault(&error, "while idle")),
            Err(_) => Some(Fault::new(
                Cause::BadAnswer,
                "the HTTP/2 client has panicked",
            )),
        }
    }

    /// Makes a request on each stream, at once, and waits for all the answers.
    pub(super) async fn ask(&mut self, limit: Duration) -> Result<Turn, Fault> {
        let streams = (0..self.streams).map(|_| {
            let stream = stream(&self.request, self.sender.clone(), &self.last);
            async move {
                time::timeout(limit, stream).await.unwrap_or_else(|_| {
                    let detail = format!("no whole answer in {limit:?}");
                    Stream::Failed(Fault::new(Cause::Timeout, detail).after(1))
                })
            }
        });
        let mut turn = Turn::default();
        for stream in join_all(streams).await {
            match stream {
                Stream::Answered(answer) => {
                    turn.answered += 1;
                    turn.answer = Some(answer);
                }
                Stream::Unsent => {}
                Stream::Refused => turn.refused += 1,
                Stream::Failed(fault) => turn.faults.push(fault),
            }
        }
        turn.closes = self.last.is_told();
        if !turn.closes && turn.answered == 0 && turn.faults.is_empty() && turn.refused == 0 {
            // Nothing could be sent, and nobody has said why: the connection has ended.
            return Err(self
                .disturbed()
                .await
                .unwrap_or_else(|| Fault::new(Cause::Eof, "closed while idle")));
        }
        Ok(turn)
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// What became of one stream.
enum Stream {
    Answered(Answer),
    /// It was told to go before it was opened.
    Unsent,
    /// The server says that it was not processed and may be sent anew.
    Refused,
    Failed(Fault),
}

async fn stream(request: &Request, sender: SendRequest<Bytes>, last: &LastStream) -> Stream {
    let head = Head::builder()
        .method(request.method)
        .uri(format!(
            "{}://{}{}",
            request.scheme, request.host, request.path
        ))
        .body(());
    let head = match head {
        Ok(head) => head,
        Err(error) => return Stream::Failed(Fault::new(Cause::BadAnswer, error.to_string())),
    };
    let Ok(mut ready) = sender.ready().await else {
        // The connection has ended, or is about to: nothing was sent.
        return Stream::Unsent;
    };
    let whole = request.body.is_empty();
    let Ok((response, mut body)) = ready.send_request(head, whole) else {
        return Stream::Unsent;
    };
    if !whole && body.send_data(request.body.clone().into(), true).is_err() {
        // What it means is for the reader to see.
    }
    let id = response.stream_id().as_u32();
    match read(response).await {
        Ok(answer) => match request.objection(&answer) {
            None => Stream::Answered(answer),
            Some(objection) => Stream::Failed(Fault::new(Cause::BadAnswer, objection).after(1)),
        },
        Err(error) if error.reason() == Some(Reason::REFUSED_STREAM) && error.is_remote() => {
            Stream::Refused
        }
        // It was queued behind the answer to the server's ping.
        Err(_) if last.is_before(id) => Stream::Refused,
        Err(error) => Stream::Failed(fault(&error, "on a stream").after(1)),
    }
}

async fn read(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let response = response.await?;
    let status = response.status().as_u16();
    let mut stream = response.into_body();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    Ok(Answer {
        status,
        identity: std::str::from_utf8(&body).ok().and_then(Identity::parse),
        body,
        closes: false,
    })
}

fn fault(error: &h2::Error, place: &str) -> Fault {
    let cause = match error.get_io() {
        Some(io) if io.kind() == std::io::ErrorKind::ConnectionReset => Cause::Reset,
        _ if error.is_reset() => Cause::Reset,
        _ => Cause::Eof,
    };
    Fault::new(cause, format!("{error}, {place}"))
}
