//! What a user sets up.

use super::*;

#[test]
fn route_by_a_gateway_leads_there_and_is_forgotten() {
    let mut host = Host::new();
    for (address, default, far) in [
        (v4 as fn(usize) -> IpAddr, "0.0.0.0", "192.0.2.1"),
        (v6, "::", "2001:db8::1"),
    ] {
        let (default, far): (IpAddr, IpAddr) = (default.parse().unwrap(), far.parse().unwrap());
        let socket = host.socket(address(0), 1000);
        let to = at(far, 9);
        assert_eq!(
            host.stack.udp(socket).send_bytes(b"x", to),
            Err(Error::NoRoute(far))
        );
        assert_eq!(
            host.stack.add_route(default, 0, far),
            Err(Error::GatewayUnreachable(far))
        );
        host.stack.add_route(default, 0, address(1)).unwrap();
        let again = host.stack.add_route(default, 0, address(1));
        assert_eq!(again, Err(Error::RouteExists(default, 0)));
        host.stack.udp(socket).send_bytes(b"x", to).unwrap();
        let sent = seen(&host.sent()[0]);
        assert_eq!((sent.to_mac, sent.destination), (THEM, far));
        host.stack.remove_route(default, 0, address(1)).unwrap();
        assert_eq!(
            host.stack.udp(socket).send_bytes(b"x", to),
            Err(Error::NoRoute(far))
        );
        let gone = host.stack.remove_route(default, 0, address(1));
        assert_eq!(gone, Err(Error::RouteMissing(default, 0)));
    }
}

#[test]
fn address_that_is_taken_away_is_ours_no_more_and_its_network_goes() {
    let mut host = Host::new();
    for address in BOTH {
        let socket = host.socket(address(0), 1000);
        host.stack.remove_address(LINK, address(0)).unwrap();
        host.swallows(
            &datagram(at(address(1), 5), at(address(0), 1000), b"x"),
            Reason::IpNotForUs,
        );
        let sent = host.stack.udp(socket).send_bytes(b"x", at(address(1), 9));
        assert_eq!(sent, Err(Error::NoRoute(address(1))));
        let gone = host.stack.remove_address(LINK, address(0));
        assert_eq!(gone, Err(Error::NoAddress(address(0))));
    }
}

#[test]
fn neighbour_that_is_taken_away_is_asked_for() {
    let mut host = Host::new();
    let socket = host.socket(v4(0), 1000);
    host.stack.remove_neighbour(LINK, v4(1));
    host.stack
        .udp(socket)
        .send_bytes(b"x", at(v4(1), 9))
        .unwrap();
    assert_eq!(host.sent()[0][12..14], [8, 6]);
    // Written down while packets wait, it gets them.
    host.stack.add_neighbour(LINK, v4(1), THEM).unwrap();
    assert_eq!(seen(&host.sent()[0]).data[8..], *b"x");
}

#[test]
fn events_that_nobody_asks_for_are_bounded() {
    let mut host = Host::new();
    for number in 0..1000_u16 {
        let address = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1 + number).into();
        host.stack
            .add_address(LINK, address, 64, Probing::None)
            .unwrap();
        host.stack.remove_address(LINK, address).unwrap();
    }
    let events = host.events();
    assert_eq!(events.len(), crate::config::EVENTS_MAX);
    let last = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1000).into();
    assert_eq!(
        events.last(),
        Some(&Event::AddressReady {
            interface: LINK,
            address: last
        })
    );
}
