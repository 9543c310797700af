//! Finding endpoints by what they are called and by what they are bound to.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use super::address::Address;
use super::entry::Entry;
use super::kind::Kind;
use super::overlap;

/// The number of an endpoint in the store, in the order in which they came.
pub(super) type Id = u64;

/// Finds endpoints without looking at all of them, so that ten thousand are claimed in no time.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_key: HashMap<String, Id>,
    by_name: Multi<String>,
    /// Without the named ones on port 0: their target says nothing about them.
    by_target: Multi<String>,
    by_address: Multi<(Kind, Address)>,
    by_port: Multi<(Kind, u16)>,
}

/// A map with several values for a key; there are hardly ever two.
#[derive(Debug)]
struct Multi<K>(HashMap<K, BTreeSet<Id>>);

impl Index {
    pub(super) fn insert(&mut self, id: Id, entry: &Entry) {
        // A socket that arrives late can have the key of one that was bound in the meantime.
        self.by_key.entry(entry.key()).or_insert(id);
        if let Some(name) = &entry.name {
            self.by_name.insert(name.clone(), id);
        }
        if is_telling(entry) {
            self.by_target.insert(entry.target.clone(), id);
        }
        for socket in entry.sockets() {
            let (kind, address) = (socket.kind(), socket.address());
            if let Some(inet) = address.inet() {
                self.by_port.insert((kind, inet.port()), id);
            }
            self.by_address
                .insert((kind, overlap::canonical(address)), id);
        }
    }

    pub(super) fn remove(&mut self, id: Id, entry: &Entry) {
        let key = entry.key();
        if self.by_key.get(&key) == Some(&id) {
            self.by_key.remove(&key);
        }
        if let Some(name) = &entry.name {
            self.by_name.remove(name, id);
        }
        if is_telling(entry) {
            self.by_target.remove(&entry.target, id);
        }
        for socket in entry.sockets() {
            let (kind, address) = (socket.kind(), socket.address());
            if let Some(inet) = address.inet() {
                self.by_port.remove(&(kind, inet.port()), id);
            }
            self.by_address
                .remove(&(kind, overlap::canonical(address)), id);
        }
    }

    pub(super) fn key(&self, key: &str) -> Option<Id> {
        self.by_key.get(key).copied()
    }

    pub(super) fn name(&self, name: &str) -> impl Iterator<Item = Id> {
        self.by_name.find(name)
    }

    pub(super) fn target(&self, target: &str) -> impl Iterator<Item = Id> {
        self.by_target.find(target)
    }

    pub(super) fn address(
        &self,
        kind: Kind,
        address: &Address,
    ) -> impl Iterator<Item = Id> + use<'_> {
        self.by_address.find(&(kind, overlap::canonical(address)))
    }

    /// Everything of this kind on this port.
    pub(super) fn port(&self, kind: Kind, port: u16) -> impl Iterator<Item = Id> {
        self.by_port.find(&(kind, port))
    }
}

impl<K> Default for Multi<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq> Multi<K> {
    fn insert(&mut self, key: K, id: Id) {
        self.0.entry(key).or_default().insert(id);
    }

    fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q, id: Id)
    where
        K: std::borrow::Borrow<Q>,
    {
        if let Some(ids) = self.0.get_mut(key) {
            ids.remove(&id);
            if ids.is_empty() {
                self.0.remove(key);
            }
        }
    }

    fn find<'a, Q: Hash + Eq + ?Sized>(
        &'a self,
        key: &Q,
    ) -> impl Iterator<Item = Id> + use<'a, K, Q>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.get(key).into_iter().flatten().copied()
    }
}

/// Does the target tell one endpoint from another?
fn is_telling(entry: &Entry) -> bool {
    entry.name.is_none() || !entry.target.ends_with(":0")
}
