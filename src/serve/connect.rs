//! What an adapter is to the accept loop.

use std::future::Future;

use super::service::Application;
use crate::net::conn::Conn;

/// Makes the service of each connection.
pub(crate) trait Connect: Send + 'static {
    type Service: Application + Send + 'static;

    /// Makes the service of `conn`, which was accepted and on which nothing was read.
    fn connect(&mut self, conn: &Conn) -> impl Future<Output = Self::Service> + Send;
}
