//! `handover completions SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments::{Arguments, Global};
use crate::exit::{Exit, Failure};
use crate::screen;

/// Print the completions of a shell, to be sourced or installed
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, _: &Global) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(
            self.shell,
            &mut Arguments::command(),
            "handover",
            &mut script,
        );
        screen::print(&String::from_utf8_lossy(&script))?;
        Ok(Exit::Success)
    }
}
