//! The control socket: an operator asks what runs, commands a handover, and learns why it failed.
//!
//! Floor 6. It sees a generation from outside, as other integrations do: it watches the record, and
//! tells the lifecycle task what is asked for. The protocol is described in
//! `docs/control-protocol.md`; the program `handover` speaks it.
//!
//! | file | job |
//! |---|---|
//! | `options` | what can be chosen, and the way into the builder |
//! | `host` | the socket, from the start of a generation to its end |
//! | `clients` | how many there may be, and who gives way |
//! | `connection` | one client: lines in, lines out, and its move to the successor |
//! | `lines` | lines from a stream that may send anything |
//! | `request` | what can be asked; pure |
//! | `answer` | what is said; pure |
//! | `wait` | requests whose answer takes its time |
//! | `status` | what runs |
//! | `fuzz` | a conversation for tests and for a fuzzer |
//! | `timeline` | where the time of a handover went; pure |
//! | `older` | asks the generations that drain |

mod answer;
mod clients;
mod connection;
#[cfg(any(test, fuzzing))]
mod fuzz;
mod host;
mod lines;
mod older;
mod options;
mod request;
mod status;
#[cfg(test)]
mod tests;
mod timeline;
mod wait;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use fuzz::converse;
pub use options::Control;
