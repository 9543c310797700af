//! Which paths live sockets have bound.
//!
//! `/proc/net/unix` lists every Unix socket of the network namespace with the path that it was
//! bound to, as it was given to bind(2) ([proc_net(5)]). Looking there disturbs nobody.
//! It does not show the sockets of other network namespaces: between containers that share a
//! directory only the lock beside the path counts.
//!
//! [proc_net(5)]: https://man7.org/linux/man-pages/man5/proc_net.5.html

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::path::Inode;

/// Does a live socket have this path?
///
/// In doubt it says yes: a path that is refused is noticed, one that is taken away is not.
pub(super) fn is_bound(path: &Path) -> io::Result<bool> {
    let table = std::fs::read("/proc/net/unix")?;
    let inode = Inode::of_path(path)?;
    let is_ours = |entry: &Path| {
        if entry.file_name() != path.file_name() {
            false
        } else if entry.is_absolute() {
            // The directory may be written in another way: through a symbolic link, or `/var/run`.
            Inode::of_path(entry).is_ok_and(|entry| entry == inode)
        } else {
            // It is relative to a directory that is not known here.
            true
        }
    };
    Ok(bound_paths(&table).any(is_ours))
}

/// The paths in a table as `/proc/net/unix` has it, of sockets that take connections or datagrams.
fn bound_paths(table: &[u8]) -> impl Iterator<Item = &Path> {
    table
        .split(|byte| *byte == b'\n')
        .skip(1)
        .filter_map(bound_path)
}

/// Reads a line: `Num RefCount Protocol Flags Type St Inode Path`.
fn bound_path(line: &[u8]) -> Option<&Path> {
    const DATAGRAM: &[u8] = b"0002";
    const CONNECTED: &[u8] = b"03";

    let mut rest = line;
    let mut fields = [b"".as_slice(); 7];
    for field in &mut fields {
        let start = rest.iter().position(|byte| *byte != b' ')?;
        rest = &rest[start..];
        let end = rest.iter().position(|byte| *byte == b' ')?;
        (*field, rest) = rest.split_at(end);
    }
    let [_, _, _, _, r#type, state, _] = fields;
    // A connection that was accepted is listed with the path of its listener, which may be gone.
    if r#type != DATAGRAM && state == CONNECTED {
        return None;
    }
    let path = &rest[1..];
    // An abstract name is listed with an `@` for its NUL.
    (!path.is_empty() && !path.starts_with(b"@")).then(|| Path::new(OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    #[test]
    fn reads_the_table() {
        let table = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01    17 /run/a b.sock\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 31337 /run/accepted.sock\n\
            0000000000000000: 00000003 00000000 00000000 0002 03 31338 relative.sock\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 31339 @abstract\n\
            0000000000000000: 00000002 00000000 00000000 0002 01 31340\n\
            short line\n";
        let paths: Vec<_> = bound_paths(table).collect();
        assert_eq!(
            paths,
            [Path::new("/run/a b.sock"), Path::new("relative.sock")]
        );
    }

    #[test]
    fn sees_what_is_bound() {
        let directory = tempfile::tempdir().unwrap();
        let stream = directory.path().join("stream.sock");
        let datagram = directory.path().join("datagram.sock");
        let listener = UnixListener::bind(&stream).unwrap();
        let socket = UnixDatagram::bind(&datagram).unwrap();
        assert!(is_bound(&stream).unwrap());
        assert!(is_bound(&datagram).unwrap());

        let client = UnixStream::connect(&stream).unwrap();
        let accepted = listener.accept().unwrap();
        drop(listener);
        assert!(!is_bound(&stream).unwrap(), "a connection does not bind");
        drop((client, accepted, socket));
        assert!(!is_bound(&datagram).unwrap());
    }

    #[test]
    fn sees_through_a_symbolic_link() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        std::fs::create_dir(&real).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let _listener = UnixListener::bind(real.join("app.sock")).unwrap();
        assert!(is_bound(&link.join("app.sock")).unwrap());
    }
}
