//! A client that we did not write: a program of Debian, started beside a service.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{ExitStatus, Stdio};

use handover_tests::{Process, Signal, Target, eventually, within};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A program that asks until it is interrupted, and tells then what it has seen.
#[derive(Debug)]
pub(crate) struct Outsider {
    name: String,
    child: Child,
}

impl Outsider {
    /// Starts a program, which comes in a package of Debian.
    pub(crate) fn start(package: &str, command: &mut Command) -> Self {
        let name = command
            .as_std()
            .get_program()
            .to_string_lossy()
            .into_owned();
        let spawned = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let child = spawned.unwrap_or_else(|error| {
            panic!("{name} cannot be executed ({error}): install Debian's {package}")
        });
        Self { name, child }
    }

    /// Waits until it has so many connections to a service, and gives its ports.
    pub(crate) async fn connected(&mut self, target: &Target, count: usize) -> BTreeSet<String> {
        let what = format!("{count} connections of {} to {target}", self.name);
        eventually(what, || {
            let ended = self.child.try_wait().expect("a child of ours");
            assert_eq!(ended, None, "{} has ended by itself", self.name);
            Some(client_ports(target)).filter(|ports| ports.len() == count)
        })
        .await
    }

    /// Ends it, which has not ended by itself, and gives what it has printed.
    pub(crate) async fn interrupt(mut self) -> String {
        let ended = self.child.try_wait().expect("a child of ours");
        if ended.is_none() {
            let pid = self.child.id().expect("it runs");
            let process = Process::open(pid).expect("it runs");
            process.signal(Signal::INT).expect("it runs");
        }
        let (name, (status, output)) = (self.name.clone(), self.end().await);
        assert!(
            ended.is_none(),
            "{name} has ended by itself ({status}):\n{output}"
        );
        output
    }

    /// Waits until it has done what it was asked for, and gives what it has printed.
    pub(crate) async fn done(self) -> String {
        let (name, (status, output)) = (self.name.clone(), self.end().await);
        assert!(status.success(), "{name}: {status}:\n{output}");
        output
    }

    async fn end(self) -> (ExitStatus, String) {
        let what = format_args!("the end of {}", self.name).to_string();
        let output = within(what, self.child.wait_with_output()).await;
        let output = output.expect("a child of ours");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status, text)
    }
}

/// A script for Debian's Python, whose clients tell which generations they have seen.
#[derive(Debug)]
pub(crate) struct Script {
    name: &'static str,
    _child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    newest: u32,
}

/// What its clients have counted.
#[derive(Debug, Deserialize)]
pub(crate) struct Counted {
    pub(crate) answers: u64,
    pub(crate) failures: Vec<String>,
    /// Of WebSockets: how many messages of each client were answered, and how often it was told which code.
    #[serde(default)]
    pub(crate) acknowledged: Vec<u64>,
    #[serde(default)]
    pub(crate) codes: BTreeMap<String, u64>,
}

impl Script {
    pub(crate) fn start(name: &'static str, argument: &str) -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-B", "-W", "ignore"])
            .arg(outside(name))
            .arg(argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("/usr/bin/python3 can be executed (Debian: python3)");
        let output = child.stdout.take().expect("it was asked for");
        Self {
            name,
            input: child.stdin.take(),
            lines: BufReader::new(output).lines(),
            newest: 0,
            _child: child,
        }
    }

    /// Waits until the clients have been answered by this generation.
    pub(crate) async fn sees(&mut self, generation: u32) {
        while self.newest < generation {
            let what = format_args!("generation {generation} in {}", self.name).to_string();
            let line = self.line(&what).await;
            self.newest = line
                .parse()
                .unwrap_or_else(|_| panic!("{} was to tell of a generation: {line}", self.name));
        }
    }

    /// Lets the clients end, and tells what they have counted.
    pub(crate) async fn stop(mut self) -> Counted {
        // It is told by the end of its standard input.
        drop(self.input.take());
        loop {
            let line = self.line("what was counted").await;
            // Until then a generation may still be seen.
            if line.starts_with('{') {
                return serde_json::from_str(&line).expect("what was counted");
            }
        }
    }

    async fn line(&mut self, what: &str) -> String {
        let line = within(what, self.lines.next_line()).await;
        line.expect("text")
            .unwrap_or_else(|| panic!("{} has failed; its standard error says why", self.name))
    }
}

/// The client's ports of the connections that are open to a service.
pub(crate) fn client_ports(target: &Target) -> BTreeSet<String> {
    let (Target::Tcp(address) | Target::Tls(address)) = target else {
        panic!("{target} has no ports");
    };
    let server = format!("{:04X}", address.port());
    let table = fs::read_to_string("/proc/self/net/tcp").expect("/proc can be read");
    let port = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, remote, ESTABLISHED, ..] = fields[..] else {
            return None;
        };
        let (_, remote) = remote.rsplit_once(':')?;
        let (_, local) = local.rsplit_once(':')?;
        (remote == server).then(|| local.to_owned())
    };
    table.lines().filter_map(port).collect()
}

/// A file that clients are made of.
pub(crate) fn outside(name: &str) -> String {
    format!("{}/promises/outside/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// include/net/tcp_states.h
const ESTABLISHED: &str = "01";
