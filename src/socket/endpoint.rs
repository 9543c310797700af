//! What the service wants to listen on.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::Address;
use super::invalid::InvalidEndpoint;
use super::kind::Kind;
use super::options::{Configure, Options};

/// An address to listen on, with an optional name and options.
///
/// An endpoint is what a service asks for. What it gets is the socket that its predecessor (or
/// systemd) already has for this endpoint, or else a fresh one.
///
/// # Text
///
/// An endpoint is usually written as text, and prints as the same text:
///
/// | text | socket |
/// |---|---|
/// | `0.0.0.0:8080`, `127.0.0.1:0` | TCP over IPv4; on port 0 the kernel picks one, and all later generations keep it |
/// | `[::]:8080`, `[fe80::1%2]:8080` | TCP over IPv6; the wildcard serves IPv4 too unless [`only_v6`](Self::only_v6) or the system (`net.ipv6.bindv6only`) says otherwise |
/// | `localhost:8080` | TCP on every address that the name resolves to, all on one port |
/// | `udp:0.0.0.0:53` | UDP, with all of the above |
/// | `unix:/run/app.sock` | a Unix stream socket at a path, of at most 107 bytes |
/// | `unix:@app` | a Unix stream socket with an abstract name ([unix(7)]) |
/// | `unix-seqpacket:/run/app.sock` | a Unix socket that keeps records |
/// | `unix-datagram:/run/app.sock` | a Unix datagram socket |
/// | `systemd:http` | whatever systemd passes under this name; never a fresh socket |
///
/// In a path or an abstract name, a byte that is no printable text is written `\xNN`, and a
/// backslash `\\`.
///
/// # Names
///
/// A name goes in front: `http=0.0.0.0:8080`. It is the key by which the next generation finds
/// the socket, and by which a socket of systemd (`FileDescriptorName=`) is claimed. Without a
/// name the key is the address, so that two endpoints on port 0 want names. A name has no
/// white space, no `:` and no `=`, and at most 255 bytes.
///
/// A name is not the whole key: when the address under a name changes from one generation to the
/// next, the new address is bound afresh.
///
/// # Options
///
/// Options are set by value and are no part of the text. What a socket that is adopted cannot
/// take any more (that is [`reuse_port`](Self::reuse_port) and [`only_v6`](Self::only_v6)) is
/// logged as a warning.
///
/// Two endpoints are equal if name, address and options are. Closures are compared by identity:
/// an endpoint with [`configure`](Self::configure) equals its clones, and no other.
///
/// # Examples
///
/// ```
/// use handover::Endpoint;
///
/// let endpoint: Endpoint = "http=0.0.0.0:8080".parse()?;
/// assert_eq!(endpoint.to_string(), "http=0.0.0.0:8080");
///
/// let same = Endpoint::from(std::net::SocketAddr::from(([0, 0, 0, 0], 8080))).name("http");
/// assert_eq!(endpoint, same);
/// # Ok::<(), handover::InvalidEndpoint>(())
/// ```
///
/// With options:
///
/// ```
/// use std::time::Duration;
///
/// use handover::Endpoint;
///
/// let tcp = Endpoint::try_from("[::]:8080")?
///     .only_v6(true)
///     .backlog(1024)
///     .keep_alive(Duration::from_secs(60))
///     .no_delay(true);
/// let unix = Endpoint::try_from("admin=unix:/run/app.sock")?.mode(0o660);
/// # assert_ne!(tcp, unix);
/// # Ok::<(), handover::InvalidEndpoint>(())
/// ```
///
/// [unix(7)]: https://man7.org/linux/man-pages/man7/unix.7.html
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use = "an endpoint does nothing until it is bound"]
pub struct Endpoint {
    pub(super) name: Option<String>,
    pub(super) target: Target,
    pub(super) options: Options,
}

/// Where an endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Target {
    /// An address of this kind of socket.
    Address(Kind, Address),
    /// All addresses that a name resolves to, on this port.
    Host(Kind, String, u16),
    /// What systemd passes under the name of the endpoint.
    Activated,
}

impl Endpoint {
    /// A Unix stream socket at a path, which need not be text.
    ///
    /// A relative path is taken from the working directory of the moment in which it is bound.
    ///
    /// ```
    /// let endpoint = handover::Endpoint::unix("/run/app.sock");
    /// assert_eq!(endpoint.to_string(), "unix:/run/app.sock");
    /// ```
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::new(Target::Address(Kind::Unix, Address::Path(path.into())))
    }

    /// Gives the endpoint a name, the key by which its socket is inherited.
    ///
    /// A name that the [text](Self#names) of an endpoint could not have is an error when the
    /// endpoint is bound.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets how many connections may wait to be accepted; 4096 by default.
    ///
    /// The kernel lowers it to `net.core.somaxconn`, which is 4096 since Linux 5.4 ([listen(2)]).
    ///
    /// [listen(2)]: https://man7.org/linux/man-pages/man2/listen.2.html
    pub fn backlog(mut self, connections: u32) -> Self {
        self.options.backlog = Some(connections);
        self
    }

    /// Lets other sockets of the same user listen on the same address (`SO_REUSEPORT`,
    /// [socket(7)]); off by default.
    ///
    /// A handover does not need it, and does not lose a connection because of it: the successor
    /// gets this very socket, with its queue.
    ///
    /// [socket(7)]: https://man7.org/linux/man-pages/man7/socket.7.html
    pub fn reuse_port(mut self, reuse: bool) -> Self {
        self.options.reuse_port = Some(reuse);
        self
    }

    /// Says whether `[::]` serves IPv6 only (`IPV6_V6ONLY`, [ipv6(7)]); by default the system
    /// decides, and it usually serves IPv4 too.
    ///
    /// [ipv6(7)]: https://man7.org/linux/man-pages/man7/ipv6.7.html
    pub fn only_v6(mut self, only: bool) -> Self {
        self.options.only_v6 = Some(only);
        self
    }

    /// Sets the permissions of the path of a Unix socket, such as `0o660`; by default the umask
    /// decides.
    ///
    /// Nobody can connect before the permissions are set.
    pub fn mode(mut self, mode: u32) -> Self {
        self.options.mode = Some(mode & 0o777);
        self
    }

    /// Sets the user and the group that own the path of a Unix socket; by default those of the
    /// process.
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.options.owner = Some((uid, gid));
        self
    }

    /// Turns on keep-alive probes for accepted TCP connections, after so long a silence, in whole
    /// seconds and one at least; off by default.
    pub fn keep_alive(mut self, after: Duration) -> Self {
        self.options.keep_alive = Some(after);
        self
    }

    /// Says whether accepted TCP connections send small segments at once (`TCP_NODELAY`). By default
    /// those do that are served by a server of this crate; of others the kernel delays small segments
    /// until the client has acknowledged what was sent before (`tcp(7)`).
    pub fn no_delay(mut self, no_delay: bool) -> Self {
        self.options.no_delay = Some(no_delay);
        self
    }

    /// Sets anything else: the closure is given a fresh socket before it is bound.
    ///
    /// It is not called on a socket that is adopted: that one has its options already, and is
    /// still in use by the predecessor. An error from the closure is an error of the bind.
    ///
    /// ```
    /// let endpoint = handover::Endpoint::try_from("0.0.0.0:8080")?.configure(|socket| {
    ///     socket2::SockRef::from(&socket).set_recv_buffer_size(1 << 20)
    /// });
    /// # assert_eq!(endpoint, endpoint.clone());
    /// # Ok::<(), handover::InvalidEndpoint>(())
    /// ```
    pub fn configure(
        mut self,
        closure: impl Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.options.configure = Some(Configure::new(closure));
        self
    }

    pub(super) fn new(target: Target) -> Self {
        Self {
            name: None,
            target,
            options: Options::default(),
        }
    }

    /// The kind of socket it wants; `None` where systemd says.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self.target {
            Target::Address(kind, _) | Target::Host(kind, ..) => Some(kind),
            Target::Activated => None,
        }
    }

    /// The name that was put in front.
    pub(crate) fn given_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The options, those for accepted connections among them.
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// The same address for datagrams: TCP becomes UDP, a Unix stream a Unix datagram socket.
    pub(crate) fn datagram(mut self) -> Self {
        if let Target::Address(kind, _) | Target::Host(kind, ..) = &mut self.target {
            *kind = match *kind {
                Kind::Tcp => Kind::Udp,
                Kind::Unix | Kind::UnixSeqpacket => Kind::UnixDatagram,
                other => other,
            };
        }
        self
    }

    /// The text without name and options: the second half of the key.
    pub(super) fn target_text(&self) -> String {
        match &self.target {
            Target::Activated => self.to_string(),
            target => target.to_string(),
        }
    }

    /// The same endpoint with an absolute path.
    pub(super) fn absolute(&self) -> io::Result<Cow<'_, Self>> {
        let Target::Address(kind, Address::Path(path)) = &self.target else {
            return Ok(Cow::Borrowed(self));
        };
        let path = std::path::absolute(path)?;
        let target = Target::Address(*kind, Address::Path(path));
        let (name, options) = (self.name.clone(), self.options.clone());
        Ok(Cow::Owned(Self {
            name,
            target,
            options,
        }))
    }

    /// Checks what the builder methods take unseen.
    pub(super) fn check(&self) -> Result<(), InvalidEndpoint> {
        if let Some(name) = &self.name {
            check_name(name).map_err(|error| error.in_text(&self.to_string()))?;
        }
        match &self.target {
            Target::Address(_, Address::Path(path)) => check_path(path),
            Target::Address(_, Address::Abstract(name)) => check_abstract(name),
            _ => Ok(()),
        }
        .map_err(|error| error.in_text(&self.to_string()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, &self.target) {
            (Some(name), Target::Activated) => write!(f, "systemd:{name}"),
            (Some(name), target) => write!(f, "{name}={target}"),
            (None, target) => target.fmt(f),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(kind, address) => write!(f, "{}{address}", kind.prefix()),
            Self::Host(kind, host, port) => write!(f, "{}{host}:{port}", kind.prefix()),
            Self::Activated => f.write_str("systemd:"),
        }
    }
}

impl From<SocketAddr> for Endpoint {
    /// A TCP socket on this address.
    fn from(address: SocketAddr) -> Self {
        Self::new(Target::Address(Kind::Tcp, address.into()))
    }
}

/// Checks a name: it must be printable, and must not be mistaken for an address.
fn check_name(name: &str) -> Result<(), InvalidEndpoint> {
    const EXPECTED: &str = "a name such as `http` in `http=0.0.0.0:8080`";
    let wrong = |c: char| c.is_control() || c.is_whitespace() || c == ':' || c == '=';
    if name.is_empty() {
        return Err(InvalidEndpoint::new("the name is empty", EXPECTED));
    }
    if name.len() > 255 {
        return Err(InvalidEndpoint::new(
            format!("the name has {} bytes, more than 255", name.len()),
            EXPECTED,
        ));
    }
    match name.chars().find(|c| wrong(*c)) {
        Some(c) => Err(InvalidEndpoint::new(
            format!("the name has a {c:?} in it"),
            EXPECTED,
        )),
        None => Ok(()),
    }
}

/// Checks a path: `sun_path` holds 108 bytes with the NUL at the end, unix(7).
pub(super) fn check_path(path: &Path) -> Result<(), InvalidEndpoint> {
    const EXPECTED: &str = "a path such as `unix:/run/app.sock`";
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        Err(InvalidEndpoint::new("the path is empty", EXPECTED))
    } else if bytes.contains(&0) {
        Err(InvalidEndpoint::new("the path has a NUL in it", EXPECTED))
    } else if bytes.len() > 107 {
        Err(InvalidEndpoint::new(
            format!("the path has {} bytes", bytes.len()),
            "at most 107, which is what a Unix socket address can hold",
        ))
    } else {
        Ok(())
    }
}

/// Checks an abstract name: an empty one would have the kernel make one up, unix(7).
fn check_abstract(name: &[u8]) -> Result<(), InvalidEndpoint> {
    if name.is_empty() {
        Err(InvalidEndpoint::new(
            "the abstract name is empty",
            "a name such as `unix:@app`",
        ))
    } else if name.len() > 107 {
        Err(InvalidEndpoint::new(
            format!("the abstract name has {} bytes", name.len()),
            "at most 107, which is what a Unix socket address can hold",
        ))
    } else {
        Ok(())
    }
}
