//! The limit on the time that a request head, or an HTTP/2 preface, may take.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

/// A clock that runs while a head is incomplete.
///
/// hyper has one, too, but that runs from the end of the last response, so it closes connections that are merely
/// idle, which costs their client its next request.
#[derive(Debug)]
pub(crate) struct HeadTimeout {
    limit: Duration,
    running: Option<Pin<Box<Sleep>>>,
}

impl HeadTimeout {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            running: None,
        }
    }

    /// Runs while `incomplete` and is ready when that has lasted too long; goes back to the start when it is not.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, incomplete: bool) -> Poll<Duration> {
        if !incomplete {
            self.running = None;
            return Poll::Pending;
        }
        let limit = self.limit;
        self.running
            .get_or_insert_with(|| Box::pin(sleep(limit)))
            .as_mut()
            .poll(cx)
            .map(|()| limit)
    }
}
