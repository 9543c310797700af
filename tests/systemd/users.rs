//! A service of a user's manager, which is a systemd of its own.

use handover_tests::{Identity, Target};

use crate::app;
use crate::deaths::assert_refused_none;
use crate::machine::{Machine, Properties};

on_each_version! {
    a_service_of_a_user_is_one_as_any,
}

/// Reloads, the main process, a crash with the descriptor store, and what its unit says: the manager
/// has folders, a notify socket and children of its own.
async fn a_service_of_a_user_is_one_as_any(machine: Machine) {
    let user = User::log_in(&machine).await;
    let address = machine.address(7000);
    let target = Target::Tcp(address);
    let unit = format!(
        "[Service]\n\
         Type=notify\n\
         ExecStart=/usr/local/bin/fixture\n\
         Environment=FIXTURE_TCP=http={address} FIXTURE_SYSTEMD=1\n\
         ExecReload=/bin/kill -HUP $MAINPID\n\
         KillMode=process\n\
         Restart=on-failure\n\
         RestartSec=0\n\
         FileDescriptorStoreMax=16\n"
    );
    machine.write(&format!("{HOME}/.config/systemd/user/app.service"), &unit);
    user.systemctl(&["daemon-reload"]).await;
    user.systemctl(&["start", "app.service"]).await;

    let mut incumbent = app::identity(&target).await;
    user.shows(|properties| properties.main_pid() == incumbent.pid)
        .await;
    let warning = machine.journal().find(0, MANAGER, "KillMode=process").await;
    assert_eq!(warning.field("_SYSTEMD_USER_UNIT"), "app.service");
    assert_eq!(warning.pid(), incumbent.pid, "{warning}");

    for _ in 0..3 {
        user.systemctl(&["reload", "app.service"]).await;
        user.shows(|properties| properties.main_pid() != incumbent.pid)
            .await;
        let successor: Identity = app::identity(&target).await;
        assert_eq!(successor.generation, incumbent.generation + 1);
        user.shows(|properties| {
            properties.main_pid() == successor.pid && properties.get("ActiveState") == "active"
        })
        .await;
        incumbent = successor;
    }

    user.shows(|properties| properties.number("NFileDescriptorStore") > 0)
        .await;
    let load = app::load_of_new_connections(&target);
    load.progress(10).await;
    machine.kill(incumbent.pid, "KILL").await;
    user.shows(|properties| {
        properties.number("NRestarts") == 1 && properties.get("ActiveState") == "active"
    })
    .await;
    assert_refused_none(load).await;

    user.systemctl(&["stop", "app.service"]).await;
    user.shows(|properties| {
        properties.get("ActiveState") == "inactive" && properties.get("Result") == "success"
    })
    .await;
}

/// The user `daemon`, whom every system has.
struct User<'m> {
    machine: &'m Machine,
}

impl<'m> User<'m> {
    /// Starts the manager, as a session would; nothing of PAM and of logind is needed for that.
    async fn log_in(machine: &'m Machine) -> Self {
        let unit = format!(
            "[Service]\n\
             Type=notify\n\
             User=%i\n\
             ExecStart=/lib/systemd/systemd --user\n\
             Delegate=yes\n\
             Slice=user-%i.slice\n\
             Environment=XDG_RUNTIME_DIR=/run/user/%i HOME={HOME}\n\
             RuntimeDirectory=user/%i\n\
             RuntimeDirectoryMode=0700\n"
        );
        machine.load([("user@.service", &unit)]).await;
        machine.systemctl(["start", MANAGER]).await;
        Self { machine }
    }

    async fn systemctl(&self, words: &[&str]) -> String {
        let enter = ["setpriv", "--reuid=1", "--regid=1", "--clear-groups"];
        let command = ["env", "XDG_RUNTIME_DIR=/run/user/1", "systemctl", "--user"];
        let words = enter.iter().chain(&command).chain(words);
        self.machine.run(words).await
    }

    /// Waits until what the manager says of the service is as `is` wants it.
    async fn shows(&self, is: impl Fn(&Properties) -> bool) {
        let mut last = None;
        let wait = async {
            loop {
                let text = self.systemctl(&["show", "--all", "app.service"]).await;
                let properties = Properties::parse(&text);
                if is(&properties) {
                    return;
                }
                last = Some(properties);
            }
        };
        let waited = tokio::time::timeout(handover_tests::LIMIT, wait).await;
        assert!(waited.is_ok(), "{last:?}");
    }
}

const MANAGER: &str = "user@1.service";
const HOME: &str = "/run/user/1/home";
