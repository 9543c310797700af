//! Where the connections of one endpoint leave to the successor, and arrive from the predecessor.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;

use super::backoff::Concern;
use super::conn::Conn;
use super::departure::{Cargo, Kept};
use super::gate::Gate;
use super::lane::{Lane, Told};
use super::manners::{Manners, bit};
use crate::lifecycle::counts::Place;
use crate::lifecycle::token::Token;
use crate::lifecycle::tracker::{Arrival, Tracked};
use crate::protocol::Manner;

/// One endpoint's end of the lanes: of that to the successor, for its connections, and of that from
/// the predecessor, for its listener.
pub(crate) struct Door {
    key: Arc<str>,
    /// Where its connections are counted.
    place: Place,
    lane: Arc<Lane>,
    gate: Arc<Gate>,

    /// What the successor takes, as a copy that costs one load.
    takes: AtomicU8,
    /// The epoch of the view, as another.
    epoch: AtomicU32,
    /// Made for the first who asks: most endpoints of a service that has thousands are never asked.
    watched: OnceLock<Watched>,

    /// What the service goes on with here.
    manners: AtomicU8,
    /// Whether somebody accepts here.
    attended: AtomicBool,
    arrivals: Mutex<Arrivals>,
    /// The length of the queue, as a copy that costs one load.
    queued: AtomicUsize,
}

/// What is told of changes.
struct Watched {
    view: watch::Sender<View>,
    migrating: Token,
}

/// What an endpoint can expect of the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    takes: Manners,
    /// Whether the successor has yet to say.
    expected: bool,
    /// Changes when somebody else may take connections: what was refused may be asked again.
    epoch: u32,
}

/// One manner's part of a [`View`], as it changes.
#[derive(Debug, Clone)]
pub(crate) struct Prospect {
    view: watch::Receiver<View>,
    manner: Manner,
}

#[derive(Default)]
struct Arrivals {
    queue: VecDeque<Conn>,
    /// Connections that were taken and are on their way into the queue.
    promised: usize,
    ended: bool,
}

impl Door {
    pub(crate) fn new(key: Arc<str>, lane: Arc<Lane>, gate: Arc<Gate>) -> Arc<Self> {
        let door = Arc::new(Self {
            key: Arc::clone(&key),
            place: lane.tracker().open_endpoint(&key),
            lane: Arc::clone(&lane),
            gate,
            takes: AtomicU8::new(0),
            epoch: AtomicU32::new(0),
            watched: OnceLock::new(),
            manners: AtomicU8::new(bit(Manner::Untouched)),
            attended: AtomicBool::new(false),
            arrivals: Mutex::default(),
            queued: AtomicUsize::new(0),
        });
        lane.add(key, &door);
        door
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(super) fn lane(&self) -> &Lane {
        &self.lane
    }

    /// Counts a connection. `socket` has to stay open until the result is dropped.
    pub(super) fn track(&self, socket: &impl AsFd, arrival: Arrival) -> Tracked {
        self.lane.tracker().track(socket, self.place, arrival)
    }

    /// Counts a failure of `accept(2)`.
    pub(super) fn failed(&self, concern: Concern) {
        self.lane
            .tracker()
            .failed(self.place, |counts| match concern {
                Concern::Connection => counts.vanished += 1,
                Concern::Resources => counts.lacking += 1,
                Concern::Listener => counts.broken += 1,
            });
    }

    /// Whether the successor takes connections in this manner, right now.
    pub(super) fn takes(&self, manner: Manner) -> bool {
        Manners::from_bits(self.takes.load(Ordering::Acquire)).has(manner)
    }

    /// Tells the times apart that somebody takes connections.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether somebody has yet to say what is taken.
    #[cfg(feature = "hyper")]
    pub(super) fn is_expectant(&self) -> bool {
        self.watched().view.borrow().expected
    }

    /// Reached when the successor takes connections that the application hands over.
    pub(super) fn migrating(&self) -> Token {
        self.watched().migrating.clone()
    }

    pub(super) fn prospect(&self, manner: Manner) -> Prospect {
        Prospect {
            view: self.watched().view.subscribe(),
            manner,
        }
    }

    /// Puts a connection on the lane, or gives it back at once.
    #[must_use]
    pub(super) fn leave(&self, manner: Manner, cargo: Cargo, kept: Kept) -> Option<(Cargo, Kept)> {
        self.lane.leave(&self.key, manner, cargo, kept)
    }

    pub(super) fn stand_in(&self) -> BorrowedFd<'_> {
        self.lane.stand_in()
    }

    pub(super) fn show(&self, view: View) {
        self.epoch.store(view.epoch, Ordering::Release);
        self.takes.store(view.takes.bits(), Ordering::Release);
        if let Some(watched) = self.watched.get() {
            watched.show(view);
        }
    }

    fn watched(&self) -> &Watched {
        if self.watched.get().is_none() {
            // In one step with looking, so that no change is missed in between.
            self.lane.with_view(&self.key, |view| {
                self.watched.get_or_init(|| Watched::new(view));
            });
        }
        self.watched.get().expect("it was made above")
    }

    /// Goes on with connections in this manner, too.
    pub(super) fn consent(&self, manner: Manner) {
        self.manners.fetch_or(bit(manner), Ordering::AcqRel);
        if self.attended.load(Ordering::Acquire) {
            self.lane.consent(&self.key);
        }
    }

    /// Notes that somebody accepts here.
    pub(super) fn attend(&self) {
        if !self.attended.swap(true, Ordering::AcqRel) {
            self.lane.consent(&self.key);
        }
    }

    /// What is taken from a predecessor; nothing is said before somebody accepts.
    pub(super) fn consents(&self) -> Option<Manners> {
        if self.arrivals().ended {
            return Some(Manners::default());
        }
        let manners = || Manners::from_bits(self.manners.load(Ordering::Acquire));
        self.attended.load(Ordering::Acquire).then(manners)
    }

    /// Reserves a place for a connection; not where nobody would serve it.
    pub(crate) fn promise(&self, manner: Manner) -> bool {
        if !self.consents().is_some_and(|manners| manners.has(manner)) {
            return false;
        }
        let mut arrivals = self.arrivals();
        if !arrivals.ended {
            arrivals.promised += 1;
        }
        !arrivals.ended
    }

    /// Gives a place back.
    pub(crate) fn disappoint(&self) {
        self.arrivals().promised -= 1;
        self.gate.wake();
    }

    /// Lets connections in, each on its promised place.
    pub(crate) fn admit(&self, connections: Vec<Conn>) {
        {
            let mut arrivals = self.arrivals();
            arrivals.promised -= connections.len();
            arrivals.queue.extend(connections);
            self.queued.store(arrivals.queue.len(), Ordering::Release);
        }
        self.gate.wake();
    }

    /// Whether connections have arrived that nobody has fetched.
    pub(super) fn has_arrivals(&self) -> bool {
        self.queued.load(Ordering::Acquire) > 0
    }

    /// The next connection that has arrived.
    pub(super) fn arrived(&self) -> Option<Conn> {
        let mut arrivals = self.arrivals();
        let next = arrivals.queue.pop_front();
        self.queued.store(arrivals.queue.len(), Ordering::Release);
        next
    }

    /// Ends the arrivals, unless there are some, or are to be.
    pub(super) fn end(&self) -> bool {
        let mut arrivals = self.arrivals();
        arrivals.ended |= arrivals.queue.is_empty() && arrivals.promised == 0;
        arrivals.ended
    }

    /// Tells that the listener has gone.
    pub(super) fn close(&self) {
        self.lane.tell(Told::Abandoned(Arc::clone(&self.key)));
    }

    /// Ends the arrivals, and gives those that nobody has fetched.
    pub(super) fn abandon(&self) -> VecDeque<Conn> {
        let mut arrivals = self.arrivals();
        arrivals.ended = true;
        self.queued.store(0, Ordering::Release);
        std::mem::take(&mut arrivals.queue)
    }

    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn new(view: View) -> Self {
        let watched = Self {
            view: watch::Sender::new(View::CLOSED),
            migrating: Token::new(),
        };
        watched.show(view);
        watched
    }

    fn show(&self, view: View) {
        if view.takes.has(Manner::Resumed) {
            self.migrating.cancel();
        }
        self.view.send_if_modified(|seen| {
            let before = std::mem::replace(seen, view);
            before != view
        });
    }
}

impl View {
    pub(super) const CLOSED: Self = Self {
        takes: Manners::from_bits(0),
        expected: false,
        epoch: 0,
    };

    pub(super) fn new(takes: Manners, expected: bool, epoch: u32) -> Self {
        Self {
            takes,
            expected,
            epoch,
        }
    }

    pub(super) fn takes(self) -> Manners {
        self.takes
    }
}

impl Prospect {
    /// Waits until the successor has said whether it takes such connections, or until nobody hopes
    /// for it any more.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub(crate) async fn decided(&mut self) -> bool {
        let manner = self.manner;
        let decided = |view: &View| view.takes.has(manner) || !view.expected;
        match self.view.wait_for(decided).await {
            Ok(view) => view.takes.has(manner),
            Err(_) => false,
        }
    }

    /// Tells the times apart that somebody takes connections.
    #[cfg(feature = "hyper")]
    pub(crate) fn epoch(&self) -> u32 {
        self.view.borrow().epoch
    }

    /// Waits until those who have taken such connections in that epoch take none any more.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    #[cfg(feature = "hyper")]
    pub(crate) async fn over(&mut self, epoch: u32) {
        let manner = self.manner;
        let over = |view: &View| !view.takes.has(manner) || view.epoch != epoch;
        // A door that has gone takes none either.
        drop(self.view.wait_for(over).await);
    }

    /// Whether it can still come true.
    #[cfg(feature = "hyper")]
    pub(crate) fn is_open(&self) -> bool {
        let view = self.view.borrow();
        view.expected || view.takes.has(self.manner)
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door")
            .field("key", &self.key)
            .field("takes", &self.takes.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(feature = "hyper")]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_took_connections_is_over_when_another_does() {
        let takes = Manners::from_bits(bit(Manner::Http1));
        let (tell, view) = watch::channel(View::new(takes, false, 1));
        let manner = Manner::Http1;
        let mut prospect = Prospect { view, manner };
        assert!(prospect.decided().await);
        let epoch = prospect.epoch();
        assert_eq!(prospect.over(epoch).now_or_never(), None);

        tell.send_replace(View::new(takes, false, 2));

        assert_eq!(prospect.over(epoch).now_or_never(), Some(()));
        assert!(prospect.is_open());
    }
}
