//! Reloads: what systemd calls a handover.

use handover_tests::Identity;

use crate::app::{App, RELOAD_BY_COMMAND, reload_by};
use crate::machine::Machine;

on_each_version! {
    twenty_reloads_lose_nothing,
    a_reload_by_command_loses_nothing,
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

/// What a generation prints bears its own pid, and the unit.
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
