//! A client that keeps its connection.

use std::io;

use handover_tests::{Identity, Target, within};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::Running;

/// One HTTP connection, used as long as the test likes.
#[derive(Debug)]
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    /// Connects; the service need not have accepted yet.
    pub(crate) async fn connect(target: &Target) -> Self {
        let Target::Tcp(address) = target else {
            panic!("{target} is not TCP");
        };
        let stream = within("a connection", TcpStream::connect(address)).await;
        Self(BufReader::new(stream.expect("somebody listens")))
    }

    /// Connects to a generation; the one before it may still accept until it has closed its gates.
    pub(crate) async fn of_generation(target: &Target, generation: u32) -> (Self, Identity) {
        within(format_args!("generation {generation}"), async {
            loop {
                let mut client = Self::connect(target).await;
                let identity = client.ask("/").await;
                if identity.generation == generation {
                    return (client, identity);
                }
            }
        })
        .await
    }

    /// Connects and asks, and returns when the request has arrived: `/hang` is never answered.
    pub(crate) async fn holding(running: &Running, path: &str) -> Self {
        let from = running.service.output().len();
        let mut client = Self::connect(&running.target).await;
        client.send(path).await;
        match path {
            "/hang" => drop(running.service.output().find_from(from, "hangs").await),
            _ => drop(client.answer().await),
        }
        client
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask(&mut self, path: &str) -> Identity {
        self.send(path).await;
        self.answer().await
    }

    /// Asks, and does not wait.
    pub(crate) async fn send(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: fixture\r\n\r\n");
        self.send_raw(request.as_bytes()).await;
    }

    /// Sends bytes, be they a request or a part of one.
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        let written = self.0.write_all(bytes).await;
        written.expect("the connection is open");
    }

    /// Waits for the answer to what was sent.
    pub(crate) async fn answer(&mut self) -> Identity {
        let text = within("an answer", self.read()).await;
        let text = text.unwrap_or_else(|error| panic!("no whole answer: {error}"));
        Identity::parse(&text).unwrap_or_else(|| panic!("nobody answers `{text}`"))
    }

    /// Waits until the service has closed the connection, with whatever is left on it.
    pub(crate) async fn closed(&mut self) {
        let mut rest = Vec::new();
        // One that is reset is closed as well.
        within("the end of a connection", self.0.read_to_end(&mut rest))
            .await
            .ok();
    }

    async fn read(&mut self) -> io::Result<String> {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        String::from_utf8(body).map_err(io::Error::other)
    }
}
