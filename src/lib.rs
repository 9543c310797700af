//! Zero-downtime restarts for Tokio services.

mod socket;

pub use self::socket::{Endpoint, InvalidEndpoint};
