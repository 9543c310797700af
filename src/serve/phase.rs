//! Where the drain stands, as the connections of one server see it.
//!
//! A connection looks on every wake-up, so the look is one atomic load; it registers for the next change once and
//! not on every poll. Tokens would cost a lock for each look and a registration for each of the three events.
//!
//! That connections may yet move concerns only those that cannot; the others, of which there may be thousands, are not
//! woken for it.

use std::{
    future::Future,
    pin::Pin,
    ptr,
    sync::atomic::{AtomicU8, Ordering},
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::sync::{Notify, futures::Notified};

/// Where the drain stands. Later is greater, but for two of them: while connections may move, a successor that is itself
/// replaced takes no more, and the one after it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// There is no drain.
    Serving,
    /// The successor may yet say that it takes connections: finish what there is, and announce no end.
    Expecting,
    /// The successor takes connections: those between two requests move.
    Moving,
    /// Finish what there is; announce the end of each connection.
    Draining,
    /// The deadline is near: what is quiet and has nothing to say is closed now.
    LastLook,
    /// The deadline has come: what is left ends here.
    Aborting,
}

/// The phase that all connections of a server look at.
#[derive(Debug)]
pub(crate) struct Phases {
    /// 0 while there is no drain; then odd while connections may yet move, and even while they do; at the end the
    /// three phases that nothing comes back from.
    now: AtomicU8,
    /// Told of every change but that to [`Phase::Expecting`].
    changed: Notify,
    /// Told of every change.
    changed_at_all: Notify,
}

/// Of which changes a task is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heed {
    /// Of all.
    All,
    /// Of all but that to [`Phase::Expecting`].
    Moves,
    /// Of none: somebody else wakes it.
    None,
}

impl Phases {
    pub(crate) fn new() -> Self {
        Self {
            now: AtomicU8::new(SERVING),
            changed: Notify::new(),
            changed_at_all: Notify::new(),
        }
    }

    pub(crate) fn now(&self) -> Phase {
        match self.epoch() {
            SERVING => Phase::Serving,
            DRAINING => Phase::Draining,
            LAST_LOOK => Phase::LastLook,
            ABORTING => Phase::Aborting,
            expecting if expecting % 2 == 1 => Phase::Expecting,
            _ => Phase::Moving,
        }
    }

    /// Tells one time in which connections move from another.
    pub(crate) fn epoch(&self) -> u8 {
        // Acquire pairs with the Release of `advance`.
        self.now.load(Ordering::Acquire)
    }

    /// Moves on to `phase` and wakes whoever heeds that; returns whether that is a change. Never goes back behind
    /// [`Phase::Draining`].
    ///
    /// Only the one task that follows the drain may call this.
    pub(crate) fn advance(&self, phase: Phase) -> bool {
        let now = self.epoch();
        let next = match phase {
            Phase::Serving => SERVING,
            // Of so many successors of successors nobody is left to take more.
            Phase::Expecting => (now.saturating_add(1) | 1).min(DRAINING),
            Phase::Moving => (now / 2 * 2).saturating_add(2).min(DRAINING),
            Phase::Draining => DRAINING,
            Phase::LastLook => LAST_LOOK,
            Phase::Aborting => ABORTING,
        };
        // A watch that is woken without a change would not register again.
        let changes = self.now.fetch_max(next, Ordering::Release) < next;
        if changes {
            self.changed_at_all.notify_waiters();
            if phase != Phase::Expecting || next == DRAINING {
                self.changed.notify_waiters();
            }
        }
        changes
    }

    pub(crate) fn watch(&self) -> PhaseWatch<'_> {
        PhaseWatch {
            phases: self,
            source: Some(&self.changed),
            seen: Phase::Serving,
            registered: false,
            changed: self.changed.notified(),
        }
    }
}

const SERVING: u8 = 0;
const DRAINING: u8 = u8::MAX - 2;
const LAST_LOOK: u8 = u8::MAX - 1;
const ABORTING: u8 = u8::MAX;

pin_project! {
    /// One task's view of the phase.
    ///
    /// The task's waker is registered at the first look and again after each change, not on every look, so a watch
    /// must stay in the task that looked first.
    #[derive(Debug)]
    pub(crate) struct PhaseWatch<'a> {
        phases: &'a Phases,
        source: Option<&'a Notify>,
        seen: Phase,
        registered: bool,
        #[pin]
        changed: Notified<'a>,
    }
}

impl PhaseWatch<'_> {
    /// From the next look on, has the task woken of these changes; returns whether that is new.
    pub(crate) fn heed(self: Pin<&mut Self>, changes: Heed) -> bool {
        let mut this = self.project();
        let source = match changes {
            Heed::All => Some(&this.phases.changed_at_all),
            Heed::Moves => Some(&this.phases.changed),
            Heed::None => None,
        };
        if this.source.map(ptr::from_ref) == source.map(ptr::from_ref) {
            return false;
        }
        *this.source = source;
        *this.registered = false;
        this.changed
            .set(source.unwrap_or(&this.phases.changed).notified());
        true
    }

    /// Returns the phase; the task is woken of the changes that it heeds.
    pub(crate) fn look(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Phase {
        let mut this = self.project();
        let Some(source) = this.source else {
            return this.phases.now();
        };
        if *this.registered {
            let now = this.phases.now();
            if now == *this.seen {
                return now;
            }
            this.changed.set(source.notified());
        }
        while this.changed.as_mut().poll(cx) == Poll::Ready(()) {
            this.changed.set(source.notified());
        }
        *this.registered = true;
        // After the registration, or a change between the two would wake nobody.
        *this.seen = this.phases.now();
        *this.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::{future::poll_fn, pin::pin, sync::Arc, task::Wake};

    #[derive(Default)]
    struct Woken(AtomicU8);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_watch_is_woken_once_for_each_change() {
        let phases = Phases::new();
        let woken = Arc::new(Woken::default());
        let waker = Arc::clone(&woken).into();
        let mut cx = Context::from_waker(&waker);
        let mut watch = pin!(phases.watch());

        assert_eq!(watch.as_mut().look(&mut cx), Phase::Serving);
        assert!(watch.as_mut().heed(Heed::All));
        assert!(!watch.as_mut().heed(Heed::All));
        assert_eq!(watch.as_mut().look(&mut cx), Phase::Serving);
        assert_eq!(watch.as_mut().look(&mut cx), Phase::Serving);
        let phases_to_come = [
            Phase::Expecting,
            Phase::Moving,
            Phase::Draining,
            Phase::LastLook,
            Phase::Aborting,
        ];
        for (wakes, phase) in phases_to_come.into_iter().enumerate() {
            phases.advance(phase);
            phases.advance(Phase::Serving);
            assert_eq!(usize::from(woken.0.load(Ordering::Relaxed)), wakes + 1);
            assert_eq!(watch.as_mut().look(&mut cx), phase);
        }
    }

    #[test]
    fn that_connections_may_move_wakes_only_who_heeds_all() {
        let phases = Phases::new();
        let woken = Arc::new(Woken::default());
        let waker = Arc::clone(&woken).into();
        let mut cx = Context::from_waker(&waker);
        let mut watch = pin!(phases.watch());
        assert_eq!(watch.as_mut().look(&mut cx), Phase::Serving);
        for (phase, wakes) in [(Phase::Expecting, 0), (Phase::Moving, 1)] {
            phases.advance(phase);
            assert_eq!(woken.0.load(Ordering::Relaxed), wakes);
        }
        assert_eq!(watch.as_mut().look(&mut cx), Phase::Moving);
        phases.advance(Phase::Draining);
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn who_heeds_nothing_sees_what_there_is() {
        let phases = Phases::new();
        let woken = Arc::new(Woken::default());
        let waker = Arc::clone(&woken).into();
        let mut cx = Context::from_waker(&waker);
        let mut watch = pin!(phases.watch());
        assert_eq!(watch.as_mut().look(&mut cx), Phase::Serving);
        assert!(watch.as_mut().heed(Heed::None));
        assert!(!watch.as_mut().heed(Heed::None));
        phases.advance(Phase::Moving);
        assert_eq!(watch.as_mut().look(&mut cx), Phase::Moving);
        assert!(watch.as_mut().heed(Heed::Moves));
        phases.advance(Phase::Expecting);
        phases.advance(Phase::Draining);
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        assert_eq!(watch.as_mut().look(&mut cx), Phase::Draining);
        phases.advance(Phase::Aborting);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_watch_made_before_a_change_sees_it_at_its_first_look() {
        let phases = Phases::new();
        let mut watch = pin!(phases.watch());
        phases.advance(Phase::Draining);

        let seen = poll_fn(|cx| Poll::Ready(watch.as_mut().look(cx))).await;

        assert_eq!(seen, Phase::Draining);
    }

    #[test]
    fn connections_may_move_to_one_after_another() {
        let phases = Phases::new();
        let mut epochs = vec![phases.epoch()];
        for phase in [Phase::Expecting, Phase::Moving].repeat(300) {
            phases.advance(phase);
            if phases.now() == Phase::Draining {
                break;
            }
            assert_eq!(phases.now(), phase);
            epochs.push(phases.epoch());
        }
        assert!(epochs.len() > 250 && epochs.is_sorted(), "{epochs:?}");
        epochs.dedup();
        assert!(epochs.len() > 250);
        phases.advance(Phase::Moving);
        assert_eq!(phases.now(), Phase::Draining);
    }

    #[test]
    fn a_phase_never_goes_back() {
        let phases = Phases::new();
        phases.advance(Phase::Aborting);
        phases.advance(Phase::LastLook);
        assert_eq!(phases.now(), Phase::Aborting);
    }
}
