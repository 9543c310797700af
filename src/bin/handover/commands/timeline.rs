//! `handover timeline`.

mod svg;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::model::{Handover, Span};
use crate::screen::{self, Style, wrap};
use crate::text::{length, shortened};

/// Show where the time of the last handovers went
#[derive(Args, Debug)]
pub(crate) struct Timeline {
    /// So many of them, the newest last
    #[arg(long, value_name = "N", default_value_t = 1)]
    last: u32,
    /// Write a drawing of them, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    handovers: Vec<Handover>,
}

impl Timeline {
    pub(crate) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        let mut client = Client::connect(global)?;
        let answer: Value = client.ask(&json!({ "request": "timeline", "last": self.last }))?;
        let parsed = serde_json::from_value::<Answer>(answer.clone());
        let handovers = parsed.map_err(Failure::unavailable)?.handovers;
        if let Some(path) = &self.svg {
            fs::write(path, svg::drawing(&handovers)).map_err(|error| {
                let path = path.display();
                Failure::unavailable(format_args!("could not write `{path}`: {error}"))
            })?;
        }
        let style = Style::of_stdout();
        let text = match (global.json, handovers.is_empty()) {
            (true, _) => format!("{answer}\n"),
            (false, true) => "there was no handover so far\n".to_owned(),
            (false, false) => {
                let pages = handovers.iter().map(|one| page(one, style, style.width()));
                pages.collect::<Vec<_>>().join("\n")
            }
        };
        screen::print(&text)?;
        Ok(Exit::Success)
    }
}

/// What of it is a person told first.
fn title(handover: &Handover) -> String {
    let from = handover.incumbent;
    let to = match handover.successor {
        Some(to) => format!("generation {} (pid {})", to.generation, to.pid),
        None => "nobody".to_owned(),
    };
    let outcome = handover.outcome.replace('_', " ");
    let elapsed = handover.elapsed_us.map(Duration::from_micros).map(length);
    let elapsed = elapsed
        .map(|time| format!(" after {time}"))
        .unwrap_or_default();
    let outcome = match handover.outcome.as_str() {
        "done" | "draining" => format!("serves{elapsed}"),
        "unknown" if handover.elapsed_us.is_some() => format!("serves{elapsed}"),
        _ => format!("{outcome}{elapsed}"),
    };
    format!(
        "generation {} (pid {}) → {to}: {outcome}",
        from.generation, from.pid
    )
}

fn page(handover: &Handover, style: Style, width: usize) -> String {
    let mut lines = vec![style.bold(&shortened(&title(handover), width))];
    if handover.outcome == "unknown" {
        let from = handover.incumbent.generation;
        let text = format!("  generation {from} died on the way, and what it knew is lost");
        lines.push(style.yellow(&text));
    }
    let (parts, whole) = handover.parts();
    let parts: Vec<_> = parts.collect();
    let label = parts.iter().map(|span| span.label().chars().count()).max();
    let label = label.unwrap_or(0).clamp(8, 28);
    let room = width.saturating_sub(label + 16).max(10);
    for span in parts {
        lines.push(row(span, label, room, whole, style));
    }
    if let Some(failure) = &handover.failure {
        let error = wrap(&failure.error, width.saturating_sub(2).max(40));
        lines.extend(error.iter().map(|part| style.red(&format!("  {part}"))));
    }
    if let Some(drain) = handover.part("drain") {
        let counts: Vec<_> = handover.drain.iter().map(|left| left.connections).collect();
        let time = drain.length().map_or_else(|| "lasts".to_owned(), length);
        let first = counts.first().copied().unwrap_or(0);
        let last = match drain.to_us {
            Some(_) => 0,
            None => counts.last().copied().unwrap_or(0),
        };
        let graph = graph(&counts, room);
        lines.push(format!("  {:<label$}  {graph:<room$}  {time:>10}", "drain"));
        lines.push(format!("  {:<label$}  {first} → {last} connections", ""));
    }
    if let Some(exit) = handover.part("exit").and_then(Span::length) {
        lines.push(format!(
            "  {:<label$}  {:<room$}  {:>10}",
            "exit",
            "",
            length(exit)
        ));
    }
    lines.join("\n") + "\n"
}

fn row(span: &Span, label: usize, room: usize, whole: u64, style: Style) -> String {
    let whole = whole.max(1);
    let to = span.to_us.unwrap_or(whole);
    // In eighths of a column, of which there is a glyph each.
    let eighths =
        |at: u64| (at.min(whole) as u128 * (room * 8) as u128 / u128::from(whole)) as usize;
    let (from, end) = (eighths(span.from_us), eighths(to));
    let column = (from / 8).min(room - 1);
    let length_of_bar = (end / 8).saturating_sub(column).min(room - column);
    let bar = match length_of_bar {
        // What is too short for a column is seen all the same.
        0 => "▏".to_owned(),
        columns => "█".repeat(columns),
    };
    let bar = match span.by.as_str() {
        _ if span.failed => style.red(&bar),
        "successor" => style.green(&bar),
        _ => bar,
    };
    let columns = length_of_bar.max(1);
    let name = shortened(&span.label(), label);
    let time = span.length().map_or_else(|| "lasts".to_owned(), length);
    format!(
        "  {name:<label$}  {}{bar}{}  {time:>10}",
        " ".repeat(column),
        " ".repeat(room.saturating_sub(column + columns)),
    )
}

/// How many were left, as one glyph for each part of the time.
fn graph(counts: &[u64], room: usize) -> String {
    const GLYPHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let step = counts.len().div_ceil(room).max(1);
    let glyph = |count: &u64| GLYPHS[usize::try_from(count * 7 / most).unwrap_or(0)];
    counts.iter().step_by(step).map(glyph).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(super) fn handover() -> Handover {
        serde_json::from_value(json!({
            "outcome": "done", "elapsed_us": 8_000,
            "incumbent": { "generation": 1, "pid": 1001 }, "successor": { "generation": 2, "pid": 2002 },
            "spans": [
                { "name": "spawn", "by": "incumbent", "from_us": 0, "to_us": 2_000 },
                { "name": "exec", "by": "successor", "from_us": 2_000, "to_us": 4_000 },
                { "name": "init", "by": "successor", "from_us": 4_000, "to_us": 8_000 },
                { "name": "on_init", "component": "Db <1>", "by": "successor", "from_us": 4_100, "to_us": 4_120 },
                { "name": "drain", "by": "incumbent", "from_us": 8_000, "to_us": 2_508_000 },
                { "name": "exit", "by": "incumbent", "from_us": 2_508_000, "to_us": 2_509_000 },
            ],
            "drain": [{ "at_us": 8_000, "connections": 12 }, { "at_us": 1_008_000, "connections": 6 }, { "at_us": 2_008_000, "connections": 1 }],
        }))
        .expect("a handover")
    }

    #[test]
    fn the_parts_are_bars() {
        let expected = "\
generation 1 (pid 1001) → generation 2 (pid 2002): serves after 8.0 ms
  spawn             ██████████                                    2.0 ms
  exec                        ██████████                          2.0 ms
  init                                  ████████████████████      4.0 ms
    on_init Db <1>                      ▏                          20 µs
  drain             █▄▁                                            2.5 s
                    12 → 0 connections
  exit                                                            1.0 ms
";
        assert_eq!(page(&handover(), Style::plain(), 72), expected);
    }

    #[test]
    fn a_failure_stands_where_it_happened() {
        let handover = serde_json::from_value(json!({
            "outcome": "failed", "elapsed_us": 4_000, "incumbent": { "generation": 1, "pid": 1001 },
            "failure": { "stage": "init", "error": "connection refused" },
            "spans": [
                { "name": "spawn", "by": "incumbent", "from_us": 0, "to_us": 1_000 },
                { "name": "init", "by": "successor", "from_us": 1_000, "to_us": 4_000, "failed": true },
            ],
        }));
        let expected = "\
generation 1 (pid 1001) → nobody: failed after 4.0 ms
  spawn     █████████                                 1.0 ms
  init               ███████████████████████████      3.0 ms
  connection refused
";
        assert_eq!(
            page(&handover.expect("a handover"), Style::plain(), 60),
            expected
        );
    }
}
