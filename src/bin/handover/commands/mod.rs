//! The commands: one file each, with its arguments and its `run`.

mod completions;
mod demo;
mod man;
mod verify;

use clap::Subcommand;

use crate::arguments::Global;
use crate::exit::{Exit, Failure};

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Completions(completions::Completions),
    Demo(demo::Demo),
    Man(man::Man),
    Verify(verify::Verify),
}

impl Command {
    /// Does it.
    pub(crate) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        match self {
            Self::Completions(command) => command.run(global),
            Self::Demo(command) => command.run(global),
            Self::Man(command) => command.run(global),
            Self::Verify(command) => command.run(global),
        }
    }
}
