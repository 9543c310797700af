//! The lane between two generations: established connections go to the successor, and come from the
//! predecessor.
//!
//! Where handovers follow each other faster than connections move, a lane leads on. A generation that is
//! itself replaced says so (`Superseded`), answers what it has read, and leaves the rest to its
//! successor (`Lanes`), which has the channels of all older generations from the Offer and grants
//! credit to each. A record says for whom it is, and whoever else reads it refuses what is in it: so
//! nothing is taken twice, and nothing by nobody.
//!
//! A generation that dies leaves what it has read as well, which may be the lane of the one before it
//! only. That one is told of its new reader by the credit, and repeats what the dead one may have been
//! the only one to hear: that it has let go (`Released`), and of the lanes before it (`Lanes`).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Engine;
use super::incumbent::letter;
use crate::lifecycle::own;
use crate::net::manners::Manners;
use crate::net::stream::Stream;
use crate::protocol::{Consent, LANES, MIGRATION, ToIncumbent, ToSuccessor, decode};
use crate::run::batch::{Arrived, Batch, MOST};
use crate::run::handover::Handover;
use crate::run::input::Input;
use crate::run::old::Old;
use crate::run::peer::{Lent, Peer};
use crate::sys::channel::Record;
use crate::sys::log;
use crate::sys::room::free_descriptors;

/// What has been sent to the successor and is not answered.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// The number of the next batch.
    next: u64,
    /// The generation that may take connections, once it says what; nobody's word counts that is
    /// older.
    to: u32,
    /// The youngest generation that has taken the place of the successor as the one that reads here.
    reader: u32,
    under_way: HashMap<u64, UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    to: u32,
    batch: Arc<Batch>,
}

/// The lanes from older generations.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// Whether nobody else reads those of the generations before the predecessor.
    ours: bool,
    /// Whether this generation has let go, so that its successor may take what it has.
    released: bool,
    /// Whether they are the successor's.
    given_up: bool,
    /// The channels that this generation reads beside its predecessor's, by generation; each until
    /// its end, since what a generation has sent last may have to be taken when it has gone.
    peers: HashMap<u32, Peer>,
}

impl Sending {
    /// How many connections are yet to be answered for.
    fn count(&self) -> usize {
        self.under_way.values().map(|sent| sent.batch.len()).sum()
    }

    /// Takes back what was sent to generations before this one, and is not answered.
    fn take_before(&mut self, generation: u32) -> Vec<Arc<Batch>> {
        let (taken, left) = std::mem::take(&mut self.under_way)
            .into_iter()
            .partition(|(_, sent)| sent.to < generation);
        self.under_way = left;
        HashMap::into_values(taken).map(|sent| sent.batch).collect()
    }
}

impl Engine {
    /// Before the drain is told: nobody is to say goodbye to a client whose connection may move.
    pub(super) fn expect_lane(&self) {
        if self.incumbent.successor_can(MIGRATION) && !self.stops_both {
            self.shared.lane.expect();
        }
    }

    /// What is exclusive is free: from here on connections move.
    pub(super) fn open_lane(&mut self) {
        self.lanes.released = true;
        self.shared.lane.open();
        self.limit_hope();
        self.pass_on_lanes();
    }

    /// Somebody has yet to say what is taken, and may never do so.
    fn limit_hope(&self) {
        if let Some(drain) = &self.drain {
            let length = drain.deadline.saturating_duration_since(drain.since);
            let epoch = self.shared.lane.epoch();
            self.later((length / 4).min(OVERDUE), Input::LaneOverdue { epoch });
        }
    }

    /// The generation that may take connections says what it takes.
    pub(super) fn credit(
        &mut self,
        connections: u64,
        generation: Option<u32>,
        consents: &[Consent],
    ) {
        let from = generation.unwrap_or(self.shared.generation + 1);
        if from > self.sending.reader.max(self.shared.generation + 1) {
            self.sending.reader = from;
            self.repeat_what_was_told();
        }
        if from < self.sending.to {
            return;
        }
        if from > self.sending.to.max(self.shared.generation + 1) {
            // Whoever was to take them before has answered all that it has taken.
            self.shared.lane.suspend();
            self.keep_all(from);
        }
        self.sending.to = from;
        let consents = consents.iter().map(|consent| {
            let manners = consent.manners.iter().copied().collect();
            (consent.endpoint.clone(), manners)
        });
        let credit = connections.saturating_sub(self.sending.count() as u64);
        if let Err(error) = self.shared.lane.grant(credit, consents) {
            log::warn!(%error, "connections cannot move");
        }
        if self.lanes.released {
            self.shared.lane.open();
        }
    }

    /// Whoever reads from here on was not there when it was said.
    fn repeat_what_was_told(&self) {
        if self.lanes.released {
            self.tell_successor(&ToSuccessor::Released {});
        }
        if self.lanes.given_up {
            self.tell_successor(&ToSuccessor::Lanes {});
        }
    }

    /// The generation that takes connections is being replaced: its successor will say what it takes.
    pub(super) fn superseded(&mut self, generation: u32) {
        if generation >= self.sending.to {
            self.sending.to = generation.saturating_add(1);
            self.shared.lane.suspend();
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
            let to = self.sending.to;
            let message = batch.describe(number, to, endpoint);
            match letter(&message, vec![Lent::Batch(Arc::clone(&batch))]) {
                Some(letter) => {
                    self.sending
                        .under_way
                        .insert(number, UnderWay { to, batch });
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
        let Some(UnderWay { batch, .. }) = self.sending.under_way.remove(&number) else {
            return;
        };
        refused.sort_unstable();
        // First of all the successor gets something to do.
        self.send_connections();
        if let Some(peer) = self.handover.as_ref().and_then(Handover::peer) {
            // The letter may be in the hands of the sender still.
            peer.then(move || {
                if let Some(batch) = Arc::into_inner(batch) {
                    close(batch.answered(&refused));
                }
            });
        }
    }

    /// A batch could not be sent.
    pub(super) fn unsent(&mut self, number: u64) {
        if let Some(UnderWay { batch, .. }) = self.sending.under_way.remove(&number) {
            keep(batch);
        }
        self.send_connections();
    }

    /// The successor has died, after everything that it has said: what it has not answered is here.
    /// One of its own may take its place.
    pub(super) fn lane_lost(&mut self) {
        let after = self.shared.generation.saturating_add(2);
        self.keep_all(after);
        if self.sending.to >= after {
            return;
        }
        if self.incumbent.successor_can(LANES) {
            self.shared.lane.suspend();
            self.limit_hope();
        } else {
            self.shared.lane.close();
        }
    }

    /// No generation is left that could take connections.
    pub(super) fn close_lane(&mut self) {
        self.shared.lane.close();
        self.keep_all(u32::MAX);
    }

    /// Keeps what was sent to generations before this one, and is not answered.
    fn keep_all(&mut self, before: u32) {
        for batch in self.sending.take_before(before) {
            match self.handover.as_ref().and_then(Handover::peer) {
                Some(peer) => peer.then(move || keep(batch)),
                None => keep(batch),
            }
        }
    }

    /// Before the listeners end: whoever sends connections to this generation is to wait for its
    /// successor.
    pub(super) fn announce_successor(&self) {
        if self.incumbent.successor_can(LANES) && !self.stops_both {
            let generation = self.shared.generation;
            self.tell_lanes(&ToIncumbent::Superseded { generation });
        }
    }

    /// The predecessor, or the one that this generation hears in its place, reads nothing more.
    pub(super) fn inherit_lanes(&mut self) {
        self.lanes.ours = true;
        self.take_over_lanes();
    }

    /// Hears those whom nobody else hears, now that the predecessor has said so or has gone: all, or
    /// the youngest, who may still hear those before it.
    pub(super) fn take_over_lanes(&mut self) {
        if self.lanes.given_up {
            return;
        }
        if self.lanes.ours && self.incumbent.successor_can(LANES) && self.drain.is_some() {
            return self.pass_on_lanes();
        }
        let predecessor = self.shared.predecessor.as_ref();
        let read = predecessor
            .filter(|predecessor| !predecessor.exited.is_cancelled())
            .map(|predecessor| predecessor.generation);
        let unread = self.older.iter().rev();
        let unread = unread.filter(|old| Some(old.generation) != read);
        let count = if self.lanes.ours { usize::MAX } else { 1 };
        for old in unread.take(count) {
            if let Entry::Vacant(place) = self.lanes.peers.entry(old.generation) {
                match old.take_over(self.shared.queue.clone()) {
                    Ok(peer) => drop(place.insert(peer)),
                    Err(error) => {
                        let generation = old.generation;
                        log::warn!(generation, %error, "connections of an old generation cannot move");
                    }
                }
            }
        }
        self.grant_credit();
        self.pass_on_lanes();
    }

    /// An old generation has ended. If it was the one to be heard in the predecessor's place, the next
    /// older one is.
    pub(super) fn lane_ended(&mut self) {
        if self.shared.is_orphan() {
            self.take_over_lanes();
        }
    }

    /// Everything was heard that an old generation has said.
    pub(super) fn forget_lane(&mut self, generation: u32) {
        self.lanes.peers.remove(&generation);
    }

    /// Leaves the lanes to the successor, once nobody before this generation reads them and this one
    /// has let go. What was read is answered first.
    fn pass_on_lanes(&mut self) {
        let predecessor = self.shared.predecessor.as_ref();
        let predecessor = predecessor.map(|predecessor| predecessor.generation);
        let heard = |old: &Old| {
            Some(old.generation) == predecessor || self.lanes.peers.contains_key(&old.generation)
        };
        let ours = self.lanes.ours || self.older.iter().all(heard);
        // The end of one without a pidfd can only be read.
        let seen = |old: &Old| old.pidfd.is_some();
        if self.lanes.given_up
            || !(self.lanes.released && ours && self.older.iter().all(seen))
            || self.older.is_empty()
            || !self.incumbent.successor_can(LANES)
        {
            return;
        }
        self.lanes.given_up = true;
        self.lane_peers().for_each(Peer::give_up);
        // Behind all that they have read.
        self.shared.send(Input::LanesGivenUp);
    }

    /// Those who send connections to this generation.
    fn lane_peers(&self) -> impl Iterator<Item = &Peer> {
        let offered = self.offered.as_ref().map(|offered| &offered.offer);
        let migrates = offered.is_some_and(|offer| offer.capabilities.has(MIGRATION));
        let predecessor = self.predecessor.iter().filter(move |_| migrates);
        let older = self.older.iter();
        predecessor.chain(older.filter_map(|old| self.lanes.peers.get(&old.generation)))
    }

    fn tell_lanes(&self, message: &ToIncumbent) {
        self.lane_peers()
            .for_each(|peer| self.tell_older(peer, message));
    }

    /// An older generation, whose lane this one has taken over, has said something.
    pub(super) fn heard_from_older(&mut self, generation: u32, record: Record) {
        if ToSuccessor::are_events(&record.bytes) {
            return self.hear_later(record.bytes);
        }
        match decode::<ToSuccessor>(&record.bytes) {
            Ok(ToSuccessor::Events { .. }) => self.hear_later(record.bytes),
            Ok(ToSuccessor::Client { state }) => {
                self.take_client(record.descriptors.into_iter().next(), state);
            }
            Ok(ToSuccessor::Released {}) => self.released_by_older(generation),
            Ok(ToSuccessor::Lanes {}) => self.inherit_lanes(),
            Ok(message) => {
                if let Some(lane) = self.lanes.peers.get(&generation) {
                    self.receive_connections(lane, &message, record);
                }
            }
            Err(garbage) => {
                log::debug!(generation, %garbage, "an old generation is not understood")
            }
        }
    }

    /// Some endpoints take other connections than before.
    pub(super) fn heed_consents(&mut self) {
        let changed = self.shared.lane.hear_consents();
        match self.granted {
            None => self.grant_credit(),
            Some(_) if self.may_grant() => self.grant(changed),
            Some(_) => {}
        }
    }

    /// Tells those who send connections what this generation takes, as soon as its predecessor will
    /// let go: behind the word to do so, on which that one begins to listen for this.
    pub(super) fn grant_credit(&mut self) {
        if self.may_grant() {
            self.grant(self.shared.lane.consents());
        }
    }

    fn may_grant(&self) -> bool {
        let stays = self.owner || self.successor.stays();
        stays && self.drain.is_none() && self.lane_peers().next().is_some()
    }

    fn grant(&mut self, consents: Vec<(String, Manners)>) {
        self.granted = Some(Instant::now());
        let free = free_descriptors().unwrap_or_else(|error| {
            log::debug!(%error, "open descriptors cannot be counted");
            UNCOUNTED
        });
        // Accepting goes on, and so does whatever else needs descriptors.
        let connections = free.saturating_sub(RESERVE.max(free / 16));
        let consents = consents.into_iter().map(|(endpoint, manners)| Consent {
            endpoint,
            manners: manners.iter().collect(),
        });
        for part in ToIncumbent::credit(connections, self.shared.generation, consents) {
            self.tell_lanes(&part);
        }
    }

    /// The predecessor has let go, perhaps long after it was told: meanwhile others may have used
    /// up descriptors.
    pub(super) fn refresh_credit(&mut self) {
        if self.granted.is_none_or(|granted| granted.elapsed() > FRESH) {
            self.grant_credit();
        }
    }

    /// Connections have come from an older generation. It is told which of them are this one's
    /// before anybody here sees one.
    pub(super) fn receive_connections(&self, peer: &Peer, message: &ToSuccessor, record: Record) {
        let ToSuccessor::Connections {
            batch,
            to,
            endpoint,
            ..
        } = message
        else {
            return;
        };
        let ours = match to {
            Some(generation) => *generation == self.shared.generation,
            // One that does not say so means its direct successor.
            None => self.is_predecessor(peer),
        };
        let door = self.shared.lane.door(endpoint).filter(|_| ours);
        let Arrived { taken, refused } = Arrived::new(message, record, door.as_ref());
        self.tell_older(
            peer,
            &ToIncumbent::Moved {
                batch: *batch,
                refused,
            },
        );
        if let Some(door) = door {
            peer.then(move || door.admit(taken));
        }
    }
}

/// Closes what has moved, after a moment: the others go first, and if this process ends meanwhile, the
/// kernel closes all of it at once, which takes less. A connection that its new owner closes without
/// shutting it down ends only when it is closed here too.
fn close(moved: Vec<Stream>) {
    own::spawn(async move {
        tokio::time::sleep(KEPT_OPEN).await;
        drop(moved);
    });
}

fn keep(batch: Arc<Batch>) {
    if let Some(batch) = Arc::into_inner(batch) {
        batch.keep();
    }
}

/// How many connections may be unanswered.
const AHEAD: usize = 4 * MOST;
/// How long what has moved is open here as well, if this process does not end before.
const KEPT_OPEN: Duration = Duration::from_millis(25);
/// How long a count of descriptors is believed in.
const FRESH: Duration = Duration::from_millis(100);
/// How long the successor may take to say what it takes, at most.
const OVERDUE: Duration = Duration::from_secs(5);
/// The least number of descriptors that is left for other things.
const RESERVE: u64 = 32;
/// How many free descriptors are believed in where nobody can count them.
const UNCOUNTED: u64 = 512;
