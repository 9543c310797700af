//! How long answers took.

use std::time::Duration;

/// Times of answers: the longest of them, the longest gap between them, and percentiles to within 3 %.
#[derive(Clone, Debug, Default)]
pub struct Times {
    longest: Duration,
    gap: Duration,
    count: u64,
    /// Answers by their time in microseconds: exact below 64, then 32 steps to each power of two.
    steps: Vec<u64>,
}

impl Times {
    /// How many answers there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest time from the start of a request to the end of its answer.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// The longest time between two answers, to whatever clients.
    pub fn gap(&self) -> Duration {
        self.gap
    }

    /// The time within which this share of the answers came, such as 0.99; zero without answers.
    pub fn percentile(&self, share: f64) -> Duration {
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (step, count) in self.steps.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(end_of(step)).min(self.longest);
            }
        }
        self.longest
    }

    pub(super) fn answer(&mut self, took: Duration, gap: Duration) {
        self.longest = self.longest.max(took);
        self.gap = self.gap.max(gap);
        self.count += 1;
        let step = step_of(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if self.steps.len() <= step {
            self.steps.resize(step + 1, 0);
        }
        self.steps[step] += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.longest = self.longest.max(other.longest);
        self.gap = self.gap.max(other.gap);
        self.count += other.count;
        if self.steps.len() < other.steps.len() {
            self.steps.resize(other.steps.len(), 0);
        }
        for (own, other) in self.steps.iter_mut().zip(&other.steps) {
            *own += other;
        }
    }
}

fn step_of(micros: u64) -> usize {
    if micros < EXACT {
        return micros as usize;
    }
    let power = micros.ilog2();
    let within = (micros >> (power - 5)) & (STEPS - 1);
    (EXACT + u64::from(power - 6) * STEPS + within) as usize
}

/// The longest time of a step.
fn end_of(step: usize) -> u64 {
    let step = step as u64;
    if step < EXACT {
        return step;
    }
    let power = (step - EXACT) / STEPS + 6;
    let within = (step - EXACT) % STEPS;
    // The last steps end beyond what fits.
    u128::min(
        ((1_u128 << power) + (u128::from(within + 1) << (power - 5))) - 1,
        u128::from(u64::MAX),
    ) as u64
}

const EXACT: u64 = 64;
const STEPS: u64 = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_step_ends_close_above_what_is_in_it(micros: u64) {
            let end = end_of(step_of(micros));
            prop_assert!(end >= micros);
            prop_assert!((end - micros) as f64 <= micros as f64 / 31.0);
            prop_assert_eq!(step_of(end), step_of(micros));
        }
    }

    #[test]
    fn percentiles_are_those_of_the_answers() {
        let mut times = Times::default();
        assert_eq!(times.percentile(0.5), Duration::ZERO);
        for millis in 1..=100 {
            times.answer(Duration::from_millis(millis), Duration::ZERO);
        }
        for (share, millis) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let found = times.percentile(share).as_secs_f64() * 1000.0;
            assert!(
                (millis..=millis * 1.04).contains(&found),
                "{share}: {found}"
            );
        }
        let mut twice = times.clone();
        twice.add(&times);
        assert_eq!(
            (twice.count(), twice.percentile(0.5)),
            (200, times.percentile(0.5))
        );
    }
}
