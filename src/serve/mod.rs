//! Floor 6: the servers that drain without loss, one for each third-party crate, on one connection driver.
//!
//! | file | job |
//! |---|---|
//! | `axum` | the adapter for axum: what the user calls, and the accept loop |
//! | `axum/ws`, `tungstenite` | WebSockets that say goodbye, in the manner of `goodbye` |
//! | `tower` | the drain in any stack of services |
//! | `server` | what the connections of one server share |
//! | `phase` | where the drain stands, as a connection sees it |
//! | `connection` | one connection, from its first byte to its last |
//! | `preface`, `http1`, `http2` | its stages |
//! | `io`, `linger`, `transport` | the bytes below |
//! | `service`, `body`, `activity` | the requests above, and the account of them |
//! | `head_timeout`, `executor` | limits and spawning |
//!
//! The driver knows nothing of axum: it serves any `hyper` service on anything that reads and writes.

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "tower")]
pub mod tower;
#[cfg(feature = "tungstenite")]
pub mod tungstenite;

#[cfg(feature = "axum")]
mod activity;
#[cfg(feature = "axum")]
mod body;
#[cfg(feature = "axum")]
mod connection;
#[cfg(feature = "axum")]
mod executor;
#[cfg(any(feature = "axum-ws", feature = "tungstenite"))]
mod goodbye;
#[cfg(feature = "axum")]
mod head_timeout;
#[cfg(feature = "axum")]
mod http1;
#[cfg(feature = "axum")]
mod http2;
#[cfg(feature = "axum")]
mod io;
#[cfg(feature = "axum")]
mod linger;
#[cfg(feature = "axum")]
mod phase;
#[cfg(feature = "axum")]
mod preface;
#[cfg(feature = "axum")]
mod server;
#[cfg(feature = "axum")]
mod service;
#[cfg(feature = "axum")]
mod transport;

#[cfg(all(test, feature = "axum"))]
mod tests;
