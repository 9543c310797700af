//! Which version two generations speak, and what both can do.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Whether `Sockets` records may follow once the offer is complete, for endpoints bound during the handover.
pub(crate) const LATE_SOCKETS: &str = "late_sockets";

/// A range of versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Versions {
    /// The oldest.
    pub(crate) min: u32,
    /// The newest.
    pub(crate) max: u32,
}

/// Two generations have no version in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no common protocol version: the incumbent speaks {theirs}, this program speaks {ours}")]
pub(crate) struct Disagreement {
    /// What the other side speaks.
    pub(crate) theirs: Versions,
    /// What this build speaks.
    pub(crate) ours: Versions,
}

/// What a generation can do beyond the version that it speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Capabilities(Vec<String>);

impl Versions {
    /// What this build speaks.
    pub(crate) const OURS: Self = if cfg!(handover_protocol = "older") {
        Self { min: 0, max: 1 }
    } else if cfg!(handover_protocol = "newer") {
        Self { min: 1, max: 2 }
    } else if cfg!(handover_protocol = "alien") {
        Self {
            min: 1000,
            max: 1000,
        }
    } else {
        Self { min: 1, max: 1 }
    };

    /// Returns the highest version that is in both ranges.
    pub(crate) fn negotiate(self, theirs: Self) -> Result<u32, Disagreement> {
        let highest = self.max.min(theirs.max);
        if highest < self.min.max(theirs.min) {
            return Err(Disagreement { theirs, ours: self });
        }
        Ok(highest)
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { min, max } = self;
        if min == max {
            write!(f, "{min}")
        } else {
            write!(f, "{min} to {max}")
        }
    }
}

impl Capabilities {
    /// What this build can do.
    pub(crate) fn ours() -> Self {
        let known: &[&str] = if cfg!(handover_protocol = "older") {
            &[]
        } else if cfg!(handover_protocol = "newer") {
            &[LATE_SOCKETS, "novelty"]
        } else {
            &[LATE_SOCKETS]
        };
        Self(known.iter().map(ToString::to_string).collect())
    }

    /// Returns what is in both.
    pub(crate) fn intersect(&self, theirs: &Self) -> Self {
        Self(
            self.0
                .iter()
                .filter(|name| theirs.0.contains(name))
                .cloned()
                .collect(),
        )
    }

    /// Returns whether `name` is among them.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|known| known == name)
    }
}
