//! What the connections of one server share.

use std::{future::Future, pin::pin, time::Duration};

use hyper::server::conn::{http1, http2};

use super::{
    berth::{Berths, Leave},
    executor::Spawn,
    options::Options,
    phase::{Phase, Phases},
    room::{Place, Room},
};
use crate::net::door::Prospect;

/// The options of a server, where its drain stands, and the count of its connections.
#[derive(Debug)]
pub(crate) struct Server {
    http1: http1::Builder,
    http2: http2::Builder<Spawn>,
    head_timeout: Duration,
    phases: Phases,
    berths: Berths,
    room: Room,
}

impl Server {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            http1: options.http1.into_builder(),
            http2: options.http2.into_builder(),
            head_timeout: options.header_timeout,
            phases: Phases::new(),
            berths: Berths::default(),
            room: Room::new(options.max_connections),
        }
    }

    pub(crate) fn http1(&self) -> &http1::Builder {
        &self.http1
    }

    pub(crate) fn http2(&self) -> &http2::Builder<Spawn> {
        &self.http2
    }

    /// The longest that a request head or an HTTP/2 preface may take from its first byte.
    pub(crate) fn head_timeout(&self) -> Duration {
        self.head_timeout
    }

    pub(crate) fn phases(&self) -> &Phases {
        &self.phases
    }

    /// Where its connections lie between two requests.
    pub(crate) fn berths(&self) -> &Berths {
        &self.berths
    }

    /// Counts a connection until its place is dropped.
    pub(crate) fn count(&self) -> Place {
        self.room.take()
    }

    /// Waits until one more connection may be accepted.
    pub(crate) async fn has_room(&self) {
        self.room.wait().await;
    }

    /// Says that no further connection will be counted.
    pub(crate) fn close(&self) {
        self.room.close();
    }

    /// Waits until the server is closed and its last connection has ended.
    pub(crate) async fn ended(&self) {
        self.room.empty().await;
    }

    /// Moves on to `phase`, and wakes every connection that it concerns; but those in berths not for
    /// [`Phase::Moving`], in which they [leave](Berths::leave).
    ///
    /// Only the one task that follows the drain may call this.
    pub(crate) fn advance(&self, phase: Phase) {
        if self.phases.advance(phase) && self.phases.now() >= Phase::Draining {
            self.berths.wake();
        }
    }

    /// Waits for the drain, and then as long as connections may move to the successor, or do.
    pub(crate) async fn move_out(
        &self,
        draining: impl Future<Output = ()>,
        prospect: Option<Prospect>,
    ) {
        draining.await;
        let Some(mut prospect) = prospect.filter(Prospect::is_open) else {
            return;
        };
        while prospect.is_open() {
            self.advance(Phase::Expecting);
            if !prospect.decided().await {
                return;
            }
            let epoch = prospect.epoch();
            self.advance(Phase::Moving);
            let asked = self.berths.leave().await;
            asked.into_iter().rev().take(LAST).for_each(Leave::tell);
            // Over may mean that another one takes them.
            prospect.over(epoch).await;
        }
    }

    /// Takes the connections through the drain, to the end of the last one or to the abort, whichever comes first.
    pub(crate) async fn follow(
        &self,
        draining: impl Future<Output = ()>,
        last_look: impl Future<Output = ()>,
        aborting: impl Future<Output = ()>,
    ) {
        let mut draining = pin!(draining);
        let mut last_look = pin!(last_look);
        let (mut serving, mut looked) = (true, false);
        let mut aborting = pin!(aborting);
        let mut ended = pin!(self.ended());
        loop {
            tokio::select! {
                biased;
                () = &mut ended => return,
                () = &mut aborting => break,
                () = &mut draining, if serving => {
                    serving = false;
                    self.advance(Phase::Draining);
                }
                () = &mut last_look, if !looked => {
                    looked = true;
                    self.advance(Phase::LastLook);
                }
            }
        }
        self.advance(Phase::Aborting);
    }
}

/// So many of those that leave last give up what has served them while the successor looks at them: about as many as may
/// be unanswered. For all before them the answer has come by then, and with it that takes less.
const LAST: usize = 1024;
