//! Proves what a service loses when it is restarted: nothing, or what.
//!
//! [`Verify`] starts any program that can be restarted under load, finds out where it listens and what it speaks
//! there, loads it, triggers its restart again and again, and tells what came of every request, connection and
//! process. It takes the kernel's word for which process has a connection, so that the program needs no help.
//!
//! | file | job |
//! |---|---|
//! | `plan` | what is to be done: [`Verify`] |
//! | `place`, `survey` | where the service listens, and what it speaks there |
//! | `trigger`, `kill` | how it is restarted, and what is done to it meanwhile |
//! | `session` | a service that is being verified, step by step: [`Session`] |
//! | `outcome` | what was seen: [`Outcome`] |

mod kill;
mod outcome;
mod place;
mod plan;
mod session;
mod survey;
mod trigger;

pub use kill::{Kill, Moment, Victim};
pub use outcome::{Ending, Handover, Outcome, Row};
pub use place::{InvalidPlace, Place};
pub use plan::{Event, Unverified, Usage, Verify};
pub use session::Session;
pub use survey::Ground;
pub use trigger::{InvalidTrigger, Trigger};

pub use super::process::Weight;
