//! Finding endpoints by what they are bound to.
