//! The side that takes over.

mod action;
mod event;
mod handover;
mod machine;
mod phase;
mod serving;

pub(crate) use action::{Action, NotServing};
pub(crate) use event::{Event, Timer};
pub(crate) use machine::Successor;
