//! Who owns the path of a Unix socket.
//!
//! A path in the file system outlives the process that bound it, and nothing in it says whether
//! anybody still listens. So it is owned by a lock on a file beside it, which travels with the
//! socket from one generation to the next: a `flock` belongs to the open file description, and
//! is held until the last of them has closed it ([flock(2)]).
//!
//! [flock(2)]: https://man7.org/linux/man-pages/man2/flock.2.html

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FlockArg};
use nix::unistd::{Gid, Uid, fchownat};

use super::error::Problem;
use super::live;
use super::options::Options;

/// A path that some generation of this service has bound, with its lock.
///
/// Dropping it leaves the path where it is: others may serve on it.
/// [`remove`](Self::remove) is for the one that knows that nobody does.
#[derive(Debug)]
pub(super) struct OwnedPath {
    path: PathBuf,
    inode: Inode,
    lock: PathLock,
}

/// The right to bind a path.
#[derive(Debug)]
pub(super) struct PathLock {
    file: File,
    path: PathBuf,
}

/// What tells a file from another that got its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inode {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl OwnedPath {
    /// The path that was just bound under its lock.
    pub(super) fn bound(path: PathBuf, lock: PathLock) -> io::Result<Self> {
        let inode = Inode::of_path(&path)?;
        Ok(Self { path, inode, lock })
    }

    /// The path that a predecessor bound, as it described it.
    pub(super) fn inherited(path: PathBuf, inode: Inode, lock: OwnedFd) -> io::Result<Self> {
        let lock = PathLock::inherited(&path, lock)?;
        Ok(Self { path, inode, lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn inode(&self) -> Inode {
        self.inode
    }

    pub(super) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.file.as_fd()
    }

    /// Writes into the lock what the socket is for.
    #[cfg(feature = "control")]
    pub(super) fn mark(&self, text: &str) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        self.lock.file.write_all_at(text.as_bytes(), 0)
    }

    /// Gives the path the owner and the permissions that the options ask for.
    ///
    /// It goes through a handle on the file itself, so that nobody can put a symbolic link in its
    /// place between the check and the change.
    pub(super) fn set_permissions(&self, options: &Options) -> io::Result<()> {
        if options.owner.is_none() && options.mode.is_none() {
            return Ok(());
        }
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
            .open(&self.path)?;
        if Inode::of(&file.metadata()?) != self.inode {
            return Err(io::Error::other("the path was replaced"));
        }
        if let Some((uid, gid)) = options.owner {
            fchownat(
                &file,
                "",
                Some(Uid::from_raw(uid)),
                Some(Gid::from_raw(gid)),
                AtFlags::AT_EMPTY_PATH,
            )?;
        }
        if let Some(mode) = options.mode {
            // fchmod(2) refuses such a handle; this way leads to the same file.
            let file = format!("/proc/self/fd/{}", file.as_raw_fd());
            fs::set_permissions(file, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// Removes the path, then its lock, if they are still what was bound here.
    ///
    /// As long as the socket is open its inode cannot be given to another file, so that a path
    /// that somebody else has bound since is never mistaken for ours. The lock goes last: whoever
    /// gets it finds no path left behind.
    pub(super) fn remove(&self) -> io::Result<()> {
        remove_if(&self.path, self.inode)?;
        self.lock.remove()
    }
}

impl PathLock {
    /// Takes the lock beside `path`, or says that it is taken.
    pub(super) fn acquire(path: &Path) -> Result<Self, Problem> {
        let name = lock_name(path);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&name)
                .map_err(|error| Problem::io(format!("open {}", name.display()), error))?;
            match flock(&file) {
                Ok(()) => {}
                Err(Errno::EWOULDBLOCK) => {
                    return Err(Problem::InUse {
                        address: path.display().to_string(),
                        why: format!(": a live process holds {}", name.display()),
                    });
                }
                Err(error) => {
                    return Err(Problem::io(format!("lock {}", name.display()), error));
                }
            }
            // The last owner may have removed the file between the two calls, and a third process
            // may have made a new one: a lock on a file without a name keeps nobody out.
            if has_name(&file, &name)
                .map_err(|error| Problem::io(format!("stat {}", name.display()), error))?
            {
                return Ok(Self { file, path: name });
            }
        }
    }

    /// The lock that came with an inherited socket.
    fn inherited(path: &Path, descriptor: OwnedFd) -> io::Result<Self> {
        let file = File::from(descriptor);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other(
                "the lock of its path is not a regular file",
            ));
        }
        // It is held already, by this very open file description; taking it again does nothing.
        // If this is not the lock, somebody else has the real one.
        flock(&file)?;
        Ok(Self {
            file,
            path: lock_name(path),
        })
    }

    /// Removes the file, if it still has its name.
    pub(super) fn remove(&self) -> io::Result<()> {
        remove_if(&self.path, Inode::of(&self.file.metadata()?))
    }
}

impl Inode {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// That of the path itself, not of what a symbolic link points to.
    pub(super) fn of_path(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|metadata| Self::of(&metadata))
    }
}

/// Removes what a process that died has left at `path`, of which the caller has the lock.
///
/// It removes nothing but a socket that no process has bound. It does not find that out by
/// connecting: a live service would see a connection that says nothing.
pub(super) fn remove_stale(path: &Path) -> Result<(), Problem> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Problem::io(format!("stat {}", path.display()), error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(Problem::NotASocket(path.to_owned()));
    }
    if live::is_bound(path).map_err(|error| Problem::io("read /proc/net/unix", error))? {
        return Err(Problem::InUse {
            address: path.display().to_string(),
            why: ": a live process that is no generation of this service has bound it".to_owned(),
        });
    }
    fs::remove_file(path).map_err(|error| Problem::io(format!("remove {}", path.display()), error))
}

/// Is this file still the one that the name leads to?
fn has_name(file: &File, name: &Path) -> io::Result<bool> {
    let inode = Inode::of(&file.metadata()?);
    match Inode::of_path(name) {
        Ok(named) => Ok(named == inode),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove_if(path: &Path, expected: Inode) -> io::Result<()> {
    match Inode::of_path(path) {
        Ok(inode) if inode == expected => fs::remove_file(path),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn lock_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".lock");
    name.into()
}

#[expect(
    deprecated,
    reason = "its replacement unlocks when dropped, for all generations at once"
)]
fn flock(file: &File) -> nix::Result<()> {
    nix::fcntl::flock(file.as_raw_fd(), FlockArg::LockExclusiveNonblock)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tempfile::TempDir;

    use super::*;

    fn place() -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        (directory, path)
    }

    #[test]
    fn a_lock_is_private_and_exclusive() {
        let (_directory, path) = place();
        let lock = PathLock::acquire(&path).unwrap();
        let mode = fs::metadata(lock_name(&path)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);

        let error = PathLock::acquire(&path).unwrap_err().to_string();
        assert!(error.contains("a live process holds"), "{error}");
        drop(lock);
        PathLock::acquire(&path).unwrap();
    }

    #[test]
    fn a_lock_is_held_until_the_last_generation_closes_it() {
        let (_directory, path) = place();
        let first = PathLock::acquire(&path).unwrap();
        let passed = first.file.as_fd().try_clone_to_owned().unwrap();
        let second = PathLock::inherited(&path, passed).unwrap();
        drop(first);
        PathLock::acquire(&path).unwrap_err();
        drop(second);
        PathLock::acquire(&path).unwrap();
    }

    #[test]
    fn what_is_not_the_lock_is_refused() {
        let (directory, path) = place();
        let _lock = PathLock::acquire(&path).unwrap();
        let other = File::open(lock_name(&path)).unwrap();
        PathLock::inherited(&path, other.into()).unwrap_err();
        let folder = File::open(directory.path()).unwrap();
        PathLock::inherited(&path, folder.into()).unwrap_err();
    }

    #[test]
    fn a_lock_is_not_taken_through_a_symbolic_link() {
        let (directory, path) = place();
        let target = directory.path().join("target");
        std::os::unix::fs::symlink(&target, lock_name(&path)).unwrap();
        PathLock::acquire(&path).unwrap_err();
        assert!(!target.exists());
    }

    #[test]
    fn a_lock_on_a_file_without_a_name_is_none() {
        let (_directory, path) = place();
        let name = lock_name(&path);
        let lock = PathLock::acquire(&path).unwrap();
        // Another process opens it, and before it can lock it the owner is gone.
        let opened = File::open(&name).unwrap();
        assert!(has_name(&opened, &name).unwrap());
        lock.remove().unwrap();
        assert!(!has_name(&opened, &name).unwrap());
        let _third = PathLock::acquire(&path).unwrap();
        assert!(!has_name(&opened, &name).unwrap());
    }

    #[test]
    fn removal_and_taking_may_race() {
        let (_directory, path) = place();
        let holders = AtomicUsize::new(0);
        let taken = AtomicUsize::new(0);
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    while taken.load(Ordering::SeqCst) < 500 {
                        if let Ok(lock) = PathLock::acquire(&path) {
                            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                            taken.fetch_add(1, Ordering::SeqCst);
                            // Lets the others find it taken, or between the two calls.
                            std::thread::yield_now();
                            holders.fetch_sub(1, Ordering::SeqCst);
                            lock.remove().unwrap();
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn what_a_dead_process_left_is_removed() {
        let (_directory, path) = place();
        remove_stale(&path).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        remove_stale(&path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn what_is_alive_is_left_in_peace() {
        let (_directory, path) = place();
        let listener = UnixListener::bind(&path).unwrap();
        let error = remove_stale(&path).unwrap_err().to_string();
        assert!(
            error.contains("a live process that is no generation"),
            "{error}"
        );
        assert!(path.exists());
        listener.set_nonblocking(true).unwrap();
        let probe = listener.accept().unwrap_err();
        assert_eq!(probe.kind(), io::ErrorKind::WouldBlock, "nobody connected");
    }

    #[test]
    fn what_is_not_a_socket_is_never_removed() {
        let (directory, path) = place();
        fs::write(&path, "precious").unwrap();
        let error = remove_stale(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("is not a socket, and is not removed"),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"precious");

        // Not even if it leads to one.
        let link = directory.path().join("link");
        let stale = directory.path().join("stale.sock");
        drop(UnixListener::bind(&stale).unwrap());
        std::os::unix::fs::symlink(&stale, &link).unwrap();
        remove_stale(&link).unwrap_err();
        assert!(link.is_symlink() && stale.exists());
    }

    #[test]
    fn a_path_is_removed_with_its_lock() {
        let (_directory, path) = place();
        let lock = PathLock::acquire(&path).unwrap();
        let _listener = UnixListener::bind(&path).unwrap();
        let owned = OwnedPath::bound(path.clone(), lock).unwrap();
        owned.remove().unwrap();
        assert!(!path.exists() && !lock_name(&path).exists());
        owned.remove().unwrap();
    }

    #[test]
    fn a_path_that_was_replaced_is_not_removed() {
        let (_directory, path) = place();
        let lock = PathLock::acquire(&path).unwrap();
        let _listener = UnixListener::bind(&path).unwrap();
        let owned = OwnedPath::bound(path.clone(), lock).unwrap();
        fs::remove_file(&path).unwrap();
        fs::remove_file(lock_name(&path)).unwrap();
        let _others_lock = PathLock::acquire(&path).unwrap();
        let _others = UnixListener::bind(&path).unwrap();
        owned.remove().unwrap();
        assert!(path.exists() && lock_name(&path).exists());

        let options = Options {
            mode: Some(0),
            ..Options::default()
        };
        owned.set_permissions(&options).unwrap_err();
    }
}
