//! Hashes that a peer who does not know the seed cannot steer.

use core::hash::{BuildHasher, Hasher};
use core::net::IpAddr;

/// Odd, with its bits well spread: the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes two words with a seed.
#[inline]
pub(crate) fn mix(seed: u64, a: u64, b: u64) -> u64 {
    // The product of two unknowns, folded: each bit of the result hangs on all bits of both.
    let wide = u128::from(a ^ seed) * u128::from(b ^ seed.rotate_left(32) ^ MULTIPLIER);
    let [low, high] = words(wide);
    low ^ high
}

/// An address as one number; those of IPv4 as RFC 4291 section 2.5.5.2 maps them, which no packet carries.
#[inline]
pub(crate) fn address_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => 0xffff_0000_0000 | u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The lower and the upper half.
#[inline]
pub(crate) fn words(bits: u128) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bits.to_le_bytes();
    [
        u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        u64::from_le_bytes([i, j, k, l, m, n, o, p]),
    ]
}

/// Hashes of the standard library's tables, by [`mix`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seeded(pub(crate) u64);

impl BuildHasher for Seeded {
    type Hasher = Mixer;

    #[inline]
    fn build_hasher(&self) -> Mixer {
        Mixer(self.0)
    }
}

/// A hash in the making.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mixer(u64);

impl Hasher for Mixer {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (eights, rest) = bytes.as_chunks::<8>();
        for eight in eights {
            self.write_u64(u64::from_le_bytes(*eight));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.write_u64(u64::from_le_bytes(last));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = mix(self.0, word, MULTIPLIER);
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    #[inline]
    fn write_u128(&mut self, word: u128) {
        let [low, high] = words(word);
        self.0 = mix(self.0, low, high);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_seed_is_another_hash() {
        let address = |last| address_bits(IpAddr::from([10, 0, 0, last]));
        let hash = |seed, key: u128| Seeded(seed).hash_one(key);
        assert_eq!(hash(1, address(1)), hash(1, address(1)));
        assert_ne!(hash(1, address(1)), hash(2, address(1)));
        let low: std::collections::BTreeSet<_> = (0..=255)
            .map(|last| hash(7, address(last)) % 4096)
            .collect();
        assert!(low.len() > 230, "{} of 256 places", low.len());
    }
}
