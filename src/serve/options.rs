//! All that a user sets for a server.

use std::time::Duration;

use super::{http1_options::Http1Options, http2_options::Http2Options};

/// The options of one server.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) http1: Http1Options,
    pub(crate) http2: Http2Options,
    /// The longest that a request head or an HTTP/2 preface may take from its first byte.
    pub(crate) header_timeout: Duration,
    /// The most connections at a time.
    pub(crate) max_connections: Option<usize>,
    /// From the start of the drain to the last look, if that is before the deadline's.
    pub(crate) drain_idle_timeout: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            http1: Http1Options::default(),
            http2: Http2Options::default(),
            header_timeout: Duration::from_secs(30),
            max_connections: None,
            drain_idle_timeout: None,
        }
    }
}
