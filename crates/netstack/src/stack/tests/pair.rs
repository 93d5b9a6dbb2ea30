//! Two stacks on one cable.

use super::*;

#[test]
fn datagrams_of_all_sizes_cross_both_ways() {
    let mut pair = Pair::new();
    for address in [v4 as fn(usize) -> IpAddr, v6] {
        let (a, b) = (
            pair.socket(0, address(0), 1000),
            pair.socket(1, address(1), 2000),
        );
        for len in [0, 1, 18, 1000, 1452, 1453, 1472, 1473, 3000, 9000, 65_507] {
            let bytes: Vec<u8> = (0..len)
                .map(|at: usize| (at * 7 + len).to_le_bytes()[0])
                .collect();
            pair.hosts[0]
                .udp(a)
                .send_bytes(&bytes, SocketAddr::new(address(1), 2000))
                .unwrap();
            pair.carry();
            let there = pair.hosts[1]
                .udp(b)
                .recv_from()
                .unwrap_or_else(|| panic!("{len}: {:?}", pair.hosts));
            assert_eq!(
                (there.packet.data(), there.from.port(), there.to),
                (&bytes[..], 1000, address(1))
            );
            pair.hosts[1].udp(b).reply(there).unwrap();
            pair.carry();
            let back = pair.hosts[0]
                .udp(a)
                .recv_from()
                .unwrap_or_else(|| panic!("{len} back: {:?}", pair.hosts));
            assert_eq!(back.packet.data(), bytes);
        }
        assert!(pair.hosts[0].udp(a).recv_from().is_none());
    }
    assert_eq!(pair.heap.in_use(), 0);
    assert_eq!(
        pair.hosts[0].drops().total() + pair.hosts[1].drops().total(),
        0,
        "{:?}",
        pair.hosts
    );
}

#[test]
fn nobody_on_a_port_is_told_to_who_asked() {
    let mut pair = Pair::new();
    for address in [v4 as fn(usize) -> IpAddr, v6] {
        let a = pair.socket(0, address(0), 1000);
        let to = SocketAddr::new(address(1), 7);
        pair.hosts[0].udp(a).send_bytes(b"anybody?", to).unwrap();
        pair.carry();
        assert_eq!(
            pair.hosts[0].udp(a).take_error().unwrap(),
            Some(Error::Refused(to))
        );
        assert_eq!(pair.hosts[0].udp(a).take_error().unwrap(), None);
    }
    assert_eq!(pair.hosts[1].drops().of(Reason::UdpNoSocket), 2);
    assert_eq!(pair.heap.in_use(), 0);
}

#[test]
fn silent_neighbour_is_told_to_who_asked() {
    let mut pair = Pair::new();
    for to in [IpAddr::from([10, 0, 0, 99]), "fd00::99".parse().unwrap()] {
        let unspecified = if to.is_ipv4() {
            IpAddr::from([0; 4])
        } else {
            IpAddr::from([0u16; 8])
        };
        let a = pair.socket(0, unspecified, 1000);
        pair.hosts[0]
            .udp(a)
            .send_bytes(b"anybody?", SocketAddr::new(to, 7))
            .unwrap();
        pair.pass(Duration::from_secs(10));
        assert_eq!(
            pair.hosts[0].udp(a).take_error().unwrap(),
            Some(Error::Unreachable(to))
        );
    }
    assert_eq!(pair.hosts[0].drops().of(Reason::NeighbourFailed), 2);
    assert_eq!(pair.heap.in_use(), 0);
}

#[test]
fn what_goes_to_ourselves_comes_back() {
    let mut pair = Pair::new();
    let a = pair.socket(0, v4(0), 1000);
    pair.hosts[0]
        .udp(a)
        .send_bytes(b"me", SocketAddr::new(v4(0), 1000))
        .unwrap();
    let now = pair.now;
    assert_eq!(pair.hosts[0].next_timeout(), Some(now));
    pair.hosts[0].handle_timeout(now);
    let mine = pair.hosts[0].udp(a).recv_from().unwrap();
    assert_eq!(
        (mine.packet.data(), mine.from),
        (&b"me"[..], SocketAddr::new(v4(0), 1000))
    );
}

#[test]
fn packet_of_many_datagrams_is_taken_apart() {
    let mut pair = Pair::new();
    for address in [v4 as fn(usize) -> IpAddr, v6] {
        let (a, b) = (
            pair.socket(0, address(0), 1000),
            pair.socket(1, address(1), 2000),
        );
        let bytes: Vec<u8> = (0..1000_u32).map(|at| (at % 251) as u8).collect();
        let to = SocketAddr::new(address(1), 2000);
        pair.hosts[0].udp(a).send_bytes(b"first", to).unwrap();
        pair.carry();
        assert_eq!(pair.hosts[1].udp(b).recv_from().unwrap().packet.len(), 5);
        for (each, wanted) in [(300, &[300, 300, 300, 100][..]), (1000, &[1000])] {
            pair.hosts[0].udp(a).send_bytes(&bytes, to).unwrap();
            let sent = pair.hosts[0].poll_transmit(0).unwrap();
            let mut packet = pair.heap.packet(sent.data()).unwrap();
            packet.received.datagram_len = core::num::NonZeroU16::new(each);
            pair.hosts[1].receive(pair.now, 0, [packet]);
            let mut back = Vec::new();
            for len in wanted {
                let datagram = pair.hosts[1].udp(b).recv_from().unwrap();
                assert_eq!(datagram.packet.len(), *len);
                back.extend_from_slice(datagram.packet.data());
            }
            assert_eq!(back, bytes);
            assert!(pair.hosts[1].udp(b).recv_from().is_none());
        }
    }
    assert_eq!(pair.heap.in_use(), 0);
}
