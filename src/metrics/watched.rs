//! What the record tells of handovers and of the generations that drain; pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lifecycle::event::{Event, What};

/// How things stand, as far as the record tells.
#[derive(Debug, Default)]
pub(super) struct Watched {
    generation: u32,
    /// How long the last handover with each result took.
    pub(super) handovers: BTreeMap<&'static str, Duration>,
    /// Where the time went of the handover that this generation came by.
    pub(super) stages: BTreeMap<&'static str, Duration>,
    /// How long the generation that ended last has drained.
    pub(super) drain: Option<Duration>,
    /// The generations before this one that drain.
    draining: BTreeMap<u32, Draining>,
    marks: Marks,
}

#[derive(Debug)]
struct Draining {
    since_us: u64,
    connections: usize,
}

/// The moments of the handover that this generation came by.
#[derive(Debug, Default)]
struct Marks {
    begins: Option<u64>,
    executed: Option<u64>,
    initialising: Option<u64>,
    ready: Option<u64>,
    serving: Option<u64>,
}

impl Watched {
    pub(super) fn new(generation: u32) -> Self {
        Self {
            generation,
            ..Self::default()
        }
    }

    pub(super) fn hear(&mut self, event: &Event) {
        let own = event.generation == self.generation && event.is_own();
        match &event.what {
            What::HandoverBegins {} if event.generation + 1 == self.generation => {
                self.marks.begins = Some(event.at_us);
            }
            What::Executed {} if own => self.marks.executed = Some(event.at_us),
            What::Initialising { .. } if own => self.marks.initialising = Some(event.at_us),
            What::Ready {} if own => self.marks.ready = Some(event.at_us),
            What::Serving { .. } if own => self.marks.serving = Some(event.at_us),
            What::Committed { elapsed_ms, .. } => self.ended("committed", *elapsed_ms),
            What::HandoverFailed { elapsed_ms, .. } => self.ended("failed", *elapsed_ms),
            What::HandoverCalledOff { elapsed_ms, .. } => self.ended("called_off", *elapsed_ms),
            What::Draining { connections, .. } if event.generation < self.generation => {
                let draining = Draining {
                    since_us: event.at_us,
                    connections: *connections,
                };
                self.draining.insert(event.generation, draining);
            }
            What::DrainProgress { connections, .. } => {
                if let Some(draining) = self.draining.get_mut(&event.generation) {
                    draining.connections = *connections;
                }
            }
            What::Ended { .. } => self.gone(event.generation, event.at_us),
            What::OlderEnded { older, .. } => self.gone(*older, event.at_us),
            _ => {}
        }
        self.stages = self.marks.stages();
    }

    pub(super) fn draining_generations(&self) -> usize {
        self.draining.len()
    }

    pub(super) fn draining_connections(&self) -> usize {
        self.draining.values().map(|old| old.connections).sum()
    }

    fn ended(&mut self, result: &'static str, elapsed_ms: u64) {
        self.handovers
            .insert(result, Duration::from_millis(elapsed_ms));
    }

    fn gone(&mut self, generation: u32, at_us: u64) {
        if let Some(draining) = self.draining.remove(&generation) {
            self.drain = Some(Duration::from_micros(
                at_us.saturating_sub(draining.since_us),
            ));
        }
    }
}

impl Marks {
    /// Each stage whose beginning and end are known; the beginning is the predecessor's to tell.
    fn stages(&self) -> BTreeMap<&'static str, Duration> {
        [
            ("start", self.begins, self.executed),
            ("adopt", self.executed, self.initialising),
            ("init", self.initialising, self.ready),
            ("commit", self.ready, self.serving),
        ]
        .into_iter()
        .filter_map(|(stage, from, to)| {
            // Without a predecessor there was no handover.
            self.begins?;
            let took = to?.saturating_sub(from?);
            Some((stage, Duration::from_micros(took)))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at_us: u64, generation: u32, what: What) -> Event {
        Event {
            at_us,
            generation,
            pid: std::process::id(),
            what,
        }
    }

    fn draining(connections: usize) -> What {
        What::Draining {
            stop: false,
            connections,
            tasks: Vec::new(),
            deadline_ms: 0,
            account: None,
        }
    }

    #[test]
    fn the_stages_of_a_handover_add_up() {
        let mut watched = Watched::new(2);
        for event in [
            at(20, 2, What::Executed {}),
            at(25, 2, What::Initialising { predecessor: None }),
            at(75, 2, What::Ready {}),
            at(80, 2, What::Serving { endpoints: 1 }),
        ] {
            watched.hear(&event);
        }
        assert!(watched.stages.is_empty(), "nobody has told when it began");
        // What an older generation tells of its own handover comes first.
        watched.hear(&at(1, 1, What::HandoverBegins {}));
        watched.hear(&at(10, 1, What::HandoverBegins {}));
        let stages: Vec<_> = watched
            .stages
            .iter()
            .map(|(&stage, took)| (stage, took.as_micros()))
            .collect();
        assert_eq!(
            stages,
            [("adopt", 5), ("commit", 5), ("init", 50), ("start", 10)]
        );
    }

    #[test]
    fn old_generations_drain_until_they_have_ended() {
        let mut watched = Watched::new(3);
        watched.hear(&at(1, 1, draining(4)));
        watched.hear(&at(2, 2, draining(5)));
        let counts = |watched: &Watched| {
            (
                watched.draining_generations(),
                watched.draining_connections(),
            )
        };
        assert_eq!(counts(&watched), (2, 9));
        let progress = What::DrainProgress {
            connections: 1,
            oldest_ms: None,
            tasks: Vec::new(),
            older: 0,
            left_ms: 0,
        };
        watched.hear(&at(3, 2, progress));
        let ended = What::Ended {
            accepted: 0,
            cut: false,
            totals: None,
        };
        watched.hear(&at(11, 1, ended));
        assert_eq!(counts(&watched), (1, 1));
        assert_eq!(watched.drain, Some(Duration::from_micros(10)));
        let killed = What::OlderEnded {
            older: 2,
            older_pid: 0,
        };
        watched.hear(&at(22, 3, killed));
        assert_eq!(counts(&watched), (0, 0));
        assert_eq!(watched.drain, Some(Duration::from_micros(20)));
        // Its own drain is none of an earlier generation.
        watched.hear(&at(30, 3, draining(7)));
        assert_eq!(counts(&watched), (0, 0));
    }
}
