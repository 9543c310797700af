//! A neighbour that breaks the protocol harms nobody but itself: an incumbent serves on and says
//! what was wrong, a successor says what it found and what it was told to find, or serves alone.

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use handover_tests::load::Kind;
use handover_tests::{Exit, Load, Service, Signal, Target};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::support::{Fixture, all, signal};

#[tokio::test]
async fn a_successor_that_breaks_the_protocol_is_ended() {
    const ACCEPTED: &str = r#"send {"type":"accepted","version":1,"pid":{pid}}"#;
    const READY: &str = r#"send {"type":"ready","claimed":[]}"#;
    let lies = [
        // Garbage.
        (&["send hello", "wait"][..], "start", "broke the protocol"),
        (&["send {}", "wait"], "start", "broke the protocol"),
        (
            &[ACCEPTED, "send \u{0}\u{1}", "wait"],
            "init",
            "broke the protocol",
        ),
        (
            &[r#"send {"type":"accepted","version":"one"}"#, "wait"],
            "start",
            "broke the protocol",
        ),
        // A version that was not offered.
        (
            &[r#"send {"type":"accepted","version":7,"pid":1}"#, "wait"],
            "negotiate",
            "speaks protocol version 7, 1 was offered",
        ),
        // What it says before its time, or twice.
        (&[READY, "wait"], "start", "unexpected `ready`"),
        (
            &[ACCEPTED, ACCEPTED, "wait"],
            "init",
            "unexpected `accepted`",
        ),
        (
            &[ACCEPTED, r#"send {"type":"serving"}"#, "wait"],
            "init",
            "unexpected `serving`",
        ),
        (
            &[ACCEPTED, r#"send {"type":"settled"}"#, "wait"],
            "init",
            "unexpected `settled`",
        ),
        (
            &[ACCEPTED, READY, READY, "wait"],
            "commit",
            "unexpected `ready`",
        ),
        (
            &[ACCEPTED, READY, r#"send {"type":"settled"}"#, "wait"],
            "commit",
            "unexpected `settled`",
        ),
        // It closes its end, and lives on.
        (&["close", "wait"], "start", "closed its channel"),
        (
            &["receive offer", ACCEPTED, "close", "wait"],
            "init",
            "closed its channel",
        ),
        (
            &[
                "receive offer",
                ACCEPTED,
                READY,
                "receive commit",
                "close",
                "wait",
            ],
            "commit",
            "closed its channel",
        ),
        // It says what a newer one might say, and then nothing.
        (
            &[r#"send {"type":"teleport"}"#, "wait"],
            "start",
            "was not ready in time",
        ),
        (
            &[ACCEPTED, r#"send {"type":"teleport","to":[1]}"#, "wait"],
            "init",
            "was not ready in time",
        ),
        (
            &[ACCEPTED, READY, "receive commit", "wait"],
            "commit",
            "was not ready in time",
        ),
    ];
    all(lies, async |(script, stage, reason)| {
        let fixture = Fixture::new()
            .env("FIXTURE_READY_TIMEOUT", "1500")
            .env("FIXTURE_COMMIT_TIMEOUT", "500");
        let running = fixture.start().await;
        let load = Load::on(running.target.clone());
        let load = load.clients(Kind::ThinkTime, 2).start();
        let incumbent = running.identity().await;
        fs::write(fixture.path("service.script"), script.join("\n")).expect("a file");
        fixture.deploy(Path::new(env!("CARGO_BIN_EXE_impostor")));
        signal(incumbent, Signal::HUP);
        let output = running.service.output();
        let report = output.find("handover failed").await.text;
        assert!(report.contains(reason), "{script:?}: `{reason}`: {report}");
        let stage = format!("stage={stage}");
        assert!(report.contains(&stage), "{script:?}: `{stage}`: {report}");
        let report = load.progress(1).await;
        assert_eq!(report.newest(), Some(incumbent), "{script:?}");
        assert_eq!(running.service.processes().len(), 1, "{script:?}");
        fixture.deploy_fixture();
        running.hand_over(incumbent).await;
        load.progress(1).await;
        load.stop().await.assert_nothing_lost();
    })
    .await;
}

/// What an offer says of the one socket of the fixture, and what comes with it.
struct Lie {
    /// Of which kind it is said to be.
    kind: &'static str,
    /// Where it is said to be bound.
    address: SocketAddr,
    descriptors: Vec<OwnedFd>,
    /// What the successor says it found.
    found: String,
}

#[tokio::test]
async fn a_socket_that_is_not_what_the_offer_says() {
    let address = SocketAddr::from(([127, 0, 0, 1], 9));
    let bound = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let elsewhere = bound.local_addr().expect("an address");
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let connected = std::net::TcpStream::connect(elsewhere).expect("a connection");
    let local = connected.local_addr().expect("an address");
    let file = File::open("/dev/null").expect("a file");
    for lie in [
        // On another port.
        Lie {
            kind: "tcp",
            address,
            descriptors: vec![OwnedFd::from(bound.try_clone().expect("a clone"))],
            found: elsewhere.to_string(),
        },
        // Of another kind.
        Lie {
            kind: "tcp",
            address: datagrams.local_addr().expect("an address"),
            descriptors: vec![datagrams.into()],
            found: "is a UDP socket on".to_owned(),
        },
        Lie {
            kind: "udp",
            address: elsewhere,
            descriptors: vec![bound.into()],
            found: "TCP".to_owned(),
        },
        // Not listening.
        Lie {
            kind: "tcp",
            address: local,
            descriptors: vec![connected.into()],
            found: "not listen".to_owned(),
        },
        // No socket at all.
        Lie {
            kind: "tcp",
            address,
            descriptors: vec![file.into()],
            found: "is a character device".to_owned(),
        },
        // Nothing.
        Lie {
            kind: "tcp",
            address,
            descriptors: Vec::new(),
            found: "0 descriptors came with a record that announces 1".to_owned(),
        },
    ] {
        let (incumbent, service, _fixture) = start_on_a_channel();
        incumbent.send(&offer(1), &[]);
        let Lie { kind, address, .. } = &lie;
        let entry = format!(
            r#"{{"name":"http","endpoint":"127.0.0.1:0","kind":"{kind}","address":"{address}"}}"#
        );
        let sockets = format!(r#"{{"type":"sockets","entries":[{entry}],"descriptors":1}}"#);
        let descriptors: Vec<_> = lie.descriptors.iter().map(AsFd::as_fd).collect();
        incumbent.send(&sockets, &descriptors);
        let failed = incumbent.find(r#""type":"failed""#).await;
        assert!(failed.contains(r#""stage":"adopt""#), "{failed}");
        assert!(failed.contains(&lie.found), "`{}`: {failed}", lie.found);
        if !lie.descriptors.is_empty() {
            assert!(failed.contains(&address.to_string()), "{address}: {failed}");
        }
        assert_eq!(service.first().exited().await, Exit::Code(1), "{failed}");
        service.ended().await;
    }
}

#[tokio::test]
async fn an_incumbent_that_breaks_the_protocol_gets_no_successor() {
    let lies = [
        (&["hello"][..], "start", "broke the protocol"),
        (&["[]"], "start", "broke the protocol"),
        (&[r#"{"type":"offer"}"#], "start", "missing field"),
        (&[r#"{"type":"commit"}"#], "start", "unexpected `commit`"),
        (&["OFFER 0", "OFFER 0"], "init", "unexpected `offer`"),
        (
            &["OFFER 0", r#"{"type":"commit"}"#],
            "init",
            "unexpected `commit`",
        ),
        (
            &["OFFER 0", r#"{"type":"released"}"#],
            "init",
            "unexpected `released`",
        ),
        (&["OFFER 0", "{"], "init", "broke the protocol"),
        (&["OFFER 1", "OFFER 1"], "adopt", "unexpected `offer`"),
        (
            &[
                "OFFER 1",
                r#"{"type":"sockets","entries":[],"descriptors":3}"#,
                "{}",
            ],
            "adopt",
            "broke the protocol",
        ),
    ];
    all(lies, async |(records, stage, reason)| {
        let (incumbent, service, fixture) = start_on_a_channel();
        fixture.set_faults("start:wait");
        for record in records {
            match *record {
                "OFFER 0" => incumbent.send(&offer(0), &[]),
                "OFFER 1" => incumbent.send(&offer(1), &[]),
                record => incumbent.send(record, &[]),
            }
        }
        let failed = incumbent.find(r#""type":"failed""#).await;
        assert!(failed.contains(reason), "{records:?}: {failed}");
        let stage = format!(r#""stage":"{stage}""#);
        assert!(failed.contains(&stage), "{records:?}: {stage}: {failed}");
        assert_eq!(service.first().exited().await, Exit::Code(1), "{records:?}");
        service.ended().await;
    })
    .await;
}

/// A message of tomorrow is passed over, and the handover goes on.
#[tokio::test]
async fn an_incumbent_may_say_what_nobody_knows() {
    let (incumbent, service, _fixture) = start_on_a_channel();
    for record in [
        r#"{"type":"teleport","where":{"x":[1]}}"#,
        &offer(0).replacen('{', r#"{"of_tomorrow":[{}],"#, 1),
        r#"{"type":"teleport"}"#,
    ] {
        incumbent.send(record, &[]);
    }
    incumbent.find(r#""type":"ready""#).await;
    incumbent.send(r#"{"type":"teleport"}"#, &[]);
    incumbent.send(r#"{"type":"commit","how":"now"}"#, &[]);
    incumbent.find(r#""type":"settled""#).await;
    incumbent.send(r#"{"type":"draining"}"#, &[]);
    service.output().find("generation=7 serves").await;
}

/// The incumbent dies in the middle of its offer: the successor serves on what has come, and binds
/// what has not.
#[tokio::test]
async fn an_orphan_serves_with_what_it_got() {
    let bound = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = bound.local_addr().expect("an address");
    let entry =
        format!(r#"{{"name":"http","endpoint":"127.0.0.1:0","kind":"tcp","address":"{address}"}}"#);
    let sockets = format!(r#"{{"type":"sockets","entries":[{entry}],"descriptors":1}}"#);
    for (offered, sent) in [(0, 0), (1, 0), (1, 1), (2, 1)] {
        let (incumbent, service, _fixture) = start_on_a_channel();
        if offered > 0 {
            incumbent.send(&offer(offered), &[]);
        }
        if sent > 0 {
            incumbent.send(&sockets, &[bound.as_fd()]);
        }
        drop(incumbent);
        let output = service.output();
        output.find(" serves").await;
        let line = output.find("listening on http=").await.text;
        let inherited = line.contains(&address.to_string());
        assert_eq!(inherited, sent > 0, "{offered} {sent}: {line}");
        let targets = service.listening(1).await;
        assert_eq!(targets.len(), 1, "{targets:?}");
        if sent > 0 {
            assert_eq!(targets, [Target::from(address)]);
        }
        service.identity(&targets[0]).await;
    }
}

/// The end of a channel at which a test sits.
struct Neighbour(OwnedFd);

impl Neighbour {
    fn send(&self, record: &str, descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            let fits = ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
            assert!(fits, "four descriptors at most");
        }
        let parts = [IoSlice::new(record.as_bytes())];
        // Whoever has heard enough may have gone.
        sendmsg(&self.0, &parts, &mut ancillary, SendFlags::NOSIGNAL).ok();
    }

    /// Waits for a record with this text in it.
    async fn find(&self, text: &'static str) -> String {
        let channel = self.0.try_clone().expect("a descriptor");
        let find = tokio::task::spawn_blocking(move || {
            loop {
                let record = receive(&channel).expect("a channel that can be read");
                assert!(!record.is_empty(), "it ended without `{text}`");
                if record.contains(text) {
                    return record;
                }
            }
        });
        handover_tests::within(text, find).await.expect("no panic")
    }
}

fn receive(channel: &OwnedFd) -> io::Result<String> {
    let mut record = vec![0; 128 * 1024];
    let mut none = RecvAncillaryBuffer::default();
    loop {
        let mut parts = [IoSliceMut::new(&mut record)];
        match recvmsg(channel, &mut parts, &mut none, RecvFlags::empty()) {
            Ok(message) => return Ok(String::from_utf8_lossy(&record[..message.bytes]).into()),
            // It ended before it had read everything; its last words follow.
            Err(rustix::io::Errno::CONNRESET) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Starts the fixture as the successor of this test.
fn start_on_a_channel() -> (Neighbour, Service, Fixture) {
    let kind = SocketType::SEQPACKET;
    let pair = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair.expect("a pair");
    let socket = File::from(theirs);
    let identity = socket.metadata().expect("a socket has an inode");
    let identity = format!("{}:{}", identity.dev(), identity.ino());
    let fixture = Fixture::new().env("HANDOVER_CHANNEL", identity);
    let service = fixture.program().start_on(socket.into());
    (Neighbour(ours), service.expect("a program"), fixture)
}

/// An offer of so many sockets, as small as it can be.
fn offer(sockets: usize) -> String {
    format!(
        r#"{{"type":"offer","versions":{{"min":1,"max":1}},"generation":7,"pid":{},"sockets":{sockets}}}"#,
        std::process::id()
    )
}
