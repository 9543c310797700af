//! A claim and whether it holds.

use std::fmt;

use crate::Interval;

/// Where a ratio may lie.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "there are two sides")]
pub enum Bound {
    /// Not above.
    AtMost(f64),
    /// Not below.
    AtLeast(f64),
}

/// What the pairs say of a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "an interval lies within, beyond or across"
)]
pub enum Verdict {
    /// The whole interval lies within the bound.
    Holds,
    /// The bound lies in the interval: more pairs, or a calmer machine, would tell.
    Open,
    /// The whole interval lies beyond the bound.
    Broken,
}

/// One ratio with its bound.
#[derive(Clone, Debug)]
pub struct Claim {
    /// What is divided by what.
    pub name: String,
    /// The median of the ratios of all pairs.
    pub ratio: Interval,
    /// How many pairs there were.
    pub pairs: usize,
    /// Where the ratio may lie. Without one, it is only reported.
    pub bound: Option<Bound>,
}

impl Claim {
    /// Judges the claim; `None` where nothing is claimed.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        let (within, beyond) = match self.bound? {
            Bound::AtMost(most) => (self.ratio.high <= most, self.ratio.low > most),
            Bound::AtLeast(least) => (self.ratio.low >= least, self.ratio.high < least),
        };
        Some(match (within, beyond) {
            (true, _) => Verdict::Holds,
            (_, true) => Verdict::Broken,
            _ => Verdict::Open,
        })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::AtLeast(least) => write!(f, "≥ {least}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Holds => "holds",
            Self::Open => "open",
            Self::Broken => "BROKEN",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_broken_only_if_the_whole_interval_lies_beyond() {
        use Bound::{AtLeast, AtMost};
        use Verdict::{Broken, Holds, Open};
        for (low, high, bound, verdict) in [
            (1.0, 1.4, AtMost(1.5), Holds),
            (1.4, 1.5, AtMost(1.5), Holds),
            (1.4, 1.6, AtMost(1.5), Open),
            (1.6, 1.7, AtMost(1.5), Broken),
            (0.99, 1.01, AtLeast(0.98), Holds),
            (0.97, 0.99, AtLeast(0.98), Open),
            (0.96, 0.97, AtLeast(0.98), Broken),
        ] {
            let median = f64::midpoint(low, high);
            let claim = Claim {
                name: String::new(),
                ratio: Interval { median, low, high },
                pairs: 30,
                bound: Some(bound),
            };
            assert_eq!(claim.verdict(), Some(verdict), "{low} to {high}, {bound}");
        }
    }
}
