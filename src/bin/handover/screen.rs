//! What a terminal can show, and what a pipe gets.

use std::env;
use std::io::{self, IsTerminal, Write};

use serde_json::json;

use crate::exit::{Exit, Failure};

/// How text is set off on standard output: not at all where nobody sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colour: bool,
    /// Whether a line can be drawn over.
    pub(crate) live: bool,
}

impl Style {
    /// What standard output can show.
    pub(crate) fn of_stdout() -> Self {
        let live =
            io::stdout().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            // https://no-color.org
            colour: live && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            live,
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.styled("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.styled("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.styled("31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.styled("32", text)
    }

    fn styled(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Prints to standard output.
///
/// # Errors
///
/// If it cannot be written; a reader who has seen enough (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            Exit::Unavailable,
            format_args!("could not write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

/// Tells why a command failed: on standard error, and with `--json` on standard output as well.
pub(crate) fn complain(failure: &Failure, as_json: bool) {
    if as_json {
        let object = json!({ "error": failure.to_string(), "exit": failure.exit as u8 });
        // Where nobody reads it, the exit code still tells.
        print(&format!("{object}\n")).ok();
    }
    // Nobody is left to be told that standard error has gone.
    writeln!(io::stderr(), "handover: {failure}").ok();
}
