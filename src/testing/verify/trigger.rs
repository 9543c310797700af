//! How a restart is triggered.

use std::fmt;
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time;

use crate::testing::Signal;
use crate::testing::process::Process;

/// What makes the service restart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trigger {
    /// A signal, to the process that serves, or to its master where that is the same program.
    Signal(Signal),
    /// A command of the shell; `{pid}` in it is that process.
    Command(String),
}

impl Trigger {
    /// Asks for a restart; a command has to end within `limit`.
    ///
    /// # Errors
    ///
    /// A sentence on what went wrong.
    pub(super) fn pull(&self, pid: u32, limit: Duration) -> Result<Pulled, String> {
        match self {
            Self::Signal(signal) => {
                send(*signal, pid)?;
                Ok(Pulled(None))
            }
            Self::Command(command) => {
                let command = command.replace("{pid}", &pid.to_string());
                Ok(Pulled(Some(tokio::spawn(run(command, limit)))))
            }
        }
    }
}

/// A restart that was asked for; a command may still run. Dropping it kills the command.
#[derive(Debug)]
pub(super) struct Pulled(Option<JoinHandle<Result<(), String>>>);

impl Pulled {
    /// Whether nothing runs any more.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_none()
    }

    /// Why the command has failed, if it has.
    pub(super) async fn failed(&mut self) -> Option<String> {
        if self.0.as_ref().is_some_and(JoinHandle::is_finished) {
            return self.ended().await.err();
        }
        None
    }

    /// Waits for the end of the command.
    pub(super) async fn ended(&mut self) -> Result<(), String> {
        match self.0.take() {
            None => Ok(()),
            Some(command) => command
                .await
                .unwrap_or_else(|error| Err(format!("the command could not be run: {error}"))),
        }
    }
}

impl Drop for Pulled {
    fn drop(&mut self) {
        if let Some(command) = &self.0 {
            command.abort();
        }
    }
}

async fn run(command: String, limit: Duration) -> Result<(), String> {
    let output = Command::new("sh")
        .args(["-c", &command])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let Ok(output) = time::timeout(limit, output).await else {
        return Err(format!("`{command}` has not ended within {limit:?}"));
    };
    let output = output.map_err(|error| format!("`{command}` could not be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "`{command}` failed ({}): {}",
        output.status,
        words.trim()
    ))
}

/// Sends a signal, but not one that would only end the process.
fn send(signal: Signal, pid: u32) -> Result<(), String> {
    let gone = |error| {
        format!(
            "process {pid} is not there to get {}: {error}",
            name(signal)
        )
    };
    let process = Process::open(pid).map_err(gone)?;
    let status = process.status().map_err(gone)?;
    let bit = 1_u64 << (signal.as_raw() - 1);
    // A signal that is blocked is awaited by a descriptor or by sigwait(3).
    if (status.caught | status.blocked) & bit == 0 {
        let what = if status.ignored & bit != 0 {
            "it ignores that"
        } else {
            "it would only end by it"
        };
        return Err(format!(
            "process {pid} has no handler for {}: {what}; name what restarts it, such as \
             `--trigger USR2` or `--trigger 'my-tool reload {{pid}}'`",
            name(signal)
        ));
    }
    process.signal(signal).map_err(gone)
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => f.write_str(&name(*signal)),
            Self::Command(command) => write!(f, "`{command}`"),
        }
    }
}

/// `HUP`, `SIGHUP`, or a command, which has a space or a `/` in it.
impl FromStr for Trigger {
    type Err = InvalidTrigger;

    fn from_str(text: &str) -> Result<Self, InvalidTrigger> {
        let upper = text.to_ascii_uppercase();
        let short = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, signal)) = SIGNALS.iter().find(|(name, _)| *name == short) {
            return Ok(Self::Signal(*signal));
        }
        if text.contains([' ', '/', '{']) {
            return Ok(Self::Command(text.to_owned()));
        }
        Err(InvalidTrigger(text.to_owned()))
    }
}

/// A text that is neither a signal nor a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTrigger(String);

impl std::error::Error for InvalidTrigger {}

impl fmt::Display for InvalidTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = SIGNALS.iter().map(|(name, _)| *name).collect();
        write!(
            f,
            "`{}` is no signal, expected one of {}, or a command of the shell such as `kill -HUP {{pid}}`",
            self.0,
            names.join(", ")
        )
    }
}

fn name(signal: Signal) -> String {
    let found = SIGNALS.iter().find(|(_, known)| *known == signal);
    match found {
        Some((name, _)) => format!("SIG{name}"),
        None => format!("signal {}", signal.as_raw()),
    }
}

const SIGNALS: [(&str, Signal); 8] = [
    ("HUP", Signal::HUP),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("QUIT", Signal::QUIT),
    ("INT", Signal::INT),
    ("TERM", Signal::TERM),
    ("WINCH", Signal::WINCH),
    ("ALRM", Signal::ALARM),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::LIMIT;

    #[test]
    fn a_signal_is_told_from_a_command() {
        for text in ["HUP", "hup", "SIGHUP"] {
            assert_eq!(text.parse(), Ok(Trigger::Signal(Signal::HUP)), "{text}");
        }
        for text in ["kill -HUP {pid}", "/usr/bin/reload", "reload{pid}"] {
            assert_eq!(text.parse(), Ok(Trigger::Command(text.to_owned())));
        }
        let error = "HUPP".parse::<Trigger>().unwrap_err().to_string();
        assert!(
            error.contains("`HUPP`") && error.contains("USR2"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_process_is_not_ended_by_a_signal_that_it_does_not_handle() {
        let service = crate::testing::Program::new("sh")
            .args(["-c", "trap '' USR1; echo up; while :; do sleep 1000; done"])
            .start()
            .unwrap();
        service.output().find("up").await;
        let pid = service.first().pid();
        for (signal, what) in [(Signal::HUP, "only end"), (Signal::USR1, "ignores")] {
            let error = Trigger::Signal(signal).pull(pid, LIMIT).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
        let command = Trigger::Command("echo no >&2; exit 3".into());
        let mut pulled = command.pull(pid, LIMIT).unwrap();
        let error = pulled.ended().await.unwrap_err();
        assert!(
            error.contains("status: 3") && error.ends_with("no"),
            "{error}"
        );
        assert!(service.first().is_running());
    }
}
