//! Which version two generations speak, and what both can do.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Whether `Sockets` records may follow once the offer is complete, for endpoints bound during the
/// handover.
pub(crate) const LATE_SOCKETS: &str = "late_sockets";

/// Whether established connections may move to the successor.
pub(crate) const MIGRATION: &str = "migration";

/// Whether clients of the control socket can be passed on, to the successor or to an older generation.
pub(crate) const CONTROL: &str = "control";

/// Whether generations tell each other what happens: the successor while it starts, the incumbent
/// once it drains.
pub(crate) const EVENTS: &str = "events";

/// Whether the lanes from older generations pass to the successor of the one that they led to.
pub(crate) const LANES: &str = "lanes";

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
            &[LATE_SOCKETS, MIGRATION, EVENTS, LANES, "novelty"]
        } else {
            &[LATE_SOCKETS, MIGRATION, EVENTS, LANES]
        };
        let control = cfg!(feature = "control") && !cfg!(handover_protocol = "older");
        let known = known.iter().chain(control.then_some(&CONTROL));
        Self(known.map(ToString::to_string).collect())
    }

    /// Takes one out.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|known| known != name);
        self
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_spoken() {
        for (ours, theirs, expected) in [
            ((1, 1), (1, 1), Some(1)),
            ((1, 3), (2, 9), Some(3)),
            ((2, 9), (1, 3), Some(3)),
            ((0, 5), (2, 3), Some(3)),
            ((1, 2), (3, 4), None),
            ((3, 4), (1, 2), None),
            // A range that is upside down has nothing in it.
            ((1, 9), (5, 4), None),
        ] {
            let range = |(min, max)| Versions { min, max };
            let found = range(ours).negotiate(range(theirs));
            assert_eq!(found.ok(), expected, "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn every_build_but_the_alien_has_a_version_in_common_with_this_one() {
        let this = Versions { min: 1, max: 1 };
        let common = Versions::OURS.negotiate(this);
        if cfg!(handover_protocol = "alien") {
            let error = common.unwrap_err().to_string();
            assert!(
                error.contains("1000") && error.contains("speaks 1"),
                "{error}"
            );
        } else {
            assert_eq!(common, Ok(1));
        }
    }

    #[test]
    fn a_missing_capability_is_negotiated_away() {
        let theirs = Capabilities(vec!["teleport".to_owned()]);
        assert_eq!(
            Capabilities::ours().intersect(&theirs),
            Capabilities::default()
        );
        assert!(!Capabilities::default().has(LATE_SOCKETS));
    }
}
