//! The control channel on the runtime.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::protocol::MAX_RECORD;
use crate::sys::channel::{Channel, Record, is_back_pressure};
use crate::sys::log;
use crate::sys::watch::watch;

/// One end of the control channel, for any number of senders and one receiver.
#[derive(Debug)]
pub(crate) struct Link {
    channel: AsyncFd<Channel>,
    /// Told when the peer has taken descriptors out of flight.
    taken: Notify,
    receiving: Mutex<()>,
}

impl Link {
    pub(crate) fn new(channel: Channel) -> io::Result<Self> {
        channel.set_nonblocking(true)?;
        Ok(Self {
            channel: watch(channel, Interest::READABLE | Interest::WRITABLE)?,
            taken: Notify::new(),
            receiving: Mutex::new(()),
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
            let sent = self
                .channel
                .async_io(Interest::WRITABLE, |channel| {
                    channel.send(record, descriptors)
                })
                .await;
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

    /// Notes that the peer has taken descriptors.
    pub(crate) fn taken(&self) {
        self.taken.notify_one();
    }

    /// Receives one record and delivers it; `false` is the end of the channel.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub(crate) async fn receive(&self, deliver: impl Fn(Record)) -> io::Result<bool> {
        self.channel
            .async_io(Interest::READABLE, |_| self.receive_now(&deliver))
            .await
    }

    /// Delivers the next record if it has arrived already.
    pub(crate) fn receive_now(&self, deliver: impl Fn(Record)) -> io::Result<bool> {
        // Over both steps: whoever finds nothing here knows that everything was delivered.
        let _receiving = self
            .receiving
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(match self.channel().receive_in_part(MAX_RECORD)? {
            Some(record) => {
                deliver(record);
                true
            }
            None => false,
        })
    }

    /// The channel itself, to be lent to a later generation.
    pub(crate) fn channel(&self) -> &Channel {
        self.channel.get_ref()
    }
}

const RETRY: Duration = Duration::from_millis(20);
