//! The command `handover`, as an operator and as a script use it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Output;

use serde_json::{Value, json};

use crate::operator::Operated;
use crate::support::Fixture;

#[tokio::test]
async fn a_successor_that_fails_is_told_in_full() {
    // What it logs would stand between its own words, or behind them.
    let fixture = Fixture::new().env("FIXTURE_LOG", "error");
    let (fixture, service) = Operated::start(fixture).await;
    fixture.set_faults("init:fail");
    let output = service.command(&["upgrade", "--wait"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = "\
✗ the handover failed, and nothing has changed
  stage      init
  component  fault
  error      the successor failed at stage `init` in component `fault`: on_init of `fault` failed: this fault was asked for (exited with status 1)
  exit       exited with status 1
  after      N ms
  serves     generation 1 (pid N)
  stderr     fault: Fail at Init in pid=N
             Error: on_init of `fault` failed: this fault was asked for
";
    let told = normal(&output, &["(pid ", "after      ", "pid="]);
    assert_eq!(told, expected);

    let output = service.command(&["upgrade", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&told["code"], &told["stage"]),
        (&json!("failed"), &json!("init"))
    );
    assert_eq!(told["component"], "fault");

    // It is remembered.
    fixture.set_faults("");
    let status = text(&service.command(&["status"]));
    assert!(status.contains("1 → 2 failed at stage init"), "{status}");
    let timeline = text(&service.command(&["timeline"]));
    assert!(timeline.contains("failed after"), "{timeline}");
    let output = service.command(&["upgrade"]);
    assert_eq!(output.status.code(), Some(0));
    let told = text(&output);
    assert!(told.starts_with("✓ generation 2 (pid "), "{told}");
}

#[tokio::test]
async fn what_it_prints_as_json_keeps_its_shape() {
    let (fixture, service) = Operated::start(Fixture::new()).await;
    let held = service.hold();
    let upgraded = service.command(&["upgrade", "--json"]);
    assert_eq!(upgraded.status.code(), Some(0));
    let expected = "\
elapsed_us: number
handover.began_us: number
handover.drain[].at_us: number
handover.drain[].connections: number
handover.elapsed_us: number
handover.failure: null
handover.incumbent.generation: number
handover.incumbent.pid: number
handover.outcome: string
handover.spans[].by: string
handover.spans[].component: null
handover.spans[].component: string
handover.spans[].failed: bool
handover.spans[].from_us: number
handover.spans[].name: string
handover.spans[].to_us: null
handover.spans[].to_us: number
handover.successor.generation: number
handover.successor.pid: number
incumbent.generation: number
incumbent.pid: number
protocol: number
request: string
successor.generation: number
successor.pid: number
";
    assert_eq!(shape(&upgraded), expected);

    let expected = "\
generations[].answers: bool
generations[].connections.accepted: number
generations[].connections.oldest: empty
generations[].connections.oldest[].age_ms: number
generations[].connections.oldest[].local: string
generations[].connections.oldest[].peer: string
generations[].connections.open: number
generations[].connections.received: number
generations[].connections.sent: number
generations[].deadline_us: null
generations[].deadline_us: number
generations[].endpoints: empty
generations[].endpoints[].accepted: number
generations[].endpoints[].endpoint: string
generations[].endpoints[].open: number
generations[].generation: number
generations[].library: string
generations[].phase: string
generations[].pid: number
generations[].since_us: number
generations[].started_us: number
generations[].tasks[]: string
generations[].version: string
generations[].waits_for.connections: number
generations[].waits_for.hooks: bool
generations[].waits_for.main: bool
generations[].waits_for.tasks[]: string
generations[].waits_for: null
handover: null
last_handover.began_us: number
last_handover.elapsed_us: number
last_handover.failure: null
last_handover.incumbent.generation: number
last_handover.incumbent.pid: number
last_handover.outcome: string
last_handover.successor.generation: number
last_handover.successor.pid: number
now_us: number
protocol: number
request: string
";
    // The new one serves before the old one has said that it drains, with which the handover is over.
    let mut answers = (0..1000).map(|_| shape(&service.command(&["status", "--json"])));
    let status = answers
        .find(|status| status.contains("\nhandover: null\n"))
        .expect("the handover ends");
    // The old one keeps its listeners, or has let go of them.
    let status = status.replace("generations[].endpoints: empty\n", "");
    assert_eq!(
        status,
        expected.replace("generations[].endpoints: empty\n", "")
    );

    let events = service.command(&["events", "--json"]);
    let lines = text(&events);
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        for (name, number) in [
            ("at_us", true),
            ("generation", true),
            ("pid", true),
            ("event", false),
        ] {
            assert_eq!(event[name].is_u64(), number, "{line}");
        }
    }
    assert!(lines.lines().count() > 10, "{lines}");

    let aborted = service.command(&["abort", "--json"]);
    assert_eq!(
        shape(&aborted),
        "aborted[].generation: number\naborted[].pid: number\nprotocol: number\nrequest: string\n"
    );
    drop(held);
    let svg = fixture.path("timeline.svg");
    let path = svg.to_str().expect("text");
    let timeline = service.command(&["timeline", "--json", "--svg", path]);
    let told: Value = serde_json::from_slice(&timeline.stdout).expect("JSON");
    assert_eq!(told["handovers"].as_array().map(Vec::len), Some(1));
    let drawing = fs::read_to_string(svg).expect("a drawing");
    assert!(
        drawing.starts_with("<svg ") && drawing.contains(">init</text>"),
        "{drawing}"
    );
    let stopped = service.command(&["stop", "--wait", "--json"]);
    assert_eq!(
        shape(&stopped),
        "cut: bool\ngeneration.generation: number\ngeneration.pid: number\nprotocol: number\nrequest: string\nstopped: bool\n"
    );
    // `stop --wait` returns when the process has ended.
    assert!(service.running.service.processes().is_empty());
}

#[tokio::test]
async fn it_says_why_it_cannot() {
    let (_fixture, service) = Operated::start(Fixture::new()).await;
    for (arguments, code, message) in [
        (&["abort"][..], 1, "no generation drains"),
        (
            &["upgrade", "--timeout", "soon"],
            2,
            "expected a time such as 30s",
        ),
        (
            &["upgrade", "--wait=forever"],
            2,
            "possible values: serving, drained",
        ),
        (
            &["events", "--socket", "/nonexistent"],
            3,
            "could not connect to `/nonexistent`",
        ),
    ] {
        let output = service.command(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(message), "{arguments:?}: {stderr}");
    }
    let odd = OsStr::from_bytes(b"caf\xe9");
    for arguments in [
        vec![OsStr::new("upgrade"), OsStr::new("--"), odd],
        vec![OsStr::new("upgrade"), OsStr::new("--env"), odd],
        vec![OsStr::new("upgrade"), OsStr::new("--program"), odd],
    ] {
        let output = service.command(&arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains("is not UTF-8"), "{arguments:?}: {stderr}");
    }
    let output = service.command(&["abort", "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told, json!({ "error": "no generation drains", "exit": 1 }));
    // Nobody sees colours in a pipe.
    assert!(!text(&service.command(&["status"])).contains('\x1b'));
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// What was printed, with `N` for the numbers behind these words.
fn normal(output: &Output, before: &[&str]) -> String {
    let mut text = text(output);
    for word in before {
        let mut from = 0;
        while let Some(at) = text[from..].find(word) {
            let start = from + at + word.len();
            let end = text[start..]
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .map_or(text.len(), |end| start + end);
            text.replace_range(start..end, "N");
            from = start;
        }
    }
    text
}

/// Every field with its type, sorted, each once.
fn shape(output: &Output) -> String {
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut lines = std::collections::BTreeSet::new();
    collect(&value, "", &mut lines);
    lines.into_iter().map(|line| line + "\n").collect()
}

fn collect(value: &Value, path: &str, lines: &mut std::collections::BTreeSet<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) if items.is_empty() => "empty",
        Value::Array(items) => {
            let path = format!("{path}[]");
            return items.iter().for_each(|item| collect(item, &path, lines));
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = match path {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                collect(field, &path, lines);
            }
            return;
        }
    };
    lines.insert(format!("{path}: {kind}"));
}
