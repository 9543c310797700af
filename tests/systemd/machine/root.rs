//! Whose systemd it is.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, io};

use rustix::fs::{FlockOperation, flock};

/// What a machine's root lies over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// The root of the system that runs the tests.
    Installed,
    /// A Debian 13, installed in a cache.
    Trixie,
}

impl Root {
    /// The folder, made if there is none yet; or why there can be none.
    pub(super) fn lower(self) -> Result<PathBuf, String> {
        let lower = match self {
            Self::Installed => PathBuf::from("/"),
            Self::Trixie => trixie().map_err(|error| format!("no Debian 13: {error}"))?,
        };
        match lower.join(SYSTEMD).exists() {
            true => Ok(lower),
            false => Err(format!("no {SYSTEMD} in {}", lower.display())),
        }
    }
}

/// Once for all checkouts of this machine; it is never changed after that.
fn trixie() -> io::Result<PathBuf> {
    let cache = env::var_os("HANDOVER_TESTS_CACHE").map_or_else(|| CACHE.into(), PathBuf::from);
    fs::create_dir_all(&cache)?;
    let root = cache.join("trixie");
    let lock = File::create(cache.join("trixie.lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    if !root.exists() {
        // Nobody else has it while the lock is held, but one who was killed may have left it.
        let partial = cache.join("trixie.partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        debootstrap(&partial)?;
        fs::rename(&partial, &root)?;
    }
    Ok(root)
}

fn debootstrap(folder: &Path) -> io::Result<()> {
    let said = "a Debian 13 is installed for the tests of systemd, once; it takes a minute or two";
    // Nobody is left to tell if this fails.
    writeln!(io::stderr(), "{said}").ok();
    // What it starts and mounts ends with it, and it ends with the test.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    command.args(["unshare", "--fork", "--kill-child=KILL", "--pid", "--mount"]);
    command.args(["debootstrap", "--variant=minbase"]);
    command.args(["--include=systemd,systemd-sysv,dbus,procps", "trixie"]);
    let output = command.arg(folder).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last: Vec<&str> = said.lines().rev().take(5).collect();
    Err(io::Error::other(format!("{:?}: {last:?}", output.status)))
}

const CACHE: &str = "/var/cache/handover-tests";
const SYSTEMD: &str = "lib/systemd/systemd";
