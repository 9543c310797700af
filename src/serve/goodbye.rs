//! The goodbye of a WebSocket, whoever made it.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Sink, Stream};
use tokio::runtime::Handle;

use crate::lifecycle::{token::Token, tokens::Tokens};

/// A WebSocket of somebody's making.
pub(crate) trait Socket:
    Stream<Item = Result<Self::Message, Self::Failure>>
    + Sink<Self::Message, Error = Self::Failure>
    + Unpin
    + Send
    + 'static
{
    type Message;
    type Failure;

    fn close_frame(code: u16, reason: &'static str) -> Self::Message;

    fn is_close(message: &Self::Message) -> bool;
}

/// When and with which code to say goodbye.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) window: Duration,
    pub(crate) code: u16,
}

impl Manner {
    /// "Service restart", in the registry of RFC 6455, section 11.7.
    pub(crate) const RESTART: u16 = 1012;
    /// "Going away" (RFC 6455, section 7.4.1).
    pub(crate) const GOING_AWAY: u16 = 1001;
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(5),
            code: Self::RESTART,
        }
    }
}

/// A WebSocket that sends a close frame when its generation drains, and goes on receiving until that of the peer.
///
/// The frame goes out while its owner waits for a message, so not between a message and its answer; from an owner that
/// never waits for one it goes out when it sends after half of the drain. What the peer has sent before it saw the
/// frame is still received, though it can be answered no more: nothing that was answered is lost, and what was not the
/// peer sends again.
///
/// One that its owner drops in the drain is kept until the peer has answered, for a socket that is closed with bytes
/// unread resets the connection, and takes the close frame with it.
pub(crate) struct Goodbye<S: Socket> {
    /// There until it is dropped.
    socket: Option<S>,
    tokens: Tokens,
    manner: Manner,
    moment: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    state: State,
    owned: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// It is time; so many messages that are there already may still come first.
    Due(usize),
    /// The frame is written, maybe not sent.
    Flushing,
    /// The frame is sent, by this or by the owner.
    Said,
    /// The peer has closed, or the connection has failed.
    Over,
}

impl<S: Socket> Goodbye<S> {
    pub(crate) fn new(socket: S, tokens: Tokens, manner: Manner) -> Self {
        Self {
            socket: Some(socket),
            moment: Box::pin(tokens.clone().goodbye(manner.window)),
            tokens,
            manner,
            state: State::Open,
            owned: true,
        }
    }

    #[cfg(feature = "tungstenite")]
    pub(crate) fn set_window(&mut self, window: Duration) {
        self.manner.window = window;
        self.moment = Box::pin(self.tokens.clone().goodbye(window));
    }

    #[cfg(feature = "tungstenite")]
    pub(crate) fn set_code(&mut self, code: u16) {
        self.manner.code = code;
    }

    pub(crate) fn draining(&self) -> &Token {
        &self.tokens.draining
    }

    pub(crate) fn get_ref(&self) -> &S {
        self.socket.as_ref().expect("it is there until the drop")
    }

    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<S::Message, S::Failure>>> {
        if self.state == State::Open && self.moment.as_mut().poll(cx).is_ready() {
            self.state = State::Due(PATIENCE);
        }
        let patient = match &mut self.state {
            State::Due(0) => false,
            State::Due(left) => {
                *left -= 1;
                true
            }
            _ => true,
        };
        if patient {
            if let Poll::Ready(next) = self.poll_socket(cx) {
                return Poll::Ready(next);
            }
            self.poll_goodbye(cx);
            return Poll::Pending;
        }
        self.poll_goodbye(cx);
        self.poll_socket(cx)
    }

    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Failure>> {
        if matches!(self.state, State::Open | State::Due(_)) && self.tokens.is_half_over() {
            self.state = State::Due(0);
            self.poll_goodbye(cx);
        }
        self.pin().poll_ready(cx)
    }

    pub(crate) fn start_send(&mut self, message: S::Message) -> Result<(), S::Failure> {
        let closes = S::is_close(&message);
        self.pin().start_send(message)?;
        if closes && self.state != State::Over {
            self.state = State::Said;
        }
        Ok(())
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Failure>> {
        self.pin().poll_flush(cx)
    }

    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Failure>> {
        if self.state != State::Over {
            self.state = State::Said;
        }
        self.pin().poll_close(cx)
    }

    fn poll_socket(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<S::Message, S::Failure>>> {
        let next = self.pin().poll_next(cx);
        match &next {
            Poll::Ready(Some(Ok(message))) if !S::is_close(message) => {}
            Poll::Ready(_) => self.state = State::Over,
            Poll::Pending => {}
        }
        next
    }

    /// Sends the close frame once it is due. An error is one of the connection, which reading will tell of.
    fn poll_goodbye(&mut self, cx: &mut Context<'_>) {
        if let State::Due(_) = self.state {
            self.state = match self.pin().poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    let frame = S::close_frame(self.manner.code, REASON);
                    match self.pin().start_send(frame) {
                        Ok(()) => State::Flushing,
                        Err(_) => State::Said,
                    }
                }
                Poll::Ready(Err(_)) => State::Said,
                Poll::Pending => return,
            };
        }
        if self.state == State::Flushing && self.poll_flush(cx).is_ready() {
            self.state = State::Said;
        }
    }

    fn pin(&mut self) -> Pin<&mut S> {
        Pin::new(self.socket.as_mut().expect("it is there until the drop"))
    }

    /// Says goodbye if that was not done, and waits for the peer's.
    async fn see_off(mut self) {
        let aborting = self.tokens.aborting.clone();
        let answered = async { while let Some(Ok(_)) = poll_fn(|cx| self.poll_next(cx)).await {} };
        tokio::select! {
            () = answered => {}
            () = aborting.cancelled() => {}
        }
    }
}

impl<S: Socket> Drop for Goodbye<S> {
    fn drop(&mut self) {
        let leaves = self.owned
            && self.state != State::Over
            && self.tokens.draining.is_cancelled()
            && !self.tokens.aborting.is_cancelled();
        let (true, Ok(runtime)) = (leaves, Handle::try_current()) else {
            return;
        };
        runtime.spawn(
            Self {
                socket: self.socket.take(),
                tokens: self.tokens.clone(),
                manner: self.manner,
                moment: mem::replace(&mut self.moment, Box::pin(async {})),
                state: match self.state {
                    State::Open => State::Due(0),
                    state => state,
                },
                // A runtime that shuts down drops it at once.
                owned: false,
            }
            .see_off(),
        );
    }
}

/// The most messages that may come first when the frame is due: some peers always have one.
const PATIENCE: usize = 64;

const REASON: &str = "restart";

#[cfg(all(test, feature = "tungstenite"))]
mod tests {
    use super::*;

    use futures::{FutureExt, SinkExt, StreamExt};
    use tokio::{
        io::{DuplexStream, duplex},
        time::Instant,
    };
    use tokio_tungstenite::{
        WebSocketStream,
        tungstenite::{
            Error, Message,
            protocol::{Role, frame::coding::CloseCode},
        },
    };

    type Peer = WebSocketStream<DuplexStream>;

    const WINDOW: Duration = Duration::from_secs(5);

    async fn pair(tokens: &Tokens) -> (Goodbye<Peer>, Peer) {
        let (server, client) = duplex(64 * 1024);
        let server = WebSocketStream::from_raw_socket(server, Role::Server, None).await;
        let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let manner = Manner {
            window: WINDOW,
            ..Manner::default()
        };
        (Goodbye::new(server, tokens.clone(), manner), client)
    }

    fn drain(tokens: &Tokens) {
        tokens.drain(Instant::now() + Duration::from_secs(60));
    }

    async fn receive(socket: &mut Goodbye<Peer>) -> Option<Message> {
        poll_fn(|cx| socket.poll_next(cx))
            .await
            .transpose()
            .expect("no error")
    }

    async fn send(socket: &mut Goodbye<Peer>, text: &str) -> Result<(), Error> {
        poll_fn(|cx| socket.poll_ready(cx)).await?;
        socket.start_send(Message::text(text))?;
        poll_fn(|cx| socket.poll_flush(cx)).await
    }

    async fn next(peer: &mut Peer) -> Message {
        peer.next().await.expect("a message").expect("no error")
    }

    async fn closed(peer: &mut Peer) {
        let Message::Close(Some(frame)) = next(peer).await else {
            panic!("no close frame");
        };
        assert_eq!(frame.code, CloseCode::Restart);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_peer_sends_before_its_close_is_received() {
        let tokens = Tokens::new();
        let (mut socket, mut peer) = pair(&tokens).await;
        drain(&tokens);
        assert!(
            tokio::time::timeout(2 * WINDOW, receive(&mut socket))
                .await
                .is_err(),
            "it waits for the close of the peer"
        );
        for text in ["one", "two"] {
            peer.send(Message::text(text)).await.expect("it is open");
        }
        assert_eq!(receive(&mut socket).await, Some(Message::text("one")));
        assert!(send(&mut socket, "an answer").await.is_err());
        assert_eq!(receive(&mut socket).await, Some(Message::text("two")));
        closed(&mut peer).await;
        assert!(
            peer.next().now_or_never().is_none(),
            "the answer is on its way"
        );
        assert!(receive(&mut socket).await.expect("a close").is_close());
        assert_eq!(receive(&mut socket).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_was_received_can_be_answered() {
        let tokens = Tokens::new();
        let (mut socket, mut peer) = pair(&tokens).await;
        peer.send(Message::text("a question"))
            .await
            .expect("it is open");
        let question = receive(&mut socket).await;
        assert_eq!(question, Some(Message::text("a question")));
        drain(&tokens);
        tokio::time::sleep(2 * WINDOW).await;
        send(&mut socket, "an answer").await.expect("it is open");
        assert_eq!(next(&mut peer).await, Message::text("an answer"));
        assert!(receive(&mut socket).now_or_never().is_none());
        closed(&mut peer).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_only_sends_is_told_by_an_error() {
        let tokens = Tokens::new();
        let (mut socket, mut peer) = pair(&tokens).await;
        drain(&tokens);
        tokio::time::sleep(2 * WINDOW).await;
        send(&mut socket, "a long story")
            .await
            .expect("it may go on");
        tokio::time::sleep(6 * WINDOW).await;
        assert!(send(&mut socket, "and so on").await.is_err());
        drop(socket);
        assert_eq!(next(&mut peer).await, Message::text("a long story"));
        closed(&mut peer).await;
        assert!(peer.next().await.is_none(), "an orderly end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_stops_is_closed_all_the_same() {
        let tokens = Tokens::new();
        let (mut socket, mut peer) = pair(&tokens).await;
        drain(&tokens);
        tokio::time::sleep(2 * WINDOW).await;
        for _ in 0..=PATIENCE {
            peer.send(Message::text("and")).await.expect("it is open");
        }
        for _ in 0..=PATIENCE {
            let message = receive(&mut socket).now_or_never();
            assert_eq!(message, Some(Some(Message::text("and"))));
        }
        closed(&mut peer).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_dropped_in_the_drain_is_seen_off() {
        let tokens = Tokens::new();
        let (socket, mut peer) = pair(&tokens).await;
        drain(&tokens);
        drop(socket);
        peer.send(Message::text("too late"))
            .await
            .expect("it is open");
        closed(&mut peer).await;
        assert!(peer.next().await.is_none(), "an orderly end");

        let (socket, mut peer) = pair(&tokens).await;
        drop(socket);
        closed(&mut peer).await;
        tokens.aborting.cancel();
        // It has not answered, and is not waited for.
        let end = peer.next().await;
        assert!(end.is_none_or(|end| end.is_err()));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_dropped_while_its_generation_serves_is_not_closed_by_us() {
        let tokens = Tokens::new();
        let (socket, mut peer) = pair(&tokens).await;
        drop(socket);
        let end = peer.next().await.expect("not a close");
        assert!(end.is_err());
    }
}
