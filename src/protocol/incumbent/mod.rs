//! The side that hands over.

mod action;
mod event;
mod machine;

pub(crate) use action::{Action, Deadline};
pub(crate) use event::{Event, Timer};
pub(crate) use machine::Incumbent;
