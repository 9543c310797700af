//! What an endpoint asks of its socket.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

/// The options of an endpoint; what is `None` is left to the kernel, or to the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Options {
    pub(crate) backlog: Option<u32>,
    pub(crate) reuse_port: Option<bool>,
    pub(crate) only_v6: Option<bool>,
    pub(crate) mode: Option<u32>,
    pub(crate) owner: Option<(u32, u32)>,
    /// Applied to accepted connections.
    pub(crate) keep_alive: Option<Duration>,
    /// Applied to accepted connections.
    pub(crate) no_delay: Option<bool>,
    pub(crate) configure: Option<Configure>,
}

/// The user's own way to set options: run on a fresh socket before it is bound.
#[derive(Clone)]
pub(crate) struct Configure(Arc<Closure>);

type Closure = dyn Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync;

impl Configure {
    pub(super) fn new(
        closure: impl Fn(BorrowedFd<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(closure))
    }

    pub(super) fn apply(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        (self.0)(socket)
    }
}

/// A closure shows nothing of itself.
impl fmt::Debug for Configure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closure")
    }
}

/// Two closures are equal if they are one and the same: clones of one endpoint.
impl PartialEq for Configure {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Configure {}

impl std::hash::Hash for Configure {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).cast::<()>().hash(state);
    }
}
