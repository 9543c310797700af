//! How a machine comes and goes.

use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, process, thread};

use handover_tests::within;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{ChildStderr, ChildStdout};

/// The processes of a machine, and the one outside that ends them.
#[derive(Debug)]
pub(super) struct Booted {
    keeper: Child,
    pid: u32,
}

impl Booted {
    /// Boots, and waits until systemd says that it is done.
    pub(super) async fn boot(lower: &Path, programs: &[(&str, &str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Abstract names are of the network namespace, which is shared.
        let name = format!("handover-machine-{}-{number}", process::id());
        let notify = SocketAddr::from_abstract_name(&name).expect("a name");
        let notify = UnixDatagram::bind_addr(&notify).expect("a name that is nobody else's");
        notify.set_nonblocking(true).expect("a socket");
        let notify = tokio::net::UnixDatagram::from_std(notify).expect("a runtime");

        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", BOOT]).arg(lower);
        command.arg(format!("@{name}"));
        for (file, name) in programs {
            command.args([file, name]);
        }
        // A group of its own: whoever ends the tests at a terminal does not end it before its time.
        let keeper = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("`unshare` was found before");
        let mut booted = Self { keeper, pid: 0 };
        let stdout = booted.keeper.stdout.take().expect("just asked for");
        let stdout = ChildStdout::from_std(stdout).expect("a runtime");
        let (mut stdout, mut line) = (BufReader::new(stdout), String::new());
        let read = stdout.read_line(&mut line);
        within("the start of a machine", read)
            .await
            .expect("a pipe");
        match line.trim().parse() {
            Ok(pid) => booted.pid = pid,
            Err(_) => panic!("no machine:\n{}", booted.complaints().await),
        }
        let mut message = [0; 4096];
        let ready = async {
            loop {
                let length = notify.recv(&mut message).await.expect("a socket");
                let text = String::from_utf8_lossy(&message[..length]);
                if text.lines().any(|line| line == "READY=1") {
                    return;
                }
            }
        };
        within("a machine that has booted", ready).await;
        booted
    }

    /// The pid out here of the machine's PID 1.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The pid of the process that lives as long as the machine.
    pub(super) fn keeper(&self) -> u32 {
        self.keeper.id()
    }

    async fn complaints(&mut self) -> String {
        drop(self.keeper.stdin.take());
        let stderr = self.keeper.stderr.take().expect("just asked for");
        let mut stderr = ChildStderr::from_std(stderr).expect("a runtime");
        let mut text = String::new();
        let read = stderr.read_to_string(&mut text);
        within("the end of a machine", read).await.expect("a pipe");
        text
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let status = self.keeper.wait();
        let mut complaints = String::new();
        if let Some(stderr) = &mut self.keeper.stderr {
            // Without it the status says enough.
            stderr.read_to_string(&mut complaints).ok();
        }
        let clean = status.is_ok_and(|status| status.success());
        if !clean && !thread::panicking() {
            panic!("a machine was not cleaned up:\n{complaints}");
        }
    }
}

/// Tells what is missing where no machine can be made.
pub(super) fn missing_right() -> Option<String> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup"]);
    command.args(["sh", "-c", TRY]);
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let complaints = String::from_utf8_lossy(&output.stderr);
            let last = complaints.lines().last().unwrap_or("it says nothing");
            Some(format!(
                "no namespaces with mounts can be made ({last}); root can"
            ))
        }
        Err(error) => Some(format!("could not execute `unshare`: {error}")),
    }
}

/// Says on standard error why a test does not run, though the output of tests that pass is captured.
///
/// # Panics
///
/// In CI, where a skip is a failure.
pub(super) fn skip(reason: &str) {
    let in_ci = env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(!in_ci, "in CI nothing is skipped: {reason}");
    let name = thread::current().name().unwrap_or("a test").to_owned();
    // Nobody is left to tell if this fails.
    writeln!(io::stderr(), "skipped: {name}: {reason}").ok();
}

const BOOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/machine/boot.sh");

/// What `boot.sh` does first.
const TRY: &str =
    "mount --make-rprivate / && mount -t tmpfs try /boot && mount -t cgroup2 try /boot";
