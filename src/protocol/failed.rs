//! What a successor says when it will not serve.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::failure::Stage;

/// Why a successor will not serve, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    /// How far it had come.
    pub(crate) stage: Stage,
    /// The component whose hook failed.
    #[serde(default)]
    pub(crate) component: Option<String>,
    /// What happened.
    pub(crate) error: String,
}

impl Failed {
    /// Creates a message that fits into one record, however long the error is.
    pub(crate) fn new(stage: Stage, component: Option<String>, error: &dyn fmt::Display) -> Self {
        Self {
            stage,
            component: component.map(|name| shorten(name, 1024)),
            error: shorten(error.to_string(), 16 * 1024),
        }
    }
}

fn shorten(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most)
            .rev()
            .find(|&end| text.is_char_boundary(end))
            .unwrap_or(0);
        text.truncate(end);
        text.push_str(" …");
    }
    text
}
