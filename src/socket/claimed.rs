//! What claiming an endpoint gives.

use std::sync::Arc;

use super::socket::Socket;

/// An endpoint that this generation has claimed.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// What an Offer of this generation calls it; for [`Store::release`](super::Store::release) and
    /// [`Store::offer_of`](super::Store::offer_of).
    pub(crate) key: Arc<str>,
    /// One, or several behind one listener.
    pub(crate) sockets: Vec<Arc<Socket>>,
    /// Was it inherited?
    pub(crate) adopted: bool,
    /// What the caller should log, such as options that the socket cannot take any more.
    pub(crate) warnings: Vec<String>,
}
