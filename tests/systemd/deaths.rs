//! The main process dies: what the unit, the descriptor store and `Restart=` make of it.

use handover_tests::within;
use tokio::io::AsyncReadExt;

use crate::app::{App, reload_by};
use crate::machine::Machine;

on_each_version! {
    a_predecessor_killed_after_the_main_pid_has_moved_is_not_missed,
    a_watchdog_that_is_not_fed_restarts_the_unit,
    a_watchdog_is_fed_by_every_generation,
}

/// What it had not finished dies with it, and nothing else.
async fn a_predecessor_killed_after_the_main_pid_has_moved_is_not_missed(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    app.load(reload_by(&machine)).await;
    let first = app.start().await;
    // A request that never ends keeps the first generation in its drain.
    let mut held = app.hold().await;
    let second = app.reload(first).await;
    let load = app.load_of_every_kind();
    load.progress(1).await;
    machine.kill(first.pid, "KILL").await;
    let mut answer = [0];
    let read = within("the end of the request", held.read(&mut answer)).await;
    assert!(!matches!(read, Ok(1..)), "an answer");
    load.progress(1).await;
    app.assert_serves(second).await;
    load.stop().await.assert_nothing_lost();
    app.reload(second).await;
    app.stop().await;
}

async fn a_watchdog_that_is_not_fed_restarts_the_unit(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    let reload = reload_by(&machine);
    app.load(&format!(
        "{reload}\nRestart=on-failure\nRestartSec=0\nWatchdogSec=2s"
    ))
    .await;
    let first = app.start().await;
    // A successor is watched as the first generation is.
    let second = app.reload(first).await;
    let blocking = app.send("/block-all").await;
    app.logs(0, "Watchdog timeout").await;
    drop(blocking);
    let again = app.restarted(1).await;
    assert_ne!(again.pid, second.pid);
    app.stop().await;
}

/// As often as it has to be, whoever is the main process.
async fn a_watchdog_is_fed_by_every_generation(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    let reload = reload_by(&machine);
    app.load(&format!("{reload}\nWatchdogSec=1s")).await;
    let mut incumbent = app.start().await;
    for _ in 0..3 {
        for _ in 0..3 {
            let fed = app.show().await.number("WatchdogTimestampMonotonic");
            app.shows("fed again", |properties| {
                (properties.number("WatchdogTimestampMonotonic") > fed).then_some(())
            })
            .await;
        }
        app.assert_serves(incumbent).await;
        incumbent = app.reload(incumbent).await;
    }
    app.stop().await;
}
