//! `handover status`.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::model::{Connection, Generation, Handover, Status};
use crate::screen::{self, Style, wrap};
use crate::text::{compact, count, length, shortened, since, table};

/// Show what runs: all generations, what they wait for, and how the last handover went
#[derive(Args, Debug)]
pub(crate) struct StatusOf {
    /// Show it again whenever something happens, and every second, until interrupted
    #[arg(long)]
    watch: bool,
}

impl StatusOf {
    pub(crate) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        let mut client = Client::connect(global)?;
        if !self.watch {
            return shown(&mut client, global, false).map(|()| Exit::Success);
        }
        // Both move with a handover. What happens is seen at once, and the rest every second.
        let mut events = Client::connect(global)?;
        events.send(&json!({ "request": "events", "follow": true }))?;
        loop {
            shown(&mut client, global, true)?;
            events.anything(Duration::from_secs(1))?;
        }
    }
}

fn shown(client: &mut Client, global: &Global, again: bool) -> Result<(), Failure> {
    let style = Style::of_stdout();
    let answer: Value = client.ask(&json!({ "request": "status" }))?;
    if global.json {
        return screen::print(&format!("{answer}\n"));
    }
    let path = client.path().display().to_string();
    let text = page(&understood(answer)?, &path, style, style.width());
    // Drawn over, line by line, so that nothing flickers.
    screen::print(&match style.live && again {
        true => format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")),
        false => text,
    })
}

fn understood(answer: Value) -> Result<Status, Failure> {
    serde_json::from_value(answer).map_err(Failure::unavailable)
}

/// Everything at a glance.
fn page(status: &Status, path: &str, style: Style, width: usize) -> String {
    let now = status.now_us;
    let wide = width >= 100;
    let mut titles = vec!["gen", ">pid", "phase", ">for", "version"];
    if wide {
        titles.push("library");
    }
    titles.extend([">open", ">accepted", "oldest", "ends"]);
    let rows: Vec<_> = status
        .generations
        .iter()
        .enumerate()
        .map(|(depth, generation)| row(generation, depth, now, wide))
        .collect();
    let mut lines = table(&titles, &rows);
    for (line, generation) in lines.iter_mut().skip(1).zip(&status.generations) {
        *line = coloured(&shortened(line, width), &generation.phase, style);
    }
    lines[0] = style.dim(&shortened(&lines[0], width));
    lines.push(String::new());
    for generation in &status.generations {
        lines.extend(waits(generation, width));
    }
    if let Some(serving) = status
        .generations
        .iter()
        .find(|one| !one.endpoints.is_empty())
    {
        for endpoint in &serving.endpoints {
            let open = endpoint.open.map(|open| format!(", {open} open"));
            let open = open.unwrap_or_default();
            lines.push(shortened(
                &format!("endpoint  {}{open}", endpoint.endpoint),
                width,
            ));
        }
    }
    lines.push(shortened(&format!("control   {path}"), width));
    if let Some(handover) = &status.handover {
        lines.push(format!("handover  {}", told(handover, now)));
    }
    if let Some(handover) = &status.last_handover {
        lines.push(format!("last      {}", told(handover, now)));
        if let Some(failure) = &handover.failure {
            let error = wrap(&failure.error, width.saturating_sub(10).max(40));
            lines.extend(
                error
                    .iter()
                    .map(|part| style.red(&format!("          {part}"))),
            );
        }
    }
    lines.join("\n") + "\n"
}

fn row(generation: &Generation, depth: usize, now: u64, wide: bool) -> Vec<String> {
    let known = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
    let starts = !generation.answers && generation.killed_us.is_none();
    // What a successor that starts has, it has not told yet.
    let told = |text: Option<String>| {
        if starts {
            text.unwrap_or_default()
        } else {
            known(text)
        }
    };
    let branch = match depth {
        0 => String::new(),
        depth => format!("{}└", " ".repeat(depth - 1)),
    };
    let connections = generation.connections.as_ref();
    let ends = match (generation.deadline_us, generation.killed_us) {
        (Some(deadline), _) if deadline <= now => "now".to_owned(),
        (Some(deadline), _) => format!("in {}", between(now, deadline)),
        (None, Some(killed)) => format!("in {}", between(now, killed)),
        (None, None) => String::new(),
    };
    let mut row = vec![
        format!("{branch}{}", generation.generation),
        generation.pid.to_string(),
        generation.phase.clone(),
        generation
            .since_us
            .map_or_else(|| told(None), |at| between(at, now)),
        match generation.answers {
            true => generation.version.clone().unwrap_or_else(|| "–".to_owned()),
            false => told(None),
        },
    ];
    if wide {
        row.push(told(generation.library.clone()));
    }
    row.extend([
        told(connections.map(|all| all.open.to_string())),
        told(connections.map(|all| all.accepted.to_string())),
        connections
            .and_then(|all| all.oldest.first())
            .map(|oldest| compact(Duration::from_millis(oldest.age_ms)))
            .unwrap_or_default(),
        ends,
    ]);
    row
}

fn between(from_us: u64, to_us: u64) -> String {
    compact(Duration::from_micros(to_us.saturating_sub(from_us)))
}

/// What keeps a generation from its end, by name.
fn waits(generation: &Generation, width: usize) -> Vec<String> {
    let Some(waits) = &generation.waits_for else {
        return Vec::new();
    };
    let mut reasons = Vec::new();
    if waits.connections > 0 {
        reasons.push(count(waits.connections, "connection"));
    }
    if !waits.tasks.is_empty() {
        let tasks = grouped(&waits.tasks).join(", ");
        reasons.push(format!(
            "{} ({tasks})",
            count(waits.tasks.len() as u64, "task")
        ));
    }
    if waits.hooks {
        reasons.push("on_drain".to_owned());
    }
    if waits.main {
        reasons.push("main".to_owned());
    }
    let reasons = match reasons.is_empty() {
        true => "nothing any more".to_owned(),
        false => reasons.join(", "),
    };
    let number = generation.generation;
    let mut lines = vec![shortened(
        &format!("generation {number} waits for {reasons}"),
        width,
    )];
    let oldest = generation.connections.iter().flat_map(|all| &all.oldest);
    lines.extend(oldest.map(|one| shortened(&connection(one), width)));
    lines.push(String::new());
    lines
}

/// Each name once, in order, with how often it is there.
fn grouped(names: &[String]) -> Vec<String> {
    let mut groups: Vec<(&str, usize)> = Vec::new();
    for name in names {
        match groups.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += 1,
            None => groups.push((name, 1)),
        }
    }
    let text = |(name, count): (&str, usize)| match count {
        1 => name.to_owned(),
        count => format!("{name} ×{count}"),
    };
    groups.into_iter().map(text).collect()
}

fn connection(connection: &Connection) -> String {
    let age = length(Duration::from_millis(connection.age_ms));
    let named = |address: &str, otherwise: &str| match address {
        "" => otherwise.to_owned(),
        address => address.to_owned(),
    };
    let (peer, local) = (
        named(&connection.peer, "a local process"),
        named(&connection.local, "an unnamed socket"),
    );
    format!("  {age:>8}  {peer} → {local}")
}

/// A handover in one line.
pub(crate) fn told(handover: &Handover, now: u64) -> String {
    let from = handover.incumbent.generation;
    let to = handover
        .successor
        .map_or(from + 1, |successor| successor.generation);
    let ago = since(handover.began_us, now);
    let elapsed = handover.elapsed_us.map(Duration::from_micros).map(length);
    let elapsed = elapsed.unwrap_or_default();
    match handover.outcome.as_str() {
        "under_way" => format!("{from} → {to} under way for {ago}"),
        "done" => format!("{from} → {to} done in {elapsed}, {ago} ago"),
        "draining" => format!("{from} → {to} serves after {elapsed}, {ago} ago; {from} drains"),
        "failed" => {
            let stage = handover
                .failure
                .as_ref()
                .map(|failure| failure.stage.as_str());
            let stage = stage.unwrap_or("unknown");
            format!("{from} → {to} failed at stage {stage} after {elapsed}, {ago} ago")
        }
        "called_off" => format!("{from} → {to} called off after {elapsed}, {ago} ago"),
        "unknown" => {
            let serves = match handover.elapsed_us {
                Some(_) => format!("serves after {elapsed}, "),
                None => String::new(),
            };
            format!("{from} → {to} {serves}{ago} ago; {from} died on the way")
        }
        _ => format!("{from} → {to}, {ago} ago"),
    }
}

fn coloured(line: &str, phase: &str, style: Style) -> String {
    match phase {
        "serving" => style.green(line),
        "draining" | "lame_duck" => style.yellow(line),
        "aborting" => style.red(line),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        understood(json!({
            "now_us": 100_000_000_u64,
            "generations": [
                { "generation": 4, "pid": 4004, "phase": "initialising", "since_us": 98_800_000, "answers": false },
                {
                    "generation": 3, "pid": 3003, "phase": "serving", "since_us": 10_000_000, "answers": true,
                    "version": "1.4.0", "library": "0.1.0",
                    "endpoints": [{ "endpoint": "http=0.0.0.0:8080", "open": 12 }, { "endpoint": "udp:0.0.0.0:53", "open": null }],
                    "connections": { "open": 12, "accepted": 4711, "oldest": [{ "age_ms": 61_000, "peer": "10.0.0.7:5000", "local": "10.0.0.1:8080" }] },
                },
                {
                    "generation": 2, "pid": 2002, "phase": "draining", "since_us": 88_000_000, "answers": true,
                    "version": "1.3.9", "library": "0.1.0", "deadline_us": 118_000_000,
                    "connections": { "open": 1, "accepted": 900, "oldest": [{ "age_ms": 3_700_000, "peer": "10.0.0.9:4321", "local": "10.0.0.1:8080" }] },
                    "waits_for": { "connections": 1, "tasks": ["flush", "sync", "flush"], "hooks": true, "main": false },
                },
                { "generation": 1, "pid": 1001, "phase": "draining", "killed_us": 105_000_000, "answers": false },
            ],
            "handover": { "began_us": 98_800_000, "outcome": "under_way", "incumbent": { "generation": 3 } },
            "last_handover": {
                "began_us": 40_000_000, "outcome": "failed", "elapsed_us": 22_100, "incumbent": { "generation": 3 },
                "failure": { "stage": "init", "error": "the successor failed at stage `init`" },
            },
        }))
        .expect("a status")
    }

    #[test]
    fn a_page_reads_at_a_glance() {
        let expected = "\
GEN    PID  PHASE           FOR  VERSION  OPEN  ACCEPTED  OLDEST  ENDS
4     4004  initialising   1.2s
└3    3003  serving       1m30s  1.4.0      12      4711  1m01s
 └2   2002  draining        12s  1.3.9       1       900  1h01m   in 18s
  └1  1001  draining          ?  ?           ?         ?          in 5.0s

generation 2 waits for 1 connection, 3 tasks (flush ×2, sync), on_drain
    1h 01m  10.0.0.9:4321 → 10.0.0.1:8080

endpoint  http=0.0.0.0:8080, 12 open
endpoint  udp:0.0.0.0:53
control   /run/app.sock
handover  3 → 4 under way for 1.2 s
last      3 → 4 failed at stage init after 22.1 ms, 1m 00s ago
          the successor failed at stage `init`
";
        assert_eq!(
            page(&status(), "/run/app.sock", Style::plain(), 80),
            expected
        );
    }
}
