//! The fixture as a service of a machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

use handover_tests::load::{Kind, Request, ask};
use handover_tests::{Identity, LIMIT, Load, Target, within};
use rustix::fs::{CWD, Mode, mkfifoat};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::machine::{Entry, Machine, Properties};

/// A service of the fixture, `app.service`, in a directory of its own, `/run/app`; it is started by
/// a symbolic link there that can be replaced.
#[derive(Debug)]
pub(crate) struct App<'m> {
    machine: &'m Machine,
    name: &'static str,
    pub(crate) target: Target,
}

impl<'m> App<'m> {
    /// Makes its directory. It listens on `port` of the machine, unless [`load`](Self::load) is told
    /// otherwise.
    pub(crate) fn new(machine: &'m Machine, name: &'static str, port: u16) -> Self {
        let app = Self {
            machine,
            name,
            target: machine.address(port).into(),
        };
        app.set_faults("");
        app.deploy("/usr/local/bin/fixture");
        let fifo = machine.path(app.path("faults.go"));
        mkfifoat(CWD, fifo, Mode::RUSR | Mode::WUSR).expect("a FIFO");
        app
    }

    /// Writes its unit with these lines in `[Service]`, and loads it.
    pub(crate) async fn load(&self, lines: &str) -> &Self {
        let Self { target, name, .. } = self;
        let text = format!(
            "[Unit]\n\
             Description=The fixture\n\
             StartLimitIntervalSec=0\n\
             [Service]\n\
             ExecStart=/run/{name}/service\n\
             Environment=FIXTURE_TCP=http={target} FIXTURE_FAULTS=/run/{name}/faults FIXTURE_SYSTEMD=1 RUST_BACKTRACE=0\n\
             {lines}\n"
        );
        let unit = self.unit();
        self.machine.load([(&unit, &text)]).await;
        self
    }

    /// The name of its unit.
    pub(crate) fn unit(&self) -> String {
        format!("{}.service", self.name)
    }

    /// A path in its directory.
    pub(crate) fn path(&self, file: &str) -> String {
        format!("/run/{}/{file}", self.name)
    }

    /// Sets what goes wrong in the generations that start from now on.
    pub(crate) fn set_faults(&self, faults: &str) {
        self.machine.write(&self.path("faults"), faults);
    }

    /// Lets another program be what is started next.
    pub(crate) fn deploy(&self, program: &str) {
        let path = self.machine.path(self.path("service"));
        // There is none before the first time.
        fs::remove_file(&path).ok();
        symlink(program, path).expect("a link can be made");
    }

    /// What systemd says of it.
    pub(crate) async fn show(&self) -> Properties {
        self.machine.show(&self.unit()).await
    }

    /// Starts it, and tells who serves.
    pub(crate) async fn start(&self) -> Identity {
        self.machine.systemctl(["start", &self.unit()]).await;
        self.identity().await
    }

    /// Stops it, and checks that nothing of it is left.
    pub(crate) async fn stop(&self) {
        self.machine.systemctl(["stop", &self.unit()]).await;
        let properties = self.show().await;
        assert_eq!(properties.get("Result"), "success", "{properties:?}");
        assert_eq!(properties.get("ActiveState"), "inactive");
        self.assert_no_process();
    }

    /// Reloads it, and waits until systemd knows the successor.
    pub(crate) async fn reload(&self, incumbent: Identity) -> Identity {
        self.machine.systemctl(["reload", &self.unit()]).await;
        self.settled(incumbent).await
    }

    /// Waits until systemd takes another process for the main one, and checks that it serves.
    pub(crate) async fn settled(&self, incumbent: Identity) -> Identity {
        let properties = self
            .shows("reloaded", |properties| {
                let moved = properties.main_pid() != incumbent.pid;
                (moved && properties.get("ActiveState") == "active").then(|| properties.clone())
            })
            .await;
        let successor = self.identity().await;
        assert_eq!(successor.generation, incumbent.generation + 1);
        assert_eq!(properties.main_pid(), successor.pid, "the main pid");
        assert_eq!(properties.get("SubState"), "running");
        assert_eq!(properties.get("NRestarts"), "0");
        successor
    }

    /// Checks that nothing has become of it.
    pub(crate) async fn assert_serves(&self, incumbent: Identity) {
        let properties = self.show().await;
        assert_eq!(properties.get("ActiveState"), "active");
        assert_eq!(properties.main_pid(), incumbent.pid, "the main pid");
        assert_eq!(properties.get("NRestarts"), "0");
        assert_eq!(self.identity().await, incumbent);
    }

    /// Waits until what systemd says of it is as `look` wants it.
    pub(crate) async fn shows<T>(&self, what: &str, look: impl Fn(&Properties) -> Option<T>) -> T {
        self.machine.shows(&self.unit(), what, look).await
    }

    /// Waits until its status has this text.
    pub(crate) async fn status(&self, text: &str) -> String {
        self.shows(&format!("in the status `{text}`"), |properties| {
            let status = properties.get("StatusText");
            status.contains(text).then(|| status.to_owned())
        })
        .await
    }

    /// Waits until systemd has started it again, and tells who serves.
    pub(crate) async fn restarted(&self, times: u64) -> Identity {
        self.shows("restarted", |properties| {
            let active = properties.get("ActiveState") == "active";
            (active && properties.number("NRestarts") == times).then_some(())
        })
        .await;
        self.identity().await
    }

    /// Waits for a line that it logs from the place `from` of the journal on.
    pub(crate) async fn logs(&self, from: usize, text: &str) -> Entry {
        let journal = self.machine.journal();
        journal.find(from, &self.unit(), text).await
    }

    /// The warnings that it has logged from the place `from` of the journal on.
    pub(crate) fn warnings(&self, from: usize) -> Vec<String> {
        self.machine.journal().messages(from, &self.unit(), "WARN")
    }

    /// Checks that its group is empty, which is where systemd would have left a process.
    pub(crate) fn assert_no_process(&self) {
        let processes = self.machine.processes_of(&self.unit());
        assert_eq!(processes, "", "processes are left");
    }

    /// Waits until a generation waits because a fault has told it to.
    pub(crate) async fn waiting(&self) -> Waiting {
        let fifo = self.machine.path(self.path("faults.go"));
        let (opened, wait) = oneshot::channel();
        // Opening blocks until the other end is opened. A thread of our own: a runtime would wait
        // for one of its own to end.
        thread::spawn(move || opened.send(fs::File::options().write(true).open(fifo)));
        let fifo = within("a generation that waits", wait).await;
        let fifo = fifo.expect("the thread answers");
        let pid = fs::read_to_string(self.machine.path(self.path("faults.pid")));
        Waiting {
            pid: pid.expect("it says who it is").parse().expect("a pid"),
            fifo: fifo.expect("the FIFO can be opened"),
        }
    }

    /// Who serves.
    pub(crate) async fn identity(&self) -> Identity {
        identity(&self.target).await
    }

    /// Sends a request that is never answered, and waits until it is taken. It ends with the
    /// connection.
    pub(crate) async fn hold(&self) -> TcpStream {
        let from = self.machine.journal().len();
        let stream = self.send("/hang").await;
        self.logs(from, "hangs").await;
        stream
    }

    /// Sends a request, and waits for nothing.
    pub(crate) async fn send(&self, path: &str) -> TcpStream {
        let Target::Tcp(address) = self.target else {
            panic!("{} is not TCP", self.target);
        };
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: service\r\n\r\n");
        let written = stream.write_all(request.as_bytes()).await;
        written.expect("a connection that is open");
        stream
    }

    /// A load of every kind.
    pub(crate) fn load_of_every_kind(&self) -> Load {
        let plan = Load::on(self.target.clone())
            .pause(Kind::Idle, millis(200)..=millis(600))
            .pause(Kind::Silent, millis(0)..=millis(400));
        let plan = Kind::ALL
            .into_iter()
            .fold(plan, |plan, kind| plan.clients(kind, 2));
        plan.start()
    }

    pub(crate) fn load_of_new_connections(&self) -> Load {
        load_of_new_connections(&self.target)
    }
}

/// A generation that waits; it goes on when this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) pid: u32,
    fifo: fs::File,
}

impl Waiting {
    /// Lets it go on.
    pub(crate) fn go(self) {
        drop(self.fifo);
    }
}

/// How a unit is reloaded: by what its systemd knows best.
pub(crate) fn reload_by(machine: &Machine) -> &'static str {
    match machine.version() {
        253.. => "Type=notify-reload",
        _ => RELOAD_BY_COMMAND,
    }
}

/// How a unit is reloaded where systemd is older than 253.
pub(crate) const RELOAD_BY_COMMAND: &str = "Type=notify\nExecReload=/bin/kill -HUP $MAINPID";

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A load that makes a connection for each request. It may wait long, for a start.
pub(crate) fn load_of_new_connections(target: &Target) -> Load {
    let plan = Load::on(target.clone()).clients(Kind::New, 4);
    plan.timeout(LIMIT).start()
}

/// Who serves at `target`.
pub(crate) async fn identity(target: &Target) -> Identity {
    let what = format!("an answer of {target}");
    let answer = within(what, ask(target, &Request::get("/"))).await;
    let answer = answer.unwrap_or_else(|fault| panic!("no answer from {target}: {fault}"));
    answer.identity.expect("the fixture says who it is")
}

/// Asks again and again until generation `generation` answers.
pub(crate) async fn generation(target: &Target, generation: u32) -> Identity {
    within(format_args!("generation {generation} at {target}"), async {
        loop {
            let identity = identity(target).await;
            if identity.generation >= generation {
                return identity;
            }
        }
    })
    .await
}
