//! A generation for servers with an accept loop.

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpStream, sync::Notify};

use super::Client;
use crate::{
    lifecycle::{tokens::Tokens, tracker::Tracker},
    net::{
        door::Door,
        gate::{Gate, State},
        lane::Lane,
        listener::Listener,
    },
    socket::{Endpoint, Kind, Store},
};

/// A generation, as far as a server sees it.
pub(super) struct Generation {
    pub(super) gate: Arc<Gate>,
    pub(super) tracker: Arc<Tracker>,
    pub(super) tokens: Tokens,
}

impl Generation {
    pub(super) async fn new(endpoint: &Endpoint) -> (Self, Listener) {
        let generation = Self {
            gate: Arc::new(Gate::new(State::Open)),
            tracker: Arc::new(Tracker::new(Arc::new(Notify::new()))),
            tokens: Tokens::new(),
        };
        let sockets = Store::new().open(endpoint, Kind::STREAMS).await.unwrap();
        let listener = Listener::new(
            endpoint.clone(),
            sockets.sockets,
            Door::new(
                "http".into(),
                Lane::new(Arc::clone(&generation.tracker), |_| {}),
                Arc::clone(&generation.gate),
            ),
            generation.tokens.clone(),
        );
        (generation, listener.unwrap())
    }

    pub(super) async fn on_tcp() -> (Self, Listener, SocketAddr) {
        let (generation, listener) = Self::new(&"127.0.0.1:0".parse().unwrap()).await;
        let address = listener.local_addr().unwrap();
        (generation, listener, address)
    }

    pub(super) fn drain(&self) {
        self.gate.set(State::Ended);
        self.tokens.draining.cancel();
    }

    pub(super) fn abort(&self) {
        self.tokens.aborting.cancel();
        self.tracker.abort();
    }
}

pub(super) async fn connect(address: SocketAddr) -> Client<TcpStream> {
    Client::new(TcpStream::connect(address).await.unwrap())
}
