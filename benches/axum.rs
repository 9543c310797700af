//! Claim: `handover::axum::serve` answers at least 0.98 times as many requests a second as `axum::serve`.
//!
//! `cargo bench -p handover-benches --bench axum` (eight minutes; needs `wrk` and `h2load`)

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
        let rounds = Rounds::measure(&CONTENDERS, 60, |contender| {
            let before = programs[contender].processor_time()?;
            let (rate, requests) = load.run(&addresses[contender])?;
            let used = programs[contender].processor_time()? - before;
            Ok::<_, Box<dyn Error>>(Seen {
                rate,
                processor: used / requests,
            })
        })?;
        let rate = rounds.compare(load.name, Unit::PerSecond, |seen| seen.rate);
        let processor = format!("{}: processor time of a request", load.name);
        let processor = rounds.compare(&processor, Unit::Seconds, |seen| seen.processor);
        report.measured(&rate);
        report.measured(&processor);
        report.claim(rate.claim(ours, theirs, Some(Bound::AtLeast(0.98))));
        report.claim(processor.claim(ours, theirs, None));
    }
    Ok(report.finish())
}

/// What one load showed.
struct Seen {
    /// Requests in a second.
    rate: f64,
    /// Seconds of the service's processor time for each of them: it hardly depends on what else the machine does.
    processor: f64,
}

/// A load generator that prints a rate.
struct Load {
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    /// What stands after the rate.
    rate_before: &'static str,
    /// What stands after the number of requests.
    requests_before: &'static str,
}

impl Load {
    /// Loads the service for a second; returns how many requests it answered in one, and how many in all.
    fn run(&self, address: &str) -> Result<(f64, f64)> {
        let output = Command::new(self.program)
            .args(self.arguments)
            .arg(format!("http://{address}/"))
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        if ["Non-2xx", "Socket errors"]
            .iter()
            .any(|failure| text.contains(failure))
        {
            return Err(format!("requests failed: {text}").into());
        }
        let number = |after: &str| {
            let word = text
                .split_once(after)
                .and_then(|(before, _)| before.split_whitespace().next_back());
            let word =
                word.ok_or_else(|| format!("{} prints no `{after}`: {text}", self.program))?;
            Ok::<f64, Box<dyn Error>>(word.parse()?)
        };
        Ok((number(self.rate_before)?, number(self.requests_before)?))
    }
}

const CONTENDERS: [&str; 2] = ["handover", "axum"];

const LOADS: [Load; 3] = [
    Load {
        name: "HTTP/1.1, kept alive",
        program: "wrk",
        arguments: &["-t1", "-c32", "-d1s"],
        rate_before: "\nTransfer/sec",
        requests_before: " requests in",
    },
    Load {
        name: "HTTP/1.1, a connection for each request",
        program: "wrk",
        arguments: &["-t1", "-c32", "-d1s", "-HConnection: close"],
        rate_before: "\nTransfer/sec",
        requests_before: " requests in",
    },
    Load {
        name: "HTTP/2, 8 connections of 32 streams",
        program: "h2load",
        arguments: &["-t1", "-c8", "-m32", "-D1"],
        rate_before: " req/s,",
        requests_before: " total,",
    },
];
