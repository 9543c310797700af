//! What systemd has left in the environment.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::notify::Address;
use super::unit::{Triggers, Unit};

/// The variables that systemd speaks through (`sd_notify(3)`, `systemd.exec(5)`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Environment {
    notify_socket: Option<OsString>,
    /// `WATCHDOG_USEC`.
    watchdog: Option<Duration>,
    watchdog_pid: Option<u32>,
    /// The process that systemd has executed (since 248).
    exec_pid: Option<u32>,
    /// `FDSTORE`: the room in the descriptor store (since 254).
    store: Option<usize>,
    unit: Unit,
}

impl Environment {
    /// Reads it. Nothing is removed: it belongs to the program.
    pub(super) fn read() -> Self {
        let mut this = Self::of(|key| std::env::var_os(key));
        if this.notify_socket.is_some() || this.exec_pid == Some(std::process::id()) {
            this.unit = Unit::read();
        }
        this
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let number = |key| variable(key)?.to_str()?.parse::<u64>().ok();
        let pid = |key| u32::try_from(number(key)?).ok();
        Self {
            notify_socket: variable("NOTIFY_SOCKET").filter(|value| !value.is_empty()),
            watchdog: number("WATCHDOG_USEC")
                .filter(|&micros| micros > 0)
                .map(Duration::from_micros),
            watchdog_pid: pid("WATCHDOG_PID"),
            exec_pid: pid("SYSTEMD_EXEC_PID"),
            store: number("FDSTORE").and_then(|max| usize::try_from(max).ok()),
            unit: Unit::default(),
        }
    }

    /// Where to speak to systemd.
    ///
    /// # Errors
    ///
    /// When it is an address of a kind that services are not given.
    pub(super) fn notify_socket(&self) -> Result<Option<Address>, String> {
        let Some(text) = &self.notify_socket else {
            return Ok(None);
        };
        Address::parse(text.as_bytes()).map(Some).ok_or_else(|| {
            format!(
                "NOTIFY_SOCKET={} cannot be used: expected a path or `@` and an abstract name",
                text.to_string_lossy()
            )
        })
    }

    /// How often systemd wants a sign of life. A successor does not believe `WATCHDOG_PID`: it was
    /// written for the first generation.
    pub(super) fn watchdog(&self, is_successor: bool) -> Option<Duration> {
        let is_meant = is_successor
            || self
                .watchdog_pid
                .is_none_or(|pid| pid == std::process::id());
        self.watchdog.filter(|_| is_meant)
    }

    /// How many descriptors systemd keeps while the service is down.
    pub(super) fn room(&self) -> usize {
        self.store.or(self.unit.store_max()).unwrap_or(0)
    }

    /// What is wrong with the way in which systemd has started the first generation.
    pub(super) fn warnings(&self, own: u32, triggers: Triggers<'_>) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.notify_socket.is_some() && own == 1 {
            warnings.push(
                "this process is PID 1 (PrivatePIDs=, or a container): a handover fails, because \
                 the kernel would end the successor with it; remove PrivatePIDs="
                    .to_owned(),
            );
        }
        match (&self.notify_socket, self.exec_pid) {
            (None, Some(pid)) if pid == own => warnings.push(
                "systemd has started this process without a NOTIFY_SOCKET, and will take a \
                 handover for the end of the unit: set Type=notify-reload (Type=notify before \
                 systemd 253), and not NotifyAccess=none"
                    .to_owned(),
            ),
            (Some(_), Some(pid)) if pid != own => warnings.push(format!(
                "systemd has started process {pid}, and this is process {own}: what it says is \
                 not heard; let the program in ExecStart= `exec` this one"
            )),
            _ => {}
        }
        warnings.extend(self.unit.warnings(triggers));
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::of(|key| {
            let found = variables.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn a_watchdog_is_for_the_process_that_it_names_or_its_successor() {
        let own = std::process::id().to_string();
        let interval = Some(Duration::from_secs(2));
        let usec = ("WATCHDOG_USEC", "2000000");
        for (variables, first, successor) in [
            (
                &[usec, ("WATCHDOG_PID", own.as_str())][..],
                interval,
                interval,
            ),
            (&[usec][..], interval, interval),
            (&[usec, ("WATCHDOG_PID", "1")][..], None, interval),
            (&[("WATCHDOG_USEC", "0")][..], None, None),
            (&[("WATCHDOG_USEC", "soon")][..], None, None),
            (&[][..], None, None),
        ] {
            let environment = environment(variables);
            assert_eq!(environment.watchdog(false), first, "{variables:?}");
            assert_eq!(environment.watchdog(true), successor, "{variables:?}");
        }
    }

    #[test]
    fn a_start_that_will_not_work_is_warned_of() {
        let socket = ("NOTIFY_SOCKET", "/run/systemd/notify");
        for (variables, warned) in [
            (&[][..], None),
            (&[socket][..], None),
            (&[socket, ("SYSTEMD_EXEC_PID", "7")][..], None),
            (&[("SYSTEMD_EXEC_PID", "7")][..], Some("Type=notify")),
            // A child of a service, which is none itself.
            (&[("SYSTEMD_EXEC_PID", "6")][..], None),
            (&[socket, ("SYSTEMD_EXEC_PID", "6")][..], Some("`exec`")),
        ] {
            let triggers = Triggers {
                handover: &[],
                stop: &[],
            };
            let warnings = environment(variables).warnings(7, triggers);
            assert_eq!(
                warnings.len(),
                usize::from(warned.is_some()),
                "{variables:?}"
            );
            for (warning, text) in warnings.iter().zip(warned) {
                assert!(warning.contains(text), "{warning}");
            }
        }
    }

    #[test]
    fn an_address_of_another_kind_is_named() {
        let socket = |text| environment(&[("NOTIFY_SOCKET", text)]).notify_socket();
        assert_eq!(socket(""), Ok(None));
        assert!(matches!(socket("/run/notify"), Ok(Some(_))));
        assert!(matches!(socket("@notify"), Ok(Some(_))));
        let error = socket("vsock:2:1234").expect_err("no path");
        assert!(error.contains("NOTIFY_SOCKET=vsock:2:1234"), "{error}");
    }
}
