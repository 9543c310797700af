//! Promise 7, for what systemd has passed: it stays through every handover, and it stays systemd's.

use std::fs;

use handover_tests::load::Request;
use handover_tests::{Exit, Process, Program};

use crate::support::Fixture;
use crate::support::kernel::{listening_inodes, socket_inodes};

/// Sockets are claimed by their names, by their addresses, and several by one name; each generation
/// has the very same ones.
#[tokio::test]
async fn sockets_of_systemd_survive_handovers() {
    let fixture = Fixture::new();
    let (path, file) = (fixture.path("app.sock"), fixture.path("data"));
    fs::write(&file, "what systemd has opened").expect("a file");
    let streams = format!("systemd:more unix:{}", path.display());
    let fixture = fixture
        .env("FIXTURE_STREAMS", &streams)
        .env("FIXTURE_TAKE", "data")
        .env("FIXTURE_DATAGRAMS", "dns=udp:127.0.0.1:0");
    let sockets = format!(
        "tcp:127.0.0.1:0 tcp:127.0.0.1:0 unix:{} tcp:[::1]:0 file:{} udp:127.0.0.1:0",
        path.display(),
        file.display()
    );
    let program = activated(&fixture, "http:more:unknown:more:data:dns", &sockets);
    let service = program.start().expect("a program that can be started");
    // Only those of the activation are there: nothing was bound beside them.
    let targets = service.listening(4).await;
    service.generation(&targets[0], 1).await;
    let running = crate::support::Running {
        service,
        target: targets[0].clone(),
    };
    let mut incumbent = running.identity().await;
    let inodes = listening_inodes(incumbent);
    assert_eq!(inodes.len(), 4);
    let lines = running.endpoints(incumbent).await;
    assert!(lines[1].starts_with("systemd:more [127.0.0.1:") && lines[1].contains(", [::1]:"));
    let take = Request::get("/take?data");
    let data = running.ask(&take).await;
    assert!(data.ends_with(" what systemd has opened"), "{data}");

    for _ in 0..3 {
        incumbent = running.hand_over_and_end(incumbent).await;
        assert!(inodes.is_subset(&socket_inodes(incumbent)), "others");
        assert_eq!(running.endpoints(incumbent).await, lines);
        for target in &targets {
            assert_eq!(running.service.identity(target).await, incumbent);
        }
        assert_eq!(running.ask(&take).await, data);
        let process = Process::open(incumbent.pid).expect("it serves");
        let environment = process.environment().expect("it serves");
        let listen =
            |variable: &&std::ffi::OsString| variable.as_encoded_bytes().starts_with(b"LISTEN_");
        assert_eq!(environment.iter().find(listen), None, "meant for another");
    }
    let exits = running.service.stop().await;
    assert!(exits.iter().all(|exit| exit.is_success()), "{exits:?}");
    assert!(path.exists(), "the path is systemd's to remove");
}

/// What is announced to another process is not believed.
#[tokio::test]
async fn what_systemd_has_passed_to_another_process_is_left_alone() {
    let fixture = Fixture::new().env("FIXTURE_STREAMS", "systemd:more");
    let program = activated(&fixture, "more", "tcp:127.0.0.1:0").env("ACTIVATE_PID", "1");
    let service = program.start().expect("a program that can be started");
    assert_eq!(service.first().exited().await, Exit::Code(1));
    service.output().find("systemd:more").await;
}

/// Starters in front of a tool that builds and runs name no process, and perhaps another number.
#[tokio::test]
async fn sockets_of_starters_like_systemfd_are_taken() {
    let fixture = Fixture::new();
    let path = fixture.path("app.sock");
    let socket = format!("unix:{}", path.display());
    let fixture = fixture
        .env("FIXTURE_TCP", "")
        .env("FIXTURE_STREAMS", &socket);
    let program = activated(&fixture, "", &socket)
        .env("ACTIVATE_PID", "")
        .env("ACTIVATE_FIRST_FD", "6");
    let service = program.start().expect("a program that can be started");
    let target = service.listening(1).await.swap_remove(0);
    service.generation(&target, 1).await;
    let running = crate::support::Running { service, target };
    let incumbent = running.identity().await;
    let inodes = listening_inodes(incumbent);
    assert_eq!(inodes.len(), 1, "nothing was bound beside it");
    let successor = running.hand_over_and_end(incumbent).await;
    assert_eq!(listening_inodes(successor), inodes);
}

/// Starts the fixture by activation, without what the tests themselves have inherited.
fn activated(fixture: &Fixture, names: &str, sockets: &str) -> Program {
    let program =
        Program::new("sh").args(["-c", r#"exec "$@" 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-"#]);
    let program = program.args(["sh", env!("CARGO_BIN_EXE_activate"), names, sockets]);
    fixture.with_environment(program.arg(fixture.path("service")))
}
