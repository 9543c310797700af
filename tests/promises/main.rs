//! Every promise of the design, kept by real processes and real sockets.

mod initialisation_may_fail;
mod support;
