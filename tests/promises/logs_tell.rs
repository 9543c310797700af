//! The log tells an operator what happens: one line a change of phase, with fields that can be
//! relied on, and a warning only where something is to be done.

use std::collections::HashMap;
use std::io::Read;

use handover_tests::{Identity, Program, Signal};

use crate::operator::Operated;
use crate::support::{Fixture, Running, signal};

/// What a successor writes before it serves goes through its predecessor, which has nothing else to do and ends at once.
#[tokio::test]
async fn the_last_words_that_a_predecessor_forwards_are_told() {
    let count = 2000;
    let program = Program::new(env!("CARGO_BIN_EXE_moving")).arg("lines");
    let service = program.env("MOVING_WORDS", count.to_string()).start();
    let service = service.expect("a program that can be started");
    for generation in 1..=5 {
        let line = service
            .output()
            .find(&format!("generation={generation} serves"))
            .await;
        let identity = Identity::parse(line.text.trim_end_matches(" serves")).expect("who it is");
        if generation < 5 {
            signal(identity, Signal::HUP);
        }
        service
            .output()
            .find(&format!("word {count} of generation {generation}"))
            .await;
        let lines = service.output().lines();
        let words = format!(" of generation {generation}");
        let words = lines.iter().filter(|line| line.text.ends_with(&words));
        assert_eq!(words.count(), count);
    }
}

#[tokio::test]
async fn one_line_a_change_of_phase() {
    let fixture = logging("handover=info");
    let running = fixture.start().await;
    let first = running.identity().await;
    let second = running.hand_over(first).await;
    running.ended(1).await;
    running.service.output().find("active generation=2 ").await;
    signal(second, Signal::TERM);
    running.ended(2).await;

    let events = events(&running);
    for (generation, pid) in [(1, first.pid), (2, second.pid)] {
        let changes: Vec<_> = events
            .iter()
            .filter(|event| event.fields.contains_key("phase") && event.is_of(generation))
            .filter(|event| event.message != "still draining")
            .collect();
        let phases: Vec<_> = changes.iter().map(|event| event.field("phase")).collect();
        assert_eq!(phases, ["initialising", "ready", "serving", "draining"]);
        for change in &changes {
            assert_eq!(change.message, change.field("phase"), "{change:?}");
            assert_eq!(change.target, "handover::run", "{change:?}");
            assert!(change.is_by(pid), "{change:?}");
        }
        for change in &changes[1..] {
            change.number("elapsed_ms");
        }
        assert_eq!(changes[3].number("deadline_ms"), 30_000);
        assert_eq!(changes[2].number("endpoints"), 1);
        changes[3].number("connections");
    }
    // What each of the processes says of itself, in its order.
    let steps = |pid| {
        let of_another = ["successor started", "handover committed", "still draining"];
        let own = events.iter().filter(move |event: &&Event| {
            event.is_by(pid)
                && !of_another
                    .iter()
                    .any(|text| event.message.starts_with(text))
        });
        own.map(|event| event.message.as_str()).collect::<Vec<_>>()
    };
    let serves = ["initialising", "ready", "serving", "active"];
    for (pid, ends) in [
        (first.pid, ["handover begins", "draining", "ended"]),
        (second.pid, ["stop", "draining", "ended"]),
    ] {
        assert_eq!(steps(pid), [&serves[..], &ends].concat(), "{events:#?}");
    }
    let started = find(&events, "successor started");
    assert!(started.is_of(2) && started.is_by(second.pid));
    let committed = find(&events, "handover committed");
    assert!(committed.is_of(2) && committed.is_by(second.pid));
    committed.number("elapsed_ms");
    let (begins, ended) = (find(&events, "handover begins"), find(&events, "ended"));
    assert!(begins.is_of(1) && begins.is_by(first.pid));
    for field in ["accepted", "elapsed_ms"] {
        ended.number(field);
    }
    assert_eq!(find(&events, "stop").field("by"), "\"SIGTERM\"");
    assert!(events.iter().all(|event| event.level == "INFO"));
}

/// Once in each generation, and before main tells anything of its own, if it has installed whoever
/// collects events by then.
#[tokio::test]
async fn the_first_line_of_a_generation_names_its_predecessor() {
    let fixture = logging("handover=info");
    let running = fixture.start().await;
    let first = running.identity().await;
    let second = running.hand_over(first).await;
    running.ended(1).await;
    let events = events(&running);
    for (identity, predecessor) in [(first, None), (second, Some(first.pid.to_string()))] {
        let mut own = events.iter().filter(|event| event.is_by(identity.pid));
        let line = own.find(|event| event.message != "successor started");
        let line = line.expect("it tells something");
        assert_eq!(line.message, "initialising", "{events:#?}");
        assert!(line.is_of(identity.generation) && line.level == "INFO");
        assert_eq!(line.field("phase"), "initialising");
        assert_eq!(line.fields.get("predecessor"), predecessor.as_ref());
        assert!(!own.any(|event| event.message == line.message));
    }
}

#[tokio::test]
async fn a_failed_handover_is_one_error_with_its_stage() {
    let fixture = logging("handover=info");
    let running = fixture.start().await;
    let incumbent = running.identity().await;
    fixture.set_faults("init:fail");
    signal(incumbent, Signal::HUP);
    running.service.output().find("handover failed").await;
    let events = events(&running);
    let failed = find(&events, "handover failed, this generation serves on");
    assert_eq!(
        (failed.level.as_str(), failed.field("stage")),
        ("ERROR", "init")
    );
    assert_eq!(failed.field("component"), "\"fault\"");
    assert_eq!(failed.field("exit"), "\"exited with status 1\"");
    assert!(failed.fields.contains_key("stderr"));
    failed.number("elapsed_ms");
    assert!(failed.is_of(1));
    let others = events.iter().filter(|event| event.level != "INFO");
    assert_eq!(others.count(), 1, "{events:#?}");
    // The incumbent has changed no phase.
    assert!(!events.iter().any(|event| event.message == "draining"));
    let gone = find(&events, "ending without having served");
    assert!(gone.is_of(2));
}

#[tokio::test]
async fn a_warning_is_for_what_nobody_has_asked_for() {
    // A second stop is the operator's wish; a deadline that cuts is news.
    for (deadline, level) in [("60000", "INFO"), ("100", "WARN")] {
        let fixture = logging("handover=info").env("FIXTURE_STOP_TIMEOUT", deadline);
        let (_fixture, service) = Operated::start(fixture).await;
        let running = &service.running;
        let incumbent = running.identity().await;
        // A request that has begun, and does not end.
        let mut open = service.hold();
        signal(incumbent, Signal::TERM);
        running
            .service
            .output()
            .find("draining phase=draining")
            .await;
        if level == "INFO" {
            signal(incumbent, Signal::TERM);
        }
        running.ended(1).await;
        let mut rest = Vec::new();
        // It is cut in whatever way.
        open.read_to_end(&mut rest).ok();
        let events = events(running);
        let cut = find(&events, "what is left is cut");
        assert_eq!(
            (cut.level.as_str(), cut.field("phase")),
            (level, "aborting")
        );
        assert_eq!(cut.number("connections"), 1, "{events:#?}");
        cut.number("elapsed_ms");
        let warnings = events.iter().filter(|event| event.level == "WARN");
        assert_eq!(warnings.count(), usize::from(level == "WARN"));
    }
}

/// `RUST_LOG=handover=info,handover::protocol=debug`, and no more than that.
#[tokio::test]
async fn the_messages_of_a_handover_can_be_asked_for_alone() {
    let fixture = logging("handover=info,handover::protocol=debug");
    let running = fixture.start().await;
    let first = running.identity().await;
    running.hand_over(first).await;
    running.ended(1).await;
    let events = events(&running);
    let messages: Vec<_> = events
        .iter()
        .filter(|event| event.level == "DEBUG")
        .inspect(|event| assert_eq!(event.target, "handover::protocol", "{event:?}"))
        .map(|event| event.line.as_str())
        .collect();
    for (way, message) in [
        ("to the successor", "Offer"),
        ("from the successor", "Ready"),
        ("to the successor", "Commit"),
        ("from the predecessor", "Commit"),
        ("to the predecessor", "Serving"),
        ("from the successor", "Serving"),
        ("to the successor", "Released"),
    ] {
        assert!(
            messages
                .iter()
                .any(|line| line.contains(way) && line.contains(message)),
            "{way}: {message} is not among {messages:#?}"
        );
    }
    assert!(events.iter().any(|event| event.level == "INFO"));
}

fn logging(filter: &str) -> Fixture {
    Fixture::new().env("FIXTURE_LOG", filter)
}

/// An event as `tracing-subscriber` has written it.
#[derive(Debug)]
struct Event {
    line: String,
    level: String,
    target: String,
    message: String,
    fields: HashMap<String, String>,
}

impl Event {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_once("Z ")?.1.trim_start().splitn(3, ' ');
        let (level, target) = (words.next()?, words.next()?.strip_suffix(':')?);
        let rest = words.next()?;
        // A name of a field, with its value up to the next one.
        let is_field = |word: &str| {
            let name = word.split_once('=').map(|(name, _)| name);
            name.is_some_and(|name| !name.is_empty() && name.bytes().all(is_name))
        };
        let (mut message, mut fields) = (Vec::new(), Vec::<(String, String)>::new());
        for word in rest.split(' ') {
            // What stands in quotes has no fields in it.
            let quoted = |(_, value): &&mut (String, String)| {
                value.starts_with('"') && (value.len() == 1 || !value.ends_with('"'))
            };
            let is_field =
                is_field(word) && fields.last_mut().as_ref().is_none_or(|last| !quoted(last));
            match (is_field, fields.last_mut()) {
                (true, _) => {
                    let (name, value) = word.split_once('=')?;
                    fields.push((name.to_owned(), value.to_owned()));
                }
                (false, Some((_, value))) => {
                    value.push(' ');
                    value.push_str(word);
                }
                (false, None) => message.push(word),
            }
        }
        Some(Self {
            line: line.to_owned(),
            level: level.to_owned(),
            target: target.to_owned(),
            message: message.join(" "),
            fields: fields.into_iter().collect(),
        })
    }

    fn field(&self, name: &str) -> &str {
        self.fields
            .get(name)
            .unwrap_or_else(|| panic!("no `{name}` in {}", self.line))
    }

    fn number(&self, name: &str) -> u64 {
        let text = self.field(name);
        text.parse()
            .unwrap_or_else(|_| panic!("`{name}` is {text}, expected a number"))
    }

    fn is_of(&self, generation: u32) -> bool {
        self.fields.get("generation") == Some(&generation.to_string())
    }

    fn is_by(&self, pid: u32) -> bool {
        self.fields.get("pid") == Some(&pid.to_string())
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte == b'_'
}

/// All that was told, in the order of its time: what a successor says makes a detour.
fn events(running: &Running) -> Vec<Event> {
    let lines = running.service.output().lines();
    let mut events: Vec<_> = lines
        .iter()
        .filter_map(|line| Event::parse(&line.text))
        .collect();
    events.sort_by(|a, b| a.line.cmp(&b.line));
    events
}

fn find<'a>(events: &'a [Event], message: &str) -> &'a Event {
    events
        .iter()
        .find(|event| event.message.contains(message))
        .unwrap_or_else(|| panic!("no `{message}` in {events:#?}"))
}
