//! The endpoints that are held, and how a request finds the one it means.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::address::Address;
use super::claimed::Claimed;
use super::description::split_key;
use super::endpoint::{Endpoint, Target};
use super::entry::{Entry, State};
use super::error::Problem;
use super::index::{Id, Index};
use super::kind::Kind;
use super::options::Options;
use super::overlap::Claim;
use super::settings;
use super::socket::Socket;

/// All endpoints, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    /// Boxed, since the nodes of a tree that grows at its end are half empty.
    entries: BTreeMap<Id, Box<Entry>>,
    next: Id,
    index: Index,
    /// Whether one of them is a connection.
    connection: bool,
}

impl Endpoints {
    pub(super) fn insert(&mut self, entry: Entry) {
        let entry = Box::new(entry);
        let id = self.next;
        self.next += 1;
        self.connection |= entry.is_connection();
        self.index.insert(id, &entry);
        self.entries.insert(id, entry);
    }

    /// The number of the endpoint that comes next.
    pub(super) fn next_id(&self) -> Id {
        self.next
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<Box<Entry>> {
        let entry = self.entries.remove(&id)?;
        self.index.remove(id, &entry);
        Some(entry)
    }

    /// Changes an entry in its place.
    pub(super) fn change<T>(&mut self, id: Id, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut entry = self.remove(id)?;
        let result = change(&mut entry);
        self.index.insert(id, &entry);
        self.entries.insert(id, entry);
        Some(result)
    }

    /// Makes sure that this generation has not claimed the endpoint.
    pub(super) fn check_unclaimed(
        &self,
        endpoint: &Endpoint,
        target: &str,
        kinds: &[Kind],
    ) -> Result<(), Problem> {
        let reuse = endpoint.options.reuse_port == Some(true);
        let claimed = match endpoint.given_name() {
            Some(name) => self
                .of_name(name)
                .any(|(_, entry)| entry.is_claimed() && entry.has_kind(kinds)),
            // Others on the same address must have a name, and share it.
            None => self
                .of_target(target)
                .any(|(_, entry)| entry.is_claimed() && (entry.name().is_none() || !reuse)),
        };
        if !claimed {
            return Ok(());
        }
        Err(Problem::AlreadyClaimed {
            hint: match endpoint.given_name() {
                None if target.ends_with(":0") => {
                    ", and two endpoints on port 0 want names, such as `a=127.0.0.1:0`"
                }
                None if reuse => ", and endpoints that share an address want names",
                _ => "",
            },
        })
    }

    /// Finds what was inherited for the endpoint: others than the first only if it came by activation.
    /// `target` is the endpoint's, as text.
    pub(super) fn find(
        &self,
        endpoint: &Endpoint,
        target: &str,
        kinds: &[Kind],
    ) -> Result<Option<(Id, Vec<Id>)>, Problem> {
        let fits = |entry: &Entry| entry.is_unclaimed() && entry.has_kind(kinds);
        let is_on = |entry: &Entry| {
            entry.target() == target
                || match (&endpoint.target, entry.only_socket()) {
                    (Target::Address(_, address), Some(socket)) => socket.address() == address,
                    _ => false,
                }
        };
        if let Some(name) = endpoint.given_name() {
            let exact = self
                .of_name(name)
                .find(|(_, entry)| fits(entry) && !entry.is_activated() && is_on(entry));
            if let Some((id, _)) = exact {
                return Ok(Some((id, Vec::new())));
            }
            let mut activated = self.activated(name, kinds)?.into_iter();
            if let Some(first) = activated.next() {
                return Ok(Some((first, activated.collect())));
            }
        }
        let may_take = |entry: &Entry| fits(entry) && is_on(entry);
        let by_target = self
            .of_target(target)
            .filter(|(_, entry)| may_take(entry))
            .min_by_key(|(id, entry)| (entry.name().is_some(), *id));
        let found = by_target.map(|(id, _)| id).or_else(|| {
            let Target::Address(kind, address) = &endpoint.target else {
                return None;
            };
            let mut ids = self.index.address(*kind, address);
            ids.find(|id| self.entries.get(id).is_some_and(|entry| may_take(entry)))
        });
        Ok(found.map(|id| (id, Vec::new())))
    }

    /// What came by activation under this name and is of these kinds.
    fn activated(&self, name: &str, kinds: &[Kind]) -> Result<Vec<Id>, Problem> {
        let all = self.of_name(name).filter(|(_, entry)| {
            entry.is_unclaimed() && entry.is_activated() && !entry.has_kind(&[Kind::Descriptor])
        });
        let (fitting, others): (Vec<_>, Vec<_>) = all.partition(|(_, entry)| entry.has_kind(kinds));
        if fitting.is_empty() && !others.is_empty() {
            let found = others.iter().flat_map(|(_, entry)| entry.sockets());
            return Err(Problem::unexpected_kind(
                found.map(|socket| socket.kind()),
                kinds,
            ));
        }
        Ok(fitting.into_iter().map(|(id, _)| id).collect())
    }

    pub(super) fn adopt(
        &mut self,
        endpoint: &Endpoint,
        target: &str,
        first: Id,
        others: &[Id],
    ) -> Option<Claimed> {
        let others: Vec<_> = others.iter().filter_map(|id| self.remove(*id)).collect();
        let is_same = others.is_empty()
            && self.entries.get(&first).is_some_and(|entry| {
                new_name(endpoint, entry) == entry.name() && entry.target() == target
            });
        let adopt = |entry: &mut Entry| {
            for other in others {
                entry.append(*other);
            }
            if !is_same {
                let name = new_name(endpoint, entry).map(str::to_owned);
                entry.rename(name.as_deref(), target);
            }
            let options = &endpoint.options;
            let wanted = (*options != Options::default()).then(|| Box::new(options.clone()));
            entry.state = State::Adopted(wanted);
            let key = Arc::clone(entry.key());
            let mut warnings = Vec::new();
            if entry.missing() > 0 {
                warnings.push(format!(
                    "endpoint `{key}`: {} of its sockets did not come",
                    entry.missing()
                ));
            }
            for socket in entry.sockets() {
                settings::check(socket, &endpoint.options, &key, &mut warnings);
            }
            Claimed {
                key,
                sockets: entry.sockets().cloned().collect(),
                adopted: true,
                warnings,
            }
        };
        match self.entries.get_mut(&first) {
            // The usual case: it goes on being found by what it was found by.
            Some(entry) if is_same => Some(adopt(entry)),
            _ => self.change(first, adopt),
        }
    }

    /// Who has this path or abstract name.
    pub(super) fn holding(&self, kind: Kind, address: &Address) -> Option<(&Entry, &Arc<Socket>)> {
        // A path is a file, whatever kind of socket it is; abstract names are apart for each kind.
        let kinds = match address {
            Address::Path(_) => &[Kind::Unix, Kind::UnixSeqpacket, Kind::UnixDatagram][..],
            _ => std::slice::from_ref(&kind),
        };
        kinds.iter().find_map(|kind| {
            let id = self.index.address(*kind, address).next()?;
            let entry = &**self.entries.get(&id)?;
            let socket = entry.sockets().find(|socket| socket.address() == address)?;
            Some((entry, socket))
        })
    }

    /// Who has one of these addresses, or a wildcard over it, or is under the wildcard.
    pub(super) fn overlapping(
        &self,
        kind: Kind,
        endpoint: &Endpoint,
        addresses: &[SocketAddr],
    ) -> Option<(&Entry, &Arc<Socket>)> {
        if endpoint.options.configure.is_some() {
            return None;
        }
        let only_v6 = settings::only_v6(endpoint, addresses);
        let reuse = endpoint.options.reuse_port == Some(true);
        addresses
            .iter()
            .filter(|address| address.port() != 0)
            .find_map(|address| {
                let wanted = Claim {
                    address: *address,
                    only_v6,
                };
                self.candidates(kind, *address).find_map(|entry| {
                    let socket = entry.sockets().find(|socket| {
                        settings::claim(socket).is_some_and(|held| wanted.overlaps(held))
                    })?;
                    let shared = reuse && entry.is_claimed() && settings::shares_port(socket);
                    (!shared).then_some((entry, socket))
                })
            })
    }

    /// Who may overlap: for a wildcard everyone on the port, else only the address itself and the
    /// wildcards, so that binding one of ten thousand addresses does not look at all others.
    fn candidates(&self, kind: Kind, address: SocketAddr) -> impl Iterator<Item = &Entry> {
        let port = address.port();
        let everyone = address.ip().to_canonical().is_unspecified();
        let all = everyone.then(|| self.index.port(kind, port));
        let some = (!everyone).then(|| {
            let wildcards = [
                (Ipv4Addr::UNSPECIFIED, port).into(),
                (Ipv6Addr::UNSPECIFIED, port).into(),
            ];
            [address, wildcards[0], wildcards[1]]
                .into_iter()
                .flat_map(move |address| self.index.address(kind, &address.into()))
        });
        let ids = all.into_iter().flatten().chain(some.into_iter().flatten());
        ids.filter_map(|id| self.entries.get(&id).map(Box::as_ref))
    }

    /// Has systemd passed a connection in the place of a socket that listens?
    pub(super) fn has_connection(&self) -> bool {
        self.connection
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(Box::as_ref)
    }

    /// Those that came since, with their numbers.
    pub(super) fn iter_from(&self, id: Id) -> impl Iterator<Item = (Id, &Entry)> {
        self.entries.range(id..).map(|(id, entry)| (*id, &**entry))
    }

    /// Lets their states be changed; what they are found by must stay.
    pub(super) fn for_each_mut(&mut self, mut change: impl FnMut(&mut Entry)) {
        self.entries.values_mut().for_each(|entry| change(entry));
    }

    /// Finds an endpoint by [its key](Entry::key); the first of two, if one came late that was bound
    /// in the meantime.
    pub(super) fn by_key(&self, key: &str) -> Option<(Id, &Entry)> {
        let (name, target) = split_key(key);
        self.named(name, target)
    }

    /// Finds an endpoint by the parts of its key.
    pub(super) fn named(&self, name: Option<&str>, target: &str) -> Option<(Id, &Entry)> {
        let is_it = |(_, entry): &(Id, &Entry)| entry.name() == name && entry.target() == target;
        match name {
            Some(name) => self.of_name(name).find(is_it),
            None => self.of_target(target).find(is_it),
        }
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.index.reserve(more);
    }

    pub(super) fn of_name(&self, name: &str) -> impl Iterator<Item = (Id, &Entry)> {
        let ids = self.index.name(name);
        ids.filter_map(|id| Some((id, &**self.entries.get(&id)?)))
    }

    fn of_target(&self, target: &str) -> impl Iterator<Item = (Id, &Entry)> {
        let ids = self.index.target(target);
        ids.filter_map(|id| Some((id, &**self.entries.get(&id)?)))
    }

    pub(super) fn ids(&self, is_wanted: impl Fn(&Entry) -> bool) -> Vec<Id> {
        let wanted = self.entries.iter().filter(|(_, entry)| is_wanted(entry));
        wanted.map(|(id, _)| *id).collect()
    }
}

/// The name that the entry has from a claim on: activated sockets keep the one that they are known
/// by outside.
fn new_name<'a>(endpoint: &'a Endpoint, entry: &'a Entry) -> Option<&'a str> {
    match &endpoint.name {
        None if entry.is_activated() => entry.name(),
        name => name.as_deref(),
    }
}
