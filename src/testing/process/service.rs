//! A service with all of its generations.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::cleanup::Mark;
use super::family::Family;
use super::listening::listening;
use super::output::Output;
use super::pid::{Exit, Process};
use crate::testing::identity::Identity;
use crate::testing::load::{Request, ask};
use crate::testing::target::Target;
use crate::testing::wait::{eventually, within};

/// A running service: the process that was started, and all that have come of it.
///
/// Dropping it kills and reaps every one of them, and prints what they have printed if the test
/// has panicked.
#[derive(Debug)]
pub struct Service {
    first: Process,
    mark: Mark,
    output: Output,
}

impl Service {
    pub(super) fn new(first: Process, mark: Mark, output: Output) -> Self {
        Self {
            first,
            mark,
            output,
        }
    }

    /// Follows its processes, more cheaply than [`processes`](Self::processes) does.
    pub(in crate::testing) fn family(&self) -> Family {
        Family::new(self.mark.clone(), self.first.pid())
    }

    /// The process that was started: the first generation.
    pub fn first(&self) -> &Process {
        &self.first
    }

    /// What all generations print.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// The processes that run, in order of their numbers: the generations, and their children.
    pub fn processes(&self) -> Vec<Process> {
        let bearers = self.mark.bearers(self.first.pid());
        bearers
            .into_iter()
            .map(|(_, process)| process)
            // The main thread may be a zombie while others still hold what the process had.
            .filter(Process::is_running)
            .collect()
    }

    /// Waits until it listens on at least `count` stream sockets, and tells where.
    ///
    /// # Panics
    ///
    /// After [`LIMIT`](crate::testing::LIMIT), or if the first generation ends.
    pub async fn listening(&self, count: usize) -> Vec<Target> {
        eventually(format_args!("{count} listeners"), || {
            let targets = listening(&self.first);
            let running = self.first.is_running();
            assert!(
                running,
                "the service has ended before it listened:\n{}",
                self.output
            );
            (targets.len() >= count).then_some(targets)
        })
        .await
    }

    /// Asks who serves at `target`, over a new HTTP connection.
    ///
    /// # Panics
    ///
    /// If there is no right answer.
    pub async fn identity(&self, target: &Target) -> Identity {
        let answer = ask(target, &Request::get("/")).await;
        let answer = answer.unwrap_or_else(|fault| panic!("no answer from {target}: {fault}"));
        answer
            .identity
            .unwrap_or_else(|| panic!("{target} does not say who it is: {answer:?}"))
    }

    /// Asks again and again until generation `generation`, or a later one, answers at `target`.
    ///
    /// The one before may still answer after that: until it has closed its gates, either accepts.
    ///
    /// # Panics
    ///
    /// After [`LIMIT`](crate::testing::LIMIT), or if an answer is wrong meanwhile.
    pub async fn generation(&self, target: &Target, generation: u32) -> Identity {
        within(format_args!("generation {generation} at {target}"), async {
            loop {
                let identity = self.identity(target).await;
                if identity.generation >= generation {
                    return identity;
                }
            }
        })
        .await
    }

    /// Sends `SIGTERM` to all of its processes, waits until none is left, and tells how each ended.
    ///
    /// # Panics
    ///
    /// After [`LIMIT`](crate::testing::LIMIT).
    pub async fn stop(&self) -> Vec<Exit> {
        let processes = self.processes();
        for process in &processes {
            // One that ends in this very moment needs no signal.
            process.signal(Signal::TERM).ok();
        }
        let mut exits = Vec::new();
        for process in &processes {
            exits.push(process.exited().await);
        }
        self.ended().await;
        exits
    }

    /// Waits until no process of it is left.
    ///
    /// # Panics
    ///
    /// After [`LIMIT`](crate::testing::LIMIT).
    pub async fn ended(&self) {
        loop {
            let processes = self.processes();
            if processes.is_empty() {
                return;
            }
            for process in processes {
                process.exited().await;
            }
        }
    }
}

impl Service {
    /// Sends `SIGTERM` to these, and lets go of all: what does not end in time is killed. Tells whether that was so.
    pub(in crate::testing) async fn stop_within(&self, limit: Duration) -> bool {
        for process in self.processes() {
            // One that ends in this very moment needs no signal.
            process.signal(Signal::TERM).ok();
        }
        tokio::time::timeout(limit, self.ended()).await.is_err()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.mark.end(self.first.pid());
        // With the last process the pipes have come to their ends.
        self.output.join();
        if thread::panicking() {
            eprintln!("--- the service has printed:\n{}---", self.output);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::process::{Program, Source};

    fn shell(script: &str) -> Service {
        Program::new("sh").arg("-c").arg(script).start().unwrap()
    }

    #[tokio::test]
    async fn lines_arrive_from_both_streams_and_the_exit_is_seen() {
        let service = shell("echo one; echo two >&2; exit 3");
        assert_eq!(service.output().find("one").await.source, Source::Stdout);
        assert_eq!(service.output().find("two").await.source, Source::Stderr);
        assert_eq!(service.first().exited().await, Exit::Code(3));
        assert_eq!(
            service.first().exited().await,
            Exit::Code(3),
            "the status stays"
        );
        service.ended().await;
    }

    #[tokio::test]
    async fn a_signal_is_told_from_an_exit() {
        let service = shell("echo up; exec sleep 1000");
        service.output().find("up").await;
        service.first().signal(Signal::TERM).unwrap();
        assert_eq!(service.first().exited().await, Exit::Signal(15));
    }

    #[tokio::test]
    async fn nothing_outlives_a_service() {
        for script in [
            "sleep 1000 & sleep 1000 & echo up; wait",
            "(sleep 1000 &); echo up",
            "setsid sleep 1000 & echo up; wait",
            "trap '' TERM HUP INT; echo up; while :; do sleep 1000; done",
            "setsid sleep 1000 & env -i sleep 1000 & sleep 1000 & echo up; kill -STOP $$",
            "sleep 1000 & echo up; exec false",
        ] {
            let service = shell(script);
            service.output().find("up").await;
            let processes = service.processes();
            drop(service);
            for process in processes {
                assert!(!process.is_running(), "{process} of `{script}` still runs");
                assert!(
                    Process::open(process.pid()).is_err(),
                    "{process} was not reaped"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_program_is_started_as_it_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let service = Program::new("sh")
            .args([
                "-c",
                r#"echo "$0 $NEW ${HOME-none} $(ulimit -n) $(pwd)"; exec sleep 1000"#,
                "a b",
            ])
            .env("NEW", "new")
            .env_remove("HOME")
            .descriptors(100)
            .current_dir(directory.path())
            .start()
            .unwrap();
        let expected = format!("a b new none 100 {}", directory.path().display());
        service.output().find(&expected).await;
        let numbers = |process: &Process| -> Vec<u32> {
            let all = process.descriptors().unwrap().into_iter();
            all.filter(|fd| !fd.close_on_exec)
                .map(|fd| fd.number)
                .collect()
        };
        // Whoever started the tests may have left descriptors open that every child inherits.
        let inherited = numbers(&Process::open(std::process::id()).unwrap());
        assert_eq!(numbers(service.first()), inherited);
        assert_eq!(service.first().status().unwrap().blocked, 0);
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_an_exit() {
        let service = Program::new("/nonexistent").start().unwrap();
        assert!(matches!(
            service.first().exited().await,
            Exit::Code(126 | 127)
        ));
    }
}
