//! What to make of a failed `accept(2)`.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::{Instant, Sleep};

use crate::socket::Endpoint;
use crate::sys::log;

/// What a failure concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Concern {
    /// One connection that went away, or an error of the network that `accept(2)` passes on: try
    /// the next.
    Connection,
    /// A lack of descriptors or memory: wait, without spinning.
    Resources,
    /// The listener itself: the user has to know.
    Listener,
}

/// Tells what an error of `accept(2)` concerns.
pub(crate) fn concern(error: &io::Error) -> Concern {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => Concern::Resources,
        Some(
            Errno::ECONNABORTED
            | Errno::ECONNRESET
            | Errno::EINTR
            | Errno::EPERM
            | Errno::EPROTO
            | Errno::ENETDOWN
            | Errno::ENOPROTOOPT
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::EHOSTUNREACH
            | Errno::ENETUNREACH,
        ) => Concern::Connection,
        _ => Concern::Listener,
    }
}

/// The pause after a lack of resources: it doubles up to a second, as long as nothing is accepted
/// in between. A lack is said once, and once its end.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    pause: Option<Pin<Box<Sleep>>>,
    length: Duration,
    /// Whether a lack was said whose end was not.
    lacking: bool,
}

impl Backoff {
    /// Starts a pause.
    pub(crate) fn start(&mut self, endpoint: &Endpoint, error: &io::Error) {
        if !std::mem::replace(&mut self.lacking, true) {
            log::warn!(%endpoint, %error, "accepting pauses: this process lacks resources");
        }
        self.length = (self.length * 2).clamp(Duration::from_millis(5), Duration::from_secs(1));
        self.pause = Some(Box::pin(tokio::time::sleep_until(
            Instant::now() + self.length,
        )));
    }

    /// Waits until the pause is over.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(())
    }

    /// Notes that a connection was accepted.
    pub(crate) fn succeeded(&mut self) {
        self.length = Duration::ZERO;
    }

    /// Notes that the queue was found empty, which is the end of a lack: accept(2) takes a
    /// descriptor before it looks. A connection alone is not: with each that ends, one more fits in.
    pub(crate) fn emptied(&mut self, endpoint: &Endpoint) {
        if std::mem::take(&mut self.lacking) {
            self.length = Duration::ZERO;
            log::info!(%endpoint, "accepting goes on");
        }
    }
}
