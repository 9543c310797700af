//! A load over real sockets that counts strictly.
//!
//! It is a measuring instrument and therefore simple: it writes bytes and compares what comes
//! back, with no client library between it and the socket where the protocol is one of text.
//!
//! A request has *failed* when its connection could not be made, or when a byte of it was sent and
//! no whole and correct answer came. A connection that is closed with no byte of a request on it,
//! or after an answer that announced it, is *closed*, and the client makes a new one; an idle
//! connection that is reset is a failure, for a reset is never orderly.

mod census;
mod counts;
mod fault;
mod goaway;
mod http;
mod http2;
mod kind;
mod line;
mod pace;
mod plan;
mod report;
mod request;
mod times;
mod websocket;
mod wire;
mod worker;

pub use counts::Counts;
pub use fault::{Cause, Failure, Fault};
pub use http::{Answer, ask};
pub use kind::Kind;
pub use plan::{Load, Plan};
pub use report::{Report, Seen};
pub use request::{Lines, Protocol, Request};
pub use times::Times;

pub(super) use wire::Wire;
pub(super) use worker::Random;

#[cfg(test)]
mod tests;
