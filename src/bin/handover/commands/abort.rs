//! `handover abort`.

use clap::Args;
use serde_json::{Value, json};

use crate::arguments::Global;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::screen::{self, Style};

/// Cut what is left in the generations that drain
#[derive(Args, Debug)]
pub(crate) struct Abort {
    /// Only this one
    #[arg(long, value_name = "NUMBER")]
    generation: Option<u32>,
}

impl Abort {
    pub(crate) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        let mut client = Client::connect(global)?;
        let request = json!({ "request": "abort", "generation": self.generation });
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
        screen::print(&text)?;
        Ok(Exit::Success)
    }
}
