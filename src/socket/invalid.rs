//! What was wrong with the text of an endpoint.

use std::borrow::Cow;

/// An error that says why a text is no [`Endpoint`](crate::Endpoint).
///
/// It names the text, what was wrong with it and what was expected:
///
/// ```
/// let error = ":8080".parse::<handover::Endpoint>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "invalid endpoint `:8080`: the host is missing, expected `host:port`, such as `0.0.0.0:8080`",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid endpoint `{text}`: {problem}, expected {expected}")]
pub struct InvalidEndpoint {
    text: String,
    problem: Cow<'static, str>,
    expected: &'static str,
}

impl InvalidEndpoint {
    /// What was wrong, before it is known in which text.
    pub(super) fn new(problem: impl Into<Cow<'static, str>>, expected: &'static str) -> Self {
        Self {
            text: String::new(),
            problem: problem.into(),
            expected,
        }
    }

    pub(super) fn in_text(mut self, text: &str) -> Self {
        self.text.clear();
        for c in text.chars() {
            // A log has one line for each error.
            if c.is_control() {
                self.text.extend(c.escape_debug());
            } else {
                self.text.push(c);
            }
        }
        self
    }
}
