//! What goes on, in words: the text that `systemctl status` shows.
//!
//! Pure: events go in, text comes out.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::lifecycle::event::{Event, What};

/// What is known of this generation and of those before it.
#[derive(Debug, Default)]
pub(super) struct Status {
    generation: u32,
    phase: Phase,
    /// Whether a handover is under way.
    is_handing_over: bool,
    /// How the last handover has ended, if not well.
    last: Option<String>,
    /// The generations that drain, this one among them on a stop.
    draining: BTreeMap<u32, Progress>,
}

/// How far this generation is.
#[derive(Debug, Default)]
enum Phase {
    #[default]
    Starting,
    Serving {
        endpoints: usize,
    },
    /// It stops, and still accepts for so long.
    LameDuck {
        left: Duration,
    },
    Stopping,
}

/// The drain of one generation.
#[derive(Debug)]
struct Progress {
    connections: usize,
    oldest: Option<Duration>,
    left: Duration,
}

impl Status {
    pub(super) fn new(generation: u32) -> Self {
        Self {
            generation,
            ..Self::default()
        }
    }

    pub(super) fn take(&mut self, event: &Event) {
        let millis = Duration::from_millis;
        // A successor that ends, or has failed with the number of this generation, is no matter of
        // what serves.
        let is_own = event.generation == self.generation && event.is_own();
        if !is_own && event.generation >= self.generation {
            return;
        }
        // Of a drain every generation tells; of the rest this one speaks for itself.
        match &event.what {
            What::Draining {
                connections,
                deadline_ms,
                ..
            } => {
                let progress = Progress {
                    connections: *connections,
                    oldest: None,
                    left: millis(*deadline_ms),
                };
                self.draining.insert(event.generation, progress);
            }
            What::DrainProgress {
                connections,
                oldest_ms,
                left_ms,
                ..
            } => {
                let progress = Progress {
                    connections: *connections,
                    oldest: oldest_ms.map(millis),
                    left: millis(*left_ms),
                };
                self.draining.insert(event.generation, progress);
            }
            What::Ended { .. } => {
                self.draining.remove(&event.generation);
            }
            What::OlderEnded { older, .. } => {
                self.draining.remove(older);
            }
            _ => {}
        }
        if !is_own {
            return;
        }
        match &event.what {
            What::Serving { endpoints } => {
                self.phase = Phase::Serving {
                    endpoints: *endpoints,
                };
            }
            What::HandoverBegins {} => {
                self.is_handing_over = true;
                self.last = None;
            }
            What::HandoverFailed {
                stage,
                component,
                cause,
                exit,
                ..
            } => {
                self.is_handing_over = false;
                self.last = Some(failure(stage, component.as_deref(), cause, exit.as_deref()));
            }
            What::HandoverCalledOff { reason, .. } => {
                self.is_handing_over = false;
                self.last = Some(format!("handover called off: {reason}"));
            }
            What::HandoverRefused { reason } if !self.is_starting() => {
                self.last = Some(reason.clone());
            }
            What::LameDuck { lame_duck_ms, .. } => {
                self.phase = Phase::LameDuck {
                    left: millis(*lame_duck_ms),
                };
            }
            What::Draining { stop: true, .. } => self.phase = Phase::Stopping,
            _ => {}
        }
    }

    /// The text, in one line.
    pub(super) fn text(&self) -> String {
        let generation = self.generation;
        let mut text = match self.phase {
            Phase::Starting => format!("generation {generation} starts"),
            Phase::Serving { endpoints } => serves(generation, endpoints),
            Phase::LameDuck { left } => {
                format!("stopping: accepting for {} more", seconds(left))
            }
            Phase::Stopping => String::new(),
        };
        let part = |text: &mut String, part: &str| {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(part);
        };
        if self.is_handing_over {
            let successor = generation.saturating_add(1);
            part(
                &mut text,
                &format!("handing over to generation {successor}"),
            );
        }
        for (generation, progress) in &self.draining {
            part(&mut text, &progress.text());
            if self.draining.len() > 1 {
                // Writing to a string cannot fail.
                write!(text, " (generation {generation})").ok();
            }
        }
        if text.is_empty() {
            text.push_str("stopping");
        }
        if let Some(last) = &self.last {
            part(&mut text, last);
        }
        one_line(&text)
    }

    /// What is said of the successor before it speaks for itself.
    pub(super) fn text_of_successor(&self) -> String {
        format!("generation {} serves", self.generation.saturating_add(1))
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Starting)
    }
}

impl Progress {
    /// Reads as `draining: 42 connections, oldest 12 s, 18 s left`.
    fn text(&self) -> String {
        let connections = self.connections;
        let plural = if connections == 1 { "" } else { "s" };
        let mut text = format!("draining: {connections} connection{plural}");
        if let Some(oldest) = self.oldest {
            write!(text, ", oldest {}", seconds(oldest)).ok();
        }
        write!(text, ", {} left", seconds(self.left)).ok();
        text
    }
}

/// Reads as `generation 3 serves, 2 endpoints`.
fn serves(generation: u32, endpoints: usize) -> String {
    let plural = if endpoints == 1 { "" } else { "s" };
    format!("generation {generation} serves, {endpoints} endpoint{plural}")
}

/// Reads as `handover failed: successor exited with status 1 in on_init of `Pool`: no database`.
fn failure(stage: &str, component: Option<&str>, cause: &str, exit: Option<&str>) -> String {
    let mut text = format!("handover failed: successor {}", exit.unwrap_or("failed"));
    let hook = match (stage, component) {
        ("init", Some(_)) => Some("on_init"),
        ("ready", Some(_)) => Some("on_ready"),
        _ => None,
    };
    let mut cause = cause;
    match (hook, component) {
        (Some(hook), Some(component)) => {
            write!(text, " in {hook} of `{component}`").ok();
            let prefix = format!("{hook} of `{component}` failed: ");
            cause = cause.strip_prefix(prefix.as_str()).unwrap_or(cause);
        }
        (_, Some(component)) => {
            write!(text, " at stage {stage} in `{component}`").ok();
        }
        (_, None) => {
            write!(text, " at stage {stage}").ok();
        }
    }
    if !cause.is_empty() && Some(cause) != exit {
        write!(text, ": {cause}").ok();
    }
    text
}

fn seconds(time: Duration) -> String {
    format!("{} s", (time.as_millis() + 500) / 1000)
}

/// systemd takes a message of at most `PIPE_BUF` bytes, and shows a text up to its first line break.
fn one_line(text: &str) -> String {
    let mut line: String = text
        .split(|c: char| c.is_control())
        .filter(|part| !part.trim().is_empty())
        .collect::<Vec<_>>()
        .join(" | ");
    if line.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|&end| line.is_char_boundary(end));
        line.truncate(end.unwrap_or(0));
        line.push_str(" …");
    }
    line
}

/// Leaves room for the other fields.
const LONGEST: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds events of generation 3, or of older ones.
    fn after(events: impl IntoIterator<Item = (u32, What)>) -> Status {
        let mut status = Status::new(3);
        for (generation, what) in events {
            status.take(&Event::now(generation, what));
        }
        status
    }

    fn failed(component: Option<&str>, stage: &str, cause: &str, exit: Option<&str>) -> What {
        What::HandoverFailed {
            stage: stage.to_owned(),
            component: component.map(str::to_owned),
            error: "the whole story".to_owned(),
            cause: cause.to_owned(),
            exit: exit.map(str::to_owned),
            stderr: Vec::new(),
            elapsed_ms: 1,
        }
    }

    fn progress(connections: usize, oldest_s: u64, left_s: u64) -> What {
        What::DrainProgress {
            connections,
            oldest_ms: Some(oldest_s * 1000 + 4),
            tasks: Vec::new(),
            older: 0,
            left_ms: left_s * 1000 - 4,
        }
    }

    fn draining(stop: bool) -> What {
        What::Draining {
            stop,
            connections: 1,
            tasks: Vec::new(),
            deadline_ms: 30_000,
            account: None,
        }
    }

    const SERVING: (u32, What) = (3, What::Serving { endpoints: 2 });

    #[test]
    fn a_life_in_words() {
        for (events, text) in [
            (vec![], "generation 3 starts"),
            (vec![SERVING], "generation 3 serves, 2 endpoints"),
            (
                vec![(3, What::Serving { endpoints: 1 })],
                "generation 3 serves, 1 endpoint",
            ),
            (
                vec![SERVING, (3, What::HandoverBegins {})],
                "generation 3 serves, 2 endpoints; handing over to generation 4",
            ),
            (
                vec![
                    SERVING,
                    (
                        3,
                        What::LameDuck {
                            connections: 1,
                            lame_duck_ms: 5000,
                        },
                    ),
                ],
                "stopping: accepting for 5 s more",
            ),
            (
                vec![SERVING, (3, draining(true)), (3, progress(42, 12, 18))],
                "draining: 42 connections, oldest 12 s, 18 s left",
            ),
            (
                vec![SERVING, (3, draining(true))],
                "draining: 1 connection, 30 s left",
            ),
        ] {
            assert_eq!(after(events).text(), text);
        }
    }

    #[test]
    fn a_failure_says_who_how_and_where() {
        let text = |what| {
            let status = after([SERVING, (3, What::HandoverBegins {}), (3, what)]);
            let text = status.text();
            let text = text.strip_prefix("generation 3 serves, 2 endpoints; ");
            text.expect("it serves on").to_owned()
        };
        let exit = Some("exited with status 1");
        assert_eq!(
            text(failed(
                Some("Pool"),
                "init",
                "on_init of `Pool` failed: no database",
                exit
            )),
            "handover failed: successor exited with status 1 in on_init of `Pool`: no database"
        );
        assert_eq!(
            text(failed(None, "start", "exited with status 1", exit)),
            "handover failed: successor exited with status 1 at stage start"
        );
        assert_eq!(
            text(failed(None, "spawn", "could not execute /app", None)),
            "handover failed: successor failed at stage spawn: could not execute /app"
        );
        assert_eq!(
            text(failed(Some("Pool"), "probation", "two\nlines", None)),
            "handover failed: successor failed at stage probation in `Pool`: two | lines"
        );
        let long = text(failed(None, "init", &"é".repeat(4000), None));
        assert!(long.len() < 2100 && long.ends_with('…'), "{}", long.len());
    }

    #[test]
    fn a_failure_is_told_until_the_next_handover() {
        let failed = failed(None, "init", "no", None);
        let status = after([SERVING, (3, failed), (3, What::HandoverBegins {})]);
        assert_eq!(
            status.text(),
            "generation 3 serves, 2 endpoints; handing over to generation 4"
        );
    }

    #[test]
    fn a_failed_successor_of_the_same_number_is_somebody_else() {
        let mut status = after([SERVING]);
        let serves = status.text();
        let lame_duck = What::LameDuck {
            connections: 0,
            lame_duck_ms: 1000,
        };
        for what in [lame_duck, draining(true)] {
            let mut event = Event::now(3, what);
            event.pid += 1;
            status.take(&event);
            assert_eq!(status.text(), serves);
            event.generation += 1;
            status.take(&event);
            assert_eq!(status.text(), serves, "nor is one that fails now");
        }
        status.take(&Event::now(3, draining(true)));
        assert_ne!(status.text(), serves);
    }

    #[test]
    fn older_generations_are_told_of_until_they_end() {
        let mut status = after([
            SERVING,
            (2, draining(false)),
            (2, progress(42, 12, 18)),
            // What they said of themselves is no matter of this one.
            (2, What::Serving { endpoints: 9 }),
        ]);
        assert_eq!(
            status.text(),
            "generation 3 serves, 2 endpoints; draining: 42 connections, oldest 12 s, 18 s left"
        );
        status.take(&Event::now(1, progress(1, 60, 3)));
        assert_eq!(
            status.text(),
            "generation 3 serves, 2 endpoints; \
             draining: 1 connection, oldest 60 s, 3 s left (generation 1); \
             draining: 42 connections, oldest 12 s, 18 s left (generation 2)"
        );
        let ended = What::Ended {
            accepted: 1,
            cut: false,
            totals: None,
        };
        status.take(&Event::now(1, ended));
        let killed = What::OlderEnded {
            older: 2,
            older_pid: 7,
        };
        status.take(&Event::now(3, killed));
        assert_eq!(status.text(), "generation 3 serves, 2 endpoints");
    }
}
