//! The table at the end, and the verdict in plain words.

use std::fmt::Write;
use std::time::Duration;

use handover::testing::load::{Counts, Times};
use handover::testing::verify::{Ending, Handover, Outcome, Row, Weight};

use crate::screen::{Style, duration, thousands, wrap};

/// All of it.
pub(crate) fn text(outcome: &Outcome, style: Style, width: usize, allowed: u64) -> String {
    let mut text = String::new();
    table(&mut text, outcome, style, width);
    facts(&mut text, outcome);
    failures(&mut text, outcome, style);
    verdict(&mut text, outcome, style, allowed);
    text
}

fn table(text: &mut String, outcome: &Outcome, style: Style, width: usize) {
    let wide = width >= WIDE;
    let mut head = format!(
        "{:<17}{:>10}{:>8}{:>6}{:>7}{:>7}",
        "load", "requests", "failed", "idle", "told", "moved"
    );
    head += &if wide {
        format!(
            "{:>11}{:>11}{:>11}{:>11}{:>11}",
            "p50", "p99", "p50 then", "p99 then", "gap then"
        )
    } else {
        format!("{:>11}{:>11}", "p99 then", "gap then")
    };
    line(text, &format!("\n  {}", style.bold(&head)));
    let mut endpoint = "";
    let several = outcome
        .rows
        .iter()
        .any(|row| row.endpoint != outcome.rows[0].endpoint);
    for row in &outcome.rows {
        if several && endpoint != row.endpoint {
            endpoint = &row.endpoint;
            line(text, &format!("  {}", style.dim(endpoint)));
        }
        line(
            text,
            &format!("  {}", counts(&load(row), &row.counts, style, wide)),
        );
    }
    if outcome.rows.len() > 1 {
        line(
            text,
            &format!("  {}", counts("all", &outcome.all(), style, wide)),
        );
    }
    let legend = "idle: connections closed with no request on them. told: closed after an announcement. moved: to \
                  another process, still open. then: while a restart went on; gap is the longest time without an answer.";
    for legend in wrap(legend, width.min(WIDE) - 4) {
        line(text, &format!("  {}", style.dim(legend)));
    }
}

/// What a row is called.
pub(crate) fn load(row: &Row) -> String {
    match row.protocol {
        "HTTP/1.1" => row.kind.to_string(),
        "HTTP/2" => format!("h2 {}", row.kind),
        "WebSocket" => "WebSocket".to_owned(),
        other => format!("{other} {}", row.kind),
    }
}

fn counts(name: &str, counts: &Counts, style: Style, wide: bool) -> String {
    let mut row = format!(
        "{name:<17}{:>10}{:>8}{:>6}{:>7}{:>7}",
        thousands(counts.requests()),
        thousands(counts.failed()),
        thousands(counts.closed_idle),
        thousands(counts.closed_announced),
        thousands(counts.migrated),
    );
    let at = |times: &Times, share| match times.count() {
        0 => "–".to_owned(),
        _ => duration(times.percentile(share)),
    };
    if wide {
        for share in [0.5, 0.99] {
            row += &format!("{:>11}", at(&counts.outside, share));
        }
        row += &format!("{:>11}", at(&counts.during, 0.5));
    }
    row += &format!(
        "{:>11}{:>11}",
        at(&counts.during, 0.99),
        duration(counts.during.gap())
    );
    let row = row.trim_end();
    if counts.failed() > 0 {
        style.red(row)
    } else {
        row.to_owned()
    }
}

fn facts(text: &mut String, outcome: &Outcome) {
    let all = outcome.all();
    line(text, "");
    let mut fact = |name: &str, what: String| line(text, &format!("  {name:<19}{what}"));
    let rejected = |handover: &&Handover| matches!(handover.ending, Ending::Rejected { .. });
    let rejected = outcome.handovers.iter().filter(rejected).count();
    let (done, asked) = (
        outcome.succeeded() - rejected,
        outcome.handovers.len() - rejected,
    );
    fact(
        "handovers",
        match done == asked {
            true => format!("{done} in {:.1} s", outcome.elapsed.as_secs_f64()),
            false => format!(
                "{done} of {asked} in {:.1} s",
                outcome.elapsed.as_secs_f64()
            ),
        },
    );
    if let [.., longest] = outcome.switches()[..] {
        let median = median(&outcome.switches());
        let (median, longest) = (duration(median), duration(longest));
        let times = format!("{} median, {} at most", median.trim(), longest.trim());
        fact("trigger to answer", times);
    }
    if rejected > 0 {
        fact(
            "bad successors",
            format!("{rejected}, none of which was let in"),
        );
    }
    if all.refused > 0 {
        fact(
            "refused",
            format!(
                "{} requests, unprocessed, to be made again",
                thousands(all.refused)
            ),
        );
    }
    if all.cut > 0 {
        fact(
            "cut",
            format!(
                "{} requests, with the process that was killed",
                thousands(all.cut)
            ),
        );
    }
    fact(
        "processes",
        pair(outcome, |weight| weight.processes.to_string()),
    );
    fact(
        "descriptors",
        pair(outcome, |weight| weight.descriptors.to_string()),
    );
    fact(
        "memory (PSS)",
        pair(outcome, |weight| mebibytes(weight.proportional)),
    );
    fact(
        "memory (RSS)",
        pair(outcome, |weight| mebibytes(weight.resident)),
    );
    if !outcome.left_over.is_empty() {
        let pids: Vec<String> = outcome.left_over.iter().map(ToString::to_string).collect();
        fact(
            "left over",
            format!(
                "{} of those that were replaced: {}",
                pids.len(),
                pids.join(", ")
            ),
        );
    }
}

fn pair(outcome: &Outcome, figure: impl Fn(&Weight) -> String) -> String {
    format!(
        "{} before, {} after",
        figure(&outcome.before),
        figure(&outcome.after)
    )
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn failures(text: &mut String, outcome: &Outcome, style: Style) {
    let all = outcome.all();
    if all.failed() == 0 {
        return;
    }
    let causes: Vec<String> = (all.failed.iter())
        .map(|(cause, count)| format!("{} {cause}", thousands(*count)))
        .collect();
    line(
        text,
        &format!(
            "\n  {}",
            style.red(&format!("failed: {}", causes.join(", ")))
        ),
    );
    for (at, failure) in outcome.failures.iter().take(FAILURES_SHOWN) {
        for (index, part) in wrap(&failure.to_string(), 66).into_iter().enumerate() {
            let at = match index {
                0 => format!("{:.3} s", at.as_secs_f64()),
                _ => String::new(),
            };
            line(text, &format!("  {at:>9}  {part}"));
        }
    }
}

fn verdict(text: &mut String, outcome: &Outcome, style: Style, allowed: u64) {
    line(text, "");
    let all = outcome.all();
    let (failed, requests) = (thousands(all.failed()), thousands(all.requests()));
    let sentence = format!("{failed} of {requests} requests failed");
    let mut no = Vec::new();
    if let Some(why) = &outcome.ended_early {
        no.push(format!("it could not go on: {why}"));
    } else if outcome.succeeded() < outcome.handovers.len() {
        let failed = outcome.handovers.len() - outcome.succeeded();
        no.push(format!(
            "{failed} of {} handovers failed",
            outcome.handovers.len()
        ));
    }
    if outcome.handovers.is_empty() {
        no.push("there was no handover".to_owned());
    }
    for row in outcome.rows.iter().filter(|row| row.counts.answered == 0) {
        no.push(format!("no request of `{}` was answered", load(row)));
    }
    if all.failed() > allowed {
        no.insert(0, sentence.clone());
    }
    if no.is_empty() {
        line(
            text,
            &format!("  {} {}", style.green("✓"), style.bold(&sentence)),
        );
        if all.closed_idle > 0 {
            let count = thousands(all.closed_idle);
            let warning = format!(
                "{count} idle connections were closed without an announcement: a client that is just about to use \
                 one can lose its request"
            );
            for (index, part) in wrap(&warning, 72).into_iter().enumerate() {
                let mark = if index == 0 { "!" } else { " " };
                line(text, &format!("  {mark} {part}"));
            }
        }
    }
    for no in no {
        for (index, part) in wrap(&no, 72).into_iter().enumerate() {
            let mark = if index == 0 {
                style.red("✗")
            } else {
                " ".to_owned()
            };
            line(text, &format!("  {mark} {}", style.bold(part)));
        }
    }
    line(text, "");
}

pub(super) fn median(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn line(text: &mut String, line: &str) {
    // A String takes everything.
    writeln!(text, "{line}").ok();
}

const WIDE: usize = 112;
const FAILURES_SHOWN: usize = 5;
