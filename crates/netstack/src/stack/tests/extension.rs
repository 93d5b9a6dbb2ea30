//! IPv6 extension headers and IPv4 options: RFC 8200 section 4, RFC 7126.

use super::*;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION: u8 = 60;

/// An options header of eight bytes: what follows, and one option of four bytes.
fn options(next: u8, option: [u8; 4]) -> Vec<u8> {
    let [kind, len, a, b] = option;
    vec![next, 0, kind, len, a, b, 1, 0]
}

const NOTHING: [u8; 4] = [1, 2, 0, 0];

fn payload() -> Vec<u8> {
    udp(at(v6(1), 2000), at(v6(0), 1000), b"behind")
}

fn packet(first: u8, headers: &[Vec<u8>]) -> Vec<u8> {
    ip(v6(1), v6(0), first, &[headers.concat(), payload()].concat())
}

#[test]
fn headers_before_a_datagram_are_walked() {
    let mut host = Host::new();
    let socket = host.socket(v6(0), 1000);
    for (first, headers) in [
        (HOP_BY_HOP, vec![options(UDP, NOTHING)]),
        (DESTINATION, vec![options(UDP, NOTHING)]),
        (
            HOP_BY_HOP,
            vec![options(DESTINATION, NOTHING), options(UDP, NOTHING)],
        ),
        // A routing header with nothing left to visit.
        (ROUTING, vec![vec![UDP, 0, 0, 0, 0, 0, 0, 0]]),
        // An unknown option that may be skipped.
        (DESTINATION, vec![options(UDP, [0x3e, 2, 0, 0])]),
    ] {
        host.hears(&framed(US, &packet(first, &headers)));
        let heard = host
            .heard(socket)
            .unwrap_or_else(|| panic!("{headers:x?}: {:?}", host.stack));
        assert_eq!(heard.1, b"behind");
    }
    // The same behind the fragment header.
    let rest = [options(UDP, NOTHING), payload()].concat();
    let (one, two) = rest.split_at(16);
    host.hears(&framed(
        US,
        &piece(v6(1), v6(0), DESTINATION, (1, 0, true), one),
    ));
    host.hears(&framed(
        US,
        &piece(v6(1), v6(0), DESTINATION, (1, 16, false), two),
    ));
    assert_eq!(host.heard(socket).unwrap().1, b"behind");
    assert_eq!(host.stack.drops().total(), 0);
}

#[test]
fn options_that_are_not_understood_do_what_their_bits_say() {
    let mut host = Host::new();
    let option = |kind| packet(DESTINATION, &[options(UDP, [kind, 2, 0, 0])]);
    host.swallows(&framed(US, &option(0x7e)), Reason::Ipv6Option);
    for kind in [0xbe, 0xfe] {
        let packet = option(kind);
        host.drops(&framed(US, &packet), Reason::Ipv6Option);
        let told = seen(&host.sent()[0]);
        // Parameter problem, code 2: the option itself.
        assert_eq!(
            told.data[..8],
            [4, 2, told.data[2], told.data[3], 0, 0, 0, 42]
        );
        assert_eq!(told.data[8..], packet);
    }
    // To a group only the one that says so is answered.
    let group: Ipv6Addr = "ff02::1".parse().unwrap();
    for (kind, answers) in [(0xbe, 1), (0xfe, 0)] {
        let mut packet = option(kind);
        packet[24..40].copy_from_slice(&group.octets());
        host.drops(
            &framed(Mac::multicast_v6(group), &packet),
            Reason::Ipv6Option,
        );
        assert_eq!(host.sent().len(), answers, "{kind:x}");
    }
}

#[test]
fn routes_that_the_sender_chose_are_refused() {
    let mut host = Host::new();
    let mut routing = vec![UDP, 2, 0, 1, 0, 0, 0, 0];
    routing.extend(Ipv6Addr::LOCALHOST.octets());
    host.drops(
        &framed(US, &packet(ROUTING, &[routing])),
        Reason::Ipv6Option,
    );
    let told = seen(&host.sent()[0]);
    assert_eq!(
        told.data[..8],
        [4, 0, told.data[2], told.data[3], 0, 0, 0, 42]
    );
    let mut source_route = ipv4(
        (Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 1)),
        UDP,
        (0, 0, false),
        &[],
    );
    source_route[0] = 0x47;
    source_route[3] = 28;
    source_route.extend([131, 7, 4, 10, 0, 0, 9, 0]);
    source_route[10..12].fill(0);
    let checksum = !sum(&source_route);
    source_route[10..12].copy_from_slice(&checksum.to_be_bytes());
    host.swallows(&framed(US, &source_route), Reason::Ipv4Options);
}

#[test]
fn headers_that_contradict_themselves_are_dropped() {
    let mut host = Host::new();
    // Longer than the packet; hop-by-hop behind another.
    let long = packet(DESTINATION, &[vec![UDP, 9, 1, 4, 0, 0, 0, 0]]);
    host.drops(&framed(US, &long), Reason::Ipv6Extensions);
    let late = packet(
        DESTINATION,
        &[options(HOP_BY_HOP, NOTHING), options(UDP, NOTHING)],
    );
    host.drops(&framed(US, &late), Reason::Ipv6Extensions);
    let many = vec![options(DESTINATION, NOTHING); 40];
    host.drops(
        &framed(US, &packet(DESTINATION, &many)),
        Reason::Ipv6Extensions,
    );
    // Nothing follows: nothing to do.
    host.hears(&framed(US, &ip(v6(1), v6(0), 59, &[])));
    assert_eq!(host.stack.drops().total(), 3);
}

#[test]
fn ipv4_options_are_passed_over() {
    let mut host = Host::new();
    let socket = host.socket(v4(0), 1000);
    let data = udp(at(v4(1), 2000), at(v4(0), 1000), b"behind");
    let mut packet = ip(v4(1), v4(0), UDP, &[&[148, 4, 0, 0][..], &data].concat());
    packet[0] = 0x46;
    packet[10..12].fill(0);
    let checksum = !sum(&packet[..24]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    host.hears(&framed(US, &packet));
    assert_eq!(host.heard(socket).unwrap().1, b"behind");
}
