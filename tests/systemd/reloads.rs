//! Reloads: what systemd calls a handover.

use handover_tests::Identity;

use crate::app::{App, RELOAD_BY_COMMAND, reload_by};
use crate::machine::Machine;

on_each_version! {
    twenty_reloads_lose_nothing,
    a_reload_by_command_loses_nothing,
    a_reload_by_another_signal_loses_nothing,
    a_reload_of_pid_1_fails_and_changes_nothing,
    the_journal_knows_every_generation,
}

/// Under a load of every kind, and systemd knows the main process after each.
async fn twenty_reloads_lose_nothing(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    app.load(reload_by(&machine)).await;
    reload_under_load(&app, 20).await;
}

/// Newer versions can be used as older ones.
async fn a_reload_by_command_loses_nothing(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    app.load(RELOAD_BY_COMMAND).await;
    reload_under_load(&app, 3).await;
}

/// Where systemd sends the signal itself (253 and later).
async fn a_reload_by_another_signal_loses_nothing(machine: Machine) {
    if machine.version() < 253 {
        return;
    }
    let app = App::new(&machine, "app", 7000);
    app.load("Type=notify-reload\nReloadSignal=SIGUSR2").await;
    reload_under_load(&app, 3).await;
}

/// A process that ends with its namespace cannot hand over to another one in there
/// (`PrivatePIDs=`, 257 and later).
async fn a_reload_of_pid_1_fails_and_changes_nothing(machine: Machine) {
    if machine.version() < 257 {
        return;
    }
    let app = App::new(&machine, "app", 7000);
    app.load("Type=notify-reload\nPrivatePIDs=yes").await;
    let first = app.start().await;
    assert_eq!(first.pid, 1, "it has a namespace of its own");
    let warning = app.logs(0, "PrivatePIDs=").await;
    assert!(warning.message().contains("WARN"), "{warning}");
    let main = app.show().await.main_pid();
    let load = app.load_of_every_kind();
    for _ in 0..3 {
        load.progress(1).await;
        machine.systemctl(["reload", &app.unit()]).await;
        app.status("this process is PID 1").await;
        let properties = app.show().await;
        assert_eq!(properties.get("ActiveState"), "active");
        assert_eq!(properties.main_pid(), main);
        assert_eq!(app.identity().await, first);
    }
    load.progress(1).await;
    load.stop().await.assert_nothing_lost();
    // systemd may not take it for its child, and then kills it without a word.
    machine.systemctl(["stop", &app.unit()]).await;
    app.assert_no_process();
}

async fn reload_under_load(app: &App<'_>, times: u32) {
    let mut incumbent = app.start().await;
    let load = app.load_of_every_kind();
    for _ in 0..times {
        load.progress(1).await;
        incumbent = app.reload(incumbent).await;
    }
    load.progress(1).await;
    let report = load.stop().await;
    report.assert_nothing_lost();
    let seen = report.seen.iter().map(|seen| seen.identity.generation);
    assert!(seen.eq(1..=times + 1), "{report}");
    app.stop().await;
}

/// What a generation prints bears its own pid, and the unit; what it prints before it is the main
/// process goes through its predecessor, and bears that one's.
async fn the_journal_knows_every_generation(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    app.load(reload_by(&machine)).await;
    let mut incumbent = app.start().await;
    let mut generations = vec![incumbent];
    for _ in 0..3 {
        incumbent = app.reload(incumbent).await;
        generations.push(incumbent);
    }
    app.stop().await;
    for pair in generations.windows(2) {
        let [predecessor, Identity { pid, generation }] = [pair[0], pair[1]];
        let line = format!("initialising phase=initialising generation={generation} pid={pid}");
        let early = app.logs(0, &line).await;
        assert_eq!(early.pid(), predecessor.pid, "{early}");
        assert_eq!(early.field("_SYSTEMD_UNIT"), app.unit());
        let line = format!("active generation={generation} pid={pid}");
        let late = app.logs(0, &line).await;
        assert_eq!(late.pid(), pid, "{late}");
        assert_eq!(late.field("_SYSTEMD_UNIT"), app.unit());
    }
    for Identity { pid, generation } in generations {
        for line in [
            format!("pid={pid} generation={generation} serves"),
            format!("ended generation={generation} "),
        ] {
            let entry = app.logs(0, &line).await;
            assert_eq!(entry.pid(), pid, "{entry}");
            assert_eq!(entry.field("_SYSTEMD_UNIT"), app.unit());
        }
    }
}
