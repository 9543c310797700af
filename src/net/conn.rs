//! An accepted connection, which counts itself in the drain.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
#[cfg(feature = "hyper")]
use std::sync::Mutex;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

#[cfg(feature = "hyper")]
use super::departure::Resume;
use super::departure::{Answer, Cargo, Kept};
use super::door::Door;
use super::peer::Peer;
use super::stream::Stream;
use crate::lifecycle::token::Token;
use crate::lifecycle::tracker::{Arrival, Tracked};
use crate::protocol::Manner;

/// A connection that a [`Listener`](crate::Listener) has accepted: TCP or Unix, for any server.
///
/// It counts in the drain of its generation until it is dropped, wherever it has been moved to:
/// into a server, a TLS session, an upgraded WebSocket, a task of its own. So a drain waits for
/// it, and knows what it waits for, with no help from the server.
///
/// When the drain is aborted the connection is shut down from outside: whoever reads or writes is
/// woken, reads fail with [`ConnectionAborted`](io::ErrorKind::ConnectionAborted) and writes with
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe). Until then it costs what a
/// [`TcpStream`](tokio::net::TcpStream) or a [`UnixStream`](tokio::net::UnixStream) costs.
///
/// # Migration
///
/// While this generation drains, its connections can move to the successor, where they come out of
/// the listener of the same endpoint: the same connection, with the same addresses and options, and
/// its client notices nothing.
///
/// One on which nothing was read or written yet moves by itself, as soon as something reads from it;
/// to its server that looks as if the client had gone: reads give the end of the stream, and a
/// shutdown touches nothing. A server that has been given a part of the conversation has to
/// [hand it over](Self::hand_over) itself.
///
/// It is not `Clone`, because a connection is owned in exactly one place; split it with
/// [`tokio::io::split`].
pub struct Conn {
    /// Nothing while it is on the lane, and after that.
    here: Option<Here>,
    peer: Peer,
    door: Arc<Door>,
    course: Course,
    /// The epoch in which it was refused.
    refused: u32,
    /// Whether a task may have to be woken when connections move.
    waits: bool,
    aside: Option<Box<Aside>>,
}

/// The connection itself.
#[derive(Debug)]
struct Here {
    // Dropped first: the count lets go of the descriptor before it is closed.
    tracked: Tracked,
    stream: Stream,
}

/// What a read or a write has to do first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// Nothing.
    Touched,
    /// Nothing was read or written here: it can go on elsewhere in this manner.
    Fresh(Manner),
    /// Give what was read before.
    Unread,
    /// Wait for the successor's answer; if that is no, it is what it was before.
    Leaving(Option<Manner>),
    /// It has moved.
    Moved,
}

/// What only few connections need.
#[derive(Debug, Default)]
struct Aside {
    unread: Vec<u8>,
    /// How many of them have been given.
    given: usize,
    state: Option<Vec<u8>>,
    answer: Option<Answer>,
    /// Who waits for the answer, to read and to write: halves of it may be in two tasks.
    waiting: [Option<Waker>; 2],
}

impl Conn {
    pub(super) fn new(tracked: Tracked, stream: Stream, peer: Peer, door: Arc<Door>) -> Self {
        Self {
            here: Some(Here { tracked, stream }),
            peer,
            door,
            course: Course::Fresh(Manner::Untouched),
            refused: 0,
            waits: false,
            aside: None,
        }
    }

    /// Takes a connection that the predecessor has sent. Has to be called on a runtime.
    pub(crate) fn receive(
        descriptor: OwnedFd,
        peer: Option<SocketAddr>,
        door: Arc<Door>,
        manner: Manner,
        unread: Vec<u8>,
        state: Vec<u8>,
    ) -> io::Result<Self> {
        let (stream, peer) = Stream::receive(descriptor, peer)?;
        let tracked = door.track(&stream, Arrival::Received);
        let mut conn = Self::new(tracked, stream, peer, door);
        conn.course = match manner {
            // Its server has an idea of it as soon as it has seen the state.
            Manner::Resumed => Course::Touched,
            manner => Course::Fresh(manner),
        };
        let state = (manner == Manner::Resumed).then_some(state);
        if state.is_some() || !unread.is_empty() {
            conn.aside().state = state;
            conn.put_back(unread);
        }
        Ok(conn)
    }

    /// The address of the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The address and port of this end, for a TCP connection; nothing once it has moved to the
    /// successor.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.here.as_ref()?.stream.local_addr()
    }

    /// Process, user and group of the other end of a Unix socket, as they were when it connected
    /// (`SO_PEERCRED` in `unix(7)`).
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) for a TCP connection, and what `getsockopt(2)`
    /// says.
    pub fn peer_credentials(&self) -> io::Result<tokio::net::unix::UCred> {
        match self.here.as_ref().map(|here| &here.stream) {
            Some(Stream::Unix(stream)) => stream.peer_cred(),
            Some(Stream::Tcp(_)) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("the TCP connection from {} has no credentials", self.peer),
            )),
            None => Err(moved(&self.peer)),
        }
    }

    /// The state with which the predecessor has [handed it over](Self::hand_over); `None` for a
    /// connection that begins here.
    ///
    /// Only a listener that [asks for them](crate::Listener::resuming) gives such connections.
    #[must_use]
    pub fn resumed(&self) -> Option<&[u8]> {
        self.aside.as_ref()?.state.as_deref()
    }

    /// The moment from which the successor takes connections of this endpoint that are
    /// [handed over](Self::hand_over).
    ///
    /// It never comes in a generation that has no successor, or one whose service does not
    /// [ask for them](crate::Listener::resuming). Such a connection drains as without migration:
    /// [`Context::draining`](crate::Context::draining) tells when, and the time until the deadline
    /// is for its end.
    #[must_use]
    pub fn migrating(&self) -> Token {
        self.door.migrating()
    }

    /// Hands the connection over to the successor, between two messages of its protocol.
    ///
    /// It comes out of the listener of the same endpoint there, with
    /// [`resumed`](Self::resumed) set to `state`. `unread` is what was read from it and not used;
    /// over there it is read again first. What was written to it has to have left this process:
    /// flush a buffer first.
    ///
    /// Call it when [`migrating`](Self::migrating) has come.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    ///
    /// use handover::Conn;
    /// use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    ///
    /// async fn session(conn: Conn) -> io::Result<()> {
    ///     let migrating = conn.migrating();
    ///     let mut conn = BufReader::new(conn);
    ///     if conn.get_ref().resumed().is_none() {
    ///         conn.write_all(b"hello\n").await?;
    ///     }
    ///     let mut line = Vec::new();
    ///     let mut stays = false;
    ///     loop {
    ///         tokio::select! {
    ///             read = conn.read_until(b'\n', &mut line) => {
    ///                 if read? == 0 {
    ///                     return Ok(());
    ///                 }
    ///                 conn.write_all(&line).await?;
    ///                 line.clear();
    ///             }
    ///             () = migrating.cancelled(), if !stays => {
    ///                 // The beginning of a line, and what the buffer has behind it.
    ///                 line.extend_from_slice(conn.buffer());
    ///                 match conn.into_inner().hand_over(std::mem::take(&mut line), []).await {
    ///                     Ok(()) => return Ok(()),
    ///                     // Nobody takes it: it goes on here, and `line` is read again.
    ///                     Err(kept) => conn = BufReader::new(kept),
    ///                 }
    ///                 stays = true;
    ///             }
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// Where the successor is itself being replaced at this moment, it goes to the one after that.
    ///
    /// # Errors
    ///
    /// The connection, where the successor does not take it: it has gone, it lacks descriptors, or
    /// its service does not ask for such connections. Nothing has happened to it then, and `unread`
    /// is read again first.
    ///
    /// # Cancel safety
    ///
    /// This method is not cancel safe: if the future is dropped, the connection moves or is closed.
    pub async fn hand_over(
        self,
        unread: impl Into<Vec<u8>>,
        state: impl Into<Vec<u8>>,
    ) -> Result<(), Self> {
        let (mut unread, state) = (unread.into(), state.into());
        let mut prospect = self.door.prospect(Manner::Resumed);
        let mut conn = self;
        loop {
            let decided = tokio::time::timeout(SUPERSEDED, prospect.decided()).await;
            let epoch = conn.door.epoch();
            let Some(kept) = conn
                .depart(Manner::Resumed, std::mem::take(&mut unread), state.clone())
                .await
            else {
                return Ok(());
            };
            // Whoever has refused it may have been replaced meanwhile.
            if decided.is_err() || kept.door.epoch() == epoch {
                return Err(kept);
            }
            conn = kept;
        }
    }

    /// Sends it to the successor; what comes out is what it does not take, with `unread` in front.
    pub(crate) fn depart(
        mut self,
        manner: Manner,
        mut unread: Vec<u8>,
        state: Vec<u8>,
    ) -> impl Future<Output = Option<Self>> + Send + use<> {
        unread.append(&mut self.take_unread());
        self.leave(manner, unread, state, None);
        let mut conn = Some(self);
        poll_fn(move |cx| {
            let Some(left) = &mut conn else {
                return Poll::Ready(None);
            };
            if matches!(left.course, Course::Leaving(_)) && !ready!(left.poll_answer(cx, READER)) {
                conn = None;
            }
            Poll::Ready(conn.take())
        })
    }

    /// Sends it to the successor, and lets `kept` go on with what it does not take, with `unread` in
    /// front: nothing has to wait for the answer. As long as nothing is read from it, it moves by
    /// itself when somebody else may take it.
    #[cfg(feature = "hyper")]
    pub(crate) fn send_off(
        mut self,
        manner: Manner,
        mut unread: Vec<u8>,
        kept: impl FnOnce(Self) + Send + 'static,
    ) {
        unread.append(&mut self.take_unread());
        let Some(Here { tracked, stream }) = self.here.take() else {
            return;
        };
        let cargo = Cargo {
            tracked,
            stream,
            peer: self.peer.socket_addr(),
            unread,
            state: Vec::new(),
        };
        let door = Arc::clone(&self.door);
        self.refused = door.epoch();
        let resume: Resume = Box::new(move |cargo| {
            self.stay(cargo, Some(manner));
            kept(self);
        });
        let kept = Kept::Resumed(Mutex::new(resume));
        if let Some((cargo, kept)) = door.leave(manner, cargo, kept) {
            kept.give(cargo);
        }
    }

    /// Whether it is in this process alone: it has not moved, and nobody is asked to take it.
    #[cfg(feature = "hyper")]
    pub(crate) fn is_here(&self) -> bool {
        self.here.is_some()
    }

    /// Whether somebody may yet take it who has not said so.
    #[cfg(feature = "hyper")]
    pub(crate) fn may_move_yet(&self) -> bool {
        self.door.is_expectant()
    }

    /// Sends it on as it came, or closes it where nobody can take it.
    pub(super) fn pass_on(mut self) {
        let state = self.aside.as_mut().and_then(|aside| aside.state.take());
        let manner = match (self.course, &state) {
            (Course::Fresh(manner), _) => manner,
            (_, Some(_)) => Manner::Resumed,
            (_, None) => return,
        };
        let mut prospect = self.door.prospect(manner);
        // Without a runtime nobody is left who could send it.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if prospect.decided().await {
                    self.depart(manner, Vec::new(), state.unwrap_or_default())
                        .await;
                }
            });
        }
    }

    /// Puts it on the lane; without effect where the successor does not take it. It is `fresh` then,
    /// as before.
    fn leave(&mut self, manner: Manner, unread: Vec<u8>, state: Vec<u8>, fresh: Option<Manner>) {
        let Some(Here { tracked, stream }) = self.here.take() else {
            return;
        };
        let cargo = Cargo {
            tracked,
            stream,
            peer: self.peer.socket_addr(),
            unread,
            state,
        };
        let (asker, answer) = oneshot::channel();
        self.refused = self.door.epoch();
        match self.door.leave(manner, cargo, Kept::Awaited(asker)) {
            None => {
                self.aside().answer = Some(answer);
                self.course = Course::Leaving(fresh);
            }
            Some((cargo, _)) => self.stay(cargo, fresh),
        }
    }

    /// Goes on with a connection that was not taken. One that is `fresh` tries again by itself, when
    /// somebody else may take it.
    fn stay(&mut self, cargo: Cargo, fresh: Option<Manner>) {
        let Cargo {
            tracked,
            stream,
            unread,
            ..
        } = cargo;
        self.here = Some(Here { tracked, stream });
        self.course = fresh.map_or(Course::Touched, Course::Fresh);
        self.put_back(unread);
    }

    fn put_back(&mut self, unread: Vec<u8>) {
        if unread.is_empty() {
            return;
        }
        let aside = self.aside();
        aside.unread = unread;
        aside.given = 0;
        if self.course == Course::Touched {
            self.course = Course::Unread;
        }
    }

    /// What was put back and has not been read again.
    fn take_unread(&mut self) -> Vec<u8> {
        let Some(aside) = &mut self.aside else {
            return Vec::new();
        };
        let mut unread = std::mem::take(&mut aside.unread);
        unread.drain(..std::mem::take(&mut aside.given));
        unread
    }

    fn aside(&mut self) -> &mut Aside {
        self.aside.get_or_insert_default()
    }

    /// Waits for the successor's answer; tells whether the connection is here.
    fn poll_answer(&mut self, cx: &mut Context<'_>, who: usize) -> Poll<bool> {
        let aside = self.aside();
        let Some(answer) = &mut aside.answer else {
            return Poll::Ready(self.here.is_some());
        };
        let Poll::Ready(answer) = Pin::new(answer).poll(cx) else {
            aside.waiting[who] = Some(cx.waker().clone());
            return Poll::Pending;
        };
        aside.answer = None;
        std::mem::take(&mut aside.waiting)
            .into_iter()
            .flatten()
            .for_each(Waker::wake);
        let fresh = match self.course {
            Course::Leaving(fresh) => fresh,
            _ => None,
        };
        match answer {
            Ok(cargo) => {
                self.stay(cargo, fresh);
                Poll::Ready(true)
            }
            Err(_) => {
                self.course = Course::Moved;
                Poll::Ready(false)
            }
        }
    }

    /// A read of a connection that is not only a stream.
    fn poll_read_aside(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.course {
                Course::Touched => return self.poll_stream(cx, buf),
                // A clean end.
                Course::Moved => return Poll::Ready(Ok(())),
                Course::Leaving(_) => {
                    ready!(self.poll_answer(cx, READER));
                }
                Course::Fresh(manner) if self.leaves(manner) => {
                    let unread = self.take_unread();
                    self.leave(manner, unread, Vec::new(), Some(manner));
                }
                Course::Fresh(manner) => {
                    if self.gives_unread(buf) {
                        self.touch();
                        return Poll::Ready(Ok(()));
                    }
                    let before = buf.filled().len();
                    let read = self.poll_stream(cx, buf);
                    if read.is_ready() || buf.filled().len() > before {
                        self.touch();
                        return read;
                    }
                    if let Some(here) = &self.here {
                        here.tracked.wait(cx.waker());
                        self.waits = true;
                    }
                    // Looked at again after the registration: an opening in between wakes nobody.
                    if !self.leaves(manner) {
                        return Poll::Pending;
                    }
                }
                Course::Unread => {
                    if self.gives_unread(buf) {
                        return Poll::Ready(Ok(()));
                    }
                    self.course = Course::Touched;
                }
            }
        }
    }

    /// Whether somebody takes it who has not refused it.
    fn leaves(&self, manner: Manner) -> bool {
        self.door.takes(manner) && self.refused != self.door.epoch()
    }

    /// Gives what was put back; tells whether there was some.
    fn gives_unread(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let Some(aside) = &mut self.aside else {
            return false;
        };
        let left = &aside.unread[aside.given..];
        if left.is_empty() {
            aside.unread = Vec::new();
            aside.given = 0;
            return false;
        }
        let length = left.len().min(buf.remaining());
        buf.put_slice(&left[..length]);
        aside.given += length;
        true
    }

    /// From here on nobody else can go on with it as it came.
    pub(crate) fn touch(&mut self) {
        if std::mem::take(&mut self.waits) {
            if let Some(here) = &self.here {
                here.tracked.wait_no_more();
            }
        }
        let unread = self
            .aside
            .as_ref()
            .is_some_and(|aside| aside.given < aside.unread.len());
        self.course = if unread {
            Course::Unread
        } else {
            Course::Touched
        };
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(here) = &mut self.here else {
            return Poll::Ready(Ok(()));
        };
        let before = buf.filled().len();
        ready!(Pin::new(&mut here.stream).poll_read(cx, buf))?;
        let end = buf.filled().len() == before;
        if end && buf.remaining() > 0 && here.tracked.is_aborted() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the drain of this generation was aborted",
            )));
        }
        Poll::Ready(Ok(()))
    }

    /// The stream to write to, once it is certain that the connection stays.
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut Stream>>> {
        match self.course {
            Course::Touched | Course::Unread | Course::Moved => {}
            Course::Fresh(_) => self.touch(),
            Course::Leaving(_) => {
                ready!(self.poll_answer(cx, WRITER));
                // What is written makes it this generation's for good.
                if let Course::Fresh(_) = self.course {
                    self.touch();
                }
            }
        }
        Poll::Ready(match &mut self.here {
            Some(here) => Ok(Pin::new(&mut here.stream)),
            None => Err(moved(&self.peer)),
        })
    }
}

fn moved(peer: &Peer) -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        format!("the connection from {peer} has moved to the successor"),
    )
}

/// How long a connection that is to move waits, in which nobody serves it, for the successor of a
/// successor.
const SUPERSEDED: Duration = Duration::from_secs(1);
const READER: usize = 0;
const WRITER: usize = 1;

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("peer", &self.peer)
            .field("course", &self.course)
            .finish_non_exhaustive()
    }
}

/// Of a connection that has moved it is a socket that is not connected.
impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.here {
            Some(here) => here.stream.as_fd(),
            None => self.door.stand_in(),
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.course == Course::Touched {
            return self.poll_stream(cx, buf);
        }
        self.poll_read_aside(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_writable(cx))?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_writable(cx))?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is buffered on this side of the kernel.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Course::Leaving(_) = self.course {
            ready!(self.poll_answer(cx, WRITER));
        }
        match &mut self.here {
            Some(here) => Pin::new(&mut here.stream).poll_shutdown(cx),
            // It is the successor's to shut.
            None => Poll::Ready(Ok(())),
        }
    }
}
