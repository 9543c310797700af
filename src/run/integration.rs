//! What connects a service with the world outside: a service manager, an operator, a collector of
//! metrics.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};

use super::shared::Shared;
use crate::error::Error;

/// An integration of floor 6, as the floors below see it.
///
/// What happens is not told here: an integration watches [`Shared::record`]. These are the moments at
/// which something has to wait for it.
pub(crate) trait Integration: fmt::Debug + Send + Sync {
    /// Starts it, on the runtime and before main begins. An error is one of the initialisation.
    fn start(self: Arc<Self>, shared: Arc<Shared>) -> BoxFuture<'static, Result<(), Error>>;

    /// Whether a successor has to be adopted by whoever has started the service, before that one is
    /// told of it. A successor asks this of itself, before there are threads.
    fn adopts(&self) -> bool {
        false
    }

    /// The successor serves for good, and this generation drains. The successor is not told
    /// `Released` before this has resolved or has met the limit of a hook.
    fn pass_on(&self, _successor: u32) -> BoxFuture<'_, ()> {
        futures::future::ready(()).boxed()
    }

    /// Serves a client that another generation has passed on, or gives it back.
    fn take_client(&self, client: Client) -> Option<Client> {
        Some(client)
    }

    /// The end of this generation has been recorded: says what is left to be said. The process does
    /// not wait for it for long.
    fn finish(&self) -> BoxFuture<'_, ()> {
        futures::future::ready(()).boxed()
    }
}

/// Somebody at the other end of a socket, and where they stand.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
    /// What only the integration understands.
    pub(crate) state: String,
}

/// Those that the program has asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Integrations(Vec<Arc<dyn Integration>>);

impl Integrations {
    pub(crate) fn add(&mut self, integration: impl Integration + 'static) {
        self.0.push(Arc::new(integration));
    }

    /// Whether nobody outside can ask for what happens here, or in other generations.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn adopt(&self) -> bool {
        self.0.iter().any(|integration| integration.adopts())
    }

    /// Starts them in turn; the first error ends it.
    pub(crate) async fn start(&self, shared: &Arc<Shared>) -> Result<(), Error> {
        for integration in &self.0 {
            Arc::clone(integration).start(Arc::clone(shared)).await?;
        }
        Ok(())
    }

    pub(crate) async fn pass_on(&self, successor: u32) {
        join_all(
            self.0
                .iter()
                .map(|integration| integration.pass_on(successor)),
        )
        .await;
    }

    /// Gives a client to whoever serves it. The end of one that nobody serves is told to it by its
    /// socket.
    pub(crate) fn take_client(&self, client: Client) {
        let mut client = Some(client);
        for integration in &self.0 {
            client = client.and_then(|client| integration.take_client(client));
        }
    }

    pub(crate) async fn finish(&self) {
        join_all(self.0.iter().map(|integration| integration.finish())).await;
    }
}
