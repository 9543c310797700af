//! HTTP/1.1 as a client speaks it, byte by byte (RFC 9112).

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time;

use super::fault::{Cause, Fault};
use super::request::{Expected, Request};
use crate::testing::identity::Identity;
use crate::testing::target::{Socket, Target};
use crate::testing::wait::LIMIT;

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Who gave it, if it says so.
    pub identity: Option<Identity>,
    /// What it says.
    pub body: Vec<u8>,
    /// Whether the service announced that it closes the connection.
    pub closes: bool,
}

/// Asks once, over a new connection.
///
/// # Errors
///
/// If there is no whole answer with the status 200 within [`LIMIT`].
///
/// # Cancel safety
///
/// The connection is closed with the future.
pub async fn ask(target: &Target, request: &Request) -> Result<Answer, Fault> {
    let socket = target
        .connect()
        .await
        .map_err(|error| Fault::connecting(&error))?;
    let bytes = request.bytes(true);
    let answer = Http::new(socket).exchange(&bytes, LIMIT).await?;
    match answer.status {
        200 => Ok(answer),
        status => Err(Fault::new(Cause::BadAnswer, format!("status {status}")).after(bytes.len())),
    }
}

/// What came of one turn of a client: of one request, or of one on each stream of a connection.
#[derive(Debug, Default)]
pub(in crate::testing) struct Turn {
    pub(in crate::testing) answered: u64,
    /// Requests that the service says it has not looked at, and may be made anew.
    pub(in crate::testing) refused: u64,
    pub(in crate::testing) faults: Vec<Fault>,
    /// The last of the answers.
    pub(in crate::testing) answer: Option<Answer>,
    /// Whether the service announced that it closes the connection.
    pub(in crate::testing) closes: bool,
}

impl Turn {
    /// One request was answered.
    pub(super) fn of_one(closes: bool) -> Self {
        Self {
            answered: 1,
            closes,
            ..Self::default()
        }
    }
}

impl From<Answer> for Turn {
    fn from(answer: Answer) -> Self {
        Self {
            closes: answer.closes,
            answer: Some(answer),
            ..Self::of_one(false)
        }
    }
}

/// A client's end of a connection.
#[derive(Debug)]
pub(super) struct Http<S = Socket> {
    socket: S,
    /// What was read and belongs to no answer yet.
    unread: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http<S> {
    pub(super) fn new(socket: S) -> Self {
        Self {
            socket,
            unread: Vec::new(),
        }
    }

    /// Resolves when the service does anything on a connection on which nothing is asked.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost that is not a fault anyway.
    pub(super) async fn disturbed(&mut self) -> Fault {
        match read_more(&mut self.socket, &mut self.unread).await {
            Ok(0) => Fault::new(Cause::Eof, "closed while idle"),
            Ok(count) => Fault::new(
                Cause::BadAnswer,
                format!("{count} bytes that nobody has asked for"),
            ),
            Err(error) => Fault::reading(&error),
        }
    }

    /// Sends a request and reads the answer, both at the same time; `last` asks for a close.
    pub(super) async fn ask(
        &mut self,
        request: &Request,
        last: bool,
        limit: Duration,
    ) -> Result<Answer, Fault> {
        let bytes = request.bytes(last);
        let answer = self.exchange(&bytes, limit).await?;
        match request.objection(&answer) {
            None => Ok(answer),
            Some(objection) => Err(Fault {
                sent: bytes.len(),
                ..Fault::new(Cause::BadAnswer, objection)
            }),
        }
    }

    async fn exchange(&mut self, request: &[u8], limit: Duration) -> Result<Answer, Fault> {
        let sent = AtomicUsize::new(0);
        let (mut reader, mut writer) = tokio::io::split(&mut self.socket);
        let exchange = async {
            tokio::select! {
                biased;
                never = write(&mut writer, request, &sent) => match never {},
                answer = read_answer(&mut reader, &mut self.unread) => answer,
            }
        };
        let answer = match time::timeout(limit, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Fault::new(
                Cause::Timeout,
                format!("no whole answer in {limit:?}"),
            )),
        };
        answer.map_err(|fault| Fault {
            sent: sent.load(Ordering::Relaxed),
            ..fault
        })
    }
}

/// Writes and then waits for ever: what became of the request is for the reader to see, who may
/// find a whole answer though the rest of the request met a closed door.
async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    mut bytes: &[u8],
    sent: &AtomicUsize,
) -> Infallible {
    while !bytes.is_empty() {
        let Ok(count) = writer.write(bytes).await else {
            break;
        };
        sent.fetch_add(count, Ordering::Relaxed);
        bytes = &bytes[count..];
    }
    pending().await
}

async fn read_answer(
    reader: &mut (impl AsyncRead + Unpin),
    unread: &mut Vec<u8>,
) -> Result<Answer, Fault> {
    loop {
        let parsed =
            parse(unread, false).map_err(|problem| Fault::new(Cause::BadAnswer, problem))?;
        if let Some((answer, length)) = parsed {
            unread.drain(..length);
            if unread.is_empty() {
                return Ok(answer);
            }
            let detail = format!("{} bytes after the end of the answer", unread.len());
            return Err(Fault::new(Cause::BadAnswer, detail));
        }
        match read_more(reader, unread).await {
            Ok(0) => {
                // The end of some answers is that of the connection.
                if let Ok(Some((answer, _))) = parse(unread, true) {
                    unread.clear();
                    return Ok(answer);
                }
                let detail = match unread.len() {
                    0 => "closed without an answer".to_owned(),
                    read => format!("the answer ended after {read} bytes"),
                };
                return Err(Fault::new(Cause::Eof, detail));
            }
            Ok(_) => {}
            Err(error) => return Err(Fault::reading(&error)),
        }
    }
}

/// Reads once; 0 at the end of the stream.
///
/// # Cancel safety
///
/// What was read is in `unread`.
pub(super) async fn read_more(
    reader: &mut (impl AsyncRead + Unpin),
    unread: &mut Vec<u8>,
) -> io::Result<usize> {
    unread.reserve(READ);
    reader.read_buf(unread).await
}

/// Parses one answer at the start of `bytes` and tells its length; `None` if it is not whole yet. `ended` tells
/// whether more can come.
fn parse(bytes: &[u8], ended: bool) -> Result<Option<(Answer, usize)>, String> {
    let Some(head_length) = find(bytes, b"\r\n\r\n").map(|at| at + 4) else {
        return if bytes.len() > HEAD_LIMIT {
            Err("a head without an end".into())
        } else {
            Ok(None)
        };
    };
    let head = std::str::from_utf8(&bytes[..head_length - 4]).map_err(|_| "a head in no UTF-8")?;
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let (old, status) = status(line).ok_or_else(|| format!("`{line}`"))?;
    if (100..200).contains(&status) {
        // Something that comes before the answer (RFC 9110, section 15.2).
        let answer = parse(&bytes[head_length..], ended)?;
        return Ok(answer.map(|(answer, length)| (answer, head_length + length)));
    }
    // HTTP/1.0 closes where it does not say otherwise.
    let (mut length, mut chunked, mut closes) = (None, false, old);
    for line in lines {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| format!("a header `{line}`"))?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(
                value
                    .parse::<usize>()
                    .map_err(|_| format!("a length of `{value}`"))?,
            );
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.eq_ignore_ascii_case("chunked");
        } else if name.eq_ignore_ascii_case("connection") {
            for option in value.split(',').map(str::trim) {
                if option.eq_ignore_ascii_case("close") {
                    closes = true;
                } else if option.eq_ignore_ascii_case("keep-alive") {
                    closes = false;
                }
            }
        }
    }
    let rest = &bytes[head_length..];
    let body = match (length, chunked) {
        (None, true) => dechunk(rest)?,
        _ if matches!(status, 204 | 304) => Some((Vec::new(), 0)),
        (Some(length), false) => rest.get(..length).map(|body| (body.to_vec(), length)),
        (Some(_), true) => return Err("both a length and chunks".into()),
        (None, false) => {
            closes = true;
            ended.then(|| (rest.to_vec(), rest.len()))
        }
    };
    let Some((body, length)) = body else {
        return Ok(None);
    };
    let identity = std::str::from_utf8(&body).ok().and_then(Identity::parse);
    Ok(Some((
        Answer {
            status,
            identity,
            body,
            closes,
        },
        head_length + length,
    )))
}

/// Parses a status line; tells whether it is of HTTP/1.0, and the status.
fn status(line: &str) -> Option<(bool, u16)> {
    let (version, rest) = line.split_once(' ')?;
    let old = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ => return None,
    };
    Some((old, rest.get(..3)?.parse().ok()?))
}

/// Joins the chunks of a body (RFC 9112, section 7.1) and tells the length with all its framing.
fn dechunk(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else {
            return Ok(None);
        };
        let size = String::from_utf8_lossy(&bytes[at..at + line]).into_owned();
        let size = usize::from_str_radix(&size, 16).map_err(|_| format!("a chunk of `{size}`"))?;
        let start = at + line + 2;
        let Some(chunk) = bytes.get(start..start + size + 2) else {
            return Ok(None);
        };
        if !chunk.ends_with(b"\r\n") {
            return Err("a chunk that is longer than it says".into());
        }
        body.extend_from_slice(&chunk[..size]);
        at = start + size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

impl Request {
    fn bytes(&self, last: bool) -> Vec<u8> {
        let Self {
            method,
            path,
            host,
            body,
            ..
        } = self;
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
        if *method == "POST" {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        if last {
            head.push_str("connection: close\r\n");
        }
        head.push_str("\r\n");
        [head.as_bytes(), body].concat()
    }

    /// Tells why the answer is not the right one.
    pub(super) fn objection(&self, answer: &Answer) -> Option<String> {
        let status = answer.status;
        match self.expected {
            Expected::Status(expected) if status >= 500 && status != expected => {
                Some(format!("status {status}, at first it was {expected}"))
            }
            Expected::Status(_) | Expected::Any => None,
            _ if status != 200 => Some(format!("status {status}")),
            Expected::Identity if answer.identity.is_none() => Some(format!(
                "`{}` names no generation",
                answer.body.escape_ascii()
            )),
            Expected::Echo if answer.body != self.body => Some("another body than was sent".into()),
            _ => None,
        }
    }
}

const READ: usize = 16 * 1024;
const HEAD_LIMIT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";

    #[test]
    fn an_answer_is_whole_with_its_last_byte_and_not_before() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: Close\r\n\r\n\
                       3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
        for (text, closes) in [(format!("{HEAD}hello"), false), (chunked.to_owned(), true)] {
            for end in 0..text.len() {
                for ended in [false, true] {
                    let parsed = parse(&text.as_bytes()[..end], ended);
                    assert_eq!(parsed, Ok(None), "{}", &text[..end]);
                }
            }
            let answer = Answer {
                status: 200,
                identity: None,
                body: b"hello".to_vec(),
                closes,
            };
            assert_eq!(
                parse(text.as_bytes(), false),
                Ok(Some((answer, text.len())))
            );
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            "HTTP/1.1 many\r\ncontent-length: 0\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc",
            "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
            "pid=1 generation=1\r\n\r\n",
        ] {
            assert!(parse(text.as_bytes(), false).is_err(), "{text}");
        }
    }

    #[test]
    fn an_answer_may_end_with_its_connection() {
        for (text, body, closes) in [
            ("HTTP/1.1 200 OK\r\n\r\nhello", "hello", true),
            ("HTTP/1.0 404 Not Found\r\n\r\n", "", true),
            (
                "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\nx",
                "x",
                false,
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
                "",
                false,
            ),
        ] {
            let (answer, length) = parse(text.as_bytes(), true).unwrap().unwrap();
            assert_eq!(
                (answer.body.as_slice(), answer.closes),
                (body.as_bytes(), closes),
                "{text}"
            );
            assert_eq!(length, text.len(), "{text}");
        }
        let endless = "HTTP/1.1 200 OK\r\n\r\nhello";
        assert_eq!(parse(endless.as_bytes(), false), Ok(None));
    }
}
