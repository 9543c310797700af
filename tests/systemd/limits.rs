//! The time limits of systemd, and stops.

use std::time::Duration;

use handover_tests::Load;
use handover_tests::load::{Kind, Request};
use tokio::time::timeout;

use crate::app::{App, reload_by};
use crate::machine::Machine;

on_each_version! {
    a_slow_start_extends_its_limit,
    a_slow_reload_extends_its_limit,
    a_long_drain_extends_its_limit,
    a_long_drain_is_cut_where_systemd_is_not_told,
    a_stop_wins_over_a_reload,
    a_stop_lets_a_predecessor_finish,
}

async fn a_slow_start_extends_its_limit(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    let reload = reload_by(&machine);
    app.load(&format!("{reload}\nTimeoutStartSec=2s")).await;
    app.set_faults("init:wait");
    let start = app.start();
    tokio::pin!(start);
    let waiting = tokio::select! {
        waiting = app.waiting() => waiting,
        _ = &mut start => panic!("it has started without waiting"),
    };
    assert!(timeout(TWICE, &mut start).await.is_err(), "it waits");
    waiting.go();
    let first = start.await;
    app.assert_serves(first).await;
    app.stop().await;
}

/// The limit of a reload is that of a start.
async fn a_slow_reload_extends_its_limit(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    let reload = reload_by(&machine);
    app.load(&format!("{reload}\nTimeoutStartSec=2s")).await;
    let first = app.start().await;
    app.set_faults("init:wait");
    let reload = app.reload(first);
    tokio::pin!(reload);
    let waiting = tokio::select! {
        waiting = app.waiting() => waiting,
        _ = &mut reload => panic!("it has reloaded without waiting"),
    };
    assert!(timeout(TWICE, &mut reload).await.is_err(), "it waits");
    waiting.go();
    let second = reload.await;
    app.assert_serves(second).await;
    app.stop().await;
}

/// Two drains: that of a stop, and that of a predecessor when the service is stopped.
async fn a_long_drain_extends_its_limit(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    let reload = reload_by(&machine);
    app.load(&format!("{reload}\nTimeoutStopSec=2s")).await;
    let first = app.start().await;
    let slow = |target| {
        let plan = Load::on(target).request(Request::get("/slow?5000"));
        plan.clients(Kind::New, 2).start()
    };
    let of_first = slow(app.target.clone());
    of_first
        .wait_for("connections", |report| report.all().connections == 2)
        .await;
    app.reload(first).await;
    let of_second = slow(app.target.clone());
    of_second
        .wait_for("connections", |report| report.all().connections == 2)
        .await;
    let (first, second, ()) = tokio::join!(of_first.stop(), of_second.stop(), app.stop());
    for report in [first, second] {
        assert_eq!(report.answered(), 2, "{report}");
        report.assert_nothing_lost();
    }
}

/// Without `Type=notify` nobody listens to the service.
async fn a_long_drain_is_cut_where_systemd_is_not_told(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    app.load("Type=exec\nTimeoutStopSec=1s").await;
    machine.systemctl(["start", &app.unit()]).await;
    app.logs(0, "serves").await;
    let held = app.hold().await;
    machine.systemctl(["stop", &app.unit()]).await;
    assert_eq!(app.show().await.get("Result"), "timeout");
    app.assert_no_process();
    drop(held);
}

/// Whenever it comes.
async fn a_stop_wins_over_a_reload(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    app.load(reload_by(&machine)).await;
    for stage in ["start", "init", "ready"] {
        app.set_faults("");
        app.start().await;
        app.set_faults(&format!("{stage}:wait"));
        let unit = app.unit();
        let reload = machine.attempt(["systemctl", "reload", &unit]);
        let stop = async {
            let successor = app.waiting().await;
            app.stop().await;
            assert!(!machine.has_process(successor.pid), "the successor lives");
        };
        // Newer versions wait for the end of the reload, which the stop cancels.
        let (_, ()) = tokio::join!(reload, stop);
    }
}

/// What the predecessor has begun is finished, though the main process has ended before.
async fn a_stop_lets_a_predecessor_finish(machine: Machine) {
    let app = App::new(&machine, "app", 7000);
    app.load(reload_by(&machine)).await;
    let first = app.start().await;
    let slow = Load::on(app.target.clone())
        .request(Request::get("/slow?3000"))
        .clients(Kind::New, 2)
        .start();
    slow.wait_for("connections", |report| report.all().connections == 2)
        .await;
    app.reload(first).await;
    let (report, ()) = tokio::join!(slow.stop(), app.stop());
    assert_eq!(report.answered(), 2, "{report}");
    report.assert_nothing_lost();
}

const TWICE: Duration = Duration::from_secs(4);
