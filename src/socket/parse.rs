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
        parse(text)
            .and_then(|endpoint| endpoint.check().map(|()| endpoint))
            .map_err(|error| error.in_text(text))
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

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn any_target() -> impl Strategy<Value = Endpoint> {
        let inet = || {
            prop_oneof![
                any::<SocketAddr>().prop_map(|address| Target::Address(Kind::Tcp, address.into())),
                (
                    "[a-z_-][a-z0-9_-]{0,20}(\\.[a-z][a-z0-9]{0,10}){0,3}",
                    any::<u16>()
                )
                    .prop_map(|(host, port)| Target::Host(Kind::Tcp, host, port)),
            ]
        };
        let unix = || {
            prop_oneof![
                vec(1..=u8::MAX, 1..108)
                    .prop_map(|path| Address::Path(OsString::from_vec(path).into())),
                vec(any::<u8>(), 1..108).prop_map(Address::Abstract),
            ]
        };
        prop_oneof![
            inet().prop_map(Endpoint::new),
            inet().prop_map(|target| Endpoint::new(target).datagram()),
            unix().prop_map(|address| Endpoint::new(Target::Address(Kind::Unix, address))),
            unix().prop_map(|address| Endpoint::new(Target::Address(Kind::UnixDatagram, address))),
            unix().prop_map(|address| Endpoint::new(Target::Address(Kind::UnixSeqpacket, address))),
        ]
    }

    fn any_endpoint() -> impl Strategy<Value = Endpoint> {
        let name = || "[^\\s\\p{Cc}:=/@.][^\\s\\p{Cc}:=]{0,40}";
        prop_oneof![
            any_target(),
            (any_target(), name()).prop_map(|(endpoint, name)| endpoint.name(name)),
            name().prop_map(|name| Endpoint::new(Target::Activated).name(name)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(endpoint in any_endpoint()) {
            let text = endpoint.to_string();
            prop_assert_eq!(text.parse::<Endpoint>(), Ok(endpoint), "{}", text);
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
            }
        }

        #[test]
        fn nearly_right_text_is_read_or_refused(
            text in "([a-z=]{0,3}=)?(udp:|unix:|unix-datagram:|systemd:)?[\\[\\]a-z0-9:.%@/\\\\x=-]{0,12}(:[0-9]{0,6})?",
        ) {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
            }
        }
    }

    #[test]
    fn reads_what_the_documentation_shows() {
        let same = [
            "0.0.0.0:8080",
            "127.0.0.1:0",
            "[::]:8080",
            "[fe80::1%2]:8080",
            "localhost:8080",
            "udp:0.0.0.0:53",
            "udp:localhost:53",
            "unix:/run/app.sock",
            "unix:run/app.sock",
            "unix:@app",
            "unix-seqpacket:/run/app.sock",
            "unix-seqpacket:@app",
            "unix-datagram:/run/app.sock",
            "http=0.0.0.0:8080",
            "dns=udp:[::]:53",
            "admin=unix:/run/a=b.sock",
            "unix:/run/a=b.sock",
            "systemd:http",
            "app@1.socket=127.0.0.1:1",
        ];
        for text in same {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
        }
        let other: Endpoint = "LocalHost:080".parse().unwrap();
        assert_eq!(other.to_string(), "localhost:80");
    }

    #[test]
    fn says_what_is_wrong() {
        let long = format!("unix:/{}", "x".repeat(107));
        let table = [
            ("", "there is nothing"),
            ("8080", "the port is missing"),
            (":8080", "the host is missing"),
            ("localhost", "the port is missing"),
            ("localhost:", "the port is missing"),
            ("0.0.0.0:65536", "`65536` is no port"),
            ("0.0.0.0:+80", "`+80` is no port"),
            ("256.0.0.1:80", "`256.0.0.1` is no IPv4 address"),
            ("1.2.3:80", "`1.2.3` is no IPv4 address"),
            ("::1", "without a port"),
            ("[::1]", "no IPv6 address in brackets"),
            ("[::g]:80", "no IPv6 address in brackets"),
            ("[fe80::1%eth0]:80", "no IPv6 address in brackets"),
            ("http://0.0.0.0:80", "`http` is no kind of socket"),
            ("tcp:0.0.0.0:80", "`tcp` is no kind of socket"),
            ("local host:80", "the host name has a ' ' in it"),
            ("/run/app.sock", "it looks like a path"),
            ("@app", "it looks like a path"),
            ("unix:", "the path is empty"),
            ("unix:@", "the abstract name is empty"),
            ("unix:/a\\x00b", "the path has a NUL in it"),
            ("unix:/a\\nb", "a backslash stands alone"),
            (long.as_str(), "the path has 108 bytes"),
            ("=0.0.0.0:80", "the name is empty"),
            ("a b=0.0.0.0:80", "the name has a ' ' in it"),
            ("systemd:", "the name is empty"),
            ("systemd:a:b", "the name has a ':' in it"),
            ("http=systemd:http", "it has two names"),
        ];
        for (text, problem) in table {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("invalid endpoint `{text}`: ")),
                "{error}"
            );
            assert!(error.contains(problem), "{error}");
            assert!(error.contains(", expected "), "{error}");
        }
    }

    #[test]
    fn an_error_is_one_line() {
        let error = "a:80\n".parse::<Endpoint>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid endpoint `a:80\\n`: `80\\n` is no port, expected a number from 0 to 65535"
        );
    }
}
