//! Every promise of the design, kept by real processes and real sockets.

mod initialisation_may_fail;
mod nothing_before_commit;
mod nothing_is_lost;
mod one_at_a_time;
mod outlives_either_process;
mod support;
