//! Floor 0: the kernel.
//!
//! Descriptors come in and go out as [`OwnedFd`](std::os::fd::OwnedFd) and
//! [`BorrowedFd`](std::os::fd::BorrowedFd); every `unsafe` block of the project is in this folder.
//! Nothing here knows names, policies or Tokio tasks.

pub(crate) mod alarm;
#[cfg(feature = "hyper")]
pub(crate) mod atomic_box;
pub(crate) mod channel;
pub(crate) mod fd;
pub(crate) mod inherited;
pub(crate) mod log;
pub(crate) mod parcel;
pub(crate) mod pidfd;
pub(crate) mod process;
pub(crate) mod receive;
pub(crate) mod room;
pub(crate) mod signals;
pub(crate) mod spawn;
pub(crate) mod split;
pub(crate) mod stdio;
pub(crate) mod tcp;
pub(crate) mod watch;
