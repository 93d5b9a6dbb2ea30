//! IPv6: the fixed header. RFC 8200 section 3.

use core::net::Ipv6Addr;

use super::{Malformed, Protocol, take};

/// Bytes of the header.
pub const HEADER_LEN: usize = 40;

/// The header of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6 {
    first: [u8; 8],
    source: [u8; 16],
    destination: [u8; 16],
}

impl Ipv6 {
    /// Reads the header that `bytes` begin with. What follows may be longer than [`payload_len`](Self::payload_len), which is
    /// padding, but not shorter: the caller compares.
    ///
    /// # Errors
    ///
    /// There are fewer bytes, or the version is not 6.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (header, _): ([u8; HEADER_LEN], _) = take(bytes)?;
        let (first, rest) = take(&header)?;
        let (source, rest) = take(rest)?;
        let (destination, _) = take(rest)?;
        if first[0] >> 4 != 6 {
            return Err(Malformed::BadVersion);
        }
        Ok(Self {
            first,
            source,
            destination,
        })
    }

    /// Differentiated services and congestion: RFC 2474, RFC 3168.
    #[inline]
    #[must_use]
    pub const fn traffic_class(&self) -> u8 {
        self.first[0] << 4 | self.first[1] >> 4
    }

    /// Explicit congestion notification: RFC 3168 section 5.
    #[inline]
    #[must_use]
    pub const fn ecn(&self) -> u8 {
        self.traffic_class() & 3
    }

    /// Packets that belong together have the same, of 20 bits: RFC 6437.
    #[inline]
    #[must_use]
    pub const fn flow_label(&self) -> u32 {
        u32::from_be_bytes([0, self.first[1] & 0xf, self.first[2], self.first[3]])
    }

    /// Bytes behind the header, extension headers included.
    #[inline]
    #[must_use]
    pub const fn payload_len(&self) -> u16 {
        u16::from_be_bytes([self.first[4], self.first[5]])
    }

    /// What follows: an extension header, or the payload.
    #[inline]
    #[must_use]
    pub const fn next_header(&self) -> Protocol {
        Protocol(self.first[6])
    }

    /// How many routers may pass it on.
    #[inline]
    #[must_use]
    pub const fn hop_limit(&self) -> u8 {
        self.first[7]
    }

    /// From whom.
    #[inline]
    #[must_use]
    pub const fn source(&self) -> Ipv6Addr {
        Ipv6Addr::from_octets(self.source)
    }

    /// To whom.
    #[inline]
    #[must_use]
    pub const fn destination(&self) -> Ipv6Addr {
        Ipv6Addr::from_octets(self.destination)
    }
}

/// The fields of a header to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// Differentiated services and congestion.
    pub traffic_class: u8,
    /// Packets that belong together have the same, of 20 bits.
    pub flow_label: u32,
    /// Bytes behind the header.
    pub payload_len: u16,
    /// What follows.
    pub next_header: Protocol,
    /// How many routers may pass it on.
    pub hop_limit: u8,
    /// From whom.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
}

impl Repr {
    /// Writes the header.
    #[inline]
    pub fn write(&self, out: &mut [u8; HEADER_LEN]) {
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0xf_ffff;
        let [len_high, len_low] = self.payload_len.to_be_bytes();
        out[0..4].copy_from_slice(&first.to_be_bytes());
        out[4..8].copy_from_slice(&[len_high, len_low, self.next_header.0, self.hop_limit]);
        out[8..24].copy_from_slice(&self.source.octets());
        out[24..40].copy_from_slice(&self.destination.octets());
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{IpNumber, Ipv6FlowLabel, Ipv6Header};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_version_and_early_end_are_refused() {
        let mut bytes = [0; HEADER_LEN];
        assert_eq!(Ipv6::parse(&bytes), Err(Malformed::BadVersion));
        bytes[0] = 0x45;
        assert_eq!(Ipv6::parse(&bytes), Err(Malformed::BadVersion));
        bytes[0] = 0x60;
        assert!(Ipv6::parse(&bytes).is_ok());
        assert_eq!(Ipv6::parse(&bytes[..39]), Err(Malformed::Truncated));
    }

    proptest! {
        #[test]
        fn header_is_the_one_that_etherparse_reads_and_writes(
            traffic_class: u8, flow_label in 0u32..1 << 20, payload_len: u16, next_header: u8, hop_limit: u8,
            source: [u8; 16], destination: [u8; 16],
        ) {
            let theirs = Ipv6Header {
                traffic_class,
                flow_label: Ipv6FlowLabel::try_new(flow_label).unwrap(),
                payload_length: payload_len,
                next_header: IpNumber(next_header),
                hop_limit,
                source,
                destination,
            };
            let ip = Ipv6::parse(&theirs.to_bytes()).unwrap();
            let repr = Repr {
                traffic_class: ip.traffic_class(),
                flow_label: ip.flow_label(),
                payload_len: ip.payload_len(),
                next_header: ip.next_header(),
                hop_limit: ip.hop_limit(),
                source: ip.source(),
                destination: ip.destination(),
            };
            prop_assert_eq!(repr, Repr {
                traffic_class,
                flow_label,
                payload_len,
                next_header: Protocol(next_header),
                hop_limit,
                source: source.into(),
                destination: destination.into(),
            });
            prop_assert_eq!(ip.ecn(), traffic_class & 3);
            let mut out = [0xee; HEADER_LEN];
            repr.write(&mut out);
            prop_assert_eq!(out, theirs.to_bytes());
        }

        #[test]
        fn flow_label_too_wide_leaves_the_class_alone(flow_label: u32) {
            let repr = Repr {
                traffic_class: 0,
                flow_label,
                payload_len: 0,
                next_header: Protocol::UDP,
                hop_limit: 64,
                source: Ipv6Addr::LOCALHOST,
                destination: Ipv6Addr::LOCALHOST,
            };
            let mut out = [0; HEADER_LEN];
            repr.write(&mut out);
            let ip = Ipv6::parse(&out).unwrap();
            prop_assert_eq!((ip.traffic_class(), ip.flow_label()), (0, flow_label & 0xf_ffff));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Ipv6::parse(&bytes);
        }
    }
}
