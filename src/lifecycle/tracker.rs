//! The count of open connections, and the means to end them.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};
use tokio::sync::Notify;

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
    accepted: u64,
}

#[derive(Debug)]
struct Entry {
    descriptor: RawFd,
    since: Instant,
    /// Whether another process may own it as well: it must not be shut down then.
    lent: bool,
    /// Who is to be woken when connections may move.
    waiting: Option<Waker>,
}

impl Tracker {
    pub(crate) fn new(empty: Arc<Notify>) -> Self {
        Self {
            slots: Mutex::default(),
            aborted: AtomicBool::new(false),
            resting: AtomicUsize::new(0),
            empty,
        }
    }

    /// Counts a connection. `socket` has to stay open until the result is dropped.
    pub(crate) fn track(self: &Arc<Self>, socket: &impl AsFd) -> Tracked {
        let descriptor = socket.as_fd().as_raw_fd();
        let mut slots = self.lock();
        let entry = Some(Entry {
            descriptor,
            since: Instant::now(),
            lent: false,
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
        slots.accepted += 1;
        // Under the lock: an abort either sees the entry or has set the flag before.
        if self.is_aborted() {
            end(descriptor);
        }
        drop(slots);
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

    /// How many connections have been counted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.lock().accepted
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

    /// Ends every connection, open or to come, and returns how many were open.
    ///
    /// `shutdown(2)` wakes whoever waits for the socket, in whichever task, through TLS and split
    /// halves; nothing has to be looked at on the way of ordinary reads and writes.
    pub(crate) fn abort(&self) -> usize {
        let slots = self.lock();
        self.aborted.store(true, Ordering::SeqCst);
        slots
            .entries
            .iter()
            .flatten()
            .filter(|entry| !entry.lent)
            .map(|entry| end(entry.descriptor))
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
                end(entry.descriptor);
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
        drop(slots);
        // Outside the lock: the end of a task, and of all that it owns, may hang on its waker.
        drop(entry);
        if last {
            self.tracker.empty.notify_one();
        }
    }
}

/// Fails only for a connection whose peer has gone already (`ENOTCONN`), which is as well.
fn end(descriptor: RawFd) {
    shutdown(descriptor, Shutdown::Both).ok();
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn tracker() -> Arc<Tracker> {
        Arc::new(Tracker::new(Arc::new(Notify::new())))
    }

    #[test]
    fn a_connection_counts_until_it_is_dropped() {
        let tracker = tracker();
        let (socket, _peer) = UnixStream::pair().expect("a pair");
        let first = tracker.track(&socket);
        let second = tracker.track(&socket);
        assert_eq!((tracker.open(), tracker.accepted()), (2, 2));
        drop(first);
        let third = tracker.track(&socket);
        assert_eq!((tracker.open(), tracker.accepted()), (2, 3));
        drop((second, third));
        assert_eq!((tracker.open(), tracker.oldest()), (0, None));
    }

    #[test]
    fn an_abort_spares_what_another_process_may_own_until_it_is_reclaimed() {
        let tracker = tracker();
        let (mut lent, mut peer) = UnixStream::pair().expect("a pair");
        let clone = lent.try_clone().expect("a clone");
        let tracked = tracker.track(&clone);
        tracked.lend();
        assert_eq!(tracker.abort(), 0);
        peer.write_all(b"x").expect("it is open");
        assert_eq!(lent.read(&mut [0]).expect("it is open"), 1);
        tracked.reclaim();
        assert_eq!(lent.read(&mut [0]).expect("an end, no error"), 0);
    }

    #[test]
    fn an_abort_wakes_who_waits_and_meets_who_comes_later() {
        let tracker = tracker();
        let (mut waiting, _one) = UnixStream::pair().expect("a pair");
        let (mut late, _two) = UnixStream::pair().expect("a pair");
        let clone = waiting.try_clone().expect("a clone");
        let tracked = tracker.track(&clone);
        let reader = std::thread::spawn(move || waiting.read(&mut [0]).expect("an end, no error"));
        assert_eq!(tracker.abort(), 1);
        assert_eq!(reader.join().expect("no panic"), 0);
        let _second = tracker.track(&late);
        assert_eq!(late.read(&mut [0]).expect("an end, no error"), 0);
        assert!(tracked.is_aborted());
    }
}
