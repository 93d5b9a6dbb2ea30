//! Which flow a frame belongs to: what of it is hashed.
//!
//! Ports count only where every packet of the flow has them: a fragment, even the first, is known by its addresses
//! alone, so that all fragments of a packet meet. The frame may be written by another process of the group at any time:
//! each byte is read once.

/// What a flow is known by, in the order in which it is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flow {
    /// IPv4.
    Ipv4 {
        /// Where it comes from.
        source: [u8; 4],
        /// Where it goes.
        destination: [u8; 4],
        /// Source and destination port of TCP or UDP, as in the packet.
        ports: Option<[u8; 4]>,
    },
    /// IPv6.
    Ipv6 {
        /// Where it comes from.
        source: [u8; 16],
        /// Where it goes.
        destination: [u8; 16],
        /// Source and destination port of TCP or UDP, as in the packet.
        ports: Option<[u8; 4]>,
    },
}

/// VLAN tags that are looked behind: one of the provider, one of the customer.
const TAGS_MAX: usize = 2;
/// IPv6 extension headers that are looked behind.
const EXTENSIONS_MAX: usize = 8;

const TCP: u8 = 6;
const UDP: u8 = 17;

impl Flow {
    /// The flow of an Ethernet frame; `None` if it carries no IP or is too short to say.
    #[must_use]
    #[inline]
    pub fn of(frame: &[u8]) -> Option<Self> {
        let mut rest = frame.get(12..)?;
        for _ in 0..=TAGS_MAX {
            let (kind, body) = rest.split_first_chunk::<2>()?;
            match u16::from_be_bytes(*kind) {
                0x0800 => return Self::ipv4(body),
                0x86dd => return Self::ipv6(body),
                0x8100 | 0x88a8 | 0x9100 => rest = body.get(2..)?,
                _ => return None,
            }
        }
        None
    }

    fn ipv4(packet: &[u8]) -> Option<Self> {
        let header = *packet.first_chunk::<20>()?;
        let header_len = usize::from(header[0] & 15) * 4;
        if header[0] >> 4 != 4 || header_len < header.len() {
            return None;
        }
        // RFC 791 section 3.1: more fragments to come, or not the first one.
        let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        let ports = if fragment {
            None
        } else {
            ports(header[9], packet.get(header_len..)?)
        };
        let [.., s0, s1, s2, s3, d0, d1, d2, d3] = header;
        Some(Self::Ipv4 {
            source: [s0, s1, s2, s3],
            destination: [d0, d1, d2, d3],
            ports,
        })
    }

    fn ipv6(packet: &[u8]) -> Option<Self> {
        let (start, rest) = packet.split_first_chunk::<8>()?;
        let start = *start;
        let (source, rest) = rest.split_first_chunk::<16>()?;
        let (destination, mut rest) = rest.split_first_chunk::<16>()?;
        if start[0] >> 4 != 6 {
            return None;
        }
        let mut next = start[6];
        let mut ports = None;
        for _ in 0..=EXTENSIONS_MAX {
            match next {
                TCP | UDP => {
                    ports = self::ports(next, rest);
                    break;
                }
                // RFC 8200 section 4: hop-by-hop options, routing, destination options; lengths in eight octets beyond the first.
                0 | 43 | 60 => {
                    let Some(&[following, len]) = rest.first_chunk::<2>() else {
                        break;
                    };
                    let Some(behind) = rest.get((usize::from(len) + 1) * 8..) else {
                        break;
                    };
                    (next, rest) = (following, behind);
                }
                _ => break,
            }
        }
        Some(Self::Ipv6 {
            source: *source,
            destination: *destination,
            ports,
        })
    }
}

/// The ports at the start of a TCP or UDP header.
#[inline]
fn ports(protocol: u8, header: &[u8]) -> Option<[u8; 4]> {
    if matches!(protocol, TCP | UDP) {
        header.first_chunk::<4>().copied()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PORTS: [u8; 4] = [0, 80, 0xc0, 1];

    fn frame(tags: usize, kind: u16, packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        for _ in 0..tags {
            frame.extend([0x81, 0, 0, 7]);
        }
        frame.extend(kind.to_be_bytes());
        frame.extend(packet);
        frame
    }

    fn ipv4(protocol: u8, fragment: u16, options: usize) -> Vec<u8> {
        let mut packet = vec![0; 20 + 4 * options];
        packet[0] = 0x45 + u8::try_from(options).unwrap();
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[9] = protocol;
        packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(PORTS);
        packet
    }

    fn ipv4_flow(ports: Option<[u8; 4]>) -> Option<Flow> {
        Some(Flow::Ipv4 {
            source: [10, 0, 0, 1],
            destination: [10, 0, 0, 2],
            ports,
        })
    }

    #[test]
    fn tcp_and_udp_have_ports_and_others_have_not() {
        for (protocol, ports) in [(6, Some(PORTS)), (17, Some(PORTS)), (1, None), (132, None)] {
            for (tags, options) in [(0, 0), (1, 0), (2, 3)] {
                assert_eq!(
                    Flow::of(&frame(tags, 0x0800, &ipv4(protocol, 0, options))),
                    ipv4_flow(ports),
                    "{protocol} {tags} {options}"
                );
            }
        }
    }

    #[test]
    fn every_fragment_is_known_by_its_addresses() {
        for fragment in [0x2000, 0x2001, 0x0001, 0x1fff] {
            assert_eq!(
                Flow::of(&frame(0, 0x0800, &ipv4(17, fragment, 0))),
                ipv4_flow(None),
                "{fragment:#x}"
            );
        }
        // "Don't fragment" is no fragment.
        assert_eq!(
            Flow::of(&frame(0, 0x0800, &ipv4(17, 0x4000, 0))),
            ipv4_flow(Some(PORTS))
        );
    }

    #[test]
    fn ipv6_extension_headers_are_passed_and_a_fragment_header_stops() {
        let packet = |chain: &[(u8, &[u8])], last: u8| {
            let mut packet = vec![0; 40];
            packet[0] = 0x60;
            packet[6] = chain.first().map_or(last, |(kind, _)| *kind);
            packet[8] = 0x20;
            packet[24] = 0x30;
            for (place, (_, body)) in chain.iter().enumerate() {
                packet.push(chain.get(place + 1).map_or(last, |(kind, _)| *kind));
                packet.extend(*body);
            }
            packet.extend(PORTS);
            frame(0, 0x86dd, &packet)
        };
        let ports = |frame: &[u8]| match Flow::of(frame) {
            Some(Flow::Ipv6 {
                source,
                destination,
                ports,
            }) => {
                assert_eq!((source[0], destination[0]), (0x20, 0x30));
                ports
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(ports(&packet(&[], 6)), Some(PORTS));
        assert_eq!(
            ports(&packet(
                &[
                    (0, &[0, 1, 2, 3, 4, 5, 6]),
                    (60, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
                ],
                17
            )),
            Some(PORTS)
        );
        assert_eq!(ports(&packet(&[(44, &[0, 0, 0, 0, 0, 0, 1])], 17)), None);
        assert_eq!(ports(&packet(&[(0, &[200, 0, 0, 0, 0, 0, 0])], 17)), None);
        assert_eq!(ports(&packet(&[], 58)), None);
    }

    #[test]
    fn what_is_no_ip_has_no_flow() {
        assert_eq!(Flow::of(&frame(0, 0x0806, &[0; 28])), None);
        assert_eq!(Flow::of(&frame(3, 0x0800, &ipv4(6, 0, 0))), None);
        assert_eq!(Flow::of(&frame(0, 0x0800, &[0x65; 40])), None);
        assert_eq!(Flow::of(&frame(0, 0x0800, &[0x44; 40])), None);
        assert_eq!(Flow::of(&[]), None);
    }

    proptest! {
        #[test]
        fn any_frame_is_looked_at_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..128), kind in prop_oneof![Just(0x0800_u16), Just(0x86dd), Just(0x8100)]) {
            let _ = Flow::of(&bytes);
            let _ = Flow::of(&frame(0, kind, &bytes));
        }
    }
}
