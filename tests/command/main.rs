//! The command `handover` as a shell sees it: what it prints, and its exit codes.
//!
//! What is expected stands in `snapshots/`; with `UPDATE_SNAPSHOTS=1` it is written anew.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

#[test]
fn help_is_as_written_down() {
    for (name, arguments) in [
        ("help", &["--help"][..]),
        ("help-verify", &["verify", "--help"]),
        ("help-demo", &["demo", "--help"]),
        ("help-completions", &["completions", "--help"]),
        ("help-man", &["man", "--help"]),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_snapshot(name, &text(&output.stdout));
    }
}

/// One line for each mistake, which names what was wrong and what was expected.
#[test]
fn errors_are_as_written_down() {
    let mut found = String::new();
    for arguments in [
        &["verify"][..],
        &["verify", "--load", "everything", "--", "true"],
        &["verify", "--url", "localhost:80", "--", "true"],
        &["verify", "--url", "ftp://localhost", "--", "true"],
        &["verify", "--trigger", "HUPP", "--", "true"],
        &["verify", "--kill", "child@5ms", "--", "true"],
        &["verify", "--kill", "successor@soon", "--", "true"],
        &["verify", "--timeout", "30", "--", "true"],
        &["verify", "--clients", "0", "--", "true"],
        &["verify", "--", "true"],
        &["verify", "--", "/nonexistent/server"],
        &["verify", "--timeout", "500ms", "--", "sleep", "1000"],
        &["man", "nothing"],
        &["completions", "no-shell"],
    ] {
        let output = run(arguments);
        let code = output.status.code();
        found += &format!(
            "$ handover {}\n{}exit code {code:?}\n\n",
            arguments.join(" "),
            text(&output.stderr)
        );
    }
    assert_snapshot("errors", &found);
}

#[test]
fn json_has_its_shape() {
    let service = [
        env!("CARGO_BIN_EXE_handover"),
        "demo",
        "--serve",
        "/nonexistent",
    ];
    let options = [
        "--json",
        "verify",
        "--handovers",
        "2",
        "--pause",
        "50ms",
        "--rate",
        "200",
        "--",
    ];
    let output = run(&[&options[..], &service[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let object: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut shape = Vec::new();
    describe("", &object, &mut shape);
    shape.sort();
    shape.dedup();
    assert_snapshot("verify-json", &(shape.join("\n") + "\n"));
}

#[test]
fn json_tells_of_failures() {
    let output = run(&["--json", "verify", "--", "/nonexistent/server"]);
    assert_eq!(output.status.code(), Some(3));
    let object: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(object["exit"], 3);
    assert!(
        object["error"]
            .as_str()
            .expect("a text")
            .contains("has ended"),
        "{object}"
    );
}

/// As in a container that was entered within a session, which has no number there.
#[test]
fn verify_works_in_a_pid_namespace() {
    let inside = |command: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--fork", "--pid", "--mount", "--mount-proc"]);
        unshare.args(command).stdin(Stdio::null());
        unshare.output().expect("unshare is there")
    };
    let allowed = inside(&["true"]);
    if !allowed.status.success() {
        assert!(std::env::var_os("CI").is_none(), "{allowed:?}");
        eprintln!("skipped: no right to make a namespace");
        return;
    }
    let program = env!("CARGO_BIN_EXE_handover");
    let output = inside(&[program, "verify", "--", "/nonexistent/server"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let told = text(&output.stderr);
    assert!(told.contains("has ended with status 127"), "{told}");
    let service = [program, "demo", "--serve", "/nonexistent"];
    let verify = [program, "verify", "--handovers", "1", "--rate", "200", "--"];
    let output = inside(&[&verify[..], &service[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn junit_and_the_table_tell_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("junit.xml");
    let program = env!("CARGO_BIN_EXE_handover");
    let output = Command::new(program)
        .args([
            "verify",
            "--handovers",
            "1",
            "--rate",
            "200",
            "--load",
            "new,silent",
            "--junit",
        ])
        .arg(&file)
        .args(["--", program, "demo", "--serve", "/nonexistent"])
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = text(&output.stdout);
    assert!(
        !table.contains('\x1b'),
        "colours without a terminal: {table}"
    );
    assert!(
        table.contains("  new ")
            && table.contains("  silent ")
            && table.contains("requests failed"),
        "{table}"
    );
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    let junit = fs::read_to_string(&file).expect("the file was written");
    for part in [
        "name=\"loads\" tests=\"2\" failures=\"0\" errors=\"0\"",
        "name=\"handovers\" tests=\"1\" failures=\"0\" errors=\"0\"",
        " new\"/>",
    ] {
        assert!(junit.contains(part), "no `{part}` in {junit}");
    }
}

/// A CI system reads the file of this run, whatever came of it.
#[test]
fn junit_tells_also_that_nothing_could_be_verified() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("junit.xml");
    fs::write(&file, "of an earlier run").expect("a file");
    let path = file.to_str().expect("UTF-8");
    let output = run(&["verify", "--junit", path, "--", "/nonexistent/<&\">"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let junit = fs::read_to_string(&file).expect("the file was written");
    for part in [
        "tests=\"1\" failures=\"0\" errors=\"1\"",
        "<error message=\"could not verify: the program has ended",
        "/nonexistent/&lt;&amp;&quot;&gt;: No such file",
    ] {
        assert!(junit.contains(part), "no `{part}` in {junit}");
    }
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("UTF-8");
    assert_eq!(run(&["man", "--dir", path]).status.code(), Some(0));
    for command in ["verify", "demo", "man", "completions"] {
        for shell in ["bash", "zsh", "fish"] {
            let script = text(&run(&["completions", shell]).stdout);
            assert!(script.contains(command), "{shell} does not know {command}");
        }
        let page = directory.path().join(format!("handover-{command}.1"));
        let page = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{page:?}: {error}"));
        assert_eq!(page, text(&run(&["man", command]).stdout), "{command}");
    }
}

/// The paths of everything in it, each with its type.
fn describe(path: &str, value: &Value, shape: &mut Vec<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            for item in items {
                describe(&format!("{path}[]"), item, shape);
            }
            "array"
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                describe(&format!("{path}.{name}"), field, shape);
            }
            "object"
        }
    };
    shape.push(format!("{path}: {kind}"));
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_handover"))
        .args(arguments)
        .env_remove("HANDOVER_SOCKET")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_snapshot(name: &str, found: &str) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/command/snapshots/{name}.txt"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, found).expect("a snapshot");
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        found, expected,
        "{name}; if it is right, run it with UPDATE_SNAPSHOTS=1"
    );
}
