//! What the unit's files say, as far as this process can read them.
//!
//! A process is not told how its unit is set up. So this reads the files that `systemctl cat` would
//! show, and warns of what does not go with a handover. Where they cannot be found (a sandbox hides
//! them, the unit was made up at run time) nothing is said.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal;

use crate::lifecycle::signal::Signal;

/// The settings of the section `[Service]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unit {
    settings: HashMap<String, Vec<String>>,
}

/// The signals that the program takes for triggers; where it takes none, it may have handlers of
/// its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Triggers<'a> {
    pub(super) handover: &'a [Signal],
    pub(super) stop: &'a [Signal],
}

impl Unit {
    /// Reads the files of the unit that this process belongs to.
    pub(super) fn read() -> Self {
        let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let Some((name, is_user)) = unit_of(&cgroup) else {
            return Self::default();
        };
        let folders = match is_user {
            true => user_folders(|key| std::env::var_os(key)),
            false => SYSTEM.iter().map(PathBuf::from).collect(),
        };
        Self::find(&name, folders.iter().map(PathBuf::as_path))
    }

    /// `FileDescriptorStoreMax=`.
    pub(super) fn store_max(&self) -> Option<usize> {
        self.last("FileDescriptorStoreMax")?.parse().ok()
    }

    /// What does not go with a handover.
    pub(super) fn warnings(&self, triggers: Triggers<'_>) -> Vec<String> {
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
                "the unit has KillMode={mode}: after a crash of the main process, successors and \
                 what still drains go on beside what systemd starts; remove it"
            ));
        }
        let reload = self.last("ReloadSignal").unwrap_or("SIGHUP");
        if kind == "notify-reload" && is_unknown(reload, triggers.handover) {
            warn(format!(
                "the unit has Type=notify-reload, and a reload sends {reload}, at which this \
                 program does not hand over: set ReloadSignal= to one of {}",
                list(triggers.handover)
            ));
        }
        let stop = self.last("KillSignal").unwrap_or("SIGTERM");
        if is_unknown(stop, triggers.stop) {
            warn(format!(
                "a stop of the unit sends {stop}, at which this program does not drain: set \
                 KillSignal= to one of {}",
                list(triggers.stop)
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
            if sent_by(command).is_some_and(|sent| is_unknown(sent, triggers.handover)) {
                warn(format!(
                    "the unit has ExecReload={command}: this program does not hand over at that \
                     signal, but at {}",
                    list(triggers.handover)
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
        let mut names: Vec<_> = std::iter::once(name.to_owned()).chain(template).collect();
        let fragment = names
            .iter()
            .find_map(|name| folders.clone().find_map(|folder| read(&folder.join(name))));
        let Some(fragment) = fragment else {
            return unit;
        };
        unit.add(&fragment);
        names.extend(prefixes(name));
        // Of drop-ins with the same name the first counts; they apply in the order of their names.
        let mut drop_ins = HashMap::new();
        let narrow = folders
            .clone()
            .flat_map(|folder| names.iter().map(move |name| (folder, name.as_str())));
        let kind = name.rsplit_once('.').map(|(_, kind)| kind);
        let wide = folders.flat_map(|folder| kind.map(|kind| (folder, kind)));
        for (folder, name) in narrow.chain(wide) {
            for path in files(&folder.join(format!("{name}.d"))) {
                let Some(name) = path.file_name().map(ToOwned::to_owned) else {
                    continue;
                };
                drop_ins.entry(name).or_insert(path);
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

/// Whose drop-ins a unit shares: `a-b.service` has those of `a-.service`.
fn prefixes(name: &str) -> impl Iterator<Item = String> + '_ {
    let (stem, kind) = name.rsplit_once('.').unwrap_or((name, ""));
    let stem = stem.split('@').next().unwrap_or(stem);
    let dashes = stem.rmatch_indices('-');
    dashes.map(move |(at, _)| format!("{}.{kind}", &stem[..=at]))
}

/// The signal that a command of the form `kill -HUP $MAINPID` sends.
fn sent_by(command: &str) -> Option<&str> {
    let mut words = command.split_ascii_whitespace();
    let program = words.next()?.trim_start_matches(['-', '+', '!', '@', ':']);
    if program.rsplit('/').next() != Some("kill") {
        return None;
    }
    match words.next()? {
        "-s" | "-n" | "--signal" => words.next(),
        option => match option.strip_prefix("--signal=") {
            None => option.strip_prefix('-').or(Some("SIGTERM")),
            signal => signal,
        },
    }
}

/// Whether it is a signal, and none of these. What is no signal is told by systemd.
fn is_unknown(text: &str, known: &[Signal]) -> bool {
    let by_number = text.parse::<i32>().ok().map(signal::Signal::try_from);
    let by_name = || format!("SIG{}", text.trim_start_matches("SIG")).parse();
    let found = by_number.unwrap_or_else(by_name);
    !known.is_empty() && found.is_ok_and(|found| known.iter().all(|one| one.to_nix() != found))
}

fn list(signals: &[Signal]) -> String {
    let names: Vec<_> = signals.iter().map(Signal::to_string).collect();
    names.join(", ")
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

/// Where a user's manager looks.
fn user_folders(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let path = |key| variable(key).map(PathBuf::from);
    let home = |key, folder| path(key).or_else(|| Some(path("HOME")?.join(folder)));
    let several = |key, folders: &str| {
        let folders = variable(key).unwrap_or_else(|| folders.into());
        std::env::split_paths(&folders).collect::<Vec<_>>()
    };
    let below = |folders: Vec<PathBuf>, names: &'static [&str]| {
        let below = move |folder: PathBuf| names.iter().map(move |name| folder.join(name));
        folders.into_iter().flat_map(below)
    };
    let config: Vec<_> = home("XDG_CONFIG_HOME", ".config").into_iter().collect();
    let data: Vec<_> = home("XDG_DATA_HOME", ".local/share").into_iter().collect();
    let runtime: Vec<_> = path("XDG_RUNTIME_DIR").into_iter().collect();
    let early = &[
        "systemd/user.control",
        "systemd/transient",
        "systemd/generator.early",
    ];
    let fixed = |folders: &[&str]| folders.iter().map(PathBuf::from).collect::<Vec<_>>();
    below(config.clone(), &["systemd/user.control"])
        .chain(below(runtime.clone(), early))
        .chain(below(config, &["systemd/user"]))
        .chain(below(
            several("XDG_CONFIG_DIRS", "/etc/xdg"),
            &["systemd/user"],
        ))
        .chain(fixed(&["/etc/systemd/user"]))
        .chain(below(runtime.clone(), &["systemd/user"]))
        .chain(fixed(&["/run/systemd/user"]))
        .chain(below(runtime.clone(), &["systemd/generator"]))
        .chain(below(data, &["systemd/user"]))
        .chain(below(
            several("XDG_DATA_DIRS", "/usr/local/share:/usr/share"),
            &["systemd/user"],
        ))
        .chain(fixed(&[
            "/usr/local/lib/systemd/user",
            "/usr/lib/systemd/user",
        ]))
        .chain(below(runtime, &["systemd/generator.late"]))
        .collect()
}

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
        let reload = "[Service]\nType=notify-reload\n";
        for (text, warned) in [
            (&*format!("{reload}KillMode=mixed\n"), &[][..]),
            (&format!("{reload}ReloadSignal=USR2\n"), &[]),
            (&format!("{reload}ReloadSignal=12\n"), &[]),
            (&format!("{reload}ReloadSignal=SIGUSR1\n"), &["SIGUSR2"]),
            (&format!("{notify}ReloadSignal=SIGUSR1\n"), &[]),
            (&format!("{notify}KillSignal=SIGINT\n"), &[]),
            (
                &format!("{notify}KillSignal=3\n"),
                &["a stop of the unit sends 3"],
            ),
            (
                &format!("{notify}ExecReload=-/bin/kill -s USR1 $MAINPID\n"),
                &["at SIGHUP, SIGUSR2"],
            ),
            (
                &format!("{notify}ExecReload=/bin/kill --signal=QUIT $MAINPID\n"),
                &["--signal=QUIT"],
            ),
            (
                &format!("{notify}ExecReload=kill $MAINPID\n"),
                &["at SIGHUP"],
            ),
            (&format!("{notify}ExecReload=kill -1 $MAINPID\n"), &[]),
            (
                &format!("{notify}ExecReload=/usr/bin/handover --socket /s upgrade\n"),
                &[],
            ),
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
                &format!("{notify}#KillMode=none\nExecReload=kill -HUP \\\n $MAINPID\n"),
                &[],
            ),
            ("", &[]),
        ] {
            let warnings = unit(text).warnings(TRIGGERS);
            assert_eq!(warnings.len(), warned.len(), "{text}: {warnings:?}");
            for (warning, part) in warnings.iter().zip(warned) {
                assert!(warning.contains(part), "{warning}");
            }
        }
    }

    const TRIGGERS: Triggers<'static> = Triggers {
        handover: &[Signal::Hangup, Signal::User2],
        stop: &[Signal::Terminate, Signal::Interrupt],
    };

    #[test]
    fn a_program_that_takes_no_signals_may_take_them_by_itself() {
        let text = "[Service]\nType=notify-reload\nKillSignal=SIGQUIT\n";
        let none = Triggers {
            handover: &[],
            stop: &[],
        };
        assert_eq!(unit(text).warnings(none), [""; 0]);
    }

    #[test]
    fn the_folders_of_a_user_are_those_of_the_manager() {
        let with = |variables: &[(&str, &str)]| {
            user_folders(|key| {
                let found = variables.iter().find(|(name, _)| *name == key);
                found.map(|(_, value)| OsString::from(value))
            })
        };
        let place = |folders: &[PathBuf], path: &str| {
            let found = folders.iter().position(|folder| folder == Path::new(path));
            found.unwrap_or_else(|| panic!("{path} is not in {folders:?}"))
        };
        let folders = with(&[("HOME", "/home/a"), ("XDG_RUNTIME_DIR", "/run/user/7")]);
        let order = [
            "/run/user/7/systemd/transient",
            "/home/a/.config/systemd/user",
            "/etc/xdg/systemd/user",
            "/etc/systemd/user",
            "/run/user/7/systemd/user",
            "/home/a/.local/share/systemd/user",
            "/usr/share/systemd/user",
            "/usr/lib/systemd/user",
        ];
        assert!(order.map(|path| place(&folders, path)).is_sorted());
        let moved = with(&[
            ("HOME", "/home/a"),
            ("XDG_CONFIG_HOME", "/c"),
            ("XDG_DATA_DIRS", "/d:/e"),
        ]);
        place(&moved, "/c/systemd/user");
        place(&moved, "/e/systemd/user");
        assert!(!moved.contains(&PathBuf::from("/home/a/.config/systemd/user")));
        assert!(!with(&[]).is_empty(), "those of everybody");
    }

    #[test]
    fn drop_ins_may_be_for_several_units() {
        assert_eq!(prefixes("a.service").count(), 0);
        assert!(prefixes("a-b-c@d-e.service").eq(["a-b-.service", "a-.service"]));
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
        write(&etc, "service.d/10.conf", "[Service]\nType=idle\n");
        write(&lib, "service.d/05.conf", "[Service]\nKillMode=mixed\n");
        let unit = Unit::find("app@7.service", [etc.as_path(), lib.as_path()].into_iter());
        assert_eq!(unit.store_max(), Some(9));
        assert_eq!(unit.last("Type"), Some("exec"));
        assert_eq!(unit.last("KillMode"), Some("mixed"));
        assert_eq!(
            Unit::find("b.service", [lib.as_path()].into_iter()),
            Unit::default()
        );
    }
}
