//! The moments of one generation's end, as those see them who have to leave.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::token::Token;

/// The moments of the end, shared by all who have to leave.
#[derive(Debug, Clone)]
pub(crate) struct Tokens(Arc<Moments>);

/// The moments of the end, in their order.
#[derive(Debug)]
pub(crate) struct Moments {
    /// The service stops: nobody will serve after this generation.
    pub(crate) stopping: Token,
    pub(crate) draining: Token,
    /// The deadline is near: what is quiet may be closed after a last look.
    pub(crate) closing: Token,
    pub(crate) aborting: Token,
    drain: OnceLock<Drain>,
}

/// The drain, as it began.
#[derive(Debug, Clone, Copy)]
struct Drain {
    since: Instant,
    deadline: Instant,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Moments {
            stopping: Token::new(),
            draining: Token::new(),
            closing: Token::new(),
            aborting: Token::new(),
            drain: OnceLock::new(),
        }))
    }

    /// Starts the drain.
    pub(crate) fn drain(&self, deadline: Instant) {
        // Before the token, so that whoever is woken by it finds the deadline.
        self.drain.get_or_init(|| Drain {
            since: Instant::now(),
            deadline,
        });
        self.draining.cancel();
    }

    /// Whether half of the drain is over, by which every goodbye should have been said.
    #[cfg(any(feature = "axum-ws", feature = "tungstenite"))]
    pub(crate) fn is_half_over(&self) -> bool {
        let is_over = |&Drain { since, deadline }: &Drain| {
            since.elapsed() >= (deadline - since) / 2 || self.closing.is_cancelled()
        };
        self.drain.get().is_some_and(is_over)
    }

    /// Waits until it is time to say goodbye: a random moment of the `window` that begins with the
    /// drain, so that those who are sent away do not all come back at once.
    ///
    /// The window is no longer than half of the drain, and over when the deadline is near: what
    /// follows the goodbye takes time, too.
    ///
    /// # Cancel safety
    ///
    /// Safe; another call draws another moment.
    pub(crate) async fn goodbye(self, window: Duration) {
        self.draining.cancelled().await;
        let Some(&Drain { since, deadline }) = self.drain.get() else {
            return;
        };
        let window = window.min((deadline - since) / 2);
        let moment = since + window.mul_f64(random());
        if moment <= Instant::now() {
            return;
        }
        tokio::select! {
            () = sleep_until(moment) => {}
            () = self.closing.cancelled() => {}
        }
    }
}

impl Deref for Tokens {
    type Target = Moments;

    fn deref(&self) -> &Moments {
        &self.0
    }
}

/// A number from 0 to 1: the keys of a hash map are random enough to spread clients.
fn random() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    random as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    use futures::FutureExt;
    use futures::future::join_all;

    const SECOND: Duration = Duration::from_secs(1);

    /// When each of a hundred says goodbye, from the start of the drain.
    async fn goodbyes(tokens: &Tokens, window: Duration) -> Vec<Duration> {
        let since = Instant::now();
        let mut after = join_all((0..100).map(|_| async {
            tokens.clone().goodbye(window).await;
            since.elapsed()
        }))
        .await;
        after.sort();
        after
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_says_goodbye_before_the_drain() {
        let tokens = Tokens::new();
        let mut goodbye = Box::pin(tokens.clone().goodbye(Duration::ZERO));
        assert_eq!(goodbye.as_mut().now_or_never(), None);
        tokens.drain(Instant::now());
        assert_eq!(goodbye.as_mut().now_or_never(), Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn goodbyes_are_spread_over_the_window() {
        let tokens = Tokens::new();
        tokens.drain(Instant::now() + 30 * SECOND);
        let after = goodbyes(&tokens, 4 * SECOND).await;
        assert!(after[0] < SECOND && after[99] > 3 * SECOND, "{after:?}");
        // Timers have the granularity of a millisecond.
        assert!(
            after[99] <= 4 * SECOND + Duration::from_millis(1),
            "{after:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_window_leaves_half_of_the_drain() {
        let tokens = Tokens::new();
        tokens.drain(Instant::now() + 2 * SECOND);
        let after = goodbyes(&tokens, 4 * SECOND).await;
        assert!(after[99] <= SECOND + Duration::from_millis(1), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_comes_earlier_ends_the_window() {
        let tokens = Tokens::new();
        tokens.drain(Instant::now() + 30 * SECOND);
        let since = Instant::now();
        let closing = async {
            tokio::time::sleep(SECOND).await;
            tokens.closing.cancel();
        };
        tokio::join!(goodbyes(&tokens, 10 * SECOND), closing);
        assert!(since.elapsed() <= SECOND + Duration::from_millis(1));
    }
}
