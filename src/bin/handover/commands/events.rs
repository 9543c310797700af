//! `handover events`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::client::{Client, Said, refusal};
use crate::exit::{Exit, Failure};
use crate::screen::{self, Style};

/// Show what has happened, and with --follow whatever happens
#[derive(Args, Debug)]
pub(crate) struct Events {
    /// Go on, through handovers too, until interrupted or until the service has ended
    #[arg(long, short)]
    follow: bool,
}

impl Events {
    pub(crate) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        let mut client = Client::connect(global)?;
        client.send(&json!({ "request": "events", "follow": self.follow }))?;
        let style = Style::of_stdout();
        let (boot, mut any) = (boot(), false);
        loop {
            let said = match client.next() {
                // A service that has ended has nothing more to say.
                Err(_) if self.follow && any => return Ok(Exit::Success),
                said => said?,
            };
            match said {
                Said::Event(event) if global.json => screen::print(&format!("{event}\n"))?,
                Said::Event(event) => screen::print(&line(&event, boot, style))?,
                Said::Missed(count) if global.json => {
                    screen::print(&format!("{}\n", json!({ "missed": count })))?;
                }
                Said::Missed(count) => screen::print(&format!("({count} events were missed)\n"))?,
                Said::Answer(_) => return Ok(Exit::Success),
                Said::Error(error) => return Err(refusal(&error)),
            }
            any = true;
        }
    }
}

fn line(event: &Value, boot: Duration, style: Style) -> String {
    let at = boot + Duration::from_micros(event["at_us"].as_u64().unwrap_or(0));
    let (seconds, millis) = (at.as_secs() % 86_400, at.subsec_millis());
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let name = event["event"].as_str().unwrap_or("?");
    let shown = match name {
        "handover_failed" | "aborting" => style.red(name),
        "serving" | "committed" => style.green(name),
        _ => style.bold(name),
    };
    let details = event.as_object().into_iter().flatten();
    let details: Vec<_> = details
        .filter(|(name, value)| {
            let shown = ["at_us", "event", "generation", "pid"].contains(&name.as_str());
            // Whole accounts, by which generations go on counting, are for programs.
            !(shown || value.is_null() || value.is_object())
        })
        .map(|(name, value)| format!("{}={value}", style.dim(name)))
        .collect();
    let padding = " ".repeat(18_usize.saturating_sub(name.len()));
    let (generation, pid) = (event["generation"].to_string(), event["pid"].to_string());
    let text = format!(
        "{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z  {generation:>3}  {pid:>7}  {shown}{padding}  {}",
        details.join(" ")
    );
    format!("{}\n", text.trim_end())
}

/// When the clock of the events began, as a time since 1970.
fn boot() -> Duration {
    let up = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().saturating_sub(up)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let event = json!({
            "at_us": 1_500_000, "generation": 2, "pid": 77, "event": "draining",
            "connections": 3, "tasks": ["a"], "error": null, "account": { "others": {} },
        });
        let boot = Duration::from_secs(86_400 + 3600);
        assert_eq!(
            line(&event, boot, Style::plain()),
            "01:00:01.500Z    2       77  draining            connections=3 tasks=[\"a\"]\n"
        );
    }
}
