//! A unit that is set up wrongly is told so.

use crate::app::App;
use crate::machine::Machine;

on_each_version! {
    a_unit_that_is_not_told_of_handovers_is_warned,
    a_program_behind_another_is_warned,
    what_does_not_go_with_a_handover_is_named,
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

/// Each of these is the only mistake in a unit that works until it is reloaded or stopped.
async fn what_does_not_go_with_a_handover_is_named(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    let by_command = "Type=notify\nExecReload=/bin/kill -HUP $MAINPID";
    let cases = [
        (0, by_command, "KillMode=process", "KillMode=process"),
        (0, by_command, "KillMode=mixed", "KillMode=mixed"),
        (
            0,
            by_command,
            "KillSignal=SIGQUIT",
            "a stop of the unit sends SIGQUIT",
        ),
        (
            0,
            "Type=notify",
            "ExecReload=/bin/kill -USR1 $MAINPID",
            "does not hand over at that signal",
        ),
        (
            0,
            "Type=notify",
            "ExecReload=/bin/sh -c 'kill -HUP $(cat /run/app/pid)'",
            "signal $MAINPID",
        ),
        (
            253,
            "Type=notify-reload",
            "ReloadSignal=SIGUSR1",
            "a reload sends SIGUSR1",
        ),
        (
            253,
            "Type=notify-reload",
            "ExecReload=/bin/kill -HUP $MAINPID",
            "signalled twice",
        ),
    ];
    for (since, kind, mistake, text) in cases {
        if machine.version() < since {
            continue;
        }
        app.load(&format!("{kind}\n{mistake}")).await;
        let from = machine.journal().len();
        app.start().await;
        let warning = app.logs(from, text).await;
        assert!(warning.message().contains("WARN"), "{warning}");
        app.logs(from, "serves").await;
        assert_eq!(app.warnings(from), [warning.message()], "{kind} {mistake}");
        machine.systemctl(["stop", &app.unit()]).await;
    }
}
