//! What the macro emits does what it says, and is as good as written by hand: without `unsafe`,
//! and without a warning of the compiler or of clippy's strict groups that is not the user's own.

#![forbid(unsafe_code)]
#![deny(
    warnings,
    missing_docs,
    unused,
    trivial_casts,
    unused_qualifications,
    clippy::pedantic
)]

use std::fmt::Error;
use std::process::{ExitCode, Termination};

#[allow(
    unreachable_pub,
    missing_docs,
    clippy::pedantic,
    reason = "a stand-in for the facade"
)]
mod stub;

use stub::Context;

#[test]
fn every_argument_is_a_call_in_the_written_order() {
    #[handover_macros::main(
        crate = "crate::stub",
        ready_timeout = "1m30s",
        flavor = "multi_thread",
        worker_threads = 2,
        max_blocking_threads = 0x40,
        name = "runtime",
        commit_timeout = "2s",
        hook_timeout = "1h",
        drain_timeout = "500ms",
        stop_timeout = "0s",
        lame_duck = "10s",
        kill_grace = "2m",
        max_draining = 8,
        handover_signals("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGWINCH"),
        stop_signals("SIGTERM", "SIGINT", "SIGQUIT"),
        pid_file = "/run/app.pid",
        program = "/usr/bin/app",
        systemd,
        metrics,
        deadline_exit_code = 255,
        control = "unix:/run/app.sock"
    )]
    async fn main(cx: Context) {
        let expected = [
            "ready_timeout(90s)",
            "flavor(MultiThread)",
            "worker_threads(2)",
            "max_blocking_threads(64)",
            r#"name("runtime")"#,
            "commit_timeout(2s)",
            "hook_timeout(3600s)",
            "drain_timeout(500ms)",
            "stop_timeout(0ns)",
            "lame_duck(10s)",
            "kill_grace(120s)",
            "max_draining(8)",
            "handover_signals([Hangup, User1, User2, Alarm, WindowChange])",
            "stop_signals([Terminate, Interrupt, Quit])",
            r#"pid_file("/run/app.pid")"#,
            r#"program("/usr/bin/app")"#,
            "systemd()",
            "metrics()",
            "deadline_exit_code(255)",
            r#"control("unix:/run/app.sock")"#,
        ];
        assert_eq!(cx.calls, expected);
    }
    assert_eq!(main(), ExitCode::SUCCESS);
}

#[test]
fn a_runtime_of_one_thread_takes_its_own_arguments() {
    #[handover_macros::main(
        crate = "stub",
        flavor = "local",
        start_paused = true,
        unhandled_panic = "shutdown_runtime",
        handover_signals(),
        stop_signals()
    )]
    async fn main(Context { calls, .. }: Context) {
        let expected = [
            "flavor(Local)",
            "start_paused(true)",
            "unhandled_panic(ShutdownRuntime)",
            "handover_signals([])",
            "stop_signals([])",
        ];
        assert_eq!(calls, expected);
    }
    assert_eq!(main(), ExitCode::SUCCESS);
}

#[test]
fn the_version_is_that_of_the_package_unless_another_one_is_given() {
    #[handover_macros::main(crate = "crate::stub")]
    async fn main(cx: Context) {
        assert_eq!(cx.version, Some(env!("CARGO_PKG_VERSION")));
    }

    #[handover_macros::main(crate = "crate::stub", version = "2024-11")]
    async fn other(cx: Context) {
        assert_eq!(cx.version, Some("2024-11"));
    }

    assert_eq!((main(), other()), (ExitCode::SUCCESS, ExitCode::SUCCESS));
}

#[test]
fn the_exit_code_is_that_of_what_is_returned() {
    #[handover_macros::main(crate = "crate::stub")]
    async fn r#yield() {}

    #[handover_macros::main(crate = "crate::stub")]
    async fn code(_: Context) -> ExitCode {
        ExitCode::from(3)
    }

    #[handover_macros::main(crate = "crate::stub")]
    async fn opaque() -> impl Termination {
        ExitCode::from(4)
    }

    #[handover_macros::main(crate = "crate::stub")]
    async fn result(mut cx: Context) -> Result<(), Error> {
        cx.calls.pop().ok_or(Error)?;
        Ok(())
    }

    #[handover_macros::main(crate = "crate::stub")]
    async fn never() -> ! {
        loop {
            std::future::pending::<()>().await;
        }
    }

    assert_eq!(r#yield(), ExitCode::SUCCESS);
    assert_eq!(code(), ExitCode::from(3));
    assert_eq!(opaque(), ExitCode::from(4));
    assert_eq!(result(), ExitCode::FAILURE);
    assert_eq!(never(), ExitCode::from(101));
}

/// Keeps its visibility, attributes and documentation.
pub mod visible {
    use super::stub;

    /// Is documented: without this, `missing_docs` would be an error.
    #[must_use]
    #[handover_macros::main(crate = "stub")]
    pub async fn start() {
        #![allow(unused_variables, reason = "an inner attribute stays inside")]
        let unused = stub::Builder::new();
    }
}

#[test]
fn a_function_keeps_its_visibility() {
    assert_eq!(visible::start(), ExitCode::SUCCESS);
}
