//! The fixture, started in other ways than by its path alone.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use handover_tests::load::{Request, ask};
use handover_tests::{Exit, Identity, Line, Process, Program, Target};

use super::{FIXTURE, Fixture, PROGRAM, Running};

impl Fixture {
    /// A shell that is to execute the fixture: `exec "$0"`, with what the test wants around it.
    pub(crate) fn shell(&self, script: &str) -> Program {
        let shell = Program::new("sh").args(["-c", script]);
        self.with_environment(shell.arg(self.path(PROGRAM)))
    }

    /// Lets any user start the fixture and write beside it.
    pub(crate) fn open_to_everybody(&self) {
        let mode = Permissions::from_mode(0o777);
        fs::set_permissions(self.path("."), mode).expect("a directory of ours");
        let mode = Permissions::from_mode(0o666);
        fs::set_permissions(self.path("faults.go"), mode).expect("a FIFO of ours");
        self.deploy_copy();
    }

    /// Makes the program a file of its own, with an inode that no other file has.
    pub(crate) fn deploy_copy(&self) {
        let new = self.path("service.new");
        fs::copy(FIXTURE, &new).expect("a file that can be copied");
        fs::rename(new, self.path(PROGRAM)).expect("a file that can be renamed");
    }

    /// Starts a program and waits until the fixture in it serves.
    pub(crate) async fn start_as(&self, program: Program) -> Running {
        let service = program.start().expect("a program that can be started");
        let target = service.listening(1).await.swap_remove(0);
        service.generation(&target, 1).await;
        Running { service, target }
    }
}

impl Running {
    /// Hands over without a signal, and waits until the predecessor has ended.
    pub(crate) async fn hand_over_and_end(&self, incumbent: Identity) -> Identity {
        let process = Process::open(incumbent.pid).expect("it serves");
        let answer = self.try_hand_over().await;
        assert!(answer.starts_with("Successor {"), "{answer}");
        let exit = process.exited().await;
        assert!(
            matches!(exit, Exit::Code(0) | Exit::Unknown),
            "{incumbent} ended with {exit:?}"
        );
        let successor = self.identity().await;
        assert_eq!(successor.generation, incumbent.generation + 1);
        successor
    }

    /// Asks for a handover, and tells what came of it.
    pub(crate) async fn try_hand_over(&self) -> String {
        self.ask(&Request::get("/handover")).await
    }

    /// Asks whoever serves.
    pub(crate) async fn ask(&self, request: &Request) -> String {
        ask_at(&self.target, request).await
    }

    /// What a generation says of its endpoints, in the order in which it has bound them.
    pub(crate) async fn endpoints(&self, identity: Identity) -> Vec<String> {
        let serves = format!("{identity} serves");
        let text = |line: &Line| {
            let endpoint = line.text.strip_prefix("listening on ")?;
            Some(endpoint.to_owned())
        };
        self.service
            .output()
            .wait_for("the endpoints", |lines| {
                let end = lines.iter().position(|line| line.text == serves)?;
                let before = &lines[..end];
                let start = before
                    .iter()
                    .rposition(|line| line.text.ends_with(" serves"));
                Some(
                    before[start.unwrap_or(0)..]
                        .iter()
                        .filter_map(text)
                        .collect(),
                )
            })
            .await
    }

    /// What `/bin/sh` prints, started by whoever serves.
    pub(crate) async fn shell(&self, script: &str) -> String {
        self.ask(&Request::post("/sh", script)).await
    }
}

/// Asks whoever serves there.
pub(crate) async fn ask_at(target: &Target, request: &Request) -> String {
    let answer = ask(target, request).await;
    let answer = answer.unwrap_or_else(|fault| panic!("no answer from {target}: {fault}"));
    String::from_utf8(answer.body).expect("text")
}

/// A user without privileges; whoever runs the tests as one stays what it is.
pub(crate) fn unprivileged(program: Program, user: u32) -> Program {
    if rustix::process::getuid().is_root() {
        program.user(user)
    } else {
        program
    }
}
