//! Zero-downtime restarts for Tokio services: the running process replaces itself, and no client notices.
//!
//! A service that is told to restart (`SIGHUP`) starts its program once more. The new process, the *successor*,
//! inherits the listening sockets, initialises as long as it needs, and says that it is ready. Only then does the old
//! one, the *incumbent*, stop accepting; it finishes what it has and exits. If the successor fails before it serves,
//! whatever the way, the incumbent goes on as if nothing had happened, and its log says why.
//!
//! This is the reference. The [README] has the overview, [how it works] the transaction with every failure, [draining]
//! what happens to each kind of connection, and [migrating] the way from `tokio::main`, ecdysis and tableflip.
//!
//! # A service
//!
//! [`#[handover::main]`][macro] takes the place of `#[tokio::main]`. The [`Context`] is the handle on the life of
//! this generation: endpoints come from [`bind`](Context::bind), adopted from the predecessor if it has them;
//! [`ready`](Context::ready) resolves when this generation serves. Nothing is accepted before.
//!
#![cfg_attr(feature = "macros", doc = "```no_run")]
#![cfg_attr(not(feature = "macros"), doc = "```ignore")]
//! use handover::{Conn, Context};
//! use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
//!
//! #[handover::main(drain_timeout = "1m")]
//! async fn main(cx: Context) -> Result<(), Box<dyn std::error::Error>> {
//!     let mut listener = cx.bind("127.0.0.1:7000").await?;
//!     cx.ready().await?;
//!     // `None` when this generation accepts no more; the open sessions go on.
//!     while let Some(conn) = listener.accept().await? {
//!         let draining = cx.draining();
//!         tokio::spawn(async move {
//!             tokio::select! {
//!                 result = echo(conn) => result,
//!                 // A protocol of one's own knows best when to leave: here, at once.
//!                 () = draining.cancelled() => Ok(()),
//!             }
//!         });
//!     }
//!     Ok(())
//! }
//!
//! async fn echo(conn: Conn) -> std::io::Result<()> {
//!     let mut conn = BufReader::new(conn);
//!     let mut line = Vec::new();
//!     while conn.read_until(b'\n', &mut line).await? > 0 {
//!         conn.write_all(&line).await?;
//!         line.clear();
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A [`Conn`] counts in the drain until it is dropped, wherever it is moved to. Main returns when its listeners have
//! ended; the process exits when the last connection has gone, or at the deadline.
//!
//! # An axum service
//!
//! With the feature `axum`, [`handover::axum::serve`] takes the place of `axum::serve`. It returns when this
//! generation has drained, and loses no request on the way.
//!
#![cfg_attr(feature = "axum", doc = "```no_run")]
#![cfg_attr(not(feature = "axum"), doc = "```ignore")]
//! use axum::{Router, routing::get};
//! use handover::Context;
//!
//! #[handover::main]
//! async fn main(cx: Context) -> Result<(), Box<dyn std::error::Error>> {
//!     let listener = cx.bind("0.0.0.0:8080").await?;
//!     let app = Router::new().route("/", get(|| async { "hello" }));
//!     cx.ready().await?;
//!     handover::axum::serve(listener, app).await?;
//!     Ok(())
//! }
//! ```
//!
//! What it returns is a builder: options of HTTP/1 and HTTP/2, limits, what applies to the drain. The features `hyper`
//! and `tonic` have a `serve` of the same kind for services of hyper and for gRPC.
//!
//! Several servers run side by side: `tokio::try_join!(serve(a, app), serve(b, admin))`.
//!
//! # A component
//!
//! What has to be initialised, and what only one process may hold, goes into a [`Lifecycle`]: a pool, a cache, a
//! lock. [`Context::attach`] runs `on_init` there and then and returns an `Arc` of the component; the other hooks run
//! by themselves, each under a time limit and with the component's name in every error.
//!
#![cfg_attr(feature = "macros", doc = "```no_run")]
#![cfg_attr(not(feature = "macros"), doc = "```ignore")]
//! use std::sync::Mutex;
//! use std::time::Duration;
//!
//! use handover::{BoxError, Context, Lifecycle};
//! use tokio::task::AbortHandle;
//!
//! /// A job that only one process may run.
//! #[derive(Default)]
//! struct Nightly {
//!     table: String,
//!     running: Mutex<Option<AbortHandle>>,
//! }
//!
//! impl Lifecycle for Nightly {
//!     // The incumbent still serves. An error ends this generation, and the incumbent serves on.
//!     async fn on_init(&mut self) -> Result<(), BoxError> {
//!         self.table = std::fs::read_to_string("/etc/app/nightly.conf")?;
//!         Ok(())
//!     }
//!
//!     // The predecessor has let go: its `on_drain` has returned.
//!     async fn on_active(&self) -> Result<(), BoxError> {
//!         let job = tokio::spawn(run(self.table.clone()));
//!         *self.running.lock().unwrap() = Some(job.abort_handle());
//!         Ok(())
//!     }
//!
//!     async fn on_drain(&self, _deadline: tokio::time::Instant) -> Result<(), BoxError> {
//!         if let Some(job) = self.running.lock().unwrap().take() {
//!             job.abort();
//!         }
//!         Ok(())
//!     }
//! }
//!
//! async fn run(table: String) {
//!     loop {
//!         tokio::time::sleep(Duration::from_secs(86_400)).await;
//!         println!("{table}");
//!     }
//! }
//!
//! #[handover::main]
//! async fn main(cx: Context) -> Result<(), BoxError> {
//!     let _nightly = cx.attach(Nightly::default()).await?;
//!     let mut listener = cx.bind("127.0.0.1:7000").await?;
//!     cx.ready().await?;
//!     while let Some(conn) = listener.accept().await? {
//!         cx.spawn("session", async move { drop(conn) });
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Tasks
//!
//! | task | in the drain |
//! |---|---|
//! | [`Context::spawn`] | is waited for, by name; dropped at the deadline |
//! | [`Context::background`] | is dropped when the drain starts |
//! | `tokio::spawn` | is waited for as long as it holds a [`Conn`]; otherwise it ends with the runtime |
//!
//! [`Context::draining`] and [`Context::aborting`] are [`Token`]s that can be awaited: finish what is there; end now.
//! [`Context::until_draining`] ends a stream, so that a response that would be endless is complete.
//! [`Context::stopping`] tells a stop, after which nobody serves, from a handover; with a
//! [lame-duck time](Builder::lame_duck) it comes before the drain.
//!
//! # Without the macro
//!
//! The macro expands to a [`Builder`], which has the same options as methods, and some more ([`args`](Builder::args),
//! [`env`](Builder::env), [`current_dir`](Builder::current_dir)), and which takes values that have to be computed:
//!
//! ```
//! use std::process::ExitCode;
//! use std::time::Duration;
//!
//! use handover::{BoxError, Builder, Context, Signal};
//!
//! fn main() -> ExitCode {
//!     Builder::new()
//!         .worker_threads(2)
//!         .drain_timeout(Duration::from_secs(90))
//!         .handover_signals([Signal::Hangup])
//!         .run(serve)
//! }
//!
//! async fn serve(cx: Context) -> Result<(), BoxError> {
//!     let listener = cx.bind("127.0.0.1:0").await?;
//!     cx.ready().await?;
//!     println!("listening on {}", listener.local_addr()?);
//!     // A real service serves here; this one is over.
//!     cx.stop();
//!     cx.draining().await;
//!     Ok(())
//! }
//! ```
//!
//! # With a runtime of one's own
//!
//! [`Builder::prepare`] takes over what the process has inherited; it has to be called before any thread is started.
//! [`Prepared::run`] is the service, on the runtime that it is awaited on:
//!
//! ```
//! use std::process::ExitCode;
//!
//! fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
//!     let prepared = handover::Builder::new().prepare()?;
//!     let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
//!     let code = runtime.block_on(prepared.run(|cx| async move {
//!         cx.ready().await?;
//! #       cx.stop();
//!         cx.draining().await;
//!         Ok::<(), handover::Error>(())
//!     }));
//!     runtime.shutdown_timeout(std::time::Duration::from_secs(1));
//!     Ok(code)
//! }
//! ```
//!
//! # Other servers
//!
//! A [`Listener`] is a stream of [`Conn`]s, a [`tokio_util::net::Listener`] and, with the feature `axum`, an
//! `axum::serve::Listener`. A [`Conn`] is [`AsyncRead`](tokio::io::AsyncRead), [`AsyncWrite`](tokio::io::AsyncWrite),
//! `Unpin` and `Send`. So whatever serves such a thing is counted in the drain and ended at its deadline, with no help
//! of its own. How to say goodbye is left to it: hand [`draining`](Context::draining) to its graceful shutdown. Many
//! of them close idle connections at once, and that can cost a client the request that it is just sending.
//!
//! # Log
//!
//! Every change of phase is one event of [`tracing`](https://docs.rs/tracing), at INFO; WARN and ERROR are for an
//! operator. Without a subscriber a service hands over all the same, and says nothing, not even that a handover has
//! failed. Let the subscriber write to standard error: while a successor initialises, the incumbent forwards its
//! standard error, and keeps the last lines for the report of its failure.
//!
//! # Signals
//!
//! | signal | by default |
//! |---|---|
//! | `SIGHUP`, `SIGUSR2` | hand over; refused while a handover is in progress and after one. A `SIGHUP` because the terminal has gone is a stop |
//! | `SIGTERM`, `SIGINT` | stop after a drain; during a handover the successor is ended first. A second one aborts the drain |
//!
//! Both lists can be [changed](Builder::handover_signals), also to none; [`Context::handover`] and [`Context::stop`]
//! do the same from inside. A signal that the process was started with ignoring (`nohup`) stays ignored. Signals go
//! to the process that serves: its pid is in the log and in the [pid file](Builder::pid_file). One that has handed
//! over refuses a handover, and takes a stop for itself alone.
//!
//! # Exit codes
//!
//! | code | when |
//! |---|---|
//! | what main returned | it returned by itself: for a `Result` 0 or 1 |
//! | 0 | main was dropped at the end of a drain |
//! | [`deadline_exit_code`](Builder::deadline_exit_code), 0 by default | the deadline or a second stop cut connections, tasks or main |
//! | 1 | the start failed, or this generation will not serve |
//! | 101 | main panicked |
//!
//! # Environment
//!
//! A successor gets the environment and the arguments that this process was *started* with, changed by
//! [`Builder::env`] and [`Builder::args`]; what the program changed in its own environment since is not passed on.
//!
//! | variable | meaning |
//! |---|---|
//! | `HANDOVER_CHANNEL` | device and inode of the socket to the predecessor, which is standard input at that moment; believed only if they agree, so that a child of the service is not fooled. Never set it |
//! | `LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`, `LISTEN_FDS_FIRST_FD` | socket activation, as in [sd_listen_fds(3)] and by [systemfd](https://github.com/mitsuhiko/systemfd); read by the first generation, hidden from the later ones |
//! | `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`, `FDSTORE`, `SYSTEMD_EXEC_PID` | how systemd is spoken to, as in [sd_notify(3)]; read by `Builder::systemd` only, and left as they are |
//!
//! # Platform
//!
//! Linux. The death of a process is seen through a pidfd (Linux 5.3), and through the end of the channel where a
//! sandbox forbids that. Spawning does not fork, so that its cost does not grow with the memory of the service.
//!
//! # Features
//!
//! A feature adds to the interface and changes nothing by being on.
//!
//! | feature | by default | what |
//! |---|---|---|
//! | `macros` | yes | the attribute macro [`#[handover::main]`][macro] |
//! | `hyper` | no | `handover::hyper::serve`: any service of hyper, with HTTP/1.1 and HTTP/2, drained without loss |
//! | `axum` | no | [`handover::axum::serve`]: the same for axum; turns `hyper` on |
//! | `tonic` | no | `handover::tonic::serve`: the same for gRPC, alone or with axum on one port; turns `axum` on |
//! | `tonic-health` | no | `handover::tonic::Health`: gRPC's health service, which knows of the drain; turns `tonic` on |
//! | `axum-ws` | no | `handover::axum::ws`: the WebSockets of axum, which say goodbye when their generation drains |
//! | `tungstenite` | no | `handover::tungstenite`: the same for tokio-tungstenite |
//! | `metrics` | no | `Builder::metrics`: generation, handovers and connections, told to the recorder of the `metrics` facade |
//! | `rustls` | no | `handover::rustls::TlsListener`: TLS in front of any server; the crypto provider is the program's choice |
//! | `systemd` | no | [`Builder::systemd`](https://docs.rs/handover/latest/handover/struct.Builder.html#method.systemd): the service as a unit of systemd, told of readiness, handovers, drains and its main process |
//! | `tower` | no | `handover::tower`: the drain in any stack of services, and a readiness endpoint |
//! | `control` | no | `handover::control`: a socket on which an operator asks what runs and commands a handover |
//! | `full` | no | all of the above |
//! | `testing` | no | `handover::testing`: services as processes, loads that count strictly, faults: for test suites |
//! | `cli` | no | the program `handover`, an operator's command; nothing in the library |
//! | `test-util` | no | `Builder::start_paused`, for tests; passes on to Tokio's feature of that name |
//!
//! [README]: https://crates.io/crates/handover
//! [how it works]: https://docs.rs/crate/handover/latest/source/docs/how-it-works.md
//! [draining]: https://docs.rs/crate/handover/latest/source/docs/draining.md
//! [migrating]: https://docs.rs/crate/handover/latest/source/docs/migrating.md
//! [sd_notify(3)]: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
//! [sd_listen_fds(3)]: https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html
#![cfg_attr(
    feature = "axum",
    doc = "[`handover::axum::serve`]: crate::axum::serve"
)]
#![cfg_attr(
    not(feature = "axum"),
    doc = "[`handover::axum::serve`]: https://docs.rs/handover/latest/handover/axum/fn.serve.html"
)]
#![cfg_attr(feature = "macros", doc = "[macro]: macro@main")]
#![cfg_attr(
    not(feature = "macros"),
    doc = "[macro]: https://docs.rs/handover/latest/handover/attr.main.html"
)]
#![doc(test(attr(deny(warnings), allow(dead_code))))]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod context;
/// A socket on which an operator asks what runs, and commands a handover.
#[cfg(feature = "control")]
#[cfg_attr(docsrs, doc(cfg(feature = "control")))]
pub mod control;
mod error;
mod lifecycle;
#[cfg(feature = "metrics")]
mod metrics;
mod net;
mod protocol;
mod run;
mod runtime;
#[cfg(any(
    feature = "hyper",
    feature = "rustls",
    feature = "tower",
    feature = "tungstenite"
))]
mod serve;
mod socket;
#[allow(
    unsafe_code,
    reason = "the one floor that speaks to the kernel in its own words"
)]
mod sys;
#[cfg(feature = "systemd")]
mod systemd;
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;

pub use builder::Builder;
pub use context::{Context, Predecessor, Successor};
pub use error::Error;
#[cfg(feature = "macros")]
pub use handover_macros::main;
pub use lifecycle::hook::{BoxError, Lifecycle};
pub use lifecycle::phase::Phase;
pub use lifecycle::signal::Signal;
pub use lifecycle::token::Token;
pub use lifecycle::until_draining::UntilDraining;
pub use net::conn::Conn;
pub use net::datagram::{UdpSocket, UnixDatagram};
pub use net::listener::Listener;
pub use net::peer::Peer;
pub use run::Prepared;
pub use runtime::Flavor;
#[cfg(tokio_unstable)]
pub use runtime::UnhandledPanic;
pub use socket::{Endpoint, InvalidEndpoint};

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub use serve::axum;
#[cfg(feature = "hyper")]
#[cfg_attr(docsrs, doc(cfg(feature = "hyper")))]
pub use serve::hyper;
#[cfg(feature = "rustls")]
#[cfg_attr(docsrs, doc(cfg(feature = "rustls")))]
pub use serve::rustls;
#[cfg(feature = "tonic")]
#[cfg_attr(docsrs, doc(cfg(feature = "tonic")))]
pub use serve::tonic;
#[cfg(feature = "tower")]
#[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
pub use serve::tower;
#[cfg(feature = "tungstenite")]
#[cfg_attr(docsrs, doc(cfg(feature = "tungstenite")))]
pub use serve::tungstenite;

/// The server of every adapter, and its options.
#[cfg(feature = "hyper")]
#[cfg_attr(docsrs, doc(cfg(feature = "hyper")))]
pub mod server {
    pub use crate::serve::{
        accept::Accept,
        builder::{Serve, ServeFuture},
        http1_options::Http1Options,
        http2_options::Http2Options,
    };
}

// The documents, so that their code is compiled.
#[cfg(all(doctest, feature = "axum"))]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../docs/draining.md")]
    struct Draining;

    #[doc = include_str!("../docs/migrating.md")]
    struct Migrating;

    #[cfg(feature = "systemd")]
    #[doc = include_str!("../docs/systemd.md")]
    struct Systemd;
}
