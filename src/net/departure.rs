//! A connection on its way to the successor.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use super::stream::Stream;
use crate::lifecycle::tracker::Tracked;
use crate::protocol::Manner;

/// A connection that this generation keeps until the successor says that it has it.
#[derive(Debug)]
pub(crate) struct Departure {
    manner: Manner,
    cargo: Cargo,
    // Dropped last: by then the connection is out of the count.
    kept: Kept,
}

/// What moves.
#[derive(Debug)]
pub(crate) struct Cargo {
    // Dropped first: the count lets go of the descriptor before it is closed.
    pub(super) tracked: Tracked,
    pub(super) stream: Stream,
    /// The address of the other end, if it is one of TCP.
    pub(super) peer: Option<SocketAddr>,
    /// Read from it, and not used.
    pub(super) unread: Vec<u8>,
    /// What the application says of it.
    pub(super) state: Vec<u8>,
}

/// Where the cargo goes if it stays.
pub(super) enum Kept {
    /// To somebody who waits for it.
    Awaited(oneshot::Sender<Cargo>),
    /// To something that goes on with it; nothing runs for the connection meanwhile.
    // In a lock that nobody locks: what is sent is looked at by more than one thread.
    #[cfg_attr(
        not(feature = "hyper"),
        expect(dead_code, reason = "only the servers of this crate do without a task")
    )]
    Resumed(Mutex<Resume>),
}

pub(super) type Resume = Box<dyn FnOnce(Cargo) + Send>;

/// Gives the cargo back if it stays, and an error if it has moved.
pub(super) type Answer = oneshot::Receiver<Cargo>;

impl Departure {
    pub(super) fn new(manner: Manner, cargo: Cargo, kept: Kept) -> Self {
        cargo.tracked.lend();
        Self {
            manner,
            cargo,
            kept,
        }
    }

    /// The successor has it: it counts here no more, and whoever waits for it learns so. What is left
    /// is to be closed.
    pub(crate) fn moved(self) -> Stream {
        let Cargo {
            tracked, stream, ..
        } = self.cargo;
        // The count lets go of the descriptor first.
        drop(tracked);
        drop(self.kept);
        stream
    }

    pub(crate) fn manner(&self) -> Manner {
        self.manner
    }

    /// The address of the other end, if it is one of TCP that its text says all of.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        let has_flow = |address: &SocketAddr| match address {
            SocketAddr::V4(_) => false,
            SocketAddr::V6(address) => address.flowinfo() != 0,
        };
        self.cargo.peer.filter(|address| !has_flow(address))
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
        self.kept.give(self.cargo);
    }
}

impl Kept {
    pub(super) fn give(self, cargo: Cargo) {
        match self {
            Self::Awaited(asker) => drop(asker.send(cargo)),
            Self::Resumed(resume) => {
                resume.into_inner().unwrap_or_else(PoisonError::into_inner)(cargo);
            }
        }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Awaited(_) => "Awaited",
            Self::Resumed(_) => "Resumed",
        })
    }
}

impl AsFd for Departure {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.cargo.stream.as_fd()
    }
}
