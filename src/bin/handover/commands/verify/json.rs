//! The outcome as JSON; `docs/command.md` has its shape, which only grows.

use std::borrow::Cow;
use std::time::Duration;

use handover::testing::load::Times;
use handover::testing::verify::{Ending, Handover, Outcome, Row, Weight};
use serde_json::{Map, Value, json};

use super::report::median;

/// All of it.
pub(super) fn object(outcome: &Outcome, command: Vec<Cow<'_, str>>, allowed: u64) -> Value {
    let all = outcome.all();
    let switches = outcome.switches();
    json!({
        "command": command,
        "clean": outcome.is_clean(allowed),
        "requests": all.requests(),
        "failed": all.failed(),
        "allowed": allowed,
        "elapsed_ms": millis(outcome.elapsed),
        "ended_early": outcome.ended_early,
        "endpoints": outcome.grounds.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "trigger": outcome.trigger,
        "handovers": outcome.handovers.iter().map(handover).collect::<Vec<_>>(),
        "switch": switches.last().map(|longest| json!({
            "median_ms": millis(median(&switches)),
            "longest_ms": millis(*longest),
        })),
        "loads": outcome.rows.iter().map(load).collect::<Vec<_>>(),
        "failures": outcome.failures.iter().map(|(at, failure)| json!({
            "at_ms": millis(*at),
            "kind": failure.kind.to_string(),
            "cause": failure.cause.to_string(),
            "detail": failure.detail,
        })).collect::<Vec<_>>(),
        "before": weight(&outcome.before),
        "after": weight(&outcome.after),
        "left_over": outcome.left_over,
    })
}

fn handover(handover: &Handover) -> Value {
    let mut object = json!({ "number": handover.number, "at_ms": millis(handover.at) });
    let more = match &handover.ending {
        Ending::Switched { pid, took } => {
            json!({ "result": "switched", "pid": pid, "took_ms": millis(*took) })
        }
        Ending::Survived {
            victim,
            killed,
            pid,
            took,
        } => json!({
            "result": "survived",
            "victim": victim.to_string(),
            "killed_ms": millis(*killed),
            "pid": pid,
            "took_ms": millis(*took),
        }),
        Ending::Rejected { took } => json!({ "result": "rejected", "took_ms": millis(*took) }),
        Ending::Failed { why } => json!({ "result": "failed", "why": why }),
        _ => json!({ "result": "unknown" }),
    };
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

fn load(row: &Row) -> Value {
    let counts = &row.counts;
    let causes: Map<String, Value> = (counts.failed.iter())
        .map(|(cause, count)| (cause.to_string(), json!(count)))
        .collect();
    json!({
        "endpoint": row.endpoint,
        "protocol": row.protocol,
        "kind": row.kind.to_string(),
        "connections": counts.connections,
        "requests": counts.requests(),
        "answered": counts.answered,
        "failed": counts.failed(),
        "causes": causes,
        "refused": counts.refused,
        "cut": counts.cut,
        "closed_idle": counts.closed_idle,
        "closed_announced": counts.closed_announced,
        "migrated": counts.migrated,
        "outside": times(&counts.outside),
        "during": times(&counts.during),
    })
}

fn times(times: &Times) -> Value {
    json!({
        "answers": times.count(),
        "p50_ms": millis(times.percentile(0.5)),
        "p90_ms": millis(times.percentile(0.9)),
        "p99_ms": millis(times.percentile(0.99)),
        "longest_ms": millis(times.longest()),
        "gap_ms": millis(times.gap()),
    })
}

fn weight(weight: &Weight) -> Value {
    json!({
        "processes": weight.processes,
        "descriptors": weight.descriptors,
        "pss_bytes": weight.proportional,
        "rss_bytes": weight.resident,
    })
}

/// Milliseconds, to the microsecond.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}
