//! What systemd keeps while the service is down.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::run::Shared;
use crate::socket::{Socket, Store, is_storable, kept_names};
use crate::sys::log;

/// What is in the descriptor store, as far as this process knows.
#[derive(Debug)]
pub(super) struct Keeping {
    room: usize,
    stored: BTreeSet<String>,
    /// Those that an operator was told of.
    told: BTreeSet<String>,
}

/// What has to change in it.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Names that nobody needs.
    pub(super) stale: Vec<String>,
    /// Sockets, with the names of their descriptors.
    pub(super) fresh: Vec<(Vec<String>, Arc<Socket>)>,
}

impl Keeping {
    /// Has to be called before main begins: what this generation has inherited by then is stored, by
    /// the predecessor or by whoever served before the service was down.
    pub(super) fn new(room: usize, shared: &Shared) -> Self {
        let offered = shared.store.offer(drop).0;
        let inherited = offered
            .iter()
            .filter_map(|(description, _)| kept_names(description))
            .flatten();
        let inherited: BTreeSet<_> = match shared.predecessor {
            Some(_) => inherited.collect(),
            None => BTreeSet::new(),
        };
        Self {
            room,
            stored: shared.kept.iter().cloned().chain(inherited).collect(),
            told: BTreeSet::new(),
        }
    }

    pub(super) fn changes(&mut self, store: &Store) -> Changes {
        let mut changes = Changes::default();
        if self.room == 0 {
            return changes;
        }
        let mut wanted = BTreeSet::new();
        for (description, socket) in store.offer(drop).0 {
            let key = description.key();
            match kept_names(&description) {
                Some(names) => {
                    wanted.extend(names.iter().cloned());
                    if !names.iter().all(|name| self.stored.contains(name)) {
                        changes.fresh.push((names, socket));
                    }
                }
                None if is_storable(&description) => {
                    self.tell(&key, "has too long a name");
                }
                None => {}
            }
        }
        let stale = self.stored.difference(&wanted).cloned();
        changes.stale = stale.collect();
        let mut left = self.room + changes.stale.len() - self.stored.len().min(self.room);
        let fresh = std::mem::take(&mut changes.fresh);
        for (names, socket) in fresh {
            match left.checked_sub(names.len()) {
                Some(rest) => {
                    left = rest;
                    changes.fresh.push((names, socket));
                }
                None => {
                    let room = self.room;
                    let text = format!("has no room in FileDescriptorStoreMax={room}");
                    self.tell(&socket.address().to_string(), &text);
                }
            }
        }
        changes
    }

    pub(super) fn removed(&mut self, name: &str) {
        self.stored.remove(name);
    }

    pub(super) fn added(&mut self, names: Vec<String>) {
        self.stored.extend(names);
    }

    pub(super) fn has_any(&self) -> bool {
        self.room > 0 && !self.stored.is_empty()
    }

    fn tell(&mut self, endpoint: &str, why: &str) {
        if self.told.insert(endpoint.to_owned()) {
            log::warn!("systemd cannot keep `{endpoint}`: it {why}");
        }
    }
}
