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
    // The one that reads the list is in it.
    let open = std::fs::read_dir("/proc/self/fd")?
        .count()
        .saturating_sub(1);
    Ok(soft.saturating_sub(u64::try_from(open).unwrap_or(u64::MAX)))
}
