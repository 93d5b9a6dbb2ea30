//! VLAN tags: none, one, two, and those that the device has taken out. IEEE 802.1Q, 802.1ad.

use super::*;

/// A frame with tags behind its addresses.
fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let mut bytes = frame[..12].to_vec();
    for (kind, tci) in tags {
        bytes.extend(kind.to_be_bytes());
        bytes.extend(tci.to_be_bytes());
    }
    bytes.extend(&frame[12..]);
    bytes
}

/// A host whose only interface has these tags.
fn host(vlan: [Option<u16>; 2]) -> Host {
    let config = InterfaceConfig {
        vlan,
        ..InterfaceConfig::new(0, US)
    };
    Host::on(config, Config::default())
}

fn hello() -> Vec<u8> {
    datagram(at(v4(1), 2000), at(v4(0), 1000), b"hello")
}

#[test]
fn tags_lead_to_their_interface_and_stand_in_what_it_sends() {
    for (vlan, tags) in [
        (InterfaceConfig::UNTAGGED, vec![]),
        ([Some(5), None], vec![(0x8100, 5)]),
        ([Some(7), Some(5)], vec![(0x88a8, 7), (0x8100, 5)]),
    ] {
        let mut host = host(vlan);
        let socket = host.socket(v4(0), 1000);
        host.hears(&tagged(&hello(), &tags));
        assert_eq!(
            host.heard(socket),
            Some((at(v4(1), 2000), b"hello".to_vec()))
        );
        for long in [false, true] {
            let to = at(v4(1), 2000);
            if long {
                host.stack.udp(socket).send_bytes(b"back", to).unwrap();
            } else {
                let packet = host.heap.packet(b"back").unwrap();
                host.stack.udp(socket).send_to(packet, to).unwrap();
            }
            let sent = host.sent();
            let ids: Vec<_> = tags.iter().map(|(_, vid)| *vid).collect();
            let sliced = SlicedPacket::from_ethernet(&sent[0]).unwrap();
            let found: Vec<_> = sliced.vlan_ids().iter().map(|vid| vid.value()).collect();
            assert_eq!(found, ids);
            for (number, (kind, vid)) in tags.iter().enumerate() {
                let at = 12 + 4 * number;
                let tag = [kind.to_be_bytes(), vid.to_be_bytes()].concat();
                assert_eq!(sent[0][at..at + 4], tag);
            }
            assert_eq!(seen(&sent[0]).data[8..], *b"back");
        }
    }
}

#[test]
fn priority_and_drop_bits_do_not_matter_and_vlan_zero_is_none() {
    let mut host = host([Some(5), None]);
    let socket = host.socket(v4(0), 1000);
    host.hears(&tagged(&hello(), &[(0x8100, 0xf005)]));
    assert!(host.heard(socket).is_some());
    let mut host = Host::new();
    let socket = host.socket(v4(0), 1000);
    host.hears(&tagged(&hello(), &[(0x8100, 0xe000)]));
    assert!(host.heard(socket).is_some());
}

#[test]
fn tags_of_nobody_are_counted() {
    let mut host = host([Some(5), None]);
    host.swallows(&hello(), Reason::VlanUnknown);
    host.swallows(&tagged(&hello(), &[(0x8100, 6)]), Reason::VlanUnknown);
    let two = tagged(&hello(), &[(0x88a8, 5), (0x8100, 5)]);
    host.swallows(&two, Reason::VlanUnknown);
    let three = tagged(&hello(), &[(0x88a8, 5), (0x8100, 5), (0x8100, 5)]);
    host.swallows(&three, Reason::VlanUnknown);
    host.swallows(
        &tagged(&hello(), &[(0x8100, 5)])[..16],
        Reason::EthernetMalformed,
    );
    let packet = host.heap.packet(&hello()).unwrap();
    host.stack.receive(host.now, 3, [packet]);
    assert_eq!(host.stack.drops().of(Reason::PortUnknown), 1);
}

#[test]
fn tag_that_the_device_took_out_is_the_outer_one() {
    for (vlan, rest) in [
        ([Some(5), None], vec![]),
        ([Some(5), Some(6)], vec![(0x8100, 6)]),
    ] {
        let mut host = host(vlan);
        let socket = host.socket(v4(0), 1000);
        let mut packet = host.heap.packet(&tagged(&hello(), &rest)).unwrap();
        packet.received.vlan = Some(0x2005);
        host.stack.receive(host.now, 0, [packet]);
        assert!(host.heard(socket).is_some());
    }
}

#[test]
fn interfaces_of_one_port_stand_side_by_side() {
    let mut host = Host::new();
    let tagged_config = InterfaceConfig {
        vlan: [Some(9), None],
        ..InterfaceConfig::new(0, US)
    };
    let other = host.stack.add_interface(tagged_config).unwrap();
    let same = host.stack.add_interface(tagged_config).unwrap_err();
    assert!(matches!(same, Error::InterfaceExists { port: 0, .. }));
    let address = IpAddr::from([10, 9, 0, 1]);
    host.stack
        .add_address(other, address, 24, Probing::None)
        .unwrap();
    let them = IpAddr::from([10, 9, 0, 2]);
    host.stack.add_neighbour(other, them, THEM).unwrap();
    let socket = host.socket(v4(0).to_canonical(), 1000);
    // Strong hosts: an address is heard on its interface alone.
    let frame = datagram(at(them, 1), at(address, 1000), b"x");
    host.swallows(&frame, Reason::IpNotForUs);
    let everybody = host.stack.udp_bound(at(address, 1000)).unwrap();
    host.hears(&tagged(&frame, &[(0x8100, 9)]));
    assert!(host.heard(everybody).is_some() && host.heard(socket).is_none());
    host.stack
        .udp(everybody)
        .send_bytes(b"y", at(them, 1))
        .unwrap();
    let sent = host.sent();
    assert_eq!(sent[0][12..16], [0x81, 0, 0, 9]);
}
