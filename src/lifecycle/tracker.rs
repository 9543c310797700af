//! The count of open connections, by endpoint, and the means to end them.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, SockaddrStorage, UnixAddr, getpeername, getsockname, shutdown};
use tokio::sync::Notify;

use super::counts::{Counts, Place, Tallies, Tally};

/// Every connection that this generation owns, by slot.
///
/// The invariant on which [`abort`](Self::abort) rests: while a slot is taken its descriptor is
/// open and is that connection's. A connection gives its slot back before it closes the
/// descriptor, under the same lock under which descriptors are shut down.
#[derive(Debug)]
pub(crate) struct Tracker {
    slots: Mutex<Slots>,
    aborted: AtomicBool,
    /// How many servers wait for ever at the end of their listener.
    resting: AtomicUsize,
    /// Told when the last connection has gone, and when a server comes to rest.
    empty: Arc<Notify>,
    /// Told when counts have changed since whoever watches has last looked.
    #[allow(dead_code, reason = "only integrations watch, and each is a feature")]
    changed: Notify,
}

/// How a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// From the kernel's queue.
    Accepted,
    /// From the predecessor.
    Received,
}

/// An open connection, as it is told to an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(dead_code, reason = "only an integration tells, which is a feature")]
pub(crate) struct Open {
    pub(crate) age: Duration,
    /// The address of the other end; empty for the socket of a client that has none.
    pub(crate) peer: String,
    pub(crate) local: String,
}

/// A server that waits for ever at the end of its listener.
#[derive(Debug)]
pub(crate) struct Resting(Arc<Tracker>);

/// The place of one connection in the count, given back on drop.
#[derive(Debug)]
pub(crate) struct Tracked {
    tracker: Arc<Tracker>,
    slot: usize,
}

#[derive(Debug, Default)]
struct Slots {
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    tallies: Tallies,
    draining: bool,
    /// Whether counts have changed that somebody who watches has not seen.
    unseen: bool,
}

#[derive(Debug)]
struct Entry {
    descriptor: RawFd,
    endpoint: Place,
    since: Instant,
    /// Whether another process may own it as well: it must not be shut down then.
    lent: bool,
    /// Whether it was shut down.
    cut: bool,
    /// Who is to be woken when connections may move.
    waiting: Option<Waker>,
}

impl Tracker {
    pub(crate) fn new(empty: Arc<Notify>) -> Self {
        Self {
            slots: Mutex::new(Slots {
                // Until somebody watches nobody has to be told.
                unseen: true,
                ..Slots::default()
            }),
            aborted: AtomicBool::new(false),
            resting: AtomicUsize::new(0),
            empty,
            changed: Notify::new(),
        }
    }

    /// The place of an endpoint on which somebody listens from here on.
    pub(crate) fn open_endpoint(&self, key: &Arc<str>) -> Place {
        self.lock().tallies.open(key)
    }

    /// Makes room for so many endpoints more.
    pub(crate) fn reserve_endpoints(&self, more: usize) {
        self.lock().tallies.reserve(more);
    }

    /// Nobody listens on the endpoint any more; its connections go on.
    pub(crate) fn close_endpoint(&self, key: &str) {
        self.lock().tallies.close(key);
    }

    /// Counts a connection. `socket` has to stay open until the result is dropped.
    pub(crate) fn track(
        self: &Arc<Self>,
        socket: &impl AsFd,
        endpoint: Place,
        arrival: Arrival,
    ) -> Tracked {
        let descriptor = socket.as_fd().as_raw_fd();
        let mut slots = self.lock();
        let counts = slots.tallies.at(endpoint);
        counts.open += 1;
        match arrival {
            Arrival::Accepted => counts.accepted += 1,
            Arrival::Received => counts.received += 1,
        }
        let entry = Some(Entry {
            descriptor,
            endpoint,
            since: Instant::now(),
            lent: false,
            cut: false,
            waiting: None,
        });
        let slot = match slots.free.pop() {
            Some(slot) => {
                slots.entries[slot] = entry;
                slot
            }
            None => {
                slots.entries.push(entry);
                slots.entries.len() - 1
            }
        };
        // Under the lock: an abort either sees the entry or has set the flag before.
        if self.is_aborted() {
            slots.cut(slot);
        }
        let news = !std::mem::replace(&mut slots.unseen, true);
        drop(slots);
        if news {
            self.changed.notify_one();
        }
        Tracked {
            tracker: Arc::clone(self),
            slot,
        }
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        let slots = self.lock();
        slots.entries.len() - slots.free.len()
    }

    /// What was counted so far, of all endpoints together.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().tallies.sum()
    }

    /// What was counted so far, of each endpoint and of those that are forgotten.
    pub(crate) fn tallies(&self) -> (Vec<Tally>, Counts) {
        self.lock().tallies.all()
    }

    /// [`tallies`](Self::tallies) for the one who watches: the next change after it is told.
    #[allow(dead_code, reason = "only integrations watch, and each is a feature")]
    pub(crate) fn watched_tallies(&self) -> (Vec<Tally>, Counts) {
        let mut slots = self.lock();
        slots.unseen = false;
        slots.tallies.all()
    }

    /// Waits until counts have changed since the last [`watched_tallies`](Self::watched_tallies).
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    #[allow(dead_code, reason = "only integrations watch, and each is a feature")]
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Counts a failure of `accept(2)`.
    pub(crate) fn failed(&self, endpoint: Place, count: impl FnOnce(&mut Counts)) {
        let mut slots = self.lock();
        count(slots.tallies.at(endpoint));
        let news = !std::mem::replace(&mut slots.unseen, true);
        drop(slots);
        if news {
            self.changed.notify_one();
        }
    }

    /// From here on connections that end by themselves have drained.
    pub(crate) fn drain(&self) {
        self.lock().draining = true;
    }

    /// The age of the oldest open connection.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.lock()
            .entries
            .iter()
            .flatten()
            .map(|entry| entry.since)
            .min()
            .map(|i| i.elapsed())
    }

    /// The connections that are open for the longest time, the oldest first.
    #[allow(dead_code, reason = "only an integration tells, which is a feature")]
    pub(crate) fn oldest_connections(&self, most: usize) -> Vec<Open> {
        let slots = self.lock();
        let mut open: Vec<_> = slots.entries.iter().flatten().collect();
        let most = most.min(open.len());
        if most > 0 {
            open.select_nth_unstable_by_key(most - 1, |entry| entry.since);
        }
        open.truncate(most);
        open.sort_unstable_by_key(|entry| entry.since);
        // Under the lock, under which none of the descriptors is closed.
        open.into_iter()
            .map(|entry| Open {
                age: entry.since.elapsed(),
                peer: address(getpeername(entry.descriptor)),
                local: address(getsockname(entry.descriptor)),
            })
            .collect()
    }

    /// Ends every connection, open or to come, and returns how many were open.
    ///
    /// `shutdown(2)` wakes whoever waits for the socket, in whichever task, through TLS and split
    /// halves; nothing has to be looked at on the way of ordinary reads and writes.
    pub(crate) fn abort(&self) -> usize {
        let mut slots = self.lock();
        self.aborted.store(true, Ordering::SeqCst);
        (0..slots.entries.len())
            .filter(|&slot| slots.cut(slot))
            .count()
    }

    /// Wakes every connection that waits for it.
    pub(crate) fn wake_waiting(&self) {
        let waiting: Vec<_> = self
            .lock()
            .entries
            .iter_mut()
            .flatten()
            .filter_map(|entry| entry.waiting.take())
            .collect();
        // Whoever is woken may come here at once.
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::SeqCst)
    }

    /// Notes that a server waits at the end of its listener until the result is dropped.
    pub(crate) fn rest(self: &Arc<Self>) -> Resting {
        self.resting.fetch_add(1, Ordering::SeqCst);
        self.empty.notify_one();
        Resting(Arc::clone(self))
    }

    /// Whether some server waits at the end of its listener.
    pub(crate) fn is_resting(&self) -> bool {
        self.resting.load(Ordering::SeqCst) > 0
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        // No code of others runs under this lock, so a poisoned one is still consistent.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracked {
    /// Whether the drain of this generation has been aborted.
    pub(crate) fn is_aborted(&self) -> bool {
        self.tracker.is_aborted()
    }

    /// Notes that another process may own the connection as well.
    pub(crate) fn lend(&self) {
        if let Some(entry) = &mut self.tracker.lock().entries[self.slot] {
            entry.lent = true;
        }
    }

    /// Notes that no other process owns it; an abort meanwhile meets it now.
    pub(crate) fn reclaim(&self) {
        let mut slots = self.tracker.lock();
        if let Some(entry) = &mut slots.entries[self.slot] {
            entry.lent = false;
            if self.tracker.is_aborted() {
                slots.cut(self.slot);
            }
        }
    }

    /// Has a task woken when connections may move.
    pub(crate) fn wait(&self, waker: &Waker) {
        let before = {
            let mut slots = self.tracker.lock();
            let Some(entry) = &mut slots.entries[self.slot] else {
                return;
            };
            match &entry.waiting {
                Some(waiting) if waiting.will_wake(waker) => None,
                _ => entry.waiting.replace(waker.clone()),
            }
        };
        // The end of a task, and of all that it owns, may hang on it.
        drop(before);
    }

    /// Has nobody woken any more.
    pub(crate) fn wait_no_more(&self) {
        let before = {
            let mut slots = self.tracker.lock();
            let entry = slots.entries[self.slot].as_mut();
            entry.and_then(|entry| entry.waiting.take())
        };
        // As above.
        drop(before);
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        self.0.resting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let mut slots = self.tracker.lock();
        let entry = slots.entries[self.slot].take();
        slots.free.push(self.slot);
        let last = slots.free.len() == slots.entries.len();
        let draining = slots.draining;
        if let Some(entry) = &entry {
            let counts = slots.tallies.at(entry.endpoint);
            match entry {
                Entry { lent: true, .. } => counts.sent += 1,
                Entry { cut: true, .. } => {}
                _ => counts.drained += u64::from(draining),
            }
            slots.tallies.gone(entry.endpoint);
        }
        let news = !std::mem::replace(&mut slots.unseen, true);
        drop(slots);
        if news {
            self.tracker.changed.notify_one();
        }
        // Outside the lock: the end of a task, and of all that it owns, may hang on its waker.
        drop(entry);
        if last {
            self.tracker.empty.notify_one();
        }
    }
}

impl Slots {
    /// Shuts a connection down, unless another process may own it as well; tells whether it did.
    fn cut(&mut self, slot: usize) -> bool {
        let Some(entry) = self.entries[slot].as_mut().filter(|entry| !entry.lent) else {
            return false;
        };
        end(entry.descriptor);
        if !std::mem::replace(&mut entry.cut, true) {
            self.tallies.at(entry.endpoint).aborted += 1;
        }
        true
    }
}

/// The address as text; none is that of a Unix socket without a name, or of one whose peer has gone.
fn address(address: nix::Result<SockaddrStorage>) -> String {
    let Ok(address) = address else {
        return String::new();
    };
    let path = |unix: &UnixAddr| Some(unix.path()?.display().to_string());
    (address.as_sockaddr_in().map(ToString::to_string))
        .or_else(|| address.as_sockaddr_in6().map(ToString::to_string))
        .or_else(|| address.as_unix_addr().and_then(path))
        .unwrap_or_default()
}

/// Fails only for a connection whose peer has gone already (`ENOTCONN`), which is as well.
fn end(descriptor: RawFd) {
    shutdown(descriptor, Shutdown::Both).ok();
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use futures::FutureExt;

    use super::*;

    fn tracker() -> (Arc<Tracker>, Place) {
        let tracker = Arc::new(Tracker::new(Arc::new(Notify::new())));
        let endpoint = tracker.open_endpoint(&"here".into());
        (tracker, endpoint)
    }

    #[test]
    fn a_connection_counts_until_it_is_dropped() {
        let (tracker, endpoint) = tracker();
        let (socket, _peer) = UnixStream::pair().expect("a pair");
        let first = tracker.track(&socket, endpoint, Arrival::Accepted);
        let second = tracker.track(&socket, endpoint, Arrival::Accepted);
        assert_eq!((tracker.open(), tracker.counts().accepted), (2, 2));
        drop(first);
        let third = tracker.track(&socket, endpoint, Arrival::Accepted);
        assert_eq!((tracker.open(), tracker.counts().accepted), (2, 3));
        drop((second, third));
        assert_eq!((tracker.open(), tracker.oldest()), (0, None));
    }

    #[test]
    fn an_abort_spares_what_another_process_may_own_until_it_is_reclaimed() {
        let (tracker, endpoint) = tracker();
        let (mut lent, mut peer) = UnixStream::pair().expect("a pair");
        let clone = lent.try_clone().expect("a clone");
        let tracked = tracker.track(&clone, endpoint, Arrival::Accepted);
        tracked.lend();
        assert_eq!(tracker.abort(), 0);
        peer.write_all(b"x").expect("it is open");
        assert_eq!(lent.read(&mut [0]).expect("it is open"), 1);
        tracked.reclaim();
        assert_eq!(lent.read(&mut [0]).expect("an end, no error"), 0);
    }

    #[test]
    fn an_abort_wakes_who_waits_and_meets_who_comes_later() {
        let (tracker, endpoint) = tracker();
        let (mut waiting, _one) = UnixStream::pair().expect("a pair");
        let (mut late, _two) = UnixStream::pair().expect("a pair");
        let clone = waiting.try_clone().expect("a clone");
        let tracked = tracker.track(&clone, endpoint, Arrival::Accepted);
        let reader = std::thread::spawn(move || waiting.read(&mut [0]).expect("an end, no error"));
        assert_eq!(tracker.abort(), 1);
        assert_eq!(reader.join().expect("no panic"), 0);
        let _second = tracker.track(&late, endpoint, Arrival::Accepted);
        assert_eq!(late.read(&mut [0]).expect("an end, no error"), 0);
        assert!(tracked.is_aborted());
    }

    #[test]
    fn each_connection_has_gone_in_one_way() {
        let (tracker, endpoint) = tracker();
        let (socket, _peer) = UnixStream::pair().expect("a pair");
        let track = |arrival| tracker.track(&socket, endpoint, arrival);
        drop(track(Arrival::Accepted));
        let [moved, drained, kept, cut] = [Arrival::Accepted; 4].map(track);
        tracker.drain();
        moved.lend();
        drop(moved);
        drop(drained);
        kept.lend();
        kept.reclaim();
        drop(kept);
        let received = track(Arrival::Received);
        assert_eq!((tracker.abort(), tracker.abort()), (2, 2));
        drop((cut, received));
        let expected = Counts {
            accepted: 5,
            received: 1,
            sent: 1,
            drained: 2,
            aborted: 2,
            ..Counts::default()
        };
        assert_eq!(tracker.counts(), expected);
    }

    #[test]
    fn whoever_watches_is_told_once_until_it_has_looked() {
        let (tracker, endpoint) = tracker();
        let (socket, _peer) = UnixStream::pair().expect("a pair");
        let track = || tracker.track(&socket, endpoint, Arrival::Accepted);
        let told = || tracker.changed().now_or_never().is_some();
        drop(track());
        assert!(!told(), "nobody watches");
        tracker.watched_tallies();
        let connections = [track(), track()];
        assert!(told() && !told());
        let (known, _) = tracker.watched_tallies();
        assert_eq!(known[0].counts.open, 2);
        drop(connections);
        assert!(told() && !told());
    }
}
