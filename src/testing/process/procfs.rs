//! What `/proc` says of a process (proc(5)).

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// An open descriptor of a process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Descriptor {
    /// Its number.
    pub number: u32,
    /// What it refers to, such as `socket:[4711]`, `anon_inode:[eventpoll]` or a path.
    pub target: PathBuf,
    /// Whether it is closed when the process executes another program.
    pub close_on_exec: bool,
}

impl Descriptor {
    /// The inode of a socket, as `/proc/net` names it.
    pub fn socket_inode(&self) -> Option<u64> {
        socket_inode(&self.target)
    }
}

/// State, threads and signal masks of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// One letter: `R`, `S`, `D`, `T`, `Z`, …
    pub state: char,
    /// Its parent.
    pub parent: u32,
    /// How many threads it has.
    pub threads: usize,
    /// Its effective user.
    pub user: u32,
    /// The signals that its main thread blocks, bit 0 being signal 1.
    pub blocked: u64,
    /// The signals that it ignores.
    pub ignored: u64,
    /// The signals for which it has handlers.
    pub caught: u64,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// Resident.
    pub resident: u64,
    /// Its proportional share of what is resident.
    pub proportional: u64,
    /// Resident and shared with nobody.
    pub private: u64,
}

pub(super) fn descriptors(pid: u32) -> io::Result<Vec<Descriptor>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A descriptor may be closed between the listing and these two looks at it.
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let Ok(info) = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")) else {
            continue;
        };
        let flags = field(&info, "flags")
            .and_then(|flags| u32::from_str_radix(flags, 8).ok())
            .ok_or_else(|| malformed(pid, "fdinfo"))?;
        found.push(Descriptor {
            number,
            target,
            close_on_exec: flags & O_CLOEXEC != 0,
        });
    }
    found.sort();
    Ok(found)
}

/// The inodes of the sockets that a process has.
pub(super) fn sockets(pid: u32) -> io::Result<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A descriptor may be closed between the listing and the look at it.
        let Ok(target) = fs::read_link(entry?.path()) else {
            continue;
        };
        found.extend(socket_inode(&target));
    }
    Ok(found)
}

fn socket_inode(target: &Path) -> Option<u64> {
    let inode = target.to_str()?.strip_prefix("socket:[")?;
    inode.strip_suffix(']')?.parse().ok()
}

pub(super) fn status(pid: u32) -> io::Result<Status> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let parse = || {
        let mask = |name| u64::from_str_radix(field(&text, name)?, 16).ok();
        Some(Status {
            state: field(&text, "State")?.chars().next()?,
            parent: field(&text, "PPid")?.parse().ok()?,
            threads: field(&text, "Threads")?.parse().ok()?,
            user: field(&text, "Uid")?
                .split_ascii_whitespace()
                .nth(1)?
                .parse()
                .ok()?,
            blocked: mask("SigBlk")?,
            ignored: mask("SigIgn")?,
            caught: mask("SigCgt")?,
        })
    };
    parse().ok_or_else(|| malformed(pid, "status"))
}

pub(super) fn memory(pid: u32) -> io::Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let bytes = |name| {
        let kilobytes: u64 = field(&text, name)?
            .strip_suffix(" kB")?
            .trim()
            .parse()
            .ok()?;
        Some(kilobytes * 1024)
    };
    let parse = || {
        Some(Memory {
            resident: bytes("Rss")?,
            proportional: bytes("Pss")?,
            private: bytes("Private_Clean")? + bytes("Private_Dirty")?,
        })
    };
    parse().ok_or_else(|| malformed(pid, "smaps_rollup"))
}

/// Reads a file of strings that each end in NUL.
pub(super) fn strings(pid: u32, file: &str) -> io::Result<Vec<OsString>> {
    let mut bytes = fs::read(format!("/proc/{pid}/{file}"))?;
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    Ok(bytes
        .split(|byte| *byte == 0)
        .map(|part| OsString::from_vec(part.to_vec()))
        .collect())
}

/// The process `pid`; zombies are among them.
pub(super) fn process(pid: u32) -> Option<Entry> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    entry(pid, &stat)
}

/// The numbers of all processes.
pub(super) fn numbers() -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        found.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok()),
        );
    }
    Ok(found)
}

/// Every process there is, with its session; zombies are among them.
pub(super) fn processes() -> io::Result<Vec<Entry>> {
    // A process may end between the listing and the look at it.
    Ok(numbers()?.into_iter().filter_map(process).collect())
}

fn entry(pid: u32, stat: &[u8]) -> Option<Entry> {
    // The name of the program stands in parentheses and may contain anything, even `)`.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = String::from_utf8_lossy(&stat[end + 1..]);
    let mut fields = rest.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    // The session is field 6, these are 20 and 22.
    let threads: u32 = fields.nth(13)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    // Its first thread may have ended while others still hold what it has open.
    let zombie = ended && threads <= 1;
    Some(Entry {
        pid,
        parent,
        session,
        started,
        zombie,
    })
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) session: u32,
    /// In ticks since boot: a process of the same number that started later is another one.
    pub(super) started: u64,
    pub(super) zombie: bool,
}

/// Looks a variable up in the environment that a process had at its start.
pub(super) fn variable(pid: u32, name: &OsStr) -> Option<OsString> {
    strings(pid, "environ").ok()?.into_iter().find_map(|pair| {
        let value = pair
            .as_bytes()
            .strip_prefix(name.as_bytes())?
            .strip_prefix(b"=")?;
        Some(OsStr::from_bytes(value).to_owned())
    })
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

fn malformed(pid: u32, file: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("/proc/{pid}/{file} is not as expected"),
    )
}

/// fcntl(2); the value of every architecture but a few that this project does not run on.
const O_CLOEXEC: u32 = 0o2_000_000;

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn a_process_ends_with_its_last_thread() {
        for (state, threads, ended) in [("S", 3, false), ("Z", 2, false), ("Z", 1, true)] {
            let stat =
                format!("7 (a) b) {state} 5 6 4 0 -1 4 1 0 1 0 1 1 0 0 20 0 {threads} 0 900 1 1");
            let entry = entry(7, stat.as_bytes()).expect("a whole line");
            assert_eq!(
                (entry.zombie, entry.session, entry.started),
                (ended, 4, 900)
            );
        }
    }

    #[test]
    fn reads_this_process() {
        let pid = process::id();
        let file = tempfile::NamedTempFile::new().unwrap();
        let found = descriptors(pid).unwrap();
        let ours = found
            .iter()
            .find(|found| found.target == file.path())
            .unwrap();
        assert!(ours.close_on_exec);

        let status = status(pid).unwrap();
        assert_eq!(status.parent, std::os::unix::process::parent_id());
        assert!(status.threads >= 1);

        let memory = memory(pid).unwrap();
        assert!(memory.resident >= memory.private && memory.proportional > 0);

        let path = variable(pid, OsStr::new("PATH")).unwrap();
        assert_eq!(Some(path), std::env::var_os("PATH"));
        assert!(
            processes()
                .unwrap()
                .iter()
                .any(|entry| entry.pid == pid && !entry.zombie)
        );
    }
}
