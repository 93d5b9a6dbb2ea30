//! How many producers and consumers a ring is for, and how its size is meant, in DPDK's words.

use core::fmt;
use core::ops::BitOr;

/// `RING_F_*`: how many may enqueue and dequeue.
///
/// | flags                | ring                                                     |
/// |----------------------|----------------------------------------------------------|
/// | `SP_ENQ \| SC_DEQ`   | one producer, one consumer                               |
/// | `SC_DEQ`             | fan-in: many producers with a lane each, one consumer    |
/// | `NONE`               | many producers, many consumers                           |
/// | `SP_ENQ`             | one producer, many consumers                             |
///
/// `EXACT_SZ` beside any of them: a size that is no power of two. Without it the size must be one; all slots of a
/// ring can be used, so a power of two needs no flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flags(u32);

impl Flags {
    /// Many producers, many consumers.
    pub const NONE: Self = Self(0);
    /// One producer.
    pub const SP_ENQ: Self = Self(1);
    /// One consumer.
    pub const SC_DEQ: Self = Self(2);
    /// A size of any number: the ring holds exactly so many items.
    pub const EXACT_SZ: Self = Self(4);

    /// Whether all of `other` is set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The number that stands for them, as in DPDK.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The flags that `bits` stands for; `None` if it has others.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits <= 7 { Some(Self(bits)) } else { None }
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self.0 {
            0 => "NONE",
            1 => "SP_ENQ",
            2 => "SC_DEQ",
            3 => "SP_ENQ|SC_DEQ",
            4 => "EXACT_SZ",
            5 => "SP_ENQ|EXACT_SZ",
            6 => "SC_DEQ|EXACT_SZ",
            _ => "SP_ENQ|SC_DEQ|EXACT_SZ",
        })
    }
}
