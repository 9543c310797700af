//! A part of a bench, chosen on its command line.

use std::env;

/// Whether the comparison with this title is to be made: if the command line names one of its words, or none at all.
#[must_use]
pub fn is_chosen(title: &str) -> bool {
    let words: Vec<String> = env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let mut of_title = title.split([' ', ',']);
    words.is_empty() || of_title.any(|word| words.iter().any(|chosen| chosen == word))
}
