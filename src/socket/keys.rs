//! Maps of endpoints.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map from what an endpoint is found by.
///
/// Its keys are chosen by the service and nobody else, so that it needs no defence against keys that
/// are made to collide; and ten thousand of them are looked up several times while a successor starts.
pub(crate) type KeyMap<K, V> = HashMap<K, V, BuildHasherDefault<WordHasher>>;

/// Takes one multiplication for each eight bytes.
#[derive(Debug, Default)]
pub(crate) struct WordHasher(u64);

impl WordHasher {
    fn add(&mut self, word: u64) {
        // An odd number whose bits look random: the fraction of the golden ratio.
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.add(
                word.iter()
                    .fold(0, |word, byte| word << 8 | u64::from(*byte)),
            );
        }
        let rest = words.remainder();
        self.add(
            rest.iter()
                .fold(0, |word, byte| word << 8 | u64::from(*byte)),
        );
    }

    fn write_u8(&mut self, number: u8) {
        self.add(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.add(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.add(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.add(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }

    fn finish(&self) -> u64 {
        // A product is random in its high bits, and a map looks at both ends.
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;
    use std::net::SocketAddr;

    use super::*;

    /// As many as a map would have with hashes that are random.
    #[test]
    fn what_is_alike_is_spread() {
        let hashes = BuildHasherDefault::<WordHasher>::default();
        let addresses = (0..10_000_u16).map(|at| {
            let [high, low] = at.to_be_bytes();
            SocketAddr::from(([127, 2, high, low], 8080))
        });
        let by_text: HashSet<_> = addresses
            .clone()
            .map(|address| hashes.hash_one(address.to_string()) % 16_384)
            .collect();
        let by_value: HashSet<_> = addresses
            .map(|address| hashes.hash_one(address) % 16_384)
            .collect();
        // 16,384 places, of which 10,000 random numbers hit 7,490.
        for places in [by_text.len(), by_value.len()] {
            assert!((7_000..).contains(&places), "{places}");
        }
    }
}
