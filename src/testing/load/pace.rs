//! How often may be asked.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A bound on the requests of all clients of a kind together.
///
/// What it allows comes in bursts: clients ask at full speed until the burst is spent, and then all of them wait.
/// Requests at even distances would leave every connection idle when it is closed, and the worst moment, which is
/// between two requests of a busy connection, would never be met.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// When the next request is due.
    next: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_second.max(1),
            next: Mutex::new(Instant::now()),
        }
    }

    /// Takes a place for `count` requests, and tells how long it is to be waited for.
    pub(super) fn wait(&self, count: usize) -> Option<Duration> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // What was not used is kept for one burst only.
        *next = (*next).max(now.checked_sub(BURST).unwrap_or(now));
        let due = *next;
        *next = due + self.interval.saturating_mul(count);
        (due > now).then(|| due - now + BURST)
    }
}

const BURST: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use tokio::time;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_rate_is_asked() {
        let pace = Pace::new(1000);
        let (started, mut asked) = (Instant::now(), 0);
        while started.elapsed() < Duration::from_secs(10) {
            if let Some(wait) = pace.wait(1) {
                time::sleep(wait).await;
            }
            asked += 1;
        }
        assert!((9_000..=10_100).contains(&asked), "{asked}");
    }
}
