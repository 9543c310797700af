//! The address that a socket is bound to.

use std::ffi::OsStr;
use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::text;

/// An address as the kernel knows it, of any family.
///
/// It prints as `127.0.0.1:80`, `/run/app.sock` or `@abstract`, with bytes that are not text
/// escaped as `\xNN`, and travels in that form: it comes back as the same address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    /// An IP address and a port.
    Inet(SocketAddr),
    /// The path of a Unix socket.
    Path(PathBuf),
    /// The abstract name of a Unix socket, without its leading NUL.
    Abstract(Vec<u8>),
    /// None at all, as a pipe or a socket that was never bound.
    #[default]
    Unnamed,
}

impl Address {
    /// The IP address and port, if it is one.
    pub(crate) fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(*address),
            _ => None,
        }
    }

    /// The bytes that it takes in a message, or more.
    pub(crate) fn longest_text(&self) -> usize {
        // Five for a byte, `\\xNN`.
        const ESCAPED: usize = 5;
        match self {
            Self::Inet(_) => "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535".len(),
            Self::Path(path) => path.as_os_str().len() * ESCAPED,
            Self::Abstract(name) => name.len() * ESCAPED,
            Self::Unnamed => 0,
        }
    }

    /// The path or abstract name that `text` stands for; `None` if its escapes are wrong.
    pub(super) fn unix(text: &str) -> Option<Self> {
        Some(match text.strip_prefix('@') {
            Some(name) => Self::Abstract(text::unescape(name)?),
            None => Self::Path(PathBuf::from(std::ffi::OsString::from_vec(text::unescape(
                text,
            )?))),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(SocketAddr::V4(address)) => fmt_v4(address, f),
            Self::Inet(address) => address.fmt(f),
            Self::Path(path) => {
                let bytes = path.as_os_str().as_bytes();
                // A relative path can look like another sort of address.
                let plain = usize::from(is_ambiguous(path.as_os_str()));
                let (first, rest) = bytes.split_at(plain);
                text::escape_each(first, f)?;
                text::escape(rest, f)
            }
            Self::Abstract(name) => {
                f.write_str("@")?;
                text::escape(name, f)
            }
            Self::Unnamed => Ok(()),
        }
    }
}

impl From<SocketAddr> for Address {
    /// The flow label of an IPv6 address is dropped: it is no part of what a socket is bound to.
    fn from(address: SocketAddr) -> Self {
        Self::Inet(match address {
            SocketAddr::V6(mut v6) => {
                v6.set_flowinfo(0);
                v6.into()
            }
            v4 @ SocketAddr::V4(_) => v4,
        })
    }
}

/// What cannot be read is no address.
impl From<&str> for Address {
    fn from(text: &str) -> Self {
        if text.is_empty() {
            return Self::Unnamed;
        }
        match text.parse::<SocketAddr>() {
            Ok(address) => Self::Inet(address),
            Err(_) => Self::unix(text).unwrap_or_default(),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer)
    }
}

/// What the standard library prints, without its way through five formatters: ten thousand of them
/// are printed while nobody serves with what they stand for.
fn fmt_v4(address: &SocketAddrV4, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = String::with_capacity("255.255.255.255:65535".len());
    for (octet, end) in address.ip().octets().into_iter().zip("...:".chars()) {
        push_number(octet.into(), &mut text);
        text.push(end);
    }
    push_number(address.port(), &mut text);
    f.pad(&text)
}

fn push_number(number: u16, text: &mut String) {
    let mut power = 10_u16.pow(number.checked_ilog10().unwrap_or(0));
    while power > 0 {
        text.push(char::from(b'0' + (number / power % 10) as u8));
        power /= 10;
    }
}

fn is_ambiguous(path: &OsStr) -> bool {
    path.as_bytes().starts_with(b"@")
        || path
            .to_str()
            .is_some_and(|text| text.parse::<SocketAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_address() -> impl Strategy<Value = Address> {
        let bytes = || proptest::collection::vec(any::<u8>(), 1..108);
        prop_oneof![
            any::<SocketAddr>().prop_map(Address::from),
            bytes().prop_map(|bytes| Address::Path(std::ffi::OsString::from_vec(bytes).into())),
            bytes().prop_map(Address::Abstract),
            Just(Address::Unnamed),
        ]
    }

    proptest! {
        #[test]
        fn every_address_survives(address in any_address()) {
            let json = serde_json::to_string(&address).unwrap();
            prop_assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address);
        }

        #[test]
        fn any_text_is_some_address(text: String) {
            drop(Address::from(text.as_str()));
        }
    }

    proptest! {
        #[test]
        fn inet_prints_as_in_the_standard_library(address: SocketAddr) {
            prop_assert_eq!(Address::Inet(address).to_string(), address.to_string());
        }
    }

    #[test]
    fn a_path_is_not_mistaken() {
        for path in ["127.0.0.1:80", "@app", "[::]:1", "/run/app.sock"] {
            let address = Address::Path(path.into());
            assert_eq!(
                Address::from(address.to_string().as_str()),
                address,
                "{path}"
            );
        }
    }
}
