//! The options of `handover verify`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use handover::testing::Program;
use handover::testing::verify::{self, Kill, Place, Trigger, Usage};

/// Prove what a service loses when it is restarted under load
///
/// Starts the program, finds out where it listens and what it speaks there, loads it, restarts it again and
/// again, and counts. A request has failed if its connection could not be made, or if a byte of it was sent and no
/// whole answer came.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Verify {
    /// Load this, and only what is named; without it every socket on which the program listens.
    /// http://HOST:PORT/PATH, https://…, ws://…, tcp://HOST:PORT or unix:PATH
    #[arg(long, value_name = "URL")]
    url: Vec<Place>,
    /// How to load it; without it in every way that fits what it speaks
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    load: Vec<Load>,
    /// What to say to a service of lines; it has to answer with a line
    #[arg(long, value_name = "TEXT")]
    send: Option<String>,
    /// Connections of each kind of load
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// Requests per second of each kind of load, in bursts
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// How often to restart it; without it 10 times, or as often as 20 s allow
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    handovers: Option<u32>,
    /// The time between two restarts; without it a random one of 300 to 900 ms
    #[arg(long, value_name = "TIME", value_parser = time)]
    pause: Option<Duration>,
    /// What restarts it: `control`, its control socket; a signal; or a command of the shell in which `{pid}` is the
    /// process that serves, or its master. Without it its control socket, or HUP where it has none
    #[arg(long, value_name = "WHAT")]
    trigger: Option<Trigger>,
    /// Kill a process in each restart: `successor` or `incumbent`, `@`, and milliseconds after the
    /// trigger or `random`, as in `successor@20ms`
    #[arg(long, value_name = "WHOM@WHEN")]
    kill: Option<Kill>,
    /// What all random times come from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How long the start, and each restart, may take
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    timeout: Duration,
    /// How many requests may fail without a failure of the command
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) allow_failed: u64,
    /// Write the outcome to this file as well, as JUnit does
    #[arg(long, value_name = "FILE")]
    pub(super) junit: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub(super) command: Vec<OsString>,
}

impl Verify {
    /// What was asked for.
    pub(super) fn plan(&self, program: Program, socket: Option<&Path>) -> verify::Verify {
        let mut plan = verify::Verify::new(program)
            .clients(self.clients.into())
            .rate(self.rate)
            .seed(self.seed)
            .timeout(self.timeout);
        plan = match self.handovers {
            Some(count) => plan.handovers(count as usize),
            None => plan.duration(QUICK),
        };
        if !self.load.is_empty() {
            plan = plan.usages(self.load.iter().copied().map(Usage::from));
        }
        if let Some(pause) = self.pause {
            plan = plan.pause(pause..=pause);
        }
        if let Some(kill) = self.kill {
            plan = plan.kill(kill);
        }
        if let Some(trigger) = &self.trigger {
            plan = plan.trigger(trigger.clone());
        }
        if let Some(socket) = socket {
            plan = plan.control(socket.to_owned());
        }
        if let Some(text) = &self.send {
            plan = plan.say(text);
        }
        self.url.iter().cloned().fold(plan, verify::Verify::place)
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Load {
    /// HTTP/1.1, a new connection for each request
    New,
    /// HTTP/1.1, each request at once after the answer to the last
    KeepAlive,
    /// HTTP/1.1, up to 200 ms between two requests
    ThinkTime,
    /// HTTP/1.1, 0.5 to 1.5 s between two requests
    Idle,
    /// HTTP/1.1, connect, say nothing for up to 1 s, ask once
    Silent,
    /// HTTP/2, 8 requests at once on each connection
    Http2,
    /// WebSockets, on which pings have to come back
    Websocket,
    /// Lines over TCP or a Unix socket
    Raw,
}

impl From<Load> for Usage {
    fn from(load: Load) -> Self {
        match load {
            Load::New => Self::New,
            Load::KeepAlive => Self::KeepAlive,
            Load::ThinkTime => Self::ThinkTime,
            Load::Idle => Self::Idle,
            Load::Silent => Self::Silent,
            Load::Http2 => Self::Http2,
            Load::Websocket => Self::WebSocket,
            Load::Raw => Self::Raw,
        }
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let number: u64 = digits
        .parse()
        .map_err(|_| "expected a number with `ms`, `s` or `m`, as in `30s`".to_owned())?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        "" => Err("no unit, expected `ms`, `s` or `m`, as in `30s`".to_owned()),
        unit => Err(format!(
            "`{unit}` is no unit, expected `ms`, `s` or `m`, as in `30s`"
        )),
    }
}

/// Who says nothing wants to see something soon.
const QUICK: Duration = Duration::from_secs(20);

const EXAMPLES: &str = "\
Examples:
  handover verify -- ./my-server --port 8080
  handover verify --handovers 50 --load new,keep-alive --url http://localhost:8080/health -- ./my-server
  handover verify --kill successor@random --seed 7 -- ./my-server
  handover verify --trigger 'kill -USR2 {pid}' -- haproxy -W -f haproxy.cfg";
