//! A WebSocket as a client speaks it (RFC 6455): every ping has to come back, whatever the application says.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::time;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::fault::{Cause, Fault};
use super::http::Turn;
use super::request::Request;
use crate::testing::target::Socket;

/// A client's end of a connection.
#[derive(Debug)]
pub(super) struct WebSocket {
    socket: WebSocketStream<Socket>,
    /// Makes each ping another one, so that an answer cannot be taken for that to another.
    next: u64,
}

impl WebSocket {
    pub(super) async fn connect(
        socket: Socket,
        request: &Request,
        limit: Duration,
    ) -> Result<Self, Fault> {
        let head = format!("ws://{}{}", request.host, request.path).into_client_request();
        let head = head.map_err(|error| Fault::new(Cause::BadAnswer, error.to_string()))?;
        match time::timeout(limit, client_async(head, socket)).await {
            Ok(Ok((socket, _))) => Ok(Self { socket, next: 0 }),
            Ok(Err(Error::Http(response))) => Err(Fault::new(
                Cause::BadAnswer,
                format!("{} instead of a WebSocket", response.status()),
            )
            .after(1)),
            Ok(Err(error)) => Err(fault(&error).after(1)),
            Err(_) => Err(Fault::new(
                Cause::Timeout,
                format!("no WebSocket in {limit:?}"),
            )),
        }
    }

    /// Resolves when the service ends the connection; without a fault if it says goodbye.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(super) async fn disturbed(&mut self) -> Option<Fault> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Close(_))) => {
                    self.leave().await;
                    return None;
                }
                // What the application has to say is not what is looked at.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Some(fault(&error)),
                None => return Some(cut()),
            }
        }
    }

    /// Sends a ping and waits for its pong.
    pub(super) async fn ask(&mut self, last: bool, limit: Duration) -> Result<Turn, Fault> {
        self.next += 1;
        let payload = format!("handover {}", self.next);
        let exchange = async {
            self.socket
                .send(Message::Ping(payload.clone().into()))
                .await
                .map_err(|error| fault(&error))?;
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Pong(pong))) if pong == payload.as_bytes() => {
                        return Ok(Turn::of_one(false));
                    }
                    Some(Ok(Message::Close(_))) => {
                        // Its goodbye has crossed the ping, which nobody has to answer any more.
                        self.leave().await;
                        return Ok(Turn {
                            closes: true,
                            ..Turn::default()
                        });
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(fault(&error)),
                    None => return Err(cut()),
                }
            }
        };
        let turn = match time::timeout(limit, exchange).await {
            Ok(turn) => turn.map_err(|fault| fault.after(1))?,
            Err(_) => {
                return Err(Fault::new(Cause::Timeout, format!("no pong in {limit:?}")).after(1));
            }
        };
        if last && !turn.closes {
            // One that leaves says so; whether it is heard is the service's affair.
            self.socket.close(None).await.ok();
        }
        Ok(turn)
    }

    /// Returns the goodbye. The service may have gone by then.
    async fn leave(&mut self) {
        time::timeout(GOODBYE, self.socket.flush()).await.ok();
    }
}

fn fault(error: &Error) -> Fault {
    match error {
        Error::Io(error) => Fault::reading(error).after(1),
        Error::ConnectionClosed | Error::AlreadyClosed => cut(),
        Error::Protocol(_) => Fault::new(Cause::Cut, error.to_string()).after(1),
        error => Fault::new(Cause::BadAnswer, error.to_string()).after(1),
    }
}

/// A WebSocket that ends without a close frame has lost what was said on it, also while it was silent.
fn cut() -> Fault {
    Fault::new(Cause::Cut, "ended without a close frame").after(1)
}

const GOODBYE: Duration = Duration::from_secs(1);
