//! The sockets of this generation.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::address::Address;
use super::bind::{Bound, bind, resolve};
use super::claimed::Claimed;
use super::description::Description;
use super::endpoint::{Endpoint, Target};
use super::endpoints::Endpoints;
use super::entry::{Entry, State};
use super::error::{Error, Problem};
use super::index::Id;
use super::kind::Kind;
use super::settings;
use super::socket::Socket;
use super::verify::{self, Inherited};

/// The sockets of this generation, by endpoint.
///
/// An endpoint is *unclaimed* when it was inherited and the service did not ask for it yet,
/// *claimed* when it was adopted or bound by this generation, and *lent* when it is another
/// descriptor that the service keeps here for the next generation. A handover
/// [offers](Self::offer) all of them.
///
/// All methods take `&self`. The lock inside is held for one call, and never while one waits.
#[derive(Debug, Default)]
pub(crate) struct Store {
    inner: Mutex<Endpoints>,
    /// Told when an endpoint is opened or let go of.
    changed: Notify,
    /// Whether somebody outside keeps the sockets beyond the end of the service.
    kept: AtomicBool,
}

/// A moment in the life of a store.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mark(Id);

impl Store {
    /// A store with nothing in it.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Claims the endpoint: adopts it if it was inherited, or else binds it.
    ///
    /// `kinds` are those that the caller can use, [`Kind::STREAMS`] for a listener.
    ///
    /// # Errors
    ///
    /// If the endpoint is claimed already, overlaps another one, is of another kind, or cannot be
    /// bound.
    ///
    /// # Cancel safety
    ///
    /// It waits only for the address of a host name. Until then nothing has happened.
    pub(crate) async fn open(&self, endpoint: &Endpoint, kinds: &[Kind]) -> Result<Claimed, Error> {
        if let Some(claimed) = self.claim(endpoint, kinds)? {
            return Ok(claimed);
        }
        let addresses = resolve(endpoint).await?;
        if let Some(error) = self.overlap(endpoint, &addresses) {
            return Err(error);
        }
        let bound = bind(endpoint, &addresses)?;
        self.insert_bound(endpoint, bound)
    }

    /// Makes room for so many sockets.
    pub(crate) fn reserve(&self, sockets: usize) {
        self.lock().reserve(sockets);
    }

    /// Takes in a socket that came from the predecessor or by activation: unclaimed, for now.
    pub(crate) fn insert_inherited(&self, inherited: Inherited) {
        let mut held = self.lock();
        let entry = Entry::inherited(inherited);
        let known = held.named(entry.name(), entry.target());
        let known = known.filter(|(_, known)| known.is_unclaimed() && !known.is_activated());
        match known.map(|(id, _)| id) {
            Some(id) => {
                held.change(id, |known| known.join(entry));
            }
            None => held.insert(entry),
        }
    }

    /// Adopts the endpoint if it was inherited.
    ///
    /// The key is the name with the address, or with the kind if systemd has passed it; else the
    /// address alone: as it was asked for, or as it is bound.
    ///
    /// # Errors
    ///
    /// If this generation has claimed it already, or what goes by its name is of another kind.
    pub(crate) fn claim(
        &self,
        endpoint: &Endpoint,
        kinds: &[Kind],
    ) -> Result<Option<Claimed>, Error> {
        let endpoint = &*absolute(endpoint)?;
        let refuse = |problem| Error::adopt(endpoint, problem);
        let kind = endpoint.kind();
        let kinds = match &kind {
            Some(kind) if !kinds.contains(kind) => {
                let problem = Problem::unexpected_kind([*kind], kinds);
                return Err(Error::bind(endpoint, problem));
            }
            Some(kind) => std::slice::from_ref(kind),
            None => kinds,
        };
        let mut held = self.lock();
        let target = endpoint.target_text();
        held.check_unclaimed(endpoint, &target, kinds)
            .map_err(refuse)?;
        let found = held.find(endpoint, &target, kinds).map_err(refuse)?;
        self.changed.notify_one();
        match found {
            Some((first, others)) => Ok(held.adopt(endpoint, &target, first, &others)),
            None if held.has_connection() => Err(refuse(Problem::Connection)),
            None if endpoint.target == Target::Activated => Err(refuse(Problem::NotActivated)),
            None => Ok(None),
        }
    }

    /// Takes in what was bound for the endpoint: claimed.
    ///
    /// # Errors
    ///
    /// If it was claimed in the meantime; then what was bound is undone.
    pub(crate) fn insert_bound(
        &self,
        endpoint: &Endpoint,
        mut bound: Bound,
    ) -> Result<Claimed, Error> {
        let endpoint = &*absolute(endpoint)?;
        let mut held = self.lock();
        let kinds: Vec<_> = endpoint.kind().into_iter().collect();
        let target = endpoint.target_text();
        held.check_unclaimed(endpoint, &target, &kinds)
            .map_err(|problem| Error::bind(endpoint, problem))?;
        let warnings = std::mem::take(&mut bound.warnings);
        let entry = Entry::fresh(
            endpoint.given_name().map(str::to_owned),
            &target,
            State::Bound,
            bound.into_sockets().into_iter().map(Arc::new).collect(),
        );
        let claimed = Claimed {
            key: Arc::clone(entry.key()),
            sockets: entry.sockets().cloned().collect(),
            adopted: false,
            warnings,
        };
        held.insert(entry);
        self.changed.notify_one();
        Ok(claimed)
    }

    /// The error that binding this endpoint on these addresses would be, because of another
    /// endpoint that is held here.
    ///
    /// `SO_REUSEPORT` on both is no error, except where the other one is unclaimed: the kernel
    /// would go on handing connections to it. Where the endpoint has a closure of its own the
    /// kernel decides, since a socket can be bound to a device too.
    pub(crate) fn overlap(&self, endpoint: &Endpoint, addresses: &[SocketAddr]) -> Option<Error> {
        let held = self.lock();
        let (other, socket) = match &endpoint.target {
            Target::Address(kind, address @ (Address::Path(_) | Address::Abstract(_))) => {
                held.holding(*kind, address)
            }
            Target::Address(kind, _) | Target::Host(kind, ..) => {
                held.overlapping(*kind, endpoint, addresses)
            }
            Target::Activated => None,
        }?;
        let problem = Problem::Overlap {
            state: if other.is_claimed() {
                "the endpoint"
            } else {
                "the inherited endpoint"
            },
            other: other.key().to_string(),
            address: socket.address().to_string(),
        };
        Some(Error::bind(endpoint, problem))
    }

    /// Sets on adopted sockets what their endpoints ask for and the predecessor had not: backlog,
    /// mode and owner, and what connections inherit. Gives what could not be set.
    ///
    /// The predecessor uses the same sockets, so this has to wait until it no longer matters to
    /// it: after the Commit, or at once where there is no predecessor.
    pub(crate) fn apply_options(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        self.lock().for_each_mut(|entry| {
            if let Some(options) = entry.take_options() {
                let key = Arc::clone(entry.key());
                for socket in entry.sockets() {
                    settings::apply(socket, &options, &key, &mut warnings);
                }
            }
        });
        warnings
    }

    /// The keys of what was claimed, as the predecessor's Offer called them (for a fresh endpoint:
    /// as this generation calls it). Whether everything was that came before `until`; then those
    /// keys are left out.
    pub(crate) fn claimed_keys(&self, until: Mark) -> (bool, Vec<String>) {
        let held = self.lock();
        let is_left = |entry: &Entry| !entry.is_claimed() && !entry.has_kind(&[Kind::Descriptor]);
        let all = !held
            .iter_from(0)
            .any(|(id, entry)| id < until.0 && is_left(entry));
        let mut keys: Vec<_> = held
            .iter_from(if all { until.0 } else { 0 })
            .filter(|(_, entry)| entry.is_claimed())
            .flat_map(|(_, entry)| entry.predecessors_keys())
            .map(ToString::to_string)
            .collect();
        // The sockets of an activated endpoint were one before.
        keys.dedup();
        (all, keys)
    }

    /// How many endpoints there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().iter().count()
    }

    /// The keys of all that came before the mark.
    pub(crate) fn keys_until(&self, mark: Mark) -> Vec<String> {
        let held = self.lock();
        let offered = held.iter_from(0).take_while(|(id, _)| *id < mark.0);
        offered.map(|(_, entry)| entry.key().to_string()).collect()
    }

    /// The present moment.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.lock().next_id())
    }

    /// Closes what was inherited and not claimed, removes its paths, and gives its keys.
    ///
    /// What came by activation stays: systemd passes it once, and a later generation may want it.
    ///
    /// Only when the predecessor has exited, since it may serve on them until then, and not during
    /// a handover, since the successor may want them.
    pub(crate) fn close_unclaimed(&self) -> Vec<String> {
        let mut held = self.lock();
        self.changed.notify_one();
        let unclaimed = held.ids(|entry| entry.is_unclaimed() && !entry.is_activated());
        unclaimed
            .into_iter()
            .filter_map(|id| held.remove(id))
            .map(|entry| {
                for path in entry.sockets().filter_map(|socket| socket.path()) {
                    // What stays behind is stale, and replaced by the next who binds it.
                    path.remove().ok();
                }
                entry.key().to_string()
            })
            .collect()
    }

    /// The keys of what came by activation and was not claimed.
    pub(crate) fn unclaimed_by_activation(&self) -> Vec<String> {
        let held = self.lock();
        let unclaimed = held
            .iter()
            .filter(|entry| entry.is_unclaimed() && entry.is_activated());
        unclaimed.map(|entry| entry.key().to_string()).collect()
    }

    /// Everything there is, in the order in which it came, with its descriptors
    /// ([`Socket::descriptors`]); and the mark [after which](Self::came_after) comes what is not in
    /// it. `announce` is told beforehand how many there are.
    pub(crate) fn offer(
        &self,
        announce: impl FnOnce(usize),
    ) -> (Vec<(Description, Arc<Socket>)>, Mark) {
        let held = self.lock();
        let count = held.iter().map(|entry| entry.sockets().count()).sum();
        announce(count);
        let mut all = Vec::with_capacity(count);
        all.extend(held.iter().flat_map(Entry::describe));
        (all, Mark(held.next_id()))
    }

    /// Whether there is an endpoint of [this key](Claimed::key), and it came after the mark.
    pub(crate) fn came_after(&self, key: &str, mark: Mark) -> bool {
        let held = self.lock();
        held.by_key(key).is_some_and(|(id, _)| id >= mark.0)
    }

    /// The same of one endpoint, by [its key](Claimed::key).
    pub(crate) fn offer_of(&self, key: &str) -> Vec<(Description, Arc<Socket>)> {
        let held = self.lock();
        let entry = held.by_key(key);
        entry.map_or_else(Vec::new, |(_, entry)| entry.describe().collect())
    }

    /// Gives a copy of a lent or inherited descriptor, which goes on being offered.
    ///
    /// Several that systemd has passed under one name come out one after the other, and then the
    /// first again.
    ///
    /// # Errors
    ///
    /// If it cannot be duplicated.
    pub(crate) fn take(&self, name: &str) -> io::Result<Option<OwnedFd>> {
        let mut held = self.lock();
        let others = held
            .of_name(name)
            .filter(|(_, entry)| !entry.is_claimed() && entry.has_kind(&[Kind::Descriptor]));
        let Some((id, entry)) = others.min_by_key(|(id, entry)| (!entry.is_unclaimed(), *id))
        else {
            return Ok(None);
        };
        let descriptor = match entry.sockets().next() {
            Some(socket) => socket.as_fd().try_clone_to_owned()?,
            None => return Ok(None),
        };
        held.change(id, |entry| entry.state = State::Lent);
        Ok(Some(descriptor))
    }

    /// Keeps a descriptor for the next generation, in the place of those that have the same name.
    ///
    /// # Errors
    ///
    /// If it cannot be made CLOEXEC, which is to say, if it is none.
    pub(crate) fn lend(&self, name: &str, descriptor: OwnedFd) -> io::Result<()> {
        let socket = verify::lent(descriptor)?;
        let mut held = self.lock();
        let replaced: Vec<_> = held
            .of_name(name)
            .filter(|(_, entry)| entry.has_kind(&[Kind::Descriptor]))
            .map(|(id, _)| id)
            .collect();
        for id in replaced {
            held.remove(id);
        }
        held.insert(Entry::fresh(
            Some(name.to_owned()),
            Kind::Descriptor.prefix(),
            State::Lent,
            vec![Arc::new(socket)],
        ));
        Ok(())
    }

    /// Lets go of an endpoint that the service listens on no longer, by [its key](Claimed::key).
    ///
    /// The sockets close when the listener has dropped them too. Their paths stay, unless the
    /// caller knows that nobody else serves on them, and [removes](Socket::remove_path) them.
    pub(crate) fn release(&self, key: &str) -> Vec<Arc<Socket>> {
        let mut held = self.lock();
        let id = held.by_key(key).map(|(id, _)| id);
        let entry = id.and_then(|id| held.remove(id));
        self.changed.notify_one();
        entry.map_or_else(Vec::new, |entry| entry.sockets().cloned().collect())
    }

    /// Lets go of every endpoint, but of no other descriptor: this generation accepts no more.
    ///
    /// The sockets close when their listeners have dropped them too. Their paths stay.
    pub(crate) fn close(&self) {
        self.close_but(&HashSet::new());
    }

    /// The same, but for some, by [their keys](Claimed::key).
    pub(crate) fn close_but(&self, keys: &HashSet<String>) {
        let is_wanted =
            |entry: &Entry| !entry.has_kind(&[Kind::Descriptor]) && !keys.contains(&**entry.key());
        let mut held = self.lock();
        for id in held.ids(is_wanted) {
            held.remove(id);
        }
    }

    /// Removes all paths, on the final stop, unless the sockets are kept outside. Gives what could not
    /// be removed.
    pub(crate) fn remove_paths(&self) -> Vec<String> {
        self.remove_paths_but(&HashSet::new())
    }

    /// The same, but for those of some endpoints, by [their keys](Claimed::key).
    pub(crate) fn remove_paths_but(&self, keys: &HashSet<String>) -> Vec<String> {
        match self.kept.load(Ordering::Relaxed) {
            true => Vec::new(),
            false => self.remove_paths_of(|entry| !keys.contains(&**entry.key())),
        }
    }

    /// Notes that somebody outside keeps the sockets, so that clients can go on to connect when the
    /// service has ended: the paths must stay.
    #[allow(
        dead_code,
        reason = "only integrations keep sockets, and each is a feature"
    )]
    pub(crate) fn set_kept(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Waits until an endpoint was opened or let go of, since this was last waited for. For one that
    /// waits.
    #[allow(
        dead_code,
        reason = "only integrations wait for it, and each is a feature"
    )]
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Removes the paths that this generation bound itself, when it fails before it has served.
    /// Gives what could not be removed.
    pub(crate) fn remove_bound_paths(&self) -> Vec<String> {
        self.remove_paths_of(|entry| matches!(entry.state, State::Bound))
    }

    fn remove_paths_of(&self, is_wanted: impl Fn(&Entry) -> bool) -> Vec<String> {
        let held = self.lock();
        let wanted = held.iter().filter(|entry| is_wanted(entry));
        wanted
            .flat_map(Entry::sockets)
            .filter_map(|socket| {
                let error = socket.remove_path().err()?;
                Some(format!("could not remove {}: {error}", socket.address()))
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Endpoints> {
        // A panic in here would leave an endpoint out; the others are as good as before.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The endpoint as it is kept: checked, and with an absolute path, so that a key means the same
/// file wherever the next generation is started.
fn absolute(endpoint: &Endpoint) -> Result<Cow<'_, Endpoint>, Error> {
    endpoint
        .check()
        .map_err(Problem::from)
        .and_then(|()| {
            endpoint
                .absolute()
                .map_err(|error| Problem::io("find the working directory", error))
        })
        .map_err(|problem| Error::bind(endpoint, problem))
}

#[cfg(test)]
mod tests;
