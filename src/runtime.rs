//! The runtime that a service gets from [`Builder::run`](crate::Builder::run).

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::runtime::{self, LocalOptions, LocalRuntime, Runtime};

use crate::lifecycle::own;

/// The flavor of the runtime, as in `#[tokio::main]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Flavor {
    /// Tasks are spread over worker threads.
    #[default]
    MultiThread,
    /// Everything runs on the thread that calls [`Builder::run`](crate::Builder::run).
    CurrentThread,
    /// The same, and tasks that are not `Send` can be spawned (`tokio::runtime::LocalRuntime`).
    Local,
}

/// What the runtime does when a task panics, as in `tokio::runtime::Builder`; only where Tokio is
/// built with `--cfg tokio_unstable`.
#[cfg(tokio_unstable)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnhandledPanic {
    /// Nothing: whoever awaits the task is told.
    Ignore,
    /// It shuts down.
    ShutdownRuntime,
}

/// Tokio's options.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) flavor: Flavor,
    pub(crate) worker_threads: Option<usize>,
    pub(crate) max_blocking_threads: Option<usize>,
    #[cfg(feature = "test-util")]
    pub(crate) start_paused: bool,
    #[cfg(tokio_unstable)]
    pub(crate) unhandled_panic: Option<UnhandledPanic>,
    pub(crate) name: Option<String>,
}

/// Either kind of runtime.
#[derive(Debug)]
pub(crate) enum Built {
    Shared(Runtime),
    Local(LocalRuntime),
}

impl Options {
    pub(crate) fn build(&self) -> io::Result<Built> {
        let mut builder = match self.flavor {
            Flavor::MultiThread => runtime::Builder::new_multi_thread(),
            Flavor::CurrentThread | Flavor::Local => runtime::Builder::new_current_thread(),
        };
        builder.enable_all();
        if let Some(count) = self.worker_threads {
            builder.worker_threads(count);
        }
        if let Some(count) = self.max_blocking_threads {
            builder.max_blocking_threads(count);
        }
        #[cfg(feature = "test-util")]
        builder.start_paused(self.start_paused);
        #[cfg(tokio_unstable)]
        match self.unhandled_panic {
            Some(UnhandledPanic::Ignore) => {
                builder.unhandled_panic(runtime::UnhandledPanic::Ignore);
            }
            Some(UnhandledPanic::ShutdownRuntime) => {
                builder.unhandled_panic(runtime::UnhandledPanic::ShutdownRuntime);
            }
            None => {}
        }
        if let Some(name) = &self.name {
            builder.name(name);
        }
        match self.flavor {
            Flavor::Local => builder
                .build_local(LocalOptions::default())
                .map(Built::Local),
            _ => builder.build().map(Built::Shared),
        }
    }
}

impl Built {
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            Self::Shared(runtime) => runtime.block_on(future),
            Self::Local(runtime) => runtime.block_on(future),
        }
    }

    /// Ends what still runs; what blocks a thread has had its time.
    ///
    /// Where that is nothing of the program's, nobody waits for the workers: the process ends sooner
    /// than they have been woken to hear of it.
    pub(crate) fn shut_down(self) {
        match self {
            Self::Shared(runtime) if own::are_alone(runtime.handle(), 1) => {
                runtime.shutdown_background();
            }
            Self::Shared(runtime) => runtime.shutdown_timeout(SHUTDOWN),
            Self::Local(runtime) => runtime.shutdown_timeout(SHUTDOWN),
        }
    }
}

const SHUTDOWN: Duration = Duration::from_secs(1);
