//! The ICMP errors that are sent: RFC 1122 section 3.2.2, RFC 4443 section 2.4.

use super::*;

/// Type, code, the four bytes behind the checksum, and the quotation.
fn error(frame: &[u8]) -> ((u8, u8, u32), Vec<u8>) {
    let seen = seen(frame);
    assert!([ICMPV4, ICMPV6].contains(&seen.protocol), "{seen:?}");
    let rest = u32::from_be_bytes(seen.data[4..8].try_into().unwrap());
    ((seen.data[0], seen.data[1], rest), seen.data[8..].to_vec())
}

#[test]
fn nobody_on_the_port_or_of_the_protocol_is_told_with_a_quotation() {
    let mut host = Host::new();
    for (address, port, protocol) in [
        (v4 as fn(usize) -> IpAddr, (3, 3, 0), (3, 2, 0)),
        (v6, (1, 4, 0), (4, 1, 6)),
    ] {
        for len in [0, 8, 100, 1400] {
            let to = at(address(0), 7);
            let bytes = udp(at(address(1), 5), to, &vec![1; len]);
            let packet = ip(address(1), address(0), UDP, &bytes);
            let answer = host.answer(&framed(US, &packet));
            let (kind, quote) = error(&answer);
            assert_eq!(kind, port);
            // As much as fits 576 bytes, or 1280.
            let max = if to.is_ipv4() { 548 } else { 1232 };
            assert_eq!(quote, packet[..packet.len().min(max)]);
            assert!(SlicedPacket::from_ip(&packet).is_ok());
        }
        // TCP is not spoken yet.
        for number in [6, 132, 253] {
            let packet = ip(address(1), address(0), number, &[0; 40]);
            let (kind, quote) = error(&host.answer(&framed(US, &packet)));
            assert_eq!((kind, quote), (protocol, packet));
        }
    }
    assert_eq!(host.stack.traffic().errors_sent, 14);
    assert_eq!(host.stack.drops().of(Reason::UdpNoSocket), 8);
    assert_eq!(host.stack.drops().of(Reason::IpProtocol), 6);
    assert_eq!(host.heap.in_use(), 0);
}

#[test]
fn padding_of_the_frame_is_not_quoted() {
    let mut host = Host::new();
    let packet = ip(v4(1), v4(0), UDP, &udp(at(v4(1), 5), at(v4(0), 7), b""));
    let mut frame = framed(US, &packet);
    frame.resize(60, 0xee);
    assert_eq!(error(&host.answer(&frame)).1, packet);
}

#[test]
fn errors_are_not_answered_by_errors() {
    let mut host = Host::new();
    for address in BOTH {
        let quoted = ip(address(0), address(1), 99, &[0; 8]);
        let (protocol, kinds) = if address(0).is_ipv4() {
            (ICMPV4, [3, 11, 12])
        } else {
            (ICMPV6, [1, 3, 4])
        };
        for kind in kinds {
            let data = [&[0; 4][..], &quoted].concat();
            let message = icmp(address(1), address(0), kind, 0, &data);
            let frame = framed(US, &ip(address(1), address(0), protocol, &message));
            host.swallows(&frame, Reason::IcmpUnrelated);
        }
    }
}

#[test]
fn errors_are_not_sent_to_many_nor_about_what_came_to_many() {
    let mut host = Host::new();
    for to in [[255; 4], [10, 0, 0, 255], [224, 0, 0, 1]].map(IpAddr::from) {
        let bytes = udp(at(v4(1), 5), at(to, 7), b"?");
        let frame = framed(Mac::BROADCAST, &ip(v4(1), to, UDP, &bytes));
        host.swallows(&frame, Reason::UdpNoSocket);
        let frame = framed(Mac::BROADCAST, &ip(v4(1), to, 99, &bytes));
        host.swallows(&frame, Reason::IpProtocol);
    }
    let group: IpAddr = "ff02::1".parse().unwrap();
    let bytes = udp(at(v6(1), 5), at(group, 7), b"?");
    let frame = framed(
        Mac([0x33, 0x33, 0, 0, 0, 1]),
        &ip(v6(1), group, UDP, &bytes),
    );
    host.swallows(&frame, Reason::UdpNoSocket);
    // A frame to all that carries a packet to us alone is dropped before.
    let bytes = udp(at(v4(1), 5), at(v4(0), 7), b"?");
    let frame = framed(Mac::BROADCAST, &ip(v4(1), v4(0), UDP, &bytes));
    host.swallows(&frame, Reason::EthernetDestination);
    // From nobody.
    let nobody = IpAddr::from([0; 4]);
    let frame = framed(US, &ip(nobody, v4(0), 99, &[0; 8]));
    host.swallows(&frame, Reason::IpSource);
    let nobody: IpAddr = "::".parse().unwrap();
    host.swallows(
        &framed(US, &ip(nobody, v6(0), 99, &[0; 8])),
        Reason::IpSource,
    );
}

#[test]
fn errors_are_not_sent_about_later_fragments() {
    let mut host = Host::new();
    for address in BOTH {
        let bytes = piece(address(1), address(0), 99, (3, 64, true), &[0; 64]);
        assert!(host.answers(&framed(US, &bytes)).is_empty());
        assert!(host.wait(Duration::from_secs(70)).is_empty());
    }
}

#[test]
fn errors_keep_to_their_rate_for_all_together() {
    let mut config = Config::default();
    (config.icmp.errors_per_second, config.icmp.errors_burst) = (100, 20);
    let mut host = Host::with(config);
    let frames = BOTH.map(|address| datagram(at(address(1), 5), at(address(0), 7), b"?"));
    let mut sent = 0;
    for number in 0..1000 {
        sent += host.answers(&frames[number % 2]).len();
    }
    assert_eq!(sent, 20);
    for _ in 0..10 {
        host.wait(Duration::from_millis(10));
        sent = (0..10).map(|_| host.answers(&frames[0]).len()).sum();
        assert_eq!(sent, 1);
    }
    host.wait(Duration::from_secs(1000));
    sent = (0..100).map(|_| host.answers(&frames[0]).len()).sum();
    assert_eq!(sent, 20);
}

#[test]
fn silent_peer_without_buffers_costs_a_counter() {
    let mut host = Host::new();
    let heap = Heap::new(1);
    let config = Config {
        seed: 7,
        ..Config::default()
    };
    let mut stack = Stack::new(config, heap.clone());
    stack.add_interface(InterfaceConfig::new(0, US)).unwrap();
    stack.add_address(LINK, v4(0), 24, Probing::None).unwrap();
    stack.add_neighbour(LINK, v4(1), THEM).unwrap();
    host.stack = stack;
    let packet = heap
        .packet(&datagram(at(v4(1), 5), at(v4(0), 7), b"?"))
        .unwrap();
    host.stack.receive(host.now, 0, [packet]);
    let drops = host.stack.drops();
    assert_eq!(
        (drops.of(Reason::NoBuffer), drops.of(Reason::UdpNoSocket)),
        (1, 1)
    );
    assert_eq!(heap.in_use(), 0);
}
