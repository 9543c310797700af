//! Spawning, and what happens to a panic in a spawned task.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, resume_unwind},
};

use futures::FutureExt;
use hyper::rt::Executor;

/// Spawns the streams of an HTTP/2 connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spawn;

impl<F> Executor<F> for Spawn
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(log_panic("an http/2 stream", stream));
    }
}

/// Runs `future` and logs its panic before the runtime deals with it.
pub(crate) async fn log_panic<F: Future>(what: &'static str, future: F) -> F::Output {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(output) => output,
        Err(panic) => {
            tracing::error!(panic = message(&*panic), "{what} ended with a panic");
            // Not swallowed: a runtime may be set up to shut down on a panic.
            resume_unwind(panic)
        }
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

        let task = tokio::spawn(log_panic("a task", async { panic!("number {}", 7) }));

        assert!(task.await.unwrap_err().is_panic());
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("ERROR") && log.contains("a task ended with a panic"));
        assert!(log.contains("number 7"), "{log}");
    }
}
