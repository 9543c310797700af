//! The operator's command.
//!
//! It speaks the control protocol and uses what the library shows to everybody; it knows nothing of
//! its internals.
//!
//! | file | job |
//! |---|---|
//! | `arguments` | what all commands have in common on the command line |
//! | `commands/` | the commands, one file each |
//! | `exit` | the exit codes, and why a command failed |
//! | `screen` | what a terminal can show, and what a pipe gets |

mod arguments;
mod commands;
mod exit;
mod screen;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use arguments::Arguments;
use exit::Exit;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is left to be told that the terminal has gone.
            error.print().ok();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Success.into(),
                _ => Exit::Usage.into(),
            };
        }
    };
    match arguments.command.run(&arguments.global) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            screen::complain(&failure, arguments.global.json);
            failure.exit.into()
        }
    }
}
