//! What happens in the demo, step by step.

use std::env;
use std::fs;
use std::time::Duration;

use handover_tests::load::Kind;
use handover_tests::{Load, Process, Program, Service, Signal, Target};
use tempfile::TempDir;
use tokio::time::{self, Instant};

use crate::service::TROUBLE;
use crate::view::{Rejected, Summary, View};

/// A service under load, and what was seen of it.
pub(crate) struct Script {
    // The clients go first: they are not to see the end of the service.
    load: Load,
    service: Service,
    directory: TempDir,
    generation: u32,
    switches: Vec<Duration>,
    rejected: usize,
}

type Step<T = ()> = Result<T, String>;

impl Script {
    /// Starts the service, and the clients.
    pub(crate) async fn start(view: &mut View) -> Step<Self> {
        view.title();
        let directory = tempfile::tempdir().map_err(|error| format!("no directory: {error}"))?;
        let program = env::current_exe().map_err(|error| format!("no path to itself: {error}"))?;
        let service = Program::new(program)
            .arg(crate::SERVE)
            .env("RUST_BACKTRACE", "0")
            .env(TROUBLE, directory.path().join("trouble"))
            .start()
            .map_err(|error| format!("the service could not be started: {error}"))?;
        let target = within("the service listens", async {
            tokio::select! {
                targets = service.listening(1) => Ok(targets[0].clone()),
                exit = service.first().exited() => Err(format!(
                    "the service has ended ({exit:?}); it said:\n{}", service.output()
                )),
            }
        })
        .await??;
        let load = Self::load(&target);
        let script = Self {
            load,
            service,
            directory,
            generation: 1,
            switches: Vec::new(),
            rejected: 0,
        };
        script.expect_generation(1).await?;
        view.started(&target.to_string(), script.service.first().pid(), &CLIENTS);
        Ok(script)
    }

    /// Plays all of it.
    pub(crate) async fn play(mut self, view: &mut View) -> Step {
        if let Err(problem) = self.hand_over_and_reject(view).await {
            let output = self.service.output().lines();
            let last = output.iter().rev().take(LINES_SHOWN).rev();
            let last: Vec<String> = last.map(|line| format!("\n    {}", line.text)).collect();
            return Err(format!(
                "{problem}\n\n  the service has said:{}",
                last.concat()
            ));
        }
        self.finish(view).await
    }

    async fn hand_over_and_reject(&mut self, view: &mut View) -> Step {
        for _ in 0..HANDOVERS {
            self.pause(view).await?;
            self.hand_over(view).await?;
        }
        self.pause(view).await?;
        self.reject(
            view,
            "crash",
            "a successor that panics in on_init is turned away",
        )
        .await?;
        self.pause(view).await?;
        self.reject(
            view,
            "hang",
            "a successor that hangs in on_init is given up",
        )
        .await?;
        self.pause(view).await?;
        self.hand_over(view).await?;
        self.pause(view).await
    }

    fn load(target: &Target) -> Load {
        CLIENTS
            .iter()
            .fold(Load::on(target.clone()), |plan, (count, kind, _)| {
                plan.clients(*kind, *count)
            })
            .pause(Kind::Idle, Duration::from_secs(1)..=Duration::from_secs(2))
            .start()
    }

    /// Asks for a handover and waits for the first answer of the successor.
    async fn hand_over(&mut self, view: &mut View) -> Step {
        let next = self.generation + 1;
        let trigger = self.trigger()?;
        view.during(&self.load, self.expect_generation(next))
            .await?;
        let report = self.load.report();
        let took = report.switch(trigger, next).unwrap_or_default();
        let pid = report
            .generation(next)
            .map(|seen| seen.identity.pid)
            .unwrap_or_default();
        self.generation = next;
        self.switches.push(took);
        view.handed_over(self.switches.len(), next, pid, took);
        Ok(())
    }

    /// Asks for a handover to a successor in trouble, and waits until it has been given up.
    async fn reject(&mut self, view: &mut View, trouble: &str, what: &str) -> Step {
        let file = self.directory.path().join("trouble");
        fs::write(&file, trouble).map_err(|error| format!("could not write {file:?}: {error}"))?;
        let from = self.service.output().len();
        let trigger = self.trigger()?;
        let failed = within("the incumbent reports the failed handover", async {
            self.service
                .output()
                .find_from(from, "handover failed")
                .await
        });
        let line = view.during(&self.load, failed).await?;
        fs::remove_file(&file).map_err(|error| format!("could not remove {file:?}: {error}"))?;

        // Every client asks once more, and it is the incumbent that answers.
        view.during(&self.load, self.expect_progress()).await?;
        let report = self.load.report();
        if report.newest().map(|newest| newest.generation) != Some(self.generation) {
            return Err(format!("with `{trouble}`, another generation has answered"));
        }
        view.rejected(&Rejected {
            name: trouble,
            what,
            reason: reason(&line.text),
            generation: self.generation,
            took: line.at.saturating_duration_since(trigger),
        });
        self.rejected += 1;
        Ok(())
    }

    /// Ends the clients, then the service, and tells what was seen.
    async fn finish(self, view: &mut View) -> Step {
        let report = self.load.stop().await;
        // With their last clients the earlier generations have nothing to wait for.
        let serves = report.newest().map(|newest| newest.pid);
        for process in self.service.processes() {
            if Some(process.pid()) != serves {
                within("the earlier generations end", process.exited()).await?;
            }
        }
        let exits = within("the service stops", self.service.stop()).await?;
        if let Some(exit) = exits.iter().find(|exit| !exit.is_success()) {
            return Err(format!("the service was stopped, and ended with {exit:?}"));
        }
        view.stopped();
        view.summary(&Summary {
            report: &report,
            switches: &self.switches,
            rejected: self.rejected,
        });
        match report.failed() {
            0 => Ok(()),
            failed => Err(format!("{failed} requests failed")),
        }
    }

    /// Sends `SIGHUP` to the generation that serves.
    fn trigger(&self) -> Step<Instant> {
        let generation = self.generation;
        let report = self.load.report();
        let seen = report.generation(generation).ok_or("nobody has answered")?;
        let process = Process::open(seen.identity.pid);
        let trigger = Instant::now();
        process
            .and_then(|process| process.signal(Signal::HUP))
            .map_err(|error| format!("generation {generation} has gone: {error}"))?;
        Ok(trigger)
    }

    async fn expect_generation(&self, generation: u32) -> Step {
        let what = format!("generation {generation} answers");
        within(
            &what,
            self.load
                .wait_for(&what, |report| report.generation(generation).is_some()),
        )
        .await?;
        Ok(())
    }

    async fn expect_progress(&self) -> Step {
        within("every kind of client has an answer", self.load.progress(1)).await?;
        Ok(())
    }

    /// Lets the clients ask for a while.
    async fn pause(&self, view: &mut View) -> Step {
        view.during(&self.load, async {
            time::sleep(PAUSE).await;
            Ok(())
        })
        .await
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> Step<T> {
    let result = time::timeout(PATIENCE, future).await;
    result.map_err(|_| format!("in vain for {PATIENCE:?}: {what}"))
}

/// The message of a log line, without what comes before and after it.
fn reason(line: &str) -> &str {
    let message = line
        .split_once("serves on: ")
        .map_or(line, |(_, message)| message);
    message
        .split_once(" generation=")
        .map_or(message, |(message, _)| message)
}

const LINES_SHOWN: usize = 10;
const HANDOVERS: usize = 10;
const PAUSE: Duration = Duration::from_millis(800);
/// Far more than any step takes.
const PATIENCE: Duration = Duration::from_secs(20);
const CLIENTS: [Clients; 4] = [
    (4, Kind::New, "connect anew for every request"),
    (4, Kind::KeepAlive, "ask again as soon as they are answered"),
    (24, Kind::Idle, "use their connection every 1 to 2 s"),
    (
        16,
        Kind::Silent,
        "connect, say nothing for up to 1 s, then ask",
    ),
];

/// How many clients of a kind, and what they do.
pub(crate) type Clients = (usize, Kind, &'static str);
