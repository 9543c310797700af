//! Promise 5: no old code stays.
//!
//! After a committed handover the old generation ends within its drain deadline, always: from
//! inside, or, where its code blocks for ever, killed by the newest generation a grace period later.

use std::time::Duration;

use handover_tests::{Exit, Process, Signal};
use tokio::time::Instant;

use crate::client::Client;
use crate::support::{Fixture, Running, all, millis, signal};

/// What the old generation has that does not end.
struct Case {
    flavor: &'static str,
    faults: &'static str,
    /// What clients ask it before the handover, each on a connection that stays open.
    asked: &'static [&'static str],
}

const fn case(flavor: &'static str, faults: &'static str, asked: &'static [&'static str]) -> Case {
    Case {
        flavor,
        faults,
        asked,
    }
}

#[tokio::test]
async fn the_deadline_ends_what_does_not_end_by_itself() {
    all(
        [
            // A connection that stays open, used or not, and a request that is never answered.
            case("multi_thread", "", &["/"]),
            case("current_thread", "", &["/"]),
            case("multi_thread", "", &["/hang"]),
            // A task that the drain waits for.
            case("multi_thread", "", &["/task"]),
            // A main that ignores everything.
            case("multi_thread", "committed:hang@1", &[]),
            case("current_thread", "committed:hang@1", &[]),
            case("local", "committed:hang@1", &[]),
            // A component that does not let go.
            case("multi_thread", "drain:hang@1", &[]),
            case("current_thread", "drain:hang@1", &[]),
            // All of it.
            case(
                "multi_thread",
                "committed:hang@1 drain:hang@1",
                &["/", "/hang", "/task"],
            ),
            // One thread of the runtime that does not come back.
            case("multi_thread", "drain:block@1", &["/"]),
        ],
        async |case| {
            let fixture = case.fixture(DRAIN, LONG);
            let (running, mut clients) = case.start(&fixture).await;
            let since = case.replace(&running).await;
            let exit = running.service.first().exited().await;
            assert_eq!(exit, Exit::Code(0), "{}", case.faults);
            assert!(since.elapsed() >= DRAIN, "it was given its time");
            assert!(since.elapsed() < LONG, "nobody had to kill it");
            for client in &mut clients {
                client.closed().await;
            }
            serves_alone(&running).await;
        },
    )
    .await;
}

#[tokio::test]
async fn what_blocks_for_ever_is_killed_from_outside() {
    all(
        [
            case("current_thread", "draining:block@1", &[]),
            case("current_thread", "drain:block@1", &[]),
            case("local", "draining:block@1", &[]),
            case("multi_thread", "draining:block@1", &[]),
            case("multi_thread", "drain:block-all@1", &[]),
            case("multi_thread", "drain:stop@1", &[]),
        ],
        async |case| {
            let fixture = case.fixture(DRAIN, GRACE);
            let (running, _) = case.start(&fixture).await;
            let since = case.replace(&running).await;
            // The newest serves as if nothing were wrong.
            let load = running.load();
            let exit = running.service.first().exited().await;
            assert_eq!(exit, Exit::Signal(9), "{}", case.faults);
            assert!(since.elapsed() >= DRAIN + GRACE, "it was given its time");
            let killed = "has not ended by its deadline and is killed generation=1";
            running.service.output().find(killed).await;
            load.progress(1).await;
            load.stop().await.assert_nothing_lost();
            serves_alone(&running).await;
        },
    )
    .await;
}

/// The generation that it has handed over to is gone before the grace period is over.
#[tokio::test]
async fn the_newest_kills_it_though_the_middle_one_has_gone() {
    let case = case("multi_thread", "draining:block@1", &[]);
    let fixture = case.fixture(millis(1500), GRACE);
    let (running, _) = case.start(&fixture).await;
    case.replace(&running).await;
    let second = running.identity().await;
    let middle = Process::open(second.pid).expect("it has just answered");
    running.hand_over(second).await;
    middle.exited().await;
    let first = running.service.first();
    assert!(first.is_running(), "its deadline has not come");
    assert_eq!(first.exited().await, Exit::Signal(9));
    serves_alone(&running).await;
}

#[tokio::test]
async fn with_too_many_old_generations_the_oldest_ends() {
    for (faults, exit) in [("", Exit::Code(0)), ("draining:block@1", Exit::Signal(9))] {
        let fixture = Fixture::new()
            .env("FIXTURE_MAX_DRAINING", "2")
            .env("FIXTURE_KILL_GRACE", "500");
        fixture.set_faults(faults);
        let running = fixture.start().await;
        let mut clients = Vec::new();
        for generation in 1..=3 {
            let (client, identity) = Client::of_generation(&running.target, generation).await;
            clients.push((client, identity));
            running.hand_over(identity).await;
        }
        assert_eq!(running.service.first().exited().await, exit, "{faults}");
        clients[0].0.closed().await;
        // The others have all the time that they were promised.
        for (client, identity) in &mut clients[1..] {
            assert_eq!(client.ask("/").await, *identity);
        }
    }
}

#[tokio::test]
async fn the_exit_code_tells_whether_something_was_cut() {
    let faults = ["", "committed:hang@1", "drain:hang@1"];
    all(
        [
            (faults[0], None, "7", 0),
            (faults[0], Some("/hang"), "7", 7),
            (faults[0], Some("/task"), "7", 7),
            (faults[1], None, "7", 7),
            (faults[2], None, "7", 7),
            (faults[1], Some("/task"), "0", 0),
        ],
        async |(faults, asked, code, expected)| {
            let fixture = Fixture::new()
                .env("FIXTURE_DRAIN_TIMEOUT", "300")
                .env("FIXTURE_DEADLINE_EXIT_CODE", code);
            fixture.set_faults(faults);
            let running = fixture.start().await;
            let _client = match asked {
                Some(path) => Some(Client::holding(&running, path).await),
                None => None,
            };
            running
                .service
                .first()
                .signal(Signal::TERM)
                .expect("it runs");
            let exit = running.service.first().exited().await;
            assert_eq!(exit, Exit::Code(expected), "`{faults}` {asked:?} {code}");
        },
    )
    .await;
}

/// A second stop does not wait for the deadline, whatever there is.
#[tokio::test]
async fn a_second_stop_aborts_the_drain() {
    all(
        [
            case("multi_thread", "", &["/", "/hang", "/task"]),
            case("current_thread", "", &["/", "/hang", "/task"]),
            case("multi_thread", "committed:hang", &[]),
            case("multi_thread", "drain:hang", &[]),
            case("multi_thread", "drain:block", &["/"]),
        ],
        async |case| {
            let fixture = case.fixture(LONG, LONG);
            let (running, mut clients) = case.start(&fixture).await;
            let first = running.service.first();
            first.signal(Signal::TERM).expect("it runs");
            let drains = "draining phase=draining generation=1";
            running.service.output().find(drains).await;
            assert!(first.is_running());
            let since = Instant::now();
            first.signal(Signal::TERM).expect("it runs");
            assert_eq!(first.exited().await, Exit::Code(0), "{}", case.faults);
            assert!(since.elapsed() < LONG);
            for client in &mut clients {
                client.closed().await;
            }
            running.service.ended().await;
        },
    )
    .await;
}

impl Case {
    fn fixture(&self, drain: Duration, grace: Duration) -> Fixture {
        let fixture = Fixture::new()
            .env("FIXTURE_FLAVOR", self.flavor)
            .env("FIXTURE_DRAIN_TIMEOUT", drain.as_millis().to_string())
            .env("FIXTURE_KILL_GRACE", grace.as_millis().to_string());
        fixture.set_faults(self.faults);
        fixture
    }

    /// Starts it, and lets it have what does not end.
    async fn start(&self, fixture: &Fixture) -> (Running, Vec<Client>) {
        let running = fixture.start().await;
        let mut clients = Vec::new();
        for path in self.asked {
            clients.push(Client::holding(&running, path).await);
        }
        (running, clients)
    }

    /// Hands over, and returns when that was asked for and the drain has begun; until its end the old generation is asked
    /// nothing, since it might have nobody left to answer.
    async fn replace(&self, running: &Running) -> Instant {
        let incumbent = running.identity().await;
        let since = Instant::now();
        signal(incumbent, Signal::HUP);
        let drains = "draining phase=draining generation=1";
        running.service.output().find(drains).await;
        running.service.output().find("generation=2 serves").await;
        since
    }
}

/// Checks that the newest generation serves, and nothing else is left.
async fn serves_alone(running: &Running) {
    let newest = running.identity().await;
    let processes = running.service.processes();
    let pids: Vec<_> = processes.iter().map(Process::pid).collect();
    assert_eq!(pids, [newest.pid]);
}

const DRAIN: Duration = millis(400);
const GRACE: Duration = millis(400);
/// What no test waits for.
const LONG: Duration = Duration::from_secs(45);

/// Its predecessor would take it for one that has failed after the commit, and end it.
#[tokio::test]
async fn a_successor_whose_main_holds_its_thread_has_said_before_that_it_serves() {
    for flavor in ["current_thread", "multi_thread"] {
        let fixture = Fixture::new().env("FIXTURE_FLAVOR", flavor);
        let running = fixture.start().await;
        let first = running.identity().await;
        fixture.set_faults("committed:block");
        signal(first, Signal::HUP);
        running.service.first().exited().await;
        let committed = running.service.output().find("handover committed").await;
        assert!(committed.text.contains("generation=2"), "{committed}");
    }
}
