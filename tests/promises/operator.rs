//! The operator of a service: over its control socket, and with the command `handover`.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use handover_tests::{Program, Target};
use serde_json::{Value, json};

use crate::support::{Fixture, Running};

/// A service with a control socket.
pub(crate) struct Operated {
    pub(crate) running: Running,
    pub(crate) socket: PathBuf,
}

impl Operated {
    /// Starts the fixture with a control socket.
    pub(crate) async fn start(fixture: Fixture) -> (Fixture, Self) {
        let fixture = with_control(fixture);
        let operated = Self::start_as(&fixture, fixture.program()).await;
        (fixture, operated)
    }

    /// Starts a program that has one already.
    pub(crate) async fn start_as(fixture: &Fixture, program: Program) -> Self {
        let service = program.start().expect("a program that can be started");
        let targets = service.listening(2).await;
        let is_tcp = |target: &Target| matches!(target, Target::Tcp(_));
        let target = targets.into_iter().find(is_tcp).expect("a TCP endpoint");
        service.generation(&target, 1).await;
        Self {
            running: Running { service, target },
            socket: fixture.path("control.sock"),
        }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.socket)
    }

    /// Asks over a connection of its own, and gives the last line of the answer.
    pub(crate) fn ask(&self, request: Value) -> Value {
        self.connect().ask(request)
    }

    /// The one connection of the service, with the beginning of a request: a drain waits for it.
    pub(crate) fn hold(&self) -> TcpStream {
        let Target::Tcp(address) = &self.running.target else {
            panic!("a TCP endpoint");
        };
        let count = |expected: u32| {
            let open = || {
                self.ask(json!({ "request": "status" }))["generations"][0]["connections"]["open"]
                    .clone()
            };
            while open() != expected {
                std::thread::yield_now();
            }
        };
        // Those whose client has closed them count until the service has seen it.
        count(0);
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(b"GET / HTTP/1.1\r\n").expect("it is open");
        count(1);
        stream
    }

    /// Runs the command.
    pub(crate) fn command<T: AsRef<OsStr>>(&self, arguments: &[T]) -> Output {
        Command::new(COMMAND)
            .arg("--socket")
            .arg(&self.socket)
            .args(arguments)
            .stdin(Stdio::null())
            .env_remove("HANDOVER_SOCKET")
            .output()
            .expect("the command can be started")
    }
}

/// A client of a control socket.
pub(crate) struct Client(BufReader<UnixStream>);

impl Client {
    pub(crate) fn connect(path: &std::path::Path) -> Self {
        let stream = UnixStream::connect(path).expect("the control socket is there");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.set_write_timeout(Some(LIMIT)).expect("a limit");
        Self(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, request: &Value) {
        self.write(format!("{request}\n").as_bytes());
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("it listens");
    }

    /// The next line; `None` at the end.
    pub(crate) fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        let count = self.0.read_line(&mut line).expect("a line in time");
        (count > 0).then(|| serde_json::from_str(&line).expect("a line is JSON"))
    }

    /// The last line that answers a request.
    pub(crate) fn answer(&mut self) -> Value {
        loop {
            let line = self.line().expect("an answer before the end");
            if line["type"] == "answer" || line["type"] == "error" {
                return line;
            }
        }
    }

    pub(crate) fn ask(&mut self, request: Value) -> Value {
        self.send(&request);
        self.answer()
    }

    /// Waits until the service closes the connection, and tells what it has said.
    pub(crate) fn rest(mut self) -> String {
        let mut text = Vec::new();
        // Reset, where it had not read everything.
        self.0.read_to_end(&mut text).ok();
        String::from_utf8_lossy(&text).into_owned()
    }
}

pub(crate) fn with_control(fixture: Fixture) -> Fixture {
    let endpoint = format!("unix:{}", fixture.path("control.sock").display());
    fixture
        .env("FIXTURE_CONTROL", endpoint)
        .env("FIXTURE_VERSION", "1.2.3")
}

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const COMMAND: &str = env!("CARGO_BIN_EXE_handover-command");
