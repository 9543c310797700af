//! Floor 6: the servers that drain without loss, one for each third-party crate, on one connection driver.
//!
//! | file | job |
//! |---|---|
//! | `axum`, `hyper`, `tonic` | the adapters: what the user calls, and how a connection gets its service (`connect`) |
//! | `axum/ws`, `tungstenite` | WebSockets that say goodbye, in the manner of `goodbye` |
//! | `rustls` | TLS in front of a server; `accept` is what a server accepts from |
//! | `tower` | the drain in any stack of services |
//! | `builder`, `options`, `http1_options`, `http2_options` | the server as the user sets it up |
//! | `accepting`, `room` | the accept loop, and how many it lets in |
//! | `server` | what the connections of one server share |
//! | `phase` | where the drain stands, as a connection sees it |
//! | `connection` | one connection, from its first byte to its last |
//! | `preface`, `http1`, `http2` | its stages |
//! | `berth` | where it lies between two requests, and leaves without its task |
//! | `io`, `linger`, `patience`, `transport` | the bytes below |
//! | `service`, `body`, `activity` | the requests above, and the account of them |
//! | `farewell`, `health` | of gRPC alone: the last words of a call, and of the service |
//! | `head_timeout`, `executor` | limits and spawning |
//!
//! The driver knows nothing of axum or tonic: it serves any `hyper` service on anything that reads and writes.

#[cfg(feature = "axum")]
pub mod axum;
#[cfg(feature = "hyper")]
pub mod hyper;
#[cfg(feature = "rustls")]
pub mod rustls;
#[cfg(feature = "tonic")]
pub mod tonic;
#[cfg(feature = "tower")]
pub mod tower;
#[cfg(feature = "tungstenite")]
pub mod tungstenite;

#[cfg(feature = "hyper")]
pub(crate) mod accept;
#[cfg(feature = "hyper")]
pub(crate) mod builder;
#[cfg(feature = "hyper")]
pub(crate) mod http1_options;
#[cfg(feature = "hyper")]
pub(crate) mod http2_options;

#[cfg(feature = "hyper")]
mod accepting;
#[cfg(feature = "hyper")]
mod activity;
#[cfg(feature = "hyper")]
mod berth;
#[cfg(feature = "hyper")]
mod body;
#[cfg(feature = "hyper")]
mod connect;
#[cfg(feature = "hyper")]
mod connection;
#[cfg(feature = "hyper")]
mod executor;
#[cfg(feature = "tonic")]
mod farewell;
#[cfg(any(feature = "axum-ws", feature = "tungstenite"))]
mod goodbye;
#[cfg(feature = "hyper")]
mod head_timeout;
#[cfg(feature = "tonic-health")]
mod health;
#[cfg(feature = "hyper")]
mod http1;
#[cfg(feature = "hyper")]
mod http2;
#[cfg(feature = "hyper")]
mod io;
#[cfg(feature = "hyper")]
mod linger;
#[cfg(feature = "hyper")]
mod options;
#[cfg(feature = "hyper")]
mod patience;
#[cfg(feature = "hyper")]
mod phase;
#[cfg(feature = "hyper")]
mod preface;
#[cfg(feature = "hyper")]
mod room;
#[cfg(feature = "hyper")]
mod server;
#[cfg(feature = "hyper")]
mod service;
#[cfg(feature = "hyper")]
mod transport;
#[cfg(any(all(test, feature = "hyper"), feature = "rustls"))]
mod write_through;

#[cfg(test)]
#[cfg(feature = "axum")]
mod tests;
