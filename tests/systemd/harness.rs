//! The harness itself: a machine is what it says, and nothing of it stays.

use std::fs;

use crate::machine::Machine;

on_each_version! {
    a_machine_runs_and_leaves_nothing,
}

pub(crate) async fn a_machine_runs_and_leaves_nothing(machine: Machine) {
    assert!(machine.version() >= 250, "{}", machine.version());
    assert_eq!(machine.run(["cat", "/proc/1/comm"]).await, "systemd\n");
    assert_eq!(machine.systemctl(["is-system-running"]).await, "running\n");
    let failed = machine.systemctl(["list-units", "--failed", "--no-legend"]).await;
    assert_eq!(failed, "");
    machine.write("/tmp/mark", "of this machine");
    assert_eq!(machine.run(["cat", "/tmp/mark"]).await, "of this machine");
    let root = machine.path("/");
    assert!(root.join("tmp/mark").exists());
    drop(machine);
    assert!(!root.exists(), "its PID 1 still runs");
    let mounts = fs::read_to_string("/proc/self/mounts").expect("a list");
    assert!(!mounts.contains("/boot/root"), "{mounts}");
}
