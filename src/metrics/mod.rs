//! What a generation measures of itself, told to the recorder that the program installs.
//!
//! Floor 6. Connections are counted where they are, on the floors below; from there their counts
//! come here when something has happened, and under traffic once a second: nothing runs on the way
//! of a connection, and nothing at all while nothing happens. `docs/metrics.md` has every metric.

mod catalogue;
mod publisher;
mod watched;

use std::sync::{Arc, OnceLock};

use futures::FutureExt;
use futures::future::BoxFuture;

use self::publisher::Publisher;
use crate::builder::Builder;
use crate::error::Error;
use crate::lifecycle::own;
use crate::run::{Integration, Shared};

impl Builder {
    /// Tells the recorder of the [`metrics`](https://docs.rs/metrics) facade what happens: generation
    /// and phase, handovers and how long they took, connections by endpoint.
    ///
    /// The recorder is the program's: install it in main, before
    /// [`ready`](crate::Context::ready). Counters go on where those of the predecessor stand, so that
    /// they are those of the service and not of a process; `docs/metrics.md` has all of them. An
    /// exporter should be served by a [`Listener`](crate::Listener), not by a socket that it binds
    /// itself, for which two generations would fight.
    #[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
    pub fn metrics(self) -> Self {
        self.integrate(Metrics::default())
    }
}

/// The integration.
#[derive(Debug, Default)]
struct Metrics {
    publisher: OnceLock<Arc<Publisher>>,
}

impl Integration for Metrics {
    fn start(self: Arc<Self>, shared: Arc<Shared>) -> BoxFuture<'static, Result<(), Error>> {
        let publisher = Arc::new(Publisher::new(shared));
        own::spawn(Arc::clone(&publisher).run());
        // It is started once.
        self.publisher.set(publisher).ok();
        futures::future::ready(Ok(())).boxed()
    }

    fn finish(&self) -> BoxFuture<'_, ()> {
        if let Some(publisher) = self.publisher.get() {
            publisher.publish();
        }
        futures::future::ready(()).boxed()
    }
}
