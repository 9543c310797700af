//! Floor 1: endpoints, and the sockets behind them.
//!
//! An [`Endpoint`] says what the service wants to listen on. A [`Socket`] is what it has; it comes
//! from nowhere but [`bind`](bind::bind) (a fresh one) or [`verify()`] (an inherited one that the kernel says is
//! what its [`Description`] claims). The [`Store`] holds the sockets of this generation and knows
//! which of them were claimed.
//!
//! This floor knows nothing of processes, of handovers or of time.

mod address;
mod bind;
mod claimed;
mod description;
mod endpoint;
mod endpoints;
mod entry;
mod error;
mod found;
mod index;
mod invalid;
mod kept;
mod keys;
mod kind;
mod live;
mod options;
mod overlap;
mod parse;
mod path;
mod settings;
#[expect(clippy::module_inception, reason = "a file is named after its type")]
mod socket;
mod store;
mod text;
mod verify;

pub use self::endpoint::Endpoint;
pub use self::invalid::InvalidEndpoint;

pub(crate) use self::claimed::Claimed;
pub(crate) use self::description::Description;
pub(crate) use self::error::Error;
pub(crate) use self::kept::{is_kept, restore};
#[cfg(feature = "systemd")]
pub(crate) use self::kept::{is_storable, names as kept_names};
pub(crate) use self::keys::KeyMap;
pub(crate) use self::kind::Kind;
pub(crate) use self::socket::{Io, Socket};
pub(crate) use self::store::{Mark, Store};
pub(crate) use self::verify::{identify, verify};
