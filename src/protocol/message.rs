//! What the two generations say to each other.
//!
//! One JSON object per record, tagged with `"type"`. Unknown fields are ignored and unknown types
//! decode to `Unknown`, so that a newer peer may say more. Descriptors ride along with a record;
//! the record says how many, so that the receiver sees when the kernel has cut some off.

use std::iter;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::codec::{self, Message};
use super::failed::Failed;
use super::migration::{Connection, Consent};
use super::offer::Offer;
use super::sockets::Sockets;
use super::version::Capabilities;

/// Stands among keys for every endpoint of the Offer, which is what nearly every successor claims;
/// no key looks like it.
pub(crate) const ALL_OFFERED: &str = "*";

/// What an incumbent says to its successor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ToSuccessor {
    /// The first record: who speaks, and what will follow.
    Offer(Offer),
    /// A part of the sockets; also sent after the offer is complete, for endpoints bound during the
    /// handover.
    Sockets(Sockets),
    /// From here the successor is responsible.
    Commit {},
    /// A trigger reached the incumbent during the probation: settle, and then hand over.
    HandOver {},
    /// The drain has begun: the successor is never ended by the incumbent from here on, and owns
    /// what it owned.
    Draining {},
    /// Every `on_drain` of the incumbent has returned: what is exclusive is free.
    Released {},
    /// What older generations send to this one is the successor's to read from here on; their
    /// channels came with the Offer. After `Released`.
    Lanes {},
    /// The service is to stop; sent only after `Serving`.
    Stop {},
    /// Established connections of one endpoint, after `Released`. One descriptor each rides along,
    /// in this order; ahead of them, if `parcel` is not 0, one with the bytes of all. Answered by
    /// `Moved`.
    Connections {
        /// Tells the answers apart.
        batch: u64,
        /// The generation that may take them: another one that reads this refuses them all.
        /// Without it, the direct successor.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<u32>,
        /// The key of the endpoint.
        endpoint: String,
        /// The length of all the bytes that belong to them.
        #[serde(default)]
        parcel: u64,
        /// The connections.
        connections: Vec<Connection>,
    },
    /// What has happened, and goes on happening while this generation drains: here, and in those
    /// before it. The last generation knows of all of them.
    Events {
        /// The events; what they look like is no matter of the protocol.
        events: Vec<Raw>,
    },
    /// A client of the control socket, whose descriptor rides along, after `Draining`.
    Client {
        /// Where it stands.
        #[serde(default)]
        state: String,
    },
    /// A message that exists only to be unknown to the other side.
    #[cfg(handover_protocol = "newer")]
    Novelty {},
    /// A message of a newer protocol.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// What a successor says to the incumbent; later, what the newest generation says to an older one
/// that drains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ToIncumbent {
    /// The answer to the offer.
    Accepted {
        /// The version that is spoken from here on.
        version: u32,
        /// What both sides can do.
        #[serde(default)]
        capabilities: Capabilities,
        /// The successor's process ID, which need not be that of the child (a wrapper may be
        /// between them).
        pid: i32,
    },
    /// The descriptors of one `Sockets` record have arrived and are owned.
    Taken {
        /// How many.
        descriptors: u32,
    },
    /// Keys of endpoints that are claimed, sent ahead of `Ready` where they do not fit into it.
    Claims {
        /// The keys.
        keys: Vec<String>,
    },
    /// The successor can serve.
    Ready {
        /// The keys of the endpoints that it will serve, with those of the `Claims` before it;
        /// [`ALL_OFFERED`] among them for those of the Offer.
        #[serde(default)]
        claimed: Vec<String>,
    },
    /// The successor will not serve, or, after `Serving`, serves no longer.
    Failed(Failed),
    /// The gates are open.
    Serving {},
    /// The probation is over: the incumbent is not needed any more. Answered by `Draining`.
    Settled {},
    /// The successor was told to stop, and does.
    Stopping {},
    /// The drain is to end earlier.
    Shorten {
        /// The new deadline, in milliseconds of `CLOCK_MONOTONIC`.
        deadline_ms: u64,
    },
    /// How many more connections can be taken, and by which endpoints; after `Settled`, and again
    /// when an endpoint changes its mind. They may come after `Released`.
    Credit {
        /// How many more; the last word counts, not the sum.
        connections: u64,
        /// Who takes them. A newer generation takes the place of an older one. Without it, the
        /// direct successor.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<u32>,
        /// What each endpoint takes from here on.
        consents: Vec<Consent>,
    },
    /// The generation that takes connections is itself being replaced. It takes no more; its
    /// successor will say what it takes.
    Superseded {
        /// The one that is replaced.
        generation: u32,
    },
    /// The connections of one `Connections` record belong to this generation, which has not touched
    /// them yet.
    Moved {
        /// The number of the record.
        batch: u64,
        /// Those that it has not taken, by their place in the record.
        #[serde(default)]
        refused: Vec<u32>,
    },
    /// What has happened while the successor starts, so that an operator learns of it also where it
    /// fails.
    Events {
        /// The events; what they look like is no matter of the protocol.
        events: Vec<Raw>,
    },
    /// Somebody who wants to know or to say something, at the other end of the socket whose
    /// descriptor rides along. Answers go there and not into the channel, from which any younger
    /// generation could read them.
    Client {
        /// Where it stands.
        #[serde(default)]
        state: String,
    },
    /// A message that exists only to be unknown to the other side.
    #[cfg(handover_protocol = "newer")]
    Novelty {},
    /// A message of a newer protocol.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// Something that the protocol passes on as it is, in JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Raw(Box<RawValue>);

impl Raw {
    /// Writes it down, if it has a form in JSON.
    pub(crate) fn of(told: &impl Serialize) -> Option<Self> {
        to_raw_value(told).ok().map(Self)
    }

    /// Its text.
    pub(crate) fn text(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Raw {}

/// The fields of either `Events`.
#[derive(Deserialize)]
struct Events {
    events: Vec<Raw>,
}

impl Message for ToSuccessor {
    fn read_long(name: &str, record: &[u8]) -> Option<serde_json::Result<Self>> {
        #[derive(Deserialize)]
        struct Connections {
            batch: u64,
            #[serde(default)]
            to: Option<u32>,
            endpoint: String,
            #[serde(default)]
            parcel: u64,
            connections: Vec<Connection>,
        }

        match name {
            "offer" => Some(serde_json::from_slice(record).map(Self::Offer)),
            "sockets" => Some(serde_json::from_slice(record).map(Self::Sockets)),
            "connections" => Some(serde_json::from_slice(record).map(
                |Connections {
                     batch,
                     to,
                     endpoint,
                     parcel,
                     connections,
                 }| Self::Connections {
                    batch,
                    to,
                    endpoint,
                    parcel,
                    connections,
                },
            )),
            "events" => Some(
                serde_json::from_slice(record).map(|Events { events }| Self::Events { events }),
            ),
            _ => None,
        }
    }
}

impl Message for ToIncumbent {
    fn read_long(name: &str, record: &[u8]) -> Option<serde_json::Result<Self>> {
        #[derive(Deserialize)]
        struct Claims {
            keys: Vec<String>,
        }

        #[derive(Deserialize)]
        struct Ready {
            #[serde(default)]
            claimed: Vec<String>,
        }

        match name {
            "claims" => {
                Some(serde_json::from_slice(record).map(|Claims { keys }| Self::Claims { keys }))
            }
            "ready" => Some(
                serde_json::from_slice(record).map(|Ready { claimed }| Self::Ready { claimed }),
            ),
            "events" => Some(
                serde_json::from_slice(record).map(|Events { events }| Self::Events { events }),
            ),
            _ => None,
        }
    }
}

impl ToSuccessor {
    /// Tells events in short records: whoever hears them does so one by one, between other things.
    pub(crate) fn events(events: Vec<Raw>) -> impl Iterator<Item = Self> {
        const SHORT: usize = 8 * 1024;

        let length = |event: &Raw| event.text().len();
        codec::split(events, length, length, SHORT).map(|events| Self::Events { events })
    }

    /// Whether a record tells events, which can wait: it is not read for that. Where it is written in
    /// another way than here, it does not seem to.
    pub(crate) fn are_events(record: &[u8]) -> bool {
        record.starts_with(br#"{"type":"events""#)
    }

    /// Returns the tag, for texts.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Offer(_) => "offer",
            Self::Sockets(_) => "sockets",
            Self::Commit {} => "commit",
            Self::HandOver {} => "hand_over",
            Self::Draining {} => "draining",
            Self::Released {} => "released",
            Self::Lanes {} => "lanes",
            Self::Stop {} => "stop",
            Self::Connections { .. } => "connections",
            Self::Events { .. } => "events",
            Self::Client { .. } => "client",
            #[cfg(handover_protocol = "newer")]
            Self::Novelty {} => "novelty",
            Self::Unknown => "unknown",
        }
    }
}

impl ToIncumbent {
    /// Says ready in as many records as the keys need.
    pub(crate) fn ready(claimed: Vec<String>) -> impl Iterator<Item = Self> {
        let mut parts: Vec<_> =
            codec::split(claimed, |key| codec::length_of_text(key), |_| 0, 0).collect();
        let last = parts.pop().unwrap_or_default();
        parts
            .into_iter()
            .map(|keys| Self::Claims { keys })
            .chain([Self::Ready { claimed: last }])
    }

    /// Grants credit in as many records as the consents need.
    pub(crate) fn credit(
        connections: u64,
        generation: u32,
        consents: impl IntoIterator<Item = Consent>,
    ) -> impl Iterator<Item = Self> {
        // As in `{"endpoint":"","manners":["untouched"]}`, with all that there are.
        let length = |consent: &Consent| {
            64 + codec::length_of_text(&consent.endpoint) + 16 * consent.manners.len()
        };
        let mut parts = codec::split(consents, length, |_| 0, 0);
        let first = parts.next().unwrap_or_default();
        iter::once(first)
            .chain(parts)
            .map(move |consents| Self::Credit {
                connections,
                generation: Some(generation),
                consents,
            })
    }

    /// Returns the tag, for texts.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Taken { .. } => "taken",
            Self::Claims { .. } => "claims",
            Self::Ready { .. } => "ready",
            Self::Failed(_) => "failed",
            Self::Serving {} => "serving",
            Self::Settled {} => "settled",
            Self::Stopping {} => "stopping",
            Self::Shorten { .. } => "shorten",
            Self::Credit { .. } => "credit",
            Self::Superseded { .. } => "superseded",
            Self::Moved { .. } => "moved",
            Self::Events { .. } => "events",
            Self::Client { .. } => "client",
            #[cfg(handover_protocol = "newer")]
            Self::Novelty {} => "novelty",
            Self::Unknown => "unknown",
        }
    }
}
