//! Floor 6: the servers that drain without loss, one for each third-party crate, on one connection driver.
//!
//! | file | job |
//! |---|---|
//! | `axum` | the adapter for axum: what the user calls, and the accept loop |
//! | `server` | what the connections of one server share |
//! | `phase` | where the drain stands, as a connection sees it |
//! | `connection` | one connection, from its first byte to its last |
//! | `preface`, `http1`, `http2` | its stages |
//! | `io`, `linger`, `transport` | the bytes below |
//! | `service`, `body`, `activity` | the requests above, and the account of them |
//! | `head_timeout`, `executor` | limits and spawning |
//!
//! The driver knows nothing of axum: it serves any `hyper` service on anything that reads and writes.

pub mod axum;

mod activity;
mod body;
mod connection;
mod executor;
mod head_timeout;
mod http1;
mod http2;
mod io;
mod linger;
mod phase;
mod preface;
mod server;
mod service;
mod transport;

#[cfg(test)]
mod tests;
