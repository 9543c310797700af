//! Floor 6: the service as a unit of systemd.
//!
//! The process that systemd knows as the main one speaks, so that the default `NotifyAccess=main` is
//! enough: the incumbent until its successor serves for good, and from there the successor alone.

mod builder;
mod environment;
mod keeping;
mod notify;
mod speaker;
mod status;
mod unit;
