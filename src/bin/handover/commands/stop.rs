//! `handover stop`.

use clap::Args;
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::client::{Client, Said, refusal};
use crate::commands::progress::Progress;
use crate::exit::{Exit, Failure};
use crate::screen::{self, Style};

/// Stop the service, after a drain
#[derive(Args, Debug)]
pub(crate) struct Stop {
    /// Wait until the last process has ended
    #[arg(long)]
    wait: bool,
}

impl Stop {
    pub(crate) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        let mut client = Client::connect(global)?;
        client.send(&json!({ "request": "stop", "wait": self.wait }))?;
        let mut progress = Progress::new(!global.json);
        let answer = loop {
            match client.next()? {
                Said::Event(event) => progress.show(&event),
                Said::Missed(_) => {}
                Said::Answer(answer) => break answer,
                Said::Error(error) => return Err(refusal(&error)),
            }
        };
        if self.wait {
            client.closed();
        }
        progress.clear();
        let answer = Value::Object(answer);
        let text = match global.json {
            true => format!("{answer}\n"),
            false => told(&answer, Style::of_stdout()),
        };
        screen::print(&text)?;
        Ok(Exit::Success)
    }
}

fn told(answer: &Value, style: Style) -> String {
    let tick = style.green("✓");
    let who = &answer["generation"];
    let who = format!("generation {} (pid {})", who["generation"], who["pid"]);
    match (answer["stopped"].as_bool(), answer["cut"].as_bool()) {
        (Some(true), Some(true)) => format!("{tick} {who} has stopped, and cut what was left\n"),
        (Some(true), _) => format!("{tick} {who} has stopped\n"),
        _ => format!("{tick} {who} stops\n"),
    }
}
