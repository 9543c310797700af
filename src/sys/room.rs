//! How many more descriptors this process may have.

use std::io;
use std::os::fd::RawFd;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit};

use super::fd;

/// Lets the table of descriptors have room for so many and some more, while no thread shares it.
///
/// Otherwise whoever opens the one for which there is no room waits until every processor has
/// forgotten the smaller table, ten milliseconds and more (`expand_fdtable` in the kernel's
/// `fs/file.c`): a handover of a service with a thousand sockets would take twice its time.
pub(crate) fn reserve(descriptors: usize) {
    // What a runtime and a handover need, and many services will ever have.
    const OTHERS: usize = 512;

    let wanted = RawFd::try_from(descriptors.saturating_add(OTHERS)).unwrap_or(RawFd::MAX);
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft.saturating_sub(1));
    let number = wanted.min(RawFd::try_from(limit).unwrap_or(RawFd::MAX));
    // Where there is no room it has to wait, as it would without this.
    drop(fcntl(io::stderr(), FcntlArg::F_DUPFD_CLOEXEC(number)).map(fd::own));
}

/// The descriptors that are still free under the soft limit of `RLIMIT_NOFILE` (`getrlimit(2)`).
///
/// # Errors
///
/// Where `/proc` is not mounted nobody can count those that are open.
pub(crate) fn free_descriptors() -> io::Result<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // From Linux 6.2 on the size of the directory is their number (`proc_pid_fd(5)`).
    let open = match std::fs::metadata("/proc/self/fd")?.len() {
        // The one that reads the list is in it.
        0 => std::fs::read_dir("/proc/self/fd")?
            .count()
            .saturating_sub(1) as u64,
        open => open,
    };
    Ok(soft.saturating_sub(open))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_grows_at_once_and_nothing_stays_open() {
        let size = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("a status");
            let size = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
            size.expect("a size")
                .trim()
                .parse::<usize>()
                .expect("a number")
        };
        let free = free_descriptors().expect("a list");
        let more = size() + 1;
        reserve(more);
        assert!(size() > more);
        assert_eq!(free_descriptors().expect("a list"), free);
        // Beyond the limit there is nothing to have.
        reserve(usize::MAX);
    }
}
