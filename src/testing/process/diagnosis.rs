//! The other end of a connection, by the kernel's word (sock_diag(7)).
//!
//! The tables in `/proc/net` say the same, but have to be read as a whole, which takes longer than what is measured
//! where many connections are open.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
    sockopt,
};

use crate::testing::target::Ends;

/// Asks the kernel, over one socket.
#[derive(Debug, Default)]
pub(super) struct Diagnosis {
    socket: Option<OwnedFd>,
}

impl Diagnosis {
    /// The inode of the other end; none while nobody has accepted it, or when it is closed.
    pub(super) fn other_end(&mut self, ends: &Ends) -> Option<u64> {
        match ends {
            Ends::Tcp(ours, theirs) => {
                let answer = self.ask(&tcp_request(*ours, *theirs))?;
                // inet_diag_msg: the inode is the last of its 72 bytes.
                number(&answer, HEADER + 68)
                    .filter(|inode| *inode != 0)
                    .map(u64::from)
            }
            Ends::Unix(inode) => {
                let answer = self.ask(&unix_request(u32::try_from(*inode).ok()?))?;
                let peer = attribute(answer.get(HEADER + UNIX_MESSAGE..)?, UNIX_DIAG_PEER)?;
                number(&peer, 0).filter(|inode| *inode != 0).map(u64::from)
            }
        }
    }

    fn ask(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(open().ok()?),
        };
        send(socket, request, SendFlags::empty()).ok()?;
        let mut buffer = vec![0; 4096];
        let (length, _) = recv(socket, buffer.as_mut_slice(), RecvFlags::empty()).ok()?;
        buffer.truncate(length);
        let kind = u16::from_ne_bytes([*buffer.get(4)?, *buffer.get(5)?]);
        // Anything else is NLMSG_ERROR: there is no such socket.
        (kind == SOCK_DIAG_BY_FAMILY).then_some(buffer)
    }
}

fn open() -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    // An answer is there when the question has been sent; this is for a sandbox that swallows it.
    sockopt::set_socket_timeout(
        &socket,
        sockopt::Timeout::Recv,
        Some(std::time::Duration::from_millis(200)),
    )?;
    Ok(socket)
}

/// inet_diag_req_v2 of one socket, seen from the service.
fn tcp_request(ours: SocketAddr, theirs: SocketAddr) -> Vec<u8> {
    let family = match theirs.ip() {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    };
    let mut request = vec![family.as_raw() as u8, IPPROTO_TCP, 0, 0];
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(theirs.port().to_be_bytes());
    request.extend(ours.port().to_be_bytes());
    for address in [theirs, ours] {
        match address.ip() {
            IpAddr::V4(address) => {
                request.extend(address.octets());
                request.extend([0; 12]);
            }
            IpAddr::V6(address) => request.extend(address.octets()),
        }
    }
    request.extend([0; 4]);
    // No cookie.
    request.extend([0xff; 8]);
    message(&request)
}

/// unix_diag_req of one socket, with its peer.
fn unix_request(inode: u32) -> Vec<u8> {
    let mut request = vec![AddressFamily::UNIX.as_raw() as u8, 0, 0, 0];
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(inode.to_ne_bytes());
    request.extend(UDIAG_SHOW_PEER.to_ne_bytes());
    request.extend([0xff; 8]);
    message(&request)
}

fn message(payload: &[u8]) -> Vec<u8> {
    let mut message = ((HEADER + payload.len()) as u32).to_ne_bytes().to_vec();
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(payload);
    message
}

/// Finds an attribute (struct nlattr), each of which begins at a multiple of four.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<Vec<u8>> {
    loop {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]);
        if kind == wanted {
            return Some(bytes.get(4..length)?.to_vec());
        }
        bytes = bytes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

/// struct nlmsghdr.
const HEADER: usize = 16;
/// struct unix_diag_msg.
const UNIX_MESSAGE: usize = 16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
const UDIAG_SHOW_PEER: u32 = 4;
const UNIX_DIAG_PEER: u16 = 2;
