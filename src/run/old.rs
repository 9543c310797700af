//! The generations before this one that still drain.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::mpsc::UnboundedSender;

use super::input::Input;
use super::peer::{Peer, exit_of, exited};
use crate::lifecycle::own;
use crate::protocol::{CONTROL, Capabilities, Older, ToIncumbent, encode};
use crate::sys::channel::Channel;
use crate::sys::log;
use crate::sys::{pidfd, process};

/// An old generation, with the means to ask, shorten and end it.
///
/// Every younger generation that lives has these means, so that the newest has them although the
/// middle ones have gone.
#[derive(Debug, Clone)]
pub(crate) struct Old {
    pub(crate) generation: u32,
    pub(crate) pid: u32,
    /// When it is killed if it has not ended, as a time since boot.
    pub(crate) deadline: Duration,
    pub(crate) channel: Arc<OwnedFd>,
    pub(crate) pidfd: Option<Arc<OwnedFd>>,
    pub(crate) capabilities: Capabilities,
}

impl Old {
    /// What the Offer says of it.
    pub(crate) fn describe(&self) -> Older {
        Older {
            generation: self.generation,
            pid: self.pid as i32,
            deadline_ms: Some(u64::try_from(self.deadline.as_millis()).unwrap_or(u64::MAX)),
            capabilities: self.capabilities.clone(),
        }
    }

    /// Tells when it has ended, and kills it at its deadline.
    pub(crate) fn watch(&self, queue: UnboundedSender<Input>) {
        let (generation, pid, deadline) = (self.generation, self.pid, self.deadline);
        let Some(pidfd) = &self.pidfd else {
            return;
        };
        let watched = match pidfd.try_clone().and_then(exit_of) {
            Ok(watched) => watched,
            Err(error) => {
                log::error!(generation, pid, %error, "an old generation cannot be watched");
                queue.send(Input::OlderGone { generation }).ok();
                return;
            }
        };
        own::spawn(async move {
            let left = deadline.saturating_sub(process::uptime());
            if tokio::time::timeout(left, exited(&watched)).await.is_err() {
                log::warn!(
                    generation,
                    pid,
                    "an old generation has not ended by its deadline and is killed"
                );
                if let Err(error) = pidfd::signal(&watched, Signal::SIGKILL) {
                    log::error!(generation, pid, %error, "it cannot be killed");
                }
                exited(&watched).await;
            }
            queue.send(Input::OlderGone { generation }).ok();
        });
    }

    /// Takes over its lane: reads what it says from here on.
    ///
    /// # Errors
    ///
    /// When this process lacks a descriptor.
    pub(crate) fn take_over(&self, queue: UnboundedSender<Input>) -> io::Result<Peer> {
        let generation = self.generation;
        let channel = Channel::from(self.channel.as_fd().try_clone_to_owned()?);
        let failed = move |error| log::debug!(generation, %error, "it does not listen");
        let lane = Peer::new(channel, failed)?;
        let over = queue.clone();
        lane.read(
            move |record| drop(queue.send(Input::Older { generation, record })),
            move || drop(over.send(Input::LaneOver { generation })),
        );
        Ok(lane)
    }

    /// Asks it to end by an earlier deadline.
    pub(crate) fn shorten(&mut self, deadline: Duration, grace: Duration) -> io::Result<()> {
        self.deadline = self.deadline.min(deadline.saturating_add(grace));
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        self.tell(&ToIncumbent::Shorten { deadline_ms }, &[])
    }

    /// Has it serve a client that is at the other end of `socket`.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) where its library cannot.
    #[allow(dead_code, reason = "only an integration asks, which is a feature")]
    pub(crate) fn ask(&self, socket: BorrowedFd<'_>, state: String) -> io::Result<()> {
        if !self.capabilities.has(CONTROL) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.tell(&ToIncumbent::Client { state }, &[socket])
    }

    /// Nothing is ever read here: the next older generation to answer may be another one's to hear.
    fn tell(&self, message: &ToIncumbent, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        log::debug!(protocol; ?message, generation = self.generation, "to an older generation");
        let record = encode(message).map_err(io::Error::other)?;
        Channel::from(self.channel.as_fd().try_clone_to_owned()?).send(&record, descriptors)
    }
}
