//! `handover man`.

use std::io;
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man as Page;

use crate::arguments::{Arguments, Global};
use crate::exit::{Exit, Failure};
use crate::screen;

/// Print the manual page of a command, or write those of all of them
#[derive(Args, Debug)]
pub(crate) struct Man {
    /// The command; without one, the page of `handover` itself
    command: Option<String>,
    /// Write the pages of all commands to this directory instead
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(&self, _: &Global) -> Result<Exit, Failure> {
        let mut tree = Arguments::command();
        if let Some(directory) = &self.dir {
            clap_mangen::generate_to(tree, directory).map_err(|error| {
                let directory = directory.display();
                Failure::unavailable(format_args!(
                    "could not write manual pages to `{directory}`: {error}"
                ))
            })?;
            return Ok(Exit::Success);
        }
        tree.build();
        let page = match &self.command {
            None => tree,
            Some(name) => subcommand(&tree, name)?,
        };
        let mut text = Vec::new();
        render(page, &mut text).map_err(Failure::unavailable)?;
        screen::print(&String::from_utf8_lossy(&text))?;
        Ok(Exit::Success)
    }
}

fn subcommand(tree: &Command, name: &str) -> Result<Command, Failure> {
    tree.find_subcommand(name).cloned().ok_or_else(|| {
        let names: Vec<&str> = tree.get_subcommands().map(Command::get_name).collect();
        let names = names.join(", ");
        Failure::new(
            Exit::Usage,
            format_args!("there is no command `{name}`, expected one of: {names}"),
        )
    })
}

fn render(page: Command, text: &mut Vec<u8>) -> io::Result<()> {
    Page::new(page).render(text)
}
