//! The harness itself: a machine is what it says, and nothing of it stays.

use std::fs;
use std::process::Stdio;

use handover_tests::{Process, within};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::app::{App, reload_by};
use crate::machine::{Machine, Root, on};

on_each_version! {
    a_machine_runs_and_leaves_nothing,
}

async fn a_machine_runs_and_leaves_nothing(machine: Machine) {
    assert!(machine.version() >= 250, "{}", machine.version());
    assert_eq!(machine.run(["cat", "/proc/1/comm"]).await, "systemd\n");
    assert_eq!(machine.systemctl(["is-system-running"]).await, "running\n");
    let failed = machine
        .systemctl(["list-units", "--failed", "--no-legend"])
        .await;
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

/// A test that is killed cannot clean up; its machine sees that it has gone.
#[tokio::test]
async fn a_machine_ends_with_a_test_that_is_killed() {
    on(Root::Installed, async |machine: Machine| {
        drop(machine);
        let tests = std::env::current_exe().expect("this program");
        let mut other = Command::new(tests)
            .args(["--exact", "harness::shell::installed"])
            .args(["--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("this program");
        let stdout = BufReader::new(other.stdout.take().expect("just asked for"));
        let mut lines = stdout.lines();
        let pids = within("the pids of a machine", async {
            loop {
                let line = lines.next_line().await.expect("a pipe");
                let line = line.expect("a machine, before the end");
                if let Some((_, pids)) = line.split_once("out here: ") {
                    return pids.to_owned();
                }
            }
        });
        let pids = pids.await;
        let pids = pids.split(' ').map(|pid| pid.parse().expect("a pid"));
        let pids: Vec<u32> = pids.collect();
        let open = |&pid: &u32| Process::open(pid).ok();
        let processes: Vec<Process> = pids.iter().filter_map(open).collect();
        assert_eq!(processes.len(), 2, "PID 1 and the keeper");
        other.kill().await.expect("it runs");
        for process in processes {
            process.exited().await;
        }
        // The keeper removes the group as the last thing it does.
        let groups = fs::read_to_string("/proc/self/mountinfo").expect("a list");
        let groups = groups.lines().find(|line| line.contains(" - cgroup2 "));
        let group = groups.and_then(|line| line.split(' ').nth(4));
        let left = group.map(fs::read_dir).and_then(Result::ok);
        let left = left.into_iter().flatten().filter_map(Result::ok);
        // Other tests have machines, too.
        let own = format!("handover-machine-{}", pids[1]);
        for entry in left {
            assert_ne!(entry.file_name().to_string_lossy(), own, "it is left");
        }
    })
    .await;
}

/// For a person at a terminal, with a running service beside the shell.
mod shell {
    use super::*;

    #[tokio::test]
    #[ignore = "it is a shell"]
    async fn installed() {
        on(Root::Installed, shell).await;
    }

    #[tokio::test]
    #[ignore = "it is a shell"]
    async fn trixie() {
        on(Root::Trixie, shell).await;
    }

    async fn shell(machine: Machine) {
        let app = App::new(&machine, "app", 8080);
        app.load(reload_by(&machine)).await;
        app.start().await;
        let (version, [pid, keeper]) = (machine.version(), machine.pids());
        println!("systemd {version}; PID 1 and its keeper out here: {pid} {keeper}");
        println!("app.service serves on http://{}", machine.address(8080));
        println!("try: systemctl reload app; systemctl status app; journalctl -u app");
        // The terminal out here is none of a process in there.
        let shell = machine
            .command(["script", "--quiet", "--command", "bash", "/dev/null"])
            .status();
        shell.await.expect("nsenter runs");
    }
}
