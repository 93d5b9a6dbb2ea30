//! Neighbour discovery: RFC 4861 section 7, RFC 4862 section 5.4.

use super::*;

const SOLICIT: u8 = 135;
const ADVERTISE: u8 = 136;

fn ours() -> Ipv6Addr {
    "fd00::1".parse().unwrap()
}

fn theirs() -> Ipv6Addr {
    "fd00::2".parse().unwrap()
}

/// The group of `fd00::1`.
fn our_group() -> Ipv6Addr {
    "ff02::1:ff00:1".parse().unwrap()
}

fn option(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1][..], &mac.0].concat()
}

fn message(
    (source, to): (Ipv6Addr, Ipv6Addr),
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    options: &[u8],
) -> Vec<u8> {
    let fields = [&[flags, 0, 0, 0][..], &target.octets(), options].concat();
    let message = icmp(source.into(), to.into(), kind, 0, &fields);
    let mac = if to.is_multicast() {
        Mac::multicast_v6(to)
    } else {
        US
    };
    framed(mac, &ipv6((source, to), ICMPV6, 255, &message))
}

fn solicitation(source: Ipv6Addr, target: Ipv6Addr, mac: Option<Mac>) -> Vec<u8> {
    let options = mac.map(|mac| option(1, mac)).unwrap_or_default();
    message((source, our_group()), SOLICIT, 0, target, &options)
}

/// Of somebody, with the flags solicited (0x40) and override (0x20).
fn advertisement(target: Ipv6Addr, flags: u8, mac: Option<Mac>) -> Vec<u8> {
    let options = mac.map(|mac| option(2, mac)).unwrap_or_default();
    message((target, ours()), ADVERTISE, flags, target, &options)
}

fn state(host: &Host, address: Ipv6Addr) -> Option<(String, Option<Mac>)> {
    let mut all = host.stack.neighbours();
    all.find(|known| known.address == IpAddr::V6(address))
        .map(|known| (format!("{:?}", known.state), known.mac))
}

/// A host that checks its addresses, before it does.
fn probing() -> Host {
    let mut host = Host::bare(InterfaceConfig::new(0, US), Config::default());
    host.stack
        .add_address(LINK, v6(0), 64, Probing::Check)
        .unwrap();
    host
}

#[test]
fn solicitation_is_answered_to_who_asked_and_he_is_remembered() {
    let mut host = Host::new();
    let (him, mac) = ("fd00::7".parse().unwrap(), Mac([2, 0, 0, 0, 0, 7]));
    let answer = seen(&host.answer(&solicitation(him, ours(), Some(mac))));
    assert_eq!((answer.to_mac, answer.hop_limit), (mac, 255));
    assert_eq!((answer.source, answer.destination), (v6(0), him.into()));
    // Solicited and overriding; where we are.
    assert_eq!((answer.data[0], answer.data[4]), (ADVERTISE, 0x60));
    assert_eq!(
        answer.data[8..],
        [&ours().octets()[..], &option(2, US)].concat()
    );
    assert_eq!(state(&host, him).unwrap().1, Some(mac));
}

#[test]
fn solicitation_to_us_alone_is_answered_without_the_senders_address() {
    let mut host = Host::new();
    let frame = message((theirs(), ours()), SOLICIT, 0, ours(), &[]);
    let answer = seen(&host.answer(&frame));
    assert_eq!((answer.to_mac, answer.data[0]), (THEM, ADVERTISE));
}

#[test]
fn solicitations_for_others_and_those_that_were_passed_on_are_not_answered() {
    let mut host = Host::new();
    let other = "fd00::1:0:1".parse().unwrap();
    host.swallows(
        &solicitation(theirs(), other, Some(THEM)),
        Reason::NdpIgnored,
    );
    let mut passed_on = solicitation(theirs(), ours(), Some(THEM));
    passed_on[21] = 254;
    host.swallows(&passed_on, Reason::NdpMalformed);
    let group = solicitation(theirs(), ours(), Some(Mac::BROADCAST));
    host.swallows(&group, Reason::NdpMalformed);
    let unspecified = Ipv6Addr::UNSPECIFIED;
    host.swallows(
        &solicitation(unspecified, ours(), Some(THEM)),
        Reason::NdpMalformed,
    );
    let mut wrong = solicitation(theirs(), ours(), Some(THEM));
    wrong[57] ^= 1;
    host.swallows(&wrong, Reason::IcmpChecksum);
    for kind in [133, 137] {
        let reason = if kind == 133 {
            Reason::NdpIgnored
        } else {
            Reason::NdpMalformed
        };
        host.swallows(&message((theirs(), ours()), kind, 0, ours(), &[]), reason);
    }
}

#[test]
fn messages_that_come_in_pieces_are_dropped() {
    let mut host = Host::new();
    let frame = solicitation(theirs(), ours(), Some(THEM));
    let bytes = &frame[54..];
    let atomic = |(id, offset, more), data: &[u8]| {
        let mut packet = piece(
            theirs().into(),
            our_group().into(),
            ICMPV6,
            (id, offset, more),
            data,
        );
        packet[7] = 255;
        framed(Mac::multicast_v6(our_group()), &packet)
    };
    host.swallows(&atomic((1, 0, false), bytes), Reason::NdpMalformed);
    host.hears(&atomic((2, 0, true), &bytes[..16]));
    host.swallows(&atomic((2, 16, false), &bytes[16..]), Reason::NdpMalformed);
}

#[test]
fn redirects_are_refused() {
    let mut host = Host::new();
    let router: Ipv6Addr = "fe80::9".parse().unwrap();
    let destination: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let options = [&destination.octets()[..], &option(2, THEM)].concat();
    let frame = message((router, ours()), 137, 0, router, &options);
    host.swallows(&frame, Reason::IcmpRedirect);
}

#[test]
fn answer_sends_what_waited() {
    let mut host = Host::new();
    let him: Ipv6Addr = "fd00::7".parse().unwrap();
    let mac = Mac([2, 0, 0, 0, 0, 7]);
    let socket = host.stack.udp_v6().unwrap();
    host.stack
        .udp(socket)
        .send_bytes(b"one", at(him.into(), 9))
        .unwrap();
    let asked = host.sent();
    assert_eq!(asked.len(), 1);
    let question = seen(&asked[0]);
    let group: Ipv6Addr = "ff02::1:ff00:7".parse().unwrap();
    assert_eq!(question.to_mac, Mac::multicast_v6(group));
    assert_eq!(
        (question.destination, question.hop_limit),
        (group.into(), 255)
    );
    assert_eq!(
        question.data[8..],
        [&him.octets()[..], &option(1, US)].concat()
    );
    let sent = host.answers(&advertisement(him, 0x60, Some(mac)));
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (seen(&sent[0]).to_mac, &seen(&sent[0]).data[8..]),
        (mac, &b"one"[..])
    );
    assert_eq!(state(&host, him), Some(("Reachable".into(), Some(mac))));
    assert_eq!(host.heap.in_use(), 0);
}

#[test]
fn advertisements_of_strangers_add_nobody() {
    let mut host = Host::new();
    let him = "fd00::7".parse().unwrap();
    host.hears(&advertisement(him, 0x20, Some(THEM)));
    assert_eq!(state(&host, him), None);
}

#[test]
fn advertisement_without_an_address_confirms_and_no_more() {
    let mut host = Host::new();
    let him: Ipv6Addr = "fd00::7".parse().unwrap();
    let mac = Mac([2, 0, 0, 0, 0, 7]);
    // Who is being asked for is not found by it.
    let socket = host.stack.udp_v6().unwrap();
    let to = at(him.into(), 9);
    host.stack.udp(socket).send_bytes(b"one", to).unwrap();
    host.sent();
    assert!(host.answers(&advertisement(him, 0x40, None)).is_empty());
    assert_eq!(state(&host, him), Some(("Incomplete".into(), None)));
    host.hears(&advertisement(him, 0x60, Some(mac)));
    host.wait(Duration::from_secs(40));
    assert_eq!(state(&host, him).unwrap().0, "Stale");
    // Who was not asked confirms nothing.
    host.hears(&advertisement(him, 0x00, None));
    assert_eq!(state(&host, him).unwrap().0, "Stale");
    host.hears(&advertisement(him, 0x40, None));
    assert_eq!(state(&host, him), Some(("Reachable".into(), Some(mac))));
}

#[test]
fn probe_is_answered_to_all() {
    let mut host = Host::new();
    let answer = seen(&host.answer(&solicitation(Ipv6Addr::UNSPECIFIED, ours(), None)));
    assert_eq!(answer.destination.to_string(), "ff02::1");
    // Overriding, and nobody asked for himself.
    assert_eq!((answer.data[0], answer.data[4]), (ADVERTISE, 0x20));
}

#[test]
fn tentative_address_does_not_answer_and_is_refused_if_somebody_has_it() {
    for claim in [
        message(
            (ours(), "ff02::1".parse().unwrap()),
            ADVERTISE,
            0x20,
            ours(),
            &option(2, THEM),
        ),
        solicitation(Ipv6Addr::UNSPECIFIED, ours(), None),
    ] {
        let mut host = probing();
        host.swallows(
            &solicitation(theirs(), ours(), Some(THEM)),
            Reason::NdpIgnored,
        );
        host.wait(Duration::from_millis(1100));
        host.drops(&claim, Reason::NdpConflict);
        let (interface, address) = (LINK, v6(0));
        let by = THEM;
        assert_eq!(
            host.events(),
            [Event::Duplicate {
                interface,
                address,
                by
            }]
        );
        host.wait(Duration::from_secs(10));
        assert_eq!(
            host.stack.udp_bound(at(v6(0), 9)),
            Err(Error::NoAddress(v6(0)))
        );
    }
}

#[test]
fn our_own_probe_come_back_is_nothing() {
    let mut host = probing();
    let sent = host.wait(Duration::from_millis(1100));
    let probes = sent.iter().filter(|frame| seen(frame).data[0] == SOLICIT);
    let mut count = 0;
    for probe in probes {
        host.swallows(probe, Reason::EthernetSource);
        count += 1;
    }
    assert!(count > 0);
    let sent = host.wait(Duration::from_secs(10));
    // What it says of itself then does not turn against it either.
    for frame in sent.iter().filter(|frame| seen(frame).data[0] == ADVERTISE) {
        host.hears(frame);
    }
    assert!(
        host.events()
            .iter()
            .all(|event| matches!(event, Event::AddressReady { .. }))
    );
    assert!(host.stack.udp_bound(at(v6(0), 9)).is_ok());
}

#[test]
fn address_in_use_is_kept_and_the_user_told() {
    let mut host = Host::new();
    let claim = message(
        (ours(), "ff02::1".parse().unwrap()),
        ADVERTISE,
        0x20,
        ours(),
        &option(2, THEM),
    );
    // Its source is an address of ours.
    host.swallows(&claim, Reason::IpSource);
    let claim = message(
        (theirs(), "ff02::1".parse().unwrap()),
        ADVERTISE,
        0x20,
        ours(),
        &option(2, THEM),
    );
    host.swallows(&claim, Reason::NdpConflict);
    let (interface, address, by) = (LINK, v6(0), THEM);
    assert_eq!(
        host.events(),
        [Event::Conflict {
            interface,
            address,
            by
        }]
    );
    assert!(host.stack.udp_bound(at(v6(0), 9)).is_ok());
}
