//! What the tests are made of: [`handover::testing`], with a fixture or an example to start.

use std::net::SocketAddr;

use tokio_rustls::rustls::crypto::ring;

pub use handover::testing::*;

/// TLS at `address`, with the provider that the tests use.
pub fn tls(address: SocketAddr) -> Target {
    // The second time there is one already.
    ring::default_provider().install_default().ok();
    Target::Tls(address)
}
