//! What the tests, the `demo` example and the benches share: real processes and real loads.
//!
//! - [`Program`] starts a service, [`Service`] follows all its generations and ends every one of
//!   them when it is dropped, [`Process`] is one of them, seen through its pidfd and `/proc`.
//! - [`Load`] asks a service over real sockets and counts strictly what came of each request.
//!
//! Nothing here sleeps for a guessed time. What is waited for is an event, with [`LIMIT`] as the
//! end of a test that is broken.

mod identity;
pub mod load;
mod process;
mod target;
mod tls;
mod wait;

pub use identity::Identity;
pub use load::Load;
pub use process::{
    Descriptor, Exit, Line, Memory, Output, Process, Program, Service, Source, Status, Terminal,
};
pub use target::Target;
pub use tls::believing;
pub use wait::{LIMIT, eventually, within};

pub use rustix::process::Signal;
