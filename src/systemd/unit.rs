//! What the unit's files say, as far as this process can read them.
//!
//! A process is not told how its unit is set up. So this reads the files that `systemctl cat` would
//! show, and warns of what does not go with a handover. Where they cannot be found (a sandbox hides
//! them, the unit was made up at run time) nothing is said.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The settings of the section `[Service]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unit {
    settings: HashMap<String, Vec<String>>,
}

impl Unit {
    /// Reads the files of the unit that this process belongs to.
    pub(super) fn read() -> Self {
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let Some((name, is_user)) = unit_of(&cgroup) else {
            return Self::default();
        };
        let folders = if is_user { USER } else { SYSTEM };
        Self::find(&name, folders.iter().map(Path::new))
    }

    /// `FileDescriptorStoreMax=`.
    pub(super) fn store_max(&self) -> Option<usize> {
        self.last("FileDescriptorStoreMax")?.parse().ok()
    }

    /// What does not go with a handover.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.settings.is_empty() {
            return warnings;
        }
        let mut warn = |text: String| warnings.push(text);
        let kind = self.last("Type").unwrap_or("simple");
        if !matches!(kind, "notify" | "notify-reload") {
            warn(format!(
                "the unit has Type={kind}: systemd does not wait until the service is ready, nor \
                 for the end of a handover; set Type=notify-reload (Type=notify before systemd 253)"
            ));
        }
        if self.last("NotifyAccess") == Some("none") {
            warn(
                "the unit has NotifyAccess=none: systemd hears nothing, and takes a handover for \
                 its end; remove it"
                    .to_owned(),
            );
        }
        if let Some(mode @ ("process" | "none")) = self.last("KillMode") {
            warn(format!(
                "the unit has KillMode={mode}: what still drains outlives a stop; remove it"
            ));
        }
        for command in self.settings.get("ExecReload").into_iter().flatten() {
            let signals = command.contains("kill");
            if signals && kind == "notify-reload" {
                warn(format!(
                    "the unit has Type=notify-reload and ExecReload={command}: it is signalled \
                     twice, and the second signal is refused; remove ExecReload="
                ));
            } else if signals && !command.contains("MAINPID") {
                warn(format!(
                    "the unit has ExecReload={command}: the pid changes with each handover; signal \
                     $MAINPID"
                ));
            }
        }
        if self.last("PIDFile").is_some() && kind == "forking" {
            warn(
                "the unit has PIDFile=: systemd is told of the main process; remove it".to_owned(),
            );
        }
        warnings
    }

    fn last(&self, key: &str) -> Option<&str> {
        self.settings.get(key)?.last().map(String::as_str)
    }

    fn find<'a>(name: &str, folders: impl Iterator<Item = &'a Path> + Clone) -> Self {
        let mut unit = Self::default();
        // An instance has a file of its own, or else that of its template.
        let template = name.split_once('@').and_then(|(prefix, instance)| {
            Some(format!("{prefix}@.{}", instance.rsplit_once('.')?.1))
        });
        let names: Vec<_> = std::iter::once(name.to_owned()).chain(template).collect();
        let fragment = names
            .iter()
            .find_map(|name| folders.clone().find_map(|folder| read(&folder.join(name))));
        let Some(fragment) = fragment else {
            return unit;
        };
        unit.add(&fragment);
        // Of drop-ins with the same name the first counts; they apply in the order of their names.
        let mut drop_ins = HashMap::new();
        for folder in folders {
            for name in &names {
                let folder = folder.join(format!("{name}.d"));
                for path in files(&folder) {
                    let Some(name) = path.file_name().map(ToOwned::to_owned) else {
                        continue;
                    };
                    drop_ins.entry(name).or_insert(path);
                }
            }
        }
        let mut drop_ins: Vec<_> = drop_ins.into_iter().collect();
        drop_ins.sort();
        for (_, path) in drop_ins {
            unit.add(&read(&path).unwrap_or_default());
        }
        unit
    }

    /// Takes in the text of a file (`systemd.syntax(7)`).
    fn add(&mut self, text: &str) {
        let text = text.replace("\\\n", " ");
        let mut in_section = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with('[') {
                in_section = line == "[Service]";
                continue;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| in_section) else {
                continue;
            };
            let values = self.settings.entry(key.trim().to_owned()).or_default();
            match value.trim() {
                // What was set before is taken back.
                "" => values.clear(),
                value => values.push(value.to_owned()),
            }
        }
    }
}

/// The unit in the path of a control group, and whether it is one of a user's manager.
fn unit_of(cgroup: &str) -> Option<(String, bool)> {
    let is_ours = |line: &&str| line.starts_with("0::") || line.contains(":name=systemd:");
    // In a container systemd may use one of two hierarchies, and be the root of the other.
    let (path, unit) = cgroup.lines().filter(is_ours).find_map(|line| {
        let path = line.rsplit_once(':')?.1;
        let unit = path.rsplit('/').find(|part| part.ends_with(".service"))?;
        Some((path, unit))
    })?;
    // A user's manager is a service itself.
    let is_user = path.contains("/user@") && !unit.starts_with("user@");
    Some((unit.trim_start_matches('_').to_owned(), is_user))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conf")
        })
        .collect()
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Where systemd looks, first things first (`systemd.unit(5)`).
const SYSTEM: &[&str] = &[
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
];
const USER: &[&str] = &[
    "/etc/systemd/user",
    "/run/systemd/user",
    "/usr/local/lib/systemd/user",
    "/usr/lib/systemd/user",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: &str) -> Unit {
        let mut unit = Unit::default();
        unit.add(text);
        unit
    }

    #[test]
    fn what_does_not_go_with_a_handover_is_warned_of() {
        let notify = "[Service]\nType=notify\n";
        for (text, warned) in [
            ("[Service]\nType=notify-reload\nKillMode=mixed\n", &[][..]),
            (
                "[Service]\nType=notify\nExecReload=kill -HUP $MAINPID\n",
                &[],
            ),
            ("[Service]\nExecStart=/app\n", &["Type=simple"]),
            (
                "[Service]\nType=exec\nNotifyAccess=none\n",
                &["Type=exec", "NotifyAccess=none"],
            ),
            (
                &format!("{notify}KillMode=process\n"),
                &["KillMode=process"],
            ),
            (
                &format!("{notify}ExecReload=/bin/kill -HUP 17\n"),
                &["signal $MAINPID"],
            ),
            (
                "[Service]\nType=notify-reload\nExecReload=kill -HUP $MAINPID\n",
                &["signalled twice"],
            ),
            // Taken back, and of another section.
            (
                &format!("{notify}KillMode=none\nKillMode=\n[Unit]\nType=x\n"),
                &[],
            ),
            (
                &format!("{notify}#KillMode=none\nExecReload=kill \\\n $MAINPID\n"),
                &[],
            ),
            ("", &[]),
        ] {
            let warnings = unit(text).warnings();
            assert_eq!(warnings.len(), warned.len(), "{text}: {warnings:?}");
            for (warning, part) in warnings.iter().zip(warned) {
                assert!(warning.contains(part), "{warning}");
            }
        }
    }

    #[test]
    fn the_unit_is_the_innermost_service() {
        for (cgroup, unit) in [
            (
                "0::/system.slice/app.service\n",
                Some(("app.service", false)),
            ),
            (
                "0::/system.slice/app@1.service/inner\n",
                Some(("app@1.service", false)),
            ),
            (
                "1:name=systemd:/system.slice/app.service\n0::/\n",
                Some(("app.service", false)),
            ),
            (
                "0::/user.slice/user-1.slice/user@1.service/app.slice/a.service",
                Some(("a.service", true)),
            ),
            ("0::/user.slice/user-1.slice/session-1.scope\n", None),
            ("", None),
        ] {
            let found = unit_of(cgroup);
            let found = found.as_ref().map(|(name, user)| (name.as_str(), *user));
            assert_eq!(found, unit, "{cgroup}");
        }
    }

    #[test]
    fn drop_ins_apply_over_the_first_file_found() {
        let directory = tempfile::tempdir().expect("a directory");
        let [etc, lib] = ["etc", "lib"].map(|name| directory.path().join(name));
        let write = |folder: &Path, name: &str, text: &str| {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        write(
            &lib,
            "app@.service",
            "[Service]\nType=simple\nFileDescriptorStoreMax=1\n",
        );
        write(&lib, "app@.service.d/10.conf", "[Service]\nType=notify\n");
        write(
            &etc,
            "app@7.service.d/20.conf",
            "[Service]\nFileDescriptorStoreMax=9\n",
        );
        write(&etc, "app@.service.d/10.conf", "[Service]\nType=exec\n");
        let unit = Unit::find("app@7.service", [etc.as_path(), lib.as_path()].into_iter());
        assert_eq!(unit.store_max(), Some(9));
        assert_eq!(unit.last("Type"), Some("exec"));
        assert_eq!(
            Unit::find("b.service", [lib.as_path()].into_iter()),
            Unit::default()
        );
    }
}
