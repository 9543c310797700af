//! What is counted of the connections of each endpoint.

use std::iter::Sum;
use std::ops::AddAssign;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::socket::KeyMap;

/// Counts of connections.
///
/// Each was accepted here or has come from the predecessor. It is open, or has gone in one of four
/// ways: to the successor, by itself in the drain, cut at the end of the drain; what is left over
/// ended while this generation served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    #[serde(skip)]
    pub(crate) open: u64,
    /// Accepted from the kernel's queue.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) accepted: u64,
    /// Come from the predecessor.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) received: u64,
    /// Gone to the successor.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) sent: u64,
    /// Ended by themselves while this generation drained.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) drained: u64,
    /// Cut when the deadline came, or with a second stop.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) aborted: u64,
    /// Failures of `accept(2)` that concern one connection, which had gone.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) vanished: u64,
    /// Failures of `accept(2)` for a lack of descriptors or memory.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) lacking: u64,
    /// Failures of `accept(2)` that concern the listener.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) broken: u64,
}

/// The counts of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The key of the endpoint.
    pub(crate) endpoint: Arc<str>,
    /// Whether it is among the first [`LASTING`], whose counts are kept for good and go on when
    /// they are bound again. Only these may be told apart by whoever keeps what it is told.
    pub(crate) lasting: bool,
    /// Whether somebody listens on it.
    pub(crate) listening: bool,
    pub(crate) counts: Counts,
}

/// The place of an endpoint in the [`Tallies`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(usize);

/// The counts of all endpoints, bounded however many a service opens in its life.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    places: Vec<Tally>,
    by_key: KeyMap<Arc<str>, usize>,
    free: Vec<usize>,
    lasting: usize,
    /// What endpoints counted that are forgotten.
    forgotten: Counts,
}

impl Tallies {
    /// The place of an endpoint on which somebody listens from here on.
    pub(super) fn open(&mut self, key: &Arc<str>) -> Place {
        if let Some(&place) = self.by_key.get(key) {
            self.places[place].listening = true;
            return Place(place);
        }
        let lasting = self.lasting < LASTING;
        self.lasting += usize::from(lasting);
        let tally = Tally {
            endpoint: Arc::clone(key),
            lasting,
            listening: true,
            counts: Counts::default(),
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place] = tally;
                place
            }
            None => {
                self.places.push(tally);
                self.places.len() - 1
            }
        };
        self.by_key.insert(Arc::clone(key), place);
        Place(place)
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.places.reserve(more);
        self.by_key.reserve(more);
    }

    /// Nobody listens on the endpoint any more.
    pub(super) fn close(&mut self, key: &str) {
        if let Some(&place) = self.by_key.get(key) {
            self.places[place].listening = false;
            self.forget(Place(place));
        }
    }

    pub(super) fn at(&mut self, place: Place) -> &mut Counts {
        &mut self.places[place.0].counts
    }

    /// A connection has gone.
    pub(super) fn gone(&mut self, place: Place) {
        self.at(place).open -= 1;
        self.forget(place);
    }

    /// What is counted of each endpoint that is not forgotten, and of the others together.
    pub(super) fn all(&self) -> (Vec<Tally>, Counts) {
        let places = self.by_key.values();
        let known = places.map(|&place| self.places[place].clone()).collect();
        (known, self.forgotten)
    }

    pub(super) fn sum(&self) -> Counts {
        let places = self.by_key.values();
        let known: Counts = places.map(|&place| self.places[place].counts).sum();
        [known, self.forgotten].into_iter().sum()
    }

    /// Forgets an endpoint that has ended, with the last of its connections.
    fn forget(&mut self, Place(place): Place) {
        let tally = &mut self.places[place];
        if tally.lasting || tally.listening || tally.counts.open > 0 {
            return;
        }
        self.forgotten += std::mem::take(&mut tally.counts);
        self.by_key.remove(&tally.endpoint);
        self.free.push(place);
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let Self {
            open,
            accepted,
            received,
            sent,
            drained,
            aborted,
            vanished,
            lacking,
            broken,
        } = other;
        self.open += open;
        self.accepted += accepted;
        self.received += received;
        self.sent += sent;
        self.drained += drained;
        self.aborted += aborted;
        self.vanished += vanished;
        self.lacking += lacking;
        self.broken += broken;
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How many endpoints are told apart for good.
pub(crate) const LASTING: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_is_bound_again_goes_on_counting() {
        let mut tallies = Tallies::default();
        let a = "a".into();
        let place = tallies.open(&a);
        tallies.at(place).accepted += 1;
        tallies.close("a");
        assert_eq!(tallies.open(&a), place);
        assert_eq!(tallies.at(place).accepted, 1);
    }

    #[test]
    fn endpoints_without_end_take_no_memory_without_end_and_nothing_is_lost() {
        let mut tallies = Tallies::default();
        for number in 0..10 * LASTING {
            let key = number.to_string().into();
            let place = tallies.open(&key);
            tallies.at(place).accepted += 1;
            tallies.at(place).open += 1;
            tallies.close(&key);
            let (known, _) = tallies.all();
            assert!(known.iter().any(|tally| tally.endpoint == key));
            tallies.gone(place);
        }
        assert!(tallies.places.len() <= LASTING + 1);
        let (known, forgotten) = tallies.all();
        assert_eq!(known.len(), LASTING);
        assert!(known.iter().all(|tally| tally.counts.accepted == 1));
        assert_eq!(forgotten.accepted, 9 * LASTING as u64);
        assert_eq!(tallies.sum().accepted, 10 * LASTING as u64);
    }
}
