//! Promise 10: generations of different versions of the library understand each other.
//!
//! The same fixture is built with libraries that speak other versions of the protocol: an older
//! one knows no capability, a newer one says what nobody else has heard of, and an alien has no
//! version in common with the others.

use std::path::Path;

use crate::support::{Fixture, Running, signal};
use handover_tests::{Identity, Signal};

#[tokio::test]
async fn older_and_newer_generations_hand_over_to_each_other_under_load() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    let load = running.load();
    let mut incumbent = running.identity().await;
    // Every pair, both ways, and each with itself.
    for version in [
        OLDER, CURRENT, NEWER, CURRENT, OLDER, NEWER, OLDER, OLDER, NEWER, NEWER, CURRENT, CURRENT,
    ] {
        fixture.deploy(Path::new(version));
        incumbent = running.hand_over(incumbent).await;
        let report = load.progress(1).await;
        assert_eq!(report.newest(), Some(incumbent), "{version}");
    }
    load.stop().await.assert_nothing_lost();
}

/// With old generations that drain, so that their channels pass through other versions.
#[tokio::test]
async fn a_stop_reaches_generations_of_every_version() {
    let fixture = Fixture::new().env("FIXTURE_DRAIN_TIMEOUT", "100000");
    fixture.set_faults("committed:hang");
    let running = fixture.start().await;
    let mut incumbent = running.identity().await;
    for version in [OLDER, NEWER, CURRENT] {
        fixture.deploy(Path::new(version));
        incumbent = running.hand_over(incumbent).await;
    }
    assert_eq!(running.service.processes().len(), 4);
    signal(incumbent, Signal::TERM);
    signal(incumbent, Signal::INT);
    running.service.ended().await;
}

#[tokio::test]
async fn without_a_common_version_the_incumbent_serves_on_and_names_both() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    let load = running.load();
    let mut incumbent = running.identity().await;
    for (incumbents, theirs) in [(CURRENT, "1"), (OLDER, "0 to 1"), (NEWER, "1 to 2")] {
        fixture.deploy(Path::new(incumbents));
        incumbent = running.hand_over(incumbent).await;
        fixture.deploy(Path::new(ALIEN));
        let report = refused(&running, incumbent).await;
        let ranges = format!(
            "no common protocol version: the incumbent speaks {theirs}, this program speaks 1000"
        );
        assert!(report.contains("stage=negotiate"), "{report}");
        assert!(report.contains(&ranges), "{report}");
        load.progress(1).await;
        assert_eq!(running.identity().await, incumbent);
    }
    load.stop().await.assert_nothing_lost();
}

/// Asks for a handover, and returns the report of its failure.
async fn refused(running: &Running, incumbent: Identity) -> String {
    let from = running.service.output().len();
    signal(incumbent, Signal::HUP);
    let output = running.service.output();
    output.find_from(from, "handover failed").await.text
}

const CURRENT: &str = env!("CARGO_BIN_EXE_fixture");
const OLDER: &str = env!("CARGO_BIN_EXE_fixture-older");
const NEWER: &str = env!("CARGO_BIN_EXE_fixture-newer");
const ALIEN: &str = env!("CARGO_BIN_EXE_fixture-alien");
