//! `handover upgrade`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::arguments::Global;
use crate::client::{Client, Said};
use crate::commands::progress::Progress;
use crate::exit::{Exit, Failure};
use crate::model::{Handover, Who};
use crate::screen::{self, Style};
use crate::text::{length, parse_duration};

/// Replace the running process: start its program anew and hand over to it
///
/// It waits until the new process serves. If that fails, the old one serves on as if nothing had
/// happened, and this command tells why and exits with 1. It may be a unit's ExecReload=.
#[derive(Args, Debug)]
pub(crate) struct Upgrade {
    /// What to wait for
    #[arg(long, value_name = "UNTIL", num_args = 0..=1, require_equals = true, default_value = "serving", default_missing_value = "serving")]
    wait: Until,
    /// Do not wait: only tell whether the handover has begun
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    /// The program of the new process, instead of the one that runs
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// How long the new process may take until it is ready, such as 30s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Set a variable of the new process, or with NAME alone remove it
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    environment: Vec<OsString>,
    /// The directory that the new process is started in
    #[arg(long, value_name = "PATH")]
    directory: Option<PathBuf>,
    /// The arguments of the new process, instead of those of the one that runs
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Until {
    /// The new process serves
    Serving,
    /// The old process has ended
    Drained,
}

/// What became of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Upgraded {
    incumbent: Who,
    successor: Option<Who>,
    elapsed_us: u64,
    drained: bool,
    cut: Option<bool>,
    handover: Option<Handover>,
}

/// Why there was no handover.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Failed {
    code: String,
    message: String,
    stage: Option<String>,
    component: Option<String>,
    exit: Option<String>,
    stderr: Vec<String>,
    incumbent: Who,
    handover: Option<Handover>,
}

impl Upgrade {
    pub(crate) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        let request = self.request()?;
        let mut client = Client::connect(global)?;
        client.send(&request)?;
        let mut progress = Progress::new(!global.json);
        loop {
            match client.next()? {
                Said::Event(event) => progress.show(&event),
                Said::Missed(_) => {}
                Said::Answer(answer) => {
                    progress.clear();
                    return self.succeeded(answer, global.json);
                }
                Said::Error(error) => {
                    progress.clear();
                    return failed(error, global.json);
                }
            }
        }
    }

    fn request(&self) -> Result<Value, Failure> {
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).map_err(|error| {
                let path = path.display();
                Failure::unavailable(format_args!("`{path}` cannot be made absolute: {error}"))
            })
        };
        let mut request = json!({ "request": "upgrade" });
        request["wait"] = match (self.no_wait, self.wait) {
            (true, _) => "begun".into(),
            (false, Until::Serving) => "serving".into(),
            (false, Until::Drained) => "drained".into(),
        };
        for (name, path) in [("program", &self.program), ("directory", &self.directory)] {
            if let Some(path) = path {
                let path = absolute(path)?;
                request[name] = utf8(path.as_os_str())?.into();
            }
        }
        if let Some(limit) = self.timeout {
            let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            request["timeout_ms"] = millis.into();
        }
        if !self.arguments.is_empty() {
            let arguments = self.arguments.iter().map(|argument| utf8(argument));
            request["arguments"] = arguments.collect::<Result<Vec<_>, _>>()?.into();
        }
        let variables = self.environment.iter().map(|text| {
            let text = utf8(text)?;
            Ok(match text.split_once('=') {
                Some((name, value)) => (name.to_owned(), Value::from(value)),
                None => (text.to_owned(), Value::Null),
            })
        });
        request["environment"] = Value::Object(variables.collect::<Result<_, Failure>>()?);
        Ok(request)
    }

    fn succeeded(&self, answer: Map<String, Value>, as_json: bool) -> Result<Exit, Failure> {
        let value = Value::Object(answer);
        if as_json {
            screen::print(&format!("{value}\n"))?;
            return Ok(Exit::Success);
        }
        let upgraded: Upgraded = serde_json::from_value(value).map_err(Failure::unavailable)?;
        screen::print(&success(&upgraded, Style::of_stdout()))?;
        Ok(Exit::Success)
    }
}

/// What goes over the control socket is JSON, which has no other texts.
fn utf8(text: &OsStr) -> Result<&str, Failure> {
    text.to_str().ok_or_else(|| {
        let message = format!(
            "`{}` is not UTF-8, and the control socket takes nothing else; a script can stand in between \
             (`--program`), or a symbolic link",
            text.to_string_lossy()
        );
        Failure::new(Exit::Usage, message)
    })
}

fn success(upgraded: &Upgraded, style: Style) -> String {
    let tick = style.green("✓");
    let Some(successor) = upgraded.successor else {
        return format!("{tick} the handover has begun\n");
    };
    let elapsed = length(Duration::from_micros(upgraded.elapsed_us));
    let Who { generation, pid } = successor;
    let mut text = format!(
        "{tick} {} after {elapsed}\n",
        style.bold(&format!("generation {generation} (pid {pid}) serves"))
    );
    if let Some(handover) = &upgraded.handover {
        text.push_str(&parts(handover));
        let Who { generation, pid } = upgraded.incumbent;
        let drain = handover.part("drain").and_then(|drain| drain.length());
        if let (true, Some(drain)) = (upgraded.drained, drain) {
            let cut = match upgraded.cut {
                Some(true) => ", and has cut what was left",
                _ => "",
            };
            let drain = length(drain);
            text.push_str(&format!(
                "{tick} generation {generation} (pid {pid}) ended after a drain of {drain}{cut}\n"
            ));
        }
    }
    text
}

/// Where the time went, in one line.
fn parts(handover: &Handover) -> String {
    let parts = [
        "spawn", "exec", "adopt", "runtime", "init", "ready", "commit",
    ];
    let times = parts.iter().filter_map(|name| {
        let time = handover.part(name)?.length()?;
        Some(format!("{name} {}", length(time)))
    });
    let times: Vec<_> = times.collect();
    match times.is_empty() {
        true => String::new(),
        false => format!("  {}\n", times.join(", ")),
    }
}

fn failed(error: Map<String, Value>, as_json: bool) -> Result<Exit, Failure> {
    let value = Value::Object(error);
    if as_json {
        screen::print(&format!("{value}\n"))?;
        return Ok(Exit::Failed);
    }
    let failed: Failed = serde_json::from_value(value).map_err(Failure::unavailable)?;
    if failed.stage.is_none() {
        return Err(match failed.code.as_str() {
            "forbidden" | "busy" | "timeout" => Failure::unavailable(failed.message),
            _ => Failure::new(Exit::Failed, failed.message),
        });
    }
    screen::print(&reason(&failed, Style::of_stdout()))?;
    Ok(Exit::Failed)
}

/// Everything that an operator wants to know of a successor that failed.
fn reason(failed: &Failed, style: Style) -> String {
    let cross = style.red("✗");
    let Who { generation, pid } = failed.incumbent;
    let mut text = format!(
        "{cross} {}\n",
        style.bold("the handover failed, and nothing has changed")
    );
    let mut row = |name: &str, value: &str| {
        text.push_str(&format!("  {name:<9}  {value}\n"));
    };
    row("stage", failed.stage.as_deref().unwrap_or_default());
    if let Some(component) = &failed.component {
        row("component", component);
    }
    row("error", &failed.message);
    if let Some(exit) = &failed.exit {
        row("exit", exit);
    }
    if let Some(elapsed) = failed.handover.as_ref().and_then(|one| one.elapsed_us) {
        row("after", &length(Duration::from_micros(elapsed)));
    }
    row("serves", &format!("generation {generation} (pid {pid})"));
    for (index, line) in failed.stderr.iter().enumerate() {
        row(if index == 0 { "stderr" } else { "" }, line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_stage_component_error_and_last_words() {
        let failed: Failed = serde_json::from_value(json!({
            "code": "failed",
            "message": "the successor failed at stage `init` in component `Db`: on_init of `Db` failed: connection refused (exited with status 1)",
            "stage": "init", "component": "Db", "exit": "exited with status 1",
            "stderr": ["connecting to 10.0.0.5", "Error: on_init of `Db` failed: connection refused"],
            "incumbent": { "generation": 3, "pid": 3003 },
            "handover": { "elapsed_us": 22_100 },
        }))
        .expect("a failure");
        let expected = "\
✗ the handover failed, and nothing has changed
  stage      init
  component  Db
  error      the successor failed at stage `init` in component `Db`: on_init of `Db` failed: connection refused (exited with status 1)
  exit       exited with status 1
  after      22.1 ms
  serves     generation 3 (pid 3003)
  stderr     connecting to 10.0.0.5
             Error: on_init of `Db` failed: connection refused
";
        assert_eq!(reason(&failed, Style::plain()), expected);
    }

    #[test]
    fn a_success_tells_who_serves_and_where_the_time_went() {
        let upgraded: Upgraded = serde_json::from_value(json!({
            "incumbent": { "generation": 3, "pid": 3003 },
            "successor": { "generation": 4, "pid": 4004 },
            "elapsed_us": 7_429, "drained": true, "cut": true,
            "handover": { "spans": [
                { "name": "spawn", "from_us": 0, "to_us": 1_800 },
                { "name": "exec", "from_us": 1_800, "to_us": 3_500 },
                { "name": "drain", "from_us": 7_500, "to_us": 30_007_500 },
            ] },
        }))
        .expect("an answer");
        let expected = "\
✓ generation 4 (pid 4004) serves after 7.4 ms
  spawn 1.8 ms, exec 1.7 ms
✓ generation 3 (pid 3003) ended after a drain of 30.0 s, and has cut what was left
";
        assert_eq!(success(&upgraded, Style::plain()), expected);
    }
}
