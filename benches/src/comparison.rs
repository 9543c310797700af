//! Several contenders, measured in turns.

use crate::{Bound, Claim, Interval, median};

/// What a measured number is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Unit {
    /// A time, measured in seconds.
    Seconds,
    /// A rate, measured in events per second.
    PerSecond,
}

/// What was seen of each contender, round by round.
#[derive(Debug)]
pub struct Rounds<T> {
    contenders: Vec<String>,
    /// One row for each round, in the order of `contenders`.
    rows: Vec<Vec<T>>,
}

/// One number of each contender, round by round.
#[derive(Debug)]
pub struct Comparison {
    title: String,
    unit: Unit,
    contenders: Vec<String>,
    rows: Vec<Vec<f64>>,
}

impl<T> Rounds<T> {
    /// Measures every contender once in each of `rounds` rounds, after one round that does not count.
    ///
    /// `measure` gets the contender's place in the list. What ran before leaves its mark (a processor that has slept, a
    /// cold cache), so that each contender follows every other one equally often: the order is a Williams design.
    ///
    /// # Errors
    ///
    /// The first error of `measure`.
    pub fn measure<E>(
        contenders: &[&str],
        rounds: usize,
        mut measure: impl FnMut(usize) -> Result<T, E>,
    ) -> Result<Self, E> {
        let count = contenders.len();
        let mut rows = Vec::new();
        for round in 0..=rounds {
            let mut row: Vec<(usize, T)> = order(count, round)
                .map(|contender| Ok((contender, measure(contender)?)))
                .collect::<Result<_, E>>()?;
            row.sort_by_key(|(contender, _)| *contender);
            if round > 0 {
                rows.push(row.into_iter().map(|(_, seen)| seen).collect());
            }
        }
        Ok(Self {
            contenders: contenders.iter().map(|&name| name.to_owned()).collect(),
            rows,
        })
    }

    /// Compares one number of what was seen.
    #[must_use]
    pub fn compare(&self, title: &str, unit: Unit, number: impl Fn(&T) -> f64) -> Comparison {
        Comparison {
            title: title.to_owned(),
            unit,
            contenders: self.contenders.clone(),
            rows: self
                .rows
                .iter()
                .map(|row| row.iter().map(&number).collect())
                .collect(),
        }
    }
}

/// The order of a round: 0, 1, the last, 2, the last but one … from another start in each of `count` rounds, and for
/// an odd count, which takes twice as many rounds to be balanced, the other way about in the next ones.
fn order(count: usize, round: usize) -> impl Iterator<Item = usize> {
    let backwards = count % 2 == 1 && (round / count) % 2 == 1;
    (0..count).map(move |turn| {
        let turn = if backwards { count - 1 - turn } else { turn };
        let offset = if turn % 2 == 1 {
            turn.div_ceil(2)
        } else {
            count - turn / 2
        };
        (round + offset) % count
    })
}

impl Comparison {
    /// The median of one contender's measurements.
    ///
    /// # Panics
    ///
    /// If it is no contender, or nothing was measured.
    #[must_use]
    pub fn median(&self, contender: &str) -> f64 {
        let column: Vec<f64> = self.column(contender).collect();
        median(&column)
    }

    /// Claims that `ours` divided by `theirs` lies within `bound`; without one the ratio is only reported.
    ///
    /// # Panics
    ///
    /// If either is no contender, or nothing was measured.
    #[must_use]
    pub fn claim(&self, ours: &str, theirs: &str, bound: Option<Bound>) -> Claim {
        let ratios: Vec<f64> = self
            .column(ours)
            .zip(self.column(theirs))
            .map(|(ours, theirs)| ours / theirs)
            .collect();
        Claim {
            name: format!("{}: {ours} / {theirs}", self.title),
            ratio: Interval::of_median(&ratios),
            pairs: ratios.len(),
            bound,
        }
    }

    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    pub(crate) fn unit(&self) -> Unit {
        self.unit
    }

    /// Each contender with all that was measured of it.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (&str, Vec<f64>)> {
        self.contenders
            .iter()
            .map(|name| (name.as_str(), self.column(name).collect()))
    }

    fn column(&self, contender: &str) -> impl Iterator<Item = f64> {
        let at = self
            .contenders
            .iter()
            .position(|name| name == contender)
            .unwrap_or_else(|| panic!("`{contender}` is no contender of `{}`", self.title));
        self.rows.iter().map(move |row| row[at])
    }
}

impl Unit {
    /// Prints `value` with three digits and a unit of a fitting size.
    pub(crate) fn print(self, value: f64) -> String {
        let (scaled, name) = match self {
            Self::Seconds if value >= 1.0 => (value, "s"),
            Self::Seconds if value >= 1e-3 => (value * 1e3, "ms"),
            Self::Seconds if value >= 1e-6 => (value * 1e6, "µs"),
            Self::Seconds => (value * 1e9, "ns"),
            Self::PerSecond if value >= 1e3 => (value / 1e3, "k/s"),
            Self::PerSecond => (value, "/s"),
        };
        let digits = if scaled >= 100.0 {
            0
        } else if scaled >= 10.0 {
            1
        } else {
            2
        };
        format!("{scaled:.digits$} {name}")
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn measured(contenders: &[&str], mut measure: impl FnMut(usize) -> f64) -> Comparison {
        let Ok(rounds) = Rounds::measure(contenders, 30, |contender| {
            Ok::<_, Infallible>(measure(contender))
        });
        rounds.compare("test", Unit::Seconds, |number| *number)
    }

    #[test]
    fn every_contender_follows_every_other_one_equally_often() {
        for count in 2..=5 {
            // A balanced square, or two of them.
            let rounds = if count % 2 == 0 { count } else { 2 * count };
            let mut followed = vec![vec![0; count]; count];
            for round in 0..rounds {
                let order: Vec<usize> = order(count, round).collect();
                for pair in order.windows(2) {
                    followed[pair[0]][pair[1]] += 1;
                }
            }
            for (first, row) in followed.iter().enumerate() {
                for (second, &times) in row.iter().enumerate() {
                    let expected = if first == second { 0 } else { rounds / count };
                    assert_eq!(times, expected, "{second} after {first} of {count}");
                }
            }
        }
    }

    #[test]
    fn every_round_has_every_contender() {
        let Ok(rounds) = Rounds::measure(&["a", "b", "c"], 3, |contender| {
            Ok::<_, Infallible>(contender)
        });
        assert_eq!(
            rounds.rows,
            vec![[0, 1, 2]; 3],
            "the first round does not count"
        );
    }

    #[test]
    fn an_error_ends_the_rounds() {
        let ended = Rounds::measure(&["a", "b"], 3, |contender| {
            if contender == 1 { Err("no") } else { Ok(0.0) }
        });
        assert_eq!(ended.map(|_| ()), Err("no"));
    }

    #[test]
    fn pairs_are_of_one_round() {
        let mut weather = 1.0;
        // Everything becomes slower, by far more than the two differ.
        let comparison = measured(&["ours", "theirs"], |contender| {
            weather += 1.0;
            if contender == 0 {
                weather * 3.0
            } else {
                weather * 2.0
            }
        });
        let claim = comparison.claim("ours", "theirs", Some(Bound::AtMost(1.7)));
        assert_eq!(claim.pairs, 30);
        assert!((claim.ratio.median - 1.5).abs() < 0.05, "{}", claim.ratio);
    }

    #[test]
    #[should_panic(expected = "`nobody` is no contender of `test`")]
    fn a_contender_that_does_not_exist_is_named() {
        let _claim = measured(&["somebody"], |_| 1.0).claim("nobody", "somebody", None);
    }

    #[test]
    fn numbers_are_printed_with_three_digits() {
        assert_eq!(Unit::Seconds.print(0.5e-6), "500 ns");
        assert_eq!(Unit::Seconds.print(1.234e-6), "1.23 µs");
        assert_eq!(Unit::Seconds.print(0.0123), "12.3 ms");
        assert_eq!(Unit::Seconds.print(2.0), "2.00 s");
        assert_eq!(Unit::PerSecond.print(54_321.0), "54.3 k/s");
    }
}
