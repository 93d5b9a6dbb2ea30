//! Sockets: who hears what, and who may send where. RFC 768, RFC 1122 section 4.1.3.

use super::*;

#[test]
fn connected_socket_is_asked_first_then_the_bound_one_then_the_one_for_all() {
    for address in BOTH {
        let mut host = Host::new();
        let (local, peer, other) = (
            at(address(0), 1000),
            at(address(1), 2000),
            at(address(1), 2001),
        );
        let any = if local.is_ipv4() { "0.0.0.0" } else { "::" };
        let any: IpAddr = any.parse().unwrap();
        let connected = host.stack.udp_bound(at(any, 1000)).unwrap();
        host.stack.udp(connected).connect(peer).unwrap();
        assert_eq!(host.stack.udp(connected).local().unwrap(), Some(local));
        let bound = host.stack.udp_bound(local).unwrap();
        assert_eq!(
            host.stack.udp_bound(at(any, 1000)),
            Err(Error::AddressInUse(at(any, 1000)))
        );
        for (from, hears, not) in [(peer, connected, bound), (other, bound, connected)] {
            host.hears(&datagram(from, local, b"x"));
            assert!(host.heard(hears).is_some() && host.heard(not).is_none());
        }
        host.stack.udp(bound).close().unwrap();
        host.drops(&datagram(other, local, b"x"), Reason::UdpNoSocket);
        host.stack.udp(connected).disconnect().unwrap();
        host.hears(&datagram(other, local, b"x"));
        assert!(host.heard(connected).is_some());
    }
}

#[test]
fn versions_do_not_mix() {
    let mut host = Host::new();
    for (socket, other) in [
        (host.stack.udp_v4().unwrap(), v6(1)),
        (host.stack.udp_v6().unwrap(), v4(1)),
    ] {
        let same = if other.is_ipv4() { v6(1) } else { v4(1) };
        // Bound by its first datagram, and the destination known.
        host.stack
            .udp(socket)
            .send_bytes(b"x", at(same, 9))
            .unwrap();
        let third = if other.is_ipv4() {
            host.stack.udp_v4()
        } else {
            host.stack.udp_v6()
        }
        .unwrap();
        host.stack
            .udp(third)
            .send_bytes(b"x", at(other, 9))
            .unwrap();
        host.sent();
        let refused = Err(Error::OtherVersion(other));
        assert_eq!(
            host.stack.udp(socket).send_bytes(b"x", at(other, 9)),
            refused
        );
        assert_eq!(host.stack.udp(socket).connect(at(other, 9)), refused);
        let packet = host.heap.packet(b"x").unwrap();
        let unsent = host
            .stack
            .udp(socket)
            .send_to(packet, at(other, 9))
            .unwrap_err();
        assert_eq!(Err(unsent.error), refused);
        assert!(host.sent().is_empty());
    }
    let all = host
        .stack
        .udp_bound(at("::".parse().unwrap(), 1000))
        .unwrap();
    host.drops(
        &datagram(at(v4(1), 1), at(v4(0), 1000), b"x"),
        Reason::UdpNoSocket,
    );
    assert!(host.heard(all).is_none());
}

#[test]
fn nothing_is_sent_to_a_mapped_address_nor_learned_from_it() {
    let mapped: IpAddr = "::ffff:10.0.0.2".parse().unwrap();
    let (gateway, all) = (v6(1), "::".parse().unwrap());
    for is_known in [false, true] {
        let mut host = Host::new();
        host.stack.add_route(all, 0, gateway).unwrap();
        let (four, six) = (host.stack.udp_v4().unwrap(), host.stack.udp_v6().unwrap());
        let send = |host: &mut Host, socket, to| {
            let packet = host.heap.packet(b"x").unwrap();
            let sent = host.stack.udp(socket).send_to(packet, at(to, 9));
            (sent.map_err(|unsent| unsent.error), host.sent())
        };
        if is_known {
            assert_eq!(send(&mut host, four, v4(1)).1.len(), 1);
            assert_eq!(send(&mut host, six, v6(1)).1.len(), 1);
        }
        for _ in 0..2 {
            let (outcome, sent) = send(&mut host, six, mapped);
            assert_eq!((outcome, sent.len()), (Err(Error::NoRoute(mapped)), 0));
        }
        let (outcome, sent) = send(&mut host, four, v4(1));
        assert_eq!((outcome, seen(&sent[0]).destination), (Ok(()), v4(1)));
    }
}

#[test]
fn answer_comes_from_the_address_that_was_asked() {
    for address in BOTH {
        let mut host = Host::new();
        let second = if address(0).is_ipv4() {
            "10.0.0.55"
        } else {
            "fd00::55"
        };
        let second: IpAddr = second.parse().unwrap();
        let len = if second.is_ipv4() { 24 } else { 64 };
        host.stack
            .add_address(LINK, second, len, Probing::None)
            .unwrap();
        let any = if second.is_ipv4() { "0.0.0.0" } else { "::" };
        let socket = host
            .stack
            .udp_bound(at(any.parse().unwrap(), 1000))
            .unwrap();
        host.hears(&datagram(at(address(1), 5), at(second, 1000), b"ping"));
        let ping = host.stack.udp(socket).recv_from().unwrap();
        assert_eq!(ping.to, second);
        host.stack.udp(socket).reply(ping).unwrap();
        let pong = seen(&host.sent().pop().unwrap());
        assert_eq!((pong.source, pong.destination), (second, address(1)));
        // An address that is not ours is not lent to anybody.
        let packet = host.heap.packet(b"x").unwrap();
        host.stack
            .udp(socket)
            .send_from(packet, address(7), at(address(1), 5))
            .unwrap();
        assert_ne!(seen(&host.sent().pop().unwrap()).source, address(7));
    }
}

#[test]
fn refusals_say_why() {
    let mut host = Host::new();
    let socket = host.stack.udp_v4().unwrap();
    let far = IpAddr::from([192, 0, 2, 1]);
    let mut udp = host.stack.udp(socket);
    assert_eq!(udp.send_bytes(b"x", at(far, 1)), Err(Error::NoRoute(far)));
    assert_eq!(udp.connect(at(far, 1)), Err(Error::NoRoute(far)));
    let long = Err(Error::TooLong {
        len: 65_508,
        max: 65_507,
    });
    assert_eq!(udp.send_bytes(&vec![0; 65_508], at(v4(1), 1)), long);
    assert_eq!(udp.bind(at(far, 1)), Err(Error::NoAddress(far)));
    let packet = host.heap.packet(b"x").unwrap();
    let unsent = host.stack.udp(socket).send(packet).unwrap_err();
    assert_eq!(unsent.error, Error::NotConnected);
    host.stack.udp(socket).close().unwrap();
    assert_eq!(
        host.stack.udp(socket).send_bytes(b"x", at(v4(1), 1)),
        Err(Error::NoSocket)
    );
    assert_eq!(host.stack.udp(socket).close(), Err(Error::NoSocket));
}

#[test]
fn segments_leave_one_by_one() {
    for address in BOTH {
        let mut host = Host::new();
        let socket = host.socket(address(0), 1000);
        let data: Vec<u8> = pattern(3333, 1);
        let to = at(address(1), 9);
        assert_eq!(
            host.stack.udp(socket).send_segments(&data, 1000, to),
            Ok(3333)
        );
        let sent = host.sent();
        let lens: Vec<_> = sent
            .iter()
            .map(|frame| seen(frame).data.len() - 8)
            .collect();
        assert_eq!(lens, [1000, 1000, 1000, 333]);
        let all: Vec<u8> = sent
            .iter()
            .flat_map(|frame| seen(frame).data[8..].to_vec())
            .collect();
        assert_eq!(all, data);
    }
}

#[test]
fn traffic_class_and_hop_limit_are_those_of_the_socket_and_come_with_what_is_heard() {
    for address in BOTH {
        let mut host = Host::new();
        let socket = host.socket(address(0), 1000);
        let mut udp = host.stack.udp(socket);
        udp.set_hop_limit(Some(3)).unwrap();
        udp.set_traffic_class(0xb8).unwrap();
        for quick in [false, true] {
            let to = at(address(1), 9);
            if quick {
                let packet = host.heap.packet(b"x").unwrap();
                host.stack.udp(socket).send_to(packet, to).unwrap();
            } else {
                host.stack.udp(socket).send_bytes(b"x", to).unwrap();
            }
            let frame = host.sent().remove(0);
            assert_eq!(seen(&frame).hop_limit, 3);
            let class = if to.is_ipv4() {
                frame[15]
            } else {
                frame[14] << 4 | frame[15] >> 4
            };
            assert_eq!(class, 0xb8);
        }
        let mut frame = datagram(at(address(1), 5), at(address(0), 1000), b"x");
        if address(0).is_ipv4() {
            frame[15] = 0x2e;
            frame[24..26].fill(0);
            let checksum = !sum(&frame[14..34]);
            frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        } else {
            (frame[14], frame[15]) = (0x62, 0xe0);
        }
        host.hears(&frame);
        let heard = host.stack.udp(socket).recv_from().unwrap();
        assert_eq!(heard.traffic_class, 0x2e);
    }
}

#[test]
fn sockets_are_named_once_when_they_have_something_to_read() {
    let mut host = Host::new();
    let socket = host.socket(v4(0), 1000);
    assert_eq!(host.stack.poll_ready(), None);
    let frame = datagram(at(v4(1), 5), at(v4(0), 1000), b"x");
    host.hears(&frame);
    host.hears(&frame);
    assert_eq!(host.stack.poll_ready(), Some(socket));
    assert_eq!(host.stack.poll_ready(), None);
    while host.heard(socket).is_some() {}
    host.hears(&frame);
    assert_eq!(host.stack.poll_ready(), Some(socket));
}

#[test]
fn what_is_unread_when_a_socket_connects_or_closes_is_counted() {
    let mut host = Host::new();
    let socket = host.socket(v4(0), 1000);
    let frame = datagram(at(v4(1), 5), at(v4(0), 1000), b"x");
    host.hears(&frame);
    host.hears(&frame);
    host.stack.udp(socket).connect(at(v4(1), 5)).unwrap();
    assert_eq!(host.stack.drops().of(Reason::UdpClosed), 2);
    host.hears(&frame);
    host.stack.udp(socket).close().unwrap();
    assert_eq!(host.stack.drops().of(Reason::UdpClosed), 3);
    assert_eq!(host.heap.in_use(), 0);
}
