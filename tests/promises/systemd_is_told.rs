//! What systemd is told, message by message, by whom and in which order (`sd_notify(3)`). What a real
//! systemd makes of it is tested in `tests/systemd`.

use std::io::{IoSliceMut, Result};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use handover_tests::load::Request;
use handover_tests::{Identity, LIMIT, Signal};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};

use crate::client::Client;
use crate::support::{Fixture, Running, signal};

/// The whole life of a unit, at a path and at an abstract name.
#[tokio::test]
async fn systemd_is_told_of_every_step() {
    let fixture = Fixture::new();
    let path = SocketAddr::from_pathname(fixture.path("notify")).expect("a path");
    let name = format!("handover-{}", std::process::id());
    let name = SocketAddr::from_abstract_name(name).expect("a name");
    for address in [path, name] {
        let manager = Manager::at(&address);
        let running = manager.start(&fixture).await;
        let first = running.identity().await;
        let started = manager.next();
        assert_eq!(started.of(first), ["STATUS=generation 1 starts"]);
        let ready = manager.next();
        assert_eq!(
            ready.of(first),
            ["READY=1", "STATUS=generation 1 serves, 1 endpoint"]
        );

        let second = running.hand_over(first).await;
        manager.expect_reload(first, second);
        let new = manager.next();
        assert_eq!(new.pid, second.pid, "the new main process speaks");
        let status = "STATUS=generation 2 serves, 1 endpoint";
        assert!(new.fields[0].starts_with(status), "{new:?}");

        signal(second, Signal::TERM);
        let stopping = manager.find("STOPPING=1");
        assert_eq!(stopping.pid, second.pid);
        running.ended(2).await;
        for message in manager.rest() {
            assert_eq!(message.pid, second.pid, "nothing is said by anybody else");
        }
    }
}

/// A handover that fails ends the reload, and says why.
#[tokio::test]
async fn a_failed_handover_ends_the_reload_and_says_why() {
    let fixture = Fixture::new();
    let manager = Manager::in_directory_of(&fixture);
    let running = manager.start(&fixture).await;
    let first = running.identity().await;
    manager.find("READY=1");

    for (faults, reason) in [
        (
            "init:fail",
            "successor exited with status 1 in on_init of `fault`",
        ),
        (
            "ready:panic",
            "successor exited with status 1 in on_ready of `fault`",
        ),
        ("start:exit0", "successor exited with status 0"),
        ("init:kill", "successor was killed by SIGKILL"),
    ] {
        fixture.set_faults(faults);
        signal(first, Signal::HUP);
        let reloading = manager.find("RELOADING=1");
        assert_eq!(reloading.pid, first.pid);
        let ready = manager.find("READY=1");
        assert_eq!(ready.pid, first.pid);
        let status = ready.fields.last().expect("a status");
        let expected = format!("STATUS=generation 1 serves, 1 endpoint; handover failed: {reason}");
        assert!(status.starts_with(&expected), "{status}");
    }

    fixture.set_faults("");
    let second = running.hand_over(first).await;
    manager.expect_reload(first, second);
}

/// systemd has sent the signal to which a refusal is the answer, and waits: it is told that there is
/// nothing to wait for any more, or that the handover under way is what it waits for.
#[tokio::test]
async fn a_refused_handover_does_not_leave_systemd_waiting() {
    let fixture = Fixture::new();
    let manager = Manager::in_directory_of(&fixture);
    let running = manager.start(&fixture).await;
    let first = running.identity().await;
    fixture.set_faults("init:wait");
    signal(first, Signal::HUP);
    let begun = manager.find("RELOADING=1");
    let waiting = fixture.waiting().await;
    signal(first, Signal::HUP);
    let again = manager.find("RELOADING=1");
    assert!(again.number("MONOTONIC_USEC") > begun.number("MONOTONIC_USEC"));
    fixture.set_faults("");
    waiting.go();
    let passed_on = manager.find("READY=1");
    assert!(passed_on.number("MAINPID") > 0);
}

/// The drain of the old generations is told by the new main process: of all of them while they live,
/// and of the first also when the one between has gone.
#[tokio::test]
async fn the_new_main_process_tells_of_the_drain_of_the_old_ones() {
    const BOTH: &[&str] = &[
        "; draining: 1 connection, oldest ",
        "(generation 1)",
        "(generation 2)",
    ];
    const ALONE: &[&str] = &["generation 3 serves, 1 endpoint; draining: 1 connection, oldest "];
    for (second_holds, told) in [(true, BOTH), (false, ALONE)] {
        let fixture = Fixture::new().env("FIXTURE_DRAIN_TIMEOUT", "600000");
        let manager = Manager::in_directory_of(&fixture);
        let running = manager.start(&fixture).await;
        let first = running.identity().await;
        let _held = hold(&running, 1).await;
        let second = running.hand_over(first).await;
        let held = match second_holds {
            true => Some(hold(&running, 2).await),
            false => None,
        };
        let third = running.hand_over(second).await;
        if held.is_none() {
            running.ended(2).await;
        }
        let message = manager.status(told);
        assert_eq!(message.pid, third.pid);
    }
}

/// What a generation listens on is kept by systemd, each descriptor once, under a name of its own,
/// until it is not listened on any more.
#[tokio::test]
async fn listeners_are_kept_by_systemd() {
    let fixture = Fixture::new();
    let path = fixture.path("app.sock");
    let fixture = fixture
        .env("FDSTORE", "8")
        .env("FIXTURE_UNIX", format!("unix:{}", path.display()));
    let manager = Manager::in_directory_of(&fixture);
    let running = manager.start(&fixture).await;
    let first = running.identity().await;
    // Before or after it is told that the service is ready.
    let mut names = Vec::new();
    for kind in ["s.0.1..http=127.0.0.1%3a0", "s.0.1.", "l.0.1."] {
        let kept = manager.find("FDSTORE=1");
        assert_eq!((kept.pid, kept.descriptors.len()), (first.pid, 1));
        assert!(kept.fields.iter().any(|field| field == "FDPOLL=0"));
        let name = kept
            .fields
            .iter()
            .find_map(|field| field.strip_prefix("FDNAME=handover."));
        let name = name.expect("a name").to_owned();
        assert!(name.starts_with(kind), "{name}");
        names.push(name);
    }

    // One more, while it serves.
    let bound = Request::post("/bind", "extra=127.0.0.1:0");
    running.ask(&bound).await;
    let kept = manager.find("FDSTORE=1");
    assert!(kept.fields[2].ends_with(".extra=127.0.0.1%3a0"), "{kept:?}");

    let second = running.hand_over(first).await;
    manager.expect_reload(first, second);
    // Nobody has claimed the extra one.
    let removed = manager.find("FDSTOREREMOVE=1");
    assert_eq!(removed.pid, second.pid);
    assert!(
        removed.fields[1].ends_with(".extra=127.0.0.1%3a0"),
        "{removed:?}"
    );

    signal(second, Signal::TERM);
    running.ended(2).await;
    let is_of_store = |field: &String| field.starts_with("FDSTORE");
    for message in manager.rest() {
        assert!(!message.fields.iter().any(is_of_store), "{message:?}");
    }
    assert!(path.exists(), "clients may go on to connect");
}

/// Holds a request that has no end, in this generation.
async fn hold(running: &Running, generation: u32) -> Client {
    let (mut client, _) = Client::of_generation(&running.target, generation).await;
    let from = running.service.output().len();
    client.send("/hang").await;
    running.service.output().find_from(from, "hangs").await;
    client
}

/// systemd's end of the socket.
struct Manager {
    socket: UnixDatagram,
    address: String,
}

/// One message.
#[derive(Debug)]
struct Message {
    /// The process that has sent it, in the words of the kernel.
    pid: u32,
    fields: Vec<String>,
    descriptors: Vec<OwnedFd>,
}

impl Manager {
    fn at(address: &SocketAddr) -> Self {
        let socket = UnixDatagram::bind_addr(address).expect("an address");
        sockopt::set_socket_passcred(&socket, true).expect("a socket");
        socket.set_read_timeout(Some(LIMIT)).expect("a socket");
        let address = match (address.as_pathname(), address.as_abstract_name()) {
            (Some(path), _) => path.display().to_string(),
            (_, Some(name)) => format!("@{}", String::from_utf8_lossy(name)),
            _ => panic!("{address:?} is no address"),
        };
        Self { socket, address }
    }

    fn in_directory_of(fixture: &Fixture) -> Self {
        let path = SocketAddr::from_pathname(fixture.path("notify"));
        Self::at(&path.expect("a path"))
    }

    /// Starts the fixture as its unit.
    async fn start(&self, fixture: &Fixture) -> Running {
        let program = fixture.program().env("NOTIFY_SOCKET", &self.address);
        let program = program.env("FIXTURE_SYSTEMD", "1");
        fixture.started(program).await
    }

    /// What a handover that goes well has to say.
    fn expect_reload(&self, incumbent: Identity, successor: Identity) {
        let (next, pid) = (successor.generation, successor.pid);
        let reloading = self.find("RELOADING=1");
        assert_eq!(reloading.pid, incumbent.pid);
        let status = reloading.fields.last().expect("a status");
        let progress = format!("; handing over to generation {next}");
        assert!(status.ends_with(&progress), "{status}");
        assert!(reloading.number("MONOTONIC_USEC") > 0);
        assert!(reloading.number("EXTEND_TIMEOUT_USEC") > 0);
        let serves = format!("STATUS=generation {next} serves");
        let main = format!("MAINPID={pid}");
        let passed_on = self.next();
        assert_eq!(passed_on.of(incumbent), ["READY=1", &main, &serves]);
        // The last of the old one: answered by letting go of what came with it.
        let barrier = self.next();
        assert_eq!(barrier.of(incumbent), ["BARRIER=1"]);
        assert_eq!(barrier.descriptors.len(), 1);
    }

    /// The next message but signs of life and requests for more time.
    fn next(&self) -> Message {
        loop {
            let message = self.receive().expect("a message");
            if !message.is_routine() {
                return message;
            }
        }
    }

    /// Reads until a message has this field.
    fn find(&self, field: &str) -> Message {
        loop {
            let message = self.receive().expect("a message");
            if message.fields.iter().any(|found| found == field) {
                return message;
            }
        }
    }

    /// Reads until there is a status with these texts in it.
    fn status(&self, texts: &[&str]) -> Message {
        loop {
            let message = self.receive().expect("a message");
            let is_it = |field: &String| {
                field.starts_with("STATUS=") && texts.iter().all(|text| field.contains(text))
            };
            if message.fields.iter().any(is_it) {
                return message;
            }
        }
    }

    /// What has come and was not read.
    fn rest(&self) -> Vec<Message> {
        self.socket.set_nonblocking(true).expect("a socket");
        std::iter::from_fn(|| self.receive().ok()).collect()
    }

    fn receive(&self) -> Result<Message> {
        let mut bytes = vec![0; 4096];
        let mut space = [MaybeUninit::uninit(); 256];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let length = recvmsg(&self.socket, &mut parts, &mut control, flags)?.bytes;
        let (mut pid, mut descriptors) = (0, Vec::new());
        for part in control.drain() {
            match part {
                RecvAncillaryMessage::ScmCredentials(sender) => {
                    pid = sender.pid.as_raw_nonzero().get().unsigned_abs();
                }
                RecvAncillaryMessage::ScmRights(fds) => descriptors.extend(fds),
                _ => {}
            }
        }
        let text = std::str::from_utf8(&bytes[..length]).expect("text");
        Ok(Message {
            pid,
            fields: text.lines().map(str::to_owned).collect(),
            descriptors,
        })
    }
}

impl Message {
    /// The fields, if it is of this process.
    fn of(&self, sender: Identity) -> Vec<&str> {
        assert_eq!(self.pid, sender.pid, "{self:?}");
        self.fields.iter().map(String::as_str).collect()
    }

    fn number(&self, field: &str) -> u64 {
        let value = |text: &String| text.strip_prefix(field)?.strip_prefix('=')?.parse().ok();
        let found = self.fields.iter().find_map(value);
        found.unwrap_or_else(|| panic!("no {field} in {self:?}"))
    }

    fn is_routine(&self) -> bool {
        let is_routine =
            |field: &String| field == "WATCHDOG=1" || field.starts_with("EXTEND_TIMEOUT_USEC=");
        self.fields.iter().all(is_routine)
    }
}
