//! A connection on its way to the successor.

use std::os::fd::{AsFd, BorrowedFd};

use tokio::sync::oneshot;

use super::stream::Stream;
use crate::lifecycle::tracker::Tracked;
use crate::protocol::Manner;

/// A connection that this generation keeps until the successor says that it has it.
///
/// Dropping it is what is due then: the descriptor is closed, and whoever waits on the other side of
/// it is told that it has moved.
#[derive(Debug)]
pub(crate) struct Departure {
    manner: Manner,
    cargo: Cargo,
    // Dropped last: by then the connection is out of the count.
    kept: oneshot::Sender<Cargo>,
}

/// What moves.
#[derive(Debug)]
pub(crate) struct Cargo {
    // Dropped first: the count lets go of the descriptor before it is closed.
    pub(super) tracked: Tracked,
    pub(super) stream: Stream,
    /// Read from it, and not used.
    pub(super) unread: Vec<u8>,
    /// What the application says of it.
    pub(super) state: Vec<u8>,
}

/// Gives the cargo back if it stays, and an error if it has moved.
pub(super) type Answer = oneshot::Receiver<Cargo>;

impl Departure {
    pub(super) fn new(manner: Manner, cargo: Cargo) -> (Self, Answer) {
        cargo.tracked.lend();
        let (kept, answer) = oneshot::channel();
        let departure = Self {
            manner,
            cargo,
            kept,
        };
        (departure, answer)
    }

    pub(crate) fn manner(&self) -> Manner {
        self.manner
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.cargo.unread
    }

    pub(crate) fn state(&self) -> &[u8] {
        &self.cargo.state
    }

    /// Gives it back: nobody else has it. Where nobody waits for it any more it is closed.
    pub(crate) fn keep(self) {
        self.cargo.tracked.reclaim();
        drop(self.kept.send(self.cargo));
    }
}

impl AsFd for Departure {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.cargo.stream.as_fd()
    }
}
