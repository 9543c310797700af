//! The harness of the benches: claims as ratios of what was measured side by side, in the same run.
//!
//! Absolute times differ between machines and between minutes; a ratio of two neighbours in time hardly does. So
//! each claim is the median of the ratios of at least 30 interleaved pairs, with the 95 % bootstrap interval of
//! that median, and a bench fails only if the whole interval lies beyond the bound.

mod chosen;
mod claim;
mod clock;
mod comparison;
mod load;
mod peer;
mod program;
mod report;
mod statistics;

pub use chosen::is_chosen;
pub use claim::{Bound, Claim, Verdict};
pub use clock::now;
pub use comparison::{Comparison, Rounds, Unit};
pub use load::{Load, compare_servers};
pub use peer::{address, build_peer};
pub use program::{Program, install};
pub use report::Report;
pub use statistics::{Interval, median};
