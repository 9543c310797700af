//! Zero-downtime restarts for Tokio services.

mod builder;
mod context;
mod error;
mod lifecycle;
mod net;
mod protocol;
mod run;
mod runtime;
#[cfg(feature = "axum")]
mod serve;
mod socket;
#[allow(
    unsafe_code,
    reason = "the one floor that speaks to the kernel in its own words"
)]
mod sys;

pub use builder::Builder;
pub use context::{Context, Predecessor, Successor};
pub use error::Error;
#[cfg(feature = "macros")]
pub use handover_macros::main;
pub use lifecycle::hook::{BoxError, Lifecycle};
pub use lifecycle::phase::Phase;
pub use lifecycle::signal::Signal;
pub use lifecycle::token::Token;
pub use net::conn::Conn;
pub use net::datagram::{UdpSocket, UnixDatagram};
pub use net::listener::Listener;
pub use net::peer::Peer;
pub use run::Prepared;
pub use runtime::Flavor;
#[cfg(tokio_unstable)]
pub use runtime::UnhandledPanic;
pub use socket::{Endpoint, InvalidEndpoint};

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub use serve::axum;
