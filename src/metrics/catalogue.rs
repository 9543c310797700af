//! The metrics: names, units and what they mean.

use metrics::{Unit, describe_counter, describe_gauge};

pub(super) const GENERATION: &str = "handover_generation";
pub(super) const PHASE: &str = "handover_phase";
pub(super) const HANDOVERS: &str = "handover_handovers_total";
pub(super) const HANDOVER_DURATION: &str = "handover_handover_duration_seconds";
pub(super) const STAGE_DURATION: &str = "handover_handover_stage_duration_seconds";
pub(super) const DRAIN_DURATION: &str = "handover_drain_duration_seconds";
pub(super) const DRAINING_GENERATIONS: &str = "handover_draining_generations";
pub(super) const DRAINING_CONNECTIONS: &str = "handover_draining_connections";
pub(super) const OPEN: &str = "handover_connections_open";
pub(super) const ACCEPTED: &str = "handover_connections_accepted_total";
pub(super) const MIGRATED: &str = "handover_connections_migrated_total";
pub(super) const DRAINED: &str = "handover_connections_drained_total";
pub(super) const ABORTED: &str = "handover_connections_aborted_total";
pub(super) const ACCEPT_ERRORS: &str = "handover_accept_errors_total";

/// Tells the recorder what the metrics are. A recorder may be installed at any time, and whether one
/// was cannot be seen: so this is said again when something happens.
pub(super) fn describe() {
    for (name, unit, meaning) in GAUGES {
        describe_gauge!(*name, *unit, *meaning);
    }
    for (name, meaning) in COUNTERS {
        describe_counter!(*name, Unit::Count, *meaning);
    }
}

const GAUGES: &[(&str, Unit, &str)] = &[
    (
        GENERATION,
        Unit::Count,
        "The number of the generation that answers, along the chain of handovers.",
    ),
    (
        PHASE,
        Unit::Count,
        "1 for the phase that the generation is in, 0 for the others.",
    ),
    (
        HANDOVER_DURATION,
        Unit::Seconds,
        "How long the last handover with this result took, from its trigger.",
    ),
    (
        STAGE_DURATION,
        Unit::Seconds,
        "Where the time went of the handover that this generation came by.",
    ),
    (
        DRAIN_DURATION,
        Unit::Seconds,
        "How long the generation that ended last has drained.",
    ),
    (
        DRAINING_GENERATIONS,
        Unit::Count,
        "How many earlier generations still drain.",
    ),
    (
        DRAINING_CONNECTIONS,
        Unit::Count,
        "How many connections earlier generations still have.",
    ),
    (OPEN, Unit::Count, "How many connections are open."),
];

const COUNTERS: &[(&str, &str)] = &[
    (HANDOVERS, "Handovers by their result."),
    (
        ACCEPTED,
        "Connections accepted from the queue of the kernel.",
    ),
    (
        MIGRATED,
        "Connections that have moved from one generation to the next, as each of the two counts them.",
    ),
    (
        DRAINED,
        "Connections that ended by themselves while their generation drained.",
    ),
    (ABORTED, "Connections that were cut at the end of a drain."),
    (ACCEPT_ERRORS, "Failures to accept a connection."),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// <https://prometheus.io/docs/practices/naming/>
    #[test]
    fn names_tell_the_unit() {
        for (name, ..) in COUNTERS {
            assert!(name.starts_with("handover_") && name.ends_with("_total"));
        }
        for (name, unit, _) in GAUGES {
            assert!(name.starts_with("handover_") && !name.ends_with("_total"));
            assert_eq!(name.ends_with("_seconds"), *unit == Unit::Seconds, "{name}");
        }
    }

    #[test]
    fn every_metric_is_documented() {
        let document = include_str!("../../docs/metrics.md");
        let names = GAUGES.iter().map(|(name, ..)| name);
        for name in names.chain(COUNTERS.iter().map(|(name, _)| name)) {
            assert!(document.contains(&format!("| `{name}` |")), "{name}");
        }
    }
}
