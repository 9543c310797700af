//! What only one generation may hold, such as a lock, is never held by two, and nobody waits for
//! it for ever: `on_active` of the successor comes after every `on_drain` of the predecessor.

use handover_tests::{Line, Process, Signal};

use crate::client::Client;
use crate::support::{Fixture, Running, signal};

#[tokio::test]
async fn a_lock_goes_from_generation_to_generation_under_load() {
    for flavor in ["multi_thread", "current_thread"] {
        let fixture = Fixture::new();
        let lock = fixture.path("lock");
        let fixture = fixture
            .env("FIXTURE_LOCK", lock)
            .env("FIXTURE_FLAVOR", flavor);
        let running = fixture.start().await;
        let load = running.load();
        let mut pids = Vec::new();
        let mut incumbent = running.identity().await;
        for _ in 0..10 {
            pids.push(incumbent.pid);
            locked(&running, incumbent.pid).await;
            incumbent = running.hand_over(incumbent).await;
        }
        locked(&running, incumbent.pid).await;
        load.progress(1).await;
        load.stop().await.assert_nothing_lost();

        // Locked and unlocked by one after the other, and nobody has found it taken.
        let lines = running.service.output().lines();
        let seen: Vec<_> = lines.iter().filter_map(|line| held(line)).collect();
        let mut expected: Vec<_> = pids
            .iter()
            .flat_map(|pid| [("locked", *pid), ("unlocked", *pid)])
            .collect();
        expected.push(("locked", incumbent.pid));
        assert_eq!(seen, expected);
    }
}

/// A successor learns of its predecessor's release when every `on_drain` has returned, and of its
/// end when the last connection has gone.
#[tokio::test]
async fn a_predecessor_releases_and_then_exits() {
    let fixture = Fixture::new();
    let lock = fixture.path("lock");
    let fixture = fixture.env("FIXTURE_LOCK", lock);
    fixture.set_faults("drain:wait@1");
    let running = fixture.start().await;
    let output = running.service.output();
    let (mut client, first) = Client::of_generation(&running.target, 1).await;
    let second = running.hand_over(first).await;

    let draining = fixture.waiting().await;
    assert_eq!(draining.pid(), first.pid);
    let (released, exited) = (
        format!("released by pid={}", first.pid),
        format!("exited pid={}", first.pid),
    );
    assert!(!printed(&running, &released), "it waits in on_drain");
    draining.go();
    output.find(&released).await;
    locked(&running, second.pid).await;

    assert!(!printed(&running, &exited), "a connection is open");
    assert_eq!(client.ask("/").await, first);
    client.closed().await;
    drop(client);
    running.service.first().exited().await;
    output.find(&exited).await;
}

/// The middle one of three generations has nothing left to do, but what its predecessor holds is
/// not free: neither its release nor its end may tell the newest otherwise.
#[tokio::test]
async fn a_release_passes_through_a_generation_that_never_held_it() {
    let fixture = Fixture::new();
    let lock = fixture.path("lock");
    let fixture = fixture.env("FIXTURE_LOCK", lock);
    fixture.set_faults("drain:wait@1");
    let running = fixture.start().await;
    let first = running.identity().await;
    let second = running.hand_over(first).await;
    let draining = fixture.waiting().await;
    assert_eq!(draining.pid(), first.pid);

    let third = running.hand_over(second).await;
    let drained = "draining phase=draining generation=2";
    running.service.output().find(drained).await;
    // A fourth finds the lock where it was: with the first.
    let fourth = running.hand_over(third).await;
    // One that is not told to drain yet takes what is free, and gives it back.
    let drained = "draining phase=draining generation=3";
    running.service.output().find(drained).await;
    for newer in [second, third, fourth] {
        let locked = format!("locked by pid={}", newer.pid);
        assert!(!printed(&running, &locked), "the first holds it");
    }
    draining.go();
    locked(&running, fourth.pid).await;
    let lines = running.service.output().lines();
    let seen: Vec<_> = lines.iter().filter_map(|line| held(line)).collect();
    let (first, fourth) = (first.pid, fourth.pid);
    assert_eq!(
        seen,
        [("locked", first), ("unlocked", first), ("locked", fourth)]
    );
}

/// The middle one dies, which is no word of the oldest: what that one holds is free when it has
/// ended itself, since nobody is left to whom it could say so.
#[tokio::test]
async fn a_death_releases_nothing_that_another_holds() {
    let fixture = Fixture::new();
    let lock = fixture.path("lock");
    let fixture = fixture
        .env("FIXTURE_LOCK", lock)
        .env("FIXTURE_LOG", "debug");
    fixture.set_faults("drain:wait@1");
    let running = fixture.start().await;
    let first = running.identity().await;
    let second = running.hand_over(first).await;
    let draining = fixture.waiting().await;
    let third = running.hand_over(second).await;
    let drained = "draining phase=draining generation=2";
    running.service.output().find(drained).await;
    Process::open(second.pid).expect("it waits").kill();
    let seen = "the predecessor has gone";
    running.service.output().find(seen).await;
    draining.go();
    locked(&running, third.pid).await;
    let lines = running.service.output().lines();
    let seen: Vec<_> = lines.iter().filter_map(held).collect();
    let (first, third) = (first.pid, third.pid);
    assert_eq!(
        seen,
        [("locked", first), ("unlocked", first), ("locked", third)]
    );
}

/// The oldest has let go and goes on for long, and the middle one dies: what was said to that one
/// only is said again.
#[tokio::test]
async fn what_was_let_go_of_is_free_though_a_generation_dies() {
    for before in [true, false] {
        let fixture = Fixture::new();
        let lock = fixture.path("lock");
        let fixture = fixture
            .env("FIXTURE_LOCK", lock)
            .env("FIXTURE_LOG", "debug");
        fixture.set_faults("drain:wait@1 drain:hang@2");
        let running = fixture.start().await;
        let (mut client, first) = Client::of_generation(&running.target, 1).await;
        let second = running.hand_over(first).await;
        let draining = fixture.waiting().await;
        let draining = if before {
            draining.go();
            locked(&running, second.pid).await;
            None
        } else {
            Some(draining)
        };
        let third = running.hand_over(second).await;
        let drained = "draining phase=draining generation=2";
        running.service.output().find(drained).await;
        Process::open(second.pid).expect("it hangs").kill();
        let seen = "the predecessor has gone";
        running.service.output().find(seen).await;
        if let Some(draining) = draining {
            draining.go();
        }
        locked(&running, third.pid).await;
        assert_eq!(client.ask("/").await, first, "it goes on");
    }
}

/// What nobody can give back any more is free.
#[tokio::test]
async fn a_lock_of_a_dead_generation_is_taken() {
    let fixture = Fixture::new();
    let lock = fixture.path("lock");
    let fixture = fixture.env("FIXTURE_LOCK", lock);
    fixture.set_faults("drain:block-all@1");
    let running = fixture.start().await;
    let first = running.identity().await;
    signal(first, Signal::HUP);
    running.service.output().find("BlockAll at Drain").await;
    Process::open(first.pid).expect("it blocks").kill();
    let second = running.identity().await;
    locked(&running, second.pid).await;
}

async fn locked(running: &Running, pid: u32) {
    let locked = format!("locked by pid={pid}");
    running
        .service
        .output()
        .wait_for(&locked, |lines| {
            lines.iter().find(|line| line.text == locked).map(|_| ())
        })
        .await;
}

fn printed(running: &Running, text: &str) -> bool {
    let lines = running.service.output().lines();
    lines.iter().any(|line| line.text == text)
}

/// What a line says of the lock.
fn held(line: &Line) -> Option<(&'static str, u32)> {
    assert!(!line.text.contains("on_active of `lock`"), "{line}");
    ["locked", "unlocked"].into_iter().find_map(|what| {
        let pid = line.text.strip_prefix(what)?.strip_prefix(" by pid=")?;
        Some((what, pid.parse().ok()?))
    })
}
