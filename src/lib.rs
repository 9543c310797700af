//! Zero-downtime restarts for Tokio services.
