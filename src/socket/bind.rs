//! Fresh sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, Protocol, SockAddr, Type};

use super::address::Address;
use super::endpoint::{Endpoint, Target, check_path};
use super::error::{Error, Problem};
use super::found::address_of;
use super::kind::Kind;
use super::options::Options;
use super::path::{OwnedPath, PathLock, remove_stale};
use super::socket::Socket;

/// How many connections wait to be accepted, where the endpoint does not say.
///
/// The kernel lowers it to `net.core.somaxconn`, which has this value since Linux 5.4.
const BACKLOG: u32 = 4096;

/// How often another port is tried, when the one that the kernel picked for the first address of
/// a host name is taken on the second.
const PORTS: usize = 16;

/// What binding an endpoint gives.
///
/// Dropping it closes the sockets and removes the paths that were just made.
#[derive(Debug)]
#[must_use = "the sockets close when this is dropped"]
pub(crate) struct Bound {
    sockets: Vec<Socket>,
    /// What the caller should log.
    pub(super) warnings: Vec<String>,
}

impl Bound {
    pub(super) fn into_sockets(mut self) -> Vec<Socket> {
        std::mem::take(&mut self.sockets)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        for path in self.sockets.iter().filter_map(Socket::path) {
            // What is left behind is stale, and replaced by the next who binds it.
            path.remove().ok();
        }
    }
}

/// Finds the addresses of an endpoint: those of its host name, its own, or none if it has no IP
/// address.
///
/// # Cancel safety
///
/// Nothing is lost when the future is dropped.
pub(crate) async fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Error> {
    let (host, port) = match &endpoint.target {
        Target::Host(_, host, port) => (host, *port),
        Target::Address(_, Address::Inet(address)) => return Ok(vec![*address]),
        Target::Address(..) | Target::Activated => return Ok(Vec::new()),
    };
    let mut addresses = Vec::new();
    match tokio::net::lookup_host((host.as_str(), port)).await {
        Ok(found) => {
            for address in found {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            Ok(addresses)
        }
        Err(error) => Err(Error::bind(
            endpoint,
            Problem::io(format!("resolve `{host}`"), error),
        )),
    }
}

/// Makes the sockets of an endpoint, on the addresses that it [resolved](resolve) to.
///
/// They neither block nor survive an exec from the first moment on, and those of streams listen.
pub(crate) fn bind(endpoint: &Endpoint, addresses: &[SocketAddr]) -> Result<Bound, Error> {
    let refuse = |problem| Error::bind(endpoint, problem);
    endpoint.check().map_err(|error| refuse(error.into()))?;
    let options = &endpoint.options;
    match &endpoint.target {
        Target::Activated => Err(Problem::NotActivated),
        Target::Host(kind, ..) => every(*kind, addresses, options),
        Target::Address(kind, Address::Path(path)) => {
            unix_path(*kind, path, options).map(Bound::from)
        }
        Target::Address(kind, Address::Abstract(name)) => {
            unix_abstract(*kind, name, options).map(Bound::from)
        }
        Target::Address(kind, Address::Inet(address)) => {
            inet(*kind, *address, options.only_v6, options).map(Bound::from)
        }
        Target::Address(_, Address::Unnamed) => Err(Problem::NotActivated),
    }
    .map_err(refuse)
}

impl From<Socket> for Bound {
    fn from(socket: Socket) -> Self {
        Self {
            sockets: vec![socket],
            warnings: Vec::new(),
        }
    }
}

/// Binds all addresses of a host name, to one port.
fn every(kind: Kind, addresses: &[SocketAddr], options: &Options) -> Result<Bound, Problem> {
    let mut ports = PORTS;
    loop {
        ports -= 1;
        match on_one_port(kind, addresses, options) {
            Err(Problem::InUse { .. }) if ports > 0 && addresses.iter().all(|a| a.port() == 0) => {}
            result => return result,
        }
    }
}

fn on_one_port(kind: Kind, addresses: &[SocketAddr], options: &Options) -> Result<Bound, Problem> {
    let mut bound = Bound {
        sockets: Vec::with_capacity(addresses.len()),
        warnings: Vec::new(),
    };
    let mut unavailable = None;
    // A name can stand for both wildcards, and one socket cannot have what the other has.
    let only_v6 = (options.only_v6).or(addresses.iter().any(SocketAddr::is_ipv4).then_some(true));
    for &(mut address) in addresses {
        if address.port() == 0 {
            let first = bound
                .sockets
                .first()
                .and_then(|first| first.address().inet());
            address.set_port(first.map_or(0, |first| first.port()));
        }
        match inet(kind, address, only_v6, options) {
            Ok(socket) => bound.sockets.push(socket),
            // Many a system knows `localhost` as `::1` too, and has no IPv6.
            Err(Problem::Io { doing, source }) if is_unavailable(&source) => {
                bound.warnings.push(format!("{doing}: {source}, skipped"));
                unavailable = Some(Problem::Io { doing, source });
            }
            Err(problem) => return Err(problem),
        }
    }
    if bound.sockets.is_empty() {
        return Err(unavailable.unwrap_or_else(|| {
            Problem::io("resolve", io::Error::other("the name has no address"))
        }));
    }
    Ok(bound)
}

fn inet(
    kind: Kind,
    address: SocketAddr,
    only_v6: Option<bool>,
    options: &Options,
) -> Result<Socket, Problem> {
    let shown = format!("{}{address}", kind.prefix());
    let protocol = match kind {
        Kind::Udp => Protocol::UDP,
        _ => Protocol::TCP,
    };
    let socket = fresh(kind, Domain::for_address(address), Some(protocol))?;
    let set = || -> io::Result<()> {
        if kind == Kind::Tcp {
            // Connections of a previous run in TIME_WAIT must not stand in the way. For UDP the
            // same option would let two services share a port, and steal each other's datagrams.
            socket.set_reuse_address(true)?;
        }
        if options.reuse_port == Some(true) {
            socket.set_reuse_port(true)?;
        }
        if let (SocketAddr::V6(_), Some(only)) = (address, only_v6) {
            socket.set_only_v6(only)?;
        }
        Ok(())
    };
    set().map_err(|error| Problem::io(format!("set the options of {shown}"), error))?;
    configure(&socket, options)?;
    socket
        .bind(&address.into())
        .and_then(|()| listen(&socket, kind, options))
        .map_err(|error| refused(error, shown, ""))?;
    trusted(socket, kind, None)
}

fn unix_abstract(kind: Kind, name: &[u8], options: &Options) -> Result<Socket, Problem> {
    use std::os::unix::ffi::OsStrExt as _;

    let address = Address::Abstract(name.to_owned()).to_string();
    let with_nul = [b"\0", name].concat();
    let socket = fresh(kind, Domain::UNIX, None)?;
    configure(&socket, options)?;
    SockAddr::unix(std::ffi::OsStr::from_bytes(&with_nul))
        .and_then(|address| socket.bind(&address))
        .and_then(|()| listen(&socket, kind, options))
        .map_err(|error| refused(error, address, ": a live process has bound it"))?;
    trusted(socket, kind, None)
}

fn unix_path(kind: Kind, path: &Path, options: &Options) -> Result<Socket, Problem> {
    let path = std::path::absolute(path)
        .map_err(|error| Problem::io("find the working directory", error))?;
    check_path(&path).map_err(|error| error.in_text(path.display().to_string()))?;
    let lock = PathLock::acquire(&path)?;
    let socket = match remove_stale(&path).and_then(|()| bind_path(kind, &path, options)) {
        Ok(socket) => socket,
        Err(problem) => {
            // The problem is worth more than an empty file that is left.
            lock.remove().ok();
            return Err(problem);
        }
    };
    let owned = OwnedPath::bound(path, lock)
        .map_err(|error| Problem::io("look at the path that was bound", error))?;
    let finish = || -> io::Result<()> {
        owned.set_permissions(options)?;
        listen(&socket, kind, options)
    };
    if let Err(error) = finish() {
        // As above.
        owned.remove().ok();
        return Err(Problem::io(
            format!("set up {}", owned.path().display()),
            error,
        ));
    }
    trusted(socket, kind, Some(owned))
}

fn bind_path(kind: Kind, path: &Path, options: &Options) -> Result<socket2::Socket, Problem> {
    let shown = path.display().to_string();
    let socket = fresh(kind, Domain::UNIX, None)?;
    configure(&socket, options)?;
    if options.mode.is_some() {
        // The path gets the permissions of the socket's own inode, less the umask: with none at
        // all nobody can reach it until the real ones are set. (A datagram socket receives as
        // soon as it is bound.)
        fchmod(&socket, Mode::empty())
            .map_err(|error| Problem::io(format!("close {shown} to others"), error))?;
    }
    SockAddr::unix(path)
        .and_then(|address| socket.bind(&address))
        .map_err(|error| refused(error, shown, ": it was made at this moment"))?;
    Ok(socket)
}

/// A socket that does not block and is CLOEXEC.
fn fresh(
    kind: Kind,
    domain: Domain,
    protocol: Option<Protocol>,
) -> Result<socket2::Socket, Problem> {
    let r#type = match kind {
        Kind::Tcp | Kind::Unix => Type::STREAM,
        Kind::UnixSeqpacket => Type::SEQPACKET,
        Kind::Udp | Kind::UnixDatagram | Kind::Descriptor => Type::DGRAM,
    };
    socket2::Socket::new(domain, r#type.nonblocking(), protocol)
        .map_err(|error| Problem::io("make a socket", error))
}

fn configure(socket: &socket2::Socket, options: &Options) -> Result<(), Problem> {
    match &options.configure {
        Some(closure) => closure
            .apply(socket.as_fd())
            .map_err(|error| Problem::io("configure the socket", error)),
        None => Ok(()),
    }
}

fn listen(socket: &socket2::Socket, kind: Kind, options: &Options) -> io::Result<()> {
    if !kind.is_stream() {
        return Ok(());
    }
    socket.listen(backlog(options.backlog.unwrap_or(BACKLOG)))
}

/// The backlog as listen(2) wants it.
pub(super) fn backlog(connections: u32) -> i32 {
    i32::try_from(connections).unwrap_or(i32::MAX)
}

fn trusted(
    socket: socket2::Socket,
    kind: Kind,
    path: Option<OwnedPath>,
) -> Result<Socket, Problem> {
    let address = socket
        .local_addr()
        .map_err(|error| Problem::io("getsockname", error))?;
    Ok(Socket::trusted(
        socket.into(),
        kind,
        address_of(&address),
        path,
        false,
    ))
}

/// What it means that a bind failed; `why` is what is known if the address is in use.
fn refused(error: io::Error, address: String, why: &str) -> Problem {
    if error.kind() == io::ErrorKind::AddrInUse {
        Problem::InUse {
            address,
            why: why.to_owned(),
        }
    } else {
        Problem::io(format!("bind {address}"), error)
    }
}

fn is_unavailable(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}
