//! What was logged in a machine.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use handover_tests::within;
use serde_json::Value;
use tokio::sync::watch;

/// The journal of a machine, followed from its beginning.
#[derive(Debug)]
pub(crate) struct Journal {
    entries: Arc<watch::Sender<Vec<Entry>>>,
    reader: Child,
}

impl Journal {
    /// Follows the journal that `enter` leads to.
    pub(super) fn follow(mut enter: Command) -> Self {
        let command = enter.args([
            "journalctl",
            "--follow",
            "--no-tail",
            "--all",
            "--output=json",
        ]);
        let command = command.stdin(Stdio::null()).stderr(Stdio::null());
        let reader = command.stdout(Stdio::piped()).spawn();
        let mut reader = reader.expect("nsenter runs");
        let pipe = reader.stdout.take().expect("just asked for");
        let entries = Arc::new(watch::Sender::new(Vec::new()));
        let sender = Arc::clone(&entries);
        // A thread and not a task: it must not wait for a test that waits for it.
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let entry = Entry::parse(&line);
                sender.send_modify(|entries: &mut Vec<Entry>| entries.push(entry));
            }
        });
        Self { entries, reader }
    }

    /// How many entries there are: the place from which [`find`](Self::find) looks for
    /// what is logged from now on.
    pub(crate) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// Waits for an entry of a unit, or of any instance of a template (`app@`), with `text` in it,
    /// not before the place `from`.
    pub(crate) async fn find(&self, from: usize, unit: &str, text: &str) -> Entry {
        let mut entries = self.entries.subscribe();
        let found = |entries: &[Entry]| {
            let mut later = entries.iter().skip(from);
            let found = later.find(|entry| entry.is_of(unit) && entry.message().contains(text));
            found.cloned()
        };
        within(format_args!("`{text}` in the journal of {unit}"), async {
            loop {
                if let Some(entry) = found(&entries.borrow_and_update()) {
                    return entry;
                }
                entries
                    .changed()
                    .await
                    .expect("this journal holds the sender");
            }
        })
        .await
    }

    /// What a unit has logged so far with `text` in it, from the place `from` on.
    pub(crate) fn messages(&self, from: usize, unit: &str, text: &str) -> Vec<String> {
        let entries = self.entries.borrow();
        let later = entries.iter().skip(from);
        let found = later.filter(|entry| entry.is_of(unit) && entry.message().contains(text));
        found.map(|entry| entry.message().to_owned()).collect()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // It may have ended with its machine; either way its status is taken.
        self.reader.kill().ok();
        self.reader.wait().ok();
    }
}

/// An entry, by the names of systemd.journal-fields(7).
#[derive(Clone, Debug)]
pub(crate) struct Entry(BTreeMap<String, String>);

impl Entry {
    fn parse(line: &str) -> Self {
        let fields: BTreeMap<String, Value> = serde_json::from_str(line).unwrap_or_default();
        let text = |value: Value| match value {
            Value::String(text) => text,
            // What is not UTF-8 or has control characters comes as an array of its bytes.
            Value::Array(bytes) => {
                let bytes = bytes.iter().filter_map(Value::as_u64);
                let bytes: Vec<u8> = bytes.map(|byte| byte as u8).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            other => other.to_string(),
        };
        let fields = fields.into_iter().map(|(name, value)| (name, text(value)));
        Self(fields.collect())
    }

    /// What a field says; nothing if there is none.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(crate) fn message(&self) -> &str {
        self.field("MESSAGE")
    }

    /// The process that has logged it.
    pub(crate) fn pid(&self) -> u32 {
        self.field("_PID").parse().unwrap_or_default()
    }

    fn is_of(&self, unit: &str) -> bool {
        let units = ["_SYSTEMD_UNIT", "UNIT"].map(|name| self.field(name));
        match unit.ends_with('@') {
            true => units.iter().any(|found| found.starts_with(unit)),
            false => units.contains(&unit),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.field("SYSLOG_IDENTIFIER");
        write!(f, "{source}[{}]: {}", self.pid(), self.message())
    }
}
