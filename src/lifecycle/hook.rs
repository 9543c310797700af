//! The hooks of a component: what the user implements.

use std::borrow::Cow;
use std::future::{Future, ready};

use tokio::time::Instant;

/// What a hook fails with. Any error converts into it with `?`.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A part of a service that has to be initialised before it serves and let go when it drains: a
/// pool, a cache, a scheduler, a leader lock.
///
/// [`Context::attach`](crate::Context::attach) takes a component, runs its [`on_init`](Self::on_init)
/// there and then and returns an `Arc` of it. The other hooks run by themselves, in the order of
/// attachment, and [`on_drain`](Self::on_drain) in reverse. Every hook has a time limit
/// ([`Builder::hook_timeout`](crate::Builder::hook_timeout)); a panic counts as a failure of the
/// hook. The first generation gets all hooks, too.
///
/// | hook | when | may it fail? |
/// |---|---|---|
/// | `on_init` | before ready; the incumbent still serves. Take what can be shared | yes: this generation ends, the incumbent serves on |
/// | `on_ready` | everything is initialised; the last gate before the predecessor is told to go. Warm up, test yourself | yes: the same |
/// | `on_active` | the predecessor has let go: this generation alone is responsible. Take what is exclusive (a lock, a schedule) | it is reported |
/// | `on_drain` | this generation takes nothing new. Let go of what is exclusive, flush, say goodbye; connections go on draining after it | it is reported |
///
/// # Examples
///
/// ```
/// use handover::{BoxError, Lifecycle};
///
/// struct Cache {
///     entries: Vec<String>,
/// }
///
/// impl Lifecycle for Cache {
///     async fn on_init(&mut self) -> Result<(), BoxError> {
///         self.entries = std::fs::read_to_string("cache.txt")?.lines().map(str::to_owned).collect();
///         Ok(())
///     }
/// }
/// ```
pub trait Lifecycle: Send + Sync + 'static {
    /// The name of the component in logs and errors; the short name of its type by default.
    fn name(&self) -> Cow<'_, str> {
        let name = std::any::type_name::<Self>();
        let path = name.split('<').next().unwrap_or(name);
        Cow::Borrowed(path.rsplit("::").next().unwrap_or(path))
    }

    /// Initialises the component, while the incumbent still serves.
    fn on_init(&mut self) -> impl Future<Output = Result<(), BoxError>> + Send {
        ready(Ok(()))
    }

    /// Checks that the component can serve: the last moment at which nothing has happened yet.
    fn on_ready(&self) -> impl Future<Output = Result<(), BoxError>> + Send {
        ready(Ok(()))
    }

    /// Takes what only one generation may hold.
    fn on_active(&self) -> impl Future<Output = Result<(), BoxError>> + Send {
        ready(Ok(()))
    }

    /// Lets go of what only one generation may hold. Connections are ended at `deadline`.
    fn on_drain(&self, deadline: Instant) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = deadline;
        ready(Ok(()))
    }
}
