//! Zero-downtime restarts for Tokio services.

mod protocol;
