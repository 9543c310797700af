//! The attached components, and the running of their hooks.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::event::What;
use super::hook::{BoxError, Lifecycle};
use super::record::Record;
use crate::sys::log;

/// The components of this generation in the order of their attachment.
pub(crate) struct Components {
    attached: Mutex<Vec<Arc<dyn Hooks>>>,
    record: Arc<Record>,
}

/// A hook that failed: which, of what, and how.
#[derive(Debug, thiserror::Error)]
#[error("{hook} of `{component}` {failure}")]
pub(crate) struct HookError {
    pub(crate) hook: Hook,
    pub(crate) component: String,
    pub(crate) failure: Failure,
}

/// How a hook failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("failed: {0}")]
    Failed(#[source] BoxError),
    #[error("panicked: {0}")]
    Panicked(String),
    #[error("did not end within {0:?}")]
    TimedOut(Duration),
}

/// The name of a hook, which is also the stage at which a handover can fail in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Init,
    Ready,
    Active,
    Drain,
}

impl Components {
    pub(crate) fn new(record: Arc<Record>) -> Self {
        Self {
            attached: Mutex::default(),
            record,
        }
    }

    /// Runs `on_init` of a component and keeps the component if it succeeds.
    pub(crate) async fn attach<L: Lifecycle>(
        &self,
        mut component: L,
        limit: Duration,
    ) -> Result<Arc<L>, HookError> {
        let name = component.name().into_owned();
        self.bounded(Hook::Init, &name, limit, component.on_init())
            .await?;
        let component = Arc::new(component);
        self.lock().push(Arc::clone(&component) as Arc<dyn Hooks>);
        Ok(component)
    }

    /// Runs `on_ready` of each component; the first failure ends it.
    pub(crate) async fn ready(&self, limit: Duration) -> Result<(), HookError> {
        for component in self.all() {
            self.bounded(Hook::Ready, &component.name(), limit, component.on_ready())
                .await?;
        }
        Ok(())
    }

    /// Runs `on_active` of each component, whatever becomes of the others.
    pub(crate) async fn active(&self, limit: Duration) {
        for component in self.all() {
            report(
                self.bounded(
                    Hook::Active,
                    &component.name(),
                    limit,
                    component.on_active(),
                )
                .await,
            );
        }
    }

    /// Runs `on_drain` of each component in reverse, whatever becomes of the others; together they
    /// end by `deadline`.
    pub(crate) async fn drain(&self, limit: Duration, deadline: Instant) {
        for component in self.all().into_iter().rev() {
            let limit = limit.min(deadline.saturating_duration_since(Instant::now()));
            report(
                self.bounded(
                    Hook::Drain,
                    &component.name(),
                    limit,
                    component.on_drain(deadline),
                )
                .await,
            );
        }
    }

    /// Runs a hook under its limit, and records how it ended.
    async fn bounded(
        &self,
        hook: Hook,
        component: &str,
        limit: Duration,
        future: impl Future<Output = Result<(), BoxError>>,
    ) -> Result<(), HookError> {
        let started = Instant::now();
        let future = AssertUnwindSafe(future).catch_unwind();
        let result = match tokio::time::timeout(limit, future).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(Failure::Failed(error)),
            Ok(Err(panic)) => Err(Failure::Panicked(panic_message(&*panic))),
            Err(_) => Err(Failure::TimedOut(limit)),
        };
        let elapsed = started.elapsed();
        if result.is_ok() {
            log::debug!(%hook, component, elapsed_ms = elapsed.as_millis(), "hook ran");
        }
        self.record.note(What::Hook {
            hook: hook.name().to_owned(),
            component: component.to_owned(),
            elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            error: result.as_ref().err().map(ToString::to_string),
        });
        result.map_err(|failure| HookError {
            hook,
            component: component.to_owned(),
            failure,
        })
    }

    fn all(&self) -> Vec<Arc<dyn Hooks>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<dyn Hooks>>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.all().iter().map(|component| component.name()))
            .finish()
    }
}

impl Hook {
    /// The name of the method.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Init => "on_init",
            Self::Ready => "on_ready",
            Self::Active => "on_active",
            Self::Drain => "on_drain",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// [`Lifecycle`] without its generic futures, so that different components fit one list.
trait Hooks: Send + Sync {
    fn name(&self) -> String;
    fn on_ready(&self) -> BoxFuture<'_, Result<(), BoxError>>;
    fn on_active(&self) -> BoxFuture<'_, Result<(), BoxError>>;
    fn on_drain(&self, deadline: Instant) -> BoxFuture<'_, Result<(), BoxError>>;
}

impl<L: Lifecycle> Hooks for L {
    fn name(&self) -> String {
        Lifecycle::name(self).into_owned()
    }

    fn on_ready(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Lifecycle::on_ready(self).boxed()
    }

    fn on_active(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Lifecycle::on_active(self).boxed()
    }

    fn on_drain(&self, deadline: Instant) -> BoxFuture<'_, Result<(), BoxError>> {
        Lifecycle::on_drain(self, deadline).boxed()
    }
}

fn report(result: Result<(), HookError>) {
    if let Err(error) = result {
        log::error!(hook = %error.hook, component = error.component, "{error}");
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "with a value that is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends what happens to it to a shared list; fails where it is told to.
    struct Recorder {
        name: &'static str,
        failing: Option<Hook>,
        log: Arc<Mutex<Vec<String>>>,
    }

    impl Recorder {
        async fn step(&self, hook: Hook) -> Result<(), BoxError> {
            self.log
                .lock()
                .expect("no panic in between")
                .push(format!("{} {hook}", self.name));
            if self.failing == Some(hook) {
                Err("it rains".into())
            } else {
                Ok(())
            }
        }
    }

    impl Lifecycle for Recorder {
        fn name(&self) -> std::borrow::Cow<'_, str> {
            self.name.into()
        }
        async fn on_init(&mut self) -> Result<(), BoxError> {
            self.step(Hook::Init).await
        }
        async fn on_ready(&self) -> Result<(), BoxError> {
            self.step(Hook::Ready).await
        }
        async fn on_active(&self) -> Result<(), BoxError> {
            self.step(Hook::Active).await
        }
        async fn on_drain(&self, _: Instant) -> Result<(), BoxError> {
            self.step(Hook::Drain).await
        }
    }

    const LIMIT: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn hooks_run_in_order_and_drain_in_reverse() {
        let log = Arc::default();
        let components = Components::new(Arc::new(Record::new(1)));
        for (name, failing) in [
            ("a", Some(Hook::Active)),
            ("b", Some(Hook::Drain)),
            ("c", None),
        ] {
            let recorder = Recorder {
                name,
                failing,
                log: Arc::clone(&log),
            };
            components
                .attach(recorder, LIMIT)
                .await
                .expect("initialised");
        }
        let failing = Recorder {
            name: "d",
            failing: Some(Hook::Init),
            log: Arc::clone(&log),
        };
        let error = components
            .attach(failing, LIMIT)
            .await
            .err()
            .expect("a failure");
        assert_eq!(error.to_string(), "on_init of `d` failed: it rains");
        components.ready(LIMIT).await.expect("ready");
        components.active(LIMIT).await;
        components.drain(LIMIT, Instant::now() + LIMIT).await;
        let order = "a on_init, b on_init, c on_init, d on_init, a on_ready, b on_ready, c on_ready, \
             a on_active, b on_active, c on_active, c on_drain, b on_drain, a on_drain";
        assert_eq!(log.lock().expect("no panic").join(", "), order);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hook_that_hangs_or_panics_has_failed() {
        struct Hangs;
        impl Lifecycle for Hangs {
            async fn on_init(&mut self) -> Result<(), BoxError> {
                std::future::pending().await
            }
        }
        struct Panics;
        impl Lifecycle for Panics {
            async fn on_init(&mut self) -> Result<(), BoxError> {
                panic!("at the {}", "disco")
            }
        }
        let components = Components::new(Arc::new(Record::new(1)));
        let error = components
            .attach(Hangs, LIMIT)
            .await
            .err()
            .expect("a failure");
        assert_eq!(
            error.to_string(),
            "on_init of `Hangs` did not end within 1s"
        );
        let error = components
            .attach(Panics, LIMIT)
            .await
            .err()
            .expect("a failure");
        assert_eq!(
            error.to_string(),
            "on_init of `Panics` panicked: at the disco"
        );
    }
}
