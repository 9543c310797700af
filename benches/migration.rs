//! Claim: until idle connections of HTTP/1.1 have moved to the successor, and the old process has gone, it takes at most
//! twice the floor.
//!
//! The floor is to pass as many descriptors of established connections from one Tokio program to the next.
//!
//! `cargo bench -p handover-benches --bench migration` (a minute); with ` -- 10000` behind it, for that number of connections only

use std::{
    error::Error,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use handover_benches::{Bound, Program, Report, Rounds, Unit, install, is_chosen, now};
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<ExitCode> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;

    let mover = install(Path::new(env!("CARGO_BIN_EXE_mover")))?;
    let passing = install(Path::new(env!("CARGO_BIN_EXE_passing")))?;
    let mut report = Report::new();
    for (count, rounds) in [(1, 300), (100, 600), (10_000, 100)] {
        let connections = match count {
            1 => "1 connection".to_owned(),
            _ => format!("{count} connections"),
        };
        if !is_chosen(&connections) {
            continue;
        }
        let mut ours = Service::start(&mover, count)?;
        let mut floor = Service::start(&passing, count)?;
        let rounds = Rounds::measure(&["handover", "floor"], rounds, |contender| {
            if contender > 0 {
                return floor.hand_over();
            }
            // A connection of HTTP/1.1 between two requests, and not one that was just accepted.
            ours.ask()?;
            ours.hand_over()
        })?;
        ours.ask()?;

        let moved = rounds.compare(
            &format!("{connections}: the new process has all"),
            Unit::Seconds,
            |times| times.moved,
        );
        let gone = rounds.compare(
            &format!("{connections}: and the old one has gone"),
            Unit::Seconds,
            |times| times.moved.max(times.gone),
        );
        report.measured(&moved);
        report.measured(&gone);
        report.claim(moved.claim("handover", "floor", None));
        report.claim(gone.claim("handover", "floor", Some(Bound::AtMost(2.0))));
    }
    Ok(report.finish())
}

/// Seconds from the moment in which the old process lets go.
struct Times {
    moved: f64,
    gone: f64,
}

/// A service with its clients.
struct Service {
    program: Program,
    pid: String,
    clients: Program,
}

impl Service {
    fn start(path: &Path, count: u16) -> Result<Self> {
        let count = count.to_string();
        let mut program = Program::start(Command::new(path).arg(&count))?;
        let address = program.hear("serving")?;
        // In a process of their own, where they do not use up the descriptors of this one.
        let clients =
            Program::start(Command::new(env!("CARGO_BIN_EXE_clients")).args([&address, &count]))?;
        let (pid, _) = complete(&mut program)?;
        Ok(Self {
            program,
            pid,
            clients,
        })
    }

    /// Asks on every connection, each of which has to be the newest generation's.
    fn ask(&mut self) -> Result<()> {
        self.clients.say("ask")?;
        let pid = self.clients.hear("answered")?;
        if pid == self.pid {
            return Ok(());
        }
        Err(format!("process {pid} has answered, and not {}", self.pid).into())
    }

    fn hand_over(&mut self) -> Result<Times> {
        self.program.signal(Signal::SIGHUP)?;
        let start: u64 = self.program.hear("draining")?.parse()?;
        let start = Duration::from_micros(start);
        let (pid, complete) = complete(&mut self.program)?;
        self.program.follow(&pid)?;
        let gone = now()?;
        self.pid = pid;
        let since_start = |end: Duration| end.saturating_sub(start).as_secs_f64();
        Ok(Times {
            moved: since_start(complete),
            gone: since_start(gone),
        })
    }
}

/// Waits until the newest generation has all connections, and tells which one it is and when that was.
fn complete(program: &mut Program) -> Result<(String, Duration)> {
    let line = program.hear("complete")?;
    let (pid, at) = line
        .split_once(' ')
        .ok_or_else(|| format!("no time in `{line}`"))?;
    Ok((pid.to_owned(), Duration::from_micros(at.parse()?)))
}
