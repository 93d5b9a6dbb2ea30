//! Addresses of the link on two links: RFC 4007.

use super::*;

const SECOND: InterfaceId = InterfaceId(1);

fn near(text: &str, port: u16, scope_id: u32) -> SocketAddr {
    let address: Ipv6Addr = text.parse().unwrap();
    core::net::SocketAddrV6::new(address, port, 0, scope_id).into()
}

/// A host on two links; on each there is a neighbour `fe80::99`.
fn host() -> Host {
    let mut host = Host::bare(InterfaceConfig::new(0, US), Config::default());
    let second = InterfaceConfig::new(1, Mac([2, 0, 0, 0, 1, 1]));
    assert_eq!(host.stack.add_interface(second), Ok(SECOND));
    for (interface, own) in [(LINK, "fe80::1"), (SECOND, "fe80::2")] {
        let own = own.parse().unwrap();
        host.stack
            .add_address(interface, own, 64, Probing::None)
            .unwrap();
        let there = "fe80::99".parse().unwrap();
        host.stack.add_neighbour(interface, there, THEM).unwrap();
    }
    host.wait(Duration::from_secs(60));
    while host.stack.poll_transmit(1).is_some() {}
    host
}

/// What was sent by each port: from where, with how many bytes.
fn sent(host: &mut Host) -> [Vec<(String, usize)>; 2] {
    [0, 1].map(|port| {
        let next = || host.stack.poll_transmit(port);
        core::iter::from_fn(next)
            .map(|packet| {
                let seen = seen(packet.data());
                (seen.source.to_string(), seen.data.len() - 8)
            })
            .collect()
    })
}

fn send(host: &mut Host, socket: UdpId, to: SocketAddr, len: usize) -> Result<(), Error> {
    // By the short way and by the long one.
    let packet = host.heap.packet(&vec![1; len]).unwrap();
    let sent = host.stack.udp(socket).send_to(packet, to);
    let again = host.stack.udp(socket).send_bytes(&vec![1; len], to);
    assert_eq!(sent.as_ref().err().map(|unsent| unsent.error), again.err());
    again
}

fn arrives(host: &mut Host, port: u16, to: &str) {
    let (from, to) = (near("fe80::99", 9, 0), near(to, 1000, 0));
    let mac = if port == 0 {
        US
    } else {
        Mac([2, 0, 0, 0, 1, 1])
    };
    let packet = ip(from.ip(), to.ip(), UDP, &udp(from, to, b"near"));
    let packet = host.heap.packet(&framed(mac, &packet)).unwrap();
    host.stack.receive(host.now, port, [packet]);
}

#[test]
fn answer_goes_back_by_the_link_that_the_question_came_by() {
    let mut host = host();
    let socket = host.stack.udp_bound(near("::", 1000, 0)).unwrap();
    for (port, own) in [(1, "fe80::2"), (0, "fe80::1"), (1, "fe80::2")] {
        arrives(&mut host, port, own);
        let datagram = host.stack.udp(socket).recv_from().unwrap();
        let scope_id = u32::from(port) + 1;
        assert_eq!(datagram.from, near("fe80::99", 9, scope_id));
        assert_eq!(datagram.interface.scope_id(), scope_id);
        assert_eq!(InterfaceId::of_scope_id(scope_id), Some(datagram.interface));
        let sent_back =
            host.stack
                .udp(socket)
                .send_from(datagram.packet, datagram.to, datagram.from);
        sent_back.unwrap();
        let mut expected = [Vec::new(), Vec::new()];
        expected[usize::from(port)].push((own.to_owned(), 4));
        assert_eq!(sent(&mut host), expected);
        // And so it says in a burst.
        arrives(&mut host, port, own);
        let mut burst = Vec::new();
        assert_eq!(host.stack.udp(socket).recv_burst(8, &mut burst), 1);
        assert_eq!(burst[0].from, near("fe80::99", 9, scope_id));
    }
    assert_eq!(InterfaceId::of_scope_id(0), None);
    assert_eq!(InterfaceId::of_scope_id(1 << 20), None);
}

#[test]
fn zone_says_by_which_link_something_goes() {
    let mut host = host();
    let both = |own: &str| vec![(own.to_owned(), 100); 2];
    let socket = host.stack.udp_bound(near("::", 1000, 0)).unwrap();
    // Twice round, as what was found out is remembered.
    for (scope_id, port) in [(2, 1), (1, 0), (0, 0), (2, 1), (0, 0)] {
        for to in ["fe80::99", "ff02::1234"] {
            send(&mut host, socket, near(to, 9, scope_id), 100).unwrap();
            let mut expected = [Vec::new(), Vec::new()];
            expected[port] = both(["fe80::1", "fe80::2"][port]);
            assert_eq!(sent(&mut host), expected, "{to}%{scope_id}");
        }
    }
    for scope_id in [3, 256, 257, u32::MAX] {
        let nowhere = near("fe80::99", 9, scope_id);
        let refused = send(&mut host, socket, nowhere, 100);
        assert_eq!(refused, Err(Error::NoZone(nowhere)));
        assert_eq!(
            host.stack.udp(socket).connect(nowhere),
            Err(Error::NoZone(nowhere))
        );
    }
    // Ours on one link is not ours on the other.
    send(&mut host, socket, near("fe80::1", 1000, 1), 100).unwrap();
    host.wait(Duration::ZERO);
    assert_eq!(host.stack.udp(socket).queued(), Ok(2));
    send(&mut host, socket, near("fe80::1", 1000, 2), 100).unwrap();
    host.wait(Duration::ZERO);
    assert_eq!(host.stack.udp(socket).queued(), Ok(2));
}

#[test]
fn socket_of_one_link_sends_by_it() {
    let mut host = host();
    let wrong = host.stack.udp_bound(near("fe80::2", 1000, 1));
    assert_eq!(wrong, Err(Error::NoAddress("fe80::2".parse().unwrap())));
    let bound = host.stack.udp_bound(near("fe80::2", 1000, 2)).unwrap();
    send(&mut host, bound, near("fe80::99", 9, 0), 100).unwrap();
    let both = vec![("fe80::2".to_owned(), 100); 2];
    assert_eq!(sent(&mut host), [vec![], both.clone()]);
    let connected = host.stack.udp_v6().unwrap();
    let peer = near("fe80::99", 9, 2);
    host.stack.udp(connected).connect(peer).unwrap();
    assert_eq!(host.stack.udp(connected).peer(), Ok(Some(peer)));
    for _ in 0..2 {
        let packet = host.heap.packet(&[1; 100]).unwrap();
        host.stack.udp(connected).send(packet).unwrap();
    }
    assert_eq!(sent(&mut host), [vec![], both]);
}

#[test]
fn where_there_is_one_link_its_zone_may_be_left_out() {
    let mut host = Host::new();
    host.stack
        .add_neighbour(LINK, "fe80::99".parse().unwrap(), THEM)
        .unwrap();
    let socket = host.stack.udp_bound(near("::", 1000, 0)).unwrap();
    for scope_id in [0, 1] {
        send(&mut host, socket, near("fe80::99", 9, scope_id), 100).unwrap();
        assert_eq!(host.sent().len(), 2);
    }
    let nowhere = near("fe80::99", 9, 2);
    let refused = send(&mut host, socket, nowhere, 100);
    assert_eq!(refused, Err(Error::NoZone(nowhere)));
    // An address that is one for the whole world has no zone, whatever is said.
    let IpAddr::V6(far) = v6(1) else { panic!() };
    send(&mut host, socket, near(&far.to_string(), 9, 7), 100).unwrap();
    assert_eq!(host.sent().len(), 2);
}

#[test]
fn ping_from_an_address_of_a_link_goes_to_that_link() {
    let mut host = host();
    for (port, own) in ["fe80::1", "fe80::2"].into_iter().enumerate() {
        let socket = host.stack.echo_bound(own.parse().unwrap(), 0).unwrap();
        for to in ["fe80::99", "ff02::1"] {
            let to = to.parse().unwrap();
            host.stack.echo(socket).send_bytes(&[1; 8], to, 1).unwrap();
            let mut sent = sent(&mut host);
            assert_eq!(sent[port].pop().unwrap().0, own);
            assert!(sent.concat().is_empty());
        }
    }
}
