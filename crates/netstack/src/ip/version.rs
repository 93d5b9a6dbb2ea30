//! Addresses of one version of IP: what hangs on the version is known when this is compiled.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::hash::address_bits;

/// An address, and with it a version of IP.
pub(crate) trait Version: Copy + PartialEq + Into<IpAddr> {
    /// Whether it is IPv6.
    const IS_V6: bool;
    /// All of ours, as [`bits`](Self::bits).
    const ANY: u128;

    /// As one number.
    fn bits(self) -> u128;

    /// The address of which this is the number, or another if there is none such.
    fn from_bits(bits: u128) -> Self;
}

impl Version for Ipv4Addr {
    const IS_V6: bool = false;
    const ANY: u128 = 0xffff_0000_0000;

    #[inline]
    fn bits(self) -> u128 {
        address_bits(self.into())
    }

    #[inline]
    fn from_bits(bits: u128) -> Self {
        let [a, b, c, d, ..] = bits.to_le_bytes();
        Self::from([d, c, b, a])
    }
}

impl Version for Ipv6Addr {
    const IS_V6: bool = true;
    const ANY: u128 = 0;

    #[inline]
    fn bits(self) -> u128 {
        self.to_bits()
    }

    #[inline]
    fn from_bits(bits: u128) -> Self {
        Self::from_bits(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads_back<V: Version + core::fmt::Debug>(address: V) {
        assert_eq!(V::from_bits(address.bits()), address);
        assert_eq!(address_bits(address.into()), address.bits());
    }

    #[test]
    fn addresses_are_their_numbers() {
        for address in [[0; 4], [10, 1, 2, 3], [255; 4]] {
            reads_back(Ipv4Addr::from(address));
        }
        reads_back(Ipv6Addr::UNSPECIFIED);
        reads_back(Ipv6Addr::from([7; 16]));
        assert_eq!(Ipv4Addr::UNSPECIFIED.bits(), Ipv4Addr::ANY);
        assert_eq!(Version::bits(Ipv6Addr::UNSPECIFIED), Ipv6Addr::ANY);
    }
}
