//! VLAN tags: IEEE 802.1Q.

use super::ethernet::EtherType;
use super::{Malformed, take};

/// The four bytes between the addresses, or another tag's type, and the type of what follows: tag control, and that type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// Tag control information: priority, drop eligible, VLAN.
    pub tci: u16,
    /// What follows.
    pub ether_type: EtherType,
}

impl Tag {
    /// Bytes of a tag.
    pub const LEN: usize = 4;
    /// The bits of the tag control information that are the VLAN.
    pub const VID_MASK: u16 = 0x0fff;

    /// Reads the tag that `bytes`, which follow the type [`EtherType::VLAN`] or [`EtherType::QINQ`], begin with.
    ///
    /// # Errors
    ///
    /// There are fewer bytes.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let ([a, b, c, d], _) = take(bytes)?;
        Ok(Self {
            tci: u16::from_be_bytes([a, b]),
            ether_type: EtherType(u16::from_be_bytes([c, d])),
        })
    }

    /// Writes the tag.
    #[inline]
    pub const fn write(&self, out: &mut [u8; Self::LEN]) {
        let ([a, b], [c, d]) = (self.tci.to_be_bytes(), self.ether_type.0.to_be_bytes());
        *out = [a, b, c, d];
    }

    /// The VLAN; zero is none, only a priority.
    #[inline]
    #[must_use]
    pub const fn vid(&self) -> u16 {
        self.tci & Self::VID_MASK
    }

    /// The priority, up to 7.
    #[inline]
    #[must_use]
    pub const fn pcp(&self) -> u8 {
        self.tci.to_be_bytes()[0] >> 5
    }

    /// Whether the frame may be dropped first.
    #[inline]
    #[must_use]
    pub const fn dei(&self) -> bool {
        self.tci & 0x1000 != 0
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{SingleVlanHeader, VlanId, VlanPcp};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tag_that_ends_early_is_refused() {
        assert_eq!(Tag::parse(&[0; 3]), Err(Malformed::Truncated));
    }

    proptest! {
        #[test]
        fn tag_is_the_one_that_etherparse_reads_and_writes(pcp in 0u8..8, dei: bool, vid in 0u16..4096, ether_type: u16) {
            let theirs = SingleVlanHeader {
                pcp: VlanPcp::try_new(pcp).unwrap(),
                drop_eligible_indicator: dei,
                vlan_id: VlanId::try_new(vid).unwrap(),
                ether_type: ether_type.into(),
            };
            let ours = Tag::parse(&theirs.to_bytes()).unwrap();
            prop_assert_eq!((ours.pcp(), ours.dei(), ours.vid()), (pcp, dei, vid));
            prop_assert_eq!(ours.ether_type, EtherType(ether_type));
            let mut out = [0; Tag::LEN];
            ours.write(&mut out);
            prop_assert_eq!(out, theirs.to_bytes());
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            prop_assert_eq!(Tag::parse(&bytes).is_ok(), bytes.len() >= Tag::LEN);
        }
    }
}
