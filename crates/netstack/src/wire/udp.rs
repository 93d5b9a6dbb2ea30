//! UDP: RFC 768.

use super::{Malformed, take};

/// The header of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Udp {
    header: [u8; Self::LEN],
}

impl Udp {
    /// Bytes of the header.
    pub const LEN: usize = 8;
    /// Where the checksum stands in it.
    pub const CHECKSUM_AT: u16 = 6;

    /// Reads the header that `bytes` begin with. Its [`length`](Self::length) may be less than what IP carried, which is then
    /// padding, but not more: the caller compares.
    ///
    /// # Errors
    ///
    /// There are fewer bytes, or the length is less than the header's.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (header, _) = take(bytes)?;
        let udp = Self { header };
        if usize::from(udp.length()) < Self::LEN {
            return Err(Malformed::BadLength);
        }
        Ok(udp)
    }

    /// A header of these fields; `length` is the header's and the payload's.
    #[inline]
    #[must_use]
    pub const fn new(source: u16, destination: u16, length: u16, checksum: u16) -> Self {
        let ([a, b], [c, d]) = (source.to_be_bytes(), destination.to_be_bytes());
        let ([e, f], [g, h]) = (length.to_be_bytes(), checksum.to_be_bytes());
        Self {
            header: [a, b, c, d, e, f, g, h],
        }
    }

    /// Writes the header.
    #[inline]
    pub const fn write(&self, out: &mut [u8; Self::LEN]) {
        *out = self.header;
    }

    /// The bytes of the header, to sum them up.
    #[inline]
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.header
    }

    /// Source port.
    #[inline]
    #[must_use]
    pub const fn source(&self) -> u16 {
        u16::from_be_bytes([self.header[0], self.header[1]])
    }

    /// Destination port.
    #[inline]
    #[must_use]
    pub const fn destination(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// Bytes of header and payload, at least [`LEN`](Self::LEN).
    #[inline]
    #[must_use]
    pub const fn length(&self) -> u16 {
        u16::from_be_bytes([self.header[4], self.header[5]])
    }

    /// The checksum; zero if the sender made none.
    #[inline]
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.header[6], self.header[7]])
    }

    /// The same header with another checksum.
    #[inline]
    #[must_use]
    pub const fn with_checksum(self, checksum: u16) -> Self {
        Self::new(self.source(), self.destination(), self.length(), checksum)
    }
}

#[cfg(test)]
mod tests {
    use etherparse::UdpHeader;
    use proptest::prelude::*;

    use super::super::Protocol;
    use super::super::checksum::Sum;
    use super::*;

    #[test]
    fn length_below_the_header_is_refused() {
        assert_eq!(Udp::parse(&[0; 7]), Err(Malformed::Truncated));
        assert_eq!(
            Udp::parse(&[0, 1, 0, 2, 0, 7, 0, 0]),
            Err(Malformed::BadLength)
        );
        // A jumbogram's (RFC 2675): no link of ours carries one.
        assert_eq!(
            Udp::parse(&[0, 1, 0, 2, 0, 0, 0, 0]),
            Err(Malformed::BadLength)
        );
        assert!(Udp::parse(&[0, 1, 0, 2, 0, 8, 0, 0]).is_ok());
    }

    proptest! {
        #[test]
        fn header_is_the_one_that_etherparse_reads_and_writes(source: u16, destination: u16, length in 8u16.., checksum: u16) {
            let theirs = UdpHeader { source_port: source, destination_port: destination, length, checksum };
            let ours = Udp::parse(&theirs.to_bytes()).unwrap();
            prop_assert_eq!((ours.source(), ours.destination()), (source, destination));
            prop_assert_eq!((ours.length(), ours.checksum()), (length, checksum));
            prop_assert_eq!(ours, Udp::new(source, destination, length, 0).with_checksum(checksum));
            let mut out = [0; Udp::LEN];
            ours.write(&mut out);
            prop_assert_eq!(out, theirs.to_bytes());
            prop_assert_eq!(&out, ours.as_bytes());
        }

        #[test]
        fn checksum_is_the_one_that_etherparse_computes(
            source: u16, destination: u16, v4: [[u8; 4]; 2], v6: [[u8; 16]; 2], payload in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let length = u16::try_from(Udp::LEN + payload.len()).unwrap();
            let header = Udp::new(source, destination, length, 0);
            let theirs = UdpHeader { source_port: source, destination_port: destination, length, checksum: 0 };

            let mut sum = Sum::pseudo_v4(v4[0].into(), v4[1].into(), Protocol::UDP, length);
            sum.add(header.as_bytes());
            sum.add(&payload);
            prop_assert_eq!(sum.finish_udp(), theirs.calc_checksum_ipv4_raw(v4[0], v4[1], &payload).unwrap());

            let mut sum = Sum::pseudo_v6(v6[0].into(), v6[1].into(), Protocol::UDP, length.into());
            sum.add(header.as_bytes());
            sum.add(&payload);
            prop_assert_eq!(sum.finish_udp(), theirs.calc_checksum_ipv6_raw(v6[0], v6[1], &payload).unwrap());
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Udp::parse(&bytes);
        }
    }
}
