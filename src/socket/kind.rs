//! The kinds of socket.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::text;

/// What sort of socket an endpoint has.
///
/// A kind travels as its [`name`](Self::name). One that this version does not know arrives as
/// [`Descriptor`](Self::Descriptor): it is held and passed on, and nobody here can listen on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "&'static str")]
pub(crate) enum Kind {
    /// A listening TCP socket.
    Tcp,
    /// A listening Unix stream socket.
    Unix,
    /// A listening Unix socket that keeps records.
    UnixSeqpacket,
    /// A bound UDP socket.
    Udp,
    /// A bound Unix datagram socket.
    UnixDatagram,
    /// Any other descriptor: a file, a pipe, a memfd, a connected socket.
    Descriptor,
}

impl Kind {
    /// The kinds that connections come out of.
    pub(crate) const STREAMS: &'static [Self] = &[Self::Tcp, Self::Unix, Self::UnixSeqpacket];

    const ALL: [Self; 6] = [
        Self::Tcp,
        Self::Unix,
        Self::UnixSeqpacket,
        Self::Udp,
        Self::UnixDatagram,
        Self::Descriptor,
    ];

    /// Is it one that connections come out of?
    pub(crate) fn is_stream(self) -> bool {
        Self::STREAMS.contains(&self)
    }

    /// Is it one that datagrams come out of?
    pub(crate) fn is_datagram(self) -> bool {
        matches!(self, Self::Udp | Self::UnixDatagram)
    }

    /// Is its address an IP address and a port?
    pub(crate) fn is_inet(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp)
    }

    /// What stands in front of the address in an endpoint's text.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Tcp => "",
            Self::Unix => "unix:",
            Self::UnixSeqpacket => "unix-seqpacket:",
            Self::Udp => "udp:",
            Self::UnixDatagram => "unix-datagram:",
            Self::Descriptor => "descriptor",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::UnixSeqpacket => "unix-seqpacket",
            Self::Udp => "udp",
            Self::UnixDatagram => "unix-datagram",
            Self::Descriptor => "descriptor",
        }
    }
}

/// Prints the kind with its article, as errors want it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "a listening TCP socket",
            Self::Unix => "a listening Unix stream socket",
            Self::UnixSeqpacket => "a listening Unix seqpacket socket",
            Self::Udp => "a UDP socket",
            Self::UnixDatagram => "a Unix datagram socket",
            Self::Descriptor => "a descriptor",
        })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer)
    }
}

impl From<&str> for Kind {
    fn from(name: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .unwrap_or(Self::Descriptor)
    }
}

impl From<Kind> for &'static str {
    fn from(kind: Kind) -> Self {
        kind.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn travels_as_its_name() {
        for kind in Kind::ALL {
            let text = serde_json::to_string(&kind).unwrap();
            assert_eq!(text, format!("\"{}\"", kind.name()));
            assert_eq!(serde_json::from_str::<Kind>(&text).unwrap(), kind);
        }
    }

    #[test]
    fn an_unknown_kind_is_a_descriptor() {
        let kind: Kind = serde_json::from_str("\"vsock\"").unwrap();
        assert_eq!(kind, Kind::Descriptor);
    }
}
