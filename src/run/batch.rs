//! Connections that are sent together.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::net::conn::Conn;
use crate::net::departure::Departure;
use crate::net::door::Door;
use crate::net::stream::Stream;
use crate::protocol::{Connection, ToSuccessor};
use crate::sys::channel::{MAX_DESCRIPTORS, Record};
use crate::sys::log;
use crate::sys::parcel::{pack, unpack};

/// How many connections fit into one record, beside the parcel.
pub(crate) const MOST: usize = MAX_DESCRIPTORS - 1;

/// Connections of one endpoint that are sent together, kept until the successor has answered.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The bytes of all of them.
    parcel: Option<OwnedFd>,
    departures: Vec<Departure>,
}

impl Batch {
    /// Packs what belongs to the connections.
    ///
    /// # Errors
    ///
    /// When this process lacks a descriptor or memory: the connections are kept then.
    pub(crate) fn pack(departures: Vec<Departure>) -> io::Result<Self> {
        let parts = || departures.iter().flat_map(|d| [d.unread(), d.state()]);
        let parcel = match parts().all(<[u8]>::is_empty) {
            true => Ok(None),
            false => pack(parts()).map(Some),
        };
        match parcel {
            Ok(parcel) => Ok(Self { parcel, departures }),
            Err(error) => {
                departures.into_iter().for_each(Departure::keep);
                Err(error)
            }
        }
    }

    /// The record that they are sent with.
    pub(crate) fn describe(&self, batch: u64, to: u32, endpoint: String) -> ToSuccessor {
        let connections: Vec<_> = self
            .departures
            .iter()
            .map(|departure| Connection {
                manner: departure.manner(),
                peer: departure.peer(),
                unread: departure.unread().len() as u64,
                state: departure.state().len() as u64,
            })
            .collect();
        ToSuccessor::Connections {
            batch,
            to: Some(to),
            endpoint,
            parcel: connections.iter().map(|c| c.unread + c.state).sum(),
            connections,
        }
    }

    /// What rides along, in the order of the record.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let parcel = self.parcel.iter().map(AsFd::as_fd);
        parcel.chain(self.departures.iter().map(AsFd::as_fd))
    }

    pub(crate) fn len(&self) -> usize {
        self.departures.len()
    }

    /// Takes the answer: those that the successor has not taken are kept, the others have moved, and
    /// what is left of them here is to be closed.
    pub(crate) fn answered(self, refused: &[u32]) -> Vec<Stream> {
        let mut moved = Vec::with_capacity(self.departures.len());
        for (place, departure) in (0_u32..).zip(self.departures) {
            // The answer is in order.
            let stays = refused.binary_search(&place).is_ok();
            // With the connection goes what has served it, which is the application's.
            let done = catch_unwind(AssertUnwindSafe(|| match stays {
                true => departure.keep(),
                false => moved.push(departure.moved()),
            }));
            if done.is_err() {
                log::error!("what has served a connection has panicked at its end");
            }
        }
        moved
    }

    /// Keeps all: nobody else has them.
    pub(crate) fn keep(self) {
        self.departures.into_iter().for_each(Departure::keep);
    }
}

/// What has come of a batch.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    pub(crate) taken: Vec<Conn>,
    /// The places of those that were not.
    pub(crate) refused: Vec<u32>,
}

impl Arrived {
    /// Takes what can be taken of a record; nothing is read from a connection or written to it.
    /// Has to be called on a runtime.
    pub(crate) fn new(message: &ToSuccessor, record: Record, door: Option<&Arc<Door>>) -> Self {
        let mut this = Self::default();
        let ToSuccessor::Connections {
            parcel,
            connections,
            ..
        } = message
        else {
            return this;
        };
        let mut descriptors = record.descriptors.into_iter();
        let bytes = match parcel {
            0 => Ok(Vec::new()),
            length => descriptors
                .next()
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
                .and_then(|fd| unpack(fd, *length)),
        };
        let bytes = bytes.unwrap_or_else(|error| {
            log::warn!(%error, "what connections had unread cannot be read");
            // They stay where it still is.
            descriptors.by_ref().for_each(drop);
            Vec::new()
        });
        let mut bytes = bytes.as_slice();
        for (place, connection) in (0_u32..).zip(connections) {
            let (unread, state) = (
                cut(&mut bytes, connection.unread),
                cut(&mut bytes, connection.state),
            );
            let taken = descriptors.next().and_then(|descriptor| {
                let (door, unread, state) = (door?, unread?, state?);
                if !door.promise(connection.manner) {
                    return None;
                }
                let received = Conn::receive(
                    descriptor,
                    connection.peer,
                    Arc::clone(door),
                    connection.manner,
                    unread.to_vec(),
                    state.to_vec(),
                );
                received
                    .inspect_err(|error| {
                        log::debug!(%error, "a connection cannot be taken");
                        door.disappoint();
                    })
                    .ok()
            });
            match taken {
                Some(conn) => this.taken.push(conn),
                None => this.refused.push(place),
            }
        }
        this
    }
}

fn cut<'a>(bytes: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (first, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(first)
}
