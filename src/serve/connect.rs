//! What an adapter is to the accept loop.

use std::future::Future;

use super::service::Application;
use crate::net::conn::Conn;

/// A connection that was accepted, and on which no request was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted<'a> {
    pub(crate) conn: &'a Conn,
    /// The session, where it speaks TLS.
    #[cfg(feature = "rustls")]
    #[cfg_attr(
        not(feature = "axum"),
        expect(dead_code, reason = "the others do not show it")
    )]
    pub(crate) tls: Option<&'a tokio_rustls::rustls::ServerConnection>,
}

/// Makes the service of each connection.
pub(crate) trait Connect: Send + 'static {
    type Service: Application + Send + 'static;

    /// Makes the service of a connection.
    fn connect(&mut self, accepted: Accepted<'_>) -> impl Future<Output = Self::Service> + Send;
}
