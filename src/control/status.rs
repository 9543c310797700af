//! What runs.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Map, Value, json};

use super::answer::fields;
use super::host::Host;
use super::older;
use super::timeline::{Outcome, Side, Timeline, timelines};
use crate::lifecycle::phase::Phase;
use crate::protocol::EVENTS;
use crate::run::Old;
use crate::sys::process;

/// All generations that are alive, and how the last handover went.
pub(super) async fn status(host: &Host) -> Map<String, Value> {
    let shared = &host.shared;
    let older = shared.older.borrow().clone();
    let mut generations = vec![own(host)];
    generations.extend(join_all(older.iter().rev().map(of_older)).await);
    let handovers = timelines(&shared.record.events());
    let last = handovers.last();
    if let Some(starting) = last.and_then(|last| starting(host, last)) {
        generations.insert(0, starting);
    }
    let ended = handovers
        .iter()
        .rfind(|handover| handover.outcome != Outcome::UnderWay);
    fields(json!({
        "now_us": micros(process::uptime()),
        "generations": generations,
        "handover": last.filter(|last| last.outcome == Outcome::UnderWay).map(summary),
        "last_handover": ended.map(summary),
    }))
}

/// Waits until this generation knows what its predecessor knew: whoever has seen a handover succeed
/// may ask before that one has told everything. One that tells nothing is not waited for.
pub(super) async fn informed(host: &Host) {
    let shared = &host.shared;
    let Some(predecessor) = &shared.predecessor else {
        return;
    };
    if shared.phase() < Phase::Serving || predecessor.exited.is_cancelled() {
        return;
    }
    let (known, mut events) = shared.record.watch();
    let pid = predecessor.pid;
    let informed = async {
        let mut older = shared.older.subscribe();
        let tells = match older
            .wait_for(|older| older.iter().any(|old| old.pid == pid))
            .await
        {
            Ok(older) => older
                .iter()
                .any(|old| old.pid == pid && old.capabilities.has(EVENTS)),
            Err(_) => false,
        };
        let mut told = !tells || known.iter().any(|event| event.pid == pid);
        while !told {
            told = events.recv().await.is_ok_and(|event| event.pid == pid);
        }
    };
    tokio::select! {
        () = informed => {}
        () = predecessor.exited.cancelled() => {}
        () = tokio::time::sleep(PATIENCE) => {}
    }
}

/// This generation.
pub(super) fn own(host: &Host) -> Value {
    let shared = &host.shared;
    let ending = shared.ending().clone();
    let tasks: Vec<_> = shared
        .tasks
        .names()
        .iter()
        .map(ToString::to_string)
        .collect();
    let connections = shared.tracker.open();
    let all = shared.tracker.counts();
    let (tallies, _) = shared.tracker.tallies();
    let tallies: HashMap<_, _> = tallies
        .into_iter()
        .map(|tally| (tally.endpoint, tally.counts))
        .collect();
    let endpoints: Vec<_> = shared
        .endpoint_keys()
        .into_iter()
        .map(|key| {
            // Datagrams have no connections that could be counted.
            let counts = tallies.get(key.as_str());
            json!({
                "endpoint": key,
                "open": counts.map(|counts| counts.open),
                "accepted": counts.map(|counts| counts.accepted),
            })
        })
        .collect();
    let phase = match shared.phase() {
        Phase::Serving if shared.tokens.stopping.is_cancelled() => "lame_duck".to_owned(),
        phase => phase.to_string(),
    };
    let oldest = shared.tracker.oldest_connections(OLDEST);
    let oldest: Vec<_> = oldest
        .into_iter()
        .map(|open| {
            json!({
                "age_ms": u64::try_from(open.age.as_millis()).unwrap_or(u64::MAX),
                "peer": open.peer,
                "local": open.local,
            })
        })
        .collect();
    json!({
        "generation": shared.generation,
        "pid": std::process::id(),
        "phase": phase,
        "since_us": micros(ending.since),
        "started_us": micros(shared.started),
        "version": shared.options.version,
        "library": env!("CARGO_PKG_VERSION"),
        "endpoints": endpoints,
        "connections": {
            "open": connections,
            "accepted": all.accepted,
            "received": all.received,
            "sent": all.sent,
            "oldest": oldest,
        },
        "tasks": tasks,
        "deadline_us": ending.deadline.map(micros),
        "waits_for": ending.deadline.map(|_| json!({
            "connections": connections,
            "tasks": tasks,
            "hooks": !ending.hooks_drained,
            "main": !ending.main_ended,
        })),
        "answers": true,
    })
}

/// A generation that drains: its own word, or what is known of it.
async fn of_older(old: &Old) -> Value {
    let request = json!({ "request": "status", "own": true });
    let asked = tokio::time::timeout(PATIENCE, older::ask(old, &request));
    let answer = match asked.await {
        Ok(Ok(mut answer)) => answer.remove("generation").filter(Value::is_object),
        _ => None,
    };
    answer.unwrap_or_else(|| {
        json!({
            "generation": old.generation,
            "pid": old.pid,
            "phase": "draining",
            "killed_us": micros(old.deadline),
            "answers": false,
        })
    })
}

/// The successor that starts, as far as it has told.
fn starting(host: &Host, handover: &Timeline) -> Option<Value> {
    let successor = handover.successor?;
    let own = handover.incumbent.pid == std::process::id();
    if handover.outcome != Outcome::UnderWay || !own {
        return None;
    }
    let lasts = handover
        .spans
        .iter()
        .rfind(|span| span.by == Side::Successor && span.to_us.is_none());
    let events = host.shared.record.events();
    let started = events
        .iter()
        .find(|event| event.pid == successor.pid)
        .map_or(handover.began_us, |event| event.at_us);
    Some(json!({
        "generation": successor.generation,
        "pid": successor.pid,
        "phase": match lasts.map(|span| span.name) {
            Some("init") => "initialising",
            None if handover.spans.iter().any(|span| span.name == "ready") => "ready",
            _ => "starting",
        },
        "since_us": handover.began_us + lasts.map_or(0, |span| span.from_us),
        "started_us": started,
        "answers": false,
    }))
}

/// A handover, without its parts.
fn summary(handover: &Timeline) -> Value {
    let mut summary = json!(handover);
    if let Some(fields) = summary.as_object_mut() {
        fields.remove("spans");
        fields.remove("drain");
    }
    summary
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How many of the oldest connections are named.
const OLDEST: usize = 5;
/// How long a generation that drains may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);
