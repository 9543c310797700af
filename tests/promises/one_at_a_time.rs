//! Promise 4: one handover at a time.

use handover_tests::load::{Request, ask};
use handover_tests::{Process, Signal, eventually};

use crate::client::Client;
use crate::support::{Fixture, signal};

#[tokio::test]
async fn a_second_trigger_is_refused_with_a_clear_answer() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    let incumbent = running.identity().await;
    let handover = Request::get("/handover");
    fixture.set_faults("init:wait");
    let first = async {
        let answer = ask(&running.target, &handover).await.expect("an answer");
        String::from_utf8_lossy(&answer.body).into_owned()
    };
    let second = async {
        let waiting = fixture.waiting().await;
        let answer = ask(&running.target, &handover).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(
            answer.contains("refused: a handover is in progress"),
            "{answer}"
        );
        // A signal has nobody to answer: it is told to the log.
        let from = running.service.output().len();
        signal(incumbent, Signal::HUP);
        running
            .service
            .output()
            .find_from(from, "refused: a handover is in progress")
            .await;
        let process = Process::open(incumbent.pid).expect("it serves");
        assert_eq!(
            process.children().expect("/proc can be read"),
            [waiting.pid()]
        );
        fixture.set_faults("");
        waiting.go();
    };
    let (answer, ()) = tokio::join!(first, second);
    assert!(answer.contains("generation: 2"), "{answer}");
    running.service.generation(&running.target, 2).await;
}

/// One that has handed over starts nothing more: it names the process that serves.
#[tokio::test]
async fn an_old_generation_that_is_signalled_again_names_who_serves() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    let _held = Client::holding(&running, "/hang").await;
    let first = running.identity().await;
    let second = running.hand_over(first).await;
    let output = running.service.output();
    output.find("draining phase=draining generation=1").await;
    let refused = format!("refused: process {} serves now", second.pid);
    for by in [Signal::HUP, Signal::USR2] {
        let from = output.len();
        signal(first, by);
        output.find_from(from, &refused).await;
    }
    let children = Process::open(first.pid).and_then(|process| process.children());
    assert_eq!(children.expect("it drains"), [second.pid]);
    assert_eq!(running.identity().await, second);
    running.hand_over(second).await;
}

/// Whoever sends triggers as fast as it can gets handovers one after the other, and nothing lost.
#[tokio::test]
async fn a_storm_of_triggers() {
    // Generations come faster than clients speak, and none is to be cut short.
    let fixture = Fixture::new().env("FIXTURE_MAX_DRAINING", "1000");
    let running = fixture.start().await;
    let load = running.load();
    let mut incumbent = running.identity().await;
    for number in 0..200 {
        let signal = if number % 2 == 0 {
            Signal::HUP
        } else {
            Signal::USR2
        };
        // Every process that there is gets it: the incumbent, its successor, those that drain.
        for process in running.service.processes() {
            // One that ends in this very moment needs no signal.
            process.signal(signal).ok();
        }
        incumbent = incumbent.max(running.identity().await);
    }
    // After the storm the service is as good as before it.
    load.progress(1).await;
    eventually("the end of the last handover of the storm", || {
        let newest = load.report().newest()?;
        let process = Process::open(newest.pid).ok()?;
        process.children().ok()?.is_empty().then_some(())
    })
    .await;
    let newest = load.report().newest().expect("somebody has answered");
    let last = running.hand_over(newest).await;
    load.progress(1).await;
    load.stop().await.assert_nothing_lost();
    assert!(incumbent.generation < last.generation);
    assert!(last.generation > 2, "no handover came of the storm");
    eventually("the end of all generations but the last", || {
        (running.service.processes().len() == 1).then_some(())
    })
    .await;
}
