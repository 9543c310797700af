//! What the kernel says of a descriptor.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};
use socket2::{Domain, Protocol, SockAddr, SockRef, Type};

use super::address::Address;
use super::kind::Kind;
use crate::sys::tcp;

/// What a descriptor is, whatever was said of it.
#[derive(Debug)]
pub(super) struct Found {
    /// Its kind; a socket that nobody can listen on is a [`Kind::Descriptor`].
    pub(super) kind: Kind,
    pub(super) address: Address,
    what: What,
}

#[derive(Debug)]
enum What {
    File(SFlag),
    Socket {
        domain: Domain,
        r#type: Type,
        protocol: Option<Protocol>,
        listening: bool,
    },
}

impl Found {
    pub(super) fn of(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        let socket = SockRef::from(&descriptor);
        let name = match socket.local_addr() {
            Err(error) if error.raw_os_error() == Some(Errno::ENOTSOCK as i32) => {
                let format = SFlag::from_bits_truncate(fstat(descriptor)?.st_mode) & SFlag::S_IFMT;
                return Ok(Self {
                    kind: Kind::Descriptor,
                    address: Address::Unnamed,
                    what: What::File(format),
                });
            }
            name => name?,
        };
        let domain = Domain::from(i32::from(name.family()));
        let (r#type, protocol, listening) = match tcp::is_listener(&descriptor) {
            true => (Type::STREAM, Some(Protocol::TCP), true),
            false => (socket.r#type()?, socket.protocol()?, socket.is_listener()?),
        };
        let address = address_of(&name);
        Ok(Self {
            kind: kind_of(domain, r#type, protocol, listening, &address),
            address,
            what: What::Socket {
                domain,
                r#type,
                protocol,
                listening,
            },
        })
    }
}

/// Prints as `a listening TCP socket on [::]:8080`.
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::File(format) => f.write_str(file_type(*format)),
            What::Socket { .. } if self.kind != Kind::Descriptor => {
                write!(f, "{} on {}", self.kind, self.address)
            }
            What::Socket {
                domain,
                r#type,
                protocol,
                listening,
            } => {
                family(*domain, *listening, f)?;
                style(*r#type, *protocol, f)?;
                f.write_str(" socket")?;
                match &self.address {
                    Address::Unnamed => f.write_str(" without an address")?,
                    address => write!(f, " on {address}")?,
                }
                let stream = matches!(*r#type, Type::STREAM | Type::SEQPACKET);
                f.write_str(if stream && !listening {
                    " that does not listen"
                } else {
                    ""
                })
            }
        }
    }
}

/// The address of a socket, without what is no part of it.
pub(super) fn address_of(address: &SockAddr) -> Address {
    if let Some(inet) = address.as_socket() {
        inet.into()
    } else if let Some(path) = address.as_pathname() {
        Address::Path(path.to_owned())
    } else if let Some(name) = address.as_abstract_namespace() {
        Address::Abstract(name.to_owned())
    } else {
        Address::Unnamed
    }
}

fn kind_of(
    domain: Domain,
    r#type: Type,
    protocol: Option<Protocol>,
    listening: bool,
    address: &Address,
) -> Kind {
    let inet = domain == Domain::IPV4 || domain == Domain::IPV6;
    let unix = domain == Domain::UNIX && *address != Address::Unnamed;
    // A multipath TCP socket accepts TCP connections too, and is used in the same way.
    let tcp = matches!(protocol, Some(Protocol::TCP | Protocol::MPTCP));
    let bound = address.inet().is_some_and(|inet| inet.port() != 0);
    match r#type {
        Type::STREAM if inet && tcp && listening => Kind::Tcp,
        Type::DGRAM if inet && protocol == Some(Protocol::UDP) && bound => Kind::Udp,
        Type::STREAM if unix && listening => Kind::Unix,
        Type::SEQPACKET if unix && listening => Kind::UnixSeqpacket,
        Type::DGRAM if unix => Kind::UnixDatagram,
        _ => Kind::Descriptor,
    }
}

fn file_type(format: SFlag) -> &'static str {
    match format {
        SFlag::S_IFREG => "a regular file",
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFIFO => "a pipe",
        SFlag::S_IFCHR => "a character device",
        SFlag::S_IFBLK => "a block device",
        _ => "a descriptor without a file type",
    }
}

fn family(domain: Domain, listening: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let family = match domain {
        Domain::IPV4 => "IPv4",
        Domain::IPV6 => "IPv6",
        Domain::UNIX => "Unix",
        other => return write!(f, "a family {} ", i32::from(other)),
    };
    let article = match domain {
        _ if listening => "a listening",
        Domain::UNIX => "a",
        _ => "an",
    };
    write!(f, "{article} {family} ")
}

fn style(r#type: Type, protocol: Option<Protocol>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match (r#type, protocol) {
        (Type::STREAM, Some(Protocol::TCP)) => f.write_str("TCP"),
        (Type::STREAM, _) => f.write_str("stream"),
        (Type::DGRAM, _) => f.write_str("datagram"),
        (Type::SEQPACKET, _) => f.write_str("seqpacket"),
        (other, _) => write!(f, "(type {})", i32::from(other)),
    }
}
