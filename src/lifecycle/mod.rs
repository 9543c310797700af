//! Floor 3: the life of a generation.
//!
//! Phases, tokens, the count of what is open, hooks, triggers, the pid file, and the channel to
//! the neighbouring generations. The only floor with a policy on time; it knows no server.

pub(crate) mod component;
pub(crate) mod counts;
pub(crate) mod event;
pub(crate) mod forward;
pub(crate) mod hook;
pub(crate) mod ledger;
pub(crate) mod link;
pub(crate) mod own;
pub(crate) mod phase;
pub(crate) mod pid_file;
pub(crate) mod record;
pub(crate) mod signal;
pub(crate) mod task;
pub(crate) mod token;
pub(crate) mod tokens;
pub(crate) mod tracker;
pub(crate) mod until_draining;
