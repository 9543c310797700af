//! The attribute macro of the `handover` crate.
