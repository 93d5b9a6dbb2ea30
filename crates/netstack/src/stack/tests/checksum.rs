//! Who sums up: we, or the device. RFC 768, RFC 8200 section 8.1.

use super::*;

fn send(
    host: &mut Host,
    socket: UdpId,
    to: SocketAddr,
    data: &[u8],
    quick: bool,
) -> Vec<packet::Bytes> {
    if quick {
        let packet = host.heap.packet(data).unwrap();
        host.stack.udp(socket).send_to(packet, to).unwrap();
    } else {
        host.stack.udp(socket).send_bytes(data, to).unwrap();
    }
    core::iter::from_fn(|| host.stack.poll_transmit(0)).collect()
}

#[test]
fn device_that_can_is_asked_and_gets_the_sum_of_the_pseudo_header() {
    for (ip_checksum, l4_checksum) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut config = InterfaceConfig::new(0, US);
        config.offloads = Offloads {
            ip_checksum,
            l4_checksum,
        };
        let mut host = Host::on(config, Config::default());
        for (address, header) in [(v4 as fn(usize) -> IpAddr, 20), (v6, 40)] {
            let socket = host.socket(address(0), 1000);
            let to = at(address(1), 9);
            for quick in [false, true] {
                for len in [0, 1, 2, 500, 1001] {
                    let data: Vec<u8> = pattern(len, 7);
                    let packet = send(&mut host, socket, to, &data, quick).remove(0);
                    let mut frame = packet.data().to_vec();
                    if packet.wishes.ip_checksum {
                        assert!(ip_checksum && to.is_ipv4());
                        assert_eq!(frame[24..26], [0, 0]);
                        let checksum = !sum(&frame[14..34]);
                        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
                    }
                    let wished = l4_checksum.then_some((14 + header, 6));
                    assert_eq!(packet.wishes.l4_checksum, wished);
                    if let Some((start, offset)) = wished {
                        // As a device does it, and as Linux does for a packet with CHECKSUM_PARTIAL.
                        let start = usize::from(start);
                        let checksum = match !sum(&frame[start..]) {
                            0 => 0xffff,
                            checksum => checksum,
                        };
                        let at = start + usize::from(offset);
                        frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
                    }
                    assert_eq!(seen(&frame).data[8..], data);
                }
            }
            // What is cut is summed up by us: a device sees the pieces alone.
            let packets = send(&mut host, socket, to, &[3; 3000], false);
            let mut pieces: Vec<_> = packets.iter().map(|packet| seen(packet.data())).collect();
            assert!(
                packets
                    .iter()
                    .all(|packet| packet.wishes.l4_checksum.is_none())
            );
            let data = pieces.iter().flat_map(|seen| seen.data.clone()).collect();
            check(&Seen {
                piece: None,
                data,
                ..pieces.remove(0)
            });
        }
    }
}

#[test]
fn what_the_device_found_out_is_believed() {
    for address in BOTH {
        let mut host = Host::new();
        let socket = host.socket(address(0), 1000);
        let good = datagram(at(address(1), 2), at(address(0), 1000), b"sum");
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        for (frame, l4_checksum, heard) in [
            (&good, None, true),
            (&good, Some(true), true),
            (&good, Some(false), false),
            (&bad, None, false),
            // From this machine, where nobody sums up.
            (&bad, Some(true), true),
        ] {
            let before = host.stack.drops().of(Reason::UdpChecksum);
            let mut packet = host.heap.packet(frame).unwrap();
            packet.received = Received {
                l4_checksum,
                ..Received::default()
            };
            host.stack.receive(host.now, 0, [packet]);
            assert_eq!(host.heard(socket).is_some(), heard, "{l4_checksum:?}");
            let counted = host.stack.drops().of(Reason::UdpChecksum) - before;
            assert_eq!(counted, u64::from(!heard));
        }
    }
}

#[test]
fn ipv4_header_is_summed_up_unless_the_device_did() {
    let mut host = Host::new();
    let socket = host.socket(v4(0), 1000);
    let mut frame = datagram(at(v4(1), 2), at(v4(0), 1000), b"sum");
    frame[24] ^= 1;
    host.swallows(&frame, Reason::Ipv4Checksum);
    let mut packet = host.heap.packet(&frame).unwrap();
    packet.received.ip_checksum = Some(true);
    host.stack.receive(host.now, 0, [packet]);
    assert!(host.heard(socket).is_some());
    frame[24] ^= 1;
    let mut packet = host.heap.packet(&frame).unwrap();
    packet.received.ip_checksum = Some(false);
    host.stack.receive(host.now, 0, [packet]);
    assert_eq!(host.stack.drops().of(Reason::Ipv4Checksum), 2);
}

#[test]
fn datagram_without_a_checksum_is_right_over_ipv4_alone() {
    let mut host = Host::new();
    for address in BOTH {
        let socket = host.socket(address(0), 1000);
        let (from, to) = (at(address(1), 2), at(address(0), 1000));
        let mut bytes = udp(from, to, b"none");
        bytes[6..8].fill(0);
        let frame = framed(US, &ip(from.ip(), to.ip(), UDP, &bytes));
        if to.is_ipv4() {
            host.hears(&frame);
            assert_eq!(host.heard(socket).unwrap().1, b"none");
        } else {
            host.swallows(&frame, Reason::UdpChecksum);
        }
        // And so do we, if asked to.
        host.stack.udp(socket).set_no_checksum(true).unwrap();
        for quick in [false, true] {
            let sent = send(&mut host, socket, at(address(1), 9), b"none", quick);
            let checksum = seen(sent[0].data()).data[6..8].to_vec();
            assert_eq!(checksum == [0, 0], to.is_ipv4());
        }
    }
}

#[test]
fn sum_of_zero_is_sent_as_all_ones() {
    let mut host = Host::new();
    for address in BOTH {
        let socket = host.socket(address(0), 1000);
        let (from, to) = (at(address(0), 1000), at(address(1), 9));
        // What is summed up to nothing: the complement of the rest.
        let rest = udp(from, to, &[0, 0]);
        let word = u16::from_be_bytes([rest[6], rest[7]]);
        for quick in [false, true] {
            let sent = send(&mut host, socket, to, &word.to_be_bytes(), quick);
            assert_eq!(seen(sent[0].data()).data[6..8], [0xff, 0xff]);
        }
    }
}
