//! The exit codes, and why a command failed.

use std::fmt;
use std::process::ExitCode;

/// What the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It was done, and the answer is yes.
    Success = 0,
    /// It was done, and the answer is no: requests were lost, a handover failed.
    Failed = 1,
    /// The command line was wrong.
    Usage = 2,
    /// It could not be done: no service, no socket, a program that does not start.
    Unavailable = 3,
    /// A signal ended the command.
    Interrupted = 130,
}

/// What the help says of them.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done, and the answer is yes
  1    done, and the answer is no: requests were lost, or a handover failed
  2    the command line was wrong
  3    could not be done: no service, no socket, a program that does not start
  130  interrupted";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed: one line that names what was wrong and what was expected.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
}

impl Failure {
    /// Could not be done.
    pub(crate) fn unavailable(message: impl fmt::Display) -> Self {
        Self::new(Exit::Unavailable, message)
    }

    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self {
            exit,
            message: message.to_string(),
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
