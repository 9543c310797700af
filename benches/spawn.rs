//! Claim: what starting a successor costs does not grow with the memory of the incumbent.
//!
//! `cargo bench -p handover-benches --bench spawn` (7 GiB of memory for three minutes)

use std::{
    error::Error,
    process::{Command, ExitCode},
};

use handover_benches::{Bound, Comparison, Program, Report, Rounds, Unit};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut programs = Vec::new();
    for (_, mebibytes) in SIZES {
        let mut program = Program::start(
            Command::new(env!("CARGO_BIN_EXE_resident")).arg(mebibytes.to_string()),
        )?;
        program.hear("ready")?;
        programs.push(program);
    }

    let names = SIZES.map(|(name, _)| name);
    let mut measure = |way: &str, what: &str, rounds| -> Result<Comparison, Box<dyn Error>> {
        let rounds = Rounds::measure(&names, rounds, |size| start_one(&mut programs[size], way))?;
        Ok(rounds.compare(what, Unit::Seconds, |seconds| *seconds))
    };
    let spawn = measure("spawn", "posix_spawn: the call", 300)?;
    let spawn_stall = measure(
        "spawn watched",
        "posix_spawn: another thread stands still",
        100,
    )?;
    let handover = measure(
        "handover",
        "handover: until a bad successor is known to be one",
        100,
    )?;
    let fork = measure("fork", "fork: the call", 30)?;
    let fork_stall = measure("fork watched", "fork: another thread stands still", 30)?;

    let mut report = Report::new();
    for comparison in [&spawn, &spawn_stall, &handover, &fork, &fork_stall] {
        report.measured(comparison);
    }
    let [smallest, middle, largest] = names;
    report.claim(spawn.claim(middle, smallest, Some(Bound::AtMost(1.5))));
    report.claim(spawn.claim(largest, smallest, Some(Bound::AtMost(1.5))));
    report.claim(handover.claim(middle, smallest, Some(Bound::AtMost(1.5))));
    report.claim(handover.claim(largest, smallest, Some(Bound::AtMost(1.5))));
    report.claim(fork.claim(largest, smallest, None));
    Ok(report.finish())
}

/// Lets the program start a process once, and returns seconds.
fn start_one(program: &mut Program, way: &str) -> Result<f64, Box<dyn Error>> {
    program.say(way)?;
    Ok(program.hear("took")?.parse::<f64>()? / 1e9)
}

const SIZES: [(&str, usize); 3] = [("10 MiB", 10), ("1 GiB", 1024), ("4 GiB", 4096)];
