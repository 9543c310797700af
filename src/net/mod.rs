//! Floor 4: listeners and the connections that come out of them.
//!
//! It knows gates and counts, not who serves and not which server reads from a connection.

pub(crate) mod backoff;
pub(crate) mod conn;
pub(crate) mod datagram;
pub(crate) mod departure;
pub(crate) mod door;
pub(crate) mod gate;
pub(crate) mod lane;
pub(crate) mod listener;
pub(crate) mod manners;
pub(crate) mod peer;
pub(crate) mod stream;
mod tcp;
