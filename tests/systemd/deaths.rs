//! The main process dies: what the unit, the descriptor store and `Restart=` make of it.

use handover_tests::load::Cause;
use handover_tests::{Load, within};
use tokio::io::AsyncReadExt;

use crate::app::{App, reload_by};
use crate::machine::Machine;

on_each_version! {
    a_crash_refuses_no_client,
    an_incumbent_killed_before_the_main_pid_has_moved_refuses_no_client,
    a_predecessor_killed_after_the_main_pid_has_moved_is_not_missed,
    a_watchdog_that_is_not_fed_restarts_the_unit,
    a_watchdog_is_fed_by_every_generation,
}

/// By an error, an abort, a kill: the listeners stay in the store, and the clients in their queue.
async fn a_crash_refuses_no_client(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    app.load(&with_store(&machine)).await;
    app.start().await;
    for (restarts, signal) in (1..).zip(["KILL", "ABRT", "ILL"]) {
        let load = app.load_of_new_connections();
        load.progress(10).await;
        let main = app.show().await.main_pid();
        machine.kill(main, signal).await;
        let identity = app.restarted(restarts).await;
        assert_eq!(identity.generation, 1, "it is a new start");
        assert_refused_none(load).await;
    }
    // It can still be handed over, and die after that.
    let incumbent = app.identity().await;
    let load = app.load_of_new_connections();
    machine.systemctl(["reload", &app.unit()]).await;
    app.shows("reloaded", |properties| {
        (properties.main_pid() != incumbent.pid).then_some(())
    })
    .await;
    machine.kill(app.show().await.main_pid(), "KILL").await;
    app.restarted(4).await;
    assert_refused_none(load).await;
    app.stop().await;
}

/// systemd ends the unit and the successor with it, and starts it anew.
async fn an_incumbent_killed_before_the_main_pid_has_moved_refuses_no_client(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    app.load(&with_store(&machine)).await;
    let mut incumbent = app.start().await;
    for (restarts, stage) in (1..).zip(["start", "init", "ready"]) {
        let load = app.load_of_new_connections();
        load.progress(10).await;
        app.set_faults(&format!("{stage}:wait"));
        let unit = app.unit();
        let reload = machine.attempt(["systemctl", "reload", &unit]);
        let kill = async {
            let successor = app.waiting().await;
            // The next one is a new start, which must not wait.
            app.set_faults("");
            machine.kill(incumbent.pid, "KILL").await;
            successor
        };
        // Newer versions wait for the end of the reload, which is that of the unit.
        let (_, successor) = tokio::join!(reload, kill);
        let again = app.restarted(restarts).await;
        assert!(!machine.has_process(successor.pid), "the successor lives");
        assert_eq!(again.generation, 1);
        assert_refused_none(load).await;
        incumbent = again;
    }
    app.stop().await;
}

/// What it had not finished dies with it, and nothing else.
async fn a_predecessor_killed_after_the_main_pid_has_moved_is_not_missed(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    app.load(reload_by(&machine)).await;
    let first = app.start().await;
    // A request that never ends keeps the first generation in its drain.
    let mut held = app.hold().await;
    let second = app.reload(first).await;
    app.status("generation 2 serves, 1 endpoint; draining: 1 connection, oldest ")
        .await;
    let load = app.load_of_every_kind();
    load.progress(1).await;
    machine.kill(first.pid, "KILL").await;
    let mut answer = [0];
    let read = within("the end of the request", held.read(&mut answer)).await;
    assert!(!matches!(read, Ok(1..)), "an answer");
    load.progress(1).await;
    app.assert_serves(second).await;
    app.shows("told of no drain", |properties| {
        let status = properties.get("StatusText");
        (status == "generation 2 serves, 1 endpoint").then_some(())
    })
    .await;
    load.stop().await.assert_nothing_lost();
    app.reload(second).await;
    app.stop().await;
}

async fn a_watchdog_that_is_not_fed_restarts_the_unit(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    let store = with_store(&machine);
    app.load(&format!("{store}\nWatchdogSec=2s")).await;
    let first = app.start().await;
    // A successor is watched as the first generation is.
    let second = app.reload(first).await;
    let load = app.load_of_new_connections();
    load.progress(10).await;
    let blocking = app.send("/block-all").await;
    app.logs(0, "Watchdog timeout").await;
    drop(blocking);
    let again = app.restarted(1).await;
    assert_ne!(again.pid, second.pid);
    assert_refused_none(load).await;
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

/// A unit that is started again, with its listeners in the store.
fn with_store(machine: &Machine) -> String {
    let reload = reload_by(machine);
    format!("{reload}\nFileDescriptorStoreMax=16\nRestart=on-failure\nRestartSec=0")
}

/// Requests in progress die with the process that had them; but nobody is turned away.
pub(crate) async fn assert_refused_none(load: Load) {
    load.progress(1).await;
    let report = load.stop().await;
    let counts = report.all();
    assert_eq!(counts.failed.get(&Cause::Refused), None, "{report}");
    assert_eq!(counts.failed.get(&Cause::Timeout), None, "{report}");
}
