//! Claim: `handover::axum::serve` answers at least 0.98 times as many requests a second as `axum::serve`.
//!
//! `cargo bench -p handover-benches --bench axum` (three minutes; needs `wrk` and `h2load`)

use std::{
    error::Error,
    process::{Command, ExitCode},
};

use handover_benches::{Bound, Program, Report, Rounds, Unit};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<ExitCode> {
    let mut addresses = Vec::new();
    let mut programs = Vec::new();
    for contender in CONTENDERS {
        let mut program = Program::start(Command::new(env!("CARGO_BIN_EXE_web")).arg(contender))?;
        addresses.push(program.hear("serving")?);
        programs.push(program);
    }

    let mut report = Report::new();
    let [ours, theirs] = CONTENDERS;
    for load in LOADS {
        let rounds = Rounds::measure(&CONTENDERS, 40, |contender| load.run(&addresses[contender]))?;
        let rate = rounds.compare(load.name, Unit::PerSecond, |rate| *rate);
        report.measured(&rate);
        report.claim(rate.claim(ours, theirs, Some(Bound::AtLeast(0.98))));
    }
    Ok(report.finish())
}

/// A load generator that prints a rate.
struct Load {
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    /// What stands before and after the rate.
    rate_between: (&'static str, &'static str),
}

impl Load {
    /// Loads the service for a second, and returns how many requests it answered in one.
    fn run(&self, address: &str) -> Result<f64> {
        let output = Command::new(self.program)
            .args(self.arguments)
            .arg(format!("http://{address}/"))
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let (before, after) = self.rate_between;
        let rate = text
            .split_once(before)
            .and_then(|(_, rest)| rest.split_once(after))
            .ok_or_else(|| format!("{} prints no rate: {text}", self.program))?;
        if text.contains("Non-2xx") || text.contains("Socket errors") {
            return Err(format!("requests failed: {text}").into());
        }
        Ok(rate.0.trim().parse()?)
    }
}

const CONTENDERS: [&str; 2] = ["handover", "axum"];

const LOADS: [Load; 3] = [
    Load {
        name: "HTTP/1.1, kept alive",
        program: "wrk",
        arguments: &["-t1", "-c32", "-d1s"],
        rate_between: ("Requests/sec:", "\n"),
    },
    Load {
        name: "HTTP/1.1, a connection for each request",
        program: "wrk",
        arguments: &["-t1", "-c32", "-d1s", "-HConnection: close"],
        rate_between: ("Requests/sec:", "\n"),
    },
    Load {
        name: "HTTP/2, 8 connections of 32 streams",
        program: "h2load",
        arguments: &["-t1", "-c8", "-m32", "-D1"],
        rate_between: ("s, ", " req/s"),
    },
];
