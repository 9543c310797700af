//! What is spoken where a service listens.

use std::fmt;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time;

use super::place::{Place, Scheme};
use crate::testing::load::{Lines, Protocol, Request, Wire};
use crate::testing::target::Target;

/// An endpoint of the service, and what it was found to speak.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ground {
    /// Where it is.
    pub target: Target,
    /// What is spoken there; nothing that a load could be made of, where it is empty.
    pub speaks: Vec<Protocol>,
    /// Whether it closes each connection after its first answer.
    pub closes: bool,
}

impl Ground {
    /// One of which nothing is known.
    pub(super) fn unknown(target: &Target) -> Self {
        Self {
            target: target.clone(),
            speaks: Vec::new(),
            closes: false,
        }
    }
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} speaks ", self.target)?;
        if self.speaks.is_empty() {
            return f.write_str("nothing that could be found out");
        }
        for (index, protocol) in self.speaks.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", name(protocol))?;
            match protocol {
                Protocol::WebSocket(request) => write!(f, " at {}", request.path())?,
                Protocol::Lines(lines) if lines.is_echo() => f.write_str(" that come back")?,
                _ => {}
            }
        }
        if self.closes {
            f.write_str("; it closes each connection after one answer")?;
        }
        Ok(())
    }
}

/// What a protocol is called.
pub(super) fn name(protocol: &Protocol) -> &'static str {
    match protocol {
        Protocol::Http(_) => "HTTP/1.1",
        Protocol::Http2(..) => "HTTP/2",
        Protocol::WebSocket(_) => "WebSocket",
        Protocol::Lines(_) => "lines",
    }
}

/// Finds out what is spoken at a place; `says` is what a service of lines is to be asked.
///
/// # Errors
///
/// If no connection can be made.
pub(super) async fn survey(place: &Place, says: Option<&str>) -> Result<Ground, String> {
    let mut ground = Ground::unknown(&place.target);
    let mut socket = match time::timeout(PATIENCE, place.target.connect()).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return Err(format!("no connection to {}: {error}", place.target)),
        Err(_) => return Err(format!("no connection to {} in {PATIENCE:?}", place.target)),
    };
    if matches!(place.scheme, Scheme::Any | Scheme::Lines) {
        let mut greeting = [0; 1024];
        let greets = time::timeout(GREETING, socket.read(&mut greeting)).await;
        drop(socket);
        let greets = matches!(greets, Ok(Ok(1..)));
        if greets || place.scheme == Scheme::Lines {
            ground.speaks.extend(lines(place, greets, says).await);
            return Ok(ground);
        }
    } else {
        drop(socket);
    }
    if place.scheme != Scheme::WebSocket {
        http(place, &mut ground).await;
    }
    web_socket(place, &mut ground).await;
    if ground.speaks.is_empty() && place.scheme == Scheme::Any {
        if let Some(protocol) = lines(place, false, says).await {
            ground.speaks.push(protocol);
        } else {
            secretly(place, &mut ground).await;
        }
    }
    Ok(ground)
}

async fn http(place: &Place, ground: &mut Ground) {
    let path = place.path.as_deref().unwrap_or("/");
    let any = Request::any(path).host(&place.host);
    if let Some(answer) = ask(&ground.target, &Protocol::Http(any.clone())).await {
        ground.closes = answer.closes;
        let page = Request::page(path, answer.status).host(&place.host);
        ground.speaks.push(Protocol::Http(page));
    }
    if let Some(answer) = ask(&ground.target, &Protocol::Http2(any, 1)).await {
        let page = Request::page(path, answer.status).host(&place.host);
        ground.speaks.push(Protocol::Http2(page, STREAMS));
    }
}

async fn web_socket(place: &Place, ground: &mut Ground) {
    let speaks_http = ground
        .speaks
        .iter()
        .any(|spoken| matches!(spoken, Protocol::Http(_)));
    let paths: &[&str] = match (&place.path, place.scheme) {
        (Some(path), _) => &[path],
        (None, Scheme::WebSocket) => &["/"],
        (None, _) if speaks_http => &["/ws", "/"],
        _ => &[],
    };
    for path in paths {
        let socket = Protocol::WebSocket(Request::any(*path).host(&place.host));
        let Ok(Ok(mut wire)) =
            time::timeout(PATIENCE, Wire::connect(&ground.target, &socket, PATIENCE)).await
        else {
            continue;
        };
        if wire
            .ask(true, PATIENCE)
            .await
            .is_ok_and(|turn| turn.answered == 1)
        {
            ground.speaks.push(socket);
            return;
        }
    }
}

/// The same over TLS, where there is TCP that answers nothing.
#[cfg(feature = "rustls")]
async fn secretly(place: &Place, ground: &mut Ground) {
    let Target::Tcp(address) = ground.target else {
        return;
    };
    let mut secret = Ground {
        target: Target::Tls(address),
        ..ground.clone()
    };
    http(place, &mut secret).await;
    web_socket(place, &mut secret).await;
    if !secret.speaks.is_empty() {
        *ground = secret;
    }
}

#[cfg(not(feature = "rustls"))]
async fn secretly(_: &Place, _: &mut Ground) {}

async fn lines(place: &Place, greets: bool, says: Option<&str>) -> Option<Protocol> {
    let manners = match says {
        Some(text) => vec![Lines::say(text)],
        // Something that answers whatever it is told, on a Unix socket that nobody has named, is a control socket:
        // it is not there to be loaded.
        None if place.scheme == Scheme::Any && matches!(place.target, Target::Unix(_)) => {
            vec![Lines::echo()]
        }
        None => vec![Lines::echo(), Lines::say("handover")],
    };
    for manner in manners {
        let manner = if greets { manner.greeted() } else { manner };
        let protocol = Protocol::Lines(manner);
        if ask(&place.target, &protocol).await.is_some() {
            return Some(protocol);
        }
    }
    None
}

/// What it answers, if it answers in time.
async fn ask(target: &Target, protocol: &Protocol) -> Option<crate::testing::load::Answer> {
    let exchange = async {
        let mut wire = Wire::connect(target, protocol, PATIENCE).await.ok()?;
        wire.ask(false, PATIENCE).await.ok()?.answer
    };
    time::timeout(PATIENCE, exchange).await.ok()?
}

/// How long whatever speaks first may take to do so.
const GREETING: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests at once on a connection of HTTP/2.
const STREAMS: usize = 8;
