//! A set of manners in which connections are gone on with.

use crate::protocol::Manner;

/// A set of [`Manner`]s, as small as a byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Manners(u8);

impl Manners {
    pub(super) const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    pub(super) const fn bits(self) -> u8 {
        self.0
    }

    pub(crate) const fn has(self, manner: Manner) -> bool {
        let bit = bit(manner);
        bit != 0 && self.0 & bit == bit
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Manner> {
        [Manner::Untouched, Manner::Http1, Manner::Resumed]
            .into_iter()
            .filter(move |&manner| self.has(manner))
    }
}

impl FromIterator<Manner> for Manners {
    fn from_iter<T: IntoIterator<Item = Manner>>(manners: T) -> Self {
        Self(
            manners
                .into_iter()
                .fold(0, |bits, manner| bits | bit(manner)),
        )
    }
}

pub(super) const fn bit(manner: Manner) -> u8 {
    match manner {
        Manner::Untouched => 1,
        Manner::Http1 => 2,
        Manner::Resumed => 4,
        // Nobody here knows what to do with it.
        Manner::Unknown => 0,
    }
}
