//! The control channel on the runtime.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::protocol::MAX_RECORD;
use crate::sys::channel::{Channel, Record, is_back_pressure};
use crate::sys::log;
use crate::sys::watch::watch;

/// What receiving has given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// A record, which was delivered.
    Record,
    /// The end of the channel.
    End,
    /// Nothing, ever again: others read it.
    GivenUp,
}

/// One end of the control channel, for any number of senders and one receiver.
#[derive(Debug)]
pub(crate) struct Link {
    /// Watched for records only: it has room nearly always, and whenever the peer reads the kernel
    /// would wake this process to say so.
    channel: AsyncFd<Channel>,
    /// The same, watched for room, once there was none.
    room: OnceLock<AsyncFd<OwnedFd>>,
    /// Told when the peer has taken descriptors out of flight.
    taken: Notify,
    /// Whether others read them.
    given_up: AtomicBool,
    /// Whether a thread waits for them, so that no task has to.
    held: AtomicBool,
}

impl Link {
    pub(crate) fn new(channel: Channel) -> io::Result<Self> {
        channel.set_nonblocking(true)?;
        Ok(Self {
            channel: watch(channel, Interest::READABLE)?,
            room: OnceLock::new(),
            taken: Notify::new(),
            given_up: AtomicBool::new(false),
            held: AtomicBool::new(false),
        })
    }

    /// Sends one record, and waits as long as the peer has no room for it.
    ///
    /// # Cancel safety
    ///
    /// A record is sent whole or not at all.
    pub(crate) async fn send(
        &self,
        record: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        loop {
            let send = || self.channel().send(record, descriptors);
            let sent = match send() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.room()?.async_io(Interest::WRITABLE, |_| send()).await
                }
                other => other,
            };
            match sent {
                // Too many descriptors in flight: not writable would be the kernel's word for it,
                // but epoll(7) has none. The peer says when it has taken some; the limit counts
                // all processes of the user, so that it may also be another one that has to.
                Err(error) if is_back_pressure(&error) => {
                    let taken = tokio::time::timeout(RETRY, self.taken.notified()).await;
                    log::debug!(by_peer = taken.is_ok(), "descriptors in flight went down");
                }
                other => return other,
            }
        }
    }

    fn room(&self) -> io::Result<&AsyncFd<OwnedFd>> {
        if self.room.get().is_none() {
            let copy = self.channel().as_fd().try_clone_to_owned()?;
            // Whoever comes second has one too many, which is closed.
            self.room.set(watch(copy, Interest::WRITABLE)?).ok();
        }
        self.room
            .get()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Notes that the peer has taken descriptors.
    pub(crate) fn taken(&self) {
        self.taken.notify_one();
    }

    /// Receives one record and delivers it; `false` is the end of the channel. Waits for ever once
    /// the channel was [given up](Self::give_up).
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub(crate) async fn receive(&self, deliver: impl Fn(Record)) -> io::Result<bool> {
        let receive = |_: &Channel| match self.held.load(Ordering::SeqCst) {
            // Whoever holds it looks once more when it lets go.
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => self.receive_now(&deliver),
        };
        match self.channel.async_io(Interest::READABLE, receive).await? {
            Received::Record => Ok(true),
            Received::End => Ok(false),
            Received::GivenUp => std::future::pending().await,
        }
    }

    /// Delivers the next record if it has arrived already.
    pub(crate) fn receive_now(&self, deliver: impl Fn(Record)) -> io::Result<Received> {
        // Over both steps: whoever finds nothing here knows that everything was delivered.
        let mut space = SPACE.lock().unwrap_or_else(PoisonError::into_inner);
        if self.given_up.load(Ordering::SeqCst) {
            // Not an error that asks to wait: a channel whose peer has gone is ready for ever.
            return Ok(Received::GivenUp);
        }
        Ok(match self.channel().receive_in_part(&mut *space)? {
            Some(record) => {
                deliver(record);
                Received::Record
            }
            None => Received::End,
        })
    }

    /// Receives on the calling thread, which stands still, as long as `goes_on` says so, and no longer
    /// than `limit`.
    pub(crate) fn receive_here(
        &self,
        limit: Duration,
        deliver: impl Fn(io::Result<Record>),
        mut goes_on: impl FnMut() -> bool,
    ) {
        let next = || match self.receive_now(|record| deliver(Ok(record))) {
            Ok(received) => received == Received::Record,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                deliver(Err(error));
                false
            }
        };
        let until = Instant::now() + limit;
        self.held.store(true, Ordering::SeqCst);
        while goes_on() {
            let left = until.saturating_duration_since(Instant::now());
            // The end of the channel is for a task to tell: it stays.
            if left.is_zero() || !self.channel().wait(left) || !next() {
                break;
            }
        }
        self.held.store(false, Ordering::SeqCst);
        // A task that has looked meanwhile was sent away, and is not woken again.
        while next() {}
    }

    /// Receives nothing more, not even the end of the channel: a later generation reads what comes.
    /// What was received has been delivered.
    pub(crate) fn give_up(&self) {
        let _space = SPACE.lock().unwrap_or_else(PoisonError::into_inner);
        self.given_up.store(true, Ordering::SeqCst);
    }

    /// The channel itself, to be lent to a later generation.
    pub(crate) fn channel(&self) -> &Channel {
        self.channel.get_ref()
    }
}

/// Where records are received, one at a time. Of what none has reached the kernel gives no memory.
static SPACE: Mutex<[u8; MAX_RECORD]> = Mutex::new([0; MAX_RECORD]);

const RETRY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_task_receives_what_comes_after_a_thread_has_waited() {
        let (ours, theirs) = Channel::pair().expect("a pair");
        let link = Arc::new(Link::new(ours).expect("a runtime"));
        let (sender, mut received) = mpsc::unbounded_channel();
        let deliver = move |record: Record| sender.send(record.bytes).expect("the test listens");
        let (task, here) = (deliver.clone(), deliver);
        let reader = Arc::clone(&link);
        let reading =
            tokio::spawn(async move { while let Ok(true) = reader.receive(&task).await {} });
        tokio::task::yield_now().await;

        theirs.send(b"one", &[]).expect("room");
        theirs.send(b"two", &[]).expect("room");
        let mut looks = 0;
        link.receive_here(
            Duration::from_secs(60),
            |record| here(record.expect("a record")),
            || {
                looks += 1;
                looks < 2
            },
        );
        theirs.send(b"three", &[]).expect("room");
        for expected in [&b"one"[..], b"two", b"three"] {
            assert_eq!(received.recv().await.expect("a record"), expected);
        }
        drop(theirs);
        reading.await.expect("the end is the task's to see");
    }
}
