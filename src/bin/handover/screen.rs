//! What a terminal can show, and what a pipe gets.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

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

    /// Of nobody who sees it.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self {
            colour: false,
            live: false,
        }
    }

    /// How many columns there are; 80 where nobody knows.
    pub(crate) fn width(self) -> usize {
        if !self.live {
            return 80;
        }
        match rustix::termios::tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
            _ => 80,
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

    pub(crate) fn yellow(self, text: &str) -> String {
        self.styled("33", text)
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

/// A time as people compare them, always with the same number of letters behind the point.
pub(crate) fn duration(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1000.0),
        seconds => format!("{seconds:.2} s "),
    }
}

/// A number with a comma before every three digits.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Breaks a text at spaces, and at its own ends of lines, into lines of at most `width` characters.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<&str> {
    let mut lines = Vec::new();
    for text in text.lines() {
        let (mut start, mut space) = (0, None);
        for (at, character) in text.char_indices() {
            if character == ' ' && !text[start..at].trim().is_empty() {
                space = Some(at);
            }
            if text[start..at].chars().count() >= width {
                if let Some(end) = space.take() {
                    lines.push(&text[start..end]);
                    start = end + 1;
                }
            }
        }
        lines.push(&text[start..]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_for_people() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(thousands),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(duration(Duration::from_micros(1_250)), "1.2 ms");
        assert_eq!(duration(Duration::from_millis(1_250)), "1.25 s ");
    }

    #[test]
    fn lines_are_broken_at_spaces() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("one\n  two", 8), ["one", "  two"]);
        assert_eq!(wrap("indivisible", 3), ["indivisible"]);
    }
}
