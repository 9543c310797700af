//! The pid file: always whole, always the number of the generation that serves.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that holds the pid of the generation that serves, and a line feed.
#[derive(Debug, Clone)]
pub(crate) struct PidFile {
    path: PathBuf,
    pid: u32,
}

impl PidFile {
    pub(crate) fn new(path: PathBuf, pid: u32) -> Self {
        Self { path, pid }
    }

    /// Writes the file under another name and renames it, so that a reader sees the old content or
    /// the new, and never half of one; then reads it back.
    pub(crate) fn write(&self) -> io::Result<()> {
        let explain = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("could not write pid file {}: {error}", self.path.display()),
            )
        };
        let temporary = self.temporary();
        let written = write_new(&temporary, self.pid)
            .and_then(|()| fs::rename(&temporary, &self.path))
            .and_then(|()| match self.is_ours() {
                true => Ok(()),
                false => Err(io::Error::other("it holds another pid afterwards")),
            });
        if written.is_err() {
            // Nothing to remove where the write itself has failed.
            fs::remove_file(&temporary).ok();
        }
        written.map_err(explain)
    }

    /// Writes the file again if somebody else's pid is in it.
    pub(crate) fn assert(&self) -> io::Result<()> {
        if self.is_ours() { Ok(()) } else { self.write() }
    }

    /// Removes the file if it still holds this pid.
    pub(crate) fn remove(&self) -> io::Result<()> {
        if self.is_ours() {
            fs::remove_file(&self.path)
        } else {
            Ok(())
        }
    }

    fn is_ours(&self) -> bool {
        read(&self.path) == Some(self.pid)
    }

    fn temporary(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{}", self.pid));
        PathBuf::from(name)
    }
}

fn write_new(path: &Path, pid: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)?;
    file.write_all(format!("{pid}\n").as_bytes())
}

fn read(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_pid_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("app.pid");
        let (old, new) = (PidFile::new(path.clone(), 7), PidFile::new(path.clone(), 8));
        old.write().expect("written");
        assert_eq!(fs::read_to_string(&path).expect("there"), "7\n");
        new.write().expect("written over");
        old.remove().expect("nothing to do");
        assert_eq!(read(&path), Some(8));
        old.assert().expect("written again");
        assert_eq!(read(&path), Some(7));
        old.remove().expect("removed");
        assert!(!path.exists());
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 0);
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let error = PidFile::new("/nowhere/app.pid".into(), 7)
            .write()
            .expect_err("no folder");
        assert!(
            error
                .to_string()
                .starts_with("could not write pid file /nowhere/app.pid: ")
        );
    }
}
