//! The end of a generation, while it lasts.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::input::Input;
use crate::lifecycle::own;

/// The drain of this generation.
#[derive(Debug)]
pub(crate) struct Drain {
    pub(crate) since: Instant,
    pub(crate) deadline: Instant,
    /// Whether nobody serves after this generation.
    pub(crate) is_stop: bool,
    /// Whether every `on_drain` has returned or met its limit.
    pub(crate) hooks_drained: bool,
    /// Whether the deadline, or a second stop, has come.
    pub(crate) aborted: bool,
    /// Whether main has had its time.
    pub(crate) drop_main: bool,
    /// Whether what was cut has had its moment to end by itself.
    pub(crate) over: bool,
    /// Whether something was cut.
    pub(crate) cut: bool,
    timer: Option<AbortHandle>,
    queue: UnboundedSender<Input>,
}

impl Drain {
    pub(crate) fn new(is_stop: bool, timeout: Duration, queue: UnboundedSender<Input>) -> Self {
        let since = Instant::now();
        let mut drain = Self {
            since,
            deadline: since + timeout.min(FOREVER),
            is_stop,
            hooks_drained: false,
            aborted: false,
            drop_main: false,
            over: false,
            cut: false,
            timer: None,
            queue,
        };
        drain.arm();
        drain.tick();
        drain
    }

    /// Moves the deadline if the new one is earlier.
    pub(crate) fn shorten(&mut self, left: Duration) {
        let deadline = Instant::now() + left.min(FOREVER);
        if deadline < self.deadline {
            self.deadline = deadline;
            self.arm();
        }
    }

    /// Asks for an input a second from now.
    pub(crate) fn tick(&self) {
        self.later(Instant::now() + Duration::from_secs(1), Input::DrainTick);
    }

    /// Gives main a moment to end by itself.
    pub(crate) fn spare_main(&self) {
        self.later(Instant::now() + ABORT_GRACE, Input::MainOver);
    }

    /// Gives what was cut a moment to end by itself.
    pub(crate) fn begin_abort(&mut self) {
        self.aborted = true;
        self.deadline = self.deadline.min(Instant::now());
        self.later(Instant::now() + ABORT_GRACE, Input::AbortOver);
    }

    /// When quiet connections are looked at for the last time: a tenth of the drain before its
    /// deadline, and at most [`LAST_LOOK`] before it.
    pub(crate) fn last_look(&self) -> Instant {
        let length = self.deadline.saturating_duration_since(self.since);
        self.deadline - LAST_LOOK.min(length / 10)
    }

    fn arm(&mut self) {
        let (last_look, deadline, queue) = (self.last_look(), self.deadline, self.queue.clone());
        let task = own::spawn(async move {
            tokio::time::sleep_until(last_look).await;
            queue.send(Input::LastLook).ok();
            tokio::time::sleep_until(deadline).await;
            queue.send(Input::Deadline).ok();
        });
        if let Some(before) = self.timer.replace(task.abort_handle()) {
            before.abort();
        }
    }

    fn later(&self, at: Instant, input: Input) -> AbortHandle {
        let queue = self.queue.clone();
        let task = own::spawn(async move {
            tokio::time::sleep_until(at).await;
            queue.send(input).ok();
        });
        task.abort_handle()
    }
}

/// A timeout without end, which an [`Instant`] has no room for, is one of thirty years.
pub(super) const FOREVER: Duration = Duration::from_secs(30 * 365 * 86_400);
/// The time for what a last look has found to be answered.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// From the abort until main is dropped: time to close, not time to work.
const ABORT_GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timeout_without_end_is_no_panic() {
        let mut drain = Drain::new(false, Duration::MAX, unbounded_channel().0);
        let first = drain.deadline;
        drain.shorten(Duration::MAX);
        assert_eq!(drain.deadline, first);
        drain.shorten(Duration::from_secs(1));
        assert_eq!(drain.deadline, drain.since + Duration::from_secs(1));
    }
}
