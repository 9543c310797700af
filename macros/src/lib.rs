//! The attribute macro of the `handover` crate, which re-exports it: see `handover::main`.

// `handover` depends on this crate, so the examples are ignored here, and tested there.

use proc_macro::TokenStream;

mod args;
mod expand;

/// Runs an `async fn` as one generation of a service that replaces itself without its clients
/// noticing.
///
/// The function has no parameter, or one [`Context`], and returns whatever `main` may return
/// ([`Termination`]). The macro puts it into a synchronous function of the same name that builds
/// a Tokio runtime and runs the function on it, under the direction of a [`Builder`]. It takes
/// all arguments of `#[tokio::main]`, with the same meaning, and those of the framework.
///
/// The environment is read, signal handlers are installed and inherited descriptors are taken
/// before the first thread is started, so nothing that starts threads should run before it.
///
/// # Arguments
///
/// Each argument but `crate` is the method of [`Builder`] with the same name, which has the
/// details. Values are literals: what has to be computed is given to a [`Builder`].
///
/// Of the runtime, as in `#[tokio::main]`:
///
/// | argument | type | default | meaning |
/// |---|---|---|---|
/// | `flavor` | `"multi_thread"`, `"current_thread"` or `"local"` | `"multi_thread"` | the scheduler; `"local"` is one thread that takes `spawn_local` |
/// | `worker_threads` | integer, at least 1 | the number of CPUs | threads that run tasks; only `"multi_thread"` |
/// | `max_blocking_threads` | integer, at least 1 | 512 | limit of the threads for `spawn_blocking` |
/// | `start_paused` | bool | `false` | start with the clock paused; not `"multi_thread"`; requires Tokio's feature `test-util` |
/// | `name` | string | none | the name of the runtime |
/// | `unhandled_panic` | `"ignore"` or `"shutdown_runtime"` | `"ignore"` | what a panic in a task does; not `"multi_thread"`; requires [`tokio_unstable`] |
/// | `crate` | path, as a string | `"::handover"` | where the `handover` crate is, if it is renamed or re-exported |
///
/// Of the handover:
///
/// | argument | type | default | meaning |
/// |---|---|---|---|
/// | `ready_timeout` | duration, not 0 | `"60s"` | from the start of a successor until it is ready; then it is ended and this generation serves on |
/// | `commit_timeout` | duration, not 0 | `"2s"` | from the commit until the successor serves; then the same |
/// | `hook_timeout` | duration, not 0 | `"30s"` | for each hook of a [`Lifecycle`] |
/// | `drain_timeout` | duration | `"30s"` | for what is in progress when a successor has taken over; then it is aborted |
/// | `stop_timeout` | duration | `drain_timeout` | the same, when the service is stopped |
/// | `kill_grace` | duration | `"5s"` | from the end of the drain until the successor kills a predecessor that is still there |
/// | `max_draining` | integer, at least 1 | 4 | old generations that drain at once; one more shortens the deadline of the oldest |
/// | `handover_signals` | list of signals | `("SIGHUP", "SIGUSR2")` | what starts a handover |
/// | `stop_signals` | list of signals | `("SIGTERM", "SIGINT")` | what stops the service; a second one aborts the drain |
/// | `pid_file` | path, as a string | none | where the pid of the generation that serves is written |
/// | `program` | path, as a string | the path it was started with | the program of a successor |
/// | `systemd` | none: it stands alone | off | what goes on is told to systemd, for a unit with `Type=notify-reload` or `Type=notify`; requires the feature `systemd` |
/// | `metrics` | none: it stands alone | off | what happens is told to the recorder of the `metrics` facade; requires the feature `metrics` |
/// | `deadline_exit_code` | integer from 0 to 255 | 0 | the exit code if the deadline cut something off |
/// | `control` | Unix endpoint, as a string | none | the control socket; requires the feature `control` |
/// | `version` | string | that of the package | the version of the program, for operators |
///
/// A *duration* is a string of whole numbers with the units `h`, `m`, `s` and `ms`, in this
/// order: `"30s"`, `"500ms"`, `"2m"`, `"1m30s"`.
///
/// A *list of signals* is written `stop_signals("SIGTERM", "SIGINT")`, or `stop_signals()` for
/// none at all. There are `SIGHUP`, `SIGINT`, `SIGQUIT`, `SIGTERM`, `SIGUSR1`, `SIGUSR2`,
/// `SIGALRM` and `SIGWINCH`. A signal cannot be in both lists: whoever moves one from its default
/// gives both.
///
/// # Examples
///
/// ```ignore
/// #[handover::main]
/// async fn main(cx: handover::Context) -> Result<(), Box<dyn std::error::Error>> {
///     let mut listener = cx.bind("0.0.0.0:8080").await?;
///     cx.ready().await?;
///     while let Some(connection) = listener.accept().await? {
///         cx.spawn("connection", greet(connection));
///     }
///     Ok(())
/// }
/// # async fn greet(_: handover::Conn) {}
/// ```
///
/// With arguments:
///
/// ```ignore
/// use handover::Context;
///
/// #[handover::main(
///     flavor = "current_thread",
///     drain_timeout = "1m30s",
///     handover_signals("SIGHUP"),
///     pid_file = "/run/app.pid"
/// )]
/// async fn main(cx: Context) -> Result<(), handover::Error> {
///     cx.ready().await
/// }
/// ```
///
/// Equivalent code without the macro:
///
/// ```ignore
/// use std::process::ExitCode;
/// use std::time::Duration;
///
/// use handover::{Builder, Context, Flavor, Signal};
///
/// fn main() -> ExitCode {
///     async fn main(cx: Context) -> Result<(), handover::Error> {
///         cx.ready().await
///     }
///     Builder::new()
///         .version(option_env!("CARGO_PKG_VERSION"))
///         .flavor(Flavor::CurrentThread)
///         .drain_timeout(Duration::from_millis(90_000))
///         .handover_signals([Signal::Hangup])
///         .pid_file("/run/app.pid")
///         .run(main)
/// }
/// ```
///
/// The macro need not be on `main`: the function can be called where `main` has read the command
/// line, and then returns the exit code.
///
/// ```ignore
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     match std::env::args().nth(1).as_deref() {
///         Some("check") => ExitCode::SUCCESS,
///         _ => serve(),
///     }
/// }
///
/// #[handover::main]
/// async fn serve(cx: handover::Context) -> Result<(), handover::Error> {
///     cx.ready().await
/// }
/// ```
///
/// Through another crate, which re-exports `handover`:
///
/// ```ignore
/// #[framework::handover::main(crate = "framework::handover")]
/// async fn main() {}
/// ```
///
/// [`Builder`]: ../handover/struct.Builder.html
/// [`Context`]: ../handover/struct.Context.html
/// [`Lifecycle`]: ../handover/trait.Lifecycle.html
/// [`Termination`]: std::process::Termination
/// [`tokio_unstable`]: https://docs.rs/tokio/latest/tokio/#unstable-features
#[proc_macro_attribute]
pub fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::main(args.into(), item.into()).into()
}
