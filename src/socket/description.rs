//! What one generation tells the next of a socket.

use serde::{Deserialize, Serialize};

use super::address::Address;
use super::kind::Kind;

/// What an Offer says of one socket.
///
/// It travels as JSON. A field that this version does not know is ignored, one that is missing has
/// its default. With it go one or two descriptors: the socket, and the lock of its path if
/// [`lock`](Self::lock) says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    /// The name of the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// What was asked for, without name and options, such as `localhost:0`.
    pub(crate) endpoint: String,
    pub(crate) kind: Kind,
    /// What the socket is bound to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) address: Address,
    /// Which of the sockets of its endpoint it is, from 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) index: u32,
    /// How many sockets its endpoint has.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(crate) count: u32,
    /// Whether the lock of the path follows as a second descriptor.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) lock: bool,
    /// The file system of the path that the socket was bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<u64>,
    /// The inode of the path that the socket was bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) inode: Option<u64>,
    /// Whether it came by socket activation: then its name alone is its key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) activated: bool,
}

impl Description {
    /// The key of its endpoint, the same in the generation that offers and in the one that adopts.
    pub(crate) fn key(&self) -> String {
        key(self.name.as_deref(), &self.endpoint)
    }

    /// How many descriptors belong to it.
    pub(crate) fn descriptors(&self) -> usize {
        1 + usize::from(self.lock)
    }
}

/// The key of an endpoint: its name, if it has one, and what was asked for.
pub(super) fn key(name: Option<&str>, endpoint: &str) -> String {
    match name {
        Some(name) => format!("{name}={endpoint}"),
        None => endpoint.to_owned(),
    }
}

/// The name and the rest of a key. No name has a colon in it, and no target an equals sign ahead of
/// its first colon.
pub(super) fn split_key(key: &str) -> (Option<&str>, &str) {
    match key.split_once('=') {
        Some((name, endpoint)) if !name.contains(':') => (Some(name), endpoint),
        _ => (None, key),
    }
}

fn one() -> u32 {
    1
}

fn is_one(count: &u32) -> bool {
    *count == 1
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn description() -> Description {
        Description {
            name: Some("admin".to_owned()),
            endpoint: "unix:/run/app.sock".to_owned(),
            kind: Kind::Unix,
            address: Address::Path("/run/app.sock".into()),
            index: 0,
            count: 1,
            lock: true,
            device: Some(u64::MAX),
            inode: Some(1 << 60),
            activated: false,
        }
    }

    #[test]
    fn survives_the_journey() {
        let paths = [&b"/run/app.sock"[..], b"/run/\xff\xfe\\ \n.sock", b"/\0"];
        for path in paths {
            let sent = Description {
                address: Address::Path(OsString::from_vec(path.to_vec()).into()),
                ..description()
            };
            let json = serde_json::to_vec(&sent).unwrap();
            assert_eq!(serde_json::from_slice::<Description>(&json).unwrap(), sent);
        }
    }

    #[test]
    fn a_later_version_may_say_more() {
        let json = r#"{"endpoint":"vsock:1","kind":"vsock","address":"cid\\1","ahead":{"of":1}}"#;
        let read: Description = serde_json::from_str(json).unwrap();
        assert_eq!(read.kind, Kind::Descriptor);
        assert_eq!(read.address, Address::Unnamed);
        assert_eq!((read.index, read.count, read.lock), (0, 1, false));
    }

    #[test]
    fn says_how_many_descriptors_follow() {
        assert_eq!(description().descriptors(), 2);
        assert_eq!(description().key(), "admin=unix:/run/app.sock");
    }
}
