//! The protocol between two generations: messages, versions, and one pure state machine for each
//! side.
//!
//! Floor 2. Events go in, actions come out; there is no I/O, no clock and no task here, so that
//! every interleaving of messages, deaths, timeouts and triggers can be enumerated (see `explore`).
//! The shell that feeds the machines and carries out their actions is on a higher floor.

mod codec;
#[cfg(test)]
mod explore;
mod failed;
mod failure;
pub(crate) mod incumbent;
mod message;
mod migration;
mod offer;
mod sockets;
pub(crate) mod successor;
#[cfg(test)]
mod table;
mod version;

pub(crate) use codec::{Garbage, MAX_RECORD, decode, encode};
pub(crate) use failed::Failed;
pub(crate) use failure::{Abort, Cause, Failure, Outcome, Refusal, Stage};
pub(crate) use incumbent::Incumbent;
pub(crate) use message::{ALL_OFFERED, Raw, ToIncumbent, ToSuccessor};
pub(crate) use migration::{Connection, Consent, Manner};
pub(crate) use offer::{Offer, Older, Role};
pub(crate) use sockets::Sockets;
pub(crate) use successor::Successor;
pub(crate) use version::{CONTROL, Capabilities, EVENTS, LANES, LATE_SOCKETS, MIGRATION, Versions};
