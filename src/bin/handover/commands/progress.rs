//! What is shown while a command waits: on a terminal one line that is drawn over, otherwise a line
//! for each thing that happens.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde_json::Value;

use crate::text::{count, length};

/// The line.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    live: bool,
    /// How many connections there were when the drain began, and its length.
    most: u64,
    last: String,
}

impl Progress {
    /// Shows nothing unless it is `wanted`.
    pub(crate) fn new(wanted: bool) -> Self {
        Self {
            shown: wanted,
            live: io::stderr().is_terminal(),
            most: 0,
            last: String::new(),
        }
    }

    /// Shows an event of the service, if it tells how far things have come.
    pub(crate) fn show(&mut self, event: &Value) {
        let Some(text) = self.text(event).filter(|_| self.shown) else {
            return;
        };
        if self.live {
            write(&format!("\r\x1b[K{text}"));
        } else if text != self.last {
            write(&format!("{text}\n"));
        }
        self.last = text;
    }

    /// Takes the line away, so that the answer stands alone.
    pub(crate) fn clear(&mut self) {
        if self.live && !self.last.is_empty() {
            write("\r\x1b[K");
        }
        self.last.clear();
    }

    fn text(&mut self, event: &Value) -> Option<String> {
        let number = |name: &str| event[name].as_u64();
        let generation = number("generation")?;
        Some(match event["event"].as_str()? {
            "successor_started" => format!("  started: pid {}", number("successor")?),
            "initialising" => format!("  generation {generation} initialises"),
            "hook" => {
                let (hook, component) = (event["hook"].as_str()?, event["component"].as_str()?);
                format!("  {hook} of {component}")
            }
            "successor_ready" => "  ready".to_owned(),
            "committed" => format!("  generation {} serves", generation + 1),
            "lame_duck" => format!("  generation {generation} accepts a little longer"),
            "draining" => {
                self.most = number("connections")?;
                let most = self.most;
                self.drain(generation, most, number("deadline_ms")?)
            }
            "drain_progress" => {
                let left = number("connections")?;
                self.most = self.most.max(left);
                self.drain(generation, left, number("left_ms")?)
            }
            "aborting" => format!("  generation {generation} cuts what is left"),
            _ => return None,
        })
    }

    fn drain(&self, generation: u64, left: u64, left_ms: u64) -> String {
        let left_text = count(left, "connection");
        if !self.live {
            return format!("  generation {generation} drains: {left_text} left");
        }
        let done = match self.most {
            0 => WIDTH,
            most => usize::try_from((most - left) * WIDTH as u64 / most).unwrap_or(WIDTH),
        };
        let bar = "█".repeat(done) + &"░".repeat(WIDTH - done);
        let time = length(Duration::from_millis(left_ms));
        format!("  generation {generation} drains {bar} {left_text} left, {time} at most")
    }
}

fn write(text: &str) {
    // Nobody is left to be told that standard error has gone.
    let mut stderr = io::stderr().lock();
    stderr
        .write_all(text.as_bytes())
        .and_then(|()| stderr.flush())
        .ok();
}

/// The length of the bar.
const WIDTH: usize = 20;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_drain_is_a_bar() {
        let mut progress = Progress {
            live: true,
            ..Progress::new(false)
        };
        let begun = json!({ "event": "draining", "generation": 1, "connections": 8, "deadline_ms": 30_000 });
        let later = json!({ "event": "drain_progress", "generation": 1, "connections": 2, "left_ms": 29_000 });
        assert_eq!(
            progress.text(&begun).as_deref(),
            Some("  generation 1 drains ░░░░░░░░░░░░░░░░░░░░ 8 connections left, 30.0 s at most")
        );
        assert_eq!(
            progress.text(&later).as_deref(),
            Some("  generation 1 drains ███████████████░░░░░ 2 connections left, 29.0 s at most")
        );
        assert_eq!(
            progress.text(&json!({ "event": "of_tomorrow", "generation": 1 })),
            None
        );
    }
}
