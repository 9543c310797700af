//! Descriptors on the runtime.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the current runtime.
///
/// `T` has to own one descriptor for as long as it lives, as [`OwnedFd`](std::os::fd::OwnedFd), the
/// sockets of the standard library, and an `Arc` of something that holds them do.
///
/// # Panics
///
/// When it is called outside a runtime with I/O enabled.
pub(crate) fn watch<T: AsFd + AsRawFd>(
    descriptor: T,
    interest: Interest,
) -> io::Result<AsyncFd<T>> {
    try_watch(descriptor, interest).map_err(|(_, error)| error)
}

/// The same; gives the descriptor back where the kernel does not watch it.
///
/// # Panics
///
/// As [`watch`].
pub(crate) fn try_watch<T: AsFd + AsRawFd>(
    descriptor: T,
    interest: Interest,
) -> Result<AsyncFd<T>, (T, io::Error)> {
    // SAFETY: the descriptor stays open and the same while the value lives, by the contract above.
    // If that were false, epoll(7) would report on whatever has its number by then.
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
    registered.map_err(|error| error.into_parts())
}
