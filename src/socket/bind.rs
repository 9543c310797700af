//! Fresh sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, Protocol, SockAddr, SockRef, Type};

use super::address::Address;
use super::endpoint::{Endpoint, Target, check_path};
use super::error::{Error, Problem};
use super::found::address_of;
use super::kind::Kind;
use super::options::Options;
use super::path::{OwnedPath, PathLock, remove_stale};
use super::settings::bequeath;
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
            bequeath(SockRef::from(&socket), options)?;
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
    check_path(&path).map_err(|error| error.in_text(&path.display().to_string()))?;
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

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::time::Duration;

    use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    fn bind_one(endpoint: &Endpoint) -> Result<Socket, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        let addresses = runtime.block_on(resolve(endpoint))?;
        let mut sockets = bind(endpoint, &addresses)?.into_sockets();
        assert_eq!(sockets.len(), 1);
        Ok(sockets.remove(0))
    }

    fn assert_well_made(socket: &Socket) {
        let flags = fcntl(socket.as_fd(), FcntlArg::F_GETFD).unwrap();
        assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
        let flags = fcntl(socket.as_fd(), FcntlArg::F_GETFL).unwrap();
        assert!(OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK));
        let listens = SockRef::from(socket).is_listener().unwrap();
        assert_eq!(listens, socket.kind().is_stream());
    }

    #[test]
    fn every_kind_is_made_well() {
        let directory = tempfile::tempdir().unwrap();
        let name = directory.path().file_name().unwrap().to_str().unwrap();
        let path = |file: &str| directory.path().join(file).display().to_string();
        let table = [
            ("127.0.0.1:0".to_owned(), Kind::Tcp),
            ("[::1]:0".to_owned(), Kind::Tcp),
            ("udp:127.0.0.1:0".to_owned(), Kind::Udp),
            (format!("unix:{}", path("stream")), Kind::Unix),
            (format!("unix:@{name}"), Kind::Unix),
            (
                format!("unix-seqpacket:{}", path("seqpacket")),
                Kind::UnixSeqpacket,
            ),
            (format!("unix-seqpacket:@{name}"), Kind::UnixSeqpacket),
            (
                format!("unix-datagram:{}", path("datagram")),
                Kind::UnixDatagram,
            ),
            (format!("unix-datagram:@{name}"), Kind::UnixDatagram),
        ];
        for (text, kind) in table {
            let socket = bind_one(&endpoint(&text)).unwrap();
            assert_eq!(socket.kind(), kind, "{text}");
            assert_well_made(&socket);
            match socket.address() {
                Address::Inet(inet) => assert_ne!(inet.port(), 0, "{text}"),
                other => assert!(text.ends_with(&other.to_string()), "{text}"),
            }
            let owned = matches!(socket.address(), Address::Path(_));
            assert_eq!(socket.path().is_some(), owned, "{text}");
            assert_eq!(
                socket.descriptors().count(),
                1 + usize::from(owned),
                "{text}"
            );
        }
    }

    #[test]
    fn options_are_set() {
        let tcp = endpoint("[::]:0").reuse_port(true).only_v6(true).backlog(7);
        let socket =
            bind_one(&tcp.configure(|socket| SockRef::from(&socket).set_recv_buffer_size(12_345)))
                .unwrap();
        let options = SockRef::from(&socket);
        assert!(options.reuse_port().unwrap());
        assert!(options.only_v6().unwrap());
        assert!(options.reuse_address().unwrap());
        assert_eq!(options.recv_buffer_size().unwrap(), 2 * 12_345);

        let udp = bind_one(&endpoint("udp:127.0.0.1:0")).unwrap();
        assert!(!SockRef::from(&udp).reuse_address().unwrap());
    }

    #[test]
    fn connections_have_the_options_of_their_endpoint() {
        let plain = endpoint("127.0.0.1:0");
        let asked = plain.clone().no_delay(true);
        let asked = asked.keep_alive(Duration::from_secs(77));
        for (endpoint, set) in [(plain, false), (asked, true)] {
            let socket = bind_one(&endpoint).unwrap();
            let listener = SockRef::from(&socket);
            let address = listener.local_addr().unwrap();
            let _client = TcpStream::connect(address.as_socket().unwrap()).unwrap();
            // It does not block; the connection is there by the client's word.
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(accepted.tcp_nodelay().unwrap(), set);
            assert_eq!(accepted.keepalive().unwrap(), set);
            let after = accepted.tcp_keepalive_time().unwrap();
            assert_eq!(after == Duration::from_secs(77), set);
        }
    }

    #[test]
    fn the_closure_can_refuse() {
        let refusing = endpoint("127.0.0.1:0").configure(|_| Err(io::Error::other("not today")));
        let error = bind_one(&refusing).unwrap_err().to_string();
        assert_eq!(
            error,
            "could not bind endpoint `127.0.0.1:0`: configure the socket: not today"
        );
    }

    #[test]
    fn an_address_in_use_is_named() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        let error = bind_one(&Endpoint::from(address).name("http")).unwrap_err();
        assert!(error.is_in_use());
        assert_eq!(
            error.to_string(),
            format!("could not bind endpoint `http={address}`: {address} is in use")
        );
    }

    #[test]
    fn a_host_name_has_one_port() {
        let socket = endpoint("localhost:0");
        let both = [
            SocketAddr::from(([127, 0, 0, 1], 0)),
            SocketAddr::from(([127, 0, 0, 2], 0)),
            SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0)),
        ];
        let sockets = bind(&socket, &both).unwrap().into_sockets();
        let ports: Vec<_> = sockets
            .iter()
            .map(|socket| socket.address().inet().unwrap().port())
            .collect();
        assert_eq!(ports, [ports[0]; 3]);
    }

    #[test]
    fn a_port_that_is_never_free_is_an_error() {
        let twice = [SocketAddr::from(([127, 0, 0, 1], 0)); 2];
        let error = bind(&endpoint("some:0"), &twice).unwrap_err();
        assert!(error.is_in_use(), "{error}");
    }

    #[test]
    fn both_wildcards_of_a_host_name_fit() {
        let both = [
            SocketAddr::from(([0; 8], 0)),
            SocketAddr::from(([0, 0, 0, 0], 0)),
        ];
        let sockets = bind(&endpoint("any:0"), &both).unwrap().into_sockets();
        assert_eq!(sockets.len(), 2);
    }

    #[test]
    fn an_address_that_the_host_does_not_have_is_skipped() {
        // TEST-NET-1, RFC 5737: nobody has it.
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 0));
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut bound = bind(&endpoint("some:0"), &[elsewhere, here]).unwrap();
        assert_eq!(bound.warnings.len(), 1);
        assert!(bound.warnings[0].starts_with("bind 192.0.2.1:0: "));
        assert!(bound.warnings.remove(0).ends_with(", skipped"));
        assert_eq!(bound.into_sockets().len(), 1);

        let error = bind(&endpoint("some:0"), &[elsewhere]).unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        let source = source.downcast_ref::<io::Error>().unwrap();
        assert_eq!(source.kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn a_name_that_does_not_resolve_is_an_error() {
        let error = bind_one(&endpoint("no-such-host.invalid:0")).unwrap_err();
        assert!(
            error.to_string().contains("resolve `no-such-host.invalid`"),
            "{error}"
        );
    }

    #[test]
    fn systemd_sockets_are_never_made() {
        let error = bind_one(&endpoint("systemd:http")).unwrap_err().to_string();
        assert!(error.contains("never bound afresh"), "{error}");
    }

    #[test]
    fn mode_and_owner_are_set() {
        let directory = tempfile::tempdir().unwrap();
        let (uid, gid) = match nix::unistd::geteuid() {
            root if root.is_root() => (65534, 65533),
            user => (user.as_raw(), nix::unistd::getegid().as_raw()),
        };
        for kind in ["unix", "unix-seqpacket", "unix-datagram"] {
            let path = directory.path().join(kind);
            let endpoint = endpoint(&format!("{kind}:{}", path.display()));
            let _socket = bind_one(&endpoint.mode(0o626).owner(uid, gid)).unwrap();
            let metadata = std::fs::metadata(&path).unwrap();
            assert_eq!(metadata.mode() & 0o7777, 0o626, "{kind}");
            assert_eq!((metadata.uid(), metadata.gid()), (uid, gid), "{kind}");
        }
    }

    #[test]
    fn nobody_connects_before_the_mode_is_set() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let options = Options {
            mode: Some(0o666),
            ..Options::default()
        };
        let _socket = bind_path(Kind::UnixDatagram, &path, &options).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0);
    }

    #[test]
    fn a_path_that_is_taken_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let ours = Endpoint::unix(&path);
        let error = |why: &str| {
            let error = bind_one(&ours).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            error
        };
        let first = bind_one(&ours).unwrap();
        assert!(error("a live process holds").is_in_use());
        first.remove_path().unwrap();
        drop(first);

        let stranger = UnixListener::bind(&path).unwrap();
        assert!(error("a live process that is no generation").is_in_use());
        let lock = directory.path().join("app.sock.lock");
        assert!(!lock.exists(), "a bind that fails leaves no lock");
        drop(stranger);

        bind_one(&ours).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(!error("is not a socket").is_in_use());
    }

    #[test]
    fn a_path_that_is_dropped_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        drop(bind_one(&Endpoint::unix(&path)).unwrap());
        assert!(path.exists());
        bind_one(&Endpoint::unix(&path)).unwrap();
        UnixStream::connect(&path).unwrap_err();
    }

    #[test]
    fn what_is_bound_and_not_used_is_undone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        drop(bind(&Endpoint::unix(&path), &[]).unwrap());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn long_paths_are_refused() {
        let fits = tempfile::tempdir().unwrap();
        let room = 107 - fits.path().as_os_str().len() - 1;
        bind_one(&Endpoint::unix(fits.path().join("x".repeat(room)))).unwrap();
        let long = Endpoint::unix(fits.path().join("x".repeat(room + 1)));
        let error = bind_one(&long).unwrap_err().to_string();
        assert!(error.contains("the path has 108 bytes"), "{error}");
    }

    #[test]
    fn datagrams_arrive() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let socket = bind_one(&Endpoint::unix(&path).datagram()).unwrap();
        let client = UnixDatagram::unbound().unwrap();
        client.send_to(b"hello", &path).unwrap();
        let super::super::socket::Io::UnixDatagram(socket) = socket.io() else {
            panic!("{socket:?}");
        };
        let mut buffer = [0; 8];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 5);
    }
}
