//! The units of `contrib/systemd`, as they are: they are correct, and they run.
//!
//! What a test changes is where they listen: the network is everybody's.

use std::net::SocketAddr;
use std::path::Path;

use handover_tests::load::Kind;
use handover_tests::{Identity, Load, Target};

use crate::app;
use crate::machine::Machine;

on_each_version! {
    every_unit_is_correct,
    the_hardened_service_does_everything,
    the_socket_starts_the_service_and_outlives_it,
    the_template_runs_side_by_side,
}

async fn every_unit_is_correct(machine: Machine) {
    let units = install(&machine);
    assert!(units.len() >= 3, "{units:?}");
    for unit in units {
        // A template is looked at by one of its instances.
        let unit = unit.replace('@', "@8081");
        let complaints = machine
            .output(["systemd-analyze", "verify", "--man=no", &unit])
            .await;
        assert_eq!(complaints, "", "{unit}");
    }
    // Of 10; the rest is what a service on the network needs.
    let security = [
        "systemd-analyze",
        "security",
        "--no-pager",
        "--threshold=20",
        "app.service",
    ];
    machine.run(security).await;
}

/// Under load: reloads, a crash, a restart, a stop.
async fn the_hardened_service_does_everything(machine: Machine) {
    install(&machine);
    let address = machine.address(8080);
    listen_on(&machine, "app.service", address).await;
    machine.systemctl(["start", "app.service"]).await;
    let unit = Unit::new(&machine, "app.service", address);
    let mut incumbent = unit.serves().await;
    let load = load(address);
    for _ in 0..5 {
        load.progress(1).await;
        incumbent = unit.reload(incumbent).await;
    }
    load.progress(1).await;
    load.stop().await.assert_nothing_lost();

    machine.kill(incumbent.pid, "KILL").await;
    let again = |properties: &crate::machine::Properties| {
        let active = properties.get("ActiveState") == "active";
        (active && properties.number("NRestarts") == 1).then_some(())
    };
    machine.shows("app.service", "started again", again).await;
    incumbent = unit.serves().await;
    unit.reload(incumbent).await;
    machine.systemctl(["restart", "app.service"]).await;
    unit.serves().await;
    unit.stop().await;
}

async fn the_socket_starts_the_service_and_outlives_it(machine: Machine) {
    install(&machine);
    let address = machine.address(8080);
    listen_on(&machine, "app.service", address).await;
    let text = format!("[Socket]\nListenStream=\nListenStream={address}\n");
    machine.load([("app.socket.d/test.conf", &text)]).await;
    machine.systemctl(["start", "app.socket"]).await;
    let unit = Unit::new(&machine, "app.service", address);
    for _ in 0..2 {
        let load = load(address);
        load.progress(1).await;
        let mut incumbent = unit.serves().await;
        for _ in 0..3 {
            load.progress(1).await;
            incumbent = unit.reload(incumbent).await;
        }
        load.progress(1).await;
        load.stop().await.assert_nothing_lost();
        unit.stop().await;
        let socket = machine.show("app.socket").await;
        assert_eq!(socket.get("SubState"), "listening");
    }
}

async fn the_template_runs_side_by_side(machine: Machine) {
    install(&machine);
    let [one, two] = [8081, 8082].map(|port| machine.address(port));
    let units = [
        Unit::new(&machine, "app@8081.service", one),
        Unit::new(&machine, "app@8082.service", two),
    ];
    for unit in &units {
        listen_on(&machine, unit.name, unit.address).await;
    }
    machine
        .systemctl(["start", units[0].name, units[1].name])
        .await;
    let first = units[0].serves().await;
    let other = units[1].serves().await;
    units[0].reload(first).await;
    assert_eq!(units[1].serves().await, other, "it was not asked to");
    for unit in &units {
        unit.stop().await;
    }
}

/// A unit of `contrib` that listens on an address of the machine.
struct Unit<'m> {
    machine: &'m Machine,
    name: &'static str,
    address: SocketAddr,
}

impl<'m> Unit<'m> {
    fn new(machine: &'m Machine, name: &'static str, address: SocketAddr) -> Self {
        Self {
            machine,
            name,
            address,
        }
    }

    /// Who serves, which is whom systemd takes for the main process.
    async fn serves(&self) -> Identity {
        let identity = app::identity(&Target::Tcp(self.address)).await;
        let properties = self.machine.show(self.name).await;
        assert_eq!(properties.main_pid(), identity.pid, "{properties:?}");
        identity
    }

    async fn reload(&self, incumbent: Identity) -> Identity {
        self.machine.systemctl(["reload", self.name]).await;
        let moved = |properties: &crate::machine::Properties| {
            let moved = properties.main_pid() != incumbent.pid;
            (moved && properties.get("ActiveState") == "active").then_some(())
        };
        self.machine.shows(self.name, "reloaded", moved).await;
        let successor = self.serves().await;
        assert_eq!(successor.generation, incumbent.generation + 1);
        successor
    }

    async fn stop(&self) {
        self.machine.systemctl(["stop", self.name]).await;
        let properties = self.machine.show(self.name).await;
        assert_eq!(properties.get("Result"), "success", "{properties:?}");
        assert_eq!(properties.get("ActiveState"), "inactive", "{properties:?}");
        assert_eq!(self.machine.processes_of(self.name), "");
        // A correct unit is warned of nothing. What systemd says of the stop comes last.
        let journal = self.machine.journal();
        journal.find(0, self.name, "Deactivated successfully").await;
        assert_eq!(journal.messages(0, self.name, "WARN"), [""; 0]);
    }
}

/// Puts the units where systemd looks, and gives their names.
fn install(machine: &Machine) -> Vec<String> {
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/systemd");
    let mut names = Vec::new();
    for entry in contrib.read_dir().expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            // `Type=notify-reload` is not known before.
            if machine.version() >= 253 {
                for entry in path.read_dir().expect("a folder") {
                    copy(machine, &contrib, &entry.expect("an entry").path());
                }
            }
        } else {
            copy(machine, &contrib, &path);
            names.push(name);
        }
    }
    names
}

fn copy(machine: &Machine, contrib: &Path, path: &Path) {
    let text = std::fs::read_to_string(path).expect("a text");
    let name = path.strip_prefix(contrib).expect("it was found in there");
    machine.write(&format!("/etc/systemd/system/{}", name.display()), &text);
}

/// Lets a service listen on an address of this machine.
async fn listen_on(machine: &Machine, unit: &str, address: SocketAddr) {
    let file = format!("{unit}.d/test.conf");
    let text = format!("[Service]\nExecStart=\nExecStart=/usr/local/bin/app http={address}\n");
    machine.load([(&file, &text)]).await;
}

fn load(address: SocketAddr) -> Load {
    let plan = Load::on(address);
    let plan = [Kind::New, Kind::KeepAlive, Kind::ThinkTime]
        .into_iter()
        .fold(plan, |plan, kind| plan.clients(kind, 2));
    plan.start()
}
