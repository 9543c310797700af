//! The fixture, set up for a test.

pub(crate) mod kernel;
pub(crate) mod program;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use futures::future::join_all;
use handover_tests::load::Kind;
use handover_tests::{Identity, Load, Process, Program, Service, Signal, Target, within};
use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// The fixture in a directory of its own, started by a symbolic link that can be replaced.
#[derive(Debug)]
pub(crate) struct Fixture {
    directory: TempDir,
    environment: Vec<(OsString, OsString)>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let fixture = Self {
            directory,
            environment: Vec::new(),
        };
        fixture.deploy(Path::new(FIXTURE));
        mkfifoat(CWD, fixture.path("faults.go"), Mode::RUSR | Mode::WUSR).expect("a FIFO");
        let faults = fixture.faults();
        fixture
            .env("FIXTURE_FAULTS", faults)
            .env("RUST_BACKTRACE", "0")
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// A path in the directory of this fixture.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts it, with one TCP endpoint, and waits until it serves there.
    pub(crate) async fn start(&self) -> Running {
        self.started(self.program()).await
    }

    /// The same for another program, which may be the fixture with more variables.
    pub(crate) async fn started(&self, program: Program) -> Running {
        let service = program.start();
        let service = service.expect("a program that can be started");
        let target = service.listening(1).await.swap_remove(0);
        service.generation(&target, 1).await;
        Running { service, target }
    }

    /// The program, with all that was set up for it.
    pub(crate) fn program(&self) -> Program {
        self.started_by(self.path(PROGRAM))
    }

    /// Another program, with all that was set up for this one.
    pub(crate) fn started_by(&self, program: impl AsRef<Path>) -> Program {
        self.with_environment(Program::new(program))
    }

    /// Gives a program the variables of this fixture.
    pub(crate) fn with_environment(&self, program: Program) -> Program {
        self.environment
            .iter()
            .fold(program, |program, (name, value)| program.env(name, value))
    }

    /// Sets what goes wrong in the generations that start from now on.
    pub(crate) fn set_faults(&self, faults: &str) {
        fs::write(self.faults(), faults).expect("a file that can be written");
    }

    /// Lets another program be what the next generation starts.
    pub(crate) fn deploy(&self, program: &Path) {
        self.remove_program();
        symlink(program, self.path(PROGRAM)).expect("a link can be made");
    }

    /// Lets the fixture be what the next generation starts.
    pub(crate) fn deploy_fixture(&self) {
        self.deploy(Path::new(FIXTURE));
    }

    /// Lets a file with this content and mode be what the next generation starts.
    pub(crate) fn deploy_file(&self, content: &str, mode: u32) {
        self.remove_program();
        let path = self.path(PROGRAM);
        fs::write(&path, content).expect("a file that can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    pub(crate) fn remove_program(&self) {
        if let Err(error) = fs::remove_file(self.path(PROGRAM)) {
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
        }
    }

    /// Waits until a generation waits because a fault has told it to.
    pub(crate) async fn waiting(&self) -> Waiting {
        let fifo = self.path("faults.go");
        let (opened, wait) = oneshot::channel();
        // Opening blocks until the other end is opened. A thread of our own: a runtime would wait
        // for one of its own to end.
        thread::spawn(move || opened.send(fs::File::options().write(true).open(fifo)));
        let fifo = within("a generation that waits", wait).await;
        let fifo = fifo
            .expect("the thread answers")
            .expect("the FIFO can be opened");
        let text = fs::read_to_string(self.path("faults.pid")).expect("it says who it is");
        let process = Process::open(text.parse().expect("a pid")).expect("it waits");
        Waiting { process, fifo }
    }

    fn faults(&self) -> PathBuf {
        self.path("faults")
    }
}

/// A generation that waits; it goes on when this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    process: Process,
    fifo: fs::File,
}

impl Waiting {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Lets it go on.
    pub(crate) fn go(self) {
        drop(self.fifo);
    }

    /// Sends it a signal, which does not let it go on.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal).expect("it waits");
    }

    /// Kills it.
    pub(crate) fn kill(self) {
        self.process.kill();
    }
}

/// A service that serves.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) service: Service,
    pub(crate) target: Target,
}

impl Running {
    /// Who serves.
    pub(crate) async fn identity(&self) -> Identity {
        self.service.identity(&self.target).await
    }

    /// Hands over, and waits until the successor answers.
    ///
    /// The predecessor may still accept for a moment: until it has closed its gates.
    pub(crate) async fn hand_over(&self, incumbent: Identity) -> Identity {
        signal(incumbent, Signal::HUP);
        let successor = self
            .service
            .generation(&self.target, incumbent.generation + 1)
            .await;
        assert_eq!(successor.generation, incumbent.generation + 1);
        successor
    }

    /// Waits until a generation says that it has ended.
    pub(crate) async fn ended(&self, generation: u32) {
        let ended = format!("ended generation={generation} ");
        self.service.output().find(&ended).await;
    }

    /// A load of every kind, small enough for a machine that runs other tests too.
    pub(crate) fn load(&self) -> Load {
        Kind::ALL
            .into_iter()
            .fold(Load::on(self.target.clone()), |plan, kind| {
                plan.clients(kind, 2)
            })
            .pause(Kind::Idle, millis(200)..=millis(600))
            .pause(Kind::Silent, millis(0)..=millis(400))
            .start()
    }
}

/// Tries all cases at once, where what each does most is wait.
pub(crate) async fn all<T>(cases: impl IntoIterator<Item = T>, attempt: impl AsyncFn(T)) {
    join_all(cases.into_iter().map(|case| attempt(case))).await;
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Sends a generation a signal.
pub(crate) fn signal(identity: Identity, signal: Signal) {
    Process::open(identity.pid)
        .and_then(|process| process.signal(signal))
        .unwrap_or_else(|error| panic!("{identity} has gone: {error}"));
}

const PROGRAM: &str = "service";
const FIXTURE: &str = env!("CARGO_BIN_EXE_fixture");
