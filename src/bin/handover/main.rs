//! The operator's command.
//!
//! It speaks the control protocol and uses what the library shows to everybody; it knows nothing of
//! its internals.
//!
//! | file | job |
//! |---|---|
//! | `arguments` | what all commands have in common on the command line |
//! | `client` | the control protocol, as a client speaks it |
//! | `commands/` | the commands, one file each |
//! | `exit` | the exit codes, and why a command failed |
//! | `find` | finds the control sockets of this machine |
//! | `model` | what a service tells of itself |
//! | `screen` | what a terminal can show, and what a pipe gets |
//! | `text` | numbers, times and tables as a person reads them |

mod arguments;
mod client;
mod commands;
mod exit;
mod find;
mod model;
mod screen;
mod text;

use std::env;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use arguments::Arguments;
use exit::{Exit, Failure};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error).into(),
    };
    match arguments.command.run(&arguments.global) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            screen::complain(&failure, arguments.global.json);
            failure.exit.into()
        }
    }
}

/// Shows the help that was asked for, or tells in one line what is wrong with the command line.
fn refuse(error: &clap::Error) -> Exit {
    let exit = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Success,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Exit::Usage,
        _ => {
            let text = error.render().to_string();
            let lines = text
                .lines()
                .map(str::trim)
                .take_while(|line| !line.is_empty());
            let line = lines.collect::<Vec<_>>().join(" ");
            let line = line.strip_prefix("error: ").unwrap_or(&line);
            let failure = Failure::new(Exit::Usage, format_args!("{line}; see `handover --help`"));
            screen::complain(
                &failure,
                env::args_os().any(|argument| argument == "--json"),
            );
            return Exit::Usage;
        }
    };
    // Nobody is left to be told that the terminal has gone.
    error.print().ok();
    exit
}
