//! A unit that is set up wrongly is told so.

use crate::app::App;
use crate::machine::Machine;

on_each_version! {
    a_unit_that_is_not_told_of_handovers_is_warned,
    a_program_behind_another_is_warned,
}

async fn a_unit_that_is_not_told_of_handovers_is_warned(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    app.load("Type=exec").await;
    machine.systemctl(["start", &app.unit()]).await;
    let warning = app.logs(0, "Type=notify").await;
    assert!(warning.message().contains("WARN"), "{warning}");
    // It serves all the same.
    app.logs(0, "serves").await;
    app.identity().await;
    app.stop().await;
}

async fn a_program_behind_another_is_warned(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    let start = "/bin/sh -c '/run/app/service; true'";
    app.load(&format!(
        "Type=notify\nNotifyAccess=all\nExecStart=\nExecStart={start}"
    ))
    .await;
    app.start().await;
    let warning = app.logs(0, "`exec`").await;
    assert!(warning.message().contains("WARN"), "{warning}");
    app.stop().await;
}
