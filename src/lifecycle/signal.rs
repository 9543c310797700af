//! The signals that can be triggers.

use std::fmt;

use nix::sys::signal;

/// A signal that can trigger a handover or a stop (`signal(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// `SIGALRM`.
    Alarm,
    /// `SIGHUP`: a handover by default; a stop when it comes because the terminal has gone.
    Hangup,
    /// `SIGINT`: a stop by default.
    Interrupt,
    /// `SIGQUIT`.
    Quit,
    /// `SIGTERM`: a stop by default.
    Terminate,
    /// `SIGUSR1`.
    User1,
    /// `SIGUSR2`: a handover by default.
    User2,
    /// `SIGWINCH`.
    WindowChange,
}

impl Signal {
    pub(crate) fn to_nix(self) -> signal::Signal {
        match self {
            Self::Alarm => signal::Signal::SIGALRM,
            Self::Hangup => signal::Signal::SIGHUP,
            Self::Interrupt => signal::Signal::SIGINT,
            Self::Quit => signal::Signal::SIGQUIT,
            Self::Terminate => signal::Signal::SIGTERM,
            Self::User1 => signal::Signal::SIGUSR1,
            Self::User2 => signal::Signal::SIGUSR2,
            Self::WindowChange => signal::Signal::SIGWINCH,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_nix().as_str())
    }
}
