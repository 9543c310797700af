//! Where a service is to be loaded, as a person writes it.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use crate::testing::target::Target;

/// A URL: `http://localhost:8080/path`, `https://…`, `ws://…`, `tcp://127.0.0.1:7000`, or `unix:/run/app.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) target: Target,
    pub(super) scheme: Scheme,
    /// What an HTTP request names.
    pub(super) host: String,
    pub(super) path: Option<String>,
}

/// What is spoken there, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// To be found out.
    Any,
    Http,
    WebSocket,
    Lines,
}

impl Place {
    /// Where a service was found to listen: a wildcard address is reached over loopback.
    pub(super) fn found(target: &Target) -> Self {
        let target = match target {
            Target::Tcp(address) if address.ip().is_unspecified() => {
                let ip: std::net::IpAddr = match address {
                    SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                    SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
                };
                Target::Tcp(SocketAddr::new(ip, address.port()))
            }
            target => target.clone(),
        };
        Self {
            host: host(&target),
            target,
            scheme: Scheme::Any,
            path: None,
        }
    }
}

fn host(target: &Target) -> String {
    match target {
        Target::Tcp(address) => address.to_string(),
        _ => "localhost".to_owned(),
    }
}

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let invalid = |why: &str| InvalidPlace(format!("`{text}`: {why}, {EXPECTED}"));
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(invalid("no path in it"));
            }
            return Ok(Self::found(&Target::Unix(PathBuf::from(path))));
        }
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| invalid("no `://` in it"))?;
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], Some(rest[at..].to_owned())),
            None => (rest, None),
        };
        let (kind, tls, port) = match scheme {
            "http" => (Scheme::Http, false, Some(80)),
            "https" => (Scheme::Http, true, Some(443)),
            "ws" => (Scheme::WebSocket, false, Some(80)),
            "wss" => (Scheme::WebSocket, true, Some(443)),
            "tcp" => (Scheme::Lines, false, None),
            other => return Err(invalid(&format!("`{other}` is no scheme of it"))),
        };
        let resolved = authority.to_socket_addrs().or_else(|error| match port {
            Some(port) => (authority.trim_matches(['[', ']']), port).to_socket_addrs(),
            None => Err(error),
        });
        let address = resolved
            .map_err(|error| invalid(&format!("`{authority}` is no address ({error})")))?
            .next()
            .ok_or_else(|| invalid(&format!("`{authority}` has no address")))?;
        Ok(Self {
            target: target(address, tls).map_err(invalid)?,
            scheme: kind,
            host: authority.to_owned(),
            path,
        })
    }
}

#[cfg(feature = "rustls")]
fn target(address: SocketAddr, tls: bool) -> Result<Target, &'static str> {
    Ok(if tls {
        Target::Tls(address)
    } else {
        Target::Tcp(address)
    })
}

#[cfg(not(feature = "rustls"))]
fn target(address: SocketAddr, tls: bool) -> Result<Target, &'static str> {
    if tls {
        return Err("TLS takes the feature `rustls`");
    }
    Ok(Target::Tcp(address))
}

/// A text that is no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPlace(String);

impl std::error::Error for InvalidPlace {}

impl fmt::Display for InvalidPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const EXPECTED: &str =
    "expected http://HOST:PORT/PATH, https://…, ws://…, tcp://HOST:PORT or unix:PATH";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_urls() {
        let place: Place = "http://127.0.0.1:8080/health?x=1".parse().unwrap();
        assert_eq!(place.target, Target::Tcp("127.0.0.1:8080".parse().unwrap()));
        assert_eq!(place.path.as_deref(), Some("/health?x=1"));
        let place: Place = "ws://[::1]/chat".parse().unwrap();
        assert_eq!(place.target, Target::Tcp("[::1]:80".parse().unwrap()));
        assert_eq!(place.scheme, Scheme::WebSocket);
        let place: Place = "unix:/run/app.sock".parse().unwrap();
        assert_eq!(place.target, Target::Unix("/run/app.sock".into()));
        for text in [
            "localhost:8080",
            "ftp://localhost:1",
            "tcp://127.0.0.1",
            "unix:",
            "http://:x:",
        ] {
            let error = text.parse::<Place>().unwrap_err().to_string();
            assert!(
                error.contains(text) && error.contains("expected"),
                "{error}"
            );
        }
    }
}
