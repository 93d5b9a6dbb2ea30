//! Ethernet: addresses, and the header of a frame. RFC 894, RFC 2464.

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use super::Malformed;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All stations.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// No station.
    pub const ZERO: Self = Self([0; 6]);

    /// Whether more than one station may listen: a multicast address, or broadcast.
    #[inline]
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// As a number of 48 bits.
    #[inline]
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The address that the lower 48 bits are.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
        Self([a, b, c, d, e, f])
    }

    /// Whether it can be the address of one station.
    #[inline]
    #[must_use]
    pub fn is_unicast(self) -> bool {
        !self.is_group() && self != Self::ZERO
    }

    /// Where frames to an IPv4 group go: RFC 1112 section 6.4.
    #[inline]
    #[must_use]
    pub const fn multicast_v4(group: Ipv4Addr) -> Self {
        let [_, b, c, d] = group.octets();
        Self([0x01, 0x00, 0x5e, b & 0x7f, c, d])
    }

    /// Where frames to an IPv6 group go: RFC 2464 section 7.
    #[inline]
    #[must_use]
    pub const fn multicast_v6(group: Ipv6Addr) -> Self {
        let [.., a, b, c, d] = group.octets();
        Self([0x33, 0x33, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Ethernet address; write six pairs of hexadecimal digits, as in 02:00:00:00:00:01")]
pub struct NotMac;

impl FromStr for Mac {
    type Err = NotMac;

    fn from_str(text: &str) -> Result<Self, NotMac> {
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut mac {
            let part = parts.next().ok_or(NotMac)?;
            let is_pair = part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit());
            let part = is_pair.then_some(part).ok_or(NotMac)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| NotMac)?;
        }
        parts.next().is_none().then_some(Self(mac)).ok_or(NotMac)
    }
}

/// What a frame carries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: Self = Self(0x0800);
    /// ARP.
    pub const ARP: Self = Self(0x0806);
    /// A VLAN tag: IEEE 802.1Q.
    pub const VLAN: Self = Self(0x8100);
    /// IPv6.
    pub const IPV6: Self = Self(0x86dd);
    /// The outer one of two VLAN tags: IEEE 802.1ad.
    pub const QINQ: Self = Self(0x88a8);
}

impl fmt::Debug for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EtherType({:#06x})", self.0)
    }
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ethernet {
    destination: u64,
    source: u64,
    ether_type: EtherType,
}

impl Ethernet {
    /// Bytes of the header.
    pub const LEN: usize = 14;

    /// Reads the header that `bytes` begin with.
    ///
    /// # Errors
    ///
    /// There are fewer bytes.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let header: &[u8; Self::LEN] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        // Two words, which share two bytes.
        let first = header.first_chunk().ok_or(Malformed::Truncated)?;
        let last = header.last_chunk().ok_or(Malformed::Truncated)?;
        let (first, last) = (u64::from_be_bytes(*first), u64::from_be_bytes(*last));
        Ok(Self {
            destination: first >> 16,
            source: last >> 16,
            ether_type: EtherType((last & 0xffff) as u16),
        })
    }

    /// A header of these fields.
    #[inline]
    #[must_use]
    pub const fn new(destination: Mac, source: Mac, ether_type: EtherType) -> Self {
        Self {
            destination: destination.to_bits(),
            source: source.to_bits(),
            ether_type,
        }
    }

    /// Writes the header.
    #[inline]
    pub const fn write(&self, out: &mut [u8; Self::LEN]) {
        let (Mac([a, b, c, d, e, f]), Mac([g, h, i, j, k, l])) =
            (self.destination(), self.source());
        let [m, n] = self.ether_type.0.to_be_bytes();
        *out = [a, b, c, d, e, f, g, h, i, j, k, l, m, n];
    }

    /// To whom.
    #[inline]
    #[must_use]
    pub const fn destination(&self) -> Mac {
        Mac::from_bits(self.destination)
    }

    /// From whom.
    #[inline]
    #[must_use]
    pub const fn source(&self) -> Mac {
        Mac::from_bits(self.source)
    }

    /// What follows.
    #[inline]
    #[must_use]
    pub const fn ether_type(&self) -> EtherType {
        self.ether_type
    }

    /// Whether it is from one station to another, which is `to`, a [`Mac::to_bits`].
    #[inline]
    pub(crate) const fn is_to_one(&self, to: u64) -> bool {
        const GROUP: u64 = 1 << 40;
        self.destination == to && self.source != to && self.source & GROUP == 0
    }
}

#[cfg(test)]
mod tests {
    use etherparse::Ethernet2Header;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn group_addresses_are_told_from_those_of_one_station() {
        assert!(Mac::BROADCAST.is_group());
        assert!(Mac([0x33, 0x33, 0, 0, 0, 1]).is_group());
        assert!(!Mac([2, 0, 0, 0, 0, 1]).is_group());
        assert!(Mac([2, 0, 0, 0, 0, 1]).is_unicast());
        assert!(!Mac::ZERO.is_unicast());
        assert!(!Mac::BROADCAST.is_unicast());
    }

    #[test]
    fn groups_have_the_addresses_that_the_rfcs_give_them() {
        let all_hosts = Mac::multicast_v4(Ipv4Addr::new(224, 0, 0, 1));
        assert_eq!(all_hosts.to_string(), "01:00:5e:00:00:01");
        let high_bit_goes = Mac::multicast_v4(Ipv4Addr::new(239, 255, 1, 2));
        assert_eq!(high_bit_goes.to_string(), "01:00:5e:7f:01:02");
        let solicited = Mac::multicast_v6("ff02::1:ff28:9c5a".parse().unwrap());
        assert_eq!(solicited.to_string(), "33:33:ff:28:9c:5a");
    }

    #[test]
    fn text_that_is_no_address_is_refused() {
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "02:00:00:00:00:1",
            "02:00:00:00:00:0g",
            "+2:00:00:00:00:01",
            "020000000001",
            "02-00-00-00-00-01",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(NotMac), "{text}");
        }
        assert_eq!("fF:00:Aa:00:00:01".parse(), Ok(Mac([255, 0, 170, 0, 0, 1])));
    }

    #[test]
    fn frame_that_ends_in_its_header_is_refused() {
        assert_eq!(Ethernet::parse(&[0; 13]), Err(Malformed::Truncated));
        assert!(Ethernet::parse(&[0; 14]).is_ok());
    }

    proptest! {
        #[test]
        fn address_that_is_written_is_read_again(octets: [u8; 6]) {
            prop_assert_eq!(Mac(octets).to_string().parse(), Ok(Mac(octets)));
        }

        #[test]
        fn header_is_the_one_that_etherparse_reads_and_writes(destination: [u8; 6], source: [u8; 6], ether_type: u16) {
            let theirs = Ethernet2Header { destination, source, ether_type: ether_type.into() };
            let ours = Ethernet::parse(&theirs.to_bytes()).unwrap();
            prop_assert_eq!(ours.destination(), Mac(destination));
            prop_assert_eq!(ours.source(), Mac(source));
            prop_assert_eq!(ours.ether_type(), EtherType(ether_type));
            prop_assert_eq!(ours, Ethernet::new(Mac(destination), Mac(source), EtherType(ether_type)));
            let mut out = [0; Ethernet::LEN];
            ours.write(&mut out);
            prop_assert_eq!(out, theirs.to_bytes());
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            prop_assert_eq!(Ethernet::parse(&bytes).is_ok(), bytes.len() >= Ethernet::LEN);
        }
    }
}
