//! The control channel: one record and its descriptors at a time over a Unix socket pair.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    recvmsg, sendmsg, socketpair,
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

    /// Receives one record of at most `limit` bytes; `None` is the end of the stream.
    ///
    /// A peer that ended before it had read everything is announced by an error, ahead of its last
    /// words; they follow, and then the end.
    pub(crate) fn receive(&self, limit: usize) -> io::Result<Option<Record>> {
        let mut bytes = vec![0; limit];
        let mut space = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
        let mut parts = [IoSliceMut::new(&mut bytes)];
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
        // Those that found room are lost then: nix gives no part of a list that was cut. Whoever
        // gets less than everything ends by it.
        if flags.contains(MsgFlags::MSG_CTRUNC) {
            return Err(io::Error::other(
                "descriptors were truncated: RLIMIT_NOFILE of this process leaves no room for all",
            ));
        }
        let mut descriptors = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = part {
                descriptors.extend(numbers.into_iter().map(fd::own));
            }
        }
        if flags.contains(MsgFlags::MSG_TRUNC) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a record is longer than the limit of {limit} bytes"),
            ));
        }
        if length == 0 && descriptors.is_empty() {
            return Ok(None);
        }
        bytes.truncate(length);
        Ok(Some(Record { bytes, descriptors }))
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

/// Whether a failed [`Channel::send`] only asks to wait until the peer has read.
pub(crate) fn is_back_pressure(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ETOOMANYREFS as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

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
