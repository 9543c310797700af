//! How no process of a test is ever left behind.
//!
//! Three facts, each of which a process may escape, but hardly all:
//!
//! - this process adopts orphans (`PR_SET_CHILD_SUBREAPER`, prctl(2)), so that every process of a
//!   service can be reaped here, though the generation that started it has gone;
//! - a service has a session of its own, by which its zombies are known as well;
//! - it inherits a variable, by which its processes are known though they leave the session.
//!
//! And if this process itself is killed, a guard sees the end of a pipe and kills by that variable.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::process::{self, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::unistd::getsid;
use rustix::process::{getpid, set_child_subreaper};

use super::pid::Process;
use super::procfs;

/// What the processes of one service have in common.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    value: OsString,
    adopts: bool,
}

impl Mark {
    /// A mark that no other service has; readies this process to clean up after its bearers. If it `adopts`, orphans
    /// bear it as well.
    pub(super) fn new(adopts: bool) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let mut mark = GUARD.prefix.clone();
        mark.push(format!("{}/", NEXT.fetch_add(1, Ordering::Relaxed)));
        Self {
            value: mark,
            adopts,
        }
    }

    /// The variable that carries it.
    pub(super) fn variable(&self) -> (&'static OsStr, &OsStr) {
        (OsStr::new(VARIABLE), &self.value)
    }

    /// The processes that bear it, or are in `session`; zombies are among them.
    pub(super) fn bearers(&self, session: u32) -> Vec<(procfs::Entry, Process)> {
        let entries = procfs::processes().expect("/proc can be listed");
        entries
            .into_iter()
            .filter(|entry| self.is_borne_by(entry, session))
            // One that has ended and was reaped in the meantime is none any more.
            .filter_map(|entry| Some((entry, Process::open(entry.pid).ok()?)))
            .collect()
    }

    /// Kills and reaps all bearers, and those that they start while this goes on.
    pub(super) fn end(&self, session: u32) {
        loop {
            let mut bearers = self.bearers(session);
            // A zombie whose parent lives is the parent's to reap; it becomes ours with its death.
            bearers.retain(|(entry, _)| !entry.zombie || entry.parent == process::id());
            if bearers.is_empty() {
                return;
            }
            for (_, process) in &bearers {
                process.kill();
            }
            for (_, process) in &bearers {
                process.end_and_reap();
            }
        }
    }

    /// Whether a process belongs to the service of this mark, which is in `session`.
    pub(super) fn is_borne_by(&self, entry: &procfs::Entry, session: u32) -> bool {
        entry.session == session
            || procfs::variable(entry.pid, OsStr::new(VARIABLE))
                .is_some_and(|value| value.as_bytes().starts_with(self.value.as_bytes()))
            || (self.adopts && is_orphan(entry))
    }
}

/// Whether this process has got another one from the kernel, since its parent has ended: it is a daemon, in a session
/// of its own.
fn is_orphan(entry: &procfs::Entry) -> bool {
    // In a PID namespace that was entered within a session, the number of that session is 0.
    let own = getsid(None).map(|session| session.as_raw().unsigned_abs());
    entry.parent == process::id() && entry.pid != GUARD.pid && Ok(entry.session) != own
}

/// One for each process that starts services; its pipe is closed by the kernel at the latest.
static GUARD: LazyLock<Guard> =
    LazyLock::new(|| Guard::start().expect("`setsid` and `sh` can be executed"));

struct Guard {
    prefix: OsString,
    pid: u32,
    _lifeline: ChildStdin,
}

impl Guard {
    fn start() -> io::Result<Self> {
        set_child_subreaper(Some(getpid()))?;
        // A test may itself be a process of a service; then its own services bear both marks.
        let mut prefix = std::env::var_os(VARIABLE).unwrap_or_default();
        prefix.push(format!("{}-", process::id()));
        let mut guard = Command::new("setsid")
            .args(["sh", "-c", KILL_AT_END, "sh"])
            .arg(VARIABLE)
            .arg(&prefix)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let lifeline = guard.stdin.take().expect("it was just asked for");
        Ok(Self {
            prefix,
            pid: guard.id(),
            _lifeline: lifeline,
        })
    }
}

const VARIABLE: &str = "HANDOVER_TESTING_MARK";

/// Twice, because a process may start another one while the first round goes on.
const KILL_AT_END: &str = r#"
cat
for round in 1 2; do
    for file in /proc/[0-9]*/environ; do
        if tr '\0' '\n' <"$file" | grep -q "^$1=$2"; then
            pid=${file#/proc/}
            kill -KILL "${pid%/environ}"
        fi
    done
done
"#;
