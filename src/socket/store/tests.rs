use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::super::verify::{identify, verify};
use super::*;
use crate::sys::fd::identity;
use proptest::prelude::*;
use socket2::SockRef;

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

/// Opens an endpoint of any kind.
fn open(store: &Store, endpoint: &Endpoint) -> Result<Claimed, Error> {
    let mut kinds = Kind::STREAMS.to_vec();
    kinds.extend([Kind::Udp, Kind::UnixDatagram]);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(store.open(endpoint, &kinds))
}

fn open_text(store: &Store, text: &str) -> Claimed {
    open(store, &endpoint(text)).unwrap()
}

fn refusal(store: &Store, text: &str) -> String {
    open(store, &endpoint(text)).unwrap_err().to_string()
}

/// The keys of what was inherited and not claimed.
fn unclaimed(store: &Store) -> Vec<String> {
    let held = store.lock();
    let unclaimed = held.iter().filter(|entry| entry.is_unclaimed());
    unclaimed.map(|entry| entry.key().to_string()).collect()
}

/// What the successor has, after everything went through JSON and a second set of descriptors.
fn successor(store: &Store) -> Store {
    let next = Store::new();
    for (description, socket) in store.offer(drop).0 {
        let json = serde_json::to_string(&description).unwrap();
        let description: Description = serde_json::from_str(&json).unwrap();
        let mut copies = socket
            .descriptors()
            .map(|descriptor| descriptor.try_clone_to_owned().unwrap());
        let (first, lock) = (copies.next().unwrap(), copies.next());
        assert_eq!(description.descriptors(), 1 + usize::from(lock.is_some()));
        next.insert_inherited(verify(description, first, lock).unwrap());
    }
    next
}

/// A store with what systemd has passed.
fn activated(sockets: Vec<(&str, OwnedFd)>) -> Store {
    let store = Store::new();
    for (name, descriptor) in sockets {
        let name = (!name.is_empty()).then(|| name.to_owned());
        store.insert_inherited(identify(name, descriptor).unwrap());
    }
    store
}

fn tcp() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn port(claimed: &Claimed) -> u16 {
    claimed.sockets[0].address().inet().unwrap().port()
}

#[test]
fn ports_stay() {
    let mut store = Store::new();
    let table = [
        "127.0.0.1:0",
        "a=127.0.0.1:0",
        "b=127.0.0.1:0",
        "udp:127.0.0.1:0",
        "localhost:0",
        "c=localhost:0",
    ];
    let first: Vec<_> = table.map(|text| port(&open_text(&store, text))).into();
    for _ in 0..3 {
        store = successor(&store);
        let ports: Vec<_> = table
            .iter()
            .rev()
            .map(|text| {
                let claimed = open_text(&store, text);
                assert!(claimed.adopted && claimed.warnings.is_empty(), "{text}");
                port(&claimed)
            })
            .collect();
        assert_eq!(ports.into_iter().rev().collect::<Vec<_>>(), first);
        assert!(unclaimed(&store).is_empty());
    }
}

#[test]
fn every_kind_is_adopted() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display();
    let table = [
        "tcp=127.0.0.1:0".to_owned(),
        "udp=udp:[::1]:0".to_owned(),
        format!("unix:{at}/stream"),
        format!("unix-seqpacket:{at}/seqpacket"),
        format!("unix-datagram:{at}/datagram"),
        format!("unix:@{at}"),
        format!("unix-seqpacket:@{at}"),
        format!("unix-datagram:@{at}"),
    ];
    let store = Store::new();
    for text in &table {
        assert!(!open_text(&store, text).adopted, "{text}");
    }
    let next = successor(&store);
    drop(store);
    let last = successor(&next);
    for text in &table {
        assert!(open_text(&last, text).adopted, "{text}");
    }
    assert_eq!(last.claimed_keys(Mark::default()).1, table);
}

#[test]
fn the_next_generation_accepts_what_waited() {
    let store = Store::new();
    let claimed = open_text(&store, "127.0.0.1:0");
    let address = claimed.sockets[0].address().inet().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"hello").unwrap();
    let next = successor(&store);
    drop((claimed, store));
    let claimed = open_text(&next, "127.0.0.1:0");
    let super::super::Io::Tcp(listener) = claimed.sockets[0].io() else {
        panic!("{claimed:?}");
    };
    let (mut served, _) = listener.accept().unwrap();
    served.set_nonblocking(false).unwrap();
    let mut buffer = [0; 5];
    served.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"hello");
}

#[test]
fn a_name_or_an_address_is_the_key() {
    let (fixed, other) = (tcp().1, tcp().1);
    // What the predecessor had, what is asked for, and whether that is the same.
    let table = [
        (format!("{fixed}"), format!("{fixed}"), true),
        (format!("a={fixed}"), format!("a={fixed}"), true),
        (format!("a={fixed}"), format!("b={fixed}"), true),
        (format!("a={fixed}"), format!("{fixed}"), true),
        (format!("{fixed}"), format!("a={fixed}"), true),
        (format!("a={fixed}"), format!("a={other}"), false),
        (format!("a={fixed}"), format!("a=udp:{other}"), false),
        ("127.0.0.1:0".into(), "a=127.0.0.1:0".into(), true),
        ("a=127.0.0.1:0".into(), "b=127.0.0.1:0".into(), false),
        ("a=127.0.0.1:0".into(), "127.0.0.1:0".into(), false),
        ("a=127.0.0.1:0".into(), "udp:127.0.0.1:0".into(), false),
        ("localhost:0".into(), "127.0.0.1:0".into(), false),
        (
            format!("localhost:{}", fixed.port()),
            format!("a=localhost:{}", fixed.port()),
            true,
        ),
        (
            format!("a=localhost:{}", fixed.port()),
            format!("localhost:{}", fixed.port()),
            true,
        ),
    ];
    for (before, after, same) in table {
        let store = Store::new();
        open_text(&store, &before);
        let next = successor(&store);
        let key = unclaimed(&next).remove(0);
        assert_eq!(key, before);
        let claimed = open_text(&next, &after);
        assert_eq!(claimed.adopted, same, "{before} then {after}");
        assert_eq!(*claimed.key, *after);
        // The predecessor is told in its own words.
        let told = if same { &before } else { &after };
        assert_eq!(next.claimed_keys(Mark::default()).1, [told.as_str()]);
        assert_eq!(unclaimed(&next).is_empty(), same);
        assert_eq!(next.offer_of(&after).len(), claimed.sockets.len());
        // And the one after that in the new ones.
        let last = successor(&next);
        assert!(
            open_text(&last, &after).adopted,
            "{before} then {after} twice"
        );
    }
}

#[test]
fn the_port_that_the_kernel_picked_is_an_address_too() {
    let store = Store::new();
    let port = port(&open_text(&store, "127.0.0.1:0"));
    let next = successor(&store);
    assert!(open_text(&next, &format!("127.0.0.1:{port}")).adopted);
}

#[test]
fn a_name_goes_before_an_address() {
    // Two that share an address are told apart by their names, in whatever order they are asked.
    let store = Store::new();
    let shared = tcp().1;
    let ask = |store: &Store, name: &str| {
        let endpoint = Endpoint::from(shared).name(name).reuse_port(true);
        open(store, &endpoint).unwrap()
    };
    let (a, b) = (ask(&store, "a"), ask(&store, "b"));
    let inode = |claimed: &Claimed| nix::sys::stat::fstat(&claimed.sockets[0]).unwrap().st_ino;
    let next = successor(&store);
    assert_eq!(inode(&ask(&next, "b")), inode(&b));
    assert_eq!(inode(&ask(&next, "a")), inode(&a));
    assert!(!ask(&next, "c").adopted);

    // One that is new takes what is there, rather than leave a queue that nobody empties.
    let next = successor(&store);
    assert_eq!(inode(&ask(&next, "c")), inode(&a));
    assert_eq!(inode(&ask(&next, "b")), inode(&b));
    assert!(!ask(&next, "a").adopted);
}

#[test]
fn what_is_claimed_twice_is_refused() {
    let store = Store::new();
    let address = tcp().1;
    open_text(&store, &format!("http={address}"));
    open_text(&store, "127.0.0.1:0");
    open_text(&store, "dns=127.0.0.1:0");
    open_text(&store, "dns=udp:127.0.0.1:0");

    for store in [
        &store,
        &successor_with(&store, &[&format!("http={address}"), "127.0.0.1:0"]),
    ] {
        for again in [format!("http={address}"), "http=127.0.0.1:0".to_owned()] {
            let error = open(store, &endpoint(&again)).unwrap_err();
            assert!(error.is_in_use());
            let error = error.to_string();
            assert!(error.ends_with(&format!("endpoint `{again}`: it is already claimed")));
        }
        let error = refusal(store, "127.0.0.1:0");
        assert!(error.ends_with("it is already claimed, and two endpoints on port 0 want names, such as `a=127.0.0.1:0`"), "{error}");
    }
}

fn successor_with(store: &Store, claims: &[&str]) -> Store {
    let next = successor(store);
    for text in claims {
        assert!(open_text(&next, text).adopted);
    }
    next
}

#[test]
fn overlaps_are_named() {
    let any = |address: SocketAddr| address.port();
    let specific = tcp().1;
    let port = any(specific);
    let v6only = |text: String| endpoint(&text).only_v6(true);
    let plain = |text: String| endpoint(&text);
    // What is held, what is bound then, and whether that is an overlap.
    let table = [
        (
            plain(format!("a={specific}")),
            plain(format!("0.0.0.0:{port}")),
            true,
        ),
        (
            plain(format!("a={specific}")),
            plain(format!("a=0.0.0.0:{port}")),
            true,
        ),
        (
            plain(format!("{specific}")),
            plain(format!("[::]:{port}")),
            true,
        ),
        (
            plain(format!("{specific}")),
            v6only(format!("[::]:{port}")),
            false,
        ),
        (
            plain(format!("{specific}")),
            plain(format!("localhost:{port}")),
            true,
        ),
        (
            plain(format!("0.0.0.0:{port}")),
            plain(format!("{specific}")),
            true,
        ),
        (
            plain(format!("[::]:{port}")),
            plain(format!("{specific}")),
            true,
        ),
        (
            plain(format!("[::]:{port}")),
            plain(format!("0.0.0.0:{port}")),
            true,
        ),
        (
            v6only(format!("[::]:{port}")),
            plain(format!("0.0.0.0:{port}")),
            false,
        ),
        (
            plain(format!("udp:{specific}")),
            plain(format!("{specific}")),
            false,
        ),
        (
            plain(format!("{specific}")),
            plain(format!("127.0.0.2:{port}")),
            false,
        ),
        (
            plain(format!("[::1]:{port}")),
            plain(format!("[::ffff:127.0.0.1]:{port}")),
            false,
        ),
        (
            plain(format!("{specific}")),
            plain(format!("[::ffff:127.0.0.1]:{port}")),
            true,
        ),
    ];
    for (held, wanted, overlap) in table {
        let store = Store::new();
        open(&store, &held).unwrap();
        let next = successor(&store);
        for (store, state) in [(&next, "the inherited endpoint"), (&store, "the endpoint")] {
            if state == "the endpoint"
                && wanted.given_name() == held.given_name()
                && held.given_name().is_some()
            {
                continue;
            }
            match open(store, &wanted) {
                Ok(_) => assert!(!overlap, "{held} then {wanted}"),
                Err(error) => {
                    assert!(
                        overlap && error.is_in_use(),
                        "{held} then {wanted}: {error}"
                    );
                    let named = format!("it overlaps {state} `{held}` on ");
                    assert!(error.to_string().contains(&named), "{error}");
                }
            }
            // The port is free for the other store.
            for key in store.claimed_keys(Mark::default()).1 {
                if key == wanted.to_string() {
                    store.release(&key);
                }
            }
        }
    }
}

#[test]
fn a_host_name_with_both_families_leaves_v4_to_itself() {
    let store = Store::new();
    let port = port(&open_text(&store, "127.0.0.2:0"));
    let wanted = endpoint(&format!("some:{port}"));
    let v6 = SocketAddr::from(([0; 8], port));
    let v4 = SocketAddr::from(([127, 0, 0, 1], port));
    assert!(store.overlap(&wanted, &[v6, v4]).is_none());
    assert!(store.overlap(&wanted, &[v6]).is_some());
    let from_kernel = wanted.clone().configure(|_| Ok(()));
    assert!(store.overlap(&from_kernel, &[v6]).is_none());
}

#[test]
fn reuse_port_may_overlap_unless_the_other_is_unclaimed() {
    let address = tcp().1;
    let ask = |text: String| endpoint(&text).reuse_port(true);
    let wildcard = ask(format!("w=0.0.0.0:{}", address.port()));
    let store = Store::new();
    open(&store, &ask(format!("a={address}"))).unwrap();
    let next = successor(&store);
    open(&store, &wildcard).unwrap();
    open(&next, &wildcard).unwrap_err();
    assert!(open(&next, &ask(format!("a={address}"))).unwrap().adopted);
    open(&next, &wildcard).unwrap();
}

#[test]
fn paths_overlap_whatever_their_kind() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("app.sock");
    let store = Store::new();
    open(&store, &Endpoint::unix(&at)).unwrap();
    let error = refusal(&store, &format!("unix-datagram:{}", at.display()));
    assert!(
        error.contains("it overlaps the endpoint `unix:/"),
        "{error}"
    );

    // Abstract names are apart for each kind of socket.
    open_text(&store, &format!("unix:@{}", at.display()));
    open_text(&store, &format!("unix-datagram:@{}", at.display()));
}

#[test]
fn the_wrong_kind_is_refused() {
    let store = Store::new();
    let error = store
        .claim(&endpoint("udp:127.0.0.1:0"), Kind::STREAMS)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "could not bind endpoint `udp:127.0.0.1:0`: it is a UDP socket, expected a listening TCP \
         socket or a listening Unix stream socket or a listening Unix seqpacket socket"
    );
    let invalid = store
        .claim(&Endpoint::unix("").name("x"), Kind::STREAMS)
        .unwrap_err();
    assert!(
        invalid.to_string().contains("the path is empty"),
        "{invalid}"
    );
}

#[test]
fn activated_sockets_are_claimed_by_name_alone() {
    let (listener, address) = tcp();
    let elsewhere = tcp().1;
    let mut store = activated(vec![("http", listener.into())]);
    for ask in [
        format!("http={elsewhere}"),
        "systemd:http".to_owned(),
        "http=localhost:0".to_owned(),
        format!("{address}"),
        "systemd:http".to_owned(),
    ] {
        let claimed = open_text(&store, &ask);
        assert!(claimed.adopted, "{ask}");
        assert_eq!(*claimed.sockets[0].address(), Address::from(address));
        store = successor(&store);
    }
}

#[test]
fn activated_sockets_of_one_name_are_one_endpoint() {
    let (one, two, udp) = (tcp().0, tcp().0, UdpSocket::bind("127.0.0.1:0").unwrap());
    let unix = UnixListener::bind(tempfile::tempdir().unwrap().path().join("s")).unwrap();
    let addresses = [one.local_addr().unwrap(), two.local_addr().unwrap()];
    let store = activated(vec![
        ("app", one.into()),
        ("app", udp.into()),
        ("app", two.into()),
        ("app", unix.into()),
    ]);
    let tcp_sockets = |claimed: &Claimed| -> Vec<_> {
        let inet = |socket: &Arc<Socket>| socket.address().inet().unwrap();
        claimed.sockets.iter().map(inet).collect()
    };
    let mut generation = successor(&store);
    let keys = unclaimed(&store);
    let told = [
        // In the words of the one who claimed nothing, and of the one who claimed two endpoints.
        vec![keys[0].clone(), keys[2].clone(), keys[1].clone()],
        vec!["app=0.0.0.0:80".to_owned(), "app=udp:0.0.0.0:53".to_owned()],
    ];
    for told in told {
        let claimed = open_text(&generation, "app=0.0.0.0:80");
        assert_eq!(tcp_sockets(&claimed), addresses);
        let udp = open_text(&generation, "app=udp:0.0.0.0:53");
        assert_eq!(udp.sockets.len(), 1);
        assert_eq!(unclaimed(&generation), keys[3..]);
        assert_eq!(generation.claimed_keys(Mark::default()).1, told);
        generation = successor(&generation);
    }

    let claimed_as_one = successor_with(&generation, &["app=0.0.0.0:80"]);
    let one_by_one = successor(&claimed_as_one);
    for address in addresses {
        let claimed = open_text(&one_by_one, &address.to_string());
        assert_eq!(tcp_sockets(&claimed), [address]);
    }
    let by_name_and_address = successor(&generation);
    let claimed = open_text(&by_name_and_address, &format!("app={}", addresses[1]));
    assert_eq!(tcp_sockets(&claimed), addresses);
    let all = generation
        .claim(&endpoint("systemd:app"), Kind::STREAMS)
        .unwrap()
        .unwrap();
    assert_eq!(all.sockets.len(), 3, "all that connections come out of");
    assert_eq!(generation.offer_of("app=systemd:app").len(), 3);
}

#[test]
fn an_activated_socket_of_another_kind_is_refused() {
    let store = activated(vec![("dns", tcp().0.into())]);
    assert_eq!(
        refusal(&store, "dns=udp:0.0.0.0:53"),
        "could not adopt endpoint `dns=udp:0.0.0.0:53`: it is a listening TCP socket, \
         expected a UDP socket"
    );
    let error = refusal(&store, "systemd:other");
    assert!(
        error.contains("systemd passed no socket of this name"),
        "{error}"
    );
}

#[test]
fn an_activated_path_is_never_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let store = activated(vec![("app", listener.into())]);
    open(&store, &Endpoint::unix(&path).mode(0o600)).unwrap();
    let warnings = store.apply_options();
    assert!(
        warnings[0].contains("the path belongs to systemd"),
        "{warnings:?}"
    );
    assert!(store.remove_paths().is_empty());
    assert!(path.exists());
    let store = successor(&store);
    store.close_unclaimed();
    assert!(path.exists());
    assert_eq!(entries(directory.path()), 1, "and never locked");
}

fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

#[test]
fn a_path_lives_as_long_as_somebody_serves_on_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let ours = Endpoint::unix(&path);
    let first = Store::new();
    open(&first, &ours).unwrap();
    let second = successor(&first);
    assert!(second.remove_bound_paths().is_empty());
    UnixStream::connect(&path).expect("a successor that fails removes nothing that it inherited");
    open(&second, &ours).unwrap();
    drop(first);
    UnixStream::connect(&path).expect("the end of a generation is not a final stop");
    let stranger = open(&Store::new(), &ours).unwrap_err();
    assert!(
        stranger.to_string().contains("a live process holds"),
        "{stranger}"
    );
    assert!(second.remove_paths().is_empty());
    assert_eq!(entries(directory.path()), 0);

    // While the stopped one accepts what is queued, another may start.
    let fresh = Store::new();
    open(&fresh, &ours).unwrap();
    assert!(second.remove_paths().is_empty());
    UnixStream::connect(&path).unwrap();
}

#[test]
fn what_was_let_go_closes_with_its_listener() {
    let store = Store::new();
    let endpoint: Endpoint = "127.0.0.1:0".parse().unwrap();
    let listener = open(&store, &endpoint).unwrap();
    let address = listener.sockets[0].address().inet().unwrap();
    store
        .lend("kept", tempfile::tempfile().unwrap().into())
        .unwrap();
    store.close();
    TcpStream::connect(address).expect("its listener may still accept");
    drop(listener);
    TcpStream::connect(address).expect_err("nobody listens");
    assert!(store.take("kept").unwrap().is_some());
}

#[test]
fn a_generation_that_fails_takes_back_what_it_bound() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (directory.path().join("old"), directory.path().join("new"));
    let first = Store::new();
    open(&first, &Endpoint::unix(&old)).unwrap();
    let second = successor(&first);
    open(&second, &Endpoint::unix(&old)).unwrap();
    open(&second, &Endpoint::unix(&new)).unwrap();
    assert!(second.remove_bound_paths().is_empty());
    assert!(old.exists() && !new.exists());
    assert_eq!(entries(directory.path()), 2);
}

#[test]
fn a_relative_path_is_the_same_file_everywhere() {
    let store = Store::new();
    let directory = tempfile::tempdir_in(".").unwrap();
    let relative = Path::new(directory.path().file_name().unwrap()).join("s");
    let claimed = open(&store, &Endpoint::unix(&relative)).unwrap();
    let absolute = std::path::absolute(&relative).unwrap();
    assert_eq!(
        *claimed.sockets[0].address(),
        Address::Path(absolute.clone())
    );
    let next = successor(&store);
    assert!(open(&next, &Endpoint::unix(&absolute)).unwrap().adopted);
}

#[test]
fn what_is_unclaimed_is_offered_until_it_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("old.sock");
    let first = Store::new();
    let old = open(&first, &Endpoint::unix(&path).name("old")).unwrap();
    open_text(&first, "kept=127.0.0.1:0");
    let second = successor(&first);
    open_text(&second, "kept=127.0.0.1:0");
    open_text(&second, "new=127.0.0.1:0");
    assert_eq!(unclaimed(&second), [&*old.key]);
    assert!(
        second
            .claimed_keys(Mark::default())
            .1
            .contains(&"new=127.0.0.1:0".to_owned())
    );

    let third = successor(&second);
    assert!(
        open(&third, &Endpoint::unix(&path).name("old"))
            .unwrap()
            .adopted
    );
    drop((first, third, old));
    UnixStream::connect(&path).unwrap();
    assert_eq!(second.close_unclaimed().len(), 1);
    assert!(unclaimed(&second).is_empty());
    assert_eq!(entries(directory.path()), 0);
    assert_eq!(second.offer(drop).0.len(), 2);
}

#[test]
fn the_offer_keeps_its_order() {
    let store = Store::new();
    let names: Vec<_> = (0..20).map(|n| format!("n{n}")).collect();
    for name in &names {
        open_text(&store, &format!("{name}=127.0.0.1:0"));
    }
    let next = successor(&store);
    for name in names.iter().rev() {
        open_text(&next, &format!("{name}=127.0.0.1:0"));
    }
    let order = |store: &Store| -> Vec<_> {
        let offer = store.offer(drop).0.into_iter();
        offer
            .filter_map(|(description, _)| description.name)
            .collect()
    };
    assert_eq!(order(&next), names);
    assert_eq!(order(&successor(&next)), names);
}

#[test]
fn an_endpoint_that_came_in_part_says_so() {
    let store = Store::new();
    let whole = bind(
        &endpoint("some:0"),
        &["127.0.0.1:0", "127.0.0.2:0"].map(|text| text.parse().unwrap()),
    );
    store
        .insert_bound(&endpoint("some:0"), whole.unwrap())
        .unwrap();
    let offer = store.offer(drop).0;
    assert_eq!(
        offer
            .iter()
            .map(|(d, _)| (d.index, d.count))
            .collect::<Vec<_>>(),
        [(0, 2), (1, 2)]
    );

    let next = Store::new();
    let pass = |(description, socket): &(Description, Arc<Socket>)| {
        let copy = socket.as_fd().try_clone_to_owned().unwrap();
        next.insert_inherited(verify(description.clone(), copy, None).unwrap());
    };
    pass(&offer[1]);
    pass(&offer[1]);
    assert_eq!(next.offer(drop).0.len(), 1, "the same one twice is one");
    let claimed = open_text(&next, "some:0");
    assert_eq!(
        claimed.warnings,
        ["endpoint `some:0`: 1 of its sockets did not come"]
    );
}

#[test]
fn options_that_can_be_set_are_set_after_the_commit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let store = Store::new();
    open(&store, &Endpoint::unix(&path).mode(0o600)).unwrap();
    open_text(&store, "tcp=127.0.0.1:0");
    let next = successor(&store);
    let mode = || {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(&path).unwrap().mode() & 0o777
    };
    let claimed = open(&next, &Endpoint::unix(&path).mode(0o640).backlog(3)).unwrap();
    assert!(claimed.warnings.is_empty());
    let asked = endpoint("tcp=127.0.0.1:0").backlog(0).no_delay(true);
    let asked = asked.keep_alive(std::time::Duration::ZERO);
    let tcp = open(&next, &asked).unwrap();
    let has = |option: fn(&SockRef<'_>) -> io::Result<bool>| {
        option(&SockRef::from(tcp.sockets[0].as_ref())).unwrap()
    };
    assert!(!has(|socket| socket.tcp_nodelay()) && !has(|socket| socket.keepalive()));
    let address = tcp.sockets[0].address().inet().unwrap();
    assert_eq!(mode(), 0o600, "the predecessor still serves");
    assert!(next.apply_options().is_empty());
    assert_eq!(mode(), 0o640);
    assert!(has(|socket| socket.tcp_nodelay()) && has(|socket| socket.keepalive()));
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o604);
    std::fs::set_permissions(&path, permissions).unwrap();
    assert!(next.apply_options().is_empty());
    assert_eq!(mode(), 0o604, "they are set once");

    // A backlog of 0 lets one connection wait; the next one is not completed.
    let timeout = std::time::Duration::from_millis(50);
    let _first = TcpStream::connect(address).unwrap();
    TcpStream::connect_timeout(&address, timeout).unwrap_err();
}

#[test]
fn options_that_cannot_be_set_are_named() {
    let store = Store::new();
    open_text(&store, "a=[::]:0");
    open(&store, &endpoint("b=127.0.0.1:0").reuse_port(true)).unwrap();
    let next = successor(&store);
    let a = endpoint("a=[::]:0").only_v6(true).reuse_port(true);
    let warnings = open(&next, &a).unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("endpoint `a=[::]:0`: `reuse_port` is off for the socket"));
    assert!(warnings[1].starts_with("endpoint `a=[::]:0`: `only_v6` is off for the socket"));
    let b = endpoint("b=127.0.0.1:0").reuse_port(false).only_v6(true);
    let warnings = open(&next, &b).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("`reuse_port` is on for the socket"));
}

#[test]
fn lent_descriptors_travel() {
    let store = Store::new();
    let (reader, writer) = nix::unistd::pipe().unwrap();
    store
        .lend("pipe", File::open("/dev/null").unwrap().into())
        .unwrap();
    store.lend("pipe", reader).unwrap();
    assert_eq!(
        store.offer(drop).0.len(),
        1,
        "the same name is the same thing"
    );

    let next = successor(&store);
    assert_eq!(unclaimed(&next), ["pipe=descriptor"]);
    let taken = next.take("pipe").unwrap().unwrap();
    assert!(unclaimed(&next).is_empty());
    assert!(successor(&next).take("pipe").unwrap().is_some());
    File::from(writer).write_all(b"x").unwrap();
    let mut buffer = [0];
    File::from(taken.try_clone().unwrap())
        .read_exact(&mut buffer)
        .unwrap();

    next.lend("again", taken).unwrap();
    assert!(next.close_unclaimed().is_empty());
    assert!(successor(&next).take("again").unwrap().is_some());
}

#[test]
fn several_descriptors_of_one_name_come_one_by_one() {
    let pipes = [nix::unistd::pipe().unwrap(), nix::unistd::pipe().unwrap()];
    let identities = pipes
        .each_ref()
        .map(|(reader, _)| identity(reader).unwrap());
    let sockets = pipes.map(|(reader, _)| ("fifo", reader)).into();
    let store = activated(sockets);
    let take = || identity(&store.take("fifo").unwrap().unwrap()).unwrap();
    assert_eq!([take(), take()], identities);
    assert_eq!(take(), identities[0]);
    assert_eq!(store.offer(drop).0.len(), 2, "both go on being offered");

    let store = activated(vec![("http", tcp().0.into())]);
    assert!(
        store.take("http").unwrap().is_none(),
        "a listener is claimed"
    );
}

#[test]
fn what_is_released_can_be_bound_again() {
    let store = Store::new();
    let address = tcp().1;
    let claimed = open_text(&store, &address.to_string());
    assert_eq!(store.release(&claimed.key).len(), 1);
    assert!(store.offer(drop).0.is_empty() && store.release(&claimed.key).is_empty());
    drop(claimed);
    let claimed = open_text(&store, &address.to_string());
    assert_eq!(store.offer_of(&claimed.key).len(), 1);
}

#[test]
fn there_is_one_descriptor_for_each_socket() {
    let store = Store::new();
    let claimed = open_text(&store, "127.0.0.1:0");
    let offer = store.offer(drop).0;
    let numbers: Vec<_> = claimed
        .sockets
        .iter()
        .chain(offer.iter().map(|(_, socket)| socket))
        .map(std::os::fd::AsRawFd::as_raw_fd)
        .collect();
    assert_eq!(numbers, [numbers[0]; 2]);
}

/// The work for a claim must not grow with the number of endpoints. It is measured in time, so
/// the bound is a wide one: looking at all of them for each would take a hundred times as long.
#[test]
fn ten_thousand_endpoints_are_claimed_in_no_time() {
    let claim_all = |count: u32| {
        let store = Store::new();
        // All share one socket, since so many descriptors are not to be had everywhere.
        let socket = open_text(&Store::new(), "127.0.0.1:0").sockets.remove(0);
        for n in 0..count {
            store.lock().insert(Entry::fresh(
                Some(format!("n{n}")),
                "127.0.0.1:0",
                State::Unclaimed,
                vec![Arc::clone(&socket)],
            ));
        }
        let start = std::time::Instant::now();
        for n in 0..count {
            let wanted = endpoint(&format!("n{n}=127.0.0.1:0"));
            let claimed = store.claim(&wanted, Kind::STREAMS).unwrap();
            assert!(claimed.is_some_and(|claimed| claimed.adopted));
        }
        start.elapsed() / count
    };
    let few = (0..5).map(|_| claim_all(100)).min().unwrap();
    let many = (0..2).map(|_| claim_all(10_000)).min().unwrap();
    assert!(
        many < few * 20,
        "{few:?} each of 100, {many:?} each of 10,000"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is asked for by whichever generation, no socket is lost, and none is held twice.
    #[test]
    fn sockets_are_neither_lost_nor_doubled(
        requests in proptest::collection::vec(
            ("[ab]?", prop_oneof![Just("127.0.0.1:0"), Just("udp:127.0.0.1:0"), Just("localhost:0")]),
            1..6,
        ),
        generations in 1..4,
    ) {
        let mut store = Store::new();
        for generation in 0..generations {
            let before: usize = store.offer(drop).0.len();
            let mut fresh = 0;
            for (name, target) in &requests {
                let text = if name.is_empty() { (*target).to_owned() } else { format!("{name}={target}") };
                match open(&store, &endpoint(&text)) {
                    Ok(claimed) if claimed.adopted => {}
                    Ok(claimed) => fresh += claimed.sockets.len(),
                    Err(error) => {
                        prop_assert!(error.to_string().contains("already claimed"), "{}", error);
                    }
                }
            }
            if generation > 0 {
                prop_assert_eq!(fresh, 0, "everything was there already");
            }
            let offer = store.offer(drop).0;
            prop_assert_eq!(offer.len(), before + fresh);
            let mut seen = HashSet::new();
            for (_, socket) in &offer {
                prop_assert!(seen.insert(nix::sys::stat::fstat(socket).unwrap().st_ino));
            }
            let next = successor(&store);
            prop_assert_eq!(unclaimed(&next).len(), store.claimed_keys(Mark::default()).1.len() + unclaimed(&store).len());
            store = next;
        }
    }
}
