//! Servers under a load, in turns.

use std::{
    error::Error,
    process::{Command, ExitCode},
};

use crate::{Bound, Program, Report, Rounds, Unit, is_chosen};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Claims that the first of two servers answers at least 0.98 times as many requests a second as the second.
///
/// They are started as `program SERVER`, and say `serving ADDRESS`; anew for each load, for two processes of the same
/// program may differ by more than is to be seen.
///
/// # Errors
///
/// If a server or a load generator cannot be started, or requests fail.
pub fn compare_servers(program: &str, servers: [&str; 2], loads: &[Load]) -> Result<ExitCode> {
    let mut report = Report::new();
    let [ours, theirs] = servers;
    for load in loads.iter().filter(|load| is_chosen(load.name)) {
        let rounds = Rounds::measure(&servers, 60, |server| {
            let mut program = Program::start(Command::new(program).arg(servers[server]))?;
            let address = program.hear("serving")?;
            let before = program.processor_time()?;
            let (rate, requests) = load.run(&address)?;
            let used = program.processor_time()? - before;
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
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// What it is.
    pub name: &'static str,
    /// What is started.
    pub program: &'static str,
    /// With which arguments, ahead of the address.
    pub arguments: &'static [&'static str],
    /// What is asked for.
    pub path: &'static str,
    /// What stands after the rate.
    pub rate_before: &'static str,
    /// What stands after the number of requests.
    pub requests_before: &'static str,
}

impl Load {
    /// Loads the service for a second; returns how many requests it answered in one, and how many in all.
    fn run(&self, address: &str) -> Result<(f64, f64)> {
        let output = Command::new(self.program)
            .args(self.arguments)
            .arg(format!("http://{address}{}", self.path))
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
