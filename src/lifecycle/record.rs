//! The record of what has happened, and those who watch.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use super::counts::{Counts, Tally};
use super::event::{Event, What};
use super::ledger::{Account, Ledger, Totals};

/// The last events of this generation and of those before it, in order of their time.
#[derive(Debug)]
pub(crate) struct Record {
    generation: u32,
    kept: Mutex<VecDeque<Arc<Event>>>,
    watchers: broadcast::Sender<Arc<Event>>,
    ledger: Mutex<Ledger>,
}

impl Record {
    pub(crate) fn new(generation: u32) -> Self {
        Self {
            generation,
            kept: Mutex::default(),
            watchers: broadcast::Sender::new(AHEAD),
            ledger: Mutex::new(Ledger::new(generation)),
        }
    }

    /// Records something that happens now, and tells whoever watches.
    pub(crate) fn note(&self, what: What) {
        self.insert(Event::now(self.generation, what));
    }

    /// Records what another generation tells, or what was seen before there was a record.
    pub(crate) fn insert(&self, event: Event) {
        let event = Arc::new(event);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // What comes late from another process is nearly always among the last.
        let place = kept.iter().rposition(|before| before.at_us <= event.at_us);
        kept.insert(place.map_or(0, |place| place + 1), Arc::clone(&event));
        if kept.len() > MOST {
            kept.pop_front();
        }
        self.ledger().hear(&event);
        // Under the lock, so that a watcher gets each event exactly once. Nobody may be watching.
        self.watchers.send(event).ok();
    }

    /// All that the service has counted, for the successor. `tallies` are those of this generation.
    pub(crate) fn account(&self, tallies: (Vec<Tally>, Counts)) -> Account {
        let ledger = self.ledger();
        ledger.account(ledger.own(tallies))
    }

    /// What this generation has counted.
    pub(crate) fn own_totals(&self, tallies: (Vec<Tally>, Counts)) -> Totals {
        self.ledger().own(tallies)
    }

    /// All that the service has counted; nothing while the predecessor has yet to tell, which it
    /// does not where it has gone.
    #[allow(dead_code, reason = "only integrations ask, and each is a feature")]
    pub(crate) fn totals(
        &self,
        tallies: (Vec<Tally>, Counts),
        predecessor_has_gone: bool,
    ) -> Option<Totals> {
        let mut ledger = self.ledger();
        if predecessor_has_gone {
            ledger.complete();
        }
        ledger.totals(&ledger.own(tallies))
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has happened so far, and whatever comes after it. A watcher that is too slow is told
    /// how many events it has missed.
    #[allow(dead_code, reason = "only integrations watch, and each is a feature")]
    pub(crate) fn watch(&self) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().cloned().collect(), self.watchers.subscribe())
    }
}

/// How many events are kept: some twenty handovers.
const MOST: usize = 512;
/// How far a watcher may be behind.
const AHEAD: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at_us: u64) -> Event {
        Event {
            at_us,
            ..Event::now(1, What::Ready {})
        }
    }

    fn times(events: &[Arc<Event>]) -> Vec<u64> {
        events.iter().map(|event| event.at_us).collect()
    }

    #[test]
    fn what_comes_late_stands_where_it_belongs() {
        let record = Record::new(1);
        for time in [3, 1, 2, 2] {
            record.insert(at(time));
        }
        assert_eq!(times(&record.watch().0), [1, 2, 2, 3]);
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let record = Record::new(1);
        for time in 0..=MOST as u64 {
            record.insert(at(time));
        }
        let kept = times(&record.watch().0);
        assert_eq!((kept.len(), kept[0]), (MOST, 1));
    }

    #[test]
    fn a_watcher_gets_each_event_once() {
        let record = Record::new(1);
        record.insert(at(1));
        let (before, mut after) = record.watch();
        record.insert(at(2));
        assert_eq!(times(&before), [1]);
        assert_eq!(after.try_recv().expect("an event").at_us, 2);
        assert!(after.try_recv().is_err());
    }

    #[test]
    fn an_event_of_a_newer_generation_is_unknown_and_no_error() {
        let text = r#"{"at_us":1,"generation":2,"pid":3,"event":"teleported","where":"up"}"#;
        let event: Event = serde_json::from_str(text).expect("an event");
        assert_eq!(event.what, What::Unknown);
    }

    #[test]
    fn an_event_stands_in_one_object() {
        let text = serde_json::to_string(&Event { pid: 3, ..at(1) });
        assert_eq!(
            text.expect("an object"),
            r#"{"at_us":1,"generation":1,"pid":3,"event":"ready"}"#
        );
    }
}
