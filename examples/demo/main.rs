//! A service is replaced again and again while its clients never stop asking, and not one request
//! fails.
//!
//! ```sh
//! cargo run --release --example demo --features axum
//! ```
//!
//! This program plays both parts: it starts itself a second time as the service of the `axum`
//! example, and is the clients of it, over real sockets. It ends in failure if a single request
//! failed, or if anything else went otherwise than it says.

mod script;
mod service;
mod view;

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use script::Script;
use view::View;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => demo(),
        Some(SERVE) => service::serve(),
        Some("-h" | "--help") => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Some(_) => {
            eprintln!("{HELP}");
            ExitCode::from(2)
        }
    }
}

#[tokio::main]
async fn demo() -> ExitCode {
    let mut view = View::new();
    let result = tokio::select! {
        result = async { Script::start(&mut view).await?.play(&mut view).await } => result,
        // The script is dropped, and with it the service and the clients.
        () = interrupted() => Err("interrupted; every process of the service was ended".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            view.problem(&problem);
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() {
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = wait(SignalKind::interrupt()) => {}
        _ = wait(SignalKind::terminate()) => {}
        _ = wait(SignalKind::hangup()) => {}
    }
}

/// The argument with which this program is the service.
const SERVE: &str = "serve";

const HELP: &str = "\
Replaces a running service again and again, under load, and counts what its
clients lose: nothing. It takes no arguments and about 15 seconds.";
