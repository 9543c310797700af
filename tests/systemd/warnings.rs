//! A unit that is set up wrongly is told so.

use crate::app::App;
use crate::machine::Machine;

on_each_version! {
    a_unit_that_is_not_told_of_handovers_is_warned,
    a_program_behind_another_is_warned,
    what_does_not_go_with_a_handover_is_named,
    a_program_that_logs_from_main_on_is_warned,
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

/// By then the library has looked at the unit, and has spoken to systemd.
async fn a_program_that_logs_from_main_on_is_warned(machine: Machine) {
    let start = format!("ExecStart=/usr/local/bin/app {}", machine.address(7000));
    let service = |lines: &str| format!("[Service]\nType=notify\n{start}\n{lines}\n");
    let wrong = service("KillMode=process");
    let deaf = service("RestrictAddressFamilies=AF_INET\nTimeoutStartSec=1s");
    machine
        .load([("wrong.service", &wrong), ("deaf.service", &deaf)])
        .await;
    let journal = machine.journal();
    machine.systemctl(["start", "wrong.service"]).await;
    let warning = journal.find(0, "wrong.service", "KillMode=process").await;
    assert!(
        warning.message().contains("WARN handover::systemd"),
        "{warning}"
    );
    machine.systemctl(["stop", "wrong.service"]).await;

    let start = machine
        .attempt(["systemctl", "start", "deaf.service"])
        .await;
    start.expect_err("it is never said to be ready");
    let warning = journal
        .find(0, "deaf.service", "systemd cannot be told")
        .await;
    assert!(warning.message().contains("not supported"), "{warning}");
}
