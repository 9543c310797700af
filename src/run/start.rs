//! The start of a successor: the Offer is taken before any thread exists.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use super::old::Old;
use crate::error::Error;
use crate::protocol::successor::{Action, Event};
use crate::protocol::{
    Failed, Garbage, MAX_RECORD, Offer, Role, Sockets, Stage, Successor, ToSuccessor, decode,
    encode,
};
use crate::socket::{Mark, Store, verify};
use crate::sys::channel::{Channel, Record};
use crate::sys::log;
use crate::sys::{room, stdio};

/// What a successor has from its predecessor when its main starts.
#[derive(Debug)]
pub(crate) struct Inheritance {
    pub(crate) channel: Channel,
    /// Where the offer was cut short by the predecessor's death, nothing.
    pub(crate) offer: Option<Offered>,
    /// What comes after it was not in the offer.
    pub(crate) until: Mark,
    /// Whether the predecessor was seen to be gone.
    pub(crate) orphaned: bool,
    pub(crate) machine: Successor,
    /// What the machine asked for that needs a runtime.
    pub(crate) unperformed: Vec<Action>,
}

/// The Offer, with its descriptors.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) offer: Offer,
    pub(crate) incumbent: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    /// The pipe of this generation's first standard error, and those of generations before.
    pub(crate) stderr_pipes: Vec<Arc<OwnedFd>>,
    pub(crate) older: Vec<Old>,
}

impl Inheritance {
    /// Talks to the predecessor, blocking, until the offer is complete or the predecessor is gone;
    /// `hears` tells whether this generation wants to know what happens there.
    ///
    /// # Errors
    ///
    /// When this generation cannot serve with what it is offered; the predecessor has been told.
    pub(crate) fn receive(channel: Channel, store: &Store, hears: bool) -> Result<Self, Error> {
        let machine = Successor::offered(std::process::id() as i32, hears);
        let mut this = Self {
            channel,
            offer: None,
            until: Mark::default(),
            orphaned: false,
            machine,
            unperformed: Vec::new(),
        };
        loop {
            let record = match this.channel.receive(MAX_RECORD) {
                Ok(record) => record,
                Err(error) => {
                    this.step(Event::Failed(Failed::new(Stage::Adopt, None, &error)))?;
                    continue;
                }
            };
            let run = match record {
                None => {
                    this.orphaned = true;
                    this.replace_stderr();
                    this.step(Event::PredecessorGone)?
                }
                Some(record) => match this.take(record, store) {
                    Ok(message) => this.step(Event::Received(&message))?,
                    Err(Refused::Garbage(reason)) => this.step(Event::Garbage { reason })?,
                    Err(Refused::Failed(failed)) => this.step(Event::Failed(failed))?,
                },
            };
            if run {
                this.until = store.mark();
                return Ok(this);
            }
        }
    }

    /// Where the offer did not come, the only standard error is a pipe that nobody reads any more:
    /// what is written to it would be an error, and a panic in `eprintln!`.
    fn replace_stderr(&self) {
        if self.offer.is_none() {
            if let Err(error) = stdio::copy_stdout().and_then(|fd| stdio::restore_stderr(&fd)) {
                log::debug!(%error, "no standard error");
            }
        }
    }

    /// Feeds the machine; tells whether main is to run.
    fn step(&mut self, event: Event<'_>) -> Result<bool, Error> {
        let mut run = false;
        let mut reason = None;
        for action in self.machine.on(event) {
            match action {
                Action::Send(message) => {
                    let record = encode(&message)
                        .map_err(|error| Error::io("could not encode", io::Error::other(error)))?;
                    // A predecessor that has gone in between shows as the end of the stream.
                    if let Err(error) = self.channel.send(&record, &[]) {
                        log::debug!(%error, "the predecessor does not listen");
                    }
                }
                Action::RunMain => run = true,
                Action::ResolveReady(Err(not_serving)) => reason = Some(not_serving.to_string()),
                Action::EndNow => {
                    let reason = reason.unwrap_or_else(|| "it was told to end".to_owned());
                    return Err(Error::not_serving(reason));
                }
                other => self.unperformed.push(other),
            }
        }
        Ok(run)
    }

    /// Decodes a record and takes what came with it.
    fn take(&mut self, record: Record, store: &Store) -> Result<ToSuccessor, Refused> {
        let message = decode::<ToSuccessor>(&record.bytes)?;
        match &message {
            ToSuccessor::Offer(offer) => {
                // What an incumbent announces beyond that, it may have made up.
                let sockets = offer.sockets.min(1 << 16) as usize;
                store.reserve(sockets);
                room::reserve(sockets);
                self.offer = Some(Offered::new(offer.clone(), record.descriptors)?);
            }
            ToSuccessor::Sockets(sockets) => adopt(sockets, record.descriptors, store)?,
            _ => {}
        }
        Ok(message)
    }
}

/// Why a record cannot be used.
pub(crate) enum Refused {
    Garbage(String),
    Failed(Failed),
}

impl From<Garbage> for Refused {
    fn from(garbage: Garbage) -> Self {
        Self::Garbage(garbage.to_string())
    }
}

/// Verifies the sockets of one record and puts them into the store.
pub(crate) fn adopt(
    sockets: &Sockets,
    descriptors: Vec<OwnedFd>,
    store: &Store,
) -> Result<(), Refused> {
    let announced: usize = sockets
        .entries
        .iter()
        .map(|entry| entry.descriptors())
        .sum();
    if announced != descriptors.len() {
        return Err(Refused::Garbage(format!(
            "{} descriptors came with a record that announces {announced}",
            descriptors.len()
        )));
    }
    let mut descriptors = descriptors.into_iter();
    for entry in &sockets.entries {
        let socket = descriptors.next();
        let lock = if entry.lock { descriptors.next() } else { None };
        let Some(socket) = socket else {
            return Err(Refused::Garbage(
                "a description has no descriptor".to_owned(),
            ));
        };
        let inherited = verify(entry.clone(), socket, lock)
            .map_err(|error| Refused::Failed(Failed::new(Stage::Adopt, None, &error)))?;
        store.insert_inherited(inherited);
    }
    Ok(())
}

impl Offered {
    fn new(offer: Offer, descriptors: Vec<OwnedFd>) -> Result<Self, Refused> {
        if offer.descriptors.len() != descriptors.len() {
            return Err(Refused::Garbage(format!(
                "{} descriptors came with an Offer that announces {}",
                descriptors.len(),
                offer.descriptors.len()
            )));
        }
        let (mut incumbent, mut stderr, mut stderr_pipes) = (None, None, Vec::new());
        let (mut channels, mut pidfds) = (Vec::new(), Vec::new());
        for (role, fd) in offer.descriptors.iter().zip(descriptors) {
            match role {
                Role::IncumbentPidfd => incumbent = Some(fd),
                Role::Stdin => {
                    if let Err(error) = stdio::restore_stdin(&fd) {
                        log::warn!(%error, "standard input cannot be restored");
                    }
                }
                Role::Stderr => stderr = Some(fd),
                Role::StderrPipe | Role::OlderStderrPipe => stderr_pipes.push(Arc::new(fd)),
                Role::OlderChannel => channels.push(fd),
                Role::OlderPidfd => pidfds.push(fd),
                Role::Unknown => {}
            }
        }
        // Its own is a pipe to the predecessor, in which it would have to read what it writes.
        let stderr = stderr.or_else(|| stdio::copy_stdout().ok());
        let older = offer
            .older
            .iter()
            .zip(channels)
            .zip(pidfds)
            .map(|((older, channel), pidfd)| Old {
                generation: older.generation,
                pid: older.pid as u32,
                deadline: Duration::from_millis(older.deadline_ms.unwrap_or(u64::MAX)),
                channel: Arc::new(channel),
                pidfd: Some(Arc::new(pidfd)),
                capabilities: older.capabilities.clone(),
            })
            .collect();
        Ok(Self {
            offer,
            incumbent,
            stderr,
            stderr_pipes,
            older,
        })
    }

    /// The mask that the service's threads have: `inherited`, without what a start blocks. Signals
    /// that have no name here, the real-time ones, are never blocked for a start.
    pub(crate) fn mask(&self, inherited: &SigSet) -> SigSet {
        let mut mask = *inherited;
        for signal in Signal::iterator() {
            match self.offer.mask.contains(&(signal as i32)) {
                true => mask.add(signal),
                false => mask.remove(signal),
            }
        }
        mask
    }
}
