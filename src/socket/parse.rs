//! From text to an endpoint.

use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::address::Address;
use super::endpoint::{Endpoint, Target};
use super::invalid::InvalidEndpoint;
use super::kind::Kind;

const HOST_AND_PORT: &str = "`host:port`, such as `0.0.0.0:8080`";
const KINDS: &str = "`host:port`, or one of `udp:`, `unix:`, `unix-seqpacket:`, `unix-datagram:`, \
                     `systemd:` in front";

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let endpoint =
            parse(text).map_err(|error| error.in_text(text.escape_debug().to_string()))?;
        endpoint.check()?;
        Ok(endpoint)
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = InvalidEndpoint;

    fn try_from(text: &str) -> Result<Self, InvalidEndpoint> {
        text.parse()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = InvalidEndpoint;

    fn try_from(text: String) -> Result<Self, InvalidEndpoint> {
        text.parse()
    }
}

impl TryFrom<&String> for Endpoint {
    type Error = InvalidEndpoint;

    fn try_from(text: &String) -> Result<Self, InvalidEndpoint> {
        text.parse()
    }
}

fn parse(text: &str) -> Result<Endpoint, InvalidEndpoint> {
    if text.is_empty() {
        return Err(InvalidEndpoint::new("there is nothing", KINDS));
    }
    if text.starts_with(['/', '@', '.']) {
        return Err(InvalidEndpoint::new(
            "it looks like a path",
            "a kind in front, such as `unix:/run/app.sock`",
        ));
    }
    // An address has a `:` before it has a `=`, a name never has one.
    let (name, rest) = match text.split_once('=') {
        Some((name, rest)) if !name.contains(':') => (Some(name), rest),
        _ => (None, text),
    };
    if let Some(activated) = rest.strip_prefix("systemd:") {
        if name.is_some() {
            return Err(InvalidEndpoint::new(
                "it has two names",
                "`systemd:` and the one name",
            ));
        }
        return Ok(Endpoint::new(Target::Activated).name(activated));
    }
    let endpoint = Endpoint::new(target(rest)?);
    Ok(match name {
        Some(name) => endpoint.name(name),
        None => endpoint,
    })
}

fn target(text: &str) -> Result<Target, InvalidEndpoint> {
    for kind in [Kind::Unix, Kind::UnixSeqpacket, Kind::UnixDatagram] {
        if let Some(path) = text.strip_prefix(kind.prefix()) {
            let address = Address::unix(path).ok_or_else(|| {
                InvalidEndpoint::new(
                    "a backslash stands alone",
                    "`\\\\` for a backslash and `\\xNN` for a byte",
                )
            })?;
            return Ok(Target::Address(kind, address));
        }
    }
    match text.strip_prefix(Kind::Udp.prefix()) {
        Some(address) => inet(Kind::Udp, address),
        None => inet(Kind::Tcp, text),
    }
}

fn inet(kind: Kind, text: &str) -> Result<Target, InvalidEndpoint> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Target::Address(kind, address.into()));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(InvalidEndpoint::new(
            "it is an IPv6 address without a port",
            "`[address]:port`, such as `[::]:8080`",
        ));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(InvalidEndpoint::new("the port is missing", HOST_AND_PORT));
    };
    if host.is_empty() {
        return Err(InvalidEndpoint::new("the host is missing", HOST_AND_PORT));
    }
    if host.starts_with('[') {
        return Err(InvalidEndpoint::new(
            format!("`{host}` is no IPv6 address in brackets"),
            "`[address]:port`, such as `[::]:8080` or `[fe80::1%2]:8080`",
        ));
    }
    if let Some((before, _)) = host.split_once(':') {
        return Err(InvalidEndpoint::new(
            format!("`{before}` is no kind of socket"),
            KINDS,
        ));
    }
    let port = port_number(port)?;
    check_host(host)?;
    Ok(Target::Host(kind, host.to_ascii_lowercase(), port))
}

fn port_number(text: &str) -> Result<u16, InvalidEndpoint> {
    if text.is_empty() {
        return Err(InvalidEndpoint::new("the port is missing", HOST_AND_PORT));
    }
    // `u16::from_str` would take a sign too.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits => Ok(port),
        _ => Err(InvalidEndpoint::new(
            format!("`{}` is no port", text.escape_debug()),
            "a number from 0 to 65535",
        )),
    }
}

/// Checks a host name, RFC 1123 section 2.1, with the underscore that container networks use.
fn check_host(host: &str) -> Result<(), InvalidEndpoint> {
    let wrong = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if let Some(c) = host.chars().find(|c| wrong(*c)) {
        return Err(InvalidEndpoint::new(
            format!("the host name has a {c:?} in it"),
            HOST_AND_PORT,
        ));
    }
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or("");
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(InvalidEndpoint::new(
            format!("`{host}` is no IPv4 address"),
            "four numbers from 0 to 255, such as `0.0.0.0:8080`",
        ));
    }
    if host.len() > 253 {
        return Err(InvalidEndpoint::new(
            format!("the host name has {} bytes", host.len()),
            "at most 253",
        ));
    }
    Ok(())
}
