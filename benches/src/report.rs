//! What a bench prints, and its exit code.

use std::process::ExitCode;

use crate::{Claim, Comparison, Verdict, comparison::Unit, median};

/// Comparisons and claims, printed as Markdown tables.
#[derive(Debug, Default)]
#[must_use = "a report that does not finish claims nothing"]
pub struct Report {
    claims: Vec<Claim>,
}

impl Report {
    /// Makes an empty report.
    pub fn new() -> Self {
        Self::default()
    }

    /// Prints what was measured.
    pub fn measured(&mut self, comparison: &Comparison) {
        println!(
            "\n| {} | median | least | most | rounds |\n|---|--:|--:|--:|--:|",
            comparison.title()
        );
        for (contender, values) in comparison.columns() {
            let print = |value: f64| Unit::print(comparison.unit(), value);
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            println!(
                "| {contender} | {} | {} | {} | {} |",
                print(median(&values)),
                print(least),
                print(most),
                values.len()
            );
        }
    }

    /// Adds a claim, to be judged at the end.
    pub fn claim(&mut self, claim: Claim) {
        self.claims.push(claim);
    }

    /// Prints the claims, and returns failure if one of them is broken.
    pub fn finish(self) -> ExitCode {
        println!("\n| ratio | median (95 % interval) | bound | pairs | |\n|---|--:|--:|--:|---|");
        for claim in &self.claims {
            println!(
                "| {} | {} | {} | {} | {} |",
                claim.name,
                claim.ratio,
                claim
                    .bound
                    .map_or_else(|| "–".to_owned(), |bound| bound.to_string()),
                claim.pairs,
                claim
                    .verdict()
                    .map_or_else(String::new, |verdict| verdict.to_string()),
            );
        }
        println!();
        if self.is_broken() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }

    fn is_broken(&self) -> bool {
        self.claims
            .iter()
            .any(|claim| claim.verdict() == Some(Verdict::Broken))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::{Bound, Rounds};

    #[test]
    fn one_broken_claim_fails_the_bench() {
        let measure = |contender| Ok::<_, Infallible>(if contender == 0 { 1.0 } else { 2.0 });
        let Ok(rounds) = Rounds::measure(&["small", "large"], 30, measure);
        let comparison = rounds.compare("size", Unit::Seconds, |seconds| *seconds);
        let mut report = Report::new();
        report.claim(comparison.claim("small", "large", Some(Bound::AtMost(0.5))));
        report.claim(comparison.claim("large", "small", None));
        assert!(!report.is_broken());
        report.claim(comparison.claim("large", "small", Some(Bound::AtMost(1.5))));
        assert!(report.is_broken());
    }
}
