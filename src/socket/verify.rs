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
/// `lock` is the second descriptor, where the description says that one follows. All of them are
/// CLOEXEC; here sockets stop blocking.
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
    fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
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
    let found = Found::of(lock.as_fd()).map_err(unreadable)?;
    OwnedPath::inherited(path.clone(), Inode { device, inode }, lock)
        .map(Some)
        .map_err(|error| mismatch(format!("{found} ({error})")))
}

fn settle(descriptor: &OwnedFd, kind: Kind) -> io::Result<()> {
    match kind {
        // Whether it blocks belongs to the open file description, and so to all who share it.
        Kind::Descriptor => Ok(()),
        _ => SockRef::from(descriptor).set_nonblocking(true),
    }
}

fn unreadable(error: io::Error) -> Problem {
    Problem::io("look at the descriptor", error)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::path::Path;

    use nix::fcntl::OFlag;
    use socket2::{Domain, SockAddr, Type};

    use super::*;

    fn description(kind: Kind, address: Address) -> Description {
        Description {
            name: None,
            endpoint: format!("{}{address}", kind.prefix()),
            kind,
            address,
            index: 0,
            count: 1,
            lock: false,
            device: None,
            inode: None,
            activated: false,
        }
    }

    fn flags(socket: &Socket) -> (bool, bool) {
        let descriptor = fcntl(socket.as_fd(), FcntlArg::F_GETFD).unwrap();
        let status = fcntl(socket.as_fd(), FcntlArg::F_GETFL).unwrap();
        (
            FdFlag::from_bits_retain(descriptor).contains(FdFlag::FD_CLOEXEC),
            OFlag::from_bits_retain(status).contains(OFlag::O_NONBLOCK),
        )
    }

    /// A descriptor of every sort, with what the kernel says of it.
    fn zoo(directory: &Path) -> Vec<(OwnedFd, Kind, &'static str)> {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let deaf = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        deaf.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        let records = socket2::Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        records
            .bind(&SockAddr::unix(directory.join("seqpacket")).unwrap())
            .unwrap();
        records.listen(1).unwrap();
        let stream = UnixListener::bind(directory.join("stream")).unwrap();
        let datagram = UnixDatagram::bind(directory.join("datagram")).unwrap();
        let other = Kind::Descriptor;
        vec![
            (
                tcp.into(),
                Kind::Tcp,
                "a listening TCP socket on 127.0.0.1:",
            ),
            (
                TcpListener::bind("[::1]:0").unwrap().into(),
                Kind::Tcp,
                "a listening TCP socket on [::1]:",
            ),
            (
                UdpSocket::bind("127.0.0.1:0").unwrap().into(),
                Kind::Udp,
                "a UDP socket on 127.0.0.1:",
            ),
            (
                stream.into(),
                Kind::Unix,
                "a listening Unix stream socket on /",
            ),
            (
                records.into(),
                Kind::UnixSeqpacket,
                "a listening Unix seqpacket socket on /",
            ),
            (
                datagram.into(),
                Kind::UnixDatagram,
                "a Unix datagram socket on /",
            ),
            (connected.into(), other, "an IPv4 TCP socket on 127.0.0.1:"),
            (deaf.into(), other, "an IPv4 TCP socket on 127.0.0.1:"),
            (
                UnixStream::pair().unwrap().0.into(),
                other,
                "a Unix stream socket without an address that does not listen",
            ),
            (
                UnixDatagram::unbound().unwrap().into(),
                other,
                "a Unix datagram socket without an address",
            ),
            (File::open(directory).unwrap().into(), other, "a directory"),
            (
                tempfile::tempfile().unwrap().into(),
                other,
                "a regular file",
            ),
            (crate::sys::stdio::pipe().unwrap().0, other, "a pipe"),
            (
                File::open("/dev/null").unwrap().into(),
                other,
                "a character device",
            ),
        ]
    }

    #[test]
    fn nothing_is_believed_to_be_what_it_is_not() {
        let directory = tempfile::tempdir().unwrap();
        for (descriptor, kind, shown) in zoo(directory.path()) {
            let found = Found::of(descriptor.as_fd()).unwrap();
            assert_eq!(found.kind, kind, "{shown}");
            assert!(found.to_string().starts_with(shown), "{found}");
            for claimed in Kind::STREAMS.iter().chain(&[Kind::Udp, Kind::UnixDatagram]) {
                let copy = descriptor.try_clone().unwrap();
                let number = copy.as_raw_fd();
                let said = description(*claimed, found.address.clone());
                let result = verify(said, copy, None);
                if *claimed == kind {
                    let socket = result.unwrap().socket;
                    assert_eq!(socket.kind(), kind);
                    assert_eq!(flags(&socket), (true, true), "{shown}");
                } else {
                    let error = result.unwrap_err().to_string();
                    let both = format!("descriptor {number} is {found}, expected {claimed} on ");
                    assert!(error.contains(&both), "{error}");
                }
            }
        }
    }

    #[test]
    fn another_address_is_named_with_the_expected_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let actual = listener.local_addr().unwrap();
        let said = Description {
            name: Some("http".to_owned()),
            ..description(Kind::Tcp, Address::from("[::]:8080"))
        };
        let descriptor = OwnedFd::from(listener);
        let number = descriptor.as_raw_fd();
        assert_eq!(
            verify(said, descriptor, None).unwrap_err().to_string(),
            format!(
                "could not adopt endpoint `http=[::]:8080`: descriptor {number} is \
                 a listening TCP socket on {actual}, \
                 expected a listening TCP socket on [::]:8080"
            )
        );
    }

    #[test]
    fn other_descriptors_keep_their_flags() {
        let (reader, _writer) = crate::sys::stdio::pipe().unwrap();
        let said = description(Kind::Descriptor, Address::Unnamed);
        let inherited = verify(said, reader, None).unwrap();
        assert_eq!(flags(&inherited.socket), (true, false));
    }

    #[test]
    fn activation_is_recognised_by_what_it_is() {
        let directory = tempfile::tempdir().unwrap();
        for (descriptor, kind, shown) in zoo(directory.path()) {
            let inherited = identify(Some("app.socket".to_owned()), descriptor).unwrap();
            assert_eq!(inherited.socket.kind(), kind, "{shown}");
            assert!(inherited.socket.is_activated() && inherited.socket.path().is_none());
            assert_eq!(
                flags(&inherited.socket),
                (true, kind != Kind::Descriptor),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_path_comes_with_its_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let endpoint = super::super::endpoint::Endpoint::unix(&path);
        let bound = super::super::bind::bind(&endpoint, &[]).unwrap();
        let socket = bound.into_sockets().remove(0);
        let inode = socket.path().unwrap().inode();
        let said = Description {
            lock: true,
            device: Some(inode.device),
            inode: Some(inode.inode),
            ..description(Kind::Unix, Address::Path(path.clone()))
        };
        let copies = || {
            let mut copies = socket.descriptors();
            let mut next = || copies.next().unwrap().try_clone_to_owned().unwrap();
            (next(), next())
        };
        let (copy, lock) = copies();
        let adopted = verify(said.clone(), copy, Some(lock)).unwrap().socket;
        assert_eq!(adopted.descriptors().count(), 2);

        let refused = |said: &Description, lock: Option<OwnedFd>| {
            let error = verify(said.clone(), copies().0, lock).unwrap_err();
            error.to_string()
        };
        let lock_file = directory.path().join("app.sock.lock");
        let other = File::open(&lock_file).unwrap();
        assert!(refused(&said, Some(other.into())).contains("expected the lock of"));
        let folder = File::open(directory.path()).unwrap();
        assert!(refused(&said, Some(folder.into())).contains("is a directory"));
        assert!(refused(&said, None).contains("did not come"));
        let no_lock = Description {
            lock: false,
            ..said.clone()
        };
        assert!(refused(&no_lock, Some(copies().1)).contains("expected only the socket"));
        let no_inode = Description {
            inode: None,
            ..said.clone()
        };
        refused(&no_inode, Some(copies().1));

        drop(socket);
        adopted.remove_path().unwrap();
        assert!(!path.exists() && !lock_file.exists());
    }
}
