//! What the starter of this process left for it: read once, before any thread exists.

use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Range;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::channel::Channel;
use super::{fd, process, stdio};

/// Names device and inode of the control channel, as systemd's `JOURNAL_STREAM` does.
pub(crate) const CHANNEL_VARIABLE: &str = "HANDOVER_CHANNEL";

/// Variables that speak to one process only and are not passed on to a successor.
pub(crate) const PERSONAL_VARIABLES: [&str; 6] = [
    CHANNEL_VARIABLE,
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDS_FIRST_FD",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
];

/// What was found at the start.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// The channel to the predecessor, if this process is a successor.
    pub(crate) channel: Option<Channel>,
    /// Sockets by activation, with their names (`sd_listen_fds(3)`).
    pub(crate) activated: Vec<(OwnedFd, Option<String>)>,
    /// How to start this program again.
    pub(crate) start: Start,
}

/// How this process was started.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// The path that it was started with, made absolute and not resolved further, so that a
    /// symbolic link is followed anew. `None` where it cannot be told.
    pub(crate) program: Option<PathBuf>,
    /// All arguments, the program's name among them.
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Where the directory was gone already, the path that it had: it may be made again.
    pub(crate) directory: Option<PathBuf>,
    /// Whether there was a controlling terminal, whose loss makes `SIGHUP` a farewell.
    pub(crate) terminal: bool,
}

impl Inherited {
    /// Takes everything over. A second call in the same process finds no descriptors.
    ///
    /// # Errors
    ///
    /// When a descriptor that is announced cannot be taken.
    pub(crate) fn take() -> io::Result<Self> {
        static TAKEN: AtomicBool = AtomicBool::new(false);

        let start = Start::read();
        let (mut channel, mut activated) = (None, Vec::new());
        if !TAKEN.swap(true, Ordering::SeqCst) {
            channel = take_channel()?;
            // A successor's LISTEN_* variables were meant for an ancestor.
            if channel.is_none() {
                activated = take_activated()?;
            }
        }
        Ok(Self {
            channel,
            activated,
            start,
        })
    }
}

impl Start {
    fn read() -> Self {
        let arguments: Vec<_> = std::env::args_os().collect();
        let directory = linked_directory()
            .or_else(|| std::env::current_dir().ok())
            .or_else(vanished_directory);
        let environment = std::env::vars_os()
            .filter(|(key, _)| !PERSONAL_VARIABLES.iter().any(|personal| key == personal))
            .collect();
        Self {
            program: find_program(
                arguments.first().map(OsString::as_os_str),
                directory.as_deref(),
            ),
            arguments,
            environment,
            directory,
            terminal: process::has_terminal(),
        }
    }
}

/// The path by which a shell has reached the working directory, through links that may lead
/// elsewhere tomorrow: `PWD`, under the conditions that POSIX has for it (`pwd`, option `-L`).
fn linked_directory() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("PWD")?);
    // A path takes single dots out by itself.
    let is_plain = !path.components().any(|part| part == Component::ParentDir);
    let identity = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    };
    let is_here = path.is_absolute() && is_plain && identity(&path)? == identity(Path::new("."))?;
    is_here.then_some(path)
}

/// The path of the working directory where getcwd(2) knows none: in `/proc` it is followed by a
/// remark, as in proc_pid_exe(5).
fn vanished_directory() -> Option<PathBuf> {
    let path = std::fs::read_link("/proc/self/cwd").ok()?;
    let path = path.as_os_str().as_bytes().strip_suffix(b" (deleted)")?;
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

/// The channel is believed only if standard input is the very socket that the variable names, so
/// that a child of the service, which inherits the variable, is not fooled.
fn take_channel() -> io::Result<Option<Channel>> {
    let Some(named) = std::env::var(CHANNEL_VARIABLE).ok() else {
        return Ok(None);
    };
    if fd::identity(&io::stdin()).ok().map(format_identity) != Some(named) {
        return Ok(None);
    }
    stdio::take_stdin().map(|fd| Some(Channel::from(fd)))
}

/// The text of [`CHANNEL_VARIABLE`].
pub(super) fn format_identity((device, inode): (u64, u64)) -> String {
    format!("{device}:{inode}")
}

fn take_activated() -> io::Result<Vec<(OwnedFd, Option<String>)>> {
    let read = |key| std::env::var(key).ok();
    let numbers = listen_fds(
        read("LISTEN_PID").as_deref(),
        read("LISTEN_FDS").as_deref(),
        read("LISTEN_FDS_FIRST_FD").as_deref(),
        std::process::id(),
    );
    let names = read("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(|name| match name {
        // What systemd says where the unit gave no name.
        "" | "unknown" => None,
        name => Some(name.to_owned()),
    });
    numbers
        .map(|number| {
            if !fd::is_open(number) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("LISTEN_FDS announces descriptor {number}, which is not open"),
                ));
            }
            let descriptor = fd::own(number);
            fd::set_cloexec(&descriptor)?;
            Ok((descriptor, names.next().flatten()))
        })
        .collect()
}

/// The descriptors that are announced to this very process.
///
/// A starter that cannot know the pid of its last child, such as systemfd in front of a tool that
/// builds and runs, names none. It may also name the first descriptor, where that is not 3.
fn listen_fds(
    pid: Option<&str>,
    count: Option<&str>,
    first: Option<&str>,
    own: u32,
) -> Range<RawFd> {
    let is_meant = pid.is_none_or(|pid| pid.parse() == Ok(own));
    let count = count.and_then(|count| count.parse::<RawFd>().ok());
    let count = count.filter(|count| is_meant && *count > 0).unwrap_or(0);
    let first = first.and_then(|first| first.parse::<RawFd>().ok());
    // Standard input, output and error are never among them.
    let first = first.filter(|first| *first >= LISTEN_FDS_START);
    let first = first.unwrap_or(LISTEN_FDS_START);
    first..first.saturating_add(count)
}

/// The path that the program was started with, if it leads to the file that is running; else that
/// file as the kernel names it.
fn find_program(argument: Option<&OsStr>, directory: Option<&Path>) -> Option<PathBuf> {
    let running = std::fs::metadata("/proc/self/exe")
        .ok()
        .map(|file| (file.dev(), file.ino()));
    let is_running = |path: &PathBuf| {
        let found = std::fs::metadata(path)
            .ok()
            .map(|file| (file.dev(), file.ino()));
        found.is_some() && found == running
    };
    candidates(argument?, directory, std::env::var_os("PATH").as_deref())
        .into_iter()
        .find(is_running)
        .or_else(|| std::env::current_exe().ok())
}

/// Where `execvp(3)` would have looked.
fn candidates(argument: &OsStr, directory: Option<&Path>, search: Option<&OsStr>) -> Vec<PathBuf> {
    let absolute = |path: PathBuf| match directory {
        _ if path.is_absolute() => Some(path),
        Some(directory) => Some(directory.join(path)),
        None => None,
    };
    if argument.as_bytes().contains(&b'/') {
        return absolute(PathBuf::from(argument)).into_iter().collect();
    }
    std::env::split_paths(search.unwrap_or_default())
        .filter_map(|folder| absolute(folder.join(argument)))
        .collect()
}

const LISTEN_FDS_START: RawFd = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_fds_are_for_the_process_that_they_name() {
        for pid in [Some("7"), None] {
            assert_eq!(listen_fds(pid, Some("2"), None, 7), 3..5);
            assert_eq!(listen_fds(pid, Some("2"), Some("10"), 7), 10..12);
            for first in ["0", "-1", "many"] {
                assert_eq!(listen_fds(pid, Some("1"), Some(first), 7), 3..4);
            }
        }
        for (pid, count) in [
            (Some("8"), Some("2")),
            (Some(""), Some("2")),
            (Some("7"), None),
            (None, None),
            (Some("7"), Some("-1")),
            (Some("7"), Some("many")),
        ] {
            assert!(
                listen_fds(pid, count, None, 7).is_empty(),
                "{pid:?} {count:?}"
            );
        }
        let (most, last) = (i32::MAX.to_string(), i32::MAX - 1);
        let count = listen_fds(None, Some(&most), Some(&last.to_string()), 7);
        assert_eq!(count, last..i32::MAX);
    }

    #[test]
    fn the_program_is_looked_for_where_it_was_started() {
        let find = |argument: &str| {
            candidates(
                OsStr::new(argument),
                Some(Path::new("/srv")),
                Some(OsStr::new("/bin:tools")),
            )
        };
        assert_eq!(find("/opt/app"), [PathBuf::from("/opt/app")]);
        assert_eq!(find("./app"), [PathBuf::from("/srv/./app")]);
        assert_eq!(
            find("app"),
            [PathBuf::from("/bin/app"), PathBuf::from("/srv/tools/app")]
        );
        assert!(candidates(OsStr::new("./app"), None, None).is_empty());
    }

    #[test]
    fn a_channel_is_believed_only_if_it_is_the_one_named() {
        assert_eq!(format_identity((8, 4711)), "8:4711");
        assert!(
            take_channel()
                .expect("no error without a channel")
                .is_none()
        );
    }
}
