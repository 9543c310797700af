//! What a service tells of itself. What it leaves out is not known; what it adds is ignored.

use std::time::Duration;

use serde::Deserialize;

/// The answer to `status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub(crate) now_us: u64,
    /// The newest first.
    pub(crate) generations: Vec<Generation>,
    pub(crate) handover: Option<Handover>,
    pub(crate) last_handover: Option<Handover>,
}

/// One process of the service.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Generation {
    pub(crate) generation: u32,
    pub(crate) pid: u32,
    pub(crate) phase: String,
    pub(crate) since_us: Option<u64>,
    pub(crate) version: Option<String>,
    pub(crate) library: Option<String>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) connections: Option<Connections>,
    pub(crate) deadline_us: Option<u64>,
    /// When it is killed, where nothing else is known.
    pub(crate) killed_us: Option<u64>,
    pub(crate) waits_for: Option<WaitsFor>,
    pub(crate) answers: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoint {
    pub(crate) endpoint: String,
    /// `None` where there are no connections, but datagrams.
    pub(crate) open: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Connections {
    pub(crate) open: u64,
    pub(crate) accepted: u64,
    pub(crate) oldest: Vec<Connection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Connection {
    pub(crate) age_ms: u64,
    pub(crate) peer: String,
    pub(crate) local: String,
}

/// What keeps a generation from its end.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WaitsFor {
    pub(crate) connections: u64,
    pub(crate) tasks: Vec<String>,
    pub(crate) hooks: bool,
    pub(crate) main: bool,
}

/// One handover.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Handover {
    pub(crate) began_us: u64,
    pub(crate) outcome: String,
    pub(crate) incumbent: Who,
    pub(crate) successor: Option<Who>,
    pub(crate) elapsed_us: Option<u64>,
    pub(crate) failure: Option<Failed>,
    pub(crate) spans: Vec<Span>,
    pub(crate) drain: Vec<Left>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
pub(crate) struct Who {
    pub(crate) generation: u32,
    pub(crate) pid: u32,
}

/// Why a handover failed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Failed {
    pub(crate) stage: String,
    pub(crate) error: String,
}

/// A part of a handover.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) component: Option<String>,
    pub(crate) by: String,
    pub(crate) from_us: u64,
    pub(crate) to_us: Option<u64>,
    pub(crate) failed: bool,
}

/// How many connections were left.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Left {
    pub(crate) at_us: u64,
    pub(crate) connections: u64,
}

impl Handover {
    /// The parts that are not the drain, and how long they take together.
    pub(crate) fn parts(&self) -> (impl Iterator<Item = &Span>, u64) {
        let is_part = |span: &&Span| !["drain", "exit"].contains(&span.name.as_str());
        let ends = self.spans.iter().filter(is_part);
        let length = ends.filter_map(|span| span.to_us).max();
        let length = length.max(self.elapsed_us).unwrap_or(0);
        (self.spans.iter().filter(is_part), length)
    }

    pub(crate) fn part(&self, name: &str) -> Option<&Span> {
        self.spans.iter().find(|span| span.name == name)
    }
}

impl Span {
    pub(crate) fn label(&self) -> String {
        match &self.component {
            Some(component) => format!("  {} {component}", self.name),
            None => self.name.clone(),
        }
    }

    pub(crate) fn length(&self) -> Option<Duration> {
        Some(Duration::from_micros(
            self.to_us?.saturating_sub(self.from_us),
        ))
    }
}
