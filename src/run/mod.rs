//! Floor 5: one generation from its start to its end.

mod assisted;
mod batch;
mod drain;
mod early;
mod engine;
mod handover;
mod input;
mod integration;
mod old;
mod onwards;
mod peer;
mod prepared;
mod program;
mod shared;
mod standby;
mod start;

pub(crate) use input::Input;
#[cfg(feature = "control")]
pub(crate) use integration::Client;
pub(crate) use integration::{Integration, Integrations};
#[cfg(feature = "control")]
pub(crate) use old::Old;
pub use prepared::Prepared;
#[cfg(feature = "control")]
pub(crate) use program::Changes;
pub(crate) use program::Program;
pub(crate) use shared::Shared;
