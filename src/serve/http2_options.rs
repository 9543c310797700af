//! What a user sets for HTTP/2.

use std::time::Duration;

use hyper::server::conn::http2::Builder;
use hyper_util::rt::TokioTimer;

use super::executor::Spawn;

/// The options of a server for HTTP/2; set by [`Serve::http2`](super::builder::Serve::http2).
///
/// They have hyper's names, meanings and defaults.
#[derive(Clone, Debug)]
#[must_use = "options do nothing unless they are given back to the server"]
pub struct Http2Options(Builder<Spawn>);

impl Http2Options {
    /// Sets how many streams a connection may have open at a time; 200 by default, `None` for no limit.
    ///
    /// This is `SETTINGS_MAX_CONCURRENT_STREAMS` (RFC 9113, section 6.5.2).
    pub fn max_concurrent_streams(mut self, count: impl Into<Option<u32>>) -> Self {
        self.0.max_concurrent_streams(count);
        self
    }

    /// Sets how much a client may send on a stream before it is read, in bytes; 1 MiB by default.
    ///
    /// This is `SETTINGS_INITIAL_WINDOW_SIZE`.
    pub fn initial_stream_window_size(mut self, bytes: impl Into<Option<u32>>) -> Self {
        self.0.initial_stream_window_size(bytes);
        self
    }

    /// Sets how much a client may send on a connection before it is read, in bytes; 1 MiB by default.
    pub fn initial_connection_window_size(mut self, bytes: impl Into<Option<u32>>) -> Self {
        self.0.initial_connection_window_size(bytes);
        self
    }

    /// Sets whether both windows follow what the connection can carry, whatever their sizes; off by default.
    pub fn adaptive_window(mut self, enabled: bool) -> Self {
        self.0.adaptive_window(enabled);
        self
    }

    /// Sets how long a frame of the client may be, in bytes; 16 KiB by default.
    ///
    /// This is `SETTINGS_MAX_FRAME_SIZE`.
    pub fn max_frame_size(mut self, bytes: impl Into<Option<u32>>) -> Self {
        self.0.max_frame_size(bytes);
        self
    }

    /// Sets how long the headers of a request may be, in bytes, unpacked; 16 KiB by default.
    ///
    /// This is `SETTINGS_MAX_HEADER_LIST_SIZE`.
    pub fn max_header_list_size(mut self, bytes: u32) -> Self {
        self.0.max_header_list_size(bytes);
        self
    }

    /// Sets how large the table of headers may be that the client's encoder uses, in bytes; 4 KiB by default.
    ///
    /// This is `SETTINGS_HEADER_TABLE_SIZE`.
    pub fn header_table_size(mut self, bytes: impl Into<Option<u32>>) -> Self {
        self.0.header_table_size(bytes);
        self
    }

    /// Sets how much may wait to be written on a stream, in bytes; about 400 KiB by default.
    ///
    /// # Panics
    ///
    /// If it is more than `u32::MAX`.
    pub fn max_send_buf_size(mut self, bytes: usize) -> Self {
        self.0.max_send_buf_size(bytes);
        self
    }

    /// Sets how often a ping asks whether the client is still there; by default none does.
    pub fn keep_alive_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.0.keep_alive_interval(interval);
        self
    }

    /// Sets how long an answer to such a ping may take before the connection is closed; 20 s by default.
    pub fn keep_alive_timeout(mut self, limit: Duration) -> Self {
        self.0.keep_alive_timeout(limit);
        self
    }

    /// Sets how many streams may be reset by the client before the server has seen them; 20 by default. The
    /// connection of one that resets more is closed (CVE-2023-44487).
    pub fn max_pending_accept_reset_streams(mut self, count: impl Into<Option<usize>>) -> Self {
        self.0.max_pending_accept_reset_streams(count);
        self
    }

    /// Sets how many streams may be reset by the server because of a client's mistakes before the connection is
    /// closed; 1024 by default.
    pub fn max_local_error_reset_streams(mut self, count: impl Into<Option<usize>>) -> Self {
        self.0.max_local_error_reset_streams(count);
        self
    }

    /// Sets whether responses get a `Date` header; on by default.
    pub fn auto_date_header(mut self, enabled: bool) -> Self {
        self.0.auto_date_header(enabled);
        self
    }

    pub(crate) fn into_builder(self) -> Builder<Spawn> {
        self.0
    }
}

impl Default for Http2Options {
    fn default() -> Self {
        let mut builder = Builder::new(Spawn);
        // WebSockets over HTTP/2 are opened with extended CONNECT (RFC 8441).
        builder.enable_connect_protocol().timer(TokioTimer::new());
        Self(builder)
    }
}
