//! What a file may mention: one function for each rule, each giving a sentence for each violation.

use std::fmt;

use crate::source::{Mention, Source};

/// The place and the rule that is broken there.
#[derive(Debug)]
pub(crate) struct Violation {
    path: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

/// The folders of `src/`, each with its floor and with what it may not know, as paths outside tests.
const FOLDERS: &[(&str, u8, &[&str])] = &[
    ("sys", 0, &["tokio::spawn", "tokio::task", "axum", "hyper"]),
    ("socket", 1, &["axum", "hyper"]),
    (
        "protocol",
        2,
        &[
            "axum",
            "hyper",
            "nix",
            "socket2",
            "std::fs",
            // Addresses are plain data.
            "std::net::TcpListener",
            "std::net::TcpStream",
            "std::net::ToSocketAddrs",
            "std::net::UdpSocket",
            "std::os::unix::net",
            "std::process",
            "std::thread",
            "std::time::Instant",
            "std::time::SystemTime",
            "tokio",
        ],
    ),
    ("lifecycle", 3, &["axum", "hyper", "sd_notify", "tonic"]),
    ("net", 4, &["hyper"]),
    ("run", ROOT.0, ROOT.1),
    ("serve", 6, &[]),
    ("systemd", 6, &[]),
    ("control", 6, &[]),
    ("metrics", 6, &[]),
    ("testing", 6, &[]),
];

/// Floor of the files directly in `src/`, and what they may not know.
const ROOT: (u8, &[&str]) = (5, &["axum", "hyper", "metrics", "sd_notify", "tonic"]);

/// A file imports only from floors below its own, or from its own folder.
///
/// `lib.rs` is the face of the crate and names every floor; programs in `src/bin` are crates of their own.
pub(crate) fn floors(source: &Source) -> Vec<Violation> {
    let Some(inside) = source.path.strip_prefix("src/") else {
        return Vec::new();
    };
    if inside == "lib.rs" || inside.starts_with("bin/") {
        return Vec::new();
    }
    let own = inside.split(['/', '.']).next().unwrap_or_default();
    let Some((own_floor, unknown)) = floor_of(own, inside.contains('/')) else {
        return vec![source.violation(
            1,
            format!("folder `src/{own}` has no floor; give it one, here and in CONTRIBUTING.md"),
        )];
    };

    let upwards = source.mentions.iter().filter_map(|mention| {
        let path = mention.in_crate()?;
        let target = path.first()?;
        let (floor, _) = floor_of(target, false)?;
        let own_folder = target == own || (floor == ROOT.0 && own_floor == ROOT.0);
        (!own_folder && floor >= own_floor).then(|| {
            source.violation(
                mention.line,
                format!(
                    "floor {own_floor} ({}) imports `crate::{}` of floor {floor}: a file imports only from floors below its own",
                    label(own, own_floor),
                    path.join("::"),
                ),
            )
        })
    });
    let unwanted = source
        .mentions
        .iter()
        .filter(|mention| !mention.in_tests)
        .filter_map(|mention| {
            let unknown = unknown
                .iter()
                .find(|unknown| mention.starts_with(unknown))?;
            Some(source.violation(
                mention.line,
                format!(
                    "floor {own_floor} ({}) knows nothing of `{unknown}`",
                    label(own, own_floor)
                ),
            ))
        });
    let moved = source.moved_modules.iter().map(|&line| {
        source.violation(
            line,
            "`#[path]` takes a module away from its floor".to_owned(),
        )
    });
    upwards.chain(unwanted).chain(moved).collect()
}

/// `unsafe` stands only in `src/sys`.
pub(crate) fn unsafe_only_in_sys(source: &Source) -> Vec<Violation> {
    if source.path.starts_with("src/sys/") {
        return Vec::new();
    }
    source.violations(
        |mention| mention.segments == ["unsafe"],
        "`unsafe` stands only in src/sys",
    )
}

/// The library never ends the process; a test or a fixture that has to returns from its `main`.
pub(crate) fn no_exit(source: &Source) -> Vec<Violation> {
    if !source.path.starts_with("src/") && !source.path.starts_with("macros/") {
        return Vec::new();
    }
    source.violations(
        |mention| mention.contains("process::exit") || mention.contains("process::abort"),
        "the library does not end the process: return an error",
    )
}

/// A test waits for the event, never for a time. With a paused clock a sleep is an event.
///
/// Fixtures may sleep: a handler that takes its time does.
pub(crate) fn no_sleeps(source: &Source) -> Vec<Violation> {
    if source.path.starts_with("tests/fixtures/") {
        return Vec::new();
    }
    let paused = source
        .mentions
        .iter()
        .any(|mention| mention.segments == ["start_paused"]);
    let mut found = source.violations(
        |mention| mention.in_tests && !paused && mention.contains("time::sleep"),
        "no sleeps in tests: wait for the event, or pause the clock",
    );
    if source.path.starts_with("src/") || source.path.starts_with("tests/") {
        found.extend(source.violations(
            |mention| mention.contains("thread::sleep"),
            "no thread sleeps: wait for the event",
        ));
    }
    found
}

impl Source {
    fn violations(&self, is_one: impl Fn(&Mention) -> bool, rule: &str) -> Vec<Violation> {
        self.mentions
            .iter()
            .filter(|mention| is_one(mention))
            .map(|mention| self.violation(mention.line, format!("`{mention}`: {rule}")))
            .collect()
    }

    fn violation(&self, line: usize, rule: String) -> Violation {
        Violation {
            path: self.path.clone(),
            line,
            rule,
        }
    }
}

/// The floor of a top-level name of the crate. What is no folder of the table is an item of the root.
fn floor_of(name: &str, is_folder: bool) -> Option<(u8, &'static [&'static str])> {
    match FOLDERS.iter().find(|(folder, ..)| *folder == name) {
        Some(&(_, floor, unknown)) => Some((floor, unknown)),
        None if is_folder => None,
        None => Some(ROOT),
    }
}

fn label(name: &str, floor: u8) -> &str {
    if floor == ROOT.0 { "root" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(rule: fn(&Source) -> Vec<Violation>, path: &str, text: &str) -> Vec<String> {
        rule(&Source::parse(path, text))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn an_upward_import_is_named_with_file_line_and_rule() {
        let found = broken(
            floors,
            "src/net/listener.rs",
            "//! Doc.\n\nuse crate::run::Run;\n",
        );
        assert_eq!(
            found,
            [
                "src/net/listener.rs:3: floor 4 (net) imports `crate::run::Run` of floor 5: \
              a file imports only from floors below its own"
            ]
        );
    }

    #[test]
    fn every_way_up_is_found() {
        for (path, text) in [
            ("src/sys/spawn.rs", "use crate::socket::Endpoint;"),
            ("src/sys/mod.rs", "pub(crate) use super::socket::Endpoint;"),
            ("src/sys/spawn.rs", "use super::super::socket;"),
            ("src/socket/store.rs", "use crate::{sys::Fd, net::{Conn}};"),
            ("src/socket/store.rs", "fn f() { let x: crate::Error = y; }"),
            ("src/socket/store.rs", "use crate::*;"),
            (
                "src/protocol/state.rs",
                "fn f() { select! { x = crate::net::accept() => {} } }",
            ),
            (
                "src/lifecycle/mod.rs",
                "macro_rules! m { () => { $crate::context::f() } }",
            ),
            (
                "src/lifecycle/mod.rs",
                "#[derive(crate::net::Derive)] struct S;",
            ),
            (
                "src/lifecycle/drain.rs",
                "mod inner { use super::super::super::builder::Builder; }",
            ),
            ("src/context.rs", "use crate::serve::Driver;"),
            ("src/run/engine.rs", "use crate::systemd::notify;"),
            ("src/serve/axum.rs", "use crate::systemd::notify;"),
            ("src/metrics.rs", "use crate::control::Socket;"),
        ] {
            assert_eq!(broken(floors, path, text).len(), 1, "in {path}: {text}");
        }
    }

    #[test]
    fn every_way_down_or_aside_is_allowed() {
        for (path, text) in [
            (
                "src/net/listener.rs",
                "use crate::{lifecycle::Tracker, socket::Endpoint, sys};",
            ),
            (
                "src/net/listener.rs",
                "use super::conn::Conn; use self::inner::X; use crate::net::Gate;",
            ),
            (
                "src/net/listener.rs",
                "mod tests { use super::*; use super::super::Conn; }",
            ),
            (
                "src/net/mod.rs",
                "mod listener; pub(crate) use listener::Listener;",
            ),
            (
                "src/net/mod.rs",
                "pub(in crate::net) fn f() {} pub(crate) fn g() {} pub(super) fn h() {}",
            ),
            (
                "src/sys/mod.rs",
                "// use crate::run;\n/// [`crate::run`]\nconst S: &str = \"crate::run\";",
            ),
            (
                "src/context.rs",
                "use crate::{builder::Builder, net::Listener, run::Engine, Error};",
            ),
            (
                "src/serve/axum.rs",
                "use crate::{Context, serve::driver::Driver, net::Conn};",
            ),
            (
                "src/lib.rs",
                "pub mod axum { pub use crate::serve::axum::serve; }",
            ),
            ("src/bin/handover/main.rs", "use crate::args::Args;"),
            ("examples/echo.rs", "use crate::anything;"),
        ] {
            assert_eq!(broken(floors, path, text), [""; 0], "in {path}: {text}");
        }
    }

    #[test]
    fn what_a_floor_may_not_know_is_found_outside_tests() {
        assert_eq!(
            broken(
                floors,
                "src/protocol/incumbent.rs",
                "use std::{io, time::{Duration, Instant}};"
            ),
            [
                "src/protocol/incumbent.rs:1: floor 2 (protocol) knows nothing of `std::time::Instant`"
            ]
        );
        assert_eq!(
            broken(floors, "src/run.rs", "use hyper::body::Body;").len(),
            1
        );
        let tested = "#[cfg(test)]\nmod tests { use tokio::time::Instant; }";
        assert_eq!(broken(floors, "src/protocol/incumbent.rs", tested), [""; 0]);
    }

    #[test]
    fn a_folder_without_a_floor_and_a_moved_module_are_found() {
        assert_eq!(broken(floors, "src/utils/misc.rs", "").len(), 1);
        assert_eq!(
            broken(
                floors,
                "src/net/mod.rs",
                "#[path = \"../sys/x.rs\"]\nmod x;"
            )
            .len(),
            1
        );
    }

    #[test]
    fn unsafe_is_found_outside_sys() {
        let text = "fn f() {\n    unsafe { g() }\n}";
        assert_eq!(
            broken(unsafe_only_in_sys, "src/net/conn.rs", text),
            ["src/net/conn.rs:2: `unsafe`: `unsafe` stands only in src/sys"]
        );
        assert_eq!(
            broken(
                unsafe_only_in_sys,
                "tests/fixtures/echo.rs",
                "unsafe impl Send for X {}"
            )
            .len(),
            1
        );
        assert_eq!(
            broken(unsafe_only_in_sys, "src/sys/adopt.rs", text),
            [""; 0]
        );
        let words = "#![forbid(unsafe_code)]\n// unsafe\nconst S: &str = \"unsafe\";";
        assert_eq!(
            broken(unsafe_only_in_sys, "src/net/conn.rs", words),
            [""; 0]
        );
    }

    #[test]
    fn an_exit_is_found_in_the_library() {
        for text in [
            "fn f() { std::process::exit(1) }",
            "use std::process::{Command, exit};",
            "use std::{io, process::{self, abort}};",
        ] {
            assert_eq!(broken(no_exit, "src/run.rs", text).len(), 1, "{text}");
        }
        let fine = "use std::process::{self, ExitCode}; fn f() { handle.abort(); }";
        assert_eq!(broken(no_exit, "src/run.rs", fine), [""; 0]);
        assert_eq!(
            broken(
                no_exit,
                "tests/fixtures/crash.rs",
                "fn f() { std::process::abort() }"
            ),
            [""; 0]
        );
    }

    #[test]
    fn a_sleep_is_found_in_tests() {
        let text = "async fn f() { tokio::time::sleep(d).await }";
        assert_eq!(broken(no_sleeps, "tests/promises/storm.rs", text).len(), 1);
        assert_eq!(
            broken(
                no_sleeps,
                "src/net/gate.rs",
                &format!("#[cfg(test)] mod tests {{ {text} }}")
            )
            .len(),
            1
        );
        assert_eq!(
            broken(
                no_sleeps,
                "src/net/gate.rs",
                "fn f() { std::thread::sleep(d) }"
            )
            .len(),
            1
        );
        assert_eq!(broken(no_sleeps, "src/net/gate.rs", text), [""; 0]);
        assert_eq!(broken(no_sleeps, "tests/fixtures/slow.rs", text), [""; 0]);
        let paused =
            format!("#[cfg(test)] mod tests {{ #[tokio::test(start_paused = true)] {text} }}");
        assert_eq!(broken(no_sleeps, "src/net/gate.rs", &paused), [""; 0]);
        let after = format!("#[cfg(test)] mod tests {{}} {text}");
        assert_eq!(broken(no_sleeps, "src/net/gate.rs", &after), [""; 0]);
    }
}
