//! What is asked.

/// How a client talks to the service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.1.
    Http(Request),
    /// HTTP/2 with prior knowledge, so many requests at once on each connection.
    Http2(Request, usize),
    /// A WebSocket at the path of the request; each ping has to come back.
    WebSocket(Request),
    /// Lines.
    Lines(Lines),
}

/// A protocol of lines: each that is sent is answered by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lines {
    /// Whether the service speaks first.
    pub(super) greets: bool,
    /// Whether what greets is a generation of a fixture, and `bye` its announcement that it is about to close.
    pub(super) named: bool,
    /// What is said; without it a new line each time, which has to come back.
    pub(super) says: Option<String>,
}

impl Lines {
    /// The protocol of the `echo` example: the service greets with its identity and returns each line; `bye`
    /// announces that it is about to close.
    pub fn named() -> Self {
        Self {
            greets: true,
            named: true,
            says: None,
        }
    }

    /// A service that returns each line.
    pub fn echo() -> Self {
        Self {
            greets: false,
            named: false,
            says: None,
        }
    }

    /// A service that has one line for an answer to this one.
    pub fn say(text: impl Into<String>) -> Self {
        Self {
            says: Some(text.into()),
            ..Self::echo()
        }
    }

    pub(in crate::testing) fn is_echo(&self) -> bool {
        self.says.is_none()
    }

    /// The same, and the service greets with a line of its own.
    pub fn greeted(self) -> Self {
        Self {
            greets: true,
            ..self
        }
    }
}

/// An HTTP request, and what makes an answer to it right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub(super) method: &'static str,
    pub(super) scheme: &'static str,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) body: Vec<u8>,
    pub(super) expected: Expected,
}

/// What makes a whole answer a right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Status 200, and a body that begins with the identity of its generation.
    Identity,
    /// Status 200, and the body that was sent.
    Echo,
    /// No error of the server, unless it was there from the start.
    Status(u16),
    /// Whatever it is.
    Any,
}

impl Request {
    /// Asks who is there: the status must be 200, and the body begin with the identity of a generation.
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: "GET",
            scheme: "http",
            host: "service".to_owned(),
            path: path.into(),
            body: Vec::new(),
            expected: Expected::Identity,
        }
    }

    /// Asks for something that any server may have: `status` is right, and all others below 500.
    pub fn page(path: impl Into<String>, status: u16) -> Self {
        Self {
            expected: Expected::Status(status),
            ..Self::get(path)
        }
    }

    /// Asks for something, and takes whatever answer there is.
    pub(in crate::testing) fn any(path: impl Into<String>) -> Self {
        Self {
            expected: Expected::Any,
            ..Self::get(path)
        }
    }

    /// What is asked for.
    pub(in crate::testing) fn path(&self) -> &str {
        &self.path
    }

    /// Sends a body, and takes whatever answer there is.
    ///
    /// Only [`ask`](super::ask) does: a load has to know which answer is right.
    pub fn post(path: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::echo(path, body)
    }

    /// Sends a body and wants it back, with status 200.
    pub fn echo(path: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self {
            method: "POST",
            body: body.into(),
            expected: Expected::Echo,
            ..Self::get(path)
        }
    }

    /// Names this host, with its port if there is one, instead of `service`.
    pub fn host(self, host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            ..self
        }
    }
}
