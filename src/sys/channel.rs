//! The control channel: one record and its descriptors at a time over a Unix socket pair.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recv, recvmsg, sendmsg, socketpair,
};

use super::fd;

/// The most descriptors that one record may carry: `SCM_MAX_FD` of `unix(7)`.
pub(crate) const MAX_DESCRIPTORS: usize = 253;

/// One end of a `SOCK_SEQPACKET` pair.
///
/// A record and its descriptors arrive together or not at all; a record that did not fit, or
/// descriptors that the receiver had no room for, are an error and never a shorter message.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// One record as it came in.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
    /// Whether more descriptors came than this process had room for: the first of them are here.
    pub(crate) truncated: bool,
}

impl Channel {
    /// Makes a pair whose ends are both `CLOEXEC` and both blocking.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((Self(ours), Self(theirs)))
    }

    /// Sends one record. `WouldBlock` means that the peer has to read first, and so does
    /// `ETOOMANYREFS`, which `unix(7)` gives to an unprivileged sender whose descriptors in
    /// flight exceed its `RLIMIT_NOFILE`; see [`is_back_pressure`].
    pub(crate) fn send(&self, record: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let ancillary: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        loop {
            match sendmsg::<UnixAddr>(
                self.0.as_raw_fd(),
                &[IoSlice::new(record)],
                ancillary,
                MsgFlags::MSG_NOSIGNAL,
                None,
            ) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Receives one record of at most `limit` bytes, whole; `None` is the end of the stream.
    ///
    /// A peer that ended before it had read everything is announced by an error, ahead of its last
    /// words; they follow, and then the end.
    pub(crate) fn receive(&self, limit: usize) -> io::Result<Option<Record>> {
        // Most records are short, and memory that is touched for the longest one costs more than all
        // else here.
        let mut bytes = vec![0; self.next_length()?.min(limit)];
        match self.receive_in_part(&mut bytes)? {
            Some(record) if record.truncated => Err(truncated()),
            whole => Ok(whole),
        }
    }

    /// The same for a record that fits into `bytes`, where it is put first, with those
    /// descriptors that this process has room for.
    pub(crate) fn receive_in_part(&self, bytes: &mut [u8]) -> io::Result<Option<Record>> {
        let limit = bytes.len();
        let mut space = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
        let mut parts = [IoSliceMut::new(bytes)];
        let message = loop {
            match recvmsg::<UnixAddr>(
                self.0.as_raw_fd(),
                &mut parts,
                Some(&mut space),
                MsgFlags::MSG_CMSG_CLOEXEC,
            ) {
                Ok(message) => break message,
                // The kernel says so once (`ECONNRESET` in `unix(7)`, `sock_error` in its source).
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        let (length, flags) = (message.bytes, message.flags);
        let truncated = flags.contains(MsgFlags::MSG_CTRUNC);
        let numbers = if truncated {
            first_of(&space)
        } else {
            let mut numbers = Vec::new();
            for part in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(more) = part {
                    numbers.extend(more);
                }
            }
            numbers
        };
        let descriptors: Vec<_> = numbers.into_iter().map(fd::own).collect();
        if flags.contains(MsgFlags::MSG_TRUNC) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a record is longer than the limit of {limit} bytes"),
            ));
        }
        if length == 0 && descriptors.is_empty() && !truncated {
            return Ok(None);
        }
        Ok(Some(Record {
            bytes: bytes[..length].to_vec(),
            descriptors,
            truncated,
        }))
    }

    /// The length of the next record, which stays where it is; 0 at the end of the stream.
    fn next_length(&self) -> io::Result<usize> {
        loop {
            // With this flag `recv(2)` says how long it is, and not how much of it found room.
            let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
            match recv(self.0.as_raw_fd(), &mut [], flags) {
                Ok(length) => return Ok(length),
                // As below.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Waits until something can be received, and tells whether that is so: not if `limit` runs out,
    /// which is rounded up to milliseconds, or a signal comes.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let millis = limit.as_micros().div_ceil(1000);
        let limit = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        let mut record = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut record, limit), Ok(1..))
    }

    /// Sets or clears `O_NONBLOCK` on this end only.
    pub(crate) fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        fd::set_nonblocking(&self.0, nonblocking)
    }

    /// Device and inode, by which a successor recognises its end.
    pub(crate) fn identity(&self) -> io::Result<(u64, u64)> {
        fd::identity(&self.0)
    }
}

impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What to say of a record that was not whole.
pub(crate) fn truncated() -> io::Error {
    io::Error::other(
        "descriptors were truncated: RLIMIT_NOFILE of this process leaves no room for all",
    )
}

/// The descriptors that found room, of a list that was cut; nix does not give them.
///
/// The kernel writes a header with the length of what it has put there (`cmsg(3)`), or nothing at
/// all, and the buffer was zero before.
fn first_of(space: &[u8]) -> Vec<RawFd> {
    const WORD: usize = size_of::<usize>();
    const NUMBER: usize = size_of::<RawFd>();
    // Its length as one word, then level and type.
    const HEADER: usize = WORD + 2 * NUMBER;

    let Some(length) = space.first_chunk().map(|word| usize::from_ne_bytes(*word)) else {
        return Vec::new();
    };
    let rights = space.get(HEADER..length).unwrap_or_default();
    rights
        .chunks_exact(NUMBER)
        .filter_map(|number| number.try_into().ok().map(RawFd::from_ne_bytes))
        .collect()
}

/// Whether a failed [`Channel::send`] only asks to wait until the peer has read.
pub(crate) fn is_back_pressure(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ETOOMANYREFS as i32)
}

#[cfg(test)]
mod tests {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    use super::*;

    /// In this process, whose limit is lowered meanwhile: nextest runs each test in its own.
    #[test]
    fn descriptors_without_room_are_told_and_none_leaks() {
        let open = || std::fs::read_dir("/proc/self/fd").expect("a list").count();
        let (ours, theirs) = Channel::pair().expect("a pair");
        let before = open();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        for room in [0, 3] {
            ours.send(b"ten", &[ours.as_fd(); 10]).expect("room");
            let mut free = (0..soft).filter(|number| !fd::is_open(*number as RawFd));
            let limit = free.nth(room).expect("descriptors are free");
            setrlimit(Resource::RLIMIT_NOFILE, limit, hard).expect("a lower limit");
            let record = theirs.receive_in_part(&mut [0; 64]);
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("the limit of before");
            let record = record.expect("no error").expect("a record");
            assert_eq!(
                (record.bytes.as_slice(), record.truncated),
                (&b"ten"[..], true)
            );
            assert_eq!(record.descriptors.len(), room);
            drop(record);
            assert_eq!(open(), before);
        }
    }

    #[test]
    fn the_last_words_of_a_peer_that_has_not_read_all_arrive() {
        let (ours, theirs) = Channel::pair().expect("a pair");
        ours.send(b"unread", &[]).expect("room");
        theirs.send(b"last", &[]).expect("room");
        theirs.send(b"words", &[]).expect("room");
        drop(theirs);
        for expected in [&b"last"[..], b"words"] {
            let record = ours.receive(64).expect("no error").expect("a record");
            assert_eq!(record.bytes, expected);
        }
        assert!(ours.receive(64).expect("no error").is_none());
    }
}
