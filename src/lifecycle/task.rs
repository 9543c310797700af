//! Named tasks: those that a drain waits for, and those that it drops.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::token::Token;

/// The tasks that the drain of this generation waits for, by name.
#[derive(Debug)]
pub(crate) struct Tasks {
    running: Mutex<Running>,
    /// Told when the last task has gone.
    empty: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    names: BTreeMap<u64, Arc<str>>,
}

/// The place of one task in the list, given back on drop: also when the task panics or is aborted.
struct Entry {
    tasks: Arc<Tasks>,
    id: u64,
}

impl Tasks {
    pub(crate) fn new(empty: Arc<Notify>) -> Self {
        Self {
            running: Mutex::default(),
            empty,
        }
    }

    /// Spawns a task that the drain waits for, and that is dropped at the deadline.
    pub(crate) fn spawn<F>(
        self: &Arc<Self>,
        name: &str,
        aborting: &Token,
        future: F,
    ) -> JoinHandle<Option<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let entry = self.enter(name);
        let aborting = aborting.cancelled_owned();
        tokio::spawn(async move {
            let _entry = entry;
            tokio::select! {
                biased;
                () = aborting => None,
                output = future => Some(output),
            }
        })
    }

    /// The names of the tasks that run, in the order of their start.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.lock().names.values().cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().names.is_empty()
    }

    fn enter(self: &Arc<Self>, name: &str) -> Entry {
        let mut running = self.lock();
        let id = running.next;
        running.next += 1;
        running.names.insert(id, Arc::from(name));
        Entry {
            tasks: Arc::clone(self),
            id,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut running = self.tasks.lock();
        running.names.remove(&self.id);
        let last = running.names.is_empty();
        drop(running);
        if last {
            self.tasks.empty.notify_one();
        }
    }
}

/// Spawns a task that is dropped when the drain starts.
pub(crate) fn background<F>(draining: &Token, future: F) -> JoinHandle<Option<F::Output>>
where
    F: Future<Output: Send> + Send + 'static,
{
    let draining = draining.cancelled_owned();
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = draining => None,
            output = future => Some(output),
        }
    })
}
