//! The way of established connections to the successor, as this generation's connections see it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::departure::{Cargo, Departure, Kept};
use super::door::{Door, View};
use super::manners::Manners;
use crate::lifecycle::tracker::Tracker;
use crate::protocol::Manner;
use crate::socket::KeyMap;

/// The lane: whether the successor takes connections, how many, and those that wait to be sent.
///
/// The lifecycle task opens and closes it, and sends what waits in it; connections only leave
/// through it. Every connection in it is given back or has moved, whatever happens to the successor.
pub(crate) struct Lane {
    inner: Mutex<Inner>,
    tracker: Arc<Tracker>,
    tell: Box<dyn Fn(Told) + Send + Sync>,
    /// What a connection that has left shows as its descriptor.
    stand_in: OnceLock<UnixDatagram>,
    /// The endpoints of which it was told that they take other connections than before, and nobody has
    /// heard it yet.
    consenting: Mutex<Vec<Arc<str>>>,
}

/// What the lifecycle task is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// A connection waits to be sent, after a time when none did.
    Departing,
    /// An endpoint of this generation takes other connections than before.
    Consenting,
    /// Nobody listens on an endpoint any more: its listener was dropped.
    Abandoned(Arc<str>),
}

/// How far a lane is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// There is no successor, or none that could take connections.
    #[default]
    Closed,
    /// There is one that may take some. What it has said is kept until this generation has let go.
    /// Or there was one, which is itself being replaced.
    Expected,
    /// This generation has let go: they move as soon as the successor says that it takes them.
    Open,
}

#[derive(Default)]
struct Inner {
    stage: Stage,
    /// Counts the times that somebody else may take connections.
    epoch: u32,
    /// Whether an endpoint of which the successor has said nothing is no longer hoped for.
    decided: bool,
    credit: u64,
    takes: HashMap<String, Manners>,
    doors: KeyMap<Arc<str>, Weak<Door>>,
    waiting: HashMap<String, VecDeque<Departure>>,
    count: usize,
}

impl Lane {
    pub(crate) fn new(
        tracker: Arc<Tracker>,
        tell: impl Fn(Told) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            tracker,
            tell: Box::new(tell),
            stand_in: OnceLock::new(),
            consenting: Mutex::default(),
        })
    }

    /// The count of connections that the lane works with.
    pub(crate) fn tracker(&self) -> &Arc<Tracker> {
        &self.tracker
    }

    /// The door of an endpoint that is open.
    pub(crate) fn door(&self, key: &str) -> Option<Arc<Door>> {
        self.lock().doors.get(key).and_then(Weak::upgrade)
    }

    /// What each endpoint of this generation takes from a predecessor.
    pub(crate) fn consents(&self) -> Vec<(String, Manners)> {
        self.lock()
            .doors
            .iter()
            .filter_map(|(key, door)| Some((key.to_string(), door.upgrade()?.consents()?)))
            .collect()
    }

    /// The same for those that have changed since they were last asked for like this.
    pub(crate) fn hear_consents(&self) -> Vec<(String, Manners)> {
        let changed = std::mem::take(&mut *self.consenting());
        let inner = self.lock();
        let consents = |key: Arc<str>| {
            let door = inner.doors.get(&key).and_then(Weak::upgrade)?;
            Some((key.to_string(), door.consents()?))
        };
        changed.into_iter().filter_map(consents).collect()
    }

    /// Announces a successor that may take connections. Before the drain is told, so that nobody
    /// says goodbye too early.
    pub(crate) fn expect(&self) {
        let mut inner = self.lock();
        if inner.stage == Stage::Closed {
            inner.stage = Stage::Expected;
            inner.show();
        }
    }

    /// What the successor takes may move: this generation has let go, or another one has taken the
    /// place of a successor that was [replaced](Self::suspend).
    pub(crate) fn open(&self) {
        let takes_any = {
            let mut inner = self.lock();
            if inner.stage != Stage::Expected {
                return;
            }
            inner.stage = Stage::Open;
            inner.decided = false;
            inner.epoch += 1;
            inner.show();
            !inner.takes.is_empty()
        };
        if takes_any {
            self.tracker.wake_waiting();
        }
    }

    /// The successor is itself being replaced: what it has granted counts no longer, and what was
    /// not sent is given back. Whoever comes after it may take connections.
    pub(crate) fn suspend(&self) {
        let waiting = {
            let mut inner = self.lock();
            if inner.stage == Stage::Closed {
                return;
            }
            inner.stage = Stage::Expected;
            inner.decided = false;
            inner.epoch += 1;
            inner.credit = 0;
            inner.takes.clear();
            inner.show();
            inner.count = 0;
            std::mem::take(&mut inner.waiting)
        };
        waiting.into_values().flatten().for_each(Departure::keep);
    }

    /// Tells the times apart that somebody may take connections.
    pub(crate) fn epoch(&self) -> u32 {
        self.lock().epoch
    }

    /// The successor says what it takes; the last word counts.
    ///
    /// # Errors
    ///
    /// When this process lacks the one descriptor that it takes; it stays as it was then.
    pub(crate) fn grant(
        &self,
        credit: u64,
        consents: impl IntoIterator<Item = (String, Manners)>,
    ) -> io::Result<()> {
        if self.stand_in.get().is_none() {
            // Whoever comes second has one too many, which is closed.
            self.stand_in.set(UnixDatagram::unbound()?).ok();
        }
        {
            let mut inner = self.lock();
            if inner.stage == Stage::Closed {
                return Ok(());
            }
            inner.credit = credit.saturating_sub(inner.count as u64);
            let open = inner.stage == Stage::Open;
            for (key, manners) in consents {
                let door = inner.doors.get(&*key).and_then(Weak::upgrade);
                inner.takes.insert(key.clone(), manners);
                if let Some(door) = door.filter(|_| open) {
                    door.show(inner.view(&key));
                }
            }
            if !open {
                return Ok(());
            }
        }
        self.tracker.wake_waiting();
        Ok(())
    }

    /// Hopes no longer for endpoints of which nobody has said anything, if nothing has changed since
    /// that epoch.
    pub(crate) fn decide(&self, epoch: u32) {
        let mut inner = self.lock();
        if inner.epoch == epoch {
            inner.decided = true;
            inner.show();
        }
    }

    /// Closes the lane, and gives back what was not sent.
    pub(crate) fn close(&self) {
        let waiting = {
            let mut inner = self.lock();
            inner.stage = Stage::Closed;
            inner.show();
            inner.count = 0;
            std::mem::take(&mut inner.waiting)
        };
        waiting.into_values().flatten().for_each(Departure::keep);
    }

    /// Takes the next connections that are to be sent together, all of one endpoint.
    pub(crate) fn take(&self, most: usize) -> Option<(String, Vec<Departure>)> {
        if most == 0 {
            return None;
        }
        let mut inner = self.lock();
        let key = inner.waiting.keys().next()?.clone();
        let waiting = inner.waiting.get_mut(&key)?;
        let batch: Vec<_> = waiting.drain(..most.min(waiting.len())).collect();
        if waiting.is_empty() {
            inner.waiting.remove(&key);
        }
        inner.count -= batch.len();
        Some((key, batch))
    }

    /// Whether every connection of this generation waits in it.
    pub(crate) fn is_complete(&self) -> bool {
        let waiting = self.lock().count;
        waiting >= self.tracker.open()
    }

    /// Makes room for so many endpoints more.
    pub(crate) fn reserve(&self, more: usize) {
        self.lock().doors.reserve(more);
        self.tracker.reserve_endpoints(more);
    }

    pub(super) fn add(&self, key: Arc<str>, door: &Arc<Door>) {
        let mut inner = self.lock();
        let view = inner.view(&key);
        inner.doors.insert(key, Arc::downgrade(door));
        door.show(view);
    }

    /// Looks at what an endpoint can expect, which does not change meanwhile.
    pub(super) fn with_view(&self, key: &str, look: impl FnOnce(View)) {
        let inner = self.lock();
        look(inner.view(key));
    }

    /// Forgets an endpoint that is closed: nothing of it moves, and a service may open many in its
    /// life.
    pub(crate) fn remove(&self, key: &str) {
        self.lock().doors.remove(key);
        self.tracker.close_endpoint(key);
    }

    pub(super) fn tell(&self, told: Told) {
        (self.tell)(told);
    }

    /// Tells that an endpoint takes other connections than before, unless that of another was told and
    /// not [heard](Self::hear_consents) yet.
    pub(super) fn consent(&self, key: &Arc<str>) {
        let first = {
            let mut consenting = self.consenting();
            consenting.push(Arc::clone(key));
            consenting.len() == 1
        };
        if first {
            self.tell(Told::Consenting);
        }
    }

    fn consenting(&self) -> MutexGuard<'_, Vec<Arc<str>>> {
        // Whatever happens under this lock leaves it consistent.
        self.consenting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a connection on the lane, or gives it back at once.
    #[must_use]
    pub(super) fn leave(
        &self,
        key: &str,
        manner: Manner,
        cargo: Cargo,
        kept: Kept,
    ) -> Option<(Cargo, Kept)> {
        let mut inner = self.lock();
        if !inner.view(key).takes().has(manner) || inner.credit == 0 || self.tracker.is_aborted() {
            return Some((cargo, kept));
        }
        inner.credit -= 1;
        inner.count += 1;
        let first = inner.count == 1;
        let departure = Departure::new(manner, cargo, kept);
        match inner.waiting.get_mut(key) {
            Some(waiting) => waiting.push_back(departure),
            None => {
                inner
                    .waiting
                    .insert(key.to_owned(), VecDeque::from([departure]));
            }
        }
        drop(inner);
        if first {
            self.tell(Told::Departing);
        }
        None
    }

    /// A descriptor that is open and of no use.
    pub(super) fn stand_in(&self) -> BorrowedFd<'_> {
        self.stand_in
            .get()
            .expect("no connection leaves before the lane is open, which makes it")
            .as_fd()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code of others runs under this lock, so a poisoned one is still consistent.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn view(&self, key: &str) -> View {
        let takes = self.takes.get(key).copied();
        match self.stage {
            Stage::Closed => View::CLOSED,
            Stage::Expected => View::new(Manners::default(), !self.decided, self.epoch),
            Stage::Open => {
                let expected = takes.is_none() && !self.decided;
                View::new(takes.unwrap_or_default(), expected, self.epoch)
            }
        }
    }

    fn show(&self) {
        for (key, door) in &self.doors {
            if let Some(door) = door.upgrade() {
                door.show(self.view(key));
            }
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("Lane")
            .field("stage", &inner.stage)
            .field("credit", &inner.credit)
            .field("waiting", &inner.count)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;

    #[test]
    fn what_endpoints_take_is_told_once_until_it_is_heard() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tracker = Arc::new(Tracker::new(Arc::new(Notify::new())));
        let lane = {
            let told = Arc::clone(&told);
            Lane::new(tracker, move |what| told.lock().unwrap().push(what))
        };
        for times in 1..=2 {
            lane.consent(&Arc::from("one"));
            lane.consent(&Arc::from("two"));
            assert_eq!(*told.lock().unwrap(), vec![Told::Consenting; times]);
            assert_eq!(lane.hear_consents(), [], "neither is open");
        }
    }
}
