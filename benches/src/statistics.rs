//! Medians, and how far they can be trusted.

use std::fmt;

/// A median with the interval that holds it with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The median of the sample.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Interval {
    /// Computes the percentile bootstrap of the median of `values`.
    ///
    /// The resampling draws from a generator with a fixed seed: the same sample gives the same interval.
    ///
    /// # Panics
    ///
    /// If there are no values.
    #[must_use]
    pub fn of_median(values: &[f64]) -> Self {
        Self::resampled(values, 10_000)
    }

    fn resampled(values: &[f64], resamples: usize) -> Self {
        let mut random = SplitMix64(0x9e37_79b9_7f4a_7c15);
        let mut resample = vec![0.0; values.len()];
        let mut medians: Vec<f64> = (0..resamples)
            .map(|_| {
                resample.fill_with(|| values[random.below(values.len())]);
                median_in_place(&mut resample)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        let at = |share: f64| medians[((resamples - 1) as f64 * share).round() as usize];
        Self {
            median: median(values),
            low: at(0.025),
            high: at(0.975),
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.3} ({:.3} to {:.3})",
            self.median, self.low, self.high
        )
    }
}

/// Returns the middle one of `values`, or the mean of the two in the middle.
///
/// # Panics
///
/// If there are no values.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    median_in_place(&mut values.to_vec())
}

fn median_in_place(values: &mut [f64]) -> f64 {
    assert!(!values.is_empty(), "nothing has no median");
    let middle = values.len() / 2;
    let is_even = values.len() % 2 == 0;
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if is_even {
        let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        f64::midpoint(lower, upper)
    } else {
        upper
    }
}

/// Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, 2014.
struct SplitMix64(u64);

impl SplitMix64 {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * limit as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[9.0, 1.0, 5.0, 2.0]), 3.5);
    }

    #[test]
    #[should_panic(expected = "nothing has no median")]
    fn nothing_has_no_median() {
        let _none = median(&[]);
    }

    #[test]
    fn equal_values_leave_no_doubt() {
        let interval = Interval::of_median(&[1.25; 30]);
        assert_eq!(
            (interval.low, interval.median, interval.high),
            (1.25, 1.25, 1.25)
        );
    }

    #[test]
    fn the_interval_holds_the_median_and_narrows_with_more_pairs() {
        let spread = |pairs: u32| {
            let values: Vec<f64> = (0..pairs)
                .map(|at| f64::from(at * 7919 % pairs) / f64::from(pairs))
                .collect();
            let interval = Interval::of_median(&values);
            assert!(
                interval.low < interval.median && interval.median < interval.high,
                "{interval}"
            );
            interval.high - interval.low
        };
        assert!(spread(300) < spread(30) / 2.0);
    }

    /// Of 200 samples of 31 draws, about 95 % have an interval that holds the true median.
    #[test]
    fn the_interval_covers_the_true_median() {
        let mut random = SplitMix64(1);
        let covered = (0..200)
            .filter(|_| {
                let sample: Vec<f64> = (0..31).map(|_| random.below(1_000_001) as f64).collect();
                let interval = Interval::resampled(&sample, 500);
                interval.low <= 500_000.0 && 500_000.0 <= interval.high
            })
            .count();
        assert!((180..=199).contains(&covered), "covered {covered} of 200");
    }
}
