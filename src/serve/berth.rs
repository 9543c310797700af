//! Where connections of HTTP/1 lie between two requests, so that they move to the successor without their tasks.
//!
//! Thousands of idle connections leave from here. To wake the task of each first, and to have it take the connection out
//! of hyper, takes many times as long. That is done when they are on their way: with the answer the task ends, and frees
//! what has served the connection, or goes on as if nothing had been. A task that is told does so before the answer: it
//! leaves behind what would go on with the connection.
//!
//! A connection lies here only where it is nothing but its socket: all that was read is used up, and all that was written
//! is flushed. The I/O object sees to that (`io`).

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Waker},
};

use hyper::body::Bytes;
use slab::Slab;
use tokio::task::yield_now;

use super::{activity::Activity, transport::Transport};
use crate::sys::atomic_box::AtomicBox;

/// The berths of one server: those in which a connection has ever lain whose task goes on.
#[derive(Default)]
pub(crate) struct Berths(Mutex<Slab<Arc<dyn Leave>>>);

/// The place of one connection. Its I/O object puts the transport here and fetches it again; its task says when others
/// may take it.
pub(crate) struct Berth<I> {
    state: AtomicU8,
    /// Who has it next is the state's to say. No lock, for it is put here and fetched again with every request.
    transport: AtomicBox<I>,
    slot: Mutex<Slot<I>>,
    activity: Arc<Activity>,
}

struct Slot<I> {
    /// What goes on with it in place of its task.
    kept: Option<Kept<I>>,
    /// The task of the connection.
    task: Option<Waker>,
}

type Kept<I> = Box<dyn FnOnce(I) + Send>;

/// The task's hold on its berth.
pub(crate) struct Mooring<I: Transport> {
    berth: Arc<Berth<I>>,
    /// Its place among all.
    key: Option<usize>,
    /// Whether the task ends though an answer is to come.
    left: bool,
}

/// What a task that is polled may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Go on: nobody else has the connection, or takes it meanwhile.
    Going,
    /// End, and leave something behind that waits for the answer: the successor is asked to take it.
    Asked,
    /// End: the connection has moved.
    Moved,
}

/// What a connection of any kind does when it is to move.
pub(crate) trait Leave: Send + Sync {
    /// Sends the connection to the successor if it lies open, and has its own task look otherwise.
    fn leave(self: Arc<Self>) -> bool;

    /// Tells the task that the successor is asked, so that it gives up what it holds.
    fn tell(self: Arc<Self>);

    /// Has the task look.
    fn wake(&self);
}

/// How many leave in one go: as many as are sent together, about.
const AT_ONCE: usize = 256;

/// The transport is with the I/O object.
const AT_SEA: u8 = 0;
/// The transport lies here, and its task is running.
const LYING: u8 = 1;
/// The transport lies here, and whoever is first may have it.
const OPEN: u8 = 2;
/// The successor is asked to take the transport.
const ASKED: u8 = 3;
/// The same, and its task has ended meanwhile.
const AWAITED: u8 = 4;
/// It was not taken; the task has yet to learn so.
const BACK: u8 = 5;
/// The successor has it.
const MOVED: u8 = 6;
/// The task has ended.
const ENDED: u8 = 7;

impl Berths {
    /// Sends to the successor what lies open, and wakes the tasks of all others. The tasks of those that have left may
    /// be [told](Leave::tell).
    pub(crate) async fn leave(&self) -> Vec<Arc<dyn Leave>> {
        let mut all = self.all().into_iter();
        let mut asked = Vec::with_capacity(all.len());
        while all.len() > 0 {
            let some = all.by_ref().take(AT_ONCE);
            asked.extend(some.filter(|berth| Arc::clone(berth).leave()));
            // These are sent while the next ones leave.
            yield_now().await;
        }
        asked
    }

    /// Wakes the tasks of all.
    pub(crate) fn wake(&self) {
        self.all().iter().for_each(|berth| berth.wake());
    }

    fn all(&self) -> Vec<Arc<dyn Leave>> {
        // Not under the lock: whoever is woken may end here at once.
        self.lock()
            .iter()
            .map(|(_, berth)| Arc::clone(berth))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Arc<dyn Leave>>> {
        // No code of others runs under this lock, so a poisoned one is still consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I> Berth<I> {
    /// Puts the transport here, in its task.
    pub(crate) fn put(&self, transport: Box<I>) {
        self.transport.put(transport);
        self.state.store(LYING, Ordering::Relaxed);
    }

    /// Gets the transport back, in its task.
    pub(crate) fn fetch(&self) -> Option<Box<I>> {
        self.state.store(AT_SEA, Ordering::Relaxed);
        self.transport.take()
    }

    /// Whom to wake.
    pub(crate) fn set_task(&self, cx: &Context<'_>) {
        match &mut self.lock().task {
            Some(task) => task.clone_from(cx.waker()),
            task => *task = Some(cx.waker().clone()),
        }
    }

    /// Goes from one state to another, unless somebody else was first.
    fn leave_state(&self, from: u8, to: u8) -> bool {
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        let left = self.state.compare_exchange(from, to, success, failure);
        left.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, Slot<I>> {
        // What runs under this lock leaves it consistent, whatever happens.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the answer in place of the task: `kept` gets the transport if nobody takes it.
    pub(crate) fn wait(&self, kept: impl FnOnce(I) + Send + 'static) {
        let mut slot = self.lock();
        // The other side answers under the lock.
        if self.leave_state(ASKED, AWAITED) {
            slot.kept = Some(Box::new(kept));
            let task = slot.task.take();
            drop(slot);
            // It has ended, and is not to be kept.
            drop(task);
            return;
        }
        let back = self.transport.take();
        drop(slot);
        if let Some(transport) = back {
            kept(*transport);
        }
    }
}

impl<I: Transport> Leave for Berth<I> {
    fn leave(self: Arc<Self>) -> bool {
        let taken = self.activity.moves() && self.leave_state(OPEN, ASKED);
        if !taken {
            self.wake();
            return false;
        }
        let transport = self.transport.take();
        let activity = Arc::clone(&self.activity);
        let absence = Absence(Some(self));
        // Without it the absence is over at once.
        if let Some(transport) = transport {
            activity.leave();
            transport.hand_over(Bytes::new(), move |transport, _| {
                if transport.may_move_yet() {
                    activity.come_back();
                }
                absence.end(transport);
            });
        }
        true
    }

    fn tell(self: Arc<Self>) {
        if self.state.load(Ordering::Relaxed) == ASKED {
            self.wake();
        }
    }

    fn wake(&self) {
        let task = self.lock().task.clone();
        // It may come here at once.
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// The time in which the successor is asked; when it is dropped, the transport has moved, or has ended.
struct Absence<I>(Option<Arc<Berth<I>>>);

impl<I: Transport> Absence<I> {
    /// The transport was not taken.
    fn end(mut self, mut transport: I) {
        let Some(berth) = self.0.take() else {
            return;
        };
        let mut slot = berth.lock();
        if berth.state.load(Ordering::Relaxed) != ASKED {
            // Where there is none, nobody is left who would go on with it.
            let kept = slot.kept.take();
            drop(slot);
            if let Some(kept) = kept {
                kept(transport);
            }
            return;
        }
        // It leaves from here again, and not below what serves it.
        transport.stay();
        // First, for its task fetches it without the lock as soon as the state says so.
        berth.transport.put(Box::new(transport));
        if berth.leave_state(ASKED, BACK) {
            drop(slot);
            return berth.wake();
        }
        // Its task has ended meanwhile.
        let left = berth.transport.take();
        drop(slot);
        drop(left);
    }
}

impl<I> Drop for Absence<I> {
    fn drop(&mut self) {
        let Some(berth) = &self.0 else {
            return;
        };
        let mut slot = berth.lock();
        let moved = berth.leave_state(ASKED, MOVED);
        let (kept, task) = (slot.kept.take(), slot.task.take_if(|_| moved));
        drop(slot);
        // With it goes what has served the connection.
        drop(kept);
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl<I: Transport> Mooring<I> {
    pub(crate) fn new(activity: Arc<Activity>) -> Self {
        let slot = Slot {
            kept: None,
            task: None,
        };
        let berth = Berth {
            state: AtomicU8::new(AT_SEA),
            transport: AtomicBox::new(),
            slot: Mutex::new(slot),
            activity,
        };
        Self {
            berth: Arc::new(berth),
            key: None,
            left: false,
        }
    }

    pub(crate) fn berth(&self) -> &Arc<Berth<I>> {
        &self.berth
    }

    /// Begins a turn of the task: nobody else takes the connection until it [lies open](Self::lie_open) again.
    pub(crate) fn begin_turn(&self) -> Turn {
        let berth = &self.berth;
        loop {
            match berth.state.load(Ordering::Acquire) {
                OPEN if berth.leave_state(OPEN, LYING) => return Turn::Going,
                // Somebody else was first.
                OPEN => {}
                ASKED => return Turn::Asked,
                BACK => {
                    berth.state.store(LYING, Ordering::Relaxed);
                    return Turn::Going;
                }
                MOVED => return Turn::Moved,
                _ => return Turn::Going,
            }
        }
    }

    /// Whether the connection lies here, in a turn of its task.
    pub(crate) fn is_lying(&self) -> bool {
        self.berth.state.load(Ordering::Relaxed) == LYING
    }

    /// Whether the connection is among those that leave together. It is from the first time on that it lies here.
    pub(crate) fn is_moored(&mut self) -> bool {
        if self.key.is_none() && self.is_lying() {
            let berth = Arc::clone(&self.berth) as Arc<dyn Leave>;
            self.key = Some(self.berth.activity.berths().lock().insert(berth));
        }
        self.key.is_some()
    }

    /// The task ends, and something else [waits](Berth::wait) for the answer.
    pub(crate) fn leave(mut self) {
        self.left = true;
    }

    /// Ends a turn of the task: if the connection lies here, others may take it.
    pub(crate) fn lie_open(&self) {
        let state = &self.berth.state;
        if state.load(Ordering::Relaxed) == LYING {
            // Release: whoever takes it sees all that was done with it.
            state.store(OPEN, Ordering::Release);
        }
    }
}

impl<I: Transport> Drop for Mooring<I> {
    fn drop(&mut self) {
        if !self.left {
            self.berth.state.store(ENDED, Ordering::Release);
        }
        if let Some(key) = self.key {
            let berth = self.berth.activity.berths().lock().try_remove(key);
            // What ends with it may come here.
            drop(berth);
        }
    }
}

impl fmt::Debug for Berths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Berths").field(&self.lock().len()).finish()
    }
}

impl<I> fmt::Debug for Berth<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Berth")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
