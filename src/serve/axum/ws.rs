//! WebSockets of axum that say goodbye.
//!
//! [`WebSocketUpgrade`] and [`WebSocket`] take the place of axum's types of these names, and are used as those are.
//! When the generation drains, each socket sends a close frame by itself, waits for that of its peer, and ends:
//!
//! ```no_run
//! use axum::{Router, extract::ws::Message, response::Response, routing::any};
//! use handover::{Context, axum::ws::{WebSocket, WebSocketUpgrade}};
//!
//! #[handover::main]
//! async fn main(cx: Context) -> Result<(), Box<dyn std::error::Error>> {
//!     let listener = cx.bind("0.0.0.0:8080").await?;
//!     let app = Router::new().route("/ws", any(upgrade));
//!     cx.ready().await?;
//!     handover::axum::serve(listener, app).await?;
//!     Ok(())
//! }
//!
//! async fn upgrade(upgrade: WebSocketUpgrade) -> Response {
//!     upgrade.on_upgrade(echo)
//! }
//!
//! async fn echo(mut socket: WebSocket) {
//!     // Ends when the peer has closed, which it does when it is asked to.
//!     while let Some(Ok(message)) = socket.recv().await {
//!         if let Message::Text(_) | Message::Binary(_) = message {
//!             if socket.send(message).await.is_err() {
//!                 return;
//!             }
//!         }
//!     }
//! }
//! ```
//!
//! # With other servers
//!
//! With [`handover::axum::serve`](crate::axum::serve) nothing else is needed. With any other server, such as
//! `axum::serve`, the [`Context`] has to be among the extensions of the request:
//!
//! ```
//! # use axum::Extension;
//! # fn example(app: axum::Router, cx: handover::Context) -> axum::Router {
//! app.layer(Extension(cx))
//! # }
//! ```

use std::{
    borrow::Cow,
    fmt,
    future::Future,
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use ::axum::{
    Error,
    extract::{
        FromRequestParts,
        ws::{
            self, CloseFrame, DefaultOnFailedUpgrade, Message, OnFailedUpgrade,
            rejection::WebSocketUpgradeRejection,
        },
    },
    response::{IntoResponse, Response},
};
use futures::{Sink, Stream, stream::FusedStream};
use http::{HeaderValue, StatusCode, request::Parts};

use crate::{
    context::Context,
    lifecycle::{token::Token, tokens::Tokens},
    serve::goodbye::{Goodbye, Manner, Socket},
};

/// An extractor for WebSockets that say goodbye when their generation drains.
///
/// It is used as axum's [`WebSocketUpgrade`](ws::WebSocketUpgrade) and has its options; see the [module](self).
#[must_use = "a WebSocket is made by `on_upgrade`"]
pub struct WebSocketUpgrade<F = DefaultOnFailedUpgrade> {
    upgrade: ws::WebSocketUpgrade<F>,
    tokens: Tokens,
    manner: Manner,
}

impl<F> WebSocketUpgrade<F> {
    /// Sets the time over which the close frames of all sockets are spread, each at a random moment of it, so that the
    /// clients do not all come back at once; 5 s by default.
    ///
    /// It begins with the drain and is bounded by half of the drain timeout.
    pub fn spread(mut self, window: Duration) -> Self {
        self.manner.window = window;
        self
    }

    /// Sends 1001 (going away) instead of 1012 (service restart), for clients that take that for an error.
    pub fn going_away(mut self) -> Self {
        self.manner.code = Manner::GOING_AWAY;
        self
    }

    /// Sets options of axum: limits, buffers, protocols.
    ///
    /// # Examples
    ///
    /// ```
    /// # use axum::response::Response;
    /// # use handover::axum::ws::WebSocketUpgrade;
    /// async fn upgrade(upgrade: WebSocketUpgrade) -> Response {
    ///     upgrade
    ///         .with(|upgrade| upgrade.max_message_size(64 * 1024).protocols(["chat"]))
    ///         .on_upgrade(|socket| async { drop(socket) })
    /// }
    /// ```
    pub fn with<G>(
        self,
        set: impl FnOnce(ws::WebSocketUpgrade<F>) -> ws::WebSocketUpgrade<G>,
    ) -> WebSocketUpgrade<G> {
        WebSocketUpgrade {
            upgrade: set(self.upgrade),
            tokens: self.tokens,
            manner: self.manner,
        }
    }

    /// Sets the protocols that are known, the preferred one first, as in axum.
    pub fn protocols<I>(self, protocols: I) -> Self
    where
        I: IntoIterator<Item: Into<Cow<'static, str>>>,
    {
        self.with(|upgrade| upgrade.protocols(protocols))
    }

    /// Sets what is called if the upgrade fails, as in axum.
    pub fn on_failed_upgrade<C: OnFailedUpgrade>(self, callback: C) -> WebSocketUpgrade<C> {
        self.with(|upgrade| upgrade.on_failed_upgrade(callback))
    }

    /// Gives the response that makes the connection a WebSocket, for which `callback` is called then.
    #[must_use = "the connection is upgraded by this response"]
    pub fn on_upgrade<C, T>(self, callback: C) -> Response
    where
        C: FnOnce(WebSocket) -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
        F: OnFailedUpgrade,
    {
        let Self {
            upgrade,
            tokens,
            manner,
        } = self;
        upgrade.on_upgrade(move |socket| callback(WebSocket(Goodbye::new(socket, tokens, manner))))
    }
}

impl<F> fmt::Debug for WebSocketUpgrade<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketUpgrade")
            .field("upgrade", &self.upgrade)
            .field("manner", &self.manner)
            .finish_non_exhaustive()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for WebSocketUpgrade {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Rejection> {
        let context = parts.extensions.get::<Context>().map(Context::tokens);
        let tokens = context.or_else(|| parts.extensions.get()).cloned();
        let tokens = tokens.ok_or(Rejection::NoContext)?;
        let upgrade = ws::WebSocketUpgrade::from_request_parts(parts, state).await;
        Ok(Self {
            upgrade: upgrade.map_err(Rejection::Upgrade)?,
            tokens,
            manner: Manner::default(),
        })
    }
}

/// Why a request does not become a WebSocket.
#[derive(Debug)]
#[non_exhaustive]
pub enum Rejection {
    /// It is no request for one, says axum.
    Upgrade(WebSocketUpgradeRejection),
    /// The server is not one of ours, and there is no [`Context`] among the extensions of the request.
    NoContext,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upgrade(rejection) => rejection.fmt(f),
            Self::NoContext => f.write_str(
                "no `handover::Context` among the extensions of the request: with a server other than \
                 `handover::axum::serve` the router needs `.layer(axum::Extension(cx))`",
            ),
        }
    }
}

impl std::error::Error for Rejection {}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        match self {
            Self::Upgrade(rejection) => rejection.into_response(),
            Self::NoContext => {
                tracing::error!("{self}");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// A WebSocket that says goodbye when its generation drains; made by [`WebSocketUpgrade`].
///
/// At a random moment of the [window](WebSocketUpgrade::spread) it sends a close frame, with code 1012 (service
/// restart). That happens while a message is waited for, be it with [`recv`](Self::recv) or as a [`Stream`], so that a
/// message that has been received can be answered. From then on:
///
/// - what the peer had sent before it saw the frame is received as ever;
/// - sending is an error, as on any WebSocket that is closed. A peer that counts on answers sends again what it got
///   none for;
/// - when the peer's close frame has been received, the stream ends.
///
/// One that is dropped in the drain before that is seen off by a task: it sends the close frame, and waits for the
/// peer's until the deadline of the drain. So a handler may as well return as soon as
/// [`draining`](Self::draining) is reached.
///
/// A handler that only sends gets an error once half of the drain is over, and ends by it. One that does neither keeps
/// its socket from saying goodbye, and from noticing that the peer has.
pub struct WebSocket(Goodbye<ws::WebSocket>);

impl WebSocket {
    /// Receives a message; `None` when the WebSocket has ended.
    ///
    /// # Errors
    ///
    /// An error of the connection or of its peer.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe.
    pub async fn recv(&mut self) -> Option<Result<Message, Error>> {
        std::future::poll_fn(|cx| self.0.poll_next(cx)).await
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// An error of the connection; and when a close frame has been sent.
    ///
    /// # Cancel safety
    ///
    /// A message whose future is dropped is sent whole with the next one, or not at all.
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        futures::SinkExt::send(self, message).await
    }

    /// Returns the protocol that was selected, if one was.
    #[must_use]
    pub fn protocol(&self) -> Option<&HeaderValue> {
        self.0.get_ref().protocol()
    }

    /// Returns the start of the drain; the goodbye comes by itself.
    #[must_use]
    pub fn draining(&self) -> Token {
        self.0.draining().clone()
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WebSocket").field(self.0.get_ref()).finish()
    }
}

impl Stream for WebSocket {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next(cx)
    }
}

impl FusedStream for WebSocket {
    fn is_terminated(&self) -> bool {
        self.0.get_ref().is_terminated()
    }
}

impl Sink<Message> for WebSocket {
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

impl Socket for ws::WebSocket {
    type Message = Message;
    type Failure = Error;

    fn close_frame(code: u16, reason: &'static str) -> Message {
        Message::Close(Some(CloseFrame {
            code,
            reason: reason.into(),
        }))
    }

    fn is_close(message: &Message) -> bool {
        matches!(message, Message::Close(_))
    }
}
