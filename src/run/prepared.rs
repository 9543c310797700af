//! From what was inherited to a running generation.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::process::{ExitCode, Termination};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use nix::sys::signal::{SigSet, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::assisted::Assisted;
use super::drain::FOREVER;
use super::early::Early;
use super::engine::{Course, End, Engine, Origin};
use super::input::{Input, MainEnd};
use super::shared::Shared;
use super::start::Inheritance;
use crate::builder::Options;
use crate::context::{Context, Predecessor};
use crate::error::Error;
use crate::lifecycle::component::panic_message;
use crate::lifecycle::event::{Event, What};
use crate::lifecycle::own;
use crate::lifecycle::task::Tasks;
use crate::lifecycle::token::Token;
use crate::lifecycle::tracker::Tracker;
use crate::net::gate::State;
use crate::protocol::{Failed, Stage};
use crate::socket::{Store, identify, is_kept, restore};
use crate::sys::inherited::{Inherited, Start};
use crate::sys::log;
use crate::sys::signals::{self, Handlers};
use crate::sys::split::split;
use crate::sys::watch::watch;
use crate::sys::{process, room};

/// A service that has taken over what its process inherited, and has not started yet; see
/// [`Builder::prepare`](crate::Builder::prepare).
#[must_use = "the predecessor waits until it is run or dropped"]
pub struct Prepared {
    options: Options,
    start: Start,
    store: Store,
    inheritance: Option<Inheritance>,
    handlers: Handlers,
    /// The mask of the service's threads.
    mask: SigSet,
    /// The names under which descriptors were kept while the service was down.
    kept: Vec<String>,
    early: Early,
    /// What was seen before there was a record, at times since boot.
    seen: [(Duration, What); 2],
}

impl Prepared {
    pub(crate) fn new(options: Options) -> Result<Self, Error> {
        let executed = (process::uptime(), What::Executed {});
        let early = Early::new();
        room::reserve(0);
        let Inherited {
            channel,
            activated,
            start,
        } = Inherited::take()
            .map_err(|error| Error::io("could not take what was inherited", error))?;
        if channel.is_some() && options.integrations.adopt() {
            if let Err(error) = split() {
                early.tell(move || {
                    log::warn!(%error, "the service manager cannot adopt this generation");
                });
            }
        }
        let triggers: SigSet = triggers(&options)
            .filter(|&signal| !signals::is_ignored(signal))
            .collect();
        let ends = |signal| {
            let mut stops = options.stop_signals.iter();
            let is_stop = stops.any(|stop| stop.to_nix() == signal);
            is_stop.then(|| options.longest_stop())
        };
        let handlers = Handlers::install(&triggers, ends)
            .map_err(|error| Error::io("could not install signal handlers", error))?;

        let mut sockets = activated.len();
        let store = Store::new();
        let (mut kept, mut restored) = (Vec::new(), Vec::new());
        for (descriptor, name) in activated {
            match name {
                Some(name) if is_kept(&name) => {
                    kept.push(name.clone());
                    restored.push((descriptor, name));
                }
                name => store.insert_inherited(identify(name, descriptor)?),
            }
        }
        let (restored, problems) = restore(restored);
        for problem in problems {
            early.tell(move || log::warn!("what was kept is of no use any more: {problem}"));
        }
        for inherited in restored {
            store.insert_inherited(inherited);
        }
        let inherited_mask =
            signals::blocked().map_err(|error| Error::io("could not read the mask", error))?;
        let (mut inheritance, mut mask) = (None, inherited_mask);
        if let Some(channel) = channel {
            let received = Inheritance::receive(channel, &store, !options.integrations.is_empty())?;
            match &received.offer {
                Some(offered) => {
                    sockets += offered.offer.sockets as usize;
                    mask = offered.mask(&inherited_mask);
                }
                None => triggers
                    .iter()
                    .chain(DEFAULT_TRIGGERS)
                    .for_each(|signal| mask.remove(signal)),
            }
            signals::set_blocked(&mask)
                .map_err(|error| Error::io("could not restore the mask", error))?;
            inheritance = Some(received);
        }
        let adopted = (process::uptime(), What::Adopted { sockets });
        Ok(Self {
            options,
            start,
            store,
            inheritance,
            handlers,
            mask,
            kept,
            early,
            seen: [executed, adopted],
        })
    }

    /// Runs the service on the current runtime, until it has drained.
    ///
    /// Where this future is not alone on its runtime, ending what else runs there is up to the
    /// program; see [`Builder::run`](crate::Builder::run) for the exit codes.
    ///
    /// # Panics
    ///
    /// When `main` panics, after what is left has been drained; and when it is not called on a
    /// Tokio runtime with I/O and time enabled.
    ///
    /// # Cancel safety
    ///
    /// A dropped future ends the service without a drain.
    pub async fn run<M, F>(self, main: M) -> ExitCode
    where
        M: FnOnce(Context) -> F,
        F: Future<Output: Termination>,
    {
        let deadline_exit_code = self.options.deadline_exit_code;
        let (queue, inputs) = mpsc::unbounded_channel();
        let end_main = Token::new();
        let (shared, engine, handlers) = match self.assemble(queue, end_main.clone()) {
            Ok(parts) => parts,
            Err(error) => return Err::<(), _>(error).report(),
        };
        let engine = Assisted::new(engine.run(inputs));
        shared.assist(engine.assistant());
        let engine = own::spawn(engine);

        let context = Context::new(Arc::clone(&shared));
        let main = async {
            if let Err(error) = shared.options.integrations.start(&shared).await {
                shared.note(Failed::new(Stage::Init, None, &error));
                return Err::<(), _>(error).report();
            }
            main(context).await.report()
        };
        let main = AssertUnwindSafe(main).catch_unwind();
        let mut main = Box::pin(main);
        let watch_over = watch_over(engine, &shared, &handlers, &end_main);
        let mut watch_over = std::pin::pin!(watch_over.fuse());
        let mut early = None;
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut main => break Some(ended),
                () = end_main.cancelled() => break None,
                end = &mut watch_over, if early.is_none() => early = Some(end),
            }
        };
        drop(main);
        let (how, mut outcome) = match ended {
            Some(Ok(code)) => (
                MainEnd::Returned {
                    success: code == ExitCode::SUCCESS,
                },
                Outcome::Returned(code),
            ),
            Some(Err(panic)) => (
                MainEnd::Panicked(panic_message(&*panic)),
                Outcome::Panicked(panic),
            ),
            None => (MainEnd::Dropped, Outcome::Dropped),
        };
        // The lifecycle task outlives main, unless it has failed; then nothing is left to wait for.
        // Asked beforehand: once it has heard of main's end it may have ended before this looks.
        let has_failed = shared.queue.is_closed();
        shared.send(Input::MainEnded(how));
        let end = match early {
            Some(end) => end,
            None if has_failed => End {
                cut: false,
                failed: true,
            },
            None => watch_over.await,
        };
        if end.cut && deadline_exit_code != 0 && !matches!(outcome, Outcome::Panicked(_)) {
            outcome = Outcome::Returned(ExitCode::from(deadline_exit_code));
        }
        match outcome {
            Outcome::Returned(code) => code,
            Outcome::Dropped if end.failed => ExitCode::FAILURE,
            Outcome::Dropped => ExitCode::SUCCESS,
            Outcome::Panicked(panic) => resume_unwind(panic),
        }
    }

    fn assemble(
        self,
        queue: mpsc::UnboundedSender<Input>,
        end_main: Token,
    ) -> Result<(Arc<Shared>, Engine, Arc<Watched>), Error> {
        let explain = |error| Error::io("could not watch what was inherited", error);
        let quiet = Arc::new(Notify::new());
        let tracker = Arc::new(Tracker::new(Arc::clone(&quiet)));
        let tasks = Arc::new(Tasks::new(Arc::clone(&quiet)));
        let offer = self
            .inheritance
            .as_ref()
            .and_then(|inheritance| inheritance.offer.as_ref());
        let predecessor = offer.map(|offered| Predecessor {
            pid: offered.offer.pid as u32,
            generation: offered.offer.generation.saturating_sub(1),
            released: Token::new(),
            exited: Token::new(),
        });
        let generation = offer.map_or(1, |offered| offered.offer.generation);
        let blocked = triggers(&self.options).chain(DEFAULT_TRIGGERS).collect();
        let origin = Origin {
            start: self.start,
            mask: self.mask,
            blocked,
        };
        let mut shared = Shared::new(
            self.options,
            (generation, self.seen[0].0),
            predecessor,
            self.store,
            queue,
            (tracker, tasks),
        );
        shared.kept = self.kept;
        shared.early = self.early;
        let shared = Arc::new(shared);
        for (time, what) in self.seen {
            shared.record.insert(Event::at(time, generation, what));
        }
        let predecessor = shared.predecessor.as_ref().map(|p| p.pid);
        shared.record.note(What::Initialising { predecessor });
        let handlers = Arc::new(Watched::new(self.handlers).map_err(explain)?);
        let engine = Engine::new(
            Arc::clone(&shared),
            self.inheritance,
            origin,
            end_main,
            quiet,
        )
        .map_err(explain)?;
        own::spawn(tell_signals(Arc::clone(&handlers), Arc::clone(&shared)));
        Ok((shared, engine, handlers))
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("is_successor", &self.inheritance.is_some())
            .finish_non_exhaustive()
    }
}

/// What becomes the exit code.
enum Outcome {
    Returned(ExitCode),
    Dropped,
    Panicked(Box<dyn Any + Send>),
}

/// The signal handlers on the runtime.
#[derive(Debug)]
struct Watched {
    handlers: Handlers,
    wake: AsyncFd<UnixStream>,
}

impl Watched {
    fn new(handlers: Handlers) -> io::Result<Self> {
        let wake = watch(handlers.wake()?, Interest::READABLE)?;
        Ok(Self { handlers, wake })
    }

    /// The next signals.
    async fn next(&self) -> io::Result<Vec<Signal>> {
        self.wake
            .async_io(Interest::READABLE, |_| match self.handlers.take() {
                signals if signals.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
                signals => Ok(signals),
            })
            .await
    }
}

async fn tell_signals(handlers: Arc<Watched>, shared: Arc<Shared>) {
    while !shared.queue.is_closed() {
        tokio::select! {
            signals = handlers.next() => match signals {
                Ok(signals) => signals.into_iter().for_each(|s| shared.send(Input::Signal(s))),
                Err(error) => return log::error!(%error, "signals cannot be received"),
            },
            () = shared.queue.closed() => {}
        }
    }
}

/// Waits for the lifecycle task, and does the least that a service has to do if that one dies of an
/// error of its own: it goes on serving and obeys the stop signals.
async fn watch_over(
    engine: tokio::task::JoinHandle<Course>,
    shared: &Shared,
    handlers: &Watched,
    end_main: &Token,
) -> End {
    let error = match engine.await {
        Ok(Course::Over(end)) => return end,
        Ok(Course::AwaitsMain(rest)) => return rest.run().await,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => panic_message(&*panic),
            Err(error) => error.to_string(),
        },
    };
    log::error!(
        error,
        "the lifecycle task has failed: this process obeys stop signals only"
    );
    shared.resolve(Err("the lifecycle task has failed".to_owned()));
    let is_stop = |signal: &Signal| {
        shared
            .options
            .stop_signals
            .iter()
            .any(|stop| stop.to_nix() == *signal)
    };
    while !matches!(handlers.next().await, Ok(signals) if signals.iter().any(is_stop)) {}
    shared.set_gates(State::Emptying);
    shared.tokens.stopping.cancel();
    let deadline = Instant::now() + shared.options.stop_timeout().min(FOREVER);
    shared.tracker.drain();
    shared.tokens.drain(deadline);
    tokio::time::sleep_until(deadline).await;
    shared.tokens.aborting.cancel();
    shared.tracker.abort();
    end_main.cancel();
    End {
        cut: true,
        failed: true,
    }
}

fn triggers(options: &Options) -> impl Iterator<Item = Signal> + '_ {
    options
        .handover_signals
        .iter()
        .chain(&options.stop_signals)
        .map(|&signal| signal.to_nix())
}

/// What another version of the program may have handlers for.
const DEFAULT_TRIGGERS: [Signal; 4] = [
    Signal::SIGHUP,
    Signal::SIGUSR2,
    Signal::SIGTERM,
    Signal::SIGINT,
];
