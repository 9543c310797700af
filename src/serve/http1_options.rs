//! What a user sets for HTTP/1.

use hyper::server::conn::http1::Builder;
use hyper_util::rt::TokioTimer;

/// The options of a server for HTTP/1.1 and HTTP/1.0; set by [`Serve::http1`](super::builder::Serve::http1).
///
/// They have hyper's names, meanings and defaults. hyper's `header_read_timeout` is not among them, because it closes
/// idle connections as well, which can cost a client the request that it is just sending;
/// [`Serve::header_timeout`](super::builder::Serve::header_timeout) takes its place.
#[derive(Clone, Debug)]
#[must_use = "options do nothing unless they are given back to the server"]
pub struct Http1Options(Builder);

impl Http1Options {
    /// Sets whether a connection takes further requests after the first; on by default.
    pub fn keep_alive(mut self, enabled: bool) -> Self {
        self.0.keep_alive(enabled);
        self
    }

    /// Sets whether a client that has shut its side of the connection still gets its response; off by default.
    pub fn half_close(mut self, enabled: bool) -> Self {
        self.0.half_close(enabled);
        self
    }

    /// Sets how many headers a request may have; 100 by default. One with more is answered with 431.
    pub fn max_headers(mut self, count: usize) -> Self {
        self.0.max_headers(count);
        self
    }

    /// Sets how long the head of a request may be, in bytes; by default only
    /// [`max_buf_size`](Self::max_buf_size) limits it. A longer one is answered with 431.
    pub fn max_header_size(mut self, bytes: usize) -> Self {
        self.0.max_header_size(bytes);
        self
    }

    /// Sets how large the read buffer of a connection may become, in bytes; about 400 KiB by default.
    ///
    /// # Panics
    ///
    /// If it is less than 8192.
    pub fn max_buf_size(mut self, bytes: usize) -> Self {
        self.0.max_buf_size(bytes);
        self
    }

    /// Sets whether the responses to pipelined requests are collected into fewer writes; off by default.
    pub fn pipeline_flush(mut self, enabled: bool) -> Self {
        self.0.pipeline_flush(enabled);
        self
    }

    /// Sets whether bodies are written with `writev(2)`, and not copied into one buffer; by default hyper decides.
    pub fn writev(mut self, enabled: bool) -> Self {
        self.0.writev(enabled);
        self
    }

    /// Sets whether names of headers are written in `Title-Case`; off by default.
    pub fn title_case_headers(mut self, enabled: bool) -> Self {
        self.0.title_case_headers(enabled);
        self
    }

    /// Sets whether the case of the request's header names is kept for the response; off by default.
    pub fn preserve_header_case(mut self, enabled: bool) -> Self {
        self.0.preserve_header_case(enabled);
        self
    }

    /// Sets whether malformed headers of a request are skipped, and not answered with 400; off by default.
    pub fn ignore_invalid_headers(mut self, enabled: bool) -> Self {
        self.0.ignore_invalid_headers(enabled);
        self
    }

    /// Sets whether responses get a `Date` header; on by default.
    pub fn auto_date_header(mut self, enabled: bool) -> Self {
        self.0.auto_date_header(enabled);
        self
    }

    pub(crate) fn into_builder(self) -> Builder {
        self.0
    }
}

impl Default for Http1Options {
    fn default() -> Self {
        let mut builder = Builder::new();
        // hyper's limit on heads closes idle connections, too; ours (`head_timeout`) takes its place.
        builder.header_read_timeout(None).timer(TokioTimer::new());
        Self(builder)
    }
}
