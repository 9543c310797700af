//! What a service's main has in its hand.

use std::fmt;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::Error;
use crate::lifecycle::component::{Hook, HookError};
use crate::lifecycle::hook::Lifecycle;
use crate::lifecycle::phase::Phase;
use crate::lifecycle::task;
use crate::lifecycle::token::Token;
use crate::lifecycle::tokens::Tokens;
use crate::lifecycle::until_draining::UntilDraining;
use crate::net::datagram::{UdpSocket, UnixDatagram};
use crate::net::listener::Listener;
use crate::protocol::{Failed, Stage};
use crate::run::{Input, Shared};
use crate::socket::Endpoint;
use crate::sys::log;

/// The handle on the life of this generation. Cheap to clone; all clones are equal.
///
/// # Examples
///
/// ```no_run
/// use handover::{Context, Error};
///
/// async fn serve(cx: Context) -> Result<(), Error> {
///     let mut listener = cx.bind("127.0.0.1:8080").await?;
///     cx.ready().await?;
///     // From here on this generation serves.
///     while let Ok(Some(conn)) = listener.accept().await {
///         cx.spawn("session", async move { drop(conn) });
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Context {
    shared: Arc<Shared>,
}

/// The generation before this one.
#[derive(Debug, Clone)]
pub struct Predecessor {
    pub(crate) pid: u32,
    pub(crate) generation: u32,
    pub(crate) released: Token,
    pub(crate) exited: Token,
}

/// The generation that has taken over from this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Successor {
    /// Its process ID.
    pub pid: u32,
    /// Its number along the chain of handovers.
    pub generation: u32,
    /// The time from the trigger until it served and had settled.
    pub elapsed: Duration,
}

impl Context {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Adopts the stream endpoint from the predecessor or from systemd, or binds it.
    ///
    /// One listener may have several sockets behind it: a host name is bound on all its addresses.
    /// Nothing is accepted before this generation serves.
    ///
    /// # Errors
    ///
    /// When the endpoint cannot be parsed, resolved, adopted or bound; the message names it.
    ///
    /// # Cancel safety
    ///
    /// A socket that was bound by a dropped future stays bound and is adopted by the next call.
    pub async fn bind<E>(&self, endpoint: E) -> Result<Listener, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        self.shared.announce();
        let endpoint = endpoint.try_into()?;
        let opened = self.noted(self.shared.open_stream(endpoint).await)?;
        Ok(opened)
    }

    /// Adopts or binds a UDP socket.
    ///
    /// Two processes that read one socket would steal each other's datagrams, so this generation
    /// receives nothing before the commit, and the predecessor nothing after it.
    ///
    /// # Errors
    ///
    /// As for [`bind`](Self::bind).
    pub async fn bind_udp<E>(&self, endpoint: E) -> Result<UdpSocket, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        self.shared.announce();
        let endpoint = endpoint.try_into()?;
        self.noted(self.shared.open_udp(endpoint).await)
    }

    /// Adopts or binds a Unix datagram socket; see [`bind_udp`](Self::bind_udp).
    ///
    /// # Errors
    ///
    /// As for [`bind`](Self::bind).
    pub async fn bind_unix_datagram<E>(&self, endpoint: E) -> Result<UnixDatagram, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        self.shared.announce();
        let endpoint = endpoint.try_into()?;
        self.noted(self.shared.open_unix_datagram(endpoint).await)
    }

    /// Takes a copy of a descriptor that the predecessor has lent under this name, or that systemd
    /// has passed under it: a file, a pipe, a memfd, a connected socket.
    ///
    /// It goes on being lent to the generations after this one.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be copied.
    pub fn take(&self, name: &str) -> Result<Option<OwnedFd>, Error> {
        self.shared.announce();
        self.shared.take(name)
    }

    /// Lends a descriptor to the generations after this one, which [`take`](Self::take) it.
    ///
    /// # Errors
    ///
    /// When the name is taken.
    pub fn lend(&self, name: &str, descriptor: impl Into<OwnedFd>) -> Result<(), Error> {
        self.shared.announce();
        self.shared.lend(name, descriptor.into())
    }

    /// Attaches a component: runs its [`on_init`](Lifecycle::on_init) here and now, and its other
    /// hooks by themselves when their time has come.
    ///
    /// # Errors
    ///
    /// When the hook fails, panics, or does not end within its limit. Components that were
    /// attached before are drained when main ends because of it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the component is dropped with it.
    pub async fn attach<L: Lifecycle>(&self, component: L) -> Result<Arc<L>, Error> {
        self.shared.announce();
        let limit = self.shared.options.hook_timeout;
        let attached = self.shared.components.attach(component, limit).await;
        attached.map_err(|error| self.hook_failed(Stage::Init, error))
    }

    /// Says that this generation is ready, and resolves when it serves.
    ///
    /// It runs [`on_ready`](Lifecycle::on_ready) of every component, tells the predecessor, and
    /// waits for the commit. All clones may call it; the first counts, and all resolve together.
    ///
    /// The thread that calls it first may stand still for a millisecond, in which the predecessor
    /// usually answers; from then on it is awaited.
    ///
    /// # Errors
    ///
    /// Only if this generation will not serve: a hook failed, the handover was called off, or the
    /// service was stopped. Never once it serves.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe, except that hooks which have not ended run again.
    pub async fn ready(&self) -> Result<(), Error> {
        self.shared.announce();
        let mut called = self.shared.ready_called.lock().await;
        if !*called {
            let limit = self.shared.options.hook_timeout;
            if let Err(error) = self.shared.components.ready(limit).await {
                return Err(self.hook_failed(Stage::Ready, error));
            }
            *called = true;
            self.shared.send(Input::Ready);
            self.shared.hasten();
        }
        drop(called);
        self.shared.resolved().await.map_err(Error::not_serving)
    }

    /// Spawns a task that the drain waits for. At the deadline it is dropped; its handle gives
    /// `None` then.
    ///
    /// The name tells an operator what a drain waits for.
    pub fn spawn<F>(&self, name: &str, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.shared
            .tasks
            .spawn(name, &self.shared.tokens.aborting, future)
    }

    /// Spawns a task that is dropped when the drain starts: the loop that nobody remembers to
    /// stop. Its handle gives `None` then.
    pub fn background<F>(&self, name: &str, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        log::debug!(task = name, "background task starts");
        task::background(&self.shared.tokens.draining, future)
    }

    /// The stop of the service: nobody will serve after this generation.
    ///
    /// It comes before the drain, by the [lame-duck time](crate::Builder::lame_duck) if there is
    /// one. After a handover it does not come at all.
    #[must_use]
    pub fn stopping(&self) -> Token {
        self.shared.tokens.stopping.clone()
    }

    /// Whether the service stops: then a drain is its end, and otherwise there is a successor.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shared.tokens.stopping.is_cancelled()
    }

    /// The start of the drain: finish what is there, take nothing new.
    #[must_use]
    pub fn draining(&self) -> Token {
        self.shared.tokens.draining.clone()
    }

    /// The end of the drain: the deadline, or a second stop. What is still there is cut.
    #[must_use]
    pub fn aborting(&self) -> Token {
        self.shared.tokens.aborting.clone()
    }

    /// Ends `stream` when the drain starts, so that a response that would be endless, such as
    /// server-sent events, is complete and the client asks again, the successor this time.
    ///
    /// What is ready at that moment still comes.
    /// [`spread`](UntilDraining::spread) keeps the clients from returning all at once.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use futures::{Stream, stream};
    /// # use handover::Context;
    /// fn ticks(cx: &Context) -> impl Stream<Item = String> + use<> {
    ///     let ticks = stream::unfold(0, |count| async move {
    ///         tokio::time::sleep(Duration::from_secs(1)).await;
    ///         Some((format!("tick {count}"), count + 1))
    ///     });
    ///     cx.until_draining(ticks).spread(Duration::from_secs(5))
    /// }
    /// ```
    pub fn until_draining<S: Stream>(&self, stream: S) -> UntilDraining<S> {
        UntilDraining::new(stream, self.tokens().clone())
    }

    /// The number of this generation along the chain of handovers, from 1.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.shared.generation
    }

    /// Where this generation is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.shared.phase()
    }

    /// The generation before this one, if there was one.
    #[must_use]
    pub fn predecessor(&self) -> Option<Predecessor> {
        self.shared.predecessor.clone()
    }

    /// Hands the service over to a new process, and resolves when that one serves.
    ///
    /// # Errors
    ///
    /// When the handover is refused, fails, or is called off; this generation serves on then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before the commit, the successor is ended and this generation
    /// serves on; after the commit the handover is finished.
    pub async fn handover(&self) -> Result<Successor, Error> {
        let (reply, answer) = oneshot::channel();
        let asker = self.shared.next_asker();
        self.shared.send(Input::Trigger {
            asker,
            reply: Some(reply),
            changes: None,
        });
        let guard = AskerGuard {
            shared: &self.shared,
            asker,
        };
        let answer = answer.await;
        drop(guard);
        answer.unwrap_or_else(|_| Err(Error::engine()))
    }

    /// Stops the service after a drain, as a stop signal does.
    ///
    /// With a [lame-duck time](crate::Builder::lame_duck) the drain begins after that time, or with
    /// a second stop.
    pub fn stop(&self) {
        self.shared.send(Input::Stop { by: "the program" });
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.shared.tokens
    }

    fn hook_failed(&self, stage: Stage, error: HookError) -> Error {
        self.shared
            .note(Failed::new(stage, Some(error.component.clone()), &error));
        if error.hook == Hook::Ready {
            self.shared.send(Input::NotReady);
        }
        Error::from(error)
    }

    /// Remembers an error of the initialisation, so that the operator is told if main ends by it.
    fn noted<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result {
            self.shared.note(Failed::new(Stage::Init, None, error));
        }
        result
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("generation", &self.generation())
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

impl Predecessor {
    /// Its process ID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its number along the chain of handovers.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Waits until it has let go of what is exclusive, or has died.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn released(&self) {
        self.released.cancelled().await;
    }

    /// Waits until its process has ended.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn exited(&self) {
        self.exited.cancelled().await;
    }
}

/// Tells the lifecycle that nobody waits for the answer any more.
struct AskerGuard<'a> {
    shared: &'a Shared,
    asker: u64,
}

impl Drop for AskerGuard<'_> {
    fn drop(&mut self) {
        self.shared.send(Input::AskerGone { asker: self.asker });
    }
}
