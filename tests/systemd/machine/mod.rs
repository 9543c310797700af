//! A machine with a systemd of its own: namespaces, an overlay over the root, nothing that stays.
//!
//! `boot.sh` makes it and says of what; it shares the network with the tests, so that clients out
//! here reach its services on an address of loopback that no other machine has.

mod boot;
mod journal;
mod root;
mod service;

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{fs, thread};

use handover_tests::within;
use tokio::process::Command;

use boot::Booted;
pub(crate) use journal::{Entry, Journal};
pub(crate) use root::Root;
pub(crate) use service::Properties;

/// A machine that has booted. Dropping it ends every process in it and removes all that it was.
#[derive(Debug)]
pub(crate) struct Machine {
    journal: Journal,
    version: u32,
    booted: Booted,
}

/// Boots a machine for a scenario, or says why there can be none.
pub(crate) async fn on(root: Root, scenario: impl AsyncFnOnce(Machine)) {
    if let Some(machine) = Machine::boot(root).await {
        scenario(machine).await;
    }
}

impl Machine {
    pub(crate) async fn boot(root: Root) -> Option<Self> {
        let lower = match boot::missing_right().map_or_else(|| root.lower(), Err) {
            Ok(lower) => lower,
            Err(reason) => {
                boot::skip(&reason);
                return None;
            }
        };
        let booted = Booted::boot(&lower, PROGRAMS).await;
        let mut machine = Self {
            journal: Journal::follow(enter(booted.pid())),
            version: 0,
            booted,
        };
        let version = machine.run(["systemctl", "--version"]).await;
        let version = version.split(' ').nth(1).and_then(|text| text.parse().ok());
        machine.version = version.expect("`systemd <version> (…)`");
        Some(machine)
    }

    /// The version of its systemd.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// The pids out here of its PID 1, and of the process that ends it with this one.
    pub(crate) fn pids(&self) -> [u32; 2] {
        [self.booted.pid(), self.booted.keeper()]
    }

    /// All that was logged in it.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Where a service of this machine can listen without meeting one of another machine.
    pub(crate) fn address(&self, port: u16) -> SocketAddr {
        // The keeper's pid is nobody else's as long as the machine lives, and has 22 bits (proc(5)).
        let [_, high, middle, low] = self.booted.keeper().to_be_bytes();
        (Ipv4Addr::new(127, 0x80 | high, middle, low), port).into()
    }

    /// The path out here of what is at `path` in the machine. No symbolic link may lead away from it.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let inside = path.strip_prefix("/").expect("paths in there are absolute");
        PathBuf::from(format!("/proc/{}/root", self.booted.pid())).join(inside)
    }

    /// Writes a file, and makes its directory.
    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("a directory");
        fs::write(path, content).expect("a file that can be written");
    }

    /// Whether a process of this number runs in the machine.
    pub(crate) fn has_process(&self, pid: u32) -> bool {
        self.path(format!("/proc/{pid}")).exists()
    }

    /// The processes in the group of a unit, by their pids out here; an empty text if there are none.
    pub(crate) fn processes_of(&self, unit: &str) -> String {
        let slice = match unit.split_once('@') {
            Some((template, _)) => format!("system.slice/system-{template}.slice"),
            None => "system.slice".to_owned(),
        };
        let group = self.path(format!("/sys/fs/cgroup/{slice}/{unit}/cgroup.procs"));
        // An empty group is removed.
        fs::read_to_string(group).unwrap_or_default()
    }

    /// Sends a signal to a process of the machine.
    pub(crate) async fn kill(&self, pid: u32, signal: &str) {
        self.run(["kill", &format!("-{signal}"), &pid.to_string()])
            .await;
    }

    /// The program and its arguments, to be run in the machine.
    pub(crate) fn command(&self, words: impl IntoIterator<Item: AsRef<OsStr>>) -> Command {
        let mut command = Command::from(enter(self.booted.pid()));
        command.args(words).kill_on_drop(true);
        command
    }

    /// Runs a command, which has to succeed, and returns what it prints.
    pub(crate) async fn run(&self, words: impl IntoIterator<Item: AsRef<OsStr>>) -> String {
        let output = self.attempt(words).await;
        output.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a command, and returns all that it prints, whether it succeeds or not.
    pub(crate) async fn output(&self, words: impl IntoIterator<Item: AsRef<OsStr>>) -> String {
        let words: Vec<_> = words
            .into_iter()
            .map(|word| word.as_ref().to_owned())
            .collect();
        let script = [r#"exec 2>&1; "$@" || echo "exit status $?""#, "sh"];
        let shell = ["sh", "-c"].into_iter().chain(script).map(Into::into);
        self.run(shell.chain(words)).await
    }

    /// Runs a command; its output is the error if it fails.
    pub(crate) async fn attempt(
        &self,
        words: impl IntoIterator<Item: AsRef<OsStr>>,
    ) -> Result<String, String> {
        let mut command = self.command(words);
        command.stdin(Stdio::null());
        let what = format!("{:?}", command.as_std());
        let output = within(&what, command.output()).await.expect("nsenter runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Err(format!("{what}: {}\n{stdout}{stderr}", output.status))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            // What was followed so far may end before what has made the test fail.
            let mut journal = enter(self.booted.pid());
            journal.args([
                "sh",
                "-c",
                "journalctl --sync; journalctl --no-hostname -o short-monotonic",
            ]);
            match journal.output() {
                Ok(output) => {
                    let text = String::from_utf8_lossy(&output.stdout);
                    eprintln!("--- the journal:\n{text}---");
                }
                Err(error) => eprintln!("--- no journal: {error}"),
            }
        }
    }
}

/// Runs what follows with the machine's view of everything.
fn enter(pid: u32) -> std::process::Command {
    let mut command = std::process::Command::new("nsenter");
    command
        .args([
            "--target",
            &pid.to_string(),
            "--all",
            "--root",
            "--wd",
            "--",
        ])
        .env_clear()
        .envs([
            ("HOME", "/root"),
            ("LANG", "C.UTF-8"),
            ("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("SYSTEMD_COLORS", "0"),
            ("SYSTEMD_PAGER", ""),
            ("SYSTEMD_URLIFY", "0"),
        ]);
    command
}

/// What stands in `/usr/local/bin`, by its name there.
const PROGRAMS: &[(&str, &str)] = &[
    (env!("CARGO_BIN_EXE_fixture"), "fixture"),
    (env!("CARGO_BIN_EXE_example-systemd"), "app"),
    (env!("CARGO_BIN_EXE_handover-command"), "handover"),
    (env!("CARGO_BIN_EXE_impostor"), "impostor"),
];
