//! What is shown while a service is verified: one line that lives on a terminal, plain lines elsewhere.

use std::ffi::OsString;

use handover::testing::load::Counts;
use handover::testing::verify::{Ending, Event, Handover};

use crate::screen::{self, Style, duration, thousands, wrap};

/// The way to the screen.
#[derive(Debug)]
pub(crate) struct Live {
    style: Style,
    width: usize,
    tick: usize,
    handovers: usize,
}

impl Live {
    pub(crate) fn new() -> Self {
        let style = Style::of_stdout();
        Self {
            style,
            width: style.width(),
            tick: 0,
            handovers: 0,
        }
    }

    pub(crate) fn title(&mut self, command: &[OsString]) {
        let command: Vec<_> = command.iter().map(|part| part.to_string_lossy()).collect();
        self.heading(&command.join(" "));
    }

    pub(crate) fn heading(&mut self, text: &str) {
        self.say(&format!("\n  {}\n\n", self.style.bold(text)));
    }

    pub(crate) fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Started { pid } => self.step("started", &format!("process {pid}"), ""),
            Event::Found(ground) => {
                let mark = if ground.speaks.is_empty() { "!" } else { "✓" };
                self.marked(mark, "found", &ground.to_string(), "");
            }
            Event::Aimed { trigger } => self.step("restarted", &format!("by {trigger}"), ""),
            Event::Loaded { pid } => {
                self.step("loaded", &format!("process {pid} answers"), "");
            }
            Event::HandedOver(handover) => self.handed_over(handover),
            Event::Progress {
                counts,
                pid,
                handovers,
                ..
            } => self.draw(
                counts,
                &format!("process {pid} serves · {handovers} handovers"),
            ),
            Event::Stopping => self.clear(),
            _ => {}
        }
    }

    /// Something was done.
    pub(crate) fn step(&mut self, name: &str, text: &str, took: &str) {
        self.marked("✓", name, text, took);
    }

    pub(crate) fn handed_over(&mut self, handover: &Handover) {
        self.handovers += 1;
        let name = format!("handover {}", self.handovers);
        match &handover.ending {
            Ending::Switched { pid, took } => {
                self.step(&name, &format!("process {pid} serves"), &duration(*took));
            }
            Ending::Survived {
                victim,
                killed,
                pid,
                took,
            } => {
                let killed = duration(*killed);
                let text = format!("{victim} killed at {}, process {pid} serves", killed.trim());
                self.step(&name, &text, &duration(*took));
            }
            Ending::Rejected { took } => {
                self.step(
                    &name,
                    "the successor has failed, as it should",
                    &duration(*took),
                );
            }
            Ending::Failed { why } => self.marked("✗", &name, why, ""),
            _ => {}
        }
    }

    /// Says more of what was done.
    pub(crate) fn more(&mut self, text: &str) {
        for line in wrap(text, WIDTH - INDENT) {
            self.say(&format!("{:INDENT$}{line}\n", ""));
        }
    }

    fn marked(&mut self, mark: &str, name: &str, text: &str, took: &str) {
        self.clear();
        let mark = match mark {
            "✓" => self.style.green(mark),
            _ => self.style.red(mark),
        };
        let room = match took {
            "" => WIDTH - INDENT,
            _ => WIDTH - INDENT - 11,
        };
        let lines = wrap(text, room);
        for (index, line) in lines.iter().enumerate() {
            let last = index + 1 == lines.len();
            let took = if last { took } else { "" };
            let line = if index == 0 {
                format!("  {mark} {name:<12} {line:<room$} {took:>10}")
            } else {
                format!("{:INDENT$}{line:<room$} {took:>10}", "")
            };
            self.say(&format!("{}\n", line.trim_end()));
        }
    }

    /// Draws the line that lives.
    pub(crate) fn draw(&mut self, counts: &Counts, state: &str) {
        if !self.style.live {
            return;
        }
        self.tick += 1;
        let spinner = SPINNER[self.tick % SPINNER.len()];
        let line = format!(
            "{spinner} {} requests · {} failed · {state}",
            thousands(counts.requests()),
            thousands(counts.failed()),
        );
        let line: String = line.chars().take(self.width.saturating_sub(3)).collect();
        self.say(&format!("\r\x1b[2K  {}", self.style.dim(&line)));
    }

    /// Takes the line that lives away.
    pub(crate) fn clear(&mut self) {
        if self.style.live {
            self.say("\r\x1b[2K");
        }
    }

    fn say(&mut self, text: &str) {
        // Where nobody sees it, the exit code still tells.
        screen::print(text).ok();
    }
}

const WIDTH: usize = 79;
const INDENT: usize = 17;
const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
