//! Floor 5: one generation from its start to its end.

mod batch;
mod drain;
mod engine;
mod handover;
mod input;
mod integration;
mod old;
mod peer;
mod prepared;
mod program;
mod shared;
mod start;

pub(crate) use input::Input;
pub(crate) use integration::{Integration, Integrations};
pub use prepared::Prepared;
pub(crate) use program::Program;
pub(crate) use shared::Shared;
