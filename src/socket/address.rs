//! The address that a socket is bound to.

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::text;

/// An address as the kernel knows it, of any family.
///
/// It prints as `127.0.0.1:80`, `/run/app.sock` or `@abstract`, with bytes that are not text
/// escaped as `\xNN`, and travels in that form: it comes back as the same address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
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
impl From<String> for Address {
    fn from(text: String) -> Self {
        if text.is_empty() {
            return Self::Unnamed;
        }
        match text.parse::<SocketAddr>() {
            Ok(address) => Self::Inet(address),
            Err(_) => Self::unix(&text).unwrap_or_default(),
        }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
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
            drop(Address::from(text));
        }
    }

    #[test]
    fn a_path_is_not_mistaken() {
        for path in ["127.0.0.1:80", "@app", "[::]:1", "/run/app.sock"] {
            let address = Address::Path(path.into());
            assert_eq!(Address::from(address.to_string()), address, "{path}");
        }
    }
}
