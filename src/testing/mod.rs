//! Floor 6: services started as processes, loaded over real sockets, handed over and broken on purpose.
//!
//! For the tests of a service that uses this library, or of any other that can be restarted under load; the
//! tests of the library itself and the command `handover verify` are made of the same parts.
//!
//! - [`Program`] starts a service, [`Service`] follows all its generations and ends every one of
//!   them when it is dropped, [`Process`] is one of them, seen through its pidfd and `/proc`.
//! - [`Load`] asks a service over real sockets and counts strictly what came of each request.
//! - [`verify::Verify`] does all of it with any program, and tells what it loses.
//!
//! Nothing here waits for a guessed time. What is waited for is an event, with [`LIMIT`] as the
//! end of a test that is broken.
//!
//! # Examples
//!
//! A service that answers `GET /` with `pid=<pid> generation=<n>` loses nothing by a handover:
//!
//! ```no_run
//! use handover::testing::load::Kind;
//! use handover::testing::{Load, Program, Signal};
//!
//! # async fn test() -> std::io::Result<()> {
//! let service = Program::new("target/debug/my-server").arg("127.0.0.1:0").start()?;
//! let target = service.listening(1).await.swap_remove(0);
//! let load = Load::on(target.clone()).clients(Kind::New, 4).clients(Kind::KeepAlive, 4).start();
//! load.progress(100).await;
//!
//! service.first().signal(Signal::HUP)?;
//! service.generation(&target, 2).await;
//! load.progress(100).await;
//!
//! load.stop().await.assert_nothing_lost();
//! # Ok(())
//! # }
//! ```

mod identity;
pub mod load;
mod process;
mod target;
#[cfg(feature = "rustls")]
mod tls;
pub mod verify;
mod wait;

pub use identity::Identity;
pub use load::Load;
pub use process::{
    Descriptor, Exit, Line, Memory, Output, Process, Program, Service, Source, Status, Terminal,
};
pub use target::Target;
#[cfg(feature = "rustls")]
#[cfg_attr(docsrs, doc(cfg(feature = "rustls")))]
pub use tls::believing;
pub use wait::{LIMIT, eventually, within};

pub use rustix::process::Signal;
