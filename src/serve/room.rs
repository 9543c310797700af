//! How many connections a server has at a time.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// The count of a server's connections, and its limit.
#[derive(Debug)]
pub(crate) struct Room {
    connections: TaskTracker,
    // Without a limit there is nothing to pay for.
    free: Option<Arc<Semaphore>>,
}

/// A connection's place in the count, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _counted: TaskTrackerToken,
    taken_of: Option<Arc<Semaphore>>,
}

impl Room {
    pub(crate) fn new(limit: Option<usize>) -> Self {
        let free = |limit: usize| Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        Self {
            connections: TaskTracker::new(),
            free: limit.map(free),
        }
    }

    /// Waits until there is room for one more connection, and keeps it for the next [`Place`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is kept by a call that has not returned.
    pub(crate) async fn wait(&self) {
        let Some(free) = &self.free else {
            return;
        };
        // Nobody closes it.
        if let Ok(permit) = free.acquire().await {
            permit.forget();
        }
    }

    /// Gives a connection its place.
    pub(crate) fn take(&self) -> Place {
        Place {
            _counted: self.connections.token(),
            taken_of: self.free.clone(),
        }
    }

    /// Says that no further connection will come.
    pub(crate) fn close(&self) {
        self.connections.close();
    }

    /// Waits until no further connection will come and the last one has ended.
    pub(crate) async fn empty(&self) {
        self.connections.wait().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(free) = &self.taken_of {
            free.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_full_room_has_a_place_when_one_is_left() {
        let room = Room::new(Some(2));
        room.wait().await;
        let first = room.take();
        room.wait().await;
        let _second = room.take();

        assert_eq!(room.wait().now_or_never(), None);
        drop(first);

        room.wait().await;
        assert_eq!(room.wait().now_or_never(), None);
    }

    #[tokio::test]
    async fn without_a_limit_there_is_always_room() {
        let room = Room::new(None);
        let places: Vec<_> = (0..1000).map(|_| room.take()).collect();
        room.wait().await;
        drop(places);
        room.close();
        room.empty().await;
    }
}
