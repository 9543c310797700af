//! `handover verify`: prove what a service loses when it is restarted under load.

mod arguments;
mod json;
mod junit;
mod live;
mod report;

use std::ffi::OsString;
use std::fs;
use std::future::pending;

use handover::testing::Program;
use handover::testing::verify::{self, Outcome};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::rustls::crypto::ring;

pub(crate) use arguments::Verify;
pub(crate) use live::Live;

use crate::arguments::Global;
use crate::exit::{Exit, Failure};
use crate::screen::{self, Style};

impl Verify {
    pub(crate) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        // There is none yet, this program has just begun.
        ring::default_provider().install_default().ok();
        let verified = block_on(self.verify(global));
        if let Some(path) = &self.junit {
            // What an earlier run has written there must not pass for this one.
            let document = match &verified {
                Ok(outcome) => junit::document(outcome, self.allow_failed),
                Err(why) => junit::error(&why.to_string()),
            };
            fs::write(path, document).map_err(|error| {
                let path = path.display();
                Failure::unavailable(format_args!("could not write `{path}`: {error}"))
            })?;
        }
        tell(&verified?, &self.command, self.allow_failed, global)
    }

    async fn verify(&self, global: &Global) -> Result<Outcome, Failure> {
        let mut command = self.command.iter();
        let program = command.next().map(Program::new);
        let program = program.ok_or_else(|| Failure::new(Exit::Usage, "no program was named"))?;
        let mut plan = self.plan(program.args(command).adopting(), global.socket.as_deref());
        if !global.json {
            let mut live = Live::new();
            live.title(&self.command);
            plan = plan.observe(move |event| live.show(&event));
        }
        plan.run().await.map_err(unverified)
    }
}

/// Prints the outcome; the exit code tells whether it was clean.
pub(crate) fn tell(
    outcome: &Outcome,
    command: &[OsString],
    allowed: u64,
    global: &Global,
) -> Result<Exit, Failure> {
    if global.json {
        let command = command.iter().map(|part| part.to_string_lossy());
        let object = json::object(outcome, command.collect(), allowed);
        screen::print(&format!("{object}\n"))?;
    } else {
        let style = Style::of_stdout();
        screen::print(&report::text(outcome, style, style.width(), allowed))?;
    }
    Ok(match outcome.is_clean(allowed) {
        true => Exit::Success,
        false => Exit::Failed,
    })
}

/// Why nothing could be verified, as a failure of the command.
pub(crate) fn unverified(why: verify::Unverified) -> Failure {
    Failure::unavailable(format_args!("could not verify: {why}"))
}

/// Runs to the end, or until a signal ends the command; then what runs is dropped, and every process with it.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = Runtime::new().map_err(Failure::unavailable)?;
    runtime.block_on(async {
        tokio::select! {
            result = future => result,
            () = interrupted() => Err(Failure::new(
                Exit::Interrupted,
                "interrupted; every process of the service was ended",
            )),
        }
    })
}

async fn interrupted() {
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => pending().await,
        }
    };
    tokio::select! {
        _ = wait(SignalKind::interrupt()) => {}
        _ = wait(SignalKind::terminate()) => {}
        _ = wait(SignalKind::hangup()) => {}
    }
}
