//! Claims: from the trigger to the successor serving takes at most 1.5 times the floor with one listener, at most twice
//! the floor with 10,000.
//!
//! With a control socket it takes as long, though the generations tell each other what happens.
//!
//! The floor is to spawn a Tokio program, to hand it as many sockets, and to hear that it is up.
//!
//! `cargo bench -p handover-benches --bench handover` (three minutes; the first time it builds the peer); with
//! ` -- 1 1000` behind it, for these numbers of listeners only.

use std::{
    error::Error,
    io::{self, IoSlice},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{Command, ExitCode},
    time::Instant,
};

use handover_benches::{Bound, Program, Report, Rounds, Unit, address, build_peer, is_chosen};
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<ExitCode> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let ecdysis = build_peer("ecdysis")?;

    let mut report = Report::new();
    for (count, pairs, bound) in [(1, 100, 1.5), (1000, 60, 2.0), (10_000, 40, 2.0)] {
        let listeners = if count == 1 {
            "1 listener".to_owned()
        } else {
            format!("{count} listeners")
        };
        if !is_chosen(&listeners) {
            continue;
        }
        let floor = Floor::new(count)?;
        let program = Path::new(env!("CARGO_BIN_EXE_service"));
        let mut ours = Service::start(program, "alone", count, None)?;
        let socket = format!("unix:@handover-bench-{}-{count}", std::process::id());
        let mut operated = Service::start(program, "alone", count, Some(&socket))?;
        let rounds = Rounds::measure(&["handover", "floor", "with control"], pairs, |contender| {
            match contender {
                0 => ours.hand_over(),
                1 => floor.spawn(),
                _ => operated.hand_over(),
            }
        })?;
        let serving = rounds.compare(
            &format!("{listeners}: the new process serves"),
            Unit::Seconds,
            |times| times.serving,
        );
        report.measured(&serving);
        report.claim(serving.claim("handover", "floor", Some(Bound::AtMost(bound))));
        report.claim(serving.claim("with control", "handover", Some(Bound::AtMost(1.1))));

        // With three descriptors for each listener, 10,000 do not fit the usual limit of a container.
        if count > 1000 {
            continue;
        }
        // Ecdysis sleeps for half a second in each handover, and so does the machine: apart from the others, whose
        // next one would begin with waking it.
        let mut theirs = Service::start(&ecdysis, "released", count, None)?;
        let rounds = Rounds::measure(
            &["handover", "ecdysis"],
            pairs,
            |contender| match contender {
                0 => ours.hand_over(),
                _ => theirs.hand_over(),
            },
        )?;
        let serving = rounds.compare(
            &format!("{listeners}, beside ecdysis: the new process serves"),
            Unit::Seconds,
            |times| times.serving,
        );
        let settled = rounds.compare(
            &format!("{listeners}, beside ecdysis: the old one accepts no more"),
            Unit::Seconds,
            |times| times.settled,
        );
        report.measured(&serving);
        report.measured(&settled);
        report.claim(serving.claim("handover", "ecdysis", None));
        report.claim(settled.claim("handover", "ecdysis", Some(Bound::AtMost(1.0))));
    }
    Ok(report.finish())
}

/// Seconds from the trigger.
struct Times {
    serving: f64,
    /// For ours: the predecessor has exited, which is later still.
    settled: f64,
}

struct Service {
    program: Program,
    /// What is said when the old process takes nothing new.
    last_word: &'static str,
}

impl Service {
    fn start(
        path: &Path,
        last_word: &'static str,
        count: u16,
        control: Option<&str>,
    ) -> Result<Self> {
        // A port that is free now; the addresses of this bench are nobody else's.
        let port = TcpListener::bind(address(0, 0))?.local_addr()?.port();
        let mut command = Command::new(path);
        command.args([count.to_string(), port.to_string()]);
        command.envs(control.map(|endpoint| ("CONTROL", endpoint)));
        let mut program = Program::start(&mut command)?;
        program.hear("serving")?;
        Ok(Self { program, last_word })
    }

    fn hand_over(&mut self) -> Result<Times> {
        let start = Instant::now();
        self.program.signal(Signal::SIGHUP)?;
        let pid = self.program.hear("serving")?;
        let serving = start.elapsed().as_secs_f64();
        self.program.hear(self.last_word)?;
        let settled = start.elapsed().as_secs_f64();
        self.program.follow(&pid)?;
        Ok(Times { serving, settled })
    }
}

struct Floor {
    listeners: Vec<TcpListener>,
}

impl Floor {
    /// With a single listener the floor is the bare program, without any.
    fn new(count: u16) -> Result<Self> {
        let count = if count == 1 { 0 } else { count };
        let listeners = (0..count)
            .map(|_| {
                let listener = TcpListener::bind("127.0.0.1:0")?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { listeners })
    }

    fn spawn(&self) -> Result<Times> {
        let start = Instant::now();
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_floor"));
        let mut program = Program::start_with(
            command.arg(self.listeners.len().to_string()),
            OwnedFd::from(theirs).into(),
        )?;
        for chunk in self.listeners.chunks(253) {
            let descriptors: Vec<BorrowedFd<'_>> = chunk.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                return Err("253 descriptors do not fit a message".into());
            }
            sendmsg(
                &ours,
                &[IoSlice::new(&[0])],
                &mut ancillary,
                SendFlags::empty(),
            )?;
        }
        program.hear("up")?;
        let up = start.elapsed().as_secs_f64();
        Ok(Times {
            serving: up,
            settled: up,
        })
    }
}
