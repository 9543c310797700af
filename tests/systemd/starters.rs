//! Starters that pass sockets as systemd does, and are not systemd.

use std::net::{SocketAddr, TcpStream};

use handover_tests::{Identity, Target, eventually, within};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::activation::ask_udp;
use crate::app::{self, App};
use crate::machine::Machine;

on_each_version! {
    systemd_socket_activate_passes_sockets,
    systemd_socket_activate_passes_datagram_sockets,
    systemd_socket_activate_that_accepts_itself_is_an_error,
    a_starter_that_names_no_process_passes_sockets,
}

/// With names, and without them by address; they stay through handovers.
async fn systemd_socket_activate_passes_sockets(machine: Machine) {
    let [named, other, unnamed] = [7001, 7002, 7003].map(|port| machine.address(port));
    let cases = [
        (
            "named",
            vec![named, other],
            Some("http:other"),
            "systemd:http systemd:other",
        ),
        ("unnamed", vec![unnamed], None, &*unnamed.to_string()),
    ];
    for (name, addresses, names, endpoints) in cases {
        let app = App::new(&machine, name, 7000);
        let mut words = vec![
            "systemd-socket-activate".to_owned(),
            "--setenv=FIXTURE_TCP=".to_owned(),
            format!("-EFIXTURE_STREAMS={endpoints}"),
        ];
        words.extend(addresses.iter().map(|address| format!("-l{address}")));
        words.extend(names.map(|names| format!("--fdname={names}")));
        words.push(app.path("service"));
        hands_over(&machine, words, &addresses).await;
    }
}

async fn systemd_socket_activate_passes_datagram_sockets(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    let address = machine.address(7001);
    let words = [
        "systemd-socket-activate",
        "-d",
        "-l",
        &address.to_string(),
        "--fdname=dns",
        "-EFIXTURE_TCP=",
        "-EFIXTURE_DATAGRAMS=systemd:dns",
        &app.path("service"),
    ];
    let mut starter = machine.command(words).spawn().expect("nsenter runs");
    let is_bound = || std::net::UdpSocket::bind(address).err();
    eventually("a socket", is_bound).await;
    let identity = async || Identity::parse(&ask_udp(address).await).expect("an identity");
    let mut incumbent = identity().await;
    for generation in 2..=4 {
        machine.kill(incumbent.pid, "HUP").await;
        incumbent = within(format_args!("generation {generation}"), async {
            loop {
                let identity = identity().await;
                if identity.generation == generation {
                    return identity;
                }
            }
        })
        .await;
    }
    end(&machine, incumbent.pid).await;
    starter.kill().await.expect("it can be ended");
}

async fn systemd_socket_activate_that_accepts_itself_is_an_error(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    let address = machine.address(7001);
    let words = [
        "systemd-socket-activate",
        "-a",
        "-l",
        &address.to_string(),
        &format!("-EFIXTURE_TCP=http={address}"),
        &app.path("service"),
    ];
    let mut starter = machine.command(words);
    let mut starter = starter
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("nsenter runs");
    let stderr = starter.stderr.take().expect("just asked for");
    let _client = eventually("a socket", || TcpStream::connect(address).ok()).await;
    let mut lines = BufReader::new(stderr).lines();
    let error = within("an error", async {
        while let Some(line) = lines.next_line().await.expect("a pipe") {
            if line.contains("Error: ") {
                return line;
            }
        }
        panic!("no error");
    });
    let error = error.await;
    assert!(error.contains("systemd passed a connection"), "{error}");
    starter.kill().await.expect("it can be ended");
}

/// As `systemfd` does in front of a tool that builds and runs, whose last child it cannot know. A
/// shell stands for it: it holds the socket, and takes the pid back out of the environment.
async fn a_starter_that_names_no_process_passes_sockets(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    let address = machine.address(7001);
    let script = format!(
        "unset LISTEN_PID LISTEN_PIDFDID LISTEN_FDNAMES; {} & wait",
        app.path("service")
    );
    let words = [
        "systemd-socket-activate",
        &format!("-l{address}"),
        &format!("-EFIXTURE_TCP={address}"),
        "/bin/sh",
        "-c",
        &script,
    ];
    hands_over(&machine, words.map(str::to_owned), &[address]).await;
}

/// Starts a starter of the fixture, and hands over three times.
async fn hands_over(
    machine: &Machine,
    words: impl IntoIterator<Item = String>,
    addresses: &[SocketAddr],
) {
    let mut starter = machine.command(words).spawn().expect("nsenter runs");
    let target: Target = addresses[0].into();
    // The first client starts the service: until the starter listens, there is nothing to see.
    eventually("a socket", || TcpStream::connect(addresses[0]).ok()).await;
    let mut incumbent = app::identity(&target).await;
    for generation in 2..=4 {
        machine.kill(incumbent.pid, "HUP").await;
        incumbent = app::generation(&target, generation).await;
        for address in addresses {
            let target: Target = (*address).into();
            let identity = app::generation(&target, generation).await;
            assert_eq!(identity, incumbent, "{address}");
        }
    }
    end(machine, incumbent.pid).await;
    starter.kill().await.expect("it can be ended");
}

async fn end(machine: &Machine, pid: u32) {
    machine.kill(pid, "TERM").await;
    eventually("the end", || (!machine.has_process(pid)).then_some(())).await;
}
