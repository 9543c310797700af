//! `handover abort`.

use clap::Args;
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::screen::{self, Style};

/// Cut what is left in the generations that drain, or call off the upgrade that is under way
///
/// Without --upgrade it cuts the connections and tasks that the old processes still wait for. With it the new process is
/// ended before it serves, and the old one serves on as if nothing had happened; nothing is ever cut then.
#[derive(Args, Debug)]
pub(crate) struct Abort {
    /// Only this one
    #[arg(long, value_name = "NUMBER")]
    generation: Option<u32>,
    /// End the new process that does not serve yet
    #[arg(long, conflicts_with = "generation")]
    upgrade: bool,
}

impl Abort {
    pub(crate) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        let mut client = Client::connect(global)?;
        let request = match self.upgrade {
            true => json!({ "request": "abort", "upgrade": true }),
            false => json!({ "request": "abort", "generation": self.generation }),
        };
        let answer: Value = client.ask(&request)?;
        if global.json {
            screen::print(&format!("{answer}\n"))?;
            return Ok(Exit::Success);
        }
        let tick = Style::of_stdout().green("✓");
        let mut text = String::new();
        for one in answer["aborted"].as_array().into_iter().flatten() {
            text.push_str(&format!(
                "{tick} generation {} (pid {}) cuts what is left\n",
                one["generation"], one["pid"]
            ));
        }
        if self.upgrade {
            let name =
                |who: &Value| format!("generation {} (pid {})", who["generation"], who["pid"]);
            let ended = match &answer["called_off"] {
                Value::Null => "the new process".to_owned(),
                successor => name(successor),
            };
            let serves = name(&answer["incumbent"]);
            text = format!("{tick} called off: {ended} has ended, {serves} serves on\n");
        }
        screen::print(&text)?;
        Ok(Exit::Success)
    }
}
