//! What is for others, or nothing that we speak, and the counter that says so.

use super::*;

#[test]
fn frames_for_others_and_of_other_protocols_are_counted() {
    let mut host = Host::new();
    let good = datagram(at(v4(1), 5), at(v4(0), 1000), b"x");
    let mut frame = good.clone();
    frame[5] ^= 0x40;
    host.swallows(&frame, Reason::EthernetDestination);
    let mut frame = good.clone();
    frame[6] |= 1;
    host.swallows(&frame, Reason::EthernetSource);
    let mut frame = good.clone();
    frame[12..14].copy_from_slice(&[0x88, 0xcc]);
    host.swallows(&frame, Reason::EthernetType);
    for len in 0..14 {
        host.swallows(&good[..len], Reason::EthernetMalformed);
    }
    for len in 14..good.len() {
        host.swallows(&good[..len], Reason::Ipv4Malformed);
    }
    let good = datagram(at(v6(1), 5), at(v6(0), 1000), b"x");
    for len in 14..good.len() {
        host.swallows(&good[..len], Reason::Ipv6Malformed);
    }
    assert_eq!(host.heap.in_use(), 0);
}

#[test]
fn packets_for_others_are_not_forwarded() {
    let mut host = Host::new();
    for address in BOTH {
        for to in [address(1), address(9)] {
            host.swallows(
                &datagram(at(address(1), 5), at(to, 9), b"x"),
                Reason::IpNotForUs,
            );
        }
    }
    for to in [
        IpAddr::from([127, 0, 0, 1]),
        IpAddr::from([0; 4]),
        IpAddr::from([10, 0, 0, 0]),
    ] {
        host.swallows(&datagram(at(v4(1), 5), at(to, 9), b"x"), Reason::IpNotForUs);
    }
    for to in ["::1", "::"] {
        let to = at(to.parse().unwrap(), 9);
        host.swallows(&datagram(at(v6(1), 5), to, b"x"), Reason::IpNotForUs);
    }
}

#[test]
fn address_is_heard_on_its_own_interface_alone() {
    let mut host = Host::new();
    let other = Mac([2, 0, 0, 0, 0, 0x11]);
    let second = host
        .stack
        .add_interface(InterfaceConfig::new(1, other))
        .unwrap();
    let address = IpAddr::from([10, 1, 0, 1]);
    host.stack
        .add_address(second, address, 24, Probing::None)
        .unwrap();
    let socket = host.socket(address, 1000);
    // The strong model of RFC 1122 section 3.3.4.2.
    let frame = datagram(at(v4(1), 5), at(address, 1000), b"x");
    host.swallows(&frame, Reason::IpNotForUs);
    let mut frame = datagram(at(IpAddr::from([10, 1, 0, 2]), 5), at(address, 1000), b"x");
    frame[..6].copy_from_slice(&other.0);
    let packet = host.heap.packet(&frame).unwrap();
    host.stack.receive(host.now, 1, [packet]);
    assert!(host.heard(socket).is_some());
    // Nor is a question for it answered on the other one.
    let mut question = [
        &Mac::BROADCAST.0[..],
        &THEM.0,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
    ]
    .concat();
    question.extend(THEM.0);
    question.extend([10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 1, 0, 1]);
    host.swallows(&question, Reason::ArpIgnored);
    // Nor does anybody send to us from there.
    let forged = datagram(at(address, 5), at(v4(0), 1000), b"x");
    host.swallows(&forged, Reason::IpSource);
}

#[test]
fn udp_that_contradicts_its_packet_is_dropped() {
    let mut host = Host::new();
    for address in BOTH {
        host.socket(address(0), 1000);
        let (from, to) = (at(address(1), 5), at(address(0), 1000));
        for len in [0, 1, 7] {
            let bytes = udp(from, to, b"data");
            let frame = framed(US, &ip(from.ip(), to.ip(), UDP, &bytes[..len]));
            host.swallows(&frame, Reason::UdpMalformed);
        }
        for said in [0_u16, 7, 13, 65_535] {
            let mut bytes = udp(from, to, b"data");
            bytes[4..6].copy_from_slice(&said.to_be_bytes());
            let frame = framed(US, &ip(from.ip(), to.ip(), UDP, &bytes));
            host.swallows(&frame, Reason::UdpMalformed);
        }
    }
}

#[test]
fn every_reason_and_its_meaning_stand_in_the_manual() {
    let manual = include_str!("../../../../../docs/stack.md");
    for reason in Reason::ALL {
        let row = format!("| `{}` |", reason.name());
        assert!(manual.contains(&row), "docs/stack.md has no row {row}");
    }
    let rows = manual
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| line.split('`').nth(1));
    let section = manual
        .split("## Counters")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    for name in rows.filter(|name| section.contains(&format!("| `{name}` |"))) {
        let known = Reason::ALL.iter().any(|reason| reason.name() == name);
        let traffic = [
            "received",
            "sent",
            "echoes",
            "errors_sent",
            "errors_received",
            "reassembled",
        ];
        assert!(known || traffic.contains(&name), "{name} counts nothing");
    }
}
