//! The sockets of an offer.

use serde::{Deserialize, Serialize};

use super::codec;
use crate::socket::Description;

/// Most descriptors that ride along with one record (`SCM_MAX_FD`, unix(7)).
pub(crate) const MAX_DESCRIPTORS: usize = 253;

/// A part of the sockets of an offer, with their descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sockets {
    /// What each descriptor is, in the order of the descriptors.
    pub(crate) entries: Vec<Description>,
    /// How many descriptors ride along.
    pub(crate) descriptors: u32,
}

impl Sockets {
    /// Distributes the sockets of an offer over records that fit; none where there are no sockets.
    pub(crate) fn split(entries: Vec<Description>) -> impl Iterator<Item = Self> {
        let length = |entry: &Description| {
            // Names of fields, numbers, a kind: 190 bytes with the longest of all.
            let texts = [entry.name.as_deref().unwrap_or_default(), &entry.endpoint];
            let texts = texts.into_iter().map(codec::length_of_text);
            256 + texts.sum::<usize>() + entry.address.longest_text()
        };
        codec::split(entries, length, Description::descriptors, MAX_DESCRIPTORS).map(|entries| {
            let count: usize = entries.iter().map(Description::descriptors).sum();
            Self {
                descriptors: u32::try_from(count).expect("at most MAX_DESCRIPTORS"),
                entries,
            }
        })
    }
}
