//! A connection of a client, whatever is spoken on it.

use std::time::Duration;

use super::fault::Fault;
use super::http::{Answer, Http};
use super::line::Lines;
use super::request::{Protocol, Request};
use crate::testing::identity::Identity;
use crate::testing::target::Target;

#[derive(Debug)]
pub(super) enum Wire {
    Http(Http, Request),
    Lines(Lines),
}

impl Wire {
    /// Connects, and waits for the greeting where the protocol has one.
    pub(super) async fn connect(
        target: &Target,
        protocol: &Protocol,
        limit: Duration,
    ) -> Result<Self, Fault> {
        let socket = target
            .connect()
            .await
            .map_err(|error| Fault::connecting(&error))?;
        match protocol {
            Protocol::Http(request) => Ok(Self::Http(Http::new(socket), request.clone())),
            Protocol::Lines => Ok(Self::Lines(Lines::greeted(socket, limit).await?)),
        }
    }

    /// Who has greeted, where the protocol has a greeting.
    pub(super) fn greeting(&self) -> Option<Identity> {
        match self {
            Self::Http(..) => None,
            Self::Lines(lines) => Some(lines.identity()),
        }
    }

    /// Resolves when the service does anything on a connection on which nothing is asked; without
    /// a fault if it announces that it is about to close.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(super) async fn disturbed(&mut self) -> Option<Fault> {
        match self {
            Self::Http(http, _) => Some(http.disturbed().await),
            Self::Lines(lines) => lines.disturbed().await,
        }
    }

    /// Makes a request; `last` tells the service that there will be no other.
    pub(super) async fn ask(&mut self, last: bool, limit: Duration) -> Result<Answer, Fault> {
        match self {
            Self::Http(http, request) => http.ask(request, last, limit).await,
            Self::Lines(lines) => lines.ask(limit).await,
        }
    }
}
