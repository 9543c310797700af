//! Believing what is inherited.

use std::os::fd::OwnedFd;

use super::description::Description;
use super::error::Error;
use super::socket::Socket;

/// An inherited socket that is what it was said to be.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(super) description: Description,
    pub(super) socket: Socket,
}

/// Makes a socket of a descriptor from the predecessor, if the kernel agrees with what was said.
///
/// `lock` is the second descriptor, where the description says that one follows.
pub(crate) fn verify(
    description: Description,
    descriptor: OwnedFd,
    lock: Option<OwnedFd>,
) -> Result<Inherited, Error> {
    todo!("{description:?} {descriptor:?} {lock:?}")
}

/// Makes a socket of a descriptor from socket activation, which says no more than a name.
pub(crate) fn identify(name: Option<String>, descriptor: OwnedFd) -> Result<Inherited, Error> {
    todo!("{name:?} {descriptor:?}")
}
