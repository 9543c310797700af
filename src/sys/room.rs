//! How many more descriptors this process may have.

use std::io;

use nix::sys::resource::{Resource, getrlimit};

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
