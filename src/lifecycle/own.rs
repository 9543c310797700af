//! The tasks of this crate itself, with which nothing is lost when the process ends.
//!
//! They are counted, because the others are the program's: those it may expect to be dropped.

use std::future::Future;
use std::sync::LazyLock;
use std::thread;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::sys::process;

/// Spawns one.
pub(crate) fn spawn<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    OWN.spawn(task)
}

/// Spawns one on another runtime than the caller's.
pub(crate) fn spawn_on<F>(task: F, runtime: &Handle) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    OWN.spawn_on(task, runtime)
}

/// Whether no other task is left on a runtime, and no thread in the process but its workers and as many
/// `others`. The tasks of this crate count as those of this runtime, wherever they are.
pub(crate) fn are_alone(runtime: &Handle, others: u64) -> bool {
    let metrics = runtime.metrics();
    let workers = match runtime.runtime_flavor() {
        RuntimeFlavor::MultiThread => metrics.num_workers() as u64,
        _ => 0,
    };
    let threads = || process::threads().is_ok_and(|threads| threads == workers + others);
    let tasks = || metrics.num_alive_tasks() <= OWN.len();
    // Whoever has said that the last one ends may have been faster than its end.
    let mut looks = 0..LOOKS;
    let ended = looks.any(|look| {
        if look > 0 {
            thread::yield_now();
        }
        tasks()
    });
    ended && threads()
}

/// How often tasks that are about to end are looked at.
const LOOKS: usize = 64;

static OWN: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::mpsc;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime() -> (Runtime, u64) {
        let others = process::threads().expect("/proc");
        let runtime = Builder::new_multi_thread().worker_threads(2).build();
        (runtime.expect("a runtime"), others)
    }

    #[test]
    fn tasks_of_the_program_are_seen() {
        let (runtime, others) = runtime();
        assert!(are_alone(runtime.handle(), others));
        let _here = runtime.enter();
        spawn(pending::<()>());
        assert!(are_alone(runtime.handle(), others));
        tokio::spawn(pending::<()>());
        assert!(!are_alone(runtime.handle(), others));
    }

    #[test]
    fn threads_of_the_program_are_seen() {
        let (runtime, others) = runtime();
        assert!(are_alone(runtime.handle(), others));
        let (end, ended) = mpsc::channel::<()>();
        runtime.spawn_blocking(move || ended.recv());
        assert!(!are_alone(runtime.handle(), others));
        drop(end);
    }
}
