//! Every mistake has an error that says what is wrong, where, and what would be right.
//!
//! One file per mistake in `tests/ui`. The expected output is that of Rust 1.95; after a change,
//! `TRYBUILD=overwrite cargo test -p handover-macros --test ui` writes it anew.

#[test]
fn mistakes_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
