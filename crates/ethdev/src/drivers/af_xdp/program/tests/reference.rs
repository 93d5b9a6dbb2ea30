//! Where a frame is to go, told by other parsers.

use super::*;

// The reference: what a filter means, read from the frame by another parser. `Some` is a match.

pub(super) fn reference(filter: &Filter, frame: &[u8]) -> Option<()> {
    if filter.is_all() {
        return Some(());
    }
    let ethernet = Ethernet2HeaderSlice::from_slice(frame).ok()?;
    let (mut kind, mut rest) = (ethernet.ether_type(), &frame[14..]);
    for _ in 0..2 {
        if kind == EtherType::VLAN_TAGGED_FRAME || kind == EtherType::PROVIDER_BRIDGING {
            kind = SingleVlanHeaderSlice::from_slice(rest).ok()?.ether_type();
            rest = &rest[4..];
        }
    }
    match kind {
        EtherType::ARP => {
            let arp = ArpPacketSlice::from_slice(rest).ok()?.to_packet();
            let arp = arp.try_eth_ipv4().ok()?;
            let target = Ipv4Addr::from(arp.target_ipv4);
            filter.v4().any(|ours| ours == target).then_some(())
        }
        EtherType::IPV4 => reference_v4(filter, rest),
        EtherType::IPV6 => reference_v6(filter, rest),
        _ => None,
    }
}

fn reference_v4(filter: &Filter, packet: &[u8]) -> Option<()> {
    // Where all that goes to an address is wanted, options need not be whole.
    let whole = Ipv4HeaderSlice::from_slice(packet);
    let addressed = filter.has_addresses();
    if addressed {
        if packet.len() < 20 || packet[0] >> 4 != 4 || packet[0] & 15 < 5 {
            return None;
        }
        let to = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
        filter.v4().find(|ours| *ours == to)?;
        if filter.named().is_none() {
            return Some(());
        }
    }
    let header = whole.ok()?;
    let protocol = header.protocol().0;
    let rest = &packet[header.slice().len()..];
    let later = header.fragments_offset().value() != 0;
    reference_upper(filter, Version::V4, protocol, later, rest)
}

fn reference_v6(filter: &Filter, packet: &[u8]) -> Option<()> {
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    let addressed = filter.has_addresses();
    let ours = filter.v6().any(|ours| ours == header.destination_addr());
    if ours && filter.named().is_none() {
        return Some(());
    }
    let (mut kind, mut rest, mut later) = (header.next_header(), &packet[40..], false);
    for _ in 0..6 {
        match kind {
            _ if later => break,
            IpNumber::IPV6_HEADER_HOP_BY_HOP
            | IpNumber::IPV6_ROUTE_HEADER
            | IpNumber::IPV6_DESTINATION_OPTIONS => {
                let header = Ipv6RawExtHeaderSlice::from_slice(rest).ok()?;
                (kind, rest) = (header.next_header(), &rest[header.slice().len()..]);
            }
            IpNumber::IPV6_FRAGMENTATION_HEADER => {
                let header = Ipv6FragmentHeaderSlice::from_slice(rest).ok()?;
                later = header.fragment_offset().value() != 0;
                (kind, rest) = (header.next_header(), &rest[8..]);
            }
            _ => break,
        }
    }
    let extension = [0, 43, 60].contains(&kind.0);
    if later && extension {
        return (ours && filter.named().is_some()).then_some(());
    }
    if extension || (kind.0 == 44 && !later) {
        return None;
    }
    let about = (!later && kind == IpNumber::IPV6_ICMP && rest.len() >= 24)
        .then(|| {
            (
                rest[0],
                Ipv6Addr::from(<[u8; 16]>::try_from(&rest[8..24]).unwrap()),
            )
        })
        .filter(|(kind, _)| [135, 136].contains(kind));
    if let Some((_, target)) = about
        && addressed
        && (ours || filter.v6().any(|ours| ours == target))
    {
        return Some(());
    }
    if addressed && !ours {
        return None;
    }
    reference_upper(filter, Version::V6, kind.0, later, rest)
}

fn reference_upper(
    filter: &Filter,
    version: Version,
    protocol: u8,
    later: bool,
    rest: &[u8],
) -> Option<()> {
    let named = match (version, protocol) {
        (_, 6) => Protocol::Tcp,
        (_, 17) => Protocol::Udp,
        (Version::V4, 1) => Protocol::Icmp,
        (Version::V6, 58) => Protocol::Icmp6,
        _ => return None,
    };
    let ports = filter.named()?.get(&named)?;
    if later {
        return (filter.has_addresses() || ports.is_empty()).then_some(());
    }
    if named == Protocol::Icmp6 && !filter.has_addresses() {
        let kind = *rest.first()?;
        return (!(133..=137).contains(&kind)).then_some(());
    }
    if ports.is_empty() {
        return Some(());
    }
    let port = u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]);
    let wanted = ports
        .iter()
        .any(|range| range.first <= port && port <= range.last);
    wanted.then_some(())
}
