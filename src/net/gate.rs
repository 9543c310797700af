//! The gate of an endpoint: whether this generation takes what comes in.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use tokio::sync::Notify;

/// Keeps an endpoint from accepting before the commit and after its end.
///
/// The state is a byte that is looked at on every attempt to accept. Whoever waits is woken on
/// every change: the one task that accepts from a listener through its waker, the many that may
/// receive from a datagram socket through the notification.
#[derive(Debug)]
pub(crate) struct Gate {
    state: AtomicU8,
    /// Whether somebody has waited for it to open.
    awaited: AtomicBool,
    acceptor: AtomicWaker,
    changed: Notify,
}

/// What a gate lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// Nothing, for now: before the commit, or while a successor takes over.
    Shut = 0,
    /// Everything.
    Open = 1,
    /// What is queued already, and then no more: this generation stops without a successor.
    Emptying = 2,
    /// Nothing ever again.
    Ended = 3,
}

impl Gate {
    pub(crate) fn new(state: State) -> Self {
        Self {
            state: AtomicU8::new(state as u8),
            awaited: AtomicBool::new(false),
            acceptor: AtomicWaker::new(),
            changed: Notify::new(),
        }
    }

    pub(crate) fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Shut,
            1 => State::Open,
            2 => State::Emptying,
            _ => State::Ended,
        }
    }

    /// Changes the state and wakes whoever waits. What has ended stays ended.
    pub(crate) fn set(&self, state: State) {
        let change = |now| (now != State::Ended as u8).then_some(state as u8);
        if self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, change)
            .is_ok()
        {
            self.acceptor.wake();
            self.changed.notify_waiters();
        }
    }

    /// Wakes the task that accepts, for a reason other than a change.
    pub(super) fn wake(&self) {
        self.acceptor.wake();
    }

    /// Waits while the gate is shut; for the one task that accepts.
    ///
    /// The waker stays registered when the state is returned, so that a later change wakes a task
    /// that went on to wait for the socket.
    pub(crate) fn poll_passable(&self, cx: &mut Context<'_>) -> Poll<State> {
        self.acceptor.register(cx.waker());
        // Looked at after the registration: a change in between is either seen or wakes.
        match self.state() {
            State::Shut => {
                self.awaited.store(true, Ordering::Relaxed);
                Poll::Pending
            }
            state => Poll::Ready(state),
        }
    }

    /// Whether somebody waits for the gate to open.
    pub(crate) fn is_awaited(&self) -> bool {
        self.state() == State::Shut && self.awaited.load(Ordering::Relaxed)
    }

    /// Waits while the gate is shut, for any number of tasks; `false` when it has ended.
    pub(crate) async fn passable(&self) -> bool {
        loop {
            let changed = self.changed.notified();
            match self.state() {
                State::Shut => changed.await,
                State::Open => return true,
                State::Emptying | State::Ended => return false,
            }
        }
    }

    /// Waits until the state is no longer `Open`.
    pub(crate) async fn impassable(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state() != State::Open {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::task::noop_waker_ref;

    use super::*;

    #[test]
    fn what_has_ended_stays_ended() {
        let gate = Gate::new(State::Shut);
        let mut cx = Context::from_waker(noop_waker_ref());
        assert_eq!(gate.poll_passable(&mut cx), Poll::Pending);
        for state in [State::Open, State::Emptying, State::Ended] {
            gate.set(state);
            assert_eq!(gate.poll_passable(&mut cx), Poll::Ready(state));
        }
        gate.set(State::Open);
        assert_eq!(gate.state(), State::Ended);
    }

    #[tokio::test]
    async fn a_change_wakes_every_waiter() {
        let gate = std::sync::Arc::new(Gate::new(State::Shut));
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let gate = std::sync::Arc::clone(&gate);
                tokio::spawn(async move { gate.passable().await })
            })
            .collect();
        tokio::task::yield_now().await;
        gate.set(State::Open);
        for task in waiting {
            assert!(task.await.expect("no panic"));
        }
        gate.set(State::Ended);
        gate.impassable().await;
    }
}
