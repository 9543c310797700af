//! The record of what has happened, and those who watch.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use super::counts::{Counts, Tally};
use super::event::{Event, What};
use super::ledger::{Account, Ledger, Totals};

/// The last events of this generation and of those before it, in order of their time.
pub(crate) struct Record {
    generation: u32,
    kept: Mutex<Kept>,
    watchers: broadcast::Sender<Arc<Event>>,
    ledger: Mutex<Ledger>,
}

/// Tells another generation of events.
pub(crate) type Forward = Box<dyn Fn(&[Arc<Event>]) + Send>;

#[derive(Default)]
struct Kept {
    events: VecDeque<Arc<Event>>,
    forward: Option<Forward>,
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
        let event = Arc::new(Event::now(self.generation, what));
        let mut kept = self.lock();
        if let Some(forward) = &kept.forward {
            forward(std::slice::from_ref(&event));
        }
        self.keep(&mut kept, event);
    }

    /// Records what another generation tells, or what was seen before there was a record.
    pub(crate) fn insert(&self, event: Event) {
        let mut kept = self.lock();
        let later = kept.events.iter().rev();
        let mut later = later.take_while(|known| known.at_us >= event.at_us);
        if !later.any(|known| **known == event) {
            self.keep(&mut kept, Arc::new(event));
        }
    }

    /// Has another generation told of what is recorded of this process and what will be; without
    /// `forward`, of nothing any more.
    pub(crate) fn forward(&self, forward: Option<Forward>) {
        let mut kept = self.lock();
        if let Some(forward) = &forward {
            let own = |event: &&Arc<Event>| event.pid == std::process::id();
            let known: Vec<_> = kept.events.iter().filter(own).cloned().collect();
            forward(&known);
        }
        kept.forward = forward;
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
        let kept = self.lock();
        (
            kept.events.iter().cloned().collect(),
            self.watchers.subscribe(),
        )
    }

    /// What has happened so far.
    #[allow(dead_code, reason = "only integrations look, and each is a feature")]
    pub(crate) fn events(&self) -> Vec<Arc<Event>> {
        self.lock().events.iter().cloned().collect()
    }

    fn keep(&self, kept: &mut Kept, event: Arc<Event>) {
        kept.make_room(&event);
        // What comes late from another process is nearly always among the last.
        let events = &mut kept.events;
        let place = events
            .iter()
            .rposition(|before| before.at_us <= event.at_us);
        events.insert(place.map_or(0, |place| place + 1), Arc::clone(&event));
        self.ledger().hear(&event);
        // Under the lock, so that a watcher gets each event exactly once. Nobody may be watching.
        self.watchers.send(event).ok();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Forgets the oldest event where there is no room for another. A drain that lasts for hours
    /// does not make everything else forgotten: of its progress only so much is kept.
    fn make_room(&mut self, event: &Event) {
        if event.is_progress() {
            let of_the_drain = |other: &Arc<Event>| other.is_progress() && other.pid == event.pid;
            let known = self
                .events
                .iter()
                .filter(|other| of_the_drain(other))
                .count();
            if known >= MOST_PROGRESS {
                let last = self.events.iter().rposition(of_the_drain);
                last.and_then(|last| self.events.remove(last));
            }
        }
        if self.events.len() >= MOST {
            self.events.pop_front();
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("generation", &self.generation)
            .field("events", &self.lock().events.len())
            .finish_non_exhaustive()
    }
}

/// How many events of the progress of one drain are kept, the last one included.
const MOST_PROGRESS: usize = 64;
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
        assert_eq!(times(&record.events()), [1, 2, 3], "the same twice is once");
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
    fn a_long_drain_does_not_make_everything_else_forgotten() {
        let record = Record::new(1);
        record.insert(at(1));
        for second in 2..=2 * MOST as u64 {
            let what = What::DrainProgress {
                connections: 1,
                oldest_ms: None,
                tasks: Vec::new(),
                older: 0,
                left_ms: 0,
            };
            record.insert(Event { what, ..at(second) });
        }
        let kept = times(&record.events());
        assert_eq!((kept[0], kept.len()), (1, MOST_PROGRESS + 1));
        assert_eq!(kept[MOST_PROGRESS], 2 * MOST as u64);
    }

    #[test]
    fn what_is_forwarded_is_told_once_and_only_what_happened_here() {
        let record = Record::new(1);
        record.note(What::Ready {});
        record.insert(Event { pid: 1, ..at(7) });
        let told = Arc::new(Mutex::new(Vec::new()));
        let here = Arc::clone(&told);
        let forward = move |events: &[Arc<Event>]| {
            let own = events.iter().all(|event| event.pid == std::process::id());
            here.lock().expect("no panic").push((events.len(), own));
        };
        record.forward(Some(Box::new(forward)));
        record.note(What::Active {});
        record.forward(None);
        record.note(What::Released {});
        assert_eq!(*told.lock().expect("no panic"), [(1, true), (1, true)]);
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
