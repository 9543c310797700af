//! Messages to records and back.

use std::borrow::Cow;
use std::iter;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest record, in bytes.
pub(crate) const MAX_RECORD: usize = 128 * 1024;

/// A record that no generation of this library would have sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub(crate) struct Garbage(pub(crate) String);

/// A message that does not fit into one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a message of {0} bytes exceeds the record limit of {MAX_RECORD}")]
pub(crate) struct TooLong(usize);

/// A message of either direction.
pub(crate) trait Message: DeserializeOwned {
    /// Reads one that may be long, by its type; `None` for all others.
    ///
    /// serde keeps all of a record in pieces until it has learnt the type from a field, which with
    /// thousands of sockets takes longer than all else that is done for them.
    fn read_long(name: &str, record: &[u8]) -> Option<serde_json::Result<Self>>;
}

/// The type of a message.
#[derive(Deserialize)]
struct Type<'a> {
    #[serde(borrow, rename = "type")]
    name: Cow<'a, str>,
}

/// Turns a message into a record.
pub(crate) fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, TooLong> {
    // Neither a map with keys that are not strings nor an `Err` from a `Serialize` of ours exists
    // in a message.
    let record = serde_json::to_vec(&whole(message)).expect("messages are plain data");
    if record.len() > MAX_RECORD {
        return Err(TooLong(record.len()));
    }
    Ok(record)
}

/// Reads a message from a record.
pub(crate) fn decode<M: Message>(record: &[u8]) -> Result<M, Garbage> {
    if record.len() > MAX_RECORD {
        return Err(Garbage(format!(
            "a record of {} bytes exceeds the limit of {MAX_RECORD}",
            record.len()
        )));
    }
    let long = serde_json::from_slice(record)
        .ok()
        .and_then(|Type { name }| M::read_long(&name, record));
    long.unwrap_or_else(|| serde_json::from_slice(record))
        .map_err(|error| Garbage(error.to_string()))
}

/// Distributes what does not fit into one record over several, in order, with items that weigh at
/// most `most` in each; each part is made when it is asked for. `length_of` is what an item takes in a
/// record, or more.
pub(super) fn split<T>(
    items: impl IntoIterator<Item = T>,
    length_of: impl Fn(&T) -> usize,
    weight: impl Fn(&T) -> usize,
    most: usize,
) -> impl Iterator<Item = Vec<T>> {
    // Leaves room for the rest of the message.
    const ROOM: usize = MAX_RECORD - 1024;

    let mut items = items.into_iter().peekable();
    iter::from_fn(move || {
        let mut part = Vec::new();
        let (mut length, mut weighs) = (0, 0);
        while let Some(item) = items.peek() {
            // With the comma.
            let own_length = length_of(item) + 1;
            let own_weight = weight(item);
            if !part.is_empty() && (length + own_length > ROOM || weighs + own_weight > most) {
                break;
            }
            length += own_length;
            weighs += own_weight;
            part.extend(items.next());
        }
        (!part.is_empty()).then_some(part)
    })
}

/// The bytes that a text takes in a record, or more.
pub(super) fn length_of_text(text: &str) -> usize {
    // As `\u001f`, or with a backslash in front.
    let escaped = |byte: &u8| {
        if *byte < b' ' {
            6
        } else {
            1 + usize::from(matches!(byte, b'"' | b'\\'))
        }
    };
    2 + text.as_bytes().iter().map(escaped).sum::<usize>()
}

#[cfg(not(handover_protocol = "newer"))]
fn whole<M: Serialize>(message: &M) -> &M {
    message
}

/// Adds a field that only a newer generation knows, so that the tests see older ones ignore it.
#[cfg(handover_protocol = "newer")]
fn whole<M: Serialize>(message: &M) -> serde_json::Value {
    let mut value = serde_json::to_value(message).expect("messages are plain data");
    if let Some(fields) = value.as_object_mut() {
        fields.insert("novelty".to_owned(), serde_json::json!({ "since": 2 }));
    }
    value
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{
        Capabilities, Connection, Consent, Failed, Manner, Offer, Older, Raw, Role, Sockets, Stage,
        ToIncumbent, ToSuccessor, Versions,
    };
    use crate::socket::Description;

    fn description() -> impl Strategy<Value = Description> {
        (
            any::<Option<String>>(),
            any::<String>(),
            0..9_u32,
            any::<bool>(),
        )
            .prop_map(|(name, endpoint, index, lock)| {
                let value = serde_json::json!({
                    "name": name,
                    "endpoint": endpoint,
                    "kind": "tcp",
                    "index": index,
                    "count": 9,
                    "lock": lock,
                });
                serde_json::from_value(value).unwrap()
            })
    }

    fn failed() -> impl Strategy<Value = Failed> {
        let stage = prop_oneof![Just(Stage::Adopt), Just(Stage::Init), Just(Stage::Commit)];
        (stage, any::<Option<String>>(), any::<String>())
            .prop_map(|(stage, component, error)| Failed::new(stage, component, &error))
    }

    fn offer() -> impl Strategy<Value = Offer> {
        let older = (any::<u32>(), any::<i32>(), any::<Option<u64>>()).prop_map(
            |(generation, pid, deadline_ms)| Older {
                generation,
                pid,
                deadline_ms,
                capabilities: Capabilities::ours(),
            },
        );
        let role = prop_oneof![Just(Role::IncumbentPidfd), Just(Role::OlderChannel)];
        (
            (any::<u32>(), any::<u32>(), any::<u32>(), any::<i32>()),
            (any::<Option<i32>>(), any::<u32>(), any::<Vec<i32>>()),
            (any::<Option<u64>>(), any::<Option<u64>>(), any::<u64>()),
            prop::collection::vec(older, 0..4),
            prop::collection::vec(role, 0..9),
        )
            .prop_map(|(numbers, who, limits, older, descriptors)| Offer {
                versions: Versions {
                    min: numbers.0,
                    max: numbers.1,
                },
                capabilities: Capabilities::ours(),
                generation: numbers.2,
                pid: numbers.3,
                process_group: who.0,
                sockets: who.1,
                mask: who.2,
                drain_timeout_ms: limits.0,
                kill_grace_ms: limits.1,
                probation_ms: limits.2,
                older,
                descriptors,
            })
    }

    fn manner() -> impl Strategy<Value = Manner> {
        prop_oneof![
            Just(Manner::Untouched),
            Just(Manner::Http1),
            Just(Manner::Resumed)
        ]
    }

    fn peer() -> impl Strategy<Value = SocketAddr> {
        let (ip, scope) = (any::<Ipv6Addr>(), any::<u32>());
        prop_oneof![
            any::<SocketAddrV4>().prop_map(SocketAddr::from),
            (ip, any::<u16>(), scope)
                .prop_map(|(ip, port, scope)| SocketAddrV6::new(ip, port, 0, scope).into()),
        ]
    }

    fn connection() -> impl Strategy<Value = Connection> {
        let peer = prop::option::of(peer());
        (manner(), peer, any::<u64>(), any::<u64>()).prop_map(|(manner, peer, unread, state)| {
            Connection {
                manner,
                peer,
                unread,
                state,
            }
        })
    }

    fn events() -> impl Strategy<Value = Vec<Raw>> {
        let told = any::<String>().prop_map(|text| Raw::of(&text).expect("a text"));
        prop::collection::vec(told, 0..9)
    }

    fn consent() -> impl Strategy<Value = Consent> {
        (any::<String>(), prop::collection::vec(manner(), 0..4))
            .prop_map(|(endpoint, manners)| Consent { endpoint, manners })
    }

    fn to_successor() -> impl Strategy<Value = ToSuccessor> {
        prop_oneof![
            offer().prop_map(ToSuccessor::Offer),
            (prop::collection::vec(description(), 0..9), any::<u32>()).prop_map(
                |(entries, descriptors)| ToSuccessor::Sockets(Sockets {
                    entries,
                    descriptors
                })
            ),
            Just(ToSuccessor::Commit {}),
            Just(ToSuccessor::HandOver {}),
            Just(ToSuccessor::Draining {}),
            Just(ToSuccessor::Released {}),
            Just(ToSuccessor::Stop {}),
            any::<String>().prop_map(|state| ToSuccessor::Client { state }),
            Just(ToSuccessor::Lanes {}),
            (
                (
                    any::<u64>(),
                    any::<Option<u32>>(),
                    any::<String>(),
                    any::<u64>()
                ),
                prop::collection::vec(connection(), 0..9)
            )
                .prop_map(|((batch, to, endpoint, parcel), connections)| {
                    ToSuccessor::Connections {
                        batch,
                        to,
                        endpoint,
                        parcel,
                        connections,
                    }
                }),
            events().prop_map(|events| ToSuccessor::Events { events }),
        ]
    }

    fn to_incumbent() -> impl Strategy<Value = ToIncumbent> {
        prop_oneof![
            (any::<u32>(), any::<i32>()).prop_map(|(version, pid)| ToIncumbent::Accepted {
                version,
                capabilities: Capabilities::ours(),
                pid
            }),
            any::<u32>().prop_map(|descriptors| ToIncumbent::Taken { descriptors }),
            any::<Vec<String>>().prop_map(|keys| ToIncumbent::Claims { keys }),
            any::<Vec<String>>().prop_map(|claimed| ToIncumbent::Ready { claimed }),
            failed().prop_map(ToIncumbent::Failed),
            Just(ToIncumbent::Serving {}),
            Just(ToIncumbent::Settled {}),
            Just(ToIncumbent::Stopping {}),
            any::<u64>().prop_map(|deadline_ms| ToIncumbent::Shorten { deadline_ms }),
            any::<String>().prop_map(|state| ToIncumbent::Client { state }),
            (
                any::<u64>(),
                any::<Option<u32>>(),
                prop::collection::vec(consent(), 0..9)
            )
                .prop_map(|(connections, generation, consents)| {
                    ToIncumbent::Credit {
                        connections,
                        generation,
                        consents,
                    }
                }),
            any::<u32>().prop_map(|generation| ToIncumbent::Superseded { generation }),
            (any::<u64>(), any::<Vec<u32>>())
                .prop_map(|(batch, refused)| ToIncumbent::Moved { batch, refused }),
            events().prop_map(|events| ToIncumbent::Events { events }),
        ]
    }

    /// What a peer could send that means well, and is not quite a message.
    fn almost() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            Just("null".to_owned()),
            Just("-1".to_owned()),
            Just("1e400".to_owned()),
            Just("[[[".to_owned()),
            Just("{}".to_owned()),
            Just("\"offer\"".to_owned()),
            Just("\"ready\"".to_owned()),
            Just("\"sockets\"".to_owned()),
            any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        ];
        let name = prop_oneof![
            Just("type"),
            Just("pid"),
            Just("claimed"),
            Just("entries"),
            Just("versions"),
        ];
        prop::collection::vec((name, value), 0..6).prop_map(|fields| {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("\"{name}\":{value}"))
                .collect();
            format!("{{{}}}", fields.join(","))
        })
    }

    proptest! {
        #[test]
        fn messages_to_a_successor_come_back(message in to_successor()) {
            let record = encode(&message).unwrap();
            prop_assert_eq!(decode::<ToSuccessor>(&record), Ok(message));
        }

        #[test]
        fn messages_to_an_incumbent_come_back(message in to_incumbent()) {
            let record = encode(&message).unwrap();
            prop_assert_eq!(decode::<ToIncumbent>(&record), Ok(message));
        }

        #[test]
        fn unknown_fields_are_ignored(message in to_successor(), value in any::<String>()) {
            let mut json = serde_json::to_value(&message).unwrap();
            json["of_tomorrow"] = serde_json::json!({ "deep": [value] });
            let record = serde_json::to_vec(&json).unwrap();
            prop_assert_eq!(decode::<ToSuccessor>(&record), Ok(message));
        }

        #[test]
        fn arbitrary_bytes_are_garbage_or_a_message(record: Vec<u8>, text in almost()) {
            for record in [record.as_slice(), text.as_bytes()] {
                match decode::<ToSuccessor>(record) {
                    Err(_) | Ok(ToSuccessor::Unknown) => {}
                    Ok(message) => {
                        prop_assert_eq!(decode(&encode(&message).unwrap()), Ok(message));
                    }
                }
                match decode::<ToIncumbent>(record) {
                    Err(_) | Ok(ToIncumbent::Unknown) => {}
                    Ok(message) => {
                        prop_assert_eq!(decode(&encode(&message).unwrap()), Ok(message));
                    }
                }
            }
        }

        #[test]
        fn parts_fit_and_keep_the_order(lengths in prop::collection::vec(0..90_000_usize, 0..9)) {
            let keys: Vec<String> = lengths.iter().map(|length| "k".repeat(*length)).collect();
            let mut again = Vec::new();
            for message in ToIncumbent::ready(keys.clone()) {
                let record = encode(&message).unwrap();
                match decode::<ToIncumbent>(&record).unwrap() {
                    ToIncumbent::Claims { keys } => again.extend(keys),
                    ToIncumbent::Ready { claimed } => again.extend(claimed),
                    other => panic!("{other:?}"),
                }
            }
            prop_assert_eq!(again, keys);
        }

        #[test]
        fn what_many_endpoints_take_fits_and_keeps_the_order(
            consent in consent(),
            lengths in prop::collection::vec(0..90_000_usize, 0..9),
        ) {
            let consents: Vec<_> = lengths
                .iter()
                .map(|length| Consent { endpoint: "\u{1}".repeat(length / 6), ..consent.clone() })
                .collect();
            let mut again = Vec::new();
            let mut records = 0;
            for message in ToIncumbent::credit(7, 3, consents.clone()) {
                let record = encode(&message).unwrap();
                match decode::<ToIncumbent>(&record).unwrap() {
                    ToIncumbent::Credit { connections: 7, generation: Some(3), consents } => {
                        again.extend(consents);
                    }
                    other => panic!("{other:?}"),
                }
                records += 1;
            }
            prop_assert!(records > 0);
            prop_assert_eq!(again, consents);
        }

        #[test]
        fn no_record_carries_too_many_descriptors(
            entry in description(),
            locks in prop::collection::vec(any::<bool>(), 0..600),
        ) {
            let entries: Vec<_> = locks
                .iter()
                .map(|lock| Description { lock: *lock, ..entry.clone() })
                .collect();
            let parts: Vec<_> = Sockets::split(entries.clone()).collect();
            for part in &parts {
                let count: usize = part.entries.iter().map(Description::descriptors).sum();
                prop_assert_eq!(count, part.descriptors as usize);
                prop_assert!((1..=253).contains(&count));
                prop_assert!(encode(&ToSuccessor::Sockets(part.clone())).is_ok());
            }
            let again: Vec<_> = parts.into_iter().flat_map(|part| part.entries).collect();
            prop_assert_eq!(again, entries);
        }
    }

    #[test]
    fn events_are_told_by_the_beginning_of_their_record() {
        let record = |message: &ToSuccessor| encode(message).expect("a short one");
        let events = ToSuccessor::events(Raw::of(&"something").into_iter().collect());
        let events: Vec<_> = events.map(|events| record(&events)).collect();
        assert_eq!(events.len(), 1);
        assert!(ToSuccessor::are_events(&events[0]));
        assert!(!ToSuccessor::are_events(&record(&ToSuccessor::Released {})));
    }

    #[test]
    fn a_newer_peer_may_say_more() {
        let message = br#"{"type":"teleport","where":[1,{"x":2}]}"#;
        assert_eq!(decode(message), Ok(ToSuccessor::Unknown));
        assert_eq!(decode(message), Ok(ToIncumbent::Unknown));
        let role = serde_json::from_str::<Role>("\"crystal_ball\"").unwrap();
        assert_eq!(role, Role::Unknown);
        let manner = serde_json::from_str::<Manner>("\"telepathic\"").unwrap();
        assert_eq!(manner, Manner::Unknown);
        let stage = serde_json::from_str::<Stage>("\"meditation\"").unwrap();
        assert_eq!(stage, Stage::Unknown);
    }

    #[test]
    fn an_older_peer_may_say_less() {
        let message =
            br#"{"type":"offer","versions":{"min":0,"max":1},"generation":2,"pid":1,"sockets":0}"#;
        assert!(matches!(decode(message), Ok(ToSuccessor::Offer(_))));
        assert!(matches!(
            decode(br#"{"type":"ready"}"#),
            Ok(ToIncumbent::Ready { .. })
        ));
    }

    #[test]
    fn garbage_is_an_error() {
        for record in [
            &b""[..],
            b"hello",
            b"[]",
            b"{}",
            b"{\"type\":7}",
            b"{\"type\":\"offer\"}",
            b"{\"type\":\"ready\",\"claimed\":3}",
            b"{\"type\":\"commit\"} and more",
        ] {
            let known = String::from_utf8_lossy(record);
            assert!(
                decode::<ToSuccessor>(record).is_err() || known.contains("ready"),
                "{known}"
            );
            let other = known.contains("offer");
            assert!(decode::<ToIncumbent>(record).is_err() || other, "{known}");
        }
        let deep = "[".repeat(MAX_RECORD);
        assert!(decode::<ToSuccessor>(deep.as_bytes()).is_err());
        let long = " ".repeat(MAX_RECORD + 1);
        assert!(decode::<ToSuccessor>(long.as_bytes()).is_err());
    }

    #[test]
    fn no_error_is_too_long_to_be_reported() {
        let long = "\u{1}ü".repeat(MAX_RECORD);
        let failed = Failed::new(Stage::Init, Some(long.clone()), &long);
        assert!(encode(&ToIncumbent::Failed(failed)).is_ok());
    }
}
