//! Believing what is inherited.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use socket2::SockRef;

use super::address::Address;
use super::description::Description;
use super::error::{Error, Problem};
use super::found::Found;
use super::kind::Kind;
use super::path::{Inode, OwnedPath};
use super::socket::Socket;

/// An inherited socket that is what it was said to be.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(super) description: Description,
    pub(super) socket: Socket,
}

/// Makes a socket of a descriptor from the predecessor, if the kernel agrees with what was said.
///
/// `lock` is the second descriptor, where the description says that one follows. This is the one
/// place where inherited descriptors become CLOEXEC and sockets stop blocking.
///
/// # Errors
///
/// If type, family, protocol, address, or whether it listens is not as described; the error names
/// both.
pub(crate) fn verify(
    description: Description,
    descriptor: OwnedFd,
    lock: Option<OwnedFd>,
) -> Result<Inherited, Error> {
    let refuse = |problem| Error::adopt(description.key(), problem);
    let found = Found::of(descriptor.as_fd()).map_err(|error| refuse(unreadable(error)))?;
    // Of other descriptors nothing was said but that they are there.
    let as_described = description.kind == Kind::Descriptor
        || (found.kind == description.kind && found.address == description.address);
    if !as_described {
        return Err(refuse(Problem::Mismatch {
            descriptor: descriptor.as_raw_fd(),
            found: found.to_string(),
            expected: format!("{} on {}", description.kind, description.address),
        }));
    }
    let path = owned_path(&description, lock).map_err(refuse)?;
    settle(&descriptor, description.kind).map_err(|error| refuse(unreadable(error)))?;
    let socket = Socket::trusted(
        descriptor,
        description.kind,
        description.address.clone(),
        path,
        description.activated,
    );
    Ok(Inherited {
        description,
        socket,
    })
}

/// Makes a socket of a descriptor from socket activation, which says no more than a name.
///
/// What is no socket to listen on is held as another descriptor, for whoever takes it by its name.
///
/// # Errors
///
/// If the descriptor cannot be looked at, which is to say, if it is none.
pub(crate) fn identify(name: Option<String>, descriptor: OwnedFd) -> Result<Inherited, Error> {
    let inspect = || -> io::Result<Found> {
        let found = Found::of(descriptor.as_fd())?;
        settle(&descriptor, found.kind)?;
        Ok(found)
    };
    let found = inspect().map_err(|error| {
        let name = name.as_deref().unwrap_or("");
        Error::adopt(format_args!("systemd:{name}"), unreadable(error))
    })?;
    let address = match found.kind {
        Kind::Descriptor => Address::Unnamed,
        _ => found.address,
    };
    let socket = Socket::trusted(descriptor, found.kind, address.clone(), None, true);
    Ok(Inherited {
        description: Description {
            name,
            endpoint: format!("{}{address}", found.kind.prefix()),
            kind: found.kind,
            address,
            index: 0,
            count: 1,
            lock: false,
            device: None,
            inode: None,
            activated: true,
        },
        socket,
    })
}

/// Makes a [`Kind::Descriptor`] of what the service keeps for the next generation.
pub(super) fn lent(descriptor: OwnedFd) -> io::Result<Socket> {
    close_on_exec(&descriptor)?;
    let kind = Kind::Descriptor;
    Ok(Socket::trusted(
        descriptor,
        kind,
        Address::Unnamed,
        None,
        false,
    ))
}

fn owned_path(
    description: &Description,
    lock: Option<OwnedFd>,
) -> Result<Option<OwnedPath>, Problem> {
    let lock = match (description.lock, lock) {
        (false, None) => return Ok(None),
        (true, Some(lock)) => lock,
        (true, None) => {
            return Err(Problem::io(
                "adopt the lock of its path",
                io::Error::other("it did not come"),
            ));
        }
        (false, Some(lock)) => {
            return Err(Problem::Mismatch {
                descriptor: lock.as_raw_fd(),
                found: "a second one".to_owned(),
                expected: "only the socket".to_owned(),
            });
        }
    };
    let number = lock.as_raw_fd();
    let mismatch = |found: String| Problem::Mismatch {
        descriptor: number,
        found,
        expected: format!("the lock of {}", description.address),
    };
    let (Address::Path(path), Some(device), Some(inode)) =
        (&description.address, description.device, description.inode)
    else {
        return Err(mismatch("said to be a lock, of no path".to_owned()));
    };
    close_on_exec(&lock).map_err(unreadable)?;
    let found = Found::of(lock.as_fd()).map_err(unreadable)?;
    OwnedPath::inherited(path.clone(), Inode { device, inode }, lock)
        .map(Some)
        .map_err(|error| mismatch(format!("{found} ({error})")))
}

fn settle(descriptor: &OwnedFd, kind: Kind) -> io::Result<()> {
    close_on_exec(descriptor)?;
    match kind {
        // Whether it blocks belongs to the open file description, and so to all who share it.
        Kind::Descriptor => Ok(()),
        _ => SockRef::from(descriptor).set_nonblocking(true),
    }
}

fn close_on_exec(descriptor: &OwnedFd) -> io::Result<()> {
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(())
}

fn unreadable(error: io::Error) -> Problem {
    Problem::io("look at the descriptor", error)
}
