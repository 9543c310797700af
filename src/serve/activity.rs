//! The account of one connection, shared by the I/O object below hyper, the service above it and the driver around it.
//!
//! hyper shows none of this: whether an exchange is open, whether part of a request head has come, and how the
//! connection is to end are seen from both of its sides.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
};

use super::{berth::Berths, phase::Phase, server::Server};

/// What one connection has done and is doing.
///
/// An HTTP/1 connection lives in one task, and so do all writers but the ends of exchanges, for a handler may give the
/// body that it reads to another task, and whoever sends the connection from its [berth](super::berth), which sees to the
/// order itself. Hence the relaxed orderings but there.
#[derive(Debug)]
pub(crate) struct Activity {
    server: Arc<Server>,
    open: AtomicU32,
    served: AtomicBool,
    /// Whether the last request has no body.
    bare: AtomicBool,
    /// Whether some request has asked for an upgrade.
    upgrade_wanted: AtomicBool,
    head_begun: AtomicBool,
    sight_lost: AtomicBool,
    body_left: AtomicBool,
    ending: AtomicU8,
    moves: AtomicBool,
    /// The epoch in which the successor has refused it; 0 in none.
    refused: AtomicU8,
}

/// What the end of the connection does to its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The write side is shut.
    Plain,
    /// The write side is shut, and what still comes is read and discarded for a moment.
    Lingering,
    /// Nothing: the socket lives on.
    Kept,
}

impl Activity {
    pub(crate) fn new(server: Arc<Server>) -> Arc<Self> {
        Arc::new(Self {
            server,
            open: AtomicU32::new(0),
            served: AtomicBool::new(false),
            bare: AtomicBool::new(false),
            upgrade_wanted: AtomicBool::new(false),
            head_begun: AtomicBool::new(false),
            sight_lost: AtomicBool::new(false),
            body_left: AtomicBool::new(false),
            ending: AtomicU8::new(Ending::Plain as u8),
            moves: AtomicBool::new(false),
            refused: AtomicU8::new(0),
        })
    }

    /// Begins anew, between two requests.
    pub(crate) fn restart(&self) {
        self.served.store(false, Ordering::Relaxed);
        self.head_begun.store(false, Ordering::Relaxed);
        self.sight_lost.store(false, Ordering::Relaxed);
        self.body_left.store(false, Ordering::Relaxed);
        self.upgrade_wanted.store(false, Ordering::Relaxed);
        self.set_ending(Ending::Plain);
    }

    /// Opens an exchange of HTTP/1: a request head is complete, and there is no body if it is `bare`.
    pub(crate) fn begin(self: &Arc<Self>, bare: bool, wants_upgrade: bool) -> Exchange {
        self.open.fetch_add(1, Ordering::Relaxed);
        if wants_upgrade {
            self.upgrade_wanted.store(true, Ordering::Relaxed);
        }
        self.bare.store(bare, Ordering::Relaxed);
        self.served.store(true, Ordering::Relaxed);
        self.head_begun.store(false, Ordering::Relaxed);
        self.sight_lost.store(false, Ordering::Relaxed);
        self.body_left.store(false, Ordering::Relaxed);
        Exchange(Some(Arc::clone(self)))
    }

    /// Notes a request of HTTP/2. Nobody asks whether one is open, and their tasks, on several threads, would contend
    /// for the account.
    pub(crate) fn begin_stream(&self) -> Exchange {
        if !self.has_served() {
            self.served.store(true, Ordering::Relaxed);
        }
        Exchange(None)
    }

    /// Notes that bytes were read from the peer.
    pub(crate) fn bytes_came(&self) {
        // Within an exchange they are a body, or wait in hyper's buffer behind one.
        if self.is_idle() && !self.has_lost_sight() {
            self.head_begun.store(true, Ordering::Relaxed);
        }
    }

    /// Notes that the body of the open exchange's request was given away: it may outlive the exchange.
    pub(crate) fn lose_sight(&self) {
        self.sight_lost.store(true, Ordering::Relaxed);
    }

    /// Returns whether the last request may still be coming in though no exchange is open.
    pub(crate) fn has_lost_sight(&self) -> bool {
        self.sight_lost.load(Ordering::Relaxed)
    }

    /// Notes that a service has dropped the body of a request before its end.
    pub(crate) fn leave_body(&self) {
        self.body_left.store(true, Ordering::Release);
    }

    /// Returns whether what comes next from the peer may belong to the last request, though no exchange is open.
    pub(crate) fn may_be_in_body(&self) -> bool {
        self.has_lost_sight() || self.body_left.load(Ordering::Relaxed)
    }

    /// Returns whether a service has dropped the body of the last request before its end.
    pub(crate) fn has_left_body(&self) -> bool {
        self.body_left.load(Ordering::Acquire)
    }

    /// Returns whether some request has asked for an upgrade, which hyper remembers.
    pub(crate) fn has_wanted_upgrade(&self) -> bool {
        self.upgrade_wanted.load(Ordering::Relaxed)
    }

    /// Returns whether no exchange is open.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// Returns whether a request was ever read.
    pub(crate) fn has_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    /// Returns whether the connection is between two requests, the last of which was nothing but a head, and nothing has
    /// come since.
    pub(crate) fn rests(&self) -> bool {
        self.is_idle()
            && self.has_served()
            && self.bare.load(Ordering::Relaxed)
            && !self.awaits_head()
            && !self.may_be_in_body()
    }

    /// Returns whether a part of a request head was read, and the rest is missing.
    pub(crate) fn awaits_head(&self) -> bool {
        self.head_begun.load(Ordering::Relaxed)
    }

    /// Returns whether the response that is about to go out must be the connection's last.
    pub(crate) fn is_last_response(&self) -> bool {
        match self.server.phases().now() {
            Phase::Serving => false,
            Phase::Expecting | Phase::Moving => !self.moves(),
            Phase::Draining | Phase::LastLook | Phase::Aborting => true,
        }
    }

    /// Returns whether the connection would move to a successor that takes it, and has not refused it.
    pub(crate) fn moves(&self) -> bool {
        let refused = || self.refused.load(Ordering::Relaxed) == self.server.phases().epoch();
        self.moves.load(Ordering::Relaxed) && !refused()
    }

    /// Where the connections of the same server lie.
    pub(crate) fn berths(&self) -> &Berths {
        self.server.berths()
    }

    /// Notes in which epoch it leaves. If it is refused, it does not ask again before the next.
    pub(crate) fn leave(&self) {
        self.refused
            .store(self.server.phases().epoch(), Ordering::Relaxed);
    }

    /// Notes that it was not refused: who was to take it is being replaced.
    pub(crate) fn come_back(&self) {
        self.refused.store(0, Ordering::Relaxed);
    }

    pub(crate) fn set_moves(&self, moves: bool) {
        self.moves.store(moves, Ordering::Relaxed);
    }

    pub(crate) fn ending(&self) -> Ending {
        match self.ending.load(Ordering::Relaxed) {
            0 => Ending::Plain,
            1 => Ending::Lingering,
            _ => Ending::Kept,
        }
    }

    pub(crate) fn set_ending(&self, ending: Ending) {
        self.ending.store(ending as u8, Ordering::Relaxed);
    }
}

/// One request and its response; over when dropped.
///
/// Its parts hold one each: the call, the body that is read, the body that is written. The last one ends it.
#[derive(Debug)]
pub(crate) struct Exchange(Option<Arc<Activity>>);

impl Exchange {
    /// The account that it is open in; `None` for HTTP/2.
    pub(crate) fn activity(&self) -> Option<&Activity> {
        self.0.as_deref()
    }
}

impl Clone for Exchange {
    fn clone(&self) -> Self {
        if let Some(activity) = &self.0 {
            activity.open.fetch_add(1, Ordering::Relaxed);
        }
        Self(self.0.clone())
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(activity) = &self.0 {
            activity.open.fetch_sub(1, Ordering::Release);
        }
    }
}
