//! What systemd says of a unit.

use std::collections::BTreeMap;
use std::fmt;

use handover_tests::LIMIT;
use tokio::time;

use super::Machine;

impl Machine {
    /// Runs `systemctl`, which has to succeed.
    pub(crate) async fn systemctl<const N: usize>(&self, words: [&str; N]) -> String {
        self.run(["systemctl"].into_iter().chain(words)).await
    }

    /// Adds or replaces units, each a name and its text.
    pub(crate) async fn load<const N: usize>(&self, units: [(&str, &str); N]) {
        for (name, text) in units {
            self.write(&format!("/run/systemd/system/{name}"), text);
        }
        self.systemctl(["daemon-reload"]).await;
    }

    /// What systemd says of a unit now.
    pub(crate) async fn show(&self, unit: &str) -> Properties {
        Properties::parse(&self.systemctl(["show", "--all", unit]).await)
    }

    /// Looks at a unit again and again until `look` finds something.
    pub(crate) async fn shows<T>(
        &self,
        unit: &str,
        what: &str,
        look: impl Fn(&Properties) -> Option<T>,
    ) -> T {
        let wait = async {
            loop {
                if let Some(found) = look(&self.show(unit).await) {
                    return found;
                }
            }
        };
        match time::timeout(LIMIT, wait).await {
            Ok(found) => found,
            Err(_) => panic!(
                "{unit} is not {what} after {LIMIT:?}: {:?}",
                self.show(unit).await
            ),
        }
    }
}

/// The properties of a unit, by the names of `systemctl show`.
#[derive(Clone)]
pub(crate) struct Properties(BTreeMap<String, String>);

impl Properties {
    /// What `systemctl show` has printed.
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self(pairs.collect())
    }

    /// One of them; empty where systemd has none of this name.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A number; 0 where there is none.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap_or_default()
    }

    /// The process that systemd takes for the unit's main one.
    pub(crate) fn main_pid(&self) -> u32 {
        self.number("MainPID") as u32
    }
}

impl fmt::Debug for Properties {
    /// Those that tell why a test has failed; there are hundreds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let telling = TELLING.iter().map(|name| (name, self.get(name)));
        f.debug_map().entries(telling).finish()
    }
}

const TELLING: &[&str] = &[
    "ActiveState",
    "ExecMainStatus",
    "MainPID",
    "NFileDescriptorStore",
    "NRestarts",
    "Result",
    "StatusText",
    "SubState",
];
