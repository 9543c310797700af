//! WebSockets of tokio-tungstenite that say goodbye.

use std::{
    fmt,
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use futures::{Sink, Stream, stream::FusedStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, protocol::CloseFrame},
};

use super::goodbye::{Goodbye, Manner, Socket};
use crate::{context::Context, lifecycle::token::Token};

/// A [`WebSocketStream`] that says goodbye when its generation drains.
///
/// It is a [`Stream`] and a [`Sink`] of messages as that one is. At a random moment of the [window](Self::spread) it
/// sends a close frame, with code 1012 (service restart). That happens while a message is waited for, so that a message
/// that has been received can be answered. From then on:
///
/// - what the peer had sent before it saw the frame is received as ever;
/// - sending is an error, as on any WebSocket that is closed. A peer that counts on answers sends again what it got
///   none for;
/// - when the peer's close frame has been received, the stream ends.
///
/// One that is dropped in the drain before that is seen off by a task: it sends the close frame, and waits for the
/// peer's until the deadline of the drain.
///
/// # Examples
///
/// ```no_run
/// use futures::{SinkExt, StreamExt};
/// use handover::{BoxError, Conn, Context, tungstenite::WebSocket};
///
/// async fn echo(cx: Context, conn: Conn) -> Result<(), BoxError> {
///     let mut socket = WebSocket::new(tokio_tungstenite::accept_async(conn).await?, &cx);
///     // Ends when the peer has closed, which it does when it is asked to.
///     while let Some(message) = socket.next().await.transpose()? {
///         if message.is_text() || message.is_binary() {
///             socket.send(message).await?;
///         }
///     }
///     Ok(())
/// }
/// ```
pub struct WebSocket<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    Goodbye<WebSocketStream<T>>,
);

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> WebSocket<T> {
    /// Makes one of a WebSocket whose handshake is complete.
    pub fn new(stream: WebSocketStream<T>, cx: &Context) -> Self {
        Self(Goodbye::new(stream, cx.tokens().clone(), Manner::default()))
    }

    /// Sets the time over which the close frames of all sockets are spread, each at a random moment of it, so that the
    /// clients do not all come back at once; 5 s by default.
    ///
    /// It begins with the drain and is bounded by half of the drain timeout.
    #[must_use]
    pub fn spread(mut self, window: Duration) -> Self {
        self.0.set_window(window);
        self
    }

    /// Sends 1001 (going away) instead of 1012 (service restart), for clients that take that for an error.
    #[must_use]
    pub fn going_away(mut self) -> Self {
        self.0.set_code(Manner::GOING_AWAY);
        self
    }

    /// Returns the start of the drain; the goodbye comes by itself.
    #[must_use]
    pub fn draining(&self) -> Token {
        self.0.draining().clone()
    }

    /// Returns the WebSocket of tokio-tungstenite.
    #[must_use]
    pub fn get_ref(&self) -> &WebSocketStream<T> {
        self.0.get_ref()
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> fmt::Debug for WebSocket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("draining", &self.0.draining().is_cancelled())
            .finish_non_exhaustive()
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for WebSocket<T> {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(cx)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> FusedStream for WebSocket<T> {
    fn is_terminated(&self) -> bool {
        self.0.get_ref().is_terminated()
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Sink<Message> for WebSocket<T> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.0.start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_close(cx)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Socket for WebSocketStream<T> {
    type Message = Message;
    type Failure = Error;

    fn close_frame(code: u16, reason: &'static str) -> Message {
        Message::Close(Some(CloseFrame {
            code: code.into(),
            reason: reason.into(),
        }))
    }

    fn is_close(message: &Message) -> bool {
        message.is_close()
    }
}
