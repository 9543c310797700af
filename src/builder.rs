//! What can be chosen about a service, and the way into it.

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::{ExitCode, Termination};
use std::time::Duration;

use crate::context::Context;
use crate::error::Error;
use crate::lifecycle::signal::Signal;
use crate::run::{Integration, Integrations, Prepared, Program};
use crate::runtime::{self, Flavor};

/// The options of a service, each with a default, and [`run`](Self::run) at the end.
///
/// `#[handover::main]` expands to a chain of these methods.
///
/// | option | default | what it is |
/// |---|---|---|
/// | [`flavor`](Self::flavor), [`worker_threads`](Self::worker_threads), [`max_blocking_threads`](Self::max_blocking_threads), [`name`](Self::name) | Tokio's | the runtime |
/// | [`ready_timeout`](Self::ready_timeout) | 60 s | from the start of a successor until it is ready |
/// | [`commit_timeout`](Self::commit_timeout) | 2 s | from the commit until the successor's gates are open |
/// | [`drain_timeout`](Self::drain_timeout) | 30 s | how long connections may go on after a handover |
/// | [`stop_timeout`](Self::stop_timeout) | `drain_timeout` | the same after a stop |
/// | [`lame_duck`](Self::lame_duck) | 0 | how long a service that stops goes on accepting before its drain |
/// | [`hook_timeout`](Self::hook_timeout) | 30 s | the limit of each hook of a component |
/// | [`kill_grace`](Self::kill_grace) | 5 s | how long after its deadline an old generation is killed |
/// | [`max_draining`](Self::max_draining) | 4 | how many old generations may drain at once |
/// | [`handover_signals`](Self::handover_signals) | `SIGHUP`, `SIGUSR2` | triggers of a handover |
/// | [`stop_signals`](Self::stop_signals) | `SIGTERM`, `SIGINT` | triggers of a stop |
/// | [`pid_file`](Self::pid_file) | none | where to write the pid of the generation that serves |
/// | [`program`](Self::program), [`args`](Self::args), [`env`](Self::env), [`current_dir`](Self::current_dir) | those of the start | what a successor is started with |
/// | [`deadline_exit_code`](Self::deadline_exit_code) | 0 | the exit code when a deadline cut something |
/// | [`version`](Self::version) | none | the version of the program, for operators |
///
/// # Examples
///
/// ```no_run
/// use std::process::ExitCode;
/// use std::time::Duration;
///
/// fn main() -> ExitCode {
///     handover::Builder::new().drain_timeout(Duration::from_secs(30)).run(|cx| async move {
///         let mut listener = cx.bind("127.0.0.1:8080").await?;
///         cx.ready().await?;
///         while let Some(conn) = listener.accept().await? {
///             drop(conn);
///         }
///         Ok::<(), Box<dyn std::error::Error>>(())
///     })
/// }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is run"]
pub struct Builder {
    runtime: runtime::Options,
    options: Options,
}

/// The framework's options.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) ready_timeout: Duration,
    pub(crate) commit_timeout: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) stop_timeout: Option<Duration>,
    pub(crate) lame_duck: Duration,
    pub(crate) hook_timeout: Duration,
    pub(crate) kill_grace: Duration,
    pub(crate) max_draining: usize,
    pub(crate) handover_signals: Vec<Signal>,
    pub(crate) stop_signals: Vec<Signal>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) program: Program,
    pub(crate) deadline_exit_code: u8,
    /// The version of the program.
    #[allow(dead_code, reason = "only integrations tell it, and each is a feature")]
    pub(crate) version: Option<&'static str>,
    pub(crate) integrations: Integrations,
}

impl Builder {
    /// Starts with the defaults.
    pub fn new() -> Self {
        Self {
            runtime: runtime::Options::default(),
            options: Options {
                ready_timeout: Duration::from_secs(60),
                commit_timeout: Duration::from_secs(2),
                drain_timeout: Duration::from_secs(30),
                stop_timeout: None,
                lame_duck: Duration::ZERO,
                hook_timeout: Duration::from_secs(30),
                kill_grace: Duration::from_secs(5),
                max_draining: 4,
                handover_signals: vec![Signal::Hangup, Signal::User2],
                stop_signals: vec![Signal::Terminate, Signal::Interrupt],
                pid_file: None,
                program: Program::default(),
                deadline_exit_code: 0,
                version: None,
                integrations: Integrations::default(),
            },
        }
    }

    /// The flavor of the runtime.
    pub fn flavor(mut self, flavor: Flavor) -> Self {
        self.runtime.flavor = flavor;
        self
    }

    /// The number of worker threads of the multi-thread flavor; by default that of the cores.
    pub fn worker_threads(mut self, count: usize) -> Self {
        self.runtime.worker_threads = Some(count);
        self
    }

    /// The most threads for blocking work; 512 by default.
    pub fn max_blocking_threads(mut self, count: usize) -> Self {
        self.runtime.max_blocking_threads = Some(count);
        self
    }

    /// Whether Tokio's clock starts paused, for tests; needs the current-thread or local flavor, as
    /// in Tokio.
    #[cfg(feature = "test-util")]
    #[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
    pub fn start_paused(mut self, paused: bool) -> Self {
        self.runtime.start_paused = paused;
        self
    }

    /// What the runtime does when a task panics; needs the current-thread or local flavor and
    /// `--cfg tokio_unstable`, as in Tokio.
    #[cfg(tokio_unstable)]
    pub fn unhandled_panic(mut self, behavior: runtime::UnhandledPanic) -> Self {
        self.runtime.unhandled_panic = Some(behavior);
        self
    }

    /// The name of the runtime.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.runtime.name = Some(name.into());
        self
    }

    /// How long a successor may take from its start until it is ready.
    pub fn ready_timeout(mut self, limit: Duration) -> Self {
        self.options.ready_timeout = limit;
        self
    }

    /// How long a successor may take from the commit until its gates are open; only code of this
    /// library runs in between.
    pub fn commit_timeout(mut self, limit: Duration) -> Self {
        self.options.commit_timeout = limit;
        self
    }

    /// How long connections and tasks may go on after a handover, before they are cut.
    pub fn drain_timeout(mut self, limit: Duration) -> Self {
        self.options.drain_timeout = limit;
        self
    }

    /// How long connections and tasks may go on after a stop, before they are cut.
    pub fn stop_timeout(mut self, limit: Duration) -> Self {
        self.options.stop_timeout = Some(limit);
        self
    }

    /// How long a service that stops goes on accepting before its drain begins, while
    /// [`Context::stopping`] is reached and readiness says no: the time that a load balancer needs
    /// to notice and send its clients elsewhere. 0, the default, is no such time.
    ///
    /// A second stop ends it at once, and one more aborts the drain. A handover is refused
    /// meanwhile. It comes on top of [`stop_timeout`](Self::stop_timeout): whoever kills the service
    /// after a time of its own (`TimeoutStopSec=`, `terminationGracePeriodSeconds`) has to wait for
    /// both.
    pub fn lame_duck(mut self, time: Duration) -> Self {
        self.options.lame_duck = time;
        self
    }

    /// The limit of each hook of a component.
    pub fn hook_timeout(mut self, limit: Duration) -> Self {
        self.options.hook_timeout = limit;
        self
    }

    /// How long after its drain deadline an old generation that still runs is killed by the one
    /// that serves.
    pub fn kill_grace(mut self, grace: Duration) -> Self {
        self.options.kill_grace = grace;
        self
    }

    /// How many old generations may drain at once; with one more, the oldest is ended.
    pub fn max_draining(mut self, count: usize) -> Self {
        self.options.max_draining = count;
        self
    }

    /// The signals that trigger a handover; none at all with an empty list.
    ///
    /// A signal that the process was started with ignoring stays ignored, as `SIGHUP` under
    /// `nohup(1)`. A `SIGHUP` that comes because the controlling terminal has gone is a stop.
    pub fn handover_signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        self.options.handover_signals = signals.into_iter().collect();
        self
    }

    /// The signals that trigger a stop; a second one aborts the drain. None at all with an empty
    /// list.
    pub fn stop_signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        self.options.stop_signals = signals.into_iter().collect();
        self
    }

    /// Where to write the pid of the generation that serves. The file is replaced by renaming,
    /// after the commit and before the predecessor can exit, and is removed on a final stop.
    pub fn pid_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.pid_file = Some(path.into());
        self
    }

    /// The program that a successor is started from; by default the path that this process was
    /// started with, looked up anew each time.
    ///
    /// This and the options below are those of the incumbent: what a new version of the program sets
    /// here counts when that one hands over.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.program.path = Some(path.into());
        self
    }

    /// The arguments of a successor, without the program's name; by default those of this process.
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.options.program.arguments = Some(arguments.into_iter().map(Into::into).collect());
        self
    }

    /// Sets a variable in the environment of a successor, which is otherwise the one that this
    /// process was started with.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let value = Some(value.as_ref().to_owned());
        self.options
            .program
            .environment
            .push((key.as_ref().to_owned(), value));
        self
    }

    /// Removes a variable from the environment of a successor.
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.options
            .program
            .environment
            .push((key.as_ref().to_owned(), None));
        self
    }

    /// The directory that a successor is started in; by default the one that this process was
    /// started in.
    pub fn current_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.program.directory = Some(path.into());
        self
    }

    /// The exit code of a generation whose deadline cut connections, tasks or main.
    pub fn deadline_exit_code(mut self, code: u8) -> Self {
        self.options.deadline_exit_code = code;
        self
    }

    /// The version of the program, as an operator is told it; `env!("CARGO_PKG_VERSION")`, say, which
    /// is what `#[handover::main]` sets.
    pub fn version(mut self, version: impl Into<Option<&'static str>>) -> Self {
        self.options.version = version.into();
        self
    }

    #[cfg(all(feature = "control", any(test, fuzzing)))]
    pub(crate) fn into_options(self) -> Options {
        self.options
    }

    /// Connects the service with something outside.
    #[allow(dead_code, reason = "each integration is a feature")]
    pub(crate) fn integrate(mut self, integration: impl Integration + 'static) -> Self {
        self.options.integrations.add(integration);
        self
    }

    /// Runs a service on a runtime of its own, until it has drained.
    ///
    /// It has to be called before the program starts any thread: this is the moment at which the
    /// environment is read, handlers are installed and inherited descriptors are taken.
    ///
    /// # Exit codes
    ///
    /// | code | when |
    /// |---|---|
    /// | what `main` returned | it returned by itself; for a `Result` 0 or 1 |
    /// | 0 | `main` was dropped at the end of a drain |
    /// | [`deadline_exit_code`](Self::deadline_exit_code) | the deadline cut something |
    /// | 1 | the start failed, or this generation will not serve |
    /// | 101 | `main` panicked |
    pub fn run<M, F>(self, main: M) -> ExitCode
    where
        M: FnOnce(Context) -> F,
        F: Future<Output: Termination>,
    {
        let start = self.options.prepare().and_then(|prepared| {
            let runtime = self.runtime.build();
            Ok((
                prepared,
                runtime.map_err(|error| Error::io("could not build the runtime", error))?,
            ))
        });
        let (prepared, runtime) = match start {
            Ok(start) => start,
            Err(error) => return Err::<(), _>(error).report(),
        };
        // A panic of main must not wait for threads that block, as a runtime does that is dropped.
        let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(prepared.run(main))));
        runtime.shut_down();
        ended.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Takes over what this process has inherited, for a program that owns a runtime already.
    ///
    /// It has to be called before the program starts any thread, and at most once in a process.
    /// The options of the runtime do not count here.
    ///
    /// # Errors
    ///
    /// When what was inherited is not what it is said to be, or handlers cannot be installed.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn main() -> Result<std::process::ExitCode, Box<dyn std::error::Error>> {
    /// let prepared = handover::Builder::new().prepare()?;
    /// let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    /// Ok(runtime.block_on(prepared.run(|cx| async move {
    ///     cx.ready().await?;
    ///     cx.draining().await;
    ///     Ok::<(), handover::Error>(())
    /// })))
    /// # }
    /// ```
    pub fn prepare(self) -> Result<Prepared, Error> {
        self.options.prepare()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    fn prepare(self) -> Result<Prepared, Error> {
        Prepared::new(self)
    }

    /// The deadline of a drain after a stop.
    pub(crate) fn stop_timeout(&self) -> Duration {
        self.stop_timeout.unwrap_or(self.drain_timeout)
    }

    /// The time in which a generation that is told to stop has ended in any case, as long as there is a
    /// thread to end it: it may wait for a commit, for its drain or the hooks of one that has not
    /// served, and for an old generation that has to be killed.
    pub(crate) fn longest_stop(&self) -> Duration {
        let drain = self.stop_timeout().max(self.hook_timeout);
        [self.commit_timeout, drain, self.kill_grace, LAST_STEPS]
            .into_iter()
            .fold(self.lame_duck, Duration::saturating_add)
    }
}

/// From the abort of a drain to the end of the process: what is left of it has limits of a second or
/// two each.
const LAST_STEPS: Duration = Duration::from_secs(5);
