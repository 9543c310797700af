//! Floor 6: the servers that drain without loss, one for each third-party crate, on one connection driver.
//!
//! | file | job |
//! |---|---|
//! | `axum`, `hyper`, `tonic` | the adapters: what the user calls, and how a connection gets its service (`connect`) |
//! | `builder`, `options`, `http1_options`, `http2_options` | the server as the user sets it up |
//! | `accepting`, `room` | the accept loop, and how many it lets in |
//! | `server` | what the connections of one server share |
//! | `phase` | where the drain stands, as a connection sees it |
//! | `connection` | one connection, from its first byte to its last |
//! | `preface`, `http1`, `http2` | its stages |
//! | `io`, `linger`, `transport` | the bytes below |
//! | `service`, `body`, `activity` | the requests above, and the account of them |
//! | `farewell`, `health` | of gRPC alone: the last words of a call, and of the service |
//! | `head_timeout`, `executor` | limits and spawning |
//!
//! The driver knows nothing of axum or tonic: it serves any `hyper` service on anything that reads and writes.

#[cfg(feature = "axum")]
pub mod axum;

pub mod hyper;
#[cfg(feature = "tonic")]
pub mod tonic;

pub(crate) mod builder;
pub(crate) mod http1_options;
pub(crate) mod http2_options;

mod accepting;
mod activity;
mod body;
mod connect;
mod connection;
mod executor;
#[cfg(feature = "tonic")]
mod farewell;
mod head_timeout;
#[cfg(feature = "tonic-health")]
mod health;
mod http1;
mod http2;
mod io;
mod linger;
mod options;
mod phase;
mod preface;
mod room;
mod server;
mod service;
mod transport;

#[cfg(test)]
#[cfg(feature = "axum")]
mod tests;
