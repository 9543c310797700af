//! A neighbouring generation at the other end of a channel.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::batch::Batch;
use super::input::FromPeer;
use crate::lifecycle::link::{Link, Received};
use crate::lifecycle::own;
use crate::socket::Socket;
use crate::sys::channel::{Channel, Record};
use crate::sys::log;
use crate::sys::watch::watch;

/// The channel to a neighbour: a queue in front of it keeps the order of what is sent. What finds
/// the queue empty and room in the channel goes at once.
#[derive(Debug)]
pub(crate) struct Peer(Sender);

/// Sends to a neighbour, for whoever has something to say.
#[derive(Debug, Clone)]
pub(crate) struct Sender(Arc<Outbox>);

struct Outbox {
    link: Arc<Link>,
    runtime: Handle,
    /// The queue, once something had to wait.
    queue: OnceLock<mpsc::UnboundedSender<Outgoing>>,
    /// How much is in the queue or on its way.
    queued: Arc<AtomicUsize>,
    /// Called when something cannot be sent.
    failed: Arc<dyn Fn(io::Error) + Send + Sync>,
}

/// What waits to be sent.
enum Outgoing {
    /// A letter, and what is done where it cannot be sent.
    Letter(Letter, Option<Box<dyn FnOnce() + Send>>),
    /// Done when everything before it was sent, or has failed.
    Then(Box<dyn FnOnce() + Send>),
}

/// A record, and what rides along with it.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) record: Vec<u8>,
    pub(crate) descriptors: Vec<Lent>,
}

/// Something whose descriptors ride along with a record.
#[derive(Debug, Clone)]
pub(crate) enum Lent {
    Socket(Arc<Socket>),
    Other(Arc<OwnedFd>),
    Batch(Arc<Batch>),
}

impl Peer {
    /// Puts a channel on the runtime. `failed` is called when something cannot be sent.
    pub(crate) fn new(
        channel: Channel,
        failed: impl Fn(io::Error) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Ok(Self(Sender(Arc::new(Outbox {
            link: Arc::new(Link::new(channel)?),
            runtime: Handle::current(),
            queue: OnceLock::new(),
            queued: Arc::default(),
            failed: Arc::new(failed),
        }))))
    }

    /// See [`Sender::send`].
    pub(crate) fn send(&self, letter: Letter) {
        self.0.send(letter);
    }

    /// Sends for somebody else.
    pub(crate) fn sender(&self) -> Sender {
        self.0.clone()
    }

    /// Sends a record, or queues it; `lost` is called where it cannot be sent.
    pub(crate) fn send_registered(&self, letter: Letter, lost: impl FnOnce() + Send + 'static) {
        if !self.0.goes_at_once(&letter) {
            self.0.queue(Outgoing::Letter(letter, Some(Box::new(lost))));
        }
    }

    /// Does something when all that was queued so far is sent, or has failed, and none of it is
    /// held here any more.
    pub(crate) fn then(&self, act: impl FnOnce() + Send + 'static) {
        match self.0.is_idle() {
            true => act(),
            false => self.0.queue(Outgoing::Then(Box::new(act))),
        }
    }

    /// The channel on the runtime.
    pub(crate) fn link(&self) -> Arc<Link> {
        Arc::clone(&self.0.0.link)
    }

    /// Waits until all that was queued so far is sent, or has failed.
    ///
    /// # Cancel safety
    ///
    /// Nothing that is queued is lost when the future is dropped.
    pub(crate) async fn flush(&self) {
        if self.0.is_idle() {
            return;
        }
        let (mark, reached) = oneshot::channel();
        self.then(move || {
            // Whoever asked may no longer wait.
            mark.send(()).ok();
        });
        // Without an answer there is nobody left who could send.
        reached.await.ok();
    }

    /// Reads nothing more: a later generation does.
    pub(crate) fn give_up(&self) {
        self.0.0.link.give_up();
    }

    /// Notes that the neighbour has taken descriptors.
    pub(crate) fn taken(&self) {
        self.0.0.link.taken();
    }

    /// The channel, to be lent to a later generation.
    pub(crate) fn channel(&self) -> &Channel {
        self.0.0.link.channel()
    }

    /// Reads what the neighbour says until its end, and tells its death after everything that it
    /// said before; and later, when no other generation can speak through its end either, that the
    /// channel is closed.
    ///
    /// Death is the word of the pidfd, because the end of the stream may be held open by a process
    /// that has inherited it; without a pidfd the end of the stream is its death, and with
    /// `closing_is_gone` in any case. When both have come it is told to be deserted.
    pub(crate) fn watch(
        &self,
        pidfd: Option<OwnedFd>,
        closing_is_gone: bool,
        tell: impl Fn(FromPeer) + Send + Sync + 'static,
    ) {
        let link = self.link();
        own::spawn(async move {
            let Some(pidfd) = pidfd.and_then(|fd| exit_of(fd).ok()) else {
                read(&link, &tell).await;
                tell(FromPeer::Gone("closed its channel".to_owned()));
                return tell(FromPeer::Deserted);
            };
            tokio::select! {
                biased;
                () = read(&link, &tell) => {
                    if closing_is_gone && !has_exited(&pidfd) {
                        tell(FromPeer::Gone("closed its channel".to_owned()));
                    }
                    exited(&pidfd).await;
                    tell(FromPeer::Gone(DIED.to_owned()));
                }
                () = exited(&pidfd) => {
                    // What it said before stands in the buffer still.
                    deliver(&link, &tell);
                    tell(FromPeer::Gone(DIED.to_owned()));
                    // A later generation may hold the same end, and speak through it.
                    read(&link, &tell).await;
                }
            }
            tell(FromPeer::Deserted);
        });
    }

    /// Reads what an older generation says, whose end is looked for elsewhere; `over` is called when
    /// nobody can say more.
    pub(crate) fn read(
        &self,
        tell: impl Fn(Record) + Send + Sync + 'static,
        over: impl FnOnce() + Send + 'static,
    ) {
        let link = self.link();
        own::spawn(async move {
            let tell = |from| match from {
                FromPeer::Record(record) => tell(record),
                FromPeer::Broken(error) => {
                    log::debug!(%error, "an older generation cannot be read")
                }
                FromPeer::Gone(_) | FromPeer::Deserted => {}
            };
            read(&link, &tell).await;
            over();
        });
    }
}

impl Sender {
    /// Sends a record, or queues it. A neighbour that has gone is noticed by its watch, not here.
    pub(crate) fn send(&self, letter: Letter) {
        if !self.goes_at_once(&letter) {
            self.queue(Outgoing::Letter(letter, None));
        }
    }

    /// Has a record sent by the task of the queue, and what comes after it.
    pub(crate) fn send_later(&self, letter: Letter) {
        self.queue(Outgoing::Letter(letter, None));
    }

    /// Whatever keeps a record from going is for the queue to wait for, or to report.
    fn goes_at_once(&self, letter: &Letter) -> bool {
        self.is_idle() && letter.post(self.0.link.channel()).is_ok()
    }

    /// Whether nothing is queued or on its way.
    fn is_idle(&self) -> bool {
        self.0.queued.load(Ordering::Acquire) == 0
    }

    fn queue(&self, outgoing: Outgoing) {
        self.0.queued.fetch_add(1, Ordering::Relaxed);
        self.0
            .queue
            .get_or_init(|| self.0.work())
            .send(outgoing)
            .ok();
    }
}

impl Outbox {
    /// Starts the task that sends what is queued.
    fn work(&self) -> mpsc::UnboundedSender<Outgoing> {
        let (sender, mut queue) = mpsc::unbounded_channel();
        let (link, left) = (Arc::clone(&self.link), Arc::clone(&self.queued));
        let failed = Arc::clone(&self.failed);
        let work = async move {
            while let Some(outgoing) = queue.recv().await {
                match outgoing {
                    Outgoing::Letter(letter, lost) => {
                        let sent = link.send(&letter.record, &letter.descriptors()).await;
                        // Whoever hears of its loss wants what was in it.
                        drop(letter);
                        if let Err(error) = sent {
                            failed(error);
                            if let Some(lost) = lost {
                                lost();
                            }
                        }
                    }
                    Outgoing::Then(act) => act(),
                }
                left.fetch_sub(1, Ordering::Release);
            }
        };
        own::spawn_on(work, &self.runtime);
        sender
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl Letter {
    /// A record that nothing rides along with.
    pub(crate) fn plain(record: Vec<u8>) -> Self {
        Self {
            record,
            descriptors: Vec::new(),
        }
    }

    /// Sends it now, if the channel has room.
    pub(crate) fn post(&self, channel: &Channel) -> io::Result<()> {
        channel.send(&self.record, &self.descriptors())
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.descriptors
            .iter()
            .flat_map(Lent::descriptors)
            .collect()
    }
}

impl Lent {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Socket(socket) => socket.descriptors().collect(),
            Self::Other(fd) => vec![fd.as_fd()],
            Self::Batch(batch) => batch.descriptors().collect(),
        }
    }
}

/// What is said of a neighbour whose process has ended.
pub(crate) const DIED: &str = "died";

/// Tells what has arrived already.
pub(crate) fn deliver(link: &Link, tell: &impl Fn(FromPeer)) {
    let tell = |record| tell(FromPeer::Record(record));
    while let Ok(Received::Record) = link.receive_now(tell) {}
}

/// Reads until the end of the stream.
async fn read(link: &Link, tell: &(impl Fn(FromPeer) + Send + Sync)) {
    loop {
        match link.receive(|record| tell(FromPeer::Record(record))).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return tell(FromPeer::Broken(error)),
        }
    }
}

/// A pidfd on the runtime.
pub(crate) fn exit_of(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    watch(pidfd, Interest::READABLE)
}

/// Waits until the process behind a pidfd has ended.
///
/// # Cancel safety
///
/// This function is cancel safe: a pidfd stays readable.
pub(crate) async fn exited(pidfd: &AsyncFd<OwnedFd>) {
    if let Err(error) = pidfd.readable().await {
        log::debug!(%error, "a process cannot be watched: the runtime ends");
        std::future::pending::<()>().await;
    }
}

fn has_exited(pidfd: &AsyncFd<OwnedFd>) -> bool {
    use futures::FutureExt;
    exited(pidfd).now_or_never().is_some()
}
