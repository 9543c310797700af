//! A service that was started in a terminal belongs to it, in whichever generation: Ctrl-C stops
//! it, it goes with the terminal, and under `nohup` it does not.
//!
//! A shell is the leader of the terminal, as it is at work: what the leader itself is, ends with
//! it (`credentials(7)`), and a generation ends with every handover.

use std::net::SocketAddr;

use handover_tests::{Identity, Process, Service, Signal, Target, Terminal, eventually};

use crate::support::{Fixture, signal};

/// What starts the service in a terminal.
#[derive(Clone, Copy, Debug)]
enum Shell {
    /// A script that has something else to do in the foreground once the first generation ends.
    Script,
    /// A user at an interactive shell with job control, who has made it a part of a pipeline.
    Interactive,
}

/// A service in a terminal.
struct Started {
    service: Service,
    terminal: Terminal,
    target: Target,
}

const SHELLS: [Shell; 2] = [Shell::Script, Shell::Interactive];

#[tokio::test]
async fn ctrl_c_stops_the_service_after_handovers() {
    for shell in SHELLS {
        for handovers in [0, 2] {
            let fixture = Fixture::new();
            let started = shell.start(&fixture).await;
            let incumbent = started.hand_over(handovers).await;
            let process = Process::open(incumbent.pid).expect("it serves");
            started.terminal.press("\x03");
            process.exited().await;
            let stopped = |by: &str| format!("pid={} by=\"{by}\"", incumbent.pid);
            let stopped = match shell {
                Shell::Interactive => vec![stopped("SIGINT")],
                // The leader of the terminal dies of the same Ctrl-C, and the kernel hangs up.
                Shell::Script => vec![stopped("SIGINT"), stopped("the loss of the terminal")],
            };
            let output = started.service.output();
            let is_it = |text: &str| stopped.iter().any(|stopped| text.contains(stopped));
            output
                .wait_for(&stopped[0], |lines| {
                    lines.iter().any(|line| is_it(&line.text)).then_some(())
                })
                .await;
            started.no_service_is_left(shell).await;
        }
    }
}

#[tokio::test]
async fn a_closed_terminal_leaves_no_service_behind() {
    for shell in SHELLS {
        for handovers in [0, 2] {
            let fixture = Fixture::new();
            let started = shell.start(&fixture).await;
            started.hand_over(handovers).await;
            drop(started.terminal);
            started.service.ended().await;
        }
    }
}

/// The service is itself the leader of the terminal, as in a container or a window of its own.
#[tokio::test]
async fn a_closed_terminal_ends_its_leader() {
    let fixture = Fixture::new();
    let (service, terminal) = fixture.program().start_in_terminal().expect("a terminal");
    service.output().find("generation=1 serves").await;
    drop(terminal);
    let lost = "by=\"the loss of the terminal\"";
    service.output().find(lost).await;
    service.ended().await;
}

#[tokio::test]
async fn a_terminal_closed_during_a_handover_leaves_nothing_behind() {
    for shell in SHELLS {
        for fault in ["start:hang", "init:hang", "ready:block", "active:hang"] {
            let fixture = Fixture::new();
            let started = shell.start(&fixture).await;
            let incumbent = started.hand_over(1).await;
            fixture.set_faults(fault);
            signal(incumbent, Signal::HUP);
            started.service.output().find("fault: ").await;
            drop(started.terminal);
            started.service.ended().await;
        }
    }
}

/// `nohup` asks to be left alone, for all generations; there are other ways to hand over.
#[tokio::test]
async fn under_nohup_it_survives_its_terminal() {
    let fixture = Fixture::new();
    let nohup = fixture.started_by("nohup").arg(fixture.path("service"));
    let (service, terminal) = nohup.start_in_terminal().expect("a terminal");
    let target = listening(&service).await;
    let first = service.generation(&target, 1).await;
    signal(first, Signal::USR2);
    let second = service.generation(&target, 2).await;
    ignores_hangup(second);
    drop(terminal);
    signal(second, Signal::HUP);
    signal(second, Signal::USR2);
    let third = service.generation(&target, 3).await;
    ignores_hangup(third);
    let output = service.output().to_string();
    assert!(!output.contains("loss of the terminal"), "{output}");
}

/// With its terminal, and without one, a service takes `SIGHUP` for what it is configured as.
#[tokio::test]
async fn hangup_hands_over_with_a_terminal_and_without_one() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    let first = running.identity().await;
    running.hand_over(first).await;

    let fixture = Fixture::new();
    let started = Shell::Script.start(&fixture).await;
    started.hand_over(3).await;
}

impl Shell {
    async fn start(self, fixture: &Fixture) -> Started {
        println!("--- {self:?}");
        let program = fixture.path("service");
        let shell = match self {
            Self::Script => fixture
                .started_by("sh")
                .args(["-c", "\"$0\" </dev/null; exec cat"])
                .arg(&program),
            Self::Interactive => fixture
                .started_by("bash")
                .args(["--norc", "--noediting", "-i"]),
        };
        let (service, terminal) = shell.start_in_terminal().expect("a terminal");
        if matches!(self, Self::Interactive) {
            terminal.press(&format!("{} </dev/null | cat\n", program.display()));
        }
        let target = listening(&service).await;
        service.generation(&target, 1).await;
        Started {
            service,
            terminal,
            target,
        }
    }
}

impl Started {
    /// Hands over so many times.
    async fn hand_over(&self, count: u32) -> Identity {
        let mut incumbent = self.service.identity(&self.target).await;
        for _ in 0..count {
            let predecessor = Process::open(incumbent.pid).expect("it serves");
            signal(incumbent, Signal::HUP);
            let next = incumbent.generation + 1;
            incumbent = self.service.generation(&self.target, next).await;
            // With it goes what the shell knows of.
            predecessor.exited().await;
        }
        incumbent
    }

    /// Waits until nothing but the shell is left, if that stays.
    async fn no_service_is_left(self, shell: Shell) {
        if matches!(shell, Shell::Interactive) {
            let first = self.service.first().pid();
            eventually("the shell alone", || {
                let processes = self.service.processes();
                let pids: Vec<_> = processes.iter().map(Process::pid).collect();
                (pids == [first]).then_some(())
            })
            .await;
            drop(self.terminal);
        }
        self.service.ended().await;
    }
}

/// Waits until the service says where it listens; its first process may be a shell.
async fn listening(service: &Service) -> Target {
    let line = service.output().find("listening on http=").await.text;
    let address = line.split(['[', ']']).nth(1).map(str::parse::<SocketAddr>);
    Target::from(address.expect("an address").expect("one that is right"))
}

fn ignores_hangup(identity: Identity) {
    let process = Process::open(identity.pid).expect("it serves");
    let ignored = process.status().expect("it serves").ignored;
    assert_eq!(ignored & 1, 1, "{identity} ignores SIGHUP: {ignored:x}");
}
