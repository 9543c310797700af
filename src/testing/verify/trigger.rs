//! How a restart is triggered.

use std::fmt;
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{
    self, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ErrorKind,
};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time;

use crate::testing::Signal;
use crate::testing::process::Process;
use crate::testing::target::Target;

/// What makes the service restart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trigger {
    /// The control socket of the service where it has one, else `SIGHUP`.
    Default,
    /// `upgrade`, said on the control socket of the service (feature `control`), which has to have one.
    Control,
    /// A signal, to the process that serves, or to its master where that is the same program.
    Signal(Signal),
    /// A command of the shell; `{pid}` in it is that process.
    Command(String),
}

impl Trigger {
    /// What it comes to for a service that listens on these sockets. `named` may be its control socket, whether a
    /// lock says so or not.
    ///
    /// # Errors
    ///
    /// If there has to be one control socket, and there is none, or more than that.
    pub(super) fn aim(self, listens: &[Target], named: Option<&Target>) -> Result<Aimed, String> {
        let mut control: Vec<&Target> = match named.filter(|named| listens.contains(named)) {
            Some(named) => vec![named],
            None => listens
                .iter()
                .filter(|target| target.is_control())
                .collect(),
        };
        Ok(match (self, control.len()) {
            (Self::Default | Self::Control, 1) => Aimed::Control(control.remove(0).clone()),
            (Self::Default, _) => Aimed::Signal(Signal::HUP),
            (Self::Control, 0) => {
                return Err("the service has no control socket (`control = \"unix:/run/app.sock\"` makes one); \
                            one that is abstract, or systemd's, has to be named with `--socket`"
                    .to_owned());
            }
            (Self::Control, count) => {
                let control: Vec<String> = control.iter().map(ToString::to_string).collect();
                let control = control.join(", ");
                return Err(format!(
                    "there are {count} control sockets, name one with `--socket`: {control}"
                ));
            }
            (Self::Signal(signal), _) => Aimed::Signal(signal),
            (Self::Command(command), _) => Aimed::Command(command),
        })
    }
}

/// What restarts a service that is known.
#[derive(Clone, Debug)]
pub(super) enum Aimed {
    Control(Target),
    Signal(Signal),
    Command(String),
}

impl Aimed {
    /// Asks for a restart, which has to be answered, and a command to end, within `limit`.
    ///
    /// # Errors
    ///
    /// A sentence on what went wrong.
    pub(super) fn pull(&self, pid: u32, limit: Duration) -> Result<Pulled, String> {
        Ok(Pulled(match self {
            Self::Control(socket) => Some(tokio::spawn(upgrade(socket.clone(), limit))),
            Self::Signal(signal) => {
                send(*signal, pid)?;
                None
            }
            Self::Command(command) => {
                let command = command.replace("{pid}", &pid.to_string());
                Some(tokio::spawn(run(command, limit)))
            }
        }))
    }
}

impl fmt::Display for Aimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control(socket) => write!(f, "`upgrade` on the control socket {socket}"),
            Self::Signal(signal) => f.write_str(&name(*signal)),
            Self::Command(command) => write!(f, "`{command}`"),
        }
    }
}

/// Why a restart did not come of a trigger.
#[derive(Debug)]
pub(super) enum Vain {
    /// This one has failed; the next need not.
    Restart(String),
    /// It could not even be asked for, and never will.
    Trigger(String),
}

/// A restart that was asked for; whoever asks may still wait. Dropping it kills a command.
#[derive(Debug)]
pub(super) struct Pulled(Option<JoinHandle<Result<(), Vain>>>);

impl Pulled {
    /// Whether nothing runs any more.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_none()
    }

    /// Why it is known to have failed, if it is.
    pub(super) async fn failed(&mut self) -> Option<Vain> {
        if self.0.as_ref().is_some_and(JoinHandle::is_finished) {
            return self.ended().await.err();
        }
        None
    }

    /// Waits for the answer, or for the end of the command.
    pub(super) async fn ended(&mut self) -> Result<(), Vain> {
        match self.0.take() {
            None => Ok(()),
            Some(asking) => asking.await.unwrap_or_else(|error| {
                Err(Vain::Trigger(format!("it could not be asked for: {error}")))
            }),
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

/// Asks on a control socket, and waits until the successor serves (docs/control-protocol.md).
async fn upgrade(socket: Target, limit: Duration) -> Result<(), Vain> {
    let unasked = |error: io::Error| Vain::Trigger(format!("no connection to {socket}: {error}"));
    let stream = socket.connect().await.map_err(unasked)?;
    let answer = time::timeout(limit, ask(stream)).await;
    let answer =
        answer.map_err(|_| Vain::Restart(format!("no answer on {socket} within {limit:?}")))?;
    let answer = answer
        .map_err(|error| Vain::Restart(format!("no answer on {socket} to `upgrade`: {error}")))?;
    let text = |field: &str| answer.get(field).and_then(Value::as_str);
    if text("type") == Some("answer") {
        return Ok(());
    }
    let why = text("message").unwrap_or("it was refused, and nobody says why");
    Err(match text("code") {
        Some("refused" | "called_off" | "failed") => Vain::Restart(why.to_owned()),
        _ => Vain::Trigger(format!("{socket}: {why}")),
    })
}

async fn ask(stream: impl AsyncRead + AsyncWrite) -> io::Result<Map<String, Value>> {
    let (reader, mut writer) = io::split(stream);
    let request = json!({ "request": "upgrade", "wait": "serving" });
    writer.write_all(format!("{request}\n").as_bytes()).await?;
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        let said: Map<String, Value> = serde_json::from_str(&line)?;
        if matches!(
            said.get("type").and_then(Value::as_str),
            Some("answer" | "error")
        ) {
            return Ok(said);
        }
    }
    Err(ErrorKind::UnexpectedEof.into())
}

async fn run(command: String, limit: Duration) -> Result<(), Vain> {
    let vain = |why: String| Err(Vain::Trigger(why));
    let output = Command::new("sh")
        .args(["-c", &command])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let Ok(output) = time::timeout(limit, output).await else {
        return vain(format!("`{command}` has not ended within {limit:?}"));
    };
    let output = match output {
        Ok(output) => output,
        Err(error) => return vain(format!("`{command}` could not be run: {error}")),
    };
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    vain(format!(
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
            Self::Default => f.write_str("the control socket, else SIGHUP"),
            Self::Control => f.write_str("control"),
            Self::Signal(signal) => f.write_str(&name(*signal)),
            Self::Command(command) => write!(f, "`{command}`"),
        }
    }
}

/// `control`, `HUP`, `SIGHUP`, or a command, which has a space or a `/` in it.
impl FromStr for Trigger {
    type Err = InvalidTrigger;

    fn from_str(text: &str) -> Result<Self, InvalidTrigger> {
        if text == "control" {
            return Ok(Self::Control);
        }
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
            "`{}` is no signal, expected `control`, one of {}, or a command of the shell such as `kill -HUP {{pid}}`",
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
            .args(["-c", "trap '' USR1; echo up; exec sleep 1000"])
            .start()
            .unwrap();
        service.output().find("up").await;
        let pid = service.first().pid();
        for (signal, what) in [(Signal::HUP, "only end"), (Signal::USR1, "ignores")] {
            let error = Aimed::Signal(signal).pull(pid, LIMIT).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
        let command = Aimed::Command("echo no >&2; exit 3".into());
        let mut pulled = command.pull(pid, LIMIT).unwrap();
        let Err(Vain::Trigger(error)) = pulled.ended().await else {
            panic!("it fails");
        };
        assert!(
            error.contains("status: 3") && error.ends_with("no"),
            "{error}"
        );
        assert!(service.first().is_running());
    }
}
