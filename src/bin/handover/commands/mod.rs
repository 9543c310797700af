//! The commands: one file each, with its arguments and its `run`.

mod abort;
mod completions;
mod demo;
mod events;
mod man;
mod progress;
mod status;
mod stop;
mod timeline;
mod upgrade;
mod verify;

use clap::Subcommand;

use crate::arguments::Global;
use crate::exit::{Exit, Failure};

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Status(status::StatusOf),
    Upgrade(upgrade::Upgrade),
    Stop(stop::Stop),
    Abort(abort::Abort),
    Events(events::Events),
    Timeline(timeline::Timeline),
    Completions(completions::Completions),
    Demo(demo::Demo),
    Man(man::Man),
    Verify(verify::Verify),
}

impl Command {
    /// Does it.
    pub(crate) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        match self {
            Self::Status(command) => command.run(global),
            Self::Upgrade(command) => command.run(global),
            Self::Stop(command) => command.run(global),
            Self::Abort(command) => command.run(global),
            Self::Events(command) => command.run(global),
            Self::Timeline(command) => command.run(global),
            Self::Completions(command) => command.run(global),
            Self::Demo(command) => command.run(global),
            Self::Man(command) => command.run(global),
            Self::Verify(command) => command.run(global),
        }
    }
}
