//! Every promise of the design, kept by real processes and real sockets.

mod activation_stays;
mod any_server;
mod calls_drain;
mod client;
mod connections_move;
mod datagrams_survive;
mod environment_is_kept;
mod exclusive_things;
mod goodbyes_are_said;
#[path = "../../examples/tonic/greeter.rs"]
mod greeter;
mod initialisation_may_fail;
mod limits_of_resources;
mod logs_tell;
mod metrics_tell;
mod neighbours_may_lie;
mod no_old_code_stays;
mod nothing_before_commit;
mod nothing_is_lost;
mod nothing_leaks;
mod one_at_a_time;
mod outlives_either_process;
mod outside_clients;
mod outsider;
mod pool_load;
mod ports_and_paths_stay;
mod servers_drain;
mod stops;
mod support;
mod systemd_is_told;
mod tally;
mod terminals;
mod tls_drains;
mod versions_understand_each_other;
