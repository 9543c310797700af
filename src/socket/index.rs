//! Finding endpoints by what they are called and by what they are bound to.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::collections::hash_map::Entry as Slot;
use std::hash::Hash;
use std::sync::Arc;

use super::address::Address;
use super::entry::Entry;
use super::keys::KeyMap;
use super::kind::Kind;
use super::overlap;

/// The number of an endpoint in the store, in the order in which they came.
pub(super) type Id = u64;

/// Finds endpoints without looking at all of them, so that ten thousand are claimed in no time.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_name: Multi<String>,
    /// Without the named ones on port 0: their target says nothing about them.
    by_target: Multi<Arc<str>>,
    by_address: Multi<(Kind, Address)>,
    /// Thousands may have one in common; in the order in which they came.
    by_port: KeyMap<(Kind, u16), Vec<Id>>,
}

/// A map with several values for a key.
#[derive(Debug)]
struct Multi<K>(KeyMap<K, Ids>);

/// There are hardly ever two.
#[derive(Debug)]
enum Ids {
    One(Id),
    #[expect(clippy::box_collection, reason = "as small as the other")]
    Many(Box<BTreeSet<Id>>),
}

impl Index {
    pub(super) fn insert(&mut self, id: Id, entry: &Entry) {
        if let Some(name) = entry.name() {
            self.by_name.insert(name.to_owned(), id);
        }
        if is_telling(entry) {
            let target = match entry.name() {
                None => Arc::clone(entry.key()),
                Some(_) => entry.target().into(),
            };
            self.by_target.insert(target, id);
        }
        for socket in entry.sockets() {
            let (kind, address) = (socket.kind(), socket.address());
            if let Some(inet) = address.inet() {
                let ids = self.by_port.entry((kind, inet.port())).or_default();
                if let Err(place) = ids.binary_search(&id) {
                    ids.insert(place, id);
                }
            }
            self.by_address
                .insert((kind, overlap::canonical(address)), id);
        }
    }

    pub(super) fn remove(&mut self, id: Id, entry: &Entry) {
        if let Some(name) = entry.name() {
            self.by_name.remove(name, id);
        }
        if is_telling(entry) {
            self.by_target.remove(entry.target(), id);
        }
        for socket in entry.sockets() {
            let (kind, address) = (socket.kind(), socket.address());
            if let Some(inet) = address.inet() {
                if let Slot::Occupied(mut ids) = self.by_port.entry((kind, inet.port())) {
                    if let Ok(place) = ids.get().binary_search(&id) {
                        ids.get_mut().remove(place);
                    }
                    if ids.get().is_empty() {
                        ids.remove();
                    }
                }
            }
            self.by_address
                .remove(&(kind, overlap::canonical(address)), id);
        }
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.by_target.0.reserve(more);
        self.by_address.0.reserve(more);
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

    /// Everything of this kind on this port, in the order in which it came.
    pub(super) fn port(&self, kind: Kind, port: u16) -> impl Iterator<Item = Id> + use<'_> {
        let ids = self.by_port.get(&(kind, port));
        ids.into_iter().flatten().copied()
    }
}

impl<K> Default for Multi<K> {
    fn default() -> Self {
        Self(KeyMap::default())
    }
}

impl<K: Hash + Eq> Multi<K> {
    fn insert(&mut self, key: K, id: Id) {
        match self.0.entry(key) {
            Slot::Vacant(slot) => drop(slot.insert(Ids::One(id))),
            Slot::Occupied(mut slot) => slot.get_mut().insert(id),
        }
    }

    fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q, id: Id)
    where
        K: Borrow<Q>,
    {
        let is_empty = match self.0.get_mut(key) {
            Some(Ids::One(only)) => *only == id,
            Some(Ids::Many(ids)) => ids.remove(&id) && ids.is_empty(),
            None => false,
        };
        if is_empty {
            self.0.remove(key);
        }
    }

    fn find<'a, Q: Hash + Eq + ?Sized>(
        &'a self,
        key: &Q,
    ) -> impl Iterator<Item = Id> + use<'a, K, Q>
    where
        K: Borrow<Q>,
    {
        let (one, many) = match self.0.get(key) {
            Some(Ids::One(id)) => (Some(*id), None),
            Some(Ids::Many(ids)) => (None, Some(ids.as_ref())),
            None => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten().copied())
    }
}

impl Ids {
    fn insert(&mut self, id: Id) {
        match self {
            Self::One(one) => *self = Self::Many(Box::new(BTreeSet::from([*one, id]))),
            Self::Many(ids) => drop(ids.insert(id)),
        }
    }
}

/// Does the target tell one endpoint from another?
fn is_telling(entry: &Entry) -> bool {
    entry.name().is_none() || !entry.target().ends_with(":0")
}
