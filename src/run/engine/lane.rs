//! The lane between two generations: established connections go to the successor, and come from the
//! predecessor.

use std::collections::HashMap;
use std::sync::Arc;

use super::Engine;
use super::incumbent::letter;
use crate::protocol::{Consent, MIGRATION, ToIncumbent, ToSuccessor};
use crate::run::batch::{Arrived, Batch, MOST};
use crate::run::handover::Handover;
use crate::run::input::Input;
use crate::run::peer::Lent;
use crate::sys::channel::Record;
use crate::sys::log;
use crate::sys::room::free_descriptors;

/// What has been sent to the successor and is not answered.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// The number of the next batch.
    next: u64,
    under_way: HashMap<u64, Arc<Batch>>,
}

impl Sending {
    /// How many connections the successor has yet to answer for.
    fn count(&self) -> usize {
        self.under_way.values().map(|batch| batch.len()).sum()
    }
}

impl Engine {
    /// Before the drain is told: nobody is to say goodbye to a client whose connection may move.
    pub(super) fn expect_lane(&self) {
        if self.incumbent.successor_can(MIGRATION) && !self.stops_both {
            self.shared.lane.expect();
        }
    }

    /// What is exclusive is free: from here on the successor says what it takes.
    pub(super) fn open_lane(&self) {
        if let Some(drain) = &self.drain {
            let length = drain.deadline.saturating_duration_since(drain.since);
            self.later((length / 4).min(OVERDUE), Input::LaneOverdue);
        }
    }

    /// The successor says what it takes.
    pub(super) fn credit(&mut self, connections: u64, consents: &[Consent]) {
        let consents = consents.iter().map(|consent| {
            let manners = consent.manners.iter().copied().collect();
            (consent.endpoint.clone(), manners)
        });
        let credit = connections.saturating_sub(self.sending.count() as u64);
        if let Err(error) = self.shared.lane.grant(credit, consents) {
            log::warn!(%error, "connections cannot move");
        }
    }

    /// Sends what waits on the lane, ahead of the answers by no more than an unprivileged user may
    /// have in flight by default.
    pub(super) fn send_connections(&mut self) {
        loop {
            let room = AHEAD.saturating_sub(self.sending.count());
            let Some((endpoint, departures)) = self.shared.lane.take(room.min(MOST)) else {
                return;
            };
            let Some(peer) = self.handover.as_ref().and_then(Handover::peer) else {
                departures
                    .into_iter()
                    .for_each(|departure| departure.keep());
                return;
            };
            let number = self.sending.next;
            self.sending.next += 1;
            let batch = match Batch::pack(departures) {
                Ok(batch) => Arc::new(batch),
                Err(error) => {
                    log::warn!(%error, "connections cannot move");
                    continue;
                }
            };
            let message = batch.describe(number, endpoint);
            match letter(&message, vec![Lent::Batch(Arc::clone(&batch))]) {
                Some(letter) => {
                    self.sending.under_way.insert(number, batch);
                    let queue = self.shared.queue.clone();
                    peer.send_registered(letter, move || {
                        queue.send(Input::Unsent { batch: number }).ok();
                    });
                }
                None => keep(batch),
            }
        }
    }

    /// The successor has answered.
    pub(super) fn moved(&mut self, number: u64, mut refused: Vec<u32>) {
        let Some(batch) = self.sending.under_way.remove(&number) else {
            return;
        };
        refused.sort_unstable();
        if let Some(peer) = self.handover.as_ref().and_then(Handover::peer) {
            // The letter may be in the hands of the sender still.
            peer.then(move || {
                if let Some(batch) = Arc::into_inner(batch) {
                    batch.answered(&refused);
                }
            });
        }
        self.send_connections();
    }

    /// A batch could not be sent.
    pub(super) fn unsent(&mut self, number: u64) {
        if let Some(batch) = self.sending.under_way.remove(&number) {
            keep(batch);
        }
        self.send_connections();
    }

    /// The successor has gone, after everything that it has said: what it has not answered is here.
    pub(super) fn close_lane(&mut self) {
        self.shared.lane.close();
        for (_, batch) in self.sending.under_way.drain() {
            match self.handover.as_ref().and_then(Handover::peer) {
                Some(peer) => peer.then(move || keep(batch)),
                None => keep(batch),
            }
        }
    }

    /// Tells the predecessor what this generation takes, once it has let go.
    pub(super) fn grant_credit(&self) {
        let offered = self.offered.as_ref().map(|offered| &offered.offer);
        if !self.released || !offered.is_some_and(|offer| offer.capabilities.has(MIGRATION)) {
            return;
        }
        let free = free_descriptors().unwrap_or_else(|error| {
            log::debug!(%error, "open descriptors cannot be counted");
            UNCOUNTED
        });
        // Accepting goes on, and so does whatever else needs descriptors.
        let connections = free.saturating_sub(RESERVE.max(free / 16));
        let consents = self.shared.lane.consents().into_iter();
        self.tell_predecessor(&ToIncumbent::Credit {
            connections,
            consents: consents
                .map(|(endpoint, manners)| Consent {
                    endpoint,
                    manners: manners.iter().collect(),
                })
                .collect(),
        });
    }

    /// Connections have come from the predecessor. It is told which of them are this generation's
    /// before anybody here sees one.
    pub(super) fn receive_connections(&self, message: &ToSuccessor, record: Record) {
        let ToSuccessor::Connections {
            batch, endpoint, ..
        } = message
        else {
            return;
        };
        let Some(peer) = &self.predecessor else {
            return;
        };
        let door = self.shared.lane.door(endpoint);
        let Arrived { taken, refused } = Arrived::new(message, record, door.as_ref());
        self.tell_predecessor(&ToIncumbent::Moved {
            batch: *batch,
            refused,
        });
        if let Some(door) = door {
            peer.then(move || door.admit(taken));
        }
    }
}

fn keep(batch: Arc<Batch>) {
    if let Some(batch) = Arc::into_inner(batch) {
        batch.keep();
    }
}

/// How many connections may be unanswered.
const AHEAD: usize = 4 * MOST;
/// How long the successor may take to say what it takes, at most.
const OVERDUE: std::time::Duration = std::time::Duration::from_secs(5);
/// The least number of descriptors that is left for other things.
const RESERVE: u64 = 32;
/// How many free descriptors are believed in where nobody can count them.
const UNCOUNTED: u64 = 512;
