//! Starters that pass sockets as systemd does, and are not systemd.

use handover_tests::{Target, eventually};

use crate::app::{self, App};
use crate::machine::Machine;

on_each_version! {
    systemd_socket_activate_passes_sockets,
}

/// With names, and without them by address; they stay through handovers.
async fn systemd_socket_activate_passes_sockets(machine: Machine) {
    for (port, app, name) in [(7001, "named", Some("http")), (7002, "unnamed", None)] {
        let app = App::new(&machine, app, port);
        let address = machine.address(port);
        let endpoint = name.map_or_else(|| address.to_string(), |name| format!("systemd:{name}"));
        let mut words = vec![
            "systemd-socket-activate".to_owned(),
            format!("--listen={address}"),
            format!("--setenv=FIXTURE_TCP={endpoint}"),
        ];
        words.extend(name.map(|name| format!("--fdname={name}")));
        words.push(app.path("service"));
        let mut starter = machine.command(words).spawn().expect("nsenter runs");

        let target: Target = address.into();
        // The first client starts the service: until the starter listens, there is nothing to see.
        eventually("a socket", || std::net::TcpStream::connect(address).ok()).await;
        let mut incumbent = app::identity(&target).await;
        for generation in 2..=4 {
            machine.kill(incumbent.pid, "HUP").await;
            incumbent = app::generation(&target, generation).await;
        }
        machine.kill(incumbent.pid, "TERM").await;
        eventually("the end", || {
            (!machine.has_process(incumbent.pid)).then_some(())
        })
        .await;
        starter.kill().await.expect("it can be ended");
    }
}
