//! `handover demo`: a service is replaced again and again while its clients never stop asking.
//!
//! This program plays both parts: it starts itself a second time as the service, and verifies that.

mod service;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use handover::testing::verify::{Ending, Event, Outcome, Session, Usage, Verify};
use handover::testing::{LIMIT, Program};
use tokio::time;

use super::verify::{Live, block_on, tell, unverified};
use crate::arguments::Global;
use crate::exit::{Exit, Failure};
use crate::screen::duration;

/// Replace a service again and again under load, and count what its clients lose: nothing
///
/// Takes about 15 seconds, and nothing has to be set up. Two of the successors are bad ones: they panic, and hang, and
/// are not let in.
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Be the service, whose successors have the trouble that this file names
    #[arg(long, hide = true, value_name = "FILE")]
    serve: Option<PathBuf>,
}

impl Demo {
    pub(crate) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        if let Some(trouble) = &self.serve {
            return match service::run(trouble.clone()) {
                ExitCode::SUCCESS => Ok(Exit::Success),
                _ => Ok(Exit::Failed),
            };
        }
        let outcome = block_on(play(global))?;
        tell(&outcome, &["handover".into(), "demo".into()], 0, global)
    }
}

async fn play(global: &Global) -> Result<Outcome, Failure> {
    let directory = Directory::new()?;
    let trouble = directory.0.join("trouble");
    let program = env::current_exe().map_err(|error| {
        Failure::unavailable(format_args!(
            "this program does not know its own path: {error}"
        ))
    })?;
    let arguments: [OsString; 3] = ["demo".into(), "--serve".into(), trouble.clone().into()];
    let mut plan = Verify::new(
        Program::new(program)
            .args(arguments)
            .env("RUST_BACKTRACE", "0"),
    )
    .usages([Usage::New, Usage::KeepAlive, Usage::Idle, Usage::Silent])
    .clients(CLIENTS)
    .pause(PAUSE..=PAUSE);
    let mut live = (!global.json).then(Live::new);
    if let Some(live) = &mut live {
        live.heading("A service that replaces itself while its clients keep asking");
        let mut shown = Live::new();
        plan = plan.observe(move |event| match event {
            // There is more to say about these.
            Event::HandedOver(handover) if matches!(handover.ending, Ending::Rejected { .. }) => {}
            event => shown.show(&event),
        });
    }
    let mut session = plan.start().await.map_err(unverified)?;
    for _ in 0..HANDOVERS {
        session.pause().await;
        session.hand_over().await;
    }
    for (name, what) in TROUBLES {
        session.pause().await;
        write(&trouble, name)?;
        reject(&mut session, live.as_mut(), what).await;
        fs::remove_file(&trouble).map_err(|error| {
            Failure::unavailable(format_args!("could not remove {trouble:?}: {error}"))
        })?;
    }
    session.pause().await;
    session.hand_over().await;
    session.pause().await;
    session.finish().await.map_err(unverified)
}

/// Asks for a handover to a successor in trouble, which is to be given up.
async fn reject(session: &mut Session, live: Option<&mut Live>, what: &str) {
    let from = session.output().len();
    let began = time::Instant::now();
    if !session.reject().await {
        return;
    }
    let Some(live) = live else {
        return;
    };
    // The reason is on its way when the successor has ended.
    let line = time::timeout(LIMIT, session.output().find_from(from, "handover failed")).await;
    if let Ok(line) = line {
        let took = duration(line.at.saturating_duration_since(began));
        live.step("handover", &format!("{what}: given up"), &took);
        live.more(reason(&line.text));
        live.more(&format!("process {} serves on", session.serving()));
    }
}

/// Why a handover has failed, without what comes before it.
fn reason(line: &str) -> &str {
    line.split_once("serves on: ")
        .map_or(line, |(_, reason)| reason)
}

fn write(file: &Path, trouble: &str) -> Result<(), Failure> {
    fs::write(file, trouble)
        .map_err(|error| Failure::unavailable(format_args!("could not write {file:?}: {error}")))
}

/// A directory of this process alone.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Result<Self, Failure> {
        let path = env::temp_dir().join(format!("handover-demo-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| {
            Failure::unavailable(format_args!(
                "could not make the directory {path:?}: {error}"
            ))
        })?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left in a directory for temporary files harms nobody.
        fs::remove_dir_all(&self.0).ok();
    }
}

const HANDOVERS: usize = 10;
const PAUSE: Duration = Duration::from_millis(800);
/// Of each kind.
const CLIENTS: usize = 8;
const TROUBLES: [(&str, &str); 2] = [
    ("crash", "a successor that panics in on_init"),
    ("hang", "a successor that hangs in on_init"),
];
