//! A client that writes and reads raw bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::must;

pub(super) struct Client<T> {
    pub(super) io: T,
    read: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) head: String,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn announces_close(&self) -> bool {
        self.head.contains("\r\nconnection: close\r\n")
    }

    /// Panics unless this is a whole response with that body, and the last one of its connection or not.
    #[track_caller]
    pub(super) fn expect(&self, body: &str, last: bool) {
        assert!(self.head.starts_with("HTTP/1.1 200 OK\r\n"), "{self:?}");
        assert_eq!(self.body, body, "{self:?}");
        assert_eq!(self.announces_close(), last, "{self:?}");
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
    pub(super) fn new(io: T) -> Self {
        Self {
            io,
            read: Vec::new(),
        }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        must(self.io.write_all(bytes.as_ref())).await.unwrap();
    }

    pub(super) async fn get(&mut self, path: &str) {
        self.send(get(path)).await;
    }

    /// Reads up to and including `end`.
    pub(super) async fn read_until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = find(&self.read, end.as_bytes()) {
                let head: Vec<u8> = self.read.drain(..at + end.len()).collect();
                return String::from_utf8(head).unwrap();
            }
            let read = must(self.io.read_buf(&mut self.read)).await.unwrap();
            let so_far = self.read.escape_ascii();
            assert_ne!(read, 0, "the connection ended within a response: {so_far}");
        }
    }

    /// Reads one whole response, by its length or its chunks.
    pub(super) async fn reply(&mut self) -> Reply {
        let head = self.read_until("\r\n\r\n").await;
        let body = if head.contains("\r\ntransfer-encoding: chunked\r\n") {
            self.chunks().await
        } else {
            let (_, length) = head
                .split_once("\r\ncontent-length: ")
                .expect("a response has a length");
            let length = length.split_once("\r\n").unwrap().0.parse().unwrap();
            self.exactly(length).await
        };
        Reply { head, body }
    }

    async fn chunks(&mut self) -> String {
        let mut body = String::new();
        loop {
            let size = self.read_until("\r\n").await;
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            body += &self.exactly(size).await;
            assert_eq!(self.exactly(2).await, "\r\n");
            if size == 0 {
                return body;
            }
        }
    }

    pub(super) async fn exactly(&mut self, length: usize) -> String {
        let bytes = self.bytes(length).await;
        String::from_utf8(bytes).unwrap()
    }

    pub(super) async fn bytes(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            let read = must(self.io.read_buf(&mut self.read)).await.unwrap();
            assert_ne!(read, 0, "the connection ended too early");
        }
        self.read.drain(..length).collect()
    }

    /// Waits for the end of the connection; an error if it is a reset, or if bytes come instead.
    pub(super) async fn end(&mut self) -> io::Result<()> {
        assert!(self.read.is_empty(), "{}", self.read.escape_ascii());
        match must(self.io.read_buf(&mut self.read)).await? {
            0 => Ok(()),
            _ => Err(io::Error::other(self.read.escape_ascii().to_string())),
        }
    }
}

pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

pub(super) fn post(path: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
