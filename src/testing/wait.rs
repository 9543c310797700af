//! Waiting, with an end.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{self, Instant};

/// The end of every wait: so generous that only a broken test meets it.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Waits for `future`.
///
/// # Panics
///
/// After [`LIMIT`], naming what did not happen.
pub async fn within<T>(what: impl Display, future: impl Future<Output = T>) -> T {
    match time::timeout(LIMIT, future).await {
        Ok(value) => value,
        Err(_) => panic!("still waiting after {LIMIT:?} for: {what}"),
    }
}

/// Looks again and again until `look` finds something.
///
/// For the few facts in `/proc` of which the kernel tells nobody when they change; whatever has an
/// event is awaited instead.
///
/// # Panics
///
/// After [`LIMIT`], naming what did not happen.
pub async fn eventually<T>(what: impl Display, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < end,
            "still waiting after {LIMIT:?} for: {what}"
        );
        time::sleep(LOOK_AGAIN).await;
    }
}

const LOOK_AGAIN: Duration = Duration::from_millis(2);
