//! Where those go on who are connected to this generation and are not counted.

use std::sync::Arc;

use super::integration::Client;
use super::peer::{Lent, Letter, Sender};
use crate::protocol::{ToSuccessor, encode};
use crate::sys::log;

/// The successor that serves, as the clients of an integration see it.
#[derive(Debug)]
pub(crate) struct Onwards {
    sender: Sender,
    /// The keys of the endpoints that it has claimed.
    claimed: Vec<String>,
}

impl Onwards {
    pub(crate) fn new(sender: Sender, claimed: Vec<String>) -> Self {
        Self { sender, claimed }
    }

    /// Has the successor go on with a client of an endpoint, and gives it back where that one has
    /// not claimed the endpoint. The end of a client that is lost on the way is told to it by its
    /// socket.
    #[allow(
        dead_code,
        reason = "only an integration has clients, which is a feature"
    )]
    pub(crate) fn pass(&self, endpoint: &str, client: Client) -> Option<Client> {
        if !self.claimed.iter().any(|key| key == endpoint) {
            return Some(client);
        }
        let Client { socket, state } = client;
        match encode(&ToSuccessor::Client { state }) {
            Ok(record) => self.sender.send(Letter {
                record,
                descriptors: vec![Lent::Other(Arc::new(socket))],
            }),
            Err(error) => log::debug!(%error, "a client is too much for the successor"),
        }
        None
    }
}
