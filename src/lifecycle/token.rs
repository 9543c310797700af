//! Tokens that users await and only the lifecycle task cancels.

use std::future::IntoFuture;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A moment in the life of this generation that can be awaited: the stop of the service
/// ([`Context::stopping`](crate::Context::stopping)), the start of this generation's drain
/// ([`Context::draining`](crate::Context::draining)) or its end
/// ([`Context::aborting`](crate::Context::aborting)).
///
/// It is a [`CancellationToken`] that cannot be cancelled: only the lifecycle does that, so that
/// no part of a service can end the service by mistake. All clones are equal. Once reached, the
/// moment stays reached.
///
/// # Examples
///
/// ```
/// # async fn example(cx: handover::Context) {
/// // As the signal of somebody else's graceful shutdown: a future that owns what it needs.
/// let stop = cx.draining().cancelled_owned();
/// // Or in a loop of one's own.
/// let draining = cx.draining();
/// while !draining.is_cancelled() {
///     tokio::select! {
///         () = draining.cancelled() => {}
///         () = tokio::task::yield_now() => { /* work */ }
///     }
/// }
/// # stop.await;
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Token(CancellationToken);

impl Token {
    pub(crate) fn new() -> Self {
        Self(CancellationToken::new())
    }

    /// A token that is reached with this one; the two do not contend for a lock.
    #[cfg(feature = "tonic")]
    pub(crate) fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    pub(crate) fn cancel(&self) {
        self.0.cancel();
    }

    /// Tells whether the moment has come.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits for the moment; returns at once if it has come.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// Returns a future that owns its part of the token, for whoever wants one that is `'static`.
    #[must_use = "futures do nothing unless you `.await` or poll them"]
    pub fn cancelled_owned(&self) -> WaitForCancellationFutureOwned {
        self.0.clone().cancelled_owned()
    }
}

impl IntoFuture for Token {
    type Output = ();
    type IntoFuture = WaitForCancellationFutureOwned;

    fn into_future(self) -> Self::IntoFuture {
        self.0.cancelled_owned()
    }
}
