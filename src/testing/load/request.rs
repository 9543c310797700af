//! What is asked.

/// How a client talks to the service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.1.
    Http(Request),
    /// Lines: the service greets with its identity and returns each line; `bye` announces that it
    /// is about to close.
    Lines,
}

/// An HTTP request, and what makes an answer to it right.
///
/// The status must be 200 and the body whole; one of a `GET` must begin with the identity of its
/// generation, that of a `POST` must be the body that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub(super) method: &'static str,
    pub(super) path: String,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// Asks who is there.
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: "GET",
            path: path.into(),
            body: Vec::new(),
        }
    }

    /// Sends a body, and takes whatever answer there is.
    ///
    /// Only [`ask`](super::ask) does: a load has to know which answer is right.
    pub fn post(path: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::echo(path, body)
    }

    /// Sends a body and wants it back.
    pub fn echo(path: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self {
            method: "POST",
            path: path.into(),
            body: body.into(),
        }
    }
}
