//! A handover under way, on the incumbent's side: the process of the successor and what belongs to
//! it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::mpsc::error::SendError;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::assisted::Finishing;
use super::input::{FromPeer, Input};
use super::peer::{DIED, Lent, Letter, Peer, deliver, exit_of, exited};
use super::program::Resolved;
use crate::lifecycle::forward::{Tail, forward};
use crate::lifecycle::own;
use crate::lifecycle::token::Token;
use crate::protocol::incumbent::Timer;
use crate::sys::channel::{Channel, MAX_DESCRIPTORS};
use crate::sys::log;
use crate::sys::pidfd;
use crate::sys::spawn::{Launch, Process, Spawn, describe};
use crate::sys::stdio;

/// The successor that is being started, or that has taken over.
#[derive(Debug)]
pub(crate) struct Handover {
    /// Counts the handovers that this generation has begun.
    pub(crate) number: u64,
    /// When it was triggered.
    pub(crate) since: Instant,
    /// This end of the channel, until there is somebody at the other.
    channel: Option<Channel>,
    /// The pipe that is the successor's standard error.
    pipe: Option<Arc<OwnedFd>>,
    /// What of the Offer had no room in the channel before there was anybody to read it.
    unsent: Unsent,
    successor: Option<Running>,
    timers: HashMap<Timer, AbortHandle>,
    queue: UnboundedSender<Input>,
}

/// A successor that was started.
#[derive(Debug)]
struct Running {
    process: Arc<Mutex<Process>>,
    peer: Peer,
    tail: Tail,
    /// Forwards its standard error.
    forwarding: Option<Finishing>,
}

/// What did not fit into the channel: written when the successor reads.
struct Unsent(Box<dyn Iterator<Item = Letter> + Send + Sync>);

impl Unsent {
    fn nothing() -> Self {
        Self(Box::new(std::iter::empty()))
    }
}

impl fmt::Debug for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsent").finish_non_exhaustive()
    }
}

impl Handover {
    pub(crate) fn new(number: u64, queue: UnboundedSender<Input>) -> Self {
        Self {
            number,
            since: Instant::now(),
            channel: None,
            pipe: None,
            unsent: Unsent::nothing(),
            successor: None,
            timers: HashMap::new(),
            queue,
        }
    }

    /// Starts a successor.
    ///
    /// The Offer lies in the channel when the program is executed: a successor whose predecessor dies
    /// at once finds all the same what it needs in order to serve. Only where there are hundreds of
    /// sockets they are sent while the program starts, by a thread that is none of the runtime's:
    /// those may all be taken by the service. With fewer, the calling thread stands still until the
    /// program is executed, some hundred microseconds, which a thread of its own would take as well
    /// to come to life and to end.
    ///
    /// # Errors
    ///
    /// When this process lacks what a start takes, or `offer` fails: nothing was started then.
    pub(crate) fn start<L>(
        &mut self,
        program: impl FnOnce() -> io::Result<Resolved>,
        blocked: SigSet,
        offer: impl FnOnce(Lent, &mut dyn FnMut(Letter, usize)) -> io::Result<L>,
    ) -> io::Result<()>
    where
        L: Iterator<Item = Letter> + Send + Sync + 'static,
    {
        let (channel, theirs) = Channel::pair()?;
        let (pipe, stderr) = stdio::pipe()?;
        let program = program()?;
        channel.set_nonblocking(true)?;
        let pipe = Arc::new(pipe);
        let (handover, queue) = (self.number, self.queue.clone());
        let work = move || {
            let launch = launch(&program, &blocked, theirs, stderr);
            let result = launch.and_then(Launch::start);
            let spawned = Input::Spawned { handover, result };
            if let Err(SendError(Input::Spawned {
                result: Ok(process),
                ..
            })) = queue.send(spawned)
            {
                abandon(process);
            }
        };
        let mut work = Some(work);
        let post = |letter: &Letter| letter.post(&channel).is_ok();
        let (mut kept, mut thread) = (None, Ok(()));
        let mut announce = |letter: Letter, sockets| {
            kept = (!post(&letter)).then_some(letter);
            if sockets > MAX_DESCRIPTORS {
                let builder = std::thread::Builder::new().name("handover-spawn".to_owned());
                thread = work
                    .take()
                    .map_or(Ok(()), |work| builder.spawn(work).map(drop));
            }
        };
        let letters = offer(Lent::Other(Arc::clone(&pipe)), &mut announce)?;
        thread?;
        let mut letters = kept.into_iter().chain(letters).peekable();
        while letters.next_if(post).is_some() {}
        if let Some(work) = work {
            work();
        }
        self.unsent = Unsent(Box::new(letters));
        self.channel = Some(channel);
        self.pipe = Some(pipe);
        Ok(())
    }

    /// Puts the started program on the runtime: its channel, its death, its standard error. It is
    /// ended where that fails: without its channel it would take this process for dead, and serve.
    pub(crate) fn run(&mut self, process: Process) -> io::Result<u32> {
        match self.watch(&process) {
            Ok((peer, tail, forwarding)) => {
                let pid = process.id();
                self.successor = Some(Running {
                    process: Arc::new(Mutex::new(process)),
                    peer,
                    tail,
                    forwarding: Some(forwarding),
                });
                Ok(pid)
            }
            Err(error) => {
                abandon(process);
                Err(error)
            }
        }
    }

    fn watch(&mut self, process: &Process) -> io::Result<(Peer, Tail, Finishing)> {
        let channel = self.channel.take().ok_or(io::ErrorKind::NotConnected)?;
        let pipe = self.pipe.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let copy = pipe.try_clone()?;
        let pidfd = process.pidfd().and_then(|fd| fd.try_clone_to_owned().ok());
        let (handover, queue) = (self.number, self.queue.clone());
        let tell = move |from| {
            queue.send(Input::Successor { handover, from }).ok();
        };
        let failed = {
            let tell = tell.clone();
            move |error: io::Error| match error.kind() {
                // Its end is the watch's to tell, after what it has said: a successor that does not
                // want to serve goes without having read everything.
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                    log::debug!(%error, "the successor does not listen");
                }
                _ => tell(FromPeer::Broken(error)),
            }
        };
        let peer = Peer::new(channel, failed)?;
        peer.watch(pidfd, true, tell);
        let tail = Tail::default();
        let kept = tail.clone();
        let forwarding = Finishing::spawn(|over| forward_and_report(copy, kept, over));
        Ok((peer, tail, forwarding))
    }

    /// Watches the successor itself where the process that was started is only its first half.
    pub(crate) fn accepted(&self, pid: u32) {
        let Some(running) = &self.successor else {
            return;
        };
        let second = lock(&running.process).has_split(pid);
        let Some(second) = second.and_then(|pidfd| exit_of(pidfd).ok()) else {
            return;
        };
        let (handover, queue) = (self.number, self.queue.clone());
        let link = running.peer.link();
        own::spawn(async move {
            exited(&second).await;
            let tell = |from| {
                queue.send(Input::Successor { handover, from }).ok();
            };
            deliver(&link, &tell);
            tell(FromPeer::Gone(DIED.to_owned()));
        });
    }

    /// Whether only the first half of the successor has died.
    pub(crate) fn lives_on(&self) -> bool {
        self.successor.as_ref().is_some_and(|running| {
            let process = lock(&running.process);
            process
                .second()
                .is_some_and(|second| !pidfd::has_ended(&second))
        })
    }

    /// Lets the successor be adopted by whoever adopts the orphans of this service.
    pub(crate) fn orphan(&self) {
        if let Some(running) = &self.successor {
            if let Err(error) = lock(&running.process).orphan() {
                log::warn!(%error, "the successor's first half cannot be ended");
            }
        }
    }

    pub(crate) fn peer(&self) -> Option<&Peer> {
        self.successor.as_ref().map(|running| &running.peer)
    }

    /// Sends what was left of the Offer.
    pub(crate) fn send_rest(&mut self) {
        if let Some(running) = &self.successor {
            self.unsent
                .0
                .by_ref()
                .for_each(|letter| running.peer.send(letter));
        }
    }

    pub(crate) fn start_timer(&mut self, timer: Timer, after: Duration) {
        let (handover, queue) = (self.number, self.queue.clone());
        let successor = self
            .successor
            .as_ref()
            .map(|running| (running.peer.link(), Arc::clone(&running.process)));
        let task = own::spawn(async move {
            tokio::time::sleep(after).await;
            // What the successor has said, or that it has died, is worth more than the time: after
            // a pause of this process both are there, and the timer comes first.
            if let Some((link, process)) = successor {
                let tell = |from| {
                    queue.send(Input::Successor { handover, from }).ok();
                };
                let ended = lock(&process).has_ended();
                deliver(&link, &tell);
                if let Ok(true) = ended {
                    tell(FromPeer::Gone(DIED.to_owned()));
                }
            }
            queue.send(Input::Elapsed { handover, timer }).ok();
        });
        if let Some(before) = self.timers.insert(timer, task.abort_handle()) {
            before.abort();
        }
    }

    pub(crate) fn stop_timer(&mut self, timer: Timer) {
        if let Some(task) = self.timers.remove(&timer) {
            task.abort();
        }
    }

    /// Ends the successor with its process group: asks, waits, kills, reaps; then reads what is
    /// left of its standard error and tells how it ended.
    pub(crate) fn end(&mut self) {
        let (handover, queue) = (self.number, self.queue.clone());
        let Some(running) = &mut self.successor else {
            queue
                .send(Input::SuccessorEnded {
                    handover,
                    how: "was never started".into(),
                })
                .ok();
            return;
        };
        let process = Arc::clone(&running.process);
        let forwarding = running.forwarding.take();
        own::spawn(async move {
            let how = end(&process).await;
            if let Some(forwarding) = forwarding {
                forwarded(forwarding).await;
            }
            queue.send(Input::SuccessorEnded { handover, how }).ok();
        });
    }

    /// Forwards what the successor had written before it had a standard error of its own. This
    /// process may end a moment after that, and nobody else has what it has read.
    pub(crate) async fn finish_forwarding(&mut self) {
        let running = self.successor.as_mut();
        if let Some(forwarding) = running.and_then(|running| running.forwarding.take()) {
            forwarded(forwarding).await;
        }
    }

    /// Kills the successor with its process group.
    pub(crate) fn kill(&self) {
        if let Some(running) = &self.successor {
            signal(&running.process, Signal::SIGKILL);
        }
    }

    /// How a successor has died that had taken over, if it is a child of this process still. It is
    /// not reaped: whoever adopts it after this process may want to know as well.
    pub(crate) fn end_of_successor(&self) -> Option<String> {
        let running = self.successor.as_ref()?;
        lock(&running.process).how_it_ended().ok().flatten()
    }

    /// The last lines of its standard error.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.successor
            .as_ref()
            .map(|running| running.tail.last_lines(LINES))
            .unwrap_or_default()
    }
}

fn launch<'a>(
    program: &'a Resolved,
    blocked: &'a SigSet,
    channel: Channel,
    stderr: OwnedFd,
) -> io::Result<Launch<'a>> {
    let spawn = Spawn {
        program: &program.program,
        arguments: &program.arguments,
        environment: &program.environment,
        directory: program.directory.as_deref(),
        blocked,
    };
    spawn.prepare(channel, stderr)
}

/// Ends a successor that nobody will hear of.
fn abandon(mut process: Process) {
    let ended = process
        .signal(Signal::SIGKILL)
        .and_then(|()| process.reap());
    if let Err(error) = ended {
        log::warn!(pid = process.id(), %error, "a successor cannot be ended");
    }
}

/// The group is signalled while its leader is unreaped, so that its number cannot have been given
/// to others.
async fn end(process: &Mutex<Process>) -> String {
    signal(process, Signal::SIGTERM);
    if tokio::time::timeout(TERM_GRACE, dead(process))
        .await
        .is_err()
    {
        log::debug!("the successor does not end and is killed");
        signal(process, Signal::SIGKILL);
        dead(process).await;
    }
    signal(process, Signal::SIGKILL);
    match lock(process).reap() {
        Ok(status) => describe(status),
        Err(error) => format!("ended, and its status is unknown: {error}"),
    }
}

/// Waits until the process has died.
async fn dead(process: &Mutex<Process>) {
    let pidfd = lock(process)
        .pidfd()
        .and_then(|fd| fd.as_fd().try_clone_to_owned().ok());
    if let Some(pidfd) = pidfd.and_then(|pidfd| exit_of(pidfd).ok()) {
        exited(&pidfd).await;
        // The first half may have been killed before the second.
        let second = lock(process)
            .second()
            .and_then(|fd| fd.try_clone_to_owned().ok());
        if let Some(second) = second.and_then(|pidfd| exit_of(pidfd).ok()) {
            exited(&second).await;
        }
        return;
    }
    // Where pidfds are forbidden: every end of a child is announced by a signal.
    let mut children = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child()).ok();
    loop {
        let ended = lock(process).has_ended();
        if !matches!(ended, Ok(false)) {
            return;
        }
        match &mut children {
            Some(children) => children.recv().await,
            None => return,
        };
    }
}

fn signal(process: &Mutex<Process>, signal: Signal) {
    if let Err(error) = lock(process).signal(signal) {
        log::debug!(%signal, %error, "the successor's group cannot be signalled");
    }
}

fn lock(process: &Mutex<Process>) -> MutexGuard<'_, Process> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forwards what was written so far, and ends. Neither a standard error that blocks nor a process
/// that left the group and goes on writing keeps anything else from ending.
async fn forwarded(forwarding: Finishing) {
    let finished = tokio::time::timeout(LAST_WORDS, forwarding.finish()).await;
    if finished.is_err() {
        log::debug!("not all of the successor's standard error has been forwarded");
    }
}

/// See [`forward`].
pub(crate) async fn forward_and_report<T: AsFd + AsRawFd>(pipe: T, tail: Tail, finish: Token) {
    if let Err(error) = forward(pipe, tail, finish).await {
        log::warn!(%error, "the standard error of the successor cannot be forwarded");
    }
}

/// How long a successor that has to end may take to do so by itself.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long the rest of its standard error is waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How many lines of its standard error an operator is told.
const LINES: usize = 20;
