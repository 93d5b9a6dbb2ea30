//! What a device has found out about a packet, and what it is asked to do with one.

use core::fmt;
use core::ops::{BitAnd, BitOr, BitOrAssign, Not};

/// A set of facts and wishes about a packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct OffloadFlags(u64);

impl OffloadFlags {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The device took the VLAN tag out of the frame; `vlan_tci` has it.
    pub const VLAN_STRIPPED: Self = Self(1 << 0);
    /// `rss_hash` is valid.
    pub const RSS_HASH: Self = Self(1 << 1);
    /// The device found the IP header's checksum right.
    pub const RX_IP_GOOD: Self = Self(1 << 2);
    /// The device found the IP header's checksum wrong.
    pub const RX_IP_BAD: Self = Self(1 << 3);
    /// The device found the checksum of TCP or UDP right.
    pub const RX_L4_GOOD: Self = Self(1 << 4);
    /// The device found the checksum of TCP or UDP wrong.
    pub const RX_L4_BAD: Self = Self(1 << 5);
    /// The packet is as a host on the same machine sent it: the checksum of TCP or UDP is not in it. Also what is asked for
    /// when sending: the field holds the sum of the pseudo header, and whoever puts the packet on a wire sums up from
    /// `csum_start` and stores at `csum_offset` from there.
    pub const TX_L4_CSUM: Self = Self(1 << 6);
    /// When sending: put `vlan_tci` into the frame.
    pub const TX_VLAN_INSERT: Self = Self(1 << 7);
    /// When sending: fill in the IPv4 header's checksum.
    pub const TX_IP_CSUM: Self = Self(1 << 8);
    /// One large TCP segment over IPv4, to be cut into `gso_size`.
    pub const GSO_TCP4: Self = Self(1 << 9);
    /// One large TCP segment over IPv6, to be cut into `gso_size`.
    pub const GSO_TCP6: Self = Self(1 << 10);
    /// UDP datagrams of `gso_size`, one after the other.
    pub const GSO_UDP: Self = Self(1 << 11);
    /// With a GSO kind: the first segment alone keeps CWR.
    pub const GSO_ECN: Self = Self(1 << 12);
    /// All kinds of packets that are to be cut.
    pub const GSO: Self = Self(Self::GSO_TCP4.0 | Self::GSO_TCP6.0 | Self::GSO_UDP.0);
    /// Whatever is to be done to a packet on its way out.
    pub const TX: Self =
        Self(Self::TX_L4_CSUM.0 | Self::TX_VLAN_INSERT.0 | Self::TX_IP_CSUM.0 | Self::GSO.0);

    /// Bits that are flags; above them the word has other parts.
    pub(crate) const MASK: u64 = (1 << 48) - 1;

    const NAMES: [(Self, &'static str); 13] = [
        (Self::VLAN_STRIPPED, "VLAN_STRIPPED"),
        (Self::RSS_HASH, "RSS_HASH"),
        (Self::RX_IP_GOOD, "RX_IP_GOOD"),
        (Self::RX_IP_BAD, "RX_IP_BAD"),
        (Self::RX_L4_GOOD, "RX_L4_GOOD"),
        (Self::RX_L4_BAD, "RX_L4_BAD"),
        (Self::TX_L4_CSUM, "TX_L4_CSUM"),
        (Self::TX_VLAN_INSERT, "TX_VLAN_INSERT"),
        (Self::TX_IP_CSUM, "TX_IP_CSUM"),
        (Self::GSO_TCP4, "GSO_TCP4"),
        (Self::GSO_TCP6, "GSO_TCP6"),
        (Self::GSO_UDP, "GSO_UDP"),
        (Self::GSO_ECN, "GSO_ECN"),
    ];

    /// The flags in a word; bits that are none are dropped.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits & Self::MASK)
    }

    /// As a word.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether all of `other` are in the set.
    #[inline]
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in the set.
    #[inline]
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether the set is empty.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set without `other`.
    #[inline]
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for OffloadFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for OffloadFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for OffloadFlags {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for OffloadFlags {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0 & Self::MASK)
    }
}

impl fmt::Debug for OffloadFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (flag, name) in Self::NAMES {
            if self.contains(flag) {
                write!(f, "{between}{name}")?;
                between = "|";
            }
        }
        if between.is_empty() {
            f.write_str("NONE")
        } else {
            Ok(())
        }
    }
}

/// Where a partial checksum goes, and how a large packet is to be cut: what `virtio_net_hdr` says.
///
/// Numbers that travel in shared memory: check them against the packet before use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TxOffload {
    /// Bytes before what is summed up.
    pub csum_start: u16,
    /// Where the sum goes, from there.
    pub csum_offset: u16,
    /// Bytes of all headers, which each segment repeats.
    pub hdr_len: u16,
    /// Bytes of data in each segment; 0 if the packet is not to be cut.
    pub gso_size: u16,
    /// What the device calls the way of cutting.
    pub gso_type: u8,
}

impl TxOffload {
    /// `gso_type` lies in the word of the flags.
    pub(crate) const TYPE_SHIFT: u32 = 48;
    pub(crate) const TYPE_MASK: u64 = 0xff << Self::TYPE_SHIFT;

    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.csum_start as u64
            | (self.csum_offset as u64) << 16
            | (self.hdr_len as u64) << 32
            | (self.gso_size as u64) << 48
    }

    #[inline]
    pub(crate) const fn from_bits(bits: u64, flags: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = bits.to_le_bytes();
        let [.., gso_type, _] = flags.to_le_bytes();
        Self {
            csum_start: u16::from_le_bytes([a, b]),
            csum_offset: u16::from_le_bytes([c, d]),
            hdr_len: u16::from_le_bytes([e, f]),
            gso_size: u16::from_le_bytes([g, h]),
            gso_type,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_print_their_names() {
        let flags = OffloadFlags::RSS_HASH | OffloadFlags::GSO_TCP4;
        assert_eq!(format!("{flags:?}"), "RSS_HASH|GSO_TCP4");
        assert_eq!(format!("{:?}", OffloadFlags::NONE), "NONE");
        assert!(flags.intersects(OffloadFlags::GSO) && !flags.contains(OffloadFlags::GSO));
        assert!(flags.without(OffloadFlags::GSO_TCP4) == OffloadFlags::RSS_HASH);
    }

    #[test]
    fn offload_reads_back_as_what_was_packed() {
        let offload = TxOffload {
            csum_start: 34,
            csum_offset: 16,
            hdr_len: 66,
            gso_size: 1448,
            gso_type: 0x81,
        };
        let flags = u64::from(offload.gso_type) << TxOffload::TYPE_SHIFT;
        assert_eq!(TxOffload::from_bits(offload.bits(), flags), offload);
    }
}
