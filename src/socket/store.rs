//! The sockets of this generation.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use super::bind::Bound;
use super::description::Description;
use super::endpoint::Endpoint;
use super::error::Error;
use super::kind::Kind;
use super::socket::Socket;
use super::verify::Inherited;

/// The sockets of this generation, by endpoint: claimed, unclaimed and lent.
///
/// All methods take `&self`; the lock inside is never held for longer than one call.
#[derive(Debug, Default)]
pub(crate) struct Store {
    inner: Mutex<()>,
}

/// An endpoint that this generation has claimed.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// What a later Offer of this generation calls it, and [`Store::release`].
    pub(crate) key: String,
    /// One, or several behind one listener.
    pub(crate) sockets: Vec<Arc<Socket>>,
    /// Was it inherited?
    pub(crate) adopted: bool,
    /// What the caller should log, such as options that the socket cannot take any more.
    pub(crate) warnings: Vec<String>,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Claims the endpoint if it was inherited, or else binds it.
    ///
    /// `kinds` are those that the caller can use: [`Kind::STREAMS`] for a listener.
    pub(crate) async fn open(&self, endpoint: &Endpoint, kinds: &[Kind]) -> Result<Claimed, Error> {
        todo!("{endpoint} {kinds:?}")
    }

    /// Takes in a socket that came from the predecessor or by activation: unclaimed, for now.
    pub(crate) fn insert_inherited(&self, inherited: Inherited) {
        todo!("{inherited:?}")
    }

    /// Adopts the endpoint if it was inherited.
    pub(crate) fn claim(
        &self,
        endpoint: &Endpoint,
        kinds: &[Kind],
    ) -> Result<Option<Claimed>, Error> {
        todo!("{endpoint} {kinds:?}")
    }

    /// Takes in what was bound for the endpoint: claimed.
    pub(crate) fn insert_bound(&self, endpoint: &Endpoint, bound: Bound) -> Result<Claimed, Error> {
        todo!("{endpoint} {bound:?}")
    }

    /// Sets on adopted sockets what their endpoints ask for and the predecessor had not: backlog,
    /// mode and owner. Gives what could not be set.
    ///
    /// The predecessor uses the same sockets, so this has to wait until it no longer matters to
    /// it: after the Commit, or at once where there is no predecessor.
    pub(crate) fn apply_options(&self) -> Vec<String> {
        todo!()
    }

    /// The keys of what was claimed, as the predecessor's Offer called it (for a fresh endpoint: as
    /// this generation calls it).
    pub(crate) fn claimed_keys(&self) -> Vec<String> {
        todo!()
    }

    /// The keys of what was inherited and not claimed.
    pub(crate) fn unclaimed(&self) -> Vec<String> {
        todo!()
    }

    /// Closes what was inherited and not claimed, removes its paths, and gives its keys.
    ///
    /// Only when the predecessor has exited: it may serve on them until then.
    pub(crate) fn close_unclaimed(&self) -> Vec<String> {
        todo!()
    }

    /// Everything there is, in the order in which it came, with its descriptors
    /// ([`Socket::descriptors`]).
    pub(crate) fn offer(&self) -> Vec<(Description, Arc<Socket>)> {
        todo!()
    }

    /// The same of one endpoint, by [its key](Claimed::key).
    pub(crate) fn offer_of(&self, key: &str) -> Vec<(Description, Arc<Socket>)> {
        todo!("{key}")
    }

    /// Gives a lent or inherited descriptor away: it is offered no more, unless it is lent again.
    pub(crate) fn take(&self, name: &str) -> Option<OwnedFd> {
        todo!("{name}")
    }

    /// Keeps a descriptor for the next generation, in the place of one that has the same name.
    pub(crate) fn lend(&self, name: &str, descriptor: OwnedFd) {
        todo!("{name} {descriptor:?}")
    }

    /// Lets go of an endpoint that the service listens on no longer, and removes its path.
    pub(crate) fn release(&self, key: &str) {
        todo!("{key}")
    }

    /// Removes all paths, on the final stop. Gives what could not be removed.
    pub(crate) fn remove_paths(&self) -> Vec<String> {
        todo!()
    }

    /// Removes the paths that this generation bound itself: it failed before it served.
    pub(crate) fn remove_bound_paths(&self) -> Vec<String> {
        todo!()
    }
}
