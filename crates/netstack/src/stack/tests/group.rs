//! Multicast: who is in, who hears, who is told. RFC 1112, RFC 3376, RFC 3810.

use super::*;

/// Our addresses of a version, and a group of it.
type Group = (fn(usize) -> IpAddr, IpAddr);

fn groups() -> [Group; 2] {
    let six: Ipv6Addr = "ff05::1234".parse().unwrap();
    [(v4, IpAddr::from([239, 1, 2, 3])), (v6, six.into())]
}

fn to_group(address: fn(usize) -> IpAddr, group: IpAddr) -> Vec<u8> {
    let mac = match group {
        IpAddr::V4(group) => Mac::multicast_v4(group),
        IpAddr::V6(group) => Mac::multicast_v6(group),
    };
    let (from, to) = (at(address(1), 5), at(group, 1000));
    framed(mac, &ip(from.ip(), group, UDP, &udp(from, to, b"all")))
}

#[test]
fn group_is_heard_between_join_and_leave_by_all_who_want_it() {
    let mut host = Host::new();
    for (address, group) in groups() {
        let frame = to_group(address, group);
        let bound = host.stack.udp_bound(at(group, 1000)).unwrap();
        host.swallows(&frame, Reason::IpGroup);
        host.stack.join(LINK, group).unwrap();
        host.hears(&frame);
        assert_eq!(host.heard(bound).unwrap().1, b"all");
        host.stack.udp(bound).close().unwrap();
        let any = if group.is_ipv4() { "0.0.0.0" } else { "::" };
        let any = host
            .stack
            .udp_bound(at(any.parse().unwrap(), 1000))
            .unwrap();
        host.hears(&frame);
        let heard = host.stack.udp(any).recv_from().unwrap();
        assert_eq!((heard.to, heard.packet.data()), (group, &b"all"[..]));
        host.stack.udp(any).close().unwrap();
        // Whoever is bound to one address of ours does not.
        let own = host.socket(address(0), 1000);
        host.swallows_but_reports(&frame, Reason::UdpNoSocket);
        assert!(host.heard(own).is_none());
        host.stack.leave(LINK, group).unwrap();
        host.sent();
        host.swallows(&frame, Reason::IpGroup);
        assert_eq!(host.stack.leave(LINK, group), Err(Error::NoGroup(group)));
    }
    assert_eq!(
        host.stack.join(LINK, v4(1)),
        Err(Error::NotMulticast(v4(1)))
    );
}

/// As a host on this machine sends them, that leaves the cutting to the device: `UDP_SEGMENT`.
#[test]
fn row_of_datagrams_to_many_is_taken_apart_for_each_socket() {
    let mut host = Host::new();
    let everybody = (v4 as fn(usize) -> IpAddr, IpAddr::from([10, 0, 0, 255]));
    for (address, group) in groups().into_iter().chain([everybody]) {
        let any: IpAddr = if group.is_ipv4() {
            [0; 4].into()
        } else {
            [0; 16].into()
        };
        if group.is_multicast() {
            host.stack.join(LINK, group).unwrap();
        }
        let sockets = [at(group, 1000), at(any, 1000)]
            .map(|local| host.stack.udp_bound(local))
            .into_iter()
            .flatten()
            .collect::<Vec<_>>();
        assert!(!sockets.is_empty());
        let (from, to) = (at(address(1), 5), at(group, 1000));
        let data = pattern(2500, 3);
        let mac = match group {
            IpAddr::V4(group) if group.is_multicast() => Mac::multicast_v4(group),
            IpAddr::V4(_) => Mac::BROADCAST,
            IpAddr::V6(group) => Mac::multicast_v6(group),
        };
        let frame = framed(mac, &ip(from.ip(), group, UDP, &udp(from, to, &data)));
        // None in the row; a row; a row with nothing left over; one that says more than there is.
        for (each, expected) in [
            (None, vec![2500]),
            (Some(1000), vec![1000, 1000, 500]),
            (Some(1250), vec![1250, 1250]),
            (Some(9000), vec![2500]),
        ] {
            let mut packet = host.heap.packet(&frame).unwrap();
            packet.received.datagram_len = each.and_then(core::num::NonZeroU16::new);
            host.stack.receive(host.now, 0, [packet]);
            for socket in &sockets {
                let heard: Vec<_> = core::iter::from_fn(|| host.heard(*socket)).collect();
                let lens: Vec<_> = heard.iter().map(|(_, data)| data.len()).collect();
                assert_eq!(lens, expected, "{group} {each:?}");
                assert!(heard.iter().all(|(sender, _)| *sender == from));
                let whole: Vec<_> = heard.into_iter().flat_map(|(_, data)| data).collect();
                assert!(whole == data);
            }
        }
        for socket in sockets {
            host.stack.udp(socket).close().unwrap();
        }
        // Each one of a row that nobody wants counts.
        let before = host.stack.drops().of(Reason::UdpNoSocket);
        let mut packet = host.heap.packet(&frame).unwrap();
        packet.received.datagram_len = core::num::NonZeroU16::new(1000);
        host.stack.receive(host.now, 0, [packet]);
        assert_eq!(host.stack.drops().of(Reason::UdpNoSocket) - before, 3);
    }
    host.sent();
    assert_eq!(host.heap.in_use(), 0);
}

#[test]
fn routers_are_told_of_joining_and_leaving() {
    let mut host = Host::new();
    for (_, group) in groups() {
        host.sent();
        host.stack.join(LINK, group).unwrap();
        let mut sent = host.sent();
        sent.extend(host.wait(Duration::from_secs(5)));
        host.stack.leave(LINK, group).unwrap();
        sent.extend(host.sent());
        sent.extend(host.wait(Duration::from_secs(5)));
        let to = if group.is_ipv4() {
            "224.0.0.22"
        } else {
            "ff02::16"
        };
        let reports: Vec<_> = sent.iter().map(|frame| seen(frame)).collect();
        // Each twice, for one may be lost: RFC 3376 section 5.1.
        assert!(reports.len() >= 4, "{reports:?}");
        for report in &reports {
            assert_eq!(
                (&*report.destination.to_string(), report.hop_limit),
                (to, 1)
            );
            assert!(report.source == v4(0) || report.source.to_string() == "fe80::ff:fe00:1");
        }
    }
}

#[test]
fn sent_to_a_group_it_stays_on_the_link_and_goes_to_its_station() {
    let mut host = Host::new();
    for (address, group) in groups() {
        let socket = host.socket(address(0), 1000);
        for _ in 0..2 {
            host.stack
                .udp(socket)
                .send_bytes(b"all", at(group, 9))
                .unwrap();
            let packet = host.heap.packet(b"all").unwrap();
            host.stack
                .udp(socket)
                .send_to(packet, at(group, 9))
                .unwrap();
        }
        let sent = host.sent();
        assert_eq!(sent.len(), 4);
        for frame in sent {
            let seen = seen(&frame);
            let mac = match group {
                IpAddr::V4(group) => Mac::multicast_v4(group),
                IpAddr::V6(group) => Mac::multicast_v6(group),
            };
            assert_eq!(
                (seen.to_mac, seen.source, seen.hop_limit),
                (mac, address(0), 1)
            );
        }
    }
}

#[test]
fn socket_of_a_group_sends_from_one_of_us() {
    let mut host = Host::new();
    for (address, group) in groups() {
        host.stack.join(LINK, group).unwrap();
        let socket = host.stack.udp_bound(at(group, 1000)).unwrap();
        host.sent();
        for _ in 0..2 {
            let packet = host.heap.packet(b"x").unwrap();
            host.stack
                .udp(socket)
                .send_to(packet, at(address(1), 9))
                .unwrap();
        }
        for frame in host.sent() {
            assert_eq!(seen(&frame).source, address(0));
        }
    }
}

#[test]
fn broadcasts_are_heard() {
    let mut host = Host::new();
    let socket = host
        .stack
        .udp_bound(at(IpAddr::from([0; 4]), 1000))
        .unwrap();
    for to in [[255; 4], [10, 0, 0, 255]] {
        let (from, to) = (at(v4(1), 5), at(IpAddr::from(to), 1000));
        host.hears(&framed(
            Mac::BROADCAST,
            &ip(from.ip(), to.ip(), UDP, &udp(from, to, b"all")),
        ));
        assert_eq!(host.heard(socket).unwrap().1, b"all");
        host.stack.udp(socket).send_bytes(b"all", to).unwrap();
        assert_eq!(seen(&host.sent()[0]).to_mac, Mac::BROADCAST);
    }
    assert_eq!(host.heap.in_use(), 0);
}

impl Host {
    /// As [`swallows`](Self::swallows), where reports of groups may go out at any time.
    #[track_caller]
    fn swallows_but_reports(&mut self, frame: &[u8], reason: Reason) {
        self.sent();
        self.drops(frame, reason);
        assert!(self.sent().iter().all(|frame| seen(frame).hop_limit == 1));
    }
}
