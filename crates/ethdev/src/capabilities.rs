//! What a device does by itself; software does the rest.

use std::fmt;
use std::ops::BitOr;

/// A set of things that a device can do.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(u32);

const NAMES: [&str; 11] = [
    "rx-checksum",
    "tx-checksum",
    "tx-tcp4-segmentation",
    "tx-tcp6-segmentation",
    "rx-scatter",
    "tx-scatter",
    "vlan-strip",
    "rss-hash",
    "promiscuous",
    "set-mtu",
    "set-mac",
];

impl Capabilities {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Received packets say whether their checksums are right.
    pub const RX_CHECKSUM: Self = Self(1 << 0);
    /// A partial checksum is completed on the way out.
    pub const TX_CHECKSUM: Self = Self(1 << 1);
    /// Large TCP segments over IPv4 are cut on the way out.
    pub const TX_GSO_TCP4: Self = Self(1 << 2);
    /// Large TCP segments over IPv6 are cut on the way out.
    pub const TX_GSO_TCP6: Self = Self(1 << 3);
    /// A packet longer than a buffer arrives as a chain.
    pub const RX_SCATTER: Self = Self(1 << 4);
    /// A chain can be sent.
    pub const TX_SCATTER: Self = Self(1 << 5);
    /// VLAN tags are taken off and reported.
    pub const VLAN_STRIP: Self = Self(1 << 6);
    /// Received packets carry their hash.
    pub const RSS_HASH: Self = Self(1 << 7);
    /// Frames for other addresses can be received.
    pub const PROMISCUOUS: Self = Self(1 << 8);
    /// The MTU can be changed.
    pub const SET_MTU: Self = Self(1 << 9);
    /// The address can be changed.
    pub const SET_MAC: Self = Self(1 << 10);

    /// Whether all of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets, for constants.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// From a port's record; what this release does not know is left out.
    #[must_use]
    pub fn from_word(word: u64) -> Self {
        let known = (1_u32 << NAMES.len()) - 1;
        Self(u32::try_from(word & u64::from(known)).unwrap_or(0))
    }

    /// As it lies in a port's record.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.0 as u64
    }

    /// The names of what is in the set, in a fixed order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES
            .iter()
            .enumerate()
            .filter(move |(bit, _)| self.0 >> bit & 1 == 1)
            .map(|(_, name)| *name)
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, name) in self.names().enumerate() {
            write!(f, "{}{name}", if place == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capabilities({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_says_what_is_in_it() {
        let set = Capabilities::TX_CHECKSUM | Capabilities::SET_MAC;
        assert!(set.contains(Capabilities::TX_CHECKSUM));
        assert!(!set.contains(Capabilities::RX_CHECKSUM | Capabilities::TX_CHECKSUM));
        assert_eq!(set.to_string(), "tx-checksum set-mac");
    }
}
