//! Fresh sockets.

use std::net::SocketAddr;

use super::endpoint::Endpoint;
use super::error::Error;
use super::socket::Socket;

/// What binding an endpoint gives.
#[derive(Debug)]
#[must_use = "the sockets close, and paths stay behind"]
pub(crate) struct Bound {
    pub(super) sockets: Vec<Socket>,
    /// What the caller should log.
    pub(super) warnings: Vec<String>,
}

/// Finds the addresses of an endpoint: those of its host name, its own, or none for a Unix path.
pub(crate) async fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Error> {
    todo!("{endpoint}")
}

/// Makes the sockets of an endpoint, on the addresses that it [resolved](resolve) to.
pub(crate) fn bind(endpoint: &Endpoint, addresses: &[SocketAddr]) -> Result<Bound, Error> {
    todo!("{endpoint} {addresses:?}")
}
