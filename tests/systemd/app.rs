//! The fixture as a service of a machine.

use std::fs;

use handover_tests::load::{Kind, Request, ask};
use handover_tests::{Identity, Load, Target, within};
use rustix::fs::{CWD, Mode, mkfifoat};
use std::os::unix::fs::symlink;

use crate::machine::{Machine, Properties};

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
             Environment=FIXTURE_TCP=http={target} FIXTURE_FAULTS=/run/{name}/faults RUST_BACKTRACE=0\n\
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

    pub(crate) async fn start(&self) -> Identity {
        self.machine.systemctl(["start", &self.unit()]).await;
        self.identity().await
    }

    pub(crate) async fn stop(&self) {
        self.machine.systemctl(["stop", &self.unit()]).await;
    }

    /// Who serves.
    pub(crate) async fn identity(&self) -> Identity {
        identity(&self.target).await
    }

    /// A load of every kind.
    pub(crate) fn load_of_every_kind(&self) -> Load {
        let plan = Load::on(self.target.clone());
        let plan = Kind::ALL
            .into_iter()
            .fold(plan, |plan, kind| plan.clients(kind, 2));
        plan.start()
    }
}

/// Who serves at `target`.
pub(crate) async fn identity(target: &Target) -> Identity {
    let what = format!("an answer of {target}");
    let answer = within(what, ask(target, &Request::get("/"))).await;
    let answer = answer.unwrap_or_else(|fault| panic!("no answer from {target}: {fault}"));
    answer.identity.expect("the fixture says who it is")
}
