//! Options on sockets that exist.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use super::address::Address;
use super::bind::backlog;
use super::endpoint::Endpoint;
use super::kind::Kind;
use super::options::Options;
use super::overlap::Claim;
use super::socket::Socket;

/// Warns of options that an adopted socket does not have and can no longer be given.
pub(super) fn check(socket: &Socket, options: &Options, key: &str, warnings: &mut Vec<String>) {
    if !socket.kind().is_inet() {
        return;
    }
    let mut compare = |name: &str, wanted: Option<bool>, actual: fn(&Socket) -> bool| {
        let Some(wanted) = wanted else { return };
        if wanted != actual(socket) {
            let state = if wanted { "off" } else { "on" };
            warnings.push(format!(
                "endpoint `{key}`: `{name}` is {state} for the socket that was adopted on {}, \
                 and can only be set on a fresh one",
                socket.address()
            ));
        }
    };
    compare("reuse_port", options.reuse_port, shares_port);
    // Any other address is of one family, and the kernel says so whatever was set.
    if socket.address().inet().is_some_and(is_v6_wildcard) {
        compare("only_v6", options.only_v6, is_only_v6);
    }
}

/// Sets the options that can be set on a live socket, and warns where it fails.
pub(super) fn apply(
    socket: &Arc<Socket>,
    options: &Options,
    key: &str,
    warnings: &mut Vec<String>,
) {
    let mut warn = |what: &str, why: &dyn std::fmt::Display| {
        warnings.push(format!("endpoint `{key}`: could not set {what}: {why}"));
    };
    if let (Some(connections), true) = (options.backlog, socket.kind().is_stream()) {
        // listen(2) on a socket that listens changes its backlog and nothing else.
        if let Err(error) = SockRef::from(socket.as_ref()).listen(backlog(connections)) {
            warn("the backlog", &error);
        }
    }
    if socket.kind() == Kind::Tcp {
        if let Err(error) = bequeath(SockRef::from(socket.as_ref()), options) {
            warn("the options of its connections", &error);
        }
    }
    if options.mode.is_none() && options.owner.is_none() {
        return;
    }
    match (socket.path(), socket.address()) {
        (Some(path), _) => {
            if let Err(error) = path.set_permissions(options) {
                warn("mode and owner", &error);
            }
        }
        (None, Address::Path(_)) => warn("mode and owner", &"the path belongs to systemd"),
        (None, _) => {}
    }
}

/// Sets on a TCP socket that listens what the connections have that come out of it: they inherit it,
/// which costs none of them a system call (`tcp_create_openreq_child` in the kernel).
pub(super) fn bequeath(socket: SockRef<'_>, options: &Options) -> io::Result<()> {
    if let Some(no_delay) = options.no_delay {
        socket.set_tcp_nodelay(no_delay)?;
    }
    if let Some(after) = options.keep_alive {
        // The kernel counts in seconds, and refuses 0.
        let after = after.max(Duration::from_secs(1));
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(after))?;
    }
    Ok(())
}

/// What a socket keeps others from binding.
pub(super) fn claim(socket: &Socket) -> Option<Claim> {
    let address = socket.address().inet()?;
    Some(Claim {
        address,
        only_v6: address.is_ipv6() && is_only_v6(socket),
    })
}

/// Does an endpoint, on these addresses, leave IPv4 alone?
pub(super) fn only_v6(endpoint: &Endpoint, addresses: &[SocketAddr]) -> bool {
    if !addresses.iter().copied().any(is_v6_wildcard) {
        return false;
    }
    let asked = endpoint.options().only_v6;
    asked
        .or(addresses.iter().any(SocketAddr::is_ipv4).then_some(true))
        .unwrap_or_else(|| {
            // Without IPv6 there is no such file, and no such socket.
            let default = std::fs::read("/proc/sys/net/ipv6/bindv6only");
            default.is_ok_and(|value| value.starts_with(b"1"))
        })
}

fn is_v6_wildcard(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

pub(super) fn shares_port(socket: &Socket) -> bool {
    SockRef::from(socket).reuse_port().unwrap_or(false)
}

fn is_only_v6(socket: &Socket) -> bool {
    SockRef::from(socket).only_v6().unwrap_or(false)
}
