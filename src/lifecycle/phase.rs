//! The phases of one generation.

use std::fmt;

/// Where a generation is in its life. It only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// It initialises; its gates are closed.
    Initialising,
    /// It has said that it is ready and waits for the commit.
    Ready,
    /// It serves.
    Serving,
    /// It takes nothing new and finishes what it has.
    Draining,
    /// The deadline has passed, or its drain was aborted: it ends what is left.
    Aborting,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Initialising => "initialising",
            Self::Ready => "ready",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Aborting => "aborting",
        })
    }
}
