//! Spawning, and what happens to a panic in a spawned task.

use crate::sys::log;
use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use hyper::rt::Executor;
use pin_project_lite::pin_project;

/// Spawns the streams of an HTTP/2 connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spawn;

impl<F> Executor<F> for Spawn
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(LogPanic::new("an http/2 stream", stream));
    }
}

pin_project! {
    /// A future whose panic is logged before the runtime deals with it.
    // Not an `async fn`: its future would have room for `future` twice, and there is one for each HTTP/2 request.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct LogPanic<F> {
        what: &'static str,
        #[pin]
        future: F,
    }
}

impl<F> LogPanic<F> {
    /// `what` ended with a panic, the log will say.
    pub(crate) fn new(what: &'static str, future: F) -> Self {
        Self { what, future }
    }
}

impl<F: Future> Future for LogPanic<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        catch_unwind(AssertUnwindSafe(|| this.future.poll(cx))).unwrap_or_else(|panic| {
            log::error!(panic = message(&*panic), "{} ended with a panic", this.what);
            // Not swallowed: a runtime may be set up to shut down on a panic.
            resume_unwind(panic)
        })
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not a string")
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::{
        io,
        sync::{Arc, Mutex},
    };

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(buf)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_panic_is_logged_and_goes_on() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);

        let task = tokio::spawn(LogPanic::new("a task", async { panic!("number {}", 7) }));

        assert!(task.await.unwrap_err().is_panic());
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("ERROR") && log.contains("a task ended with a panic"));
        assert!(log.contains("number 7"), "{log}");
    }
}
