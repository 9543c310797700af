//! The names of the facade that the macro emits, with a builder that records its calls.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::fmt::Debug;
use std::path::Path;
use std::pin::pin;
use std::process::{ExitCode, Termination};
use std::task::{Poll, Waker};
use std::time::Duration;

/// What the function is called with: the calls on the builder up to then.
#[derive(Debug)]
pub struct Context {
    pub calls: Vec<String>,
    pub version: Option<&'static str>,
}

#[derive(Debug)]
pub enum Flavor {
    MultiThread,
    CurrentThread,
    Local,
}

#[derive(Debug)]
pub enum UnhandledPanic {
    Ignore,
    ShutdownRuntime,
}

#[derive(Debug)]
pub enum Signal {
    Hangup,
    Interrupt,
    Quit,
    Terminate,
    User1,
    User2,
    Alarm,
    WindowChange,
}

#[derive(Debug)]
pub struct Builder {
    calls: Vec<String>,
    version: Option<&'static str>,
}

impl Builder {
    pub fn new() -> Self {
        Self {
            calls: Vec::new(),
            version: None,
        }
    }

    pub fn flavor(self, flavor: Flavor) -> Self {
        self.record("flavor", flavor)
    }

    pub fn worker_threads(self, threads: usize) -> Self {
        self.record("worker_threads", threads)
    }

    pub fn max_blocking_threads(self, threads: usize) -> Self {
        self.record("max_blocking_threads", threads)
    }

    pub fn start_paused(self, paused: bool) -> Self {
        self.record("start_paused", paused)
    }

    pub fn name(self, name: &str) -> Self {
        self.record("name", name)
    }

    pub fn unhandled_panic(self, behavior: UnhandledPanic) -> Self {
        self.record("unhandled_panic", behavior)
    }

    pub fn ready_timeout(self, timeout: Duration) -> Self {
        self.record("ready_timeout", timeout)
    }

    pub fn commit_timeout(self, timeout: Duration) -> Self {
        self.record("commit_timeout", timeout)
    }

    pub fn hook_timeout(self, timeout: Duration) -> Self {
        self.record("hook_timeout", timeout)
    }

    pub fn drain_timeout(self, timeout: Duration) -> Self {
        self.record("drain_timeout", timeout)
    }

    pub fn stop_timeout(self, timeout: Duration) -> Self {
        self.record("stop_timeout", timeout)
    }

    pub fn lame_duck(self, time: Duration) -> Self {
        self.record("lame_duck", time)
    }

    pub fn kill_grace(self, grace: Duration) -> Self {
        self.record("kill_grace", grace)
    }

    pub fn max_draining(self, generations: usize) -> Self {
        self.record("max_draining", generations)
    }

    pub fn handover_signals(self, signals: impl IntoIterator<Item = Signal>) -> Self {
        let signals: Vec<_> = signals.into_iter().collect();
        self.record("handover_signals", signals)
    }

    pub fn stop_signals(self, signals: impl IntoIterator<Item = Signal>) -> Self {
        let signals: Vec<_> = signals.into_iter().collect();
        self.record("stop_signals", signals)
    }

    pub fn pid_file(self, path: impl AsRef<Path>) -> Self {
        self.record("pid_file", path.as_ref())
    }

    pub fn program(self, path: impl AsRef<Path>) -> Self {
        self.record("program", path.as_ref())
    }

    pub fn deadline_exit_code(self, code: u8) -> Self {
        self.record("deadline_exit_code", code)
    }

    pub fn metrics(mut self) -> Self {
        self.calls.push("metrics()".to_owned());
        self
    }

    pub fn systemd(mut self) -> Self {
        self.calls.push("systemd()".to_owned());
        self
    }

    pub fn control(self, endpoint: &str) -> Self {
        self.record("control", endpoint)
    }

    pub fn version(mut self, version: impl Into<Option<&'static str>>) -> Self {
        self.version = version.into();
        self
    }

    /// Polls what `main` returns once.
    pub fn run<M, F>(self, main: M) -> ExitCode
    where
        M: FnOnce(Context) -> F,
        F: Future<Output: Termination>,
    {
        let future = pin!(main(Context {
            calls: self.calls,
            version: self.version,
        }));
        let mut task = std::task::Context::from_waker(Waker::noop());
        match future.poll(&mut task) {
            Poll::Ready(output) => output.report(),
            Poll::Pending => ExitCode::from(101),
        }
    }

    fn record(mut self, method: &str, argument: impl Debug) -> Self {
        self.calls.push(format!("{method}({argument:?})"));
        self
    }
}
