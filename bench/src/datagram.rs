//! UDP datagrams in frames, as a generator needs them: RFC 768, RFC 791.

use std::net::Ipv4Addr;

use forebay::netstack::wire::checksum::checksum;

/// Bytes before what is carried: of Ethernet, IPv4 and UDP.
const ETHERNET_LEN: usize = 14;
const IP_LEN: usize = 20;
const UDP_LEN: usize = 8;
const IP_UDP: u8 = 17;

/// Whose it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datagram {
    /// Ethernet addresses, from and to.
    pub(crate) stations: ([u8; 6], [u8; 6]),
    pub(crate) source: (Ipv4Addr, u16),
    pub(crate) destination: (Ipv4Addr, u16),
}

impl Datagram {
    /// A frame of `len` bytes with it, its checksums right; no shorter than its headers, no longer than IPv4 allows.
    pub(crate) fn frame(&self, len: usize) -> Vec<u8> {
        let headers = ETHERNET_LEN + IP_LEN + UDP_LEN;
        let len = len.clamp(headers, ETHERNET_LEN + usize::from(u16::MAX));
        let be = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes();
        let (from, to) = (self.source.0.octets(), self.destination.0.octets());

        let mut udp = Vec::with_capacity(len);
        udp.extend(self.source.1.to_be_bytes());
        udp.extend(self.destination.1.to_be_bytes());
        let udp_len = be(len - ETHERNET_LEN - IP_LEN);
        udp.extend(udp_len);
        udp.extend([0, 0]);
        udp.resize(len - ETHERNET_LEN - IP_LEN, 0x5a);
        let pseudo = [&from[..], &to, &[0, IP_UDP], &udp_len, &udp].concat();
        let sum = match checksum(&pseudo) {
            // No checksum at all, that would be.
            0 => u16::MAX,
            sum => sum,
        };
        udp[6..8].copy_from_slice(&sum.to_be_bytes());

        let mut ip = vec![0x45, 0];
        ip.extend(be(len - ETHERNET_LEN));
        // Identification, not to be cut, 64 hops.
        ip.extend([0, 0, 0x40, 0, 64, IP_UDP, 0, 0]);
        ip.extend(from);
        ip.extend(to);
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());

        let (source, destination) = self.stations;
        [&destination[..], &source, &[0x08, 0x00], &ip, &udp].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_has_its_length_and_right_checksums() {
        let datagram = Datagram {
            stations: ([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]),
            source: (Ipv4Addr::new(10, 0, 0, 2), 9),
            destination: (Ipv4Addr::new(10, 0, 0, 1), 7),
        };
        for len in [64, 65, 1500] {
            let frame = datagram.frame(len);
            assert_eq!(frame.len(), len);
            assert_eq!(checksum(&frame[14..34]), 0);
            let pseudo = [&frame[26..34], &[0, 17], &frame[38..40], &frame[34..]].concat();
            assert_eq!(checksum(&pseudo), 0);
        }
    }
}
