//! The name of an mbuf: one number, unique in the group, good in every process.
//!
//! ```text
//! bit   31      24 23                    0
//!       | pool id | number in the pool   |
//! ```

use core::fmt;

/// Bits of an index that count inside the pool.
const NUMBER_BITS: u32 = 24;

/// Most mbufs a pool can hold: what the number part of an index can tell apart.
pub const POOL_COUNT_MAX: u32 = 1 << NUMBER_BITS;

/// Most pools in a group. One less than the id part could name, so that [`MbufIndex::NONE`] names nobody.
pub const POOLS_MAX: usize = 255;

/// Which mbuf: the pool's id and the number within it.
///
/// Any 32 bits are an index; whether an mbuf belongs to it, only its pool can say. What comes out of shared memory
/// is checked against the pool's range before it is used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct MbufIndex(u32);

impl MbufIndex {
    /// No mbuf: the end of a chain, the original of a direct mbuf.
    pub const NONE: Self = Self(u32::MAX);

    /// Mbuf `number` of pool `pool`; what exceeds 24 bits of the number is cut off.
    #[must_use]
    pub const fn new(pool: u8, number: u32) -> Self {
        Self((pool as u32) << NUMBER_BITS | number & (POOL_COUNT_MAX - 1))
    }

    /// The index that these bits are, as they travel in rings and magazines.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits to put into a ring or a magazine.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The pool's id.
    #[must_use]
    pub const fn pool(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    /// The number within the pool.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0 & (POOL_COUNT_MAX - 1)
    }

    /// Whether this is [`NONE`](Self::NONE).
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == Self::NONE.0
    }
}

impl fmt::Display for MbufIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            f.write_str("none")
        } else {
            write!(f, "{}:{}", self.pool(), self.number())
        }
    }
}

impl fmt::Debug for MbufIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_splits_into_what_it_was_made_of() {
        for (pool, number) in [(0, 0), (1, 7), (254, POOL_COUNT_MAX - 1)] {
            let index = MbufIndex::new(pool, number);
            assert_eq!((index.pool(), index.number()), (pool, number));
            assert_eq!(MbufIndex::from_bits(index.bits()), index);
            assert!(!index.is_none());
        }
    }

    #[test]
    fn none_lies_in_a_pool_that_cannot_exist() {
        assert_eq!(usize::from(MbufIndex::NONE.pool()), POOLS_MAX);
    }
}
