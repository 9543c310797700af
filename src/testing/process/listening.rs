//! Where a process listens, as the kernel sees it.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::pid::Process;
use super::procfs;
use crate::testing::target::Target;

/// The stream sockets on which `process` listens, without doublets, in order.
pub(super) fn listening(process: &Process) -> Vec<Target> {
    // A process that has ended listens nowhere.
    let inodes = procfs::sockets(process.pid()).unwrap_or_default();
    listening_on(process.pid(), &inodes)
}

/// The stream sockets among `inodes` that listen, as the network namespace of `pid` knows them.
pub(super) fn listening_on(pid: u32, inodes: &BTreeSet<u64>) -> Vec<Target> {
    let mut targets = BTreeSet::new();
    for (file, parse) in TABLES {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{file}"));
        for line in table.unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            if let Some((inode, target)) = parse(&fields) {
                if inodes.contains(&inode) {
                    targets.insert(target);
                }
            }
        }
    }
    targets.into_iter().collect()
}

/// Whether a process has an established connection to one of these.
pub(super) fn has_connection(pid: u32, targets: &[Target]) -> bool {
    let inodes = procfs::sockets(pid).unwrap_or_default();
    let ports: BTreeSet<u16> = targets.iter().filter_map(Target::port).collect();
    let table =
        |file: &str| fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
    let tcp = ["tcp", "tcp6"].iter().any(|file| {
        table(file).lines().skip(1).any(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let [_, local, _, TCP_ESTABLISHED, _, _, _, _, _, inode, ..] = fields[..] else {
                return false;
            };
            let port = local.rsplit(':').next();
            let port = port.and_then(|port| u16::from_str_radix(port, 16).ok());
            port.is_some_and(|port| ports.contains(&port))
                && inode.parse().is_ok_and(|inode| inodes.contains(&inode))
        })
    });
    tcp || table("unix").lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, _, _, _, SOCK_STREAM, SS_CONNECTED, inode, path] = fields[..] else {
            return false;
        };
        targets.contains(&Target::Unix(PathBuf::from(path)))
            && inode.parse().is_ok_and(|inode| inodes.contains(&inode))
    })
}

type Parse = fn(&[&str]) -> Option<(u64, Target)>;

const TABLES: [(&str, Parse); 3] = [("tcp", tcp), ("tcp6", tcp), ("unix", unix)];

fn tcp(fields: &[&str]) -> Option<(u64, Target)> {
    let [_, local, _, state, _, _, _, _, _, inode, ..] = fields else {
        return None;
    };
    if *state != TCP_LISTEN {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    // Words of 32 bits in the byte order of the host, each printed as a number.
    let words = (0..address.len()).step_by(8).map(|at| {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((
        inode.parse().ok()?,
        Target::Tcp(SocketAddr::new(address, port)),
    ))
}

fn unix(fields: &[&str]) -> Option<(u64, Target)> {
    let [_, _, _, flags, kind, _, inode, path] = fields else {
        return None;
    };
    let listens = u32::from_str_radix(flags, 16).ok()? & SO_ACCEPTCON != 0;
    if !listens || *kind != SOCK_STREAM {
        return None;
    }
    Some((inode.parse().ok()?, Target::Unix(PathBuf::from(path))))
}

/// include/net/tcp_states.h
const TCP_LISTEN: &str = "0A";
const TCP_ESTABLISHED: &str = "01";
/// include/uapi/linux/net.h
const SS_CONNECTED: &str = "03";
const SO_ACCEPTCON: u32 = 1 << 16;
const SOCK_STREAM: &str = "0001";

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn finds_the_listeners_of_this_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let v6 = TcpListener::bind("[::1]:0").unwrap();
        let _unix = UnixListener::bind(&path).unwrap();
        let found = listening(&Process::open(std::process::id()).unwrap());
        assert!(
            found.contains(&Target::Tcp(v4.local_addr().unwrap())),
            "{found:?}"
        );
        assert!(
            found.contains(&Target::Tcp(v6.local_addr().unwrap())),
            "{found:?}"
        );
        assert!(found.contains(&Target::Unix(path)), "{found:?}");
    }
}
