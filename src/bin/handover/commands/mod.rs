//! The commands: one file each, with its arguments and its `run`.

mod completions;
mod man;

use clap::Subcommand;

use crate::arguments::Global;
use crate::exit::{Exit, Failure};

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Completions(completions::Completions),
    Man(man::Man),
}

impl Command {
    /// Does it.
    pub(crate) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        match self {
            Self::Completions(command) => command.run(global),
            Self::Man(command) => command.run(global),
        }
    }
}
