//! What the demo shows: one line that lives while it runs on a terminal, plain lines elsewhere.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use handover_tests::Load;
use handover_tests::load::{Counts, Report};
use tokio::time;

use crate::script::Clients;

/// The way to the screen.
#[derive(Debug)]
pub(crate) struct View {
    /// Whether a line can be drawn over.
    live: bool,
    colour: bool,
    tick: usize,
}

/// A successor that was turned away.
#[derive(Debug)]
pub(crate) struct Rejected<'a> {
    pub(crate) name: &'a str,
    pub(crate) what: &'a str,
    pub(crate) reason: &'a str,
    /// Who serves on.
    pub(crate) generation: u32,
    pub(crate) took: Duration,
}

/// What there is to tell at the end.
#[derive(Debug)]
pub(crate) struct Summary<'a> {
    pub(crate) report: &'a Report,
    pub(crate) switches: &'a [Duration],
    pub(crate) rejected: usize,
}

impl View {
    pub(crate) fn new() -> Self {
        let live =
            io::stdout().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb");
        // https://no-color.org
        let colour = live && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            live,
            colour,
            tick: 0,
        }
    }

    pub(crate) fn title(&self) {
        println!();
        println!(
            "  {}",
            self.bold("A service that replaces itself while its clients keep asking")
        );
        println!();
    }

    pub(crate) fn started(&self, target: &str, pid: u32, clients: &[Clients]) {
        println!("  service  http://{target}");
        for (index, (count, _, what)) in clients.iter().enumerate() {
            let name = if index == 0 { "clients" } else { "" };
            println!("  {name:<8} {count:>2} {what}");
        }
        println!();
        self.step("started", &format!("generation 1, pid {pid}"), "");
    }

    pub(crate) fn handed_over(&self, count: usize, generation: u32, pid: u32, took: Duration) {
        let text = format!("generation {generation}, pid {pid}");
        self.step(&format!("handover {count}"), &text, &duration(took));
    }

    pub(crate) fn rejected(&self, rejected: &Rejected<'_>) {
        self.step(rejected.name, rejected.what, &duration(rejected.took));
        for line in wrap(rejected.reason, WIDTH - INDENT) {
            println!("{:INDENT$}{}", "", self.dim(line));
        }
        let serves = format!("generation {} serves on", rejected.generation);
        println!("{:INDENT$}{}", "", self.dim(&serves));
    }

    pub(crate) fn stopped(&self) {
        self.step("stopped", "every process has ended", "");
    }

    pub(crate) fn problem(&mut self, problem: &str) {
        self.clear();
        println!();
        println!("  {} {problem}", self.red("✗"));
        println!();
    }

    /// Shows the state of the load while something goes on.
    pub(crate) async fn during<T>(&mut self, load: &Load, future: impl Future<Output = T>) -> T {
        let mut redraw = time::interval(REDRAW);
        tokio::pin!(future);
        loop {
            tokio::select! {
                biased;
                output = &mut future => {
                    self.clear();
                    return output;
                }
                _ = redraw.tick(), if self.live => self.draw(&load.report()),
            }
        }
    }

    pub(crate) fn summary(&self, summary: &Summary<'_>) {
        let report = summary.report;
        println!();
        println!(
            "  {}",
            self.bold(&row(
                "connections",
                "requests",
                "failed",
                "longest response"
            ))
        );
        for (kind, counts) in &report.kinds {
            println!("  {}", self.counts(&kind.to_string(), counts));
        }
        println!("  {}", self.counts("all", &report.all()));
        println!();
        let mut switches = summary.switches.to_vec();
        switches.sort();
        let median = switches
            .get(switches.len() / 2)
            .copied()
            .unwrap_or_default();
        let longest = switches.last().copied().unwrap_or_default();
        println!("  handovers            {}", switches.len());
        println!(
            "  bad successors       {}, none of which was let in",
            summary.rejected
        );
        println!(
            "  trigger to serving   {} median, {} at most",
            duration(median),
            duration(longest)
        );
        println!();
        if report.failed() == 0 {
            let requests = thousands(report.all().requests());
            println!(
                "  {} {}",
                self.green("✓"),
                self.bold(&format!("0 of {requests} requests failed"))
            );
            println!();
            return;
        }
        for failure in report.failures.iter().take(FAILURES_SHOWN) {
            println!("  {failure}");
        }
    }

    fn counts(&self, name: &str, counts: &Counts) -> String {
        let failed = thousands(counts.failed());
        let row = row(
            name,
            &thousands(counts.requests()),
            &failed,
            &duration(counts.longest),
        );
        if counts.failed() > 0 {
            self.red(&row)
        } else {
            row
        }
    }

    fn step(&self, name: &str, text: &str, took: &str) {
        let line = format!("{name:<12} {text:<52} {took:>10}");
        println!("  {} {}", self.green("✓"), line.trim_end());
    }

    fn draw(&mut self, report: &Report) {
        self.tick += 1;
        let spinner = SPINNER[self.tick % SPINNER.len()];
        let serves = report.newest().map_or(String::new(), |newest| {
            format!(" · generation {} serves", newest.generation)
        });
        let line = format!(
            "{spinner} {} requests · {} failed{serves}",
            thousands(report.all().requests()),
            thousands(report.failed()),
        );
        print!("\r\x1b[2K  {}", self.dim(&line));
        // A terminal that has gone away is told by a signal.
        io::stdout().flush().ok();
    }

    fn clear(&mut self) {
        if self.live {
            print!("\r\x1b[2K");
        }
    }

    fn bold(&self, text: &str) -> String {
        self.styled("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.styled("2", text)
    }

    fn green(&self, text: &str) -> String {
        self.styled("32", text)
    }

    fn red(&self, text: &str) -> String {
        self.styled("31", text)
    }

    fn styled(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A time of a request or a handover, as people compare them.
pub(crate) fn duration(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1000.0),
        seconds => format!("{seconds:.2} s "),
    }
}

fn row(name: &str, requests: &str, failed: &str, longest: &str) -> String {
    format!("{name:<20} {requests:>12} {failed:>12} {longest:>20}")
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = (0..digits.len())
        .filter(|at| *at == 0 || (digits.len() - at) % 3 == 0)
        .map(|at| {
            let length = match (digits.len() - at) % 3 {
                0 => 3,
                rest => rest,
            };
            &digits[at..at + length]
        })
        .collect();
    groups.join(",")
}

/// Breaks a text at spaces into lines of at most `width` characters.
fn wrap(text: &str, width: usize) -> Vec<&str> {
    let (mut lines, mut start, mut space) = (Vec::new(), 0, None);
    for (at, character) in text.char_indices() {
        if character == ' ' {
            space = Some(at);
        }
        if text[start..at].chars().count() >= width {
            if let Some(end) = space.take() {
                lines.push(&text[start..end]);
                start = end + 1;
            }
        }
    }
    lines.push(&text[start..]);
    lines
}

const WIDTH: usize = 80;
const INDENT: usize = 17;
const REDRAW: Duration = Duration::from_millis(80);
const FAILURES_SHOWN: usize = 5;
const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
