//! What the connections of one server share.

use std::{future::Future, pin::pin, time::Duration};

use hyper::server::conn::{http1, http2};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::{
    executor::Spawn,
    phase::{Phase, Phases},
};

/// The options of a server, where its drain stands, and the count of its connections.
#[derive(Debug)]
pub(crate) struct Server {
    http1: http1::Builder,
    http2: http2::Builder<Spawn>,
    head_timeout: Duration,
    phases: Phases,
    connections: TaskTracker,
}

impl Server {
    pub(crate) fn new(http1: http1::Builder, head_timeout: Duration) -> Self {
        let mut http2 = http2::Builder::new(Spawn);
        // WebSockets over HTTP/2 are opened with extended CONNECT (RFC 8441).
        http2.enable_connect_protocol();
        Self {
            http1,
            http2,
            head_timeout,
            phases: Phases::new(),
            connections: TaskTracker::new(),
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

    /// Counts a connection until the token is dropped.
    pub(crate) fn count(&self) -> TaskTrackerToken {
        self.connections.token()
    }

    /// Says that no further connection will be counted.
    pub(crate) fn close(&self) {
        self.connections.close();
    }

    /// Waits until the server is closed and its last connection has ended.
    pub(crate) async fn ended(&self) {
        self.connections.wait().await;
    }

    /// Takes the connections through the drain, to the end of the last one or to the abort, whichever comes first.
    pub(crate) async fn follow(
        &self,
        draining: impl Future<Output = ()>,
        last_look: impl Future<Output = ()>,
        aborting: impl Future<Output = ()>,
    ) {
        let mut steps = pin!(async {
            draining.await;
            self.phases.advance(Phase::Draining);
            last_look.await;
            self.phases.advance(Phase::LastLook);
        });
        let mut left = true;
        let mut aborting = pin!(aborting);
        let mut ended = pin!(self.ended());
        loop {
            tokio::select! {
                biased;
                () = &mut ended => return,
                () = &mut aborting => break,
                () = &mut steps, if left => left = false,
            }
        }
        self.phases.advance(Phase::Aborting);
    }
}
