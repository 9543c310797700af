//! A connection of a client, whatever is spoken on it.

use std::time::Duration;

use super::fault::Fault;
use super::http::{Http, Turn};
use super::http2::Http2;
use super::line::Lines;
use super::request::{Protocol, Request};
use super::websocket::WebSocket;
use crate::testing::identity::Identity;
use crate::testing::target::{Ends, Target};

#[derive(Debug)]
pub(in crate::testing) struct Wire {
    spoken: Spoken,
    ends: Option<Ends>,
}

#[derive(Debug)]
enum Spoken {
    Http(Http, Request),
    Http2(Http2),
    WebSocket(Box<WebSocket>),
    Lines(Lines),
}

impl Wire {
    /// Connects, and waits for the greeting where the protocol has one.
    pub(in crate::testing) async fn connect(
        target: &Target,
        protocol: &Protocol,
        limit: Duration,
    ) -> Result<Self, Fault> {
        let socket = target
            .connect_speaking(protocol.alpn())
            .await
            .map_err(|error| Fault::connecting(&error))?;
        let ends = socket.ends();
        let spoken = match protocol {
            Protocol::Http(request) => Spoken::Http(Http::new(socket), request.clone()),
            Protocol::Http2(request, streams) => {
                Spoken::Http2(Http2::connect(socket, request, *streams).await?)
            }
            Protocol::WebSocket(request) => {
                let socket = WebSocket::connect(socket, request, limit).await?;
                Spoken::WebSocket(Box::new(socket))
            }
            Protocol::Lines(manner) => Spoken::Lines(Lines::connect(socket, manner, limit).await?),
        };
        Ok(Self { spoken, ends })
    }

    /// By what the kernel knows it.
    pub(in crate::testing) fn ends(&self) -> Option<&Ends> {
        self.ends.as_ref()
    }

    /// Who has greeted, where the protocol has a greeting.
    pub(super) fn greeting(&self) -> Option<Identity> {
        match &self.spoken {
            Spoken::Lines(lines) => lines.identity(),
            _ => None,
        }
    }

    /// Resolves when the service does anything on a connection on which nothing is asked; without
    /// a fault if it announces that it is about to close.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(super) async fn disturbed(&mut self) -> Option<Fault> {
        match &mut self.spoken {
            Spoken::Http(http, _) => Some(http.disturbed().await),
            Spoken::Http2(http) => http.disturbed().await,
            Spoken::WebSocket(socket) => socket.disturbed().await,
            Spoken::Lines(lines) => lines.disturbed().await,
        }
    }

    /// Makes a request; `last` tells the service that there will be no other.
    pub(in crate::testing) async fn ask(
        &mut self,
        last: bool,
        limit: Duration,
    ) -> Result<Turn, Fault> {
        match &mut self.spoken {
            Spoken::Http(http, request) => http.ask(request, last, limit).await.map(Turn::from),
            Spoken::Http2(http) => http.ask(limit).await,
            Spoken::WebSocket(socket) => socket.ask(last, limit).await,
            Spoken::Lines(lines) => lines.ask(limit).await,
        }
    }
}

impl Protocol {
    /// How many requests are made at once.
    pub(super) fn streams(&self) -> usize {
        match self {
            Self::Http2(_, streams) => *streams,
            _ => 1,
        }
    }

    /// What it is called in a TLS handshake (RFC 7301).
    fn alpn(&self) -> &'static [u8] {
        match self {
            Self::Http2(..) => b"h2",
            Self::Http(_) | Self::WebSocket(_) => b"http/1.1",
            Self::Lines(_) => b"",
        }
    }
}
