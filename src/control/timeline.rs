//! Where the time of a handover went.

use std::sync::Arc;

use serde::Serialize;

use crate::lifecycle::event::{Event, What};

/// One handover, as far as it is known. Times are in microseconds from its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Timeline {
    /// When it began, in microseconds since boot (`CLOCK_MONOTONIC`).
    pub(super) began_us: u64,
    pub(super) outcome: Outcome,
    pub(super) incumbent: Who,
    pub(super) successor: Option<Who>,
    /// From its beginning until the successor had settled, or until it had failed.
    pub(super) elapsed_us: Option<u64>,
    pub(super) failure: Option<Failure>,
    pub(super) spans: Vec<Span>,
    /// How many connections were left, and when.
    pub(super) drain: Vec<Left>,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// The successor starts.
    UnderWay,
    /// The successor serves, and the incumbent drains.
    Draining,
    /// The successor serves, and the incumbent has ended.
    Done,
    /// The incumbent serves on.
    Failed,
    CalledOff,
    /// The incumbent has not told how it went: it has died on the way, or its library tells nothing.
    Unknown,
}

/// One of the two generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Who {
    pub(super) generation: u32,
    pub(super) pid: u32,
}

/// Why it failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Failure {
    pub(super) stage: String,
    pub(super) component: Option<String>,
    pub(super) error: String,
    pub(super) exit: Option<String>,
    pub(super) stderr: Vec<String>,
}

/// A part of it. The parts of one side follow each other; hooks lie within them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Span {
    pub(super) name: &'static str,
    /// The component, where it is a hook.
    pub(super) component: Option<String>,
    pub(super) by: Side,
    pub(super) from_us: u64,
    /// `None` where it lasts.
    pub(super) to_us: Option<u64>,
    /// Whether it is the one in which the handover failed.
    pub(super) failed: bool,
}

/// Who was busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Side {
    Incumbent,
    Successor,
}

/// A moment of the drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Left {
    pub(super) at_us: u64,
    pub(super) connections: usize,
}

/// The handovers that the events tell of, the oldest first.
pub(super) fn timelines(events: &[Arc<Event>]) -> Vec<Timeline> {
    let begins = |event: &&Arc<Event>| matches!(event.what, What::HandoverBegins {});
    let begun: Vec<_> = events.iter().filter(begins).collect();
    let told = begun.iter().enumerate().map(|(index, beginning)| {
        let next = begun[index + 1..]
            .iter()
            .find(|next| next.pid == beginning.pid);
        timeline(events, beginning, next.map(|next| next.at_us))
    });
    let mut handovers: Vec<_> = told.chain(orphans(events)).collect();
    handovers.sort_by_key(|handover| handover.began_us);
    handovers
}

/// The handovers whose incumbent has died before it had told anything, as their successors know them.
fn orphans(events: &[Arc<Event>]) -> impl Iterator<Item = Timeline> {
    events.iter().filter_map(|event| {
        let What::Initialising { predecessor } = event.what else {
            return None;
        };
        let (pid, predecessor) = (event.pid, predecessor?);
        let of = |pid: u32| {
            events
                .iter()
                .map(|event| &**event)
                .filter(move |event| event.pid == pid)
        };
        // What an incumbent tells is here before it lets go.
        let is_active = of(pid).any(|event| matches!(event.what, What::Active {}));
        if !is_active || of(predecessor).next().is_some() {
            return None;
        }
        let began_us = of(pid).map(|event| event.at_us).min()?;
        let successor = Marks::new(began_us, of(pid));
        let mut spans = spans(&Marks::default(), &successor);
        // Its beginning and its decisions are what nobody knows any more.
        spans.retain(|span| {
            span.by == Side::Successor && span.name != "exec" && span.to_us.is_some()
        });
        let generation = event.generation;
        Some(Timeline {
            began_us,
            outcome: Outcome::Unknown,
            incumbent: Who {
                generation: generation.saturating_sub(1),
                pid: predecessor,
            },
            successor: Some(Who { generation, pid }),
            elapsed_us: successor.serving,
            failure: None,
            spans,
            drain: Vec::new(),
        })
    })
}

/// One handover: what its incumbent tells until it begins another one, and what the successor of
/// that time tells.
fn timeline(events: &[Arc<Event>], beginning: &Event, next: Option<u64>) -> Timeline {
    let began = beginning.at_us;
    let told: Vec<&Event> = events
        .iter()
        .map(|event| &**event)
        .filter(|event| event.at_us >= began && next.is_none_or(|next| event.at_us < next))
        .collect();
    let of = |pid: u32| told.iter().copied().filter(move |event| event.pid == pid);
    let mut incumbent = Marks::new(began, of(beginning.pid));
    // Its own word is better than the incumbent's, which may have started a wrapper.
    let successor_pid = of(beginning.pid)
        .filter_map(|event| match event.what {
            What::SuccessorStarted { successor }
            | What::SuccessorReady { successor }
            | What::Committed { successor, .. } => Some(successor),
            _ => None,
        })
        .next_back();
    let successor = Marks::new(
        began,
        successor_pid
            .into_iter()
            .flat_map(|pid| of(pid).filter(|event| event.generation == beginning.generation + 1)),
    );
    incumbent.exited = told.iter().find_map(|event| match event.what {
        What::OlderEnded { older_pid, .. } if older_pid == beginning.pid => {
            Some(event.at_us - began)
        }
        _ => None,
    });
    let failure = incumbent.failure.take();
    let ended = incumbent
        .failed
        .or(incumbent.committed)
        .or(match incumbent.exited {
            // An incumbent that has died has not seen it.
            Some(_) => successor.serving,
            None => None,
        });
    let outcome = match (&failure, incumbent.failed, incumbent.committed) {
        (Some(_), ..) => Outcome::Failed,
        (None, Some(_), _) => Outcome::CalledOff,
        (None, None, Some(_)) if incumbent.exited.is_some() => Outcome::Done,
        (None, None, Some(_)) => Outcome::Draining,
        (None, None, None) if incumbent.exited.is_some() => Outcome::Unknown,
        (None, None, None) => Outcome::UnderWay,
    };
    Timeline {
        began_us: began,
        outcome,
        incumbent: Who {
            generation: beginning.generation,
            pid: beginning.pid,
        },
        successor: successor_pid.map(|pid| Who {
            generation: beginning.generation + 1,
            pid,
        }),
        elapsed_us: ended,
        failure,
        spans: spans(&incumbent, &successor),
        drain: std::mem::take(&mut incumbent.left),
    }
}

/// When what has happened, in microseconds from the beginning, on one side.
#[derive(Debug, Default)]
struct Marks {
    executed: Option<u64>,
    adopted: Option<u64>,
    initialising: Option<u64>,
    ready: Option<u64>,
    serving: Option<u64>,
    active: Option<u64>,
    started: Option<u64>,
    successor_ready: Option<u64>,
    commit: Option<u64>,
    successor_serves: Option<u64>,
    committed: Option<u64>,
    released: Option<u64>,
    draining: Option<u64>,
    ended: Option<u64>,
    exited: Option<u64>,
    failed: Option<u64>,
    failure: Option<Failure>,
    hooks: Vec<Hook>,
    left: Vec<Left>,
}

/// A hook that has ended.
#[derive(Debug)]
struct Hook {
    name: &'static str,
    component: String,
    from: u64,
    to: u64,
    failed: bool,
}

impl Marks {
    fn new<'a>(began: u64, events: impl Iterator<Item = &'a Event>) -> Self {
        let mut marks = Self::default();
        for event in events {
            let at = event.at_us - began;
            let mark = match &event.what {
                What::Executed {} => &mut marks.executed,
                What::Adopted { .. } => &mut marks.adopted,
                What::Initialising { .. } => &mut marks.initialising,
                What::Ready {} => &mut marks.ready,
                What::Serving { .. } => &mut marks.serving,
                What::Active {} => &mut marks.active,
                What::SuccessorStarted { .. } => &mut marks.started,
                What::SuccessorReady { .. } => &mut marks.successor_ready,
                What::Commit { .. } => &mut marks.commit,
                What::SuccessorServes { .. } => &mut marks.successor_serves,
                What::Committed { .. } => &mut marks.committed,
                What::Released {} => &mut marks.released,
                What::Draining { connections, .. } => {
                    marks.left.push(Left {
                        at_us: at,
                        connections: *connections,
                    });
                    &mut marks.draining
                }
                What::DrainProgress { connections, .. } => {
                    marks.left.push(Left {
                        at_us: at,
                        connections: *connections,
                    });
                    continue;
                }
                What::Ended { .. } => &mut marks.ended,
                What::HandoverFailed {
                    stage,
                    component,
                    error,
                    exit,
                    stderr,
                    ..
                } => {
                    marks.failure.get_or_insert_with(|| Failure {
                        stage: stage.clone(),
                        component: component.clone(),
                        error: error.clone(),
                        exit: exit.clone(),
                        stderr: stderr.clone(),
                    });
                    &mut marks.failed
                }
                What::HandoverCalledOff { .. } => &mut marks.failed,
                What::Hook {
                    hook,
                    component,
                    elapsed_us,
                    error,
                } => {
                    let names = ["on_init", "on_ready", "on_active", "on_drain"];
                    marks
                        .hooks
                        .extend(
                            names
                                .into_iter()
                                .find(|name| name == hook)
                                .map(|name| Hook {
                                    name,
                                    component: component.clone(),
                                    from: at.saturating_sub(*elapsed_us),
                                    to: at,
                                    failed: error.is_some(),
                                }),
                        );
                    continue;
                }
                _ => continue,
            };
            mark.get_or_insert(at);
        }
        marks
    }
}

/// The parts in order of their beginning. One that has begun and not ended lasts until the failure,
/// if there was one.
fn spans(incumbent: &Marks, successor: &Marks) -> Vec<Span> {
    let failed = incumbent.failed;
    let mut spans = Vec::new();
    let mut add = |name, by, from: Option<u64>, to: Option<u64>| {
        let Some(from) = from else { return };
        spans.push(Span {
            name,
            component: None,
            by,
            from_us: from,
            to_us: to.map(|to| to.max(from)).or(failed),
            failed: to.is_none() && failed.is_some(),
        });
    };
    use Side::{Incumbent, Successor};
    // The incumbent may hear of the start later than the program runs.
    let started = match (incumbent.started, successor.executed) {
        (Some(started), Some(executed)) => Some(started.min(executed)),
        (started, executed) => started.or(executed),
    };
    add("spawn", Incumbent, Some(0), started);
    add("exec", Successor, started, successor.executed);
    add("adopt", Successor, successor.executed, successor.adopted);
    add(
        "runtime",
        Successor,
        successor.adopted,
        successor.initialising,
    );
    add("init", Successor, successor.initialising, successor.ready);
    add("ready", Incumbent, successor.ready, incumbent.commit);
    add("commit", Successor, incumbent.commit, successor.serving);
    let serving = successor.serving;
    add(
        "close gates",
        Incumbent,
        serving,
        incumbent.successor_serves,
    );
    add(
        "settle",
        Incumbent,
        incumbent.successor_serves,
        incumbent.committed,
    );
    add("release", Incumbent, incumbent.draining, incumbent.released);
    add("activate", Successor, incumbent.released, successor.active);
    add("drain", Incumbent, incumbent.draining, incumbent.ended);
    add("exit", Incumbent, incumbent.ended, incumbent.exited);
    for (by, marks) in [(Incumbent, incumbent), (Successor, successor)] {
        // The incumbent lets go here, and the successor begins; how that one lets go belongs to the
        // next handover.
        let is_part = |hook: &&Hook| (hook.name == "on_drain") == (by == Incumbent);
        spans.extend(marks.hooks.iter().filter(is_part).map(|hook| Span {
            name: hook.name,
            component: Some(hook.component.clone()),
            by,
            from_us: hook.from,
            to_us: Some(hook.to),
            failed: hook.failed,
        }));
    }
    // Of those that begin at once a part comes before the hooks in it.
    spans.sort_by_key(|span| span.from_us);
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the incumbent has not told is not made up, and what the successor knows is there.
    #[test]
    fn a_handover_whose_incumbent_has_died_is_told_by_the_successor() {
        let event = |at_us, what| {
            Arc::new(Event {
                at_us,
                generation: 2,
                pid: 22,
                what,
            })
        };
        let predecessor = Some(11);
        let mut events = vec![
            event(100, What::Executed {}),
            event(140, What::Adopted { sockets: 1 }),
            event(150, What::Initialising { predecessor }),
            event(300, What::Ready {}),
            event(400, What::Serving { endpoints: 1 }),
        ];
        assert_eq!(timelines(&events), [], "the incumbent may yet tell");
        events.push(event(410, What::Active {}));
        let handovers = timelines(&events);
        let [handover] = &handovers[..] else {
            panic!("{handovers:?}");
        };
        assert_eq!(handover.outcome, Outcome::Unknown);
        assert_eq!((handover.began_us, handover.elapsed_us), (100, Some(300)));
        let incumbent = Who {
            generation: 1,
            pid: 11,
        };
        assert_eq!(handover.incumbent, incumbent);
        let spans = handover.spans.iter();
        let spans: Vec<_> = spans
            .map(|span| (span.name, span.from_us, span.to_us))
            .collect();
        let expected = [
            ("adopt", 0, Some(40)),
            ("runtime", 40, Some(50)),
            ("init", 50, Some(200)),
        ];
        assert_eq!(spans, expected);
        // One that tells anything is believed alone.
        events.push(Arc::new(Event {
            at_us: 90,
            generation: 1,
            pid: 11,
            what: What::HandoverBegins {},
        }));
        assert_eq!(timelines(&events).len(), 1);
    }
}
