//! The processes of a service, followed closely: who has come, who has gone, and who has which socket.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;

use super::cleanup::Mark;
use super::diagnosis::Diagnosis;
use super::listening::{has_connection, listening_on};
use super::procfs;
use crate::testing::target::{Ends, Target};

/// The processes of one service.
///
/// Whoever is a child of one of them belongs to them, and whoever bears the mark or is in the session of the first.
/// Each process is looked at once, so that looking again costs little more than the list of `/proc`.
#[derive(Debug)]
pub(in crate::testing) struct Family {
    mark: Mark,
    session: u32,
    /// All processes by number; `None` is one that does not belong to the service.
    known: HashMap<u32, Option<Member>>,
    diagnosis: Diagnosis,
}

/// A process of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::testing) struct Member {
    pub(in crate::testing) pid: u32,
    /// When it started, in ticks since boot: no two processes have both in common.
    pub(in crate::testing) started: u64,
    pub(in crate::testing) parent: u32,
}

impl Family {
    pub(super) fn new(mark: Mark, session: u32) -> Self {
        Self {
            mark,
            session,
            known: HashMap::new(),
            diagnosis: Diagnosis::default(),
        }
    }

    /// The processes that run now, in order of their start.
    pub(in crate::testing) fn members(&mut self) -> Vec<Member> {
        let members = self.look();
        if members.is_empty() {
            // One that becomes a daemon has gone by the time it is looked at, and its child has come after the list.
            return self.look();
        }
        members
    }

    /// Looks anew at those that were taken for strangers.
    pub(in crate::testing) fn forget(&mut self) {
        self.known.retain(|_, member| member.is_some());
    }

    fn look(&mut self) -> Vec<Member> {
        // Without `/proc` nothing of all this would have worked before.
        let numbers: BTreeSet<u32> = procfs::numbers().unwrap_or_default().into_iter().collect();
        self.known.retain(|pid, _| numbers.contains(pid));
        for pid in numbers {
            if let Some(None) = self.known.get(&pid) {
                continue;
            }
            let entry = procfs::process(pid).filter(|entry| !entry.zombie);
            let belongs = entry.and_then(|entry| {
                let known = matches!(self.known.get(&pid), Some(Some(member)) if member.started == entry.started);
                let belongs = known
                    // Numbers grow, so that a parent was looked at before its child, but for a rare wrap.
                    || matches!(self.known.get(&entry.parent), Some(Some(_)))
                    || self.mark.is_borne_by(&entry, self.session);
                belongs.then_some(Member {
                    pid,
                    started: entry.started,
                    parent: entry.parent,
                })
            });
            self.known.insert(pid, belongs);
        }
        let mut members: Vec<Member> = self.known.values().flatten().copied().collect();
        members.sort_by_key(|member| (member.started, member.pid));
        members
    }

    /// Which of these have which socket.
    pub(in crate::testing) fn holders(members: &[Member]) -> Holders {
        let mut holders = Holders::default();
        for member in members {
            // One that has just ended has none.
            for inode in procfs::sockets(member.pid).unwrap_or_default() {
                holders.0.entry(inode).or_default().push(member.pid);
            }
        }
        holders
    }

    /// The stream sockets on which any of these listens.
    pub(in crate::testing) fn listening(members: &[Member]) -> Vec<Target> {
        let mut found = BTreeSet::new();
        for member in members {
            let inodes = procfs::sockets(member.pid).unwrap_or_default();
            found.extend(listening_on(member.pid, &inodes));
        }
        found.into_iter().collect()
    }

    /// The processes that have the other end of a connection, the youngest first.
    ///
    /// There is none while nobody has accepted it, or when it is closed. There are several while one forks and its child
    /// has not executed anything yet, and while one gives it to another.
    pub(in crate::testing) fn holders_of(&mut self, ends: &Ends) -> Vec<Member> {
        let Some(inode) = self.diagnosis.other_end(ends) else {
            return Vec::new();
        };
        let mut members = self.members();
        members.reverse();
        members.retain(|member| {
            procfs::sockets(member.pid).is_ok_and(|sockets| sockets.contains(&inode))
        });
        members
    }

    /// The same for many connections, from one look at the processes.
    pub(in crate::testing) fn holder_among(
        &mut self,
        holders: &Holders,
        ends: &Ends,
    ) -> Option<u32> {
        let inode = self.diagnosis.other_end(ends)?;
        holders.0.get(&inode)?.last().copied()
    }

    /// Memory and descriptors of these together; what cannot be read counts as nothing.
    pub(in crate::testing) fn weight(members: &[Member]) -> Weight {
        let mut weight = Weight::default();
        for member in members {
            if let Ok(memory) = procfs::memory(member.pid) {
                weight.proportional += memory.proportional;
                weight.resident += memory.resident;
            }
            if let Ok(descriptors) = fs::read_dir(format!("/proc/{}/fd", member.pid)) {
                weight.descriptors += descriptors.count() as u64;
            }
        }
        weight.processes = members.len();
        weight
    }
}

impl Member {
    /// Whether both execute the same file.
    pub(in crate::testing) fn has_program_of(&self, other: u32) -> bool {
        let file = |pid: u32| {
            let file = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
            Some((file.dev(), file.ino()))
        };
        file(self.pid).is_some_and(|own| file(other) == Some(own))
    }

    /// Whether it has a connection to one of these.
    pub(in crate::testing) fn has_connection(&self, targets: &[Target]) -> bool {
        has_connection(self.pid, targets)
    }

    /// Whether it still runs.
    pub(in crate::testing) fn is_running(&self) -> bool {
        procfs::process(self.pid)
            .is_some_and(|entry| !entry.zombie && entry.started == self.started)
    }
}

/// Which processes have which socket, by inode.
#[derive(Debug, Default)]
pub(in crate::testing) struct Holders(BTreeMap<u64, Vec<u32>>);

/// What processes take up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Weight {
    /// How many they are.
    pub processes: usize,
    /// Open descriptors.
    pub descriptors: u64,
    /// Proportional share of memory (PSS), in bytes.
    pub proportional: u64,
    /// Resident memory (RSS), in bytes; what they share is counted for each.
    pub resident: u64,
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    use rustix::fs::fstat;

    use super::*;
    use crate::testing::process::Program;

    #[tokio::test]
    async fn follows_children_and_forgets_the_dead() {
        let service = Program::new("sh")
            .args(["-c", "sleep 1000 & echo up; wait"])
            .start()
            .unwrap();
        service.output().find("up").await;
        let mut family = service.family();
        let members = family.members();
        assert_eq!(members.len(), 2, "{members:?}");
        assert_eq!(members[1].parent, service.first().pid());
        assert!(members[0].has_program_of(members[0].pid));
        assert!(!members[0].has_program_of(std::process::id()));
        assert!(Family::weight(&members).descriptors > 0);
        drop(service);
        assert_eq!(family.members(), []);
        assert!(!members[0].is_running());
    }

    #[test]
    fn the_other_end_of_a_connection_is_found() {
        let inode = |socket: &dyn AsRawFd| {
            let link = format!("/proc/self/fd/{}", socket.as_raw_fd());
            fs::metadata(link).unwrap().ino()
        };
        let mut diagnosis = Diagnosis::default();
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let address = if address == "[::1]:0" {
                "::1"
            } else {
                "127.0.0.1"
            };
            let client = TcpStream::connect((address, port)).unwrap();
            let ends = Ends::Tcp(client.local_addr().unwrap(), client.peer_addr().unwrap());
            assert_eq!(diagnosis.other_end(&ends), None, "nobody has accepted it");
            let (server, _) = listener.accept().unwrap();
            assert_eq!(
                diagnosis.other_end(&ends),
                Some(inode(&server)),
                "{address}"
            );
            drop(server);
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        let ends = Ends::Unix(fstat(&client).unwrap().st_ino);
        assert_eq!(diagnosis.other_end(&ends), Some(inode(&server)));
    }
}
