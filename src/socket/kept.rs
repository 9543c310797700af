//! Sockets that a service manager keeps while the service is down, and the names by which they are
//! known again.
//!
//! systemd calls this the descriptor store (`sd_notify(3)`): it takes descriptors, each under a name
//! of at most 255 printable ASCII characters without a colon, and gives them to the process that it
//! starts next, as it does with those of socket activation.

use std::collections::HashMap;
use std::fmt::Write;
use std::os::fd::{AsFd, OwnedFd};

use super::address::Address;
use super::description::{Description, split_key};
use super::error::Problem;
use super::found::Found;
use super::kind::Kind;
use super::path::Inode;
use super::verify::{Inherited, verify};

/// The name of one descriptor: `handover.<s|l>.<index>.<count>.<device>-<inode>.<key>`, in which the
/// letter tells a socket from the lock of its path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    is_lock: bool,
    index: u32,
    count: u32,
    inode: Option<(u64, u64)>,
    key: String,
}

/// The names of the descriptors of a socket, in the order of
/// [`Socket::descriptors`](super::Socket::descriptors).
///
/// None where it is not to be kept: what systemd has passed it has itself, and another descriptor
/// than a socket that can be verified is the program's. Nor where the names would be too long.
#[cfg_attr(
    not(feature = "systemd"),
    allow(dead_code, reason = "only that integration keeps sockets")
)]
pub(crate) fn names(description: &Description) -> Option<Vec<String>> {
    if !is_storable(description) {
        return None;
    }
    let name = |is_lock| Name {
        is_lock,
        index: description.index,
        count: description.count,
        inode: description.device.zip(description.inode),
        key: description.key(),
    };
    let locks = description.lock.then(|| name(true));
    let names = std::iter::once(name(false)).chain(locks);
    let names: Vec<_> = names.map(|name| name.to_text()).collect();
    names
        .iter()
        .all(|name| name.len() <= LONGEST)
        .then_some(names)
}

/// Is it a socket that this service has, and nobody else?
#[cfg_attr(
    not(feature = "systemd"),
    allow(dead_code, reason = "only that integration keeps sockets")
)]
pub(crate) fn is_storable(description: &Description) -> bool {
    !description.activated && description.kind != Kind::Descriptor
}

/// Is this the name of a descriptor that was kept?
pub(crate) fn is_kept(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Makes sockets of what was kept, if the kernel agrees with the names. Those that cannot be used
/// any more are closed; the texts say why.
pub(crate) fn restore(
    kept: impl IntoIterator<Item = (OwnedFd, String)>,
) -> (Vec<Inherited>, Vec<String>) {
    let (mut sockets, mut locks, mut problems) = (Vec::new(), HashMap::new(), Vec::new());
    for (descriptor, text) in kept {
        match Name::parse(&text) {
            Some(name) if name.is_lock => drop(locks.insert((name.key, name.index), descriptor)),
            Some(name) => sockets.push((descriptor, name)),
            None => problems.push(format!("`{text}` is no name of this version")),
        }
    }
    let mut restored = Vec::new();
    for (descriptor, name) in sockets {
        let lock = locks.remove(&(name.key.clone(), name.index));
        let key = name.key.clone();
        match restore_one(descriptor, name, lock) {
            Ok(inherited) => restored.push(inherited),
            Err(problem) => problems.push(format!("endpoint `{key}`: {problem}")),
        }
    }
    (restored, problems)
}

fn restore_one(
    descriptor: OwnedFd,
    name: Name,
    lock: Option<OwnedFd>,
) -> Result<Inherited, Box<dyn std::error::Error>> {
    let found = Found::of(descriptor.as_fd())?;
    if found.kind == Kind::Descriptor {
        return Err(format!("it is {found}").into());
    }
    if let (Address::Path(path), Some((device, inode))) = (&found.address, name.inode) {
        // The directory may have been removed meanwhile, or the path be another's: nobody would
        // find this socket.
        let is = Inode::of_path(path).map_err(|error| Problem::io("stat its path", error))?;
        if is != (Inode { device, inode }) {
            return Err("its path leads to another socket".into());
        }
    }
    let (given, endpoint) = split_key(&name.key);
    let description = Description {
        name: given.map(str::to_owned),
        endpoint: endpoint.to_owned(),
        kind: found.kind,
        address: found.address,
        index: name.index,
        count: name.count,
        lock: lock.is_some(),
        device: name.inode.map(|(device, _)| device),
        inode: name.inode.map(|(_, inode)| inode),
        activated: false,
    };
    Ok(verify(description, descriptor, lock)?)
}

impl Name {
    #[cfg_attr(
        not(feature = "systemd"),
        allow(dead_code, reason = "only that integration keeps sockets")
    )]
    fn to_text(&self) -> String {
        let letter = if self.is_lock { 'l' } else { 's' };
        let mut text = format!("{PREFIX}{letter}.{}.{}.", self.index, self.count);
        // Writing to a string cannot fail.
        if let Some((device, inode)) = self.inode {
            write!(text, "{device:x}-{inode:x}").ok();
        }
        text.push('.');
        for byte in self.key.bytes() {
            match byte {
                b':' | b'%' => write!(text, "%{byte:02x}").ok(),
                b' '..=b'~' => write!(text, "{}", char::from(byte)).ok(),
                _ => write!(text, "%{byte:02x}").ok(),
            };
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix(PREFIX)?.splitn(5, '.');
        let is_lock = match parts.next()? {
            "s" => false,
            "l" => true,
            _ => return None,
        };
        let index = parts.next()?.parse().ok()?;
        let count = parts.next()?.parse().ok()?;
        let inode = match parts.next()? {
            "" => None,
            inode => {
                let (device, inode) = inode.split_once('-')?;
                let hexadecimal = |text| u64::from_str_radix(text, 16).ok();
                Some((hexadecimal(device)?, hexadecimal(inode)?))
            }
        };
        let mut key = Vec::new();
        let mut bytes = parts.next()?.bytes();
        while let Some(byte) = bytes.next() {
            key.push(match byte {
                b'%' => {
                    let digits = [bytes.next()?, bytes.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                byte => byte,
            });
        }
        Some(Self {
            is_lock,
            index,
            count,
            inode,
            key: String::from_utf8(key).ok()?,
        })
    }
}

const PREFIX: &str = "handover.";
/// `FDNAME_MAX` of systemd.
#[cfg_attr(
    not(feature = "systemd"),
    allow(dead_code, reason = "only that integration keeps sockets")
)]
const LONGEST: usize = 255;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use proptest::prelude::*;

    use super::*;
    use crate::socket::{Endpoint, Kind, Store};

    proptest! {
        #[test]
        fn a_name_survives_and_is_one_that_systemd_takes(
            is_lock in any::<bool>(),
            index in any::<u32>(),
            count in any::<u32>(),
            inode in any::<Option<(u64, u64)>>(),
            key in any::<String>(),
        ) {
            let name = Name { is_lock, index, count, inode, key };
            let text = name.to_text();
            prop_assert!(is_kept(&text));
            prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b':'));
            prop_assert_eq!(Name::parse(&text), Some(name));
        }

        #[test]
        fn what_is_no_name_is_no_panic(text in "handover\\.[ -~]{0,40}") {
            Name::parse(&text);
        }
    }

    fn kept(store: &Store) -> Vec<(OwnedFd, String)> {
        let all = store.offer(drop).0.into_iter();
        all.flat_map(|(description, socket)| {
            let names = names(&description).unwrap_or_default();
            let copies = socket
                .descriptors()
                .map(|fd| fd.try_clone_to_owned().unwrap());
            copies.zip(names).collect::<Vec<_>>()
        })
        .collect()
    }

    #[tokio::test]
    async fn what_is_kept_is_adopted_by_the_same_endpoints() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let texts = [
            "http=127.0.0.1:0".to_owned(),
            format!("unix:{}", path.display()),
        ];
        let before = Store::new();
        let mut addresses = Vec::new();
        for text in &texts {
            let endpoint = Endpoint::try_from(text.as_str()).unwrap();
            let claimed = before.open(&endpoint, Kind::STREAMS).await.unwrap();
            addresses.push(claimed.sockets[0].address().clone());
        }
        let kept = kept(&before);
        assert_eq!(kept.len(), 3, "two sockets and a lock");
        // The process has died: its paths stay, and its lock is held by whoever keeps it.
        drop(before);

        let (restored, problems) = restore(kept);
        assert_eq!(problems, [""; 0]);
        let after = Store::new();
        restored.into_iter().for_each(|i| after.insert_inherited(i));
        for (text, address) in texts.iter().zip(&addresses) {
            let endpoint = Endpoint::try_from(text.as_str()).unwrap();
            let claimed = after.open(&endpoint, Kind::STREAMS).await.unwrap();
            assert!(claimed.adopted, "{text}");
            assert_eq!(claimed.sockets[0].address(), address);
        }
        assert_eq!(after.remove_paths(), [""; 0]);
        assert!(!path.exists(), "the path is owned again");
    }

    #[tokio::test]
    async fn a_socket_that_nobody_would_find_is_not_restored() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let endpoint = Endpoint::unix(&path);
        let before = Store::new();
        before.open(&endpoint, Kind::STREAMS).await.unwrap();
        let first = kept(&before);
        let second = kept(&before);
        std::fs::remove_file(&path).unwrap();
        let (restored, problems) = restore(first);
        assert!(restored.is_empty());
        assert!(problems[0].contains("stat its path"), "{problems:?}");

        let _others = UnixListener::bind(&path).unwrap();
        let (restored, problems) = restore(second);
        assert!(restored.is_empty());
        assert!(problems[0].contains("another socket"), "{problems:?}");
    }

    #[test]
    fn what_is_not_what_it_was_is_not_restored() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let kept = [
            (connected.into(), "handover.s.0.1..a".to_owned()),
            (OwnedFd::from(listener), "handover.x".to_owned()),
        ];
        let (restored, problems) = restore(kept);
        assert!(restored.is_empty());
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn what_systemd_has_itself_is_not_kept() {
        let json = r#"{"endpoint":"127.0.0.1:1","kind":"tcp"}"#;
        let description: Description = serde_json::from_str(json).unwrap();
        assert_eq!(
            names(&description).unwrap(),
            ["handover.s.0.1..127.0.0.1%3a1"]
        );
        let long = Description {
            name: Some("n".repeat(255)),
            ..description.clone()
        };
        assert_eq!(names(&long), None);
        let activated = Description {
            activated: true,
            ..description
        };
        assert_eq!(names(&activated), None);
    }
}
