//! What a service has counted, over all of its generations.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use super::counts::{Counts, LASTING, Tally};
use super::event::{Event, What};

/// What was counted, by one generation or by several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Totals {
    /// By the key of the endpoint; bounded, see [`Tally::lasting`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) endpoints: BTreeMap<String, Counts>,
    /// Of the endpoints that are not told apart.
    pub(crate) others: Counts,
    pub(crate) handovers: Handovers,
}

/// Handovers by their result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Handovers {
    pub(crate) committed: u64,
    pub(crate) failed: u64,
    pub(crate) called_off: u64,
    pub(crate) refused: u64,
}

/// What a generation that drains tells its successor: all that was counted so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Account {
    /// Of generations that count no more.
    settled: Totals,
    /// Of generations that still count, the one that tells included, the oldest first.
    open: Vec<Open>,
}

/// What a generation has counted that still counts, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    generation: u32,
    totals: Totals,
}

/// What earlier generations have counted, and the handovers of this one.
///
/// A counter that began anew with each generation would lie: what is counted between the last look
/// at the old generation and its end would be missing, and a small number that follows a small number
/// is no change.
#[derive(Debug)]
pub(crate) struct Ledger {
    generation: u32,
    /// Whether the predecessor has told, or has nothing to tell.
    complete: bool,
    before: Account,
    handovers: Handovers,
}

impl Ledger {
    pub(super) fn new(generation: u32) -> Self {
        Self {
            generation,
            complete: generation == 1,
            before: Account::default(),
            handovers: Handovers::default(),
        }
    }

    /// Takes what has happened in this generation or in an earlier one.
    pub(super) fn hear(&mut self, event: &Event) {
        if event.pid == std::process::id() {
            self.handovers.count(&event.what);
            return;
        }
        let before = &mut self.before;
        match &event.what {
            What::Draining {
                account: Some(account),
                ..
            } if !self.complete && event.generation + 1 == self.generation => {
                self.complete = true;
                before.settled = account.settled.clone();
                before.open = account.open.clone();
                let excess = before.open.len().saturating_sub(MOST_OPEN);
                for forgotten in before.open.drain(..excess) {
                    before.settled += &forgotten.totals;
                }
            }
            // Only of those whose last word is not in the account: the record tells old news, too.
            What::Ended { totals, .. } => {
                let mut open = before.open.iter();
                if let Some(place) = open.position(|open| open.generation == event.generation) {
                    let known = before.open.remove(place).totals;
                    before.settled += totals.as_deref().unwrap_or(&known);
                }
            }
            what => {
                let mut open = before.open.iter_mut();
                if let Some(open) = open.find(|open| open.generation == event.generation) {
                    open.totals.handovers.count(what);
                }
            }
        }
    }

    /// The predecessor has gone: what it has not told, nobody will.
    pub(super) fn complete(&mut self) {
        self.complete = true;
    }

    /// What this generation has counted itself.
    pub(super) fn own(&self, (tallies, forgotten): (Vec<Tally>, Counts)) -> Totals {
        let mut totals = Totals {
            others: forgotten,
            handovers: self.handovers,
            ..Totals::default()
        };
        for Tally {
            endpoint,
            lasting,
            counts,
            ..
        } in tallies
        {
            match lasting {
                true => *totals.endpoints.entry(endpoint.to_string()).or_default() += counts,
                false => totals.others += counts,
            }
        }
        totals
    }

    /// All that was counted so far, for the successor. `own` is what this generation has counted.
    pub(super) fn account(&self, own: Totals) -> Account {
        let mut account = self.before.clone();
        account.open.push(Open {
            generation: self.generation,
            totals: own,
        });
        account
    }

    /// All that was counted so far; nothing while the predecessor has yet to tell.
    pub(super) fn totals(&self, own: &Totals) -> Option<Totals> {
        self.complete.then(|| {
            // The oldest first: an endpoint that is told apart stays so.
            let mut totals = self.before.settled.clone();
            let open = self.before.open.iter().map(|open| &open.totals);
            for open in open.chain([own]) {
                totals += open;
            }
            totals
        })
    }
}

impl AddAssign<&Self> for Totals {
    fn add_assign(&mut self, other: &Self) {
        for (endpoint, counts) in &other.endpoints {
            if self.endpoints.len() < LASTING || self.endpoints.contains_key(endpoint) {
                *self.endpoints.entry(endpoint.clone()).or_default() += *counts;
            } else {
                self.others += *counts;
            }
        }
        self.others += other.others;
        let Handovers {
            committed,
            failed,
            called_off,
            refused,
        } = other.handovers;
        self.handovers.committed += committed;
        self.handovers.failed += failed;
        self.handovers.called_off += called_off;
        self.handovers.refused += refused;
    }
}

impl Handovers {
    fn count(&mut self, what: &What) {
        match what {
            What::Committed { .. } => self.committed += 1,
            What::HandoverFailed { .. } => self.failed += 1,
            What::HandoverCalledOff { .. } => self.called_off += 1,
            What::HandoverRefused { .. } => self.refused += 1,
            _ => {}
        }
    }
}

/// How many earlier generations may still count; one that was killed never tells its end.
const MOST_OPEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(generation: u32, what: What) -> Event {
        Event {
            at_us: 1,
            generation,
            pid: 0,
            what,
        }
    }

    fn draining(account: Account) -> What {
        What::Draining {
            stop: false,
            connections: 0,
            tasks: Vec::new(),
            deadline_ms: 0,
            account: Some(Box::new(account)),
        }
    }

    fn ended(totals: Totals) -> What {
        What::Ended {
            accepted: 0,
            cut: false,
            totals: Some(Box::new(totals)),
        }
    }

    fn accepted(count: u64) -> Totals {
        let counts = Counts {
            accepted: count,
            ..Counts::default()
        };
        Totals {
            endpoints: BTreeMap::from([("http".to_owned(), counts)]),
            ..Totals::default()
        }
    }

    fn sum(ledger: &Ledger, own: u64) -> Option<u64> {
        let totals = ledger.totals(&accepted(own))?;
        Some(totals.endpoints["http"].accepted)
    }

    const COMMITTED: What = What::Committed {
        successor: 0,
        elapsed_ms: 0,
    };

    #[test]
    fn counts_go_on_over_generations_and_never_back() {
        let first = Ledger::new(1);
        assert_eq!(sum(&first, 5), Some(5));

        let mut second = Ledger::new(2);
        assert_eq!(sum(&second, 1), None, "the first has yet to tell");
        second.hear(&told(1, draining(first.account(accepted(5)))));
        assert_eq!(sum(&second, 1), Some(6));

        // The third comes while the first still drains.
        let mut third = Ledger::new(3);
        for event in [
            told(1, draining(first.account(accepted(5)))),
            told(2, draining(second.account(accepted(1)))),
        ] {
            third.hear(&event);
        }
        assert_eq!(sum(&third, 0), Some(6));
        third.hear(&told(1, ended(accepted(7))));
        third.hear(&told(1, ended(accepted(7))));
        assert_eq!(sum(&third, 0), Some(8));

        // For the fourth the end of the first is old news, and that of the second is not.
        let mut fourth = Ledger::new(4);
        for event in [
            told(1, ended(accepted(7))),
            told(3, draining(third.account(accepted(0)))),
            told(2, ended(accepted(2))),
        ] {
            fourth.hear(&event);
        }
        assert_eq!(sum(&fourth, 0), Some(9));
    }

    #[test]
    fn a_predecessor_that_told_nothing_is_waited_for_until_it_has_gone() {
        let mut ledger = Ledger::new(2);
        assert_eq!(sum(&ledger, 1), None);
        ledger.complete();
        assert_eq!(sum(&ledger, 1), Some(1));
    }

    #[test]
    fn a_handover_counts_before_its_incumbent_has_ended_and_once() {
        let committed = |ledger: &Ledger| {
            let totals = ledger.totals(&Totals::default());
            totals.expect("it is complete").handovers.committed
        };
        let mut ledger = Ledger::new(2);
        ledger.hear(&told(1, COMMITTED));
        let before = Ledger::new(1).account(Totals::default());
        ledger.hear(&told(1, draining(before)));
        assert_eq!(committed(&ledger), 0, "it was old news");
        ledger.hear(&told(1, COMMITTED));
        assert_eq!(committed(&ledger), 1);
        let mut last = Totals::default();
        last.handovers.committed = 1;
        ledger.hear(&told(1, ended(last)));
        assert_eq!(committed(&ledger), 1);
        ledger.hear(&Event::now(2, COMMITTED));
        let own = ledger.own((Vec::new(), Counts::default()));
        assert_eq!(own.handovers.committed, 1);
    }

    #[test]
    fn an_account_goes_through_json() {
        let account = Ledger::new(1).account(accepted(5));
        for what in [draining(account), ended(accepted(5))] {
            let event = told(1, what);
            let value = serde_json::to_value(&event).expect("it is an object");
            let read: Event = serde_json::from_value(value).expect("an event");
            assert_eq!(read, event);
        }
    }
}
