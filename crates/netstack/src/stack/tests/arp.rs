//! ARP: RFC 826, RFC 5227.

use super::*;

const ZERO: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn arp(operation: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr), to: Mac) -> Vec<u8> {
    let mut frame = [&to.0[..], &sender.0.0, &[8, 6]].concat();
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(sender.0.0);
    frame.extend(sender.1.octets());
    frame.extend(target.0.0);
    frame.extend(target.1.octets());
    // As Ethernet pads it.
    frame.resize(60, 0);
    frame
}

/// Operation, sender, target.
fn told(frame: &[u8]) -> (u16, Mac, Ipv4Addr, Mac, Ipv4Addr) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Arp(arp)) = sliced.net else {
        panic!("{frame:x?}");
    };
    let arp = arp.to_packet();
    let mac = |bytes: &[u8]| Mac(bytes.try_into().unwrap());
    let address = |bytes: &[u8]| Ipv4Addr::from(<[u8; 4]>::try_from(bytes).unwrap());
    (
        arp.operation.0,
        mac(arp.sender_hw_addr()),
        address(arp.sender_protocol_addr()),
        mac(arp.target_hw_addr()),
        address(arp.target_protocol_addr()),
    )
}

fn ours() -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 1)
}

fn theirs() -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 2)
}

fn is_arp(frame: &&Vec<u8>) -> bool {
    frame[12..14] == [8, 6]
}

/// A host that checks its address, before it does.
fn probing() -> Host {
    let mut host = Host::bare(InterfaceConfig::new(0, US), Config::default());
    host.stack
        .add_address(LINK, v4(0), 24, Probing::Check)
        .unwrap();
    host
}

#[test]
fn request_is_answered_to_who_asked_and_he_is_remembered() {
    let mut host = Host::new();
    let him = (Mac([2, 0, 0, 0, 0, 7]), Ipv4Addr::new(10, 0, 0, 7));
    let answer = host.answer(&arp(1, him, (Mac::ZERO, ours()), Mac::BROADCAST));
    assert_eq!(answer[..6], him.0.0);
    assert_eq!(told(&answer), (2, US, ours(), him.0, him.1));
    // And so he need not be asked for.
    let socket = host.stack.udp_v4().unwrap();
    host.stack
        .udp(socket)
        .send_bytes(b"x", at(him.1.into(), 9))
        .unwrap();
    assert_eq!(seen(&host.sent()[0]).to_mac, him.0);
}

#[test]
fn requests_for_others_and_nonsense_are_not_answered() {
    let mut host = Host::new();
    let them = (THEM, theirs());
    let other = (Mac::ZERO, Ipv4Addr::new(10, 0, 0, 77));
    host.swallows(&arp(1, them, other, Mac::BROADCAST), Reason::ArpIgnored);
    let group = (Mac([3, 0, 0, 0, 0, 7]), Ipv4Addr::new(10, 0, 0, 7));
    let for_us = (Mac::ZERO, ours());
    host.swallows(
        &arp(1, group, for_us, Mac::BROADCAST),
        Reason::EthernetSource,
    );
    for sender in [[224, 0, 0, 1], [255; 4], [127, 0, 0, 1]] {
        let frame = arp(1, (THEM, sender.into()), for_us, Mac::BROADCAST);
        host.swallows(&frame, Reason::ArpMalformed);
    }
    let mut short = arp(1, them, for_us, Mac::BROADCAST);
    short.truncate(40);
    host.swallows(&short, Reason::ArpMalformed);
    let mut token_ring = arp(1, them, for_us, Mac::BROADCAST);
    token_ring[15] = 6;
    host.swallows(&token_ring, Reason::ArpMalformed);
    // Somebody of another network is answered, and not remembered.
    let far = (Mac([2, 0, 0, 0, 0, 8]), Ipv4Addr::new(192, 0, 2, 1));
    let before = host.stack.neighbours().count();
    host.answer(&arp(1, far, for_us, Mac::BROADCAST));
    assert_eq!(host.stack.neighbours().count(), before);
}

#[test]
fn answer_sends_what_waited() {
    let mut host = Host::new();
    let to = at(IpAddr::from([10, 0, 0, 7]), 9);
    let socket = host.stack.udp_v4().unwrap();
    for data in [b"one", b"two"] {
        host.stack.udp(socket).send_bytes(data, to).unwrap();
    }
    let asked = host.sent();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0][..6], Mac::BROADCAST.0);
    let him = (Mac([2, 0, 0, 0, 0, 7]), Ipv4Addr::new(10, 0, 0, 7));
    assert_eq!(told(&asked[0]), (1, US, ours(), Mac::ZERO, him.1));
    let sent = host.answers(&arp(2, him, (US, ours()), US));
    let data: Vec<_> = sent
        .iter()
        .map(|frame| seen(frame).data[8..].to_vec())
        .collect();
    assert_eq!(data, [b"one", b"two"]);
    assert_eq!(host.heap.in_use(), 0);
}

#[test]
fn gratuitous_arp_moves_who_is_known_and_adds_nobody() {
    let mut host = Host::new();
    let socket = host.stack.udp_v4().unwrap();
    let him = (Mac([2, 0, 0, 0, 0, 7]), Ipv4Addr::new(10, 0, 0, 7));
    let before = host.stack.neighbours().count();
    host.hears(&arp(1, him, (Mac::ZERO, him.1), Mac::BROADCAST));
    assert_eq!(host.stack.neighbours().count(), before);
    host.answer(&arp(1, him, (Mac::ZERO, ours()), Mac::BROADCAST));
    let moved = (Mac([2, 0, 0, 0, 0, 8]), him.1);
    host.hears(&arp(1, moved, (Mac::ZERO, him.1), Mac::BROADCAST));
    let to = at(him.1.into(), 9);
    host.stack.udp(socket).send_bytes(b"x", to).unwrap();
    let sent = host.sent();
    assert_eq!(seen(sent.last().unwrap()).to_mac, moved.0);
}

#[test]
fn probe_is_answered() {
    let mut host = Host::new();
    let him = Mac([2, 0, 0, 0, 0, 7]);
    let answer = host.answer(&arp(1, (him, ZERO), (Mac::ZERO, ours()), Mac::BROADCAST));
    assert_eq!(told(&answer), (2, US, ours(), him, ZERO));
    let nobody = host.stack.neighbours().all(|known| known.mac != Some(him));
    assert!(nobody, "who has no address is not remembered");
}

#[test]
fn address_is_probed_announced_and_then_used() {
    let mut host = probing();
    assert_eq!(
        host.stack.addresses().next().unwrap().state.to_string(),
        "tentative"
    );
    let sent = host.wait(Duration::from_secs(5));
    let told: Vec<_> = sent
        .iter()
        .filter(is_arp)
        .map(|frame| told(frame))
        .collect();
    let probe = (1, US, ZERO, Mac::ZERO, ours());
    let announcement = (1, US, ours(), Mac::ZERO, ours());
    assert_eq!(told, [probe, probe, probe, announcement, announcement]);
    let (interface, address) = (LINK, v4(0));
    assert_eq!(host.events(), [Event::AddressReady { interface, address }]);
}

#[test]
fn tentative_address_does_not_answer_and_is_refused_if_somebody_has_it() {
    for claim in [
        // Somebody answers our probe; somebody uses it; somebody probes for it, too.
        arp(2, (THEM, ours()), (US, ZERO), US),
        arp(1, (THEM, ours()), (Mac::ZERO, theirs()), Mac::BROADCAST),
        arp(1, (THEM, ZERO), (Mac::ZERO, ours()), Mac::BROADCAST),
    ] {
        let mut host = probing();
        host.swallows(
            &arp(1, (THEM, theirs()), (Mac::ZERO, ours()), Mac::BROADCAST),
            Reason::ArpIgnored,
        );
        host.wait(Duration::from_millis(300));
        host.swallows(&claim, Reason::ArpConflict);
        let (interface, address, by) = (LINK, v4(0), THEM);
        assert_eq!(
            host.events(),
            [Event::Duplicate {
                interface,
                address,
                by
            }]
        );
        assert!(
            host.wait(Duration::from_secs(60))
                .iter()
                .all(|frame| !is_arp(&frame))
        );
        assert_eq!(
            host.stack.udp_bound(at(v4(0), 9)),
            Err(Error::NoAddress(v4(0)))
        );
        host.swallows(
            &arp(1, (THEM, theirs()), (Mac::ZERO, ours()), Mac::BROADCAST),
            Reason::ArpIgnored,
        );
    }
}

#[test]
fn address_in_use_is_defended_once_and_then_given_up() {
    let mut host = probing();
    host.wait(Duration::from_secs(5));
    host.events();
    let claim = arp(1, (THEM, ours()), (Mac::ZERO, ours()), Mac::BROADCAST);
    host.drops(&claim, Reason::ArpConflict);
    let sent = host.sent();
    assert_eq!(told(&sent[0]), (1, US, ours(), Mac::ZERO, ours()));
    let (interface, address, by) = (LINK, v4(0), THEM);
    assert_eq!(
        host.events(),
        [Event::Conflict {
            interface,
            address,
            by
        }]
    );
    host.wait(Duration::from_secs(5));
    host.swallows(&claim, Reason::ArpConflict);
    assert_eq!(
        host.events(),
        [Event::AddressLost {
            interface,
            address,
            by
        }]
    );
}

#[test]
fn our_own_arp_come_back_is_nothing() {
    let mut host = probing();
    let probe = arp(1, (US, ZERO), (Mac::ZERO, ours()), Mac::BROADCAST);
    host.swallows(&probe, Reason::EthernetSource);
    host.wait(Duration::from_secs(5));
    host.swallows(
        &arp(1, (US, ours()), (Mac::ZERO, ours()), Mac::BROADCAST),
        Reason::EthernetSource,
    );
    assert_eq!(host.events().len(), 1);
}
