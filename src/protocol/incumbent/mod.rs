//! The side that hands over.

mod action;
mod ending;
mod event;
mod handover;
mod machine;
mod phase;

pub(crate) use action::{Action, Deadline};
pub(crate) use event::{Event, Timer};
pub(crate) use machine::Incumbent;
