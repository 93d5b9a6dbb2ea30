#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of a test are small"
)]

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, ArpPacket, ArpPacketSlice, EtherType, Ethernet2Header,
    Ethernet2HeaderSlice, IpFragOffset, IpNumber, Ipv4Header, Ipv4HeaderSlice, Ipv4Options,
    Ipv6FragmentHeader, Ipv6FragmentHeaderSlice, Ipv6Header, Ipv6HeaderSlice, Ipv6RawExtHeader,
    Ipv6RawExtHeaderSlice, SingleVlanHeader, SingleVlanHeaderSlice, TcpHeader, UdpHeader, VlanId,
};
use proptest::prelude::*;

use super::*;
use crate::args::DevArgs;
use crate::drivers::af_xdp::bpf::CameBy;
use crate::drivers::af_xdp::bpf::tests::may_load;
use crate::drivers::af_xdp::metadata::Metadata;
use crate::drivers::netdev::{self, Xdp, XdpMode};

/// The verdict for what matches in a test: one that nothing else has.
const XDP_DROP: i32 = 1;
/// The shortest frame that the kernel runs a program on.
const RUN_MIN: usize = 14;

/// `XDP_RSS_L4`
const HASH_OF_PORTS: u32 = 1 << 3;

const OURS: [u8; 4] = [10, 0, 0, 2];
const OTHER: [u8; 4] = [10, 0, 0, 9];

/// An address of version 6 that ends in these octets.
fn v6(end: u8) -> [u8; 16] {
    Ipv6Addr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(end)]).octets()
}

/// The group of addresses in which `fd00::2`, and all that end alike, are asked for.
fn solicited() -> [u8; 16] {
    "ff02::1:ff00:2".parse::<Ipv6Addr>().unwrap().octets()
}

/// One filter of each form.
const FILTERS: [&str; 17] = [
    "match=all",
    "match=tcp:80,443;udp:53",
    "match=tcp",
    "match=udp:5000-5099",
    "match=tcp:1-65535",
    "match=icmp",
    "match=icmp6",
    "match=tcp:80;icmp;icmp6",
    "addr=10.0.0.2",
    "addr=fd00::2",
    "addr=10.0.0.2;10.0.0.3;fd00::2;fe80::2",
    "addr=10.0.0.2,match=tcp:80",
    "addr=10.0.0.2,match=icmp6",
    "addr=fd00::2,match=udp:53,5000-5099",
    "addr=fd00::2,match=icmp",
    "addr=10.0.0.2;fd00::2,match=tcp:80;udp;icmp6",
    "addr=10.0.0.2;fd00::2,match=tcp:80;udp:53;icmp",
];

fn filter(keys: &str) -> Filter {
    let args = DevArgs::parse(&format!("net_af_xdp0,{keys}")).unwrap();
    Filter::parse(&args).unwrap().unwrap()
}

/// A filter in the kernel that drops what it matches.
struct Dropping {
    filter: Filter,
    program: OwnedFd,
}

impl Dropping {
    fn load(keys: &str) -> Self {
        let filter = filter(keys);
        let program = assemble(&filter, OnMatch::Return(XDP_DROP));
        Self {
            program: bpf::load(&program, Load::default()).unwrap_or_else(|e| panic!("{keys}: {e}")),
            filter,
        }
    }

    /// Whether the program in the kernel matches; it changes nothing.
    fn matches(&self, frame: &[u8]) -> bool {
        let (verdict, after) = bpf::test_run(self.program.as_fd(), frame, None).unwrap();
        assert_eq!(after, frame);
        match i32::try_from(verdict).unwrap() {
            XDP_DROP => true,
            XDP_PASS => false,
            other => panic!("verdict {other}"),
        }
    }

    /// Compares the program with the reference.
    fn check(&self, name: &str, frame: &[u8]) {
        let expected = reference(&self.filter, frame).is_some();
        let len = frame.len();
        assert_eq!(
            self.matches(frame),
            expected,
            "{}: {name}, {len} octets: {frame:02x?}",
            self.filter
        );
    }
}

// The reference: what a filter means, read from the frame by another parser. `Some` is a match.

fn reference(filter: &Filter, frame: &[u8]) -> Option<()> {
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

// Frames, layer by layer.

/// A frame with a name, put together from the outside in.
#[derive(Debug, Clone)]
struct Frame {
    name: String,
    octets: Vec<u8>,
}

/// What a layer is called, its number in the layer outside of it, and its octets with all that it carries.
#[derive(Debug, Clone)]
struct Layer {
    name: String,
    number: u16,
    octets: Vec<u8>,
}

fn layer(name: impl Into<String>, number: u16, octets: impl Into<Vec<u8>>) -> Layer {
    Layer {
        name: name.into(),
        number,
        octets: octets.into(),
    }
}

impl Layer {
    /// This one behind a header.
    fn behind(&self, name: &str, number: u16, header: &[u8]) -> Self {
        let octets = [header, &self.octets].concat();
        layer(format!("{name} {}", self.name), number, octets)
    }
}

fn tcp(port: u16) -> Layer {
    let header = TcpHeader::new(40_000, port, 1, 1000).to_bytes();
    layer(format!("tcp:{port}"), 6, &header[..]).with_payload()
}

fn udp(port: u16) -> Layer {
    let header = UdpHeader {
        source_port: 40_000,
        destination_port: port,
        length: 16,
        checksum: 0,
    };
    layer(format!("udp:{port}"), 17, header.to_bytes()).with_payload()
}

/// A message of neighbour discovery.
fn nd(kind: u8, target: [u8; 16]) -> Layer {
    let mut octets = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    octets.extend(target);
    octets.extend([1, 1, 2, 2, 2, 2, 2, 2]);
    layer(format!("nd({kind}, ..{})", target[15]), 58, octets)
}

impl Layer {
    fn with_payload(mut self) -> Self {
        self.octets.extend([0x55; 8]);
        self
    }
}

/// What the fragments of IPv4 are tried with: offset in units of eight octets, and whether more come.
const WHOLE: (u16, bool) = (0, false);
const FIRST: (u16, bool) = (0, true);
const MIDDLE: (u16, bool) = (1, true);
const LAST: (u16, bool) = (0x1fff, false);

fn ipv4(to: [u8; 4], options: usize, fragment: (u16, bool), upper: &Layer) -> Layer {
    let protocol = IpNumber(upper.number as u8);
    let len = upper.octets.len() as u16;
    let mut header = Ipv4Header::new(len, 64, protocol, [10, 0, 0, 7], to).unwrap();
    header.dont_fragment = fragment == WHOLE;
    header.options = Ipv4Options::try_from(&vec![1; options][..]).unwrap();
    header.fragment_offset = IpFragOffset::try_new(fragment.0).unwrap();
    header.more_fragments = fragment.1;
    let name = format!("ipv4(..{}, options {options}, {fragment:?})", to[3]);
    upper.behind(&name, 0x0800, &header.to_bytes())
}

fn ipv6(to: [u8; 16], upper: &Layer) -> Layer {
    let header = Ipv6Header {
        payload_length: upper.octets.len() as u16,
        next_header: IpNumber(upper.number as u8),
        hop_limit: 255,
        source: v6(7),
        destination: to,
        ..Ipv6Header::default()
    };
    upper.behind(
        &format!("ipv6({:x}..{:x})", to[0], to[15]),
        0x86dd,
        &header.to_bytes(),
    )
}

/// Behind an extension header of a kind, with this many times eight octets more than it must have.
fn extension(kind: u8, more: usize, upper: &Layer) -> Layer {
    let payload = vec![1; 6 + more * 8];
    let header = Ipv6RawExtHeader::new_raw(IpNumber(upper.number as u8), &payload).unwrap();
    upper.behind(
        &format!("ext({kind}, +{more})"),
        kind.into(),
        &header.to_bytes(),
    )
}

fn fragment(offset: u16, more: bool, upper: &Layer) -> Layer {
    let header = Ipv6FragmentHeader::new(
        IpNumber(upper.number as u8),
        IpFragOffset::try_new(offset).unwrap(),
        more,
        7,
    );
    upper.behind(
        &format!("fragment({offset}, {more})"),
        44,
        &header.to_bytes(),
    )
}

fn arp(operation: ArpOperation, target: [u8; 4]) -> Layer {
    let packet = ArpPacket::from(ArpEthIpv4Packet {
        operation,
        sender_mac: [2; 6],
        sender_ipv4: [10, 0, 0, 7],
        target_mac: [0; 6],
        target_ipv4: target,
    });
    let name = format!("arp({}, ..{})", operation.0, target[3]);
    layer(name, 0x0806, packet.to_bytes().to_vec())
}

fn tag(number: u16, inner: &Layer) -> Layer {
    let header = SingleVlanHeader {
        vlan_id: VlanId::try_new(5).unwrap(),
        ether_type: EtherType(inner.number),
        ..SingleVlanHeader::default()
    };
    inner.behind(&format!("tag({number:x})"), number, &header.to_bytes())
}

fn ethernet(inner: &Layer) -> Frame {
    let header = Ethernet2Header {
        source: [2; 6],
        destination: [3; 6],
        ether_type: EtherType(inner.number),
    };
    Frame {
        name: inner.name.clone(),
        octets: [&header.to_bytes()[..], &inner.octets].concat(),
    }
}

/// What is above IP.
fn uppers() -> Vec<Layer> {
    let ports = [1, 52, 53, 54, 80, 443, 4999, 5000, 5050, 5099, 5100, 65535];
    let mut uppers: Vec<_> = ports
        .into_iter()
        .flat_map(|port| [tcp(port), udp(port)])
        .collect();
    uppers.extend([
        layer("icmp", 1, [8, 0, 0, 0, 0, 1, 0, 1, 7, 7]),
        layer("icmp6", 58, [128, 0, 0, 0, 0, 1, 0, 1, 7, 7]),
        layer("gre", 47, [0, 0, 0, 80, 0, 80, 0, 80]),
        layer("sctp", 132, [0, 80, 0, 80, 0, 0, 0, 1]),
        layer("nothing", 59, []),
    ]);
    for kind in 132..=138 {
        uppers.extend([nd(kind, v6(2)), nd(kind, v6(9))]);
    }
    uppers
}

/// Packets of each kind, without Ethernet around them.
fn packets() -> Vec<Layer> {
    let mut packets = Vec::new();
    for upper in &uppers() {
        for to in [OURS, OTHER] {
            packets.push(ipv4(to, 0, WHOLE, upper));
        }
        for (options, fragment) in [(4, WHOLE), (40, WHOLE), (0, FIRST), (8, MIDDLE), (0, LAST)] {
            packets.push(ipv4(OURS, options, fragment, upper));
        }
        for to in [v6(2), v6(9), solicited()] {
            packets.push(ipv6(to, upper));
            let options = extension(60, 1, upper);
            packets.push(ipv6(to, &extension(0, 0, &options)));
            packets.push(ipv6(to, &fragment(0, true, upper)));
            packets.push(ipv6(to, &fragment(3, true, upper)));
            packets.push(ipv6(to, &fragment(0x1fff, false, &options)));
            packets.push(ipv6(to, &extension(0, 2, &fragment(0, false, &options))));
            packets.push(ipv6(to, &extension(43, 3, &fragment(9, true, upper))));
        }
        // As many as are looked at, and one more.
        let nested = |count| (0..count).fold(upper.clone(), |inner, _| extension(60, 0, &inner));
        packets.push(ipv6(v6(2), &nested(EXTENSIONS_MAX)));
        packets.push(ipv6(v6(2), &nested(EXTENSIONS_MAX + 1)));
        packets.push(ipv6(v6(2), &extension(0, 255, upper)));
        // Behind what hides it.
        packets.push(ipv6(
            v6(2),
            &upper.behind("auth", 51, &[6, 1, 0, 0, 0, 0, 0, 0]),
        ));
    }
    for target in [OURS, [10, 0, 0, 3], OTHER] {
        packets.push(arp(ArpOperation::REQUEST, target));
        packets.push(arp(ArpOperation::REPLY, target));
    }
    packets.extend([
        layer("lldp", 0x88cc, [2, 7, 4, 0, 0, 0, 0, 0, 0, 4, 2, 7, 0]),
        layer("length", 0x0026, [0x42, 0x42, 3, 0, 0, 0, 0, 0]),
    ]);
    packets
}

/// A packet as it is, and behind one tag, two, and one too many.
fn frames_of(packet: &Layer) -> [Frame; 5] {
    let tagged = tag(0x8100, packet);
    let twice = tag(0x88a8, &tagged);
    [
        ethernet(packet),
        ethernet(&tagged),
        ethernet(&tag(0x88a8, packet)),
        ethernet(&twice),
        ethernet(&tag(0x88a8, &twice)),
    ]
}

#[test]
fn every_filter_passes_the_verifier() {
    if !may_load() {
        return;
    }
    let xsks = bpf::create_xskmap(4).unwrap();
    let map = bpf::map_info(xsks.as_fd()).unwrap();
    // As long as a port's arguments may be.
    let ports: Vec<_> = (0..40).map(|n| (10 + 3 * n).to_string()).collect();
    let ports = format!("addr=10.0.0.2;fd00::2,match=tcp:{};udp:7", ports.join(","));
    let addresses: Vec<_> = (0..34).map(|n| format!("fd::{n:x}")).collect();
    let addresses = format!("match=udp:7;tcp:9,addr=1.1.1.1;{}", addresses.join(";"));
    for keys in FILTERS.into_iter().chain([&ports[..], &addresses]) {
        let program = assemble(&filter(keys), OnMatch::Redirect(xsks.as_fd()));
        for frags in [false, true] {
            let how = Load {
                frags,
                ..Load::default()
            };
            let loaded = bpf::load(&program, how).unwrap_or_else(|e| panic!("{keys}: {e}"));
            let info = bpf::program_info(loaded.as_fd()).unwrap();
            assert_eq!(info.maps, [map.id], "{keys}");
        }
    }
}

/// By hand, lest program and reference share a mistake.
#[test]
fn frames_go_where_the_table_says() {
    if !may_load() {
        return;
    }
    let nothing = layer("", 59, []);
    let v4 = |to, upper: &Layer| ipv4(to, 0, WHOLE, upper);
    let cases: Vec<(&str, Layer, bool)> = vec![
        ("match=all", arp(ArpOperation::REQUEST, OTHER), true),
        ("match=all", layer("lldp", 0x88cc, [0; 20]), true),
        ("match=tcp:80,443;udp:53", v4(OTHER, &tcp(443)), true),
        ("match=tcp:80,443;udp:53", v4(OTHER, &udp(443)), false),
        ("match=tcp:80,443;udp:53", v4(OTHER, &udp(53)), true),
        ("match=tcp:80,443;udp:53", ipv6(v6(9), &tcp(80)), true),
        (
            "match=tcp:80,443;udp:53",
            ipv6(v6(9), &extension(0, 0, &tcp(80))),
            true,
        ),
        (
            "match=tcp:80,443;udp:53",
            ipv4(OTHER, 40, WHOLE, &tcp(80)),
            true,
        ),
        (
            "match=tcp:80,443;udp:53",
            ipv4(OTHER, 0, FIRST, &tcp(80)),
            true,
        ),
        (
            "match=tcp:80,443;udp:53",
            ipv4(OTHER, 0, MIDDLE, &tcp(80)),
            false,
        ),
        (
            "match=tcp:80,443;udp:53",
            ipv6(v6(9), &fragment(1, true, &tcp(80))),
            false,
        ),
        (
            "match=tcp:80,443;udp:53",
            arp(ArpOperation::REQUEST, OURS),
            false,
        ),
        (
            "match=tcp:80,443;udp:53",
            ipv6(solicited(), &nd(135, v6(2))),
            false,
        ),
        ("match=tcp", ipv4(OTHER, 0, MIDDLE, &tcp(80)), true),
        ("match=tcp", ipv4(OTHER, 0, MIDDLE, &udp(80)), false),
        ("match=tcp", ipv6(v6(9), &fragment(1, true, &tcp(80))), true),
        ("match=udp:5000-5099", v4(OURS, &udp(4999)), false),
        ("match=udp:5000-5099", v4(OURS, &udp(5000)), true),
        ("match=udp:5000-5099", v4(OURS, &udp(5099)), true),
        ("match=udp:5000-5099", v4(OURS, &udp(5100)), false),
        (
            "match=icmp6",
            ipv6(v6(9), &layer("echo", 58, [128, 0, 0, 0])),
            true,
        ),
        ("match=icmp6", ipv6(solicited(), &nd(135, v6(2))), false),
        (
            "match=icmp6",
            v4(OURS, &layer("echo", 58, [128, 0, 0, 0])),
            false,
        ),
        (
            "match=icmp",
            v4(OURS, &layer("echo", 1, [8, 0, 0, 0])),
            true,
        ),
        ("addr=10.0.0.2", v4(OURS, &nothing), true),
        ("addr=10.0.0.2", v4(OTHER, &tcp(80)), false),
        ("addr=10.0.0.2", ipv4(OURS, 0, LAST, &udp(9)), true),
        ("addr=10.0.0.2", arp(ArpOperation::REQUEST, OURS), true),
        ("addr=10.0.0.2", arp(ArpOperation::REPLY, OURS), true),
        ("addr=10.0.0.2", arp(ArpOperation::REQUEST, OTHER), false),
        ("addr=10.0.0.2", ipv6(v6(2), &tcp(80)), false),
        ("addr=fd00::2", ipv6(v6(2), &tcp(80)), true),
        ("addr=fd00::2", ipv6(solicited(), &nd(135, v6(2))), true),
        // Another address that is asked for in the same group.
        ("addr=fd00::2", ipv6(solicited(), &nd(135, v6(9))), false),
        // An answer to what was asked.
        (
            "addr=fd00::2,match=tcp:80",
            ipv6(v6(2), &nd(136, v6(9))),
            true,
        ),
        (
            "addr=fd00::2,match=tcp:80",
            ipv6(v6(9), &nd(136, v6(9))),
            false,
        ),
        (
            "addr=fd00::2,match=tcp:80",
            ipv6(v6(2), &nd(133, v6(9))),
            false,
        ),
        ("addr=fd00::2", arp(ArpOperation::REQUEST, OURS), false),
        ("addr=10.0.0.2,match=tcp:80", v4(OURS, &tcp(80)), true),
        ("addr=10.0.0.2,match=tcp:80", v4(OURS, &tcp(81)), false),
        ("addr=10.0.0.2,match=tcp:80", v4(OTHER, &tcp(80)), false),
        (
            "addr=10.0.0.2,match=tcp:80",
            ipv4(OURS, 0, MIDDLE, &tcp(81)),
            true,
        ),
        (
            "addr=10.0.0.2,match=tcp:80",
            ipv4(OURS, 0, MIDDLE, &udp(80)),
            false,
        ),
        (
            "addr=10.0.0.2,match=tcp:80",
            arp(ArpOperation::REQUEST, OURS),
            true,
        ),
    ];
    for (keys, packet, matches) in cases {
        let dropping = Dropping::load(keys);
        for (place, frame) in frames_of(&packet).iter().enumerate() {
            // Three tags are one too many, but for whoever takes everything.
            let expected = matches && (place < 4 || keys == "match=all");
            assert_eq!(
                dropping.matches(&frame.octets),
                expected,
                "{keys}: {}",
                frame.name
            );
        }
    }
}

#[test]
fn every_packet_goes_where_the_reference_says() {
    if !may_load() {
        return;
    }
    let frames: Vec<_> = packets().iter().flat_map(frames_of).collect();
    for keys in FILTERS {
        let dropping = Dropping::load(keys);
        for frame in &frames {
            dropping.check(&frame.name, &frame.octets);
        }
    }
}

#[test]
fn frame_cut_anywhere_goes_where_the_reference_says() {
    if !may_load() {
        return;
    }
    let packets = packets();
    for keys in FILTERS {
        let dropping = Dropping::load(keys);
        for (number, packet) in packets.iter().enumerate() {
            // All that a header can be cut in; of what is much longer, the beginning.
            let frame = &frames_of(packet)[number % 4];
            for len in RUN_MIN..frame.octets.len().min(140) {
                dropping.check(&frame.name, &frame.octets[..len]);
            }
        }
    }
}

#[test]
fn mutated_frame_goes_where_the_reference_says() {
    if !may_load() {
        return;
    }
    let frames: Vec<_> = packets().iter().flat_map(frames_of).collect();
    let droppings = FILTERS.map(Dropping::load);
    let changes = proptest::collection::vec((12_usize..120, any::<u8>(), any::<bool>()), 0..4);
    let strategy = (0..frames.len(), changes, RUN_MIN..200);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 4000,
        // What fails is printed whole.
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&strategy, |(number, changes, len)| {
        let frame = &frames[number];
        let mut octets = frame.octets.clone();
        for (at, value, one_bit) in changes {
            if let Some(octet) = octets.get_mut(at) {
                *octet = if one_bit {
                    *octet ^ 1 << (value % 8)
                } else {
                    value
                };
            }
        }
        octets.truncate(len.max(RUN_MIN));
        droppings
            .iter()
            .for_each(|dropping| dropping.check(&frame.name, &octets));
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn metadata_stands_before_what_matches_and_nothing_else() {
    if !may_load() {
        return;
    }
    let xsks = bpf::create_xskmap(1).unwrap();
    // Nothing is asked, so that no interface is needed, and the answers are none.
    let on_match = OnMatch::Describe(xsks.as_fd(), Questions::default());
    for keys in FILTERS {
        let filter = filter(keys);
        let program = assemble(&filter, on_match);
        let program =
            bpf::load(&program, Load::default()).unwrap_or_else(|e| panic!("{keys}: {e}"));
        for frame in packets().iter().map(ethernet) {
            let (_, after) = bpf::test_run(program.as_fd(), &frame.octets, None).unwrap();
            let Some(before) = after.strip_suffix(&frame.octets[..]) else {
                panic!("{keys}: {}: the frame has changed", frame.name);
            };
            let read = before.first_chunk().and_then(Metadata::read);
            let expected = reference(&filter, &frame.octets).map(|()| Metadata {
                hash: None,
                tag: None,
            });
            assert_eq!(read, expected, "{keys}: {}", frame.name);
            assert_eq!(before.len(), if read.is_some() { metadata::LEN } else { 0 });
        }
    }
}

#[test]
fn program_that_asks_the_device_is_for_one_interface_and_its_driver() {
    if !may_load() {
        return;
    }
    let Ok(Some(questions)) = Questions::of_this_kernel() else {
        let why = "skipped: this kernel has no functions that ask about frames";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), why.as_bytes());
        return;
    };
    lab::isolated!({
        let (a, b) = (lab::Host::new("a").unwrap(), lab::Host::new("b").unwrap());
        lab::veth((&a, "a0"), (&b, "b0"), 1).unwrap();
        lab::veth((&a, "a1"), (&b, "b1"), 1).unwrap();
        let xsks = bpf::create_xskmap(1).unwrap();
        a.run(|| {
            let (ifindex, other) = (index_of("a0"), index_of("a1"));
            for keys in FILTERS {
                let on_match = OnMatch::Describe(xsks.as_fd(), questions);
                let program = assemble(&filter(keys), on_match);
                assert!(bpf::load(&program, Load::default()).is_err());
                let how = Load {
                    device: Some(ifindex),
                    frags: true,
                };
                let program = bpf::load(&program, how).unwrap_or_else(|e| panic!("{keys}: {e}"));
                for (ifindex, mode) in [(other, Mode::Native), (ifindex, Mode::Generic)] {
                    assert!(bpf::attach(program.as_fd(), ifindex, mode).is_err());
                }
                drop(bpf::attach(program.as_fd(), ifindex, Mode::Native).unwrap());
            }
            // What is loaded for an interface can be attached to it, whether it asks or not.
            for (mode, describes) in [(Mode::Native, true), (Mode::Generic, false)] {
                let loaded =
                    load(&Filter::ALL, xsks.as_fd(), (ifindex, mode), (true, true)).unwrap();
                assert_eq!(loaded.describes, describes);
                drop(bpf::attach(loaded.program.as_fd(), ifindex, mode).unwrap());
            }
        })
        .unwrap();
    });
}

/// A program that writes what metadata says over the addresses of Ethernet, and lets the kernel have the frame.
fn telling(questions: Questions) -> Vec<Insn> {
    let filter = Filter::ALL;
    let mut asm = Assembler::new();
    let (matched, pass) = (asm.label(), asm.label());
    asm.set(CONTEXT, Reg::R1);
    let mut program = Program {
        asm,
        filter: &filter,
        matched,
        pass,
    };
    program.describe(questions);
    let mut asm = program.asm;
    let out = asm.label();
    asm.load(Size::Word, Reg::R2, CONTEXT, MD_DATA_META);
    asm.load(Size::Word, CURSOR, CONTEXT, MD_DATA);
    asm.load(Size::Word, END, CONTEXT, MD_DATA_END);
    for (start, len, end) in [(Reg::R2, 16, CURSOR), (CURSOR, 14, END)] {
        asm.set(Reg::R3, start);
        asm.alu(Alu::Add, Reg::R3, len);
        asm.jump_if(Reg::R3, Condition::Above, end, out);
    }
    for at in [0, 4, 8] {
        asm.load(Size::Word, Reg::R3, Reg::R2, 4 + at);
        asm.store(Size::Word, CURSOR, at, Reg::R3);
    }
    asm.put(out);
    asm.set(Reg::R0, XDP_PASS);
    asm.exit();
    asm.finish()
}

#[test]
fn metadata_says_what_the_device_knows() {
    let Ok(Some(questions)) = Questions::of_this_kernel() else {
        return;
    };
    if !may_load() {
        return;
    }
    lab::isolated!({
        let (a, b) = (lab::Host::new("a").unwrap(), lab::Host::new("b").unwrap());
        lab::veth((&a, "a0"), (&b, "b0"), 1).unwrap();
        a.up("a0").unwrap();
        b.up("b0").unwrap();
        let _link = a
            .run(|| {
                let how = Load {
                    device: Some(index_of("a0")),
                    frags: true,
                };
                let program = bpf::load(&telling(questions), how).unwrap();
                bpf::attach(program.as_fd(), index_of("a0"), Mode::Native).unwrap()
            })
            .unwrap();
        let heard = lab::FrameSocket::open(&a, "a0").unwrap();
        // What metadata says of the frame that these octets are in.
        let told = |mark: &[u8]| loop {
            let frame = heard.receive(std::time::Duration::from_secs(5)).unwrap();
            let frame = frame.expect("the frame comes");
            if frame.windows(mark.len()).any(|octets| octets == mark) {
                let magic = i32::to_ne_bytes(MAGIC_WRITTEN);
                let before = [&magic[..], &frame[..12]].concat();
                return Metadata::read(before.first_chunk().unwrap()).unwrap();
            }
        };
        let frame = ethernet(&ipv4(OURS, 0, WHOLE, &udp(53))).octets;
        let mut first = frame.clone();
        first.extend(b"first");
        lab::FrameSocket::open(&b, "b0")
            .unwrap()
            .send(&first)
            .unwrap();
        let of_first = told(b"first");
        assert_eq!(of_first.tag, None);
        // The kernel's own hash of the flow, which is of its ports too.
        let (hash, kind) = of_first.hash.unwrap();
        assert!(hash != 0 && kind & HASH_OF_PORTS != 0, "{of_first:?}");
        if let Err(error) = b.vlan("b0", 5, "b5") {
            let why = format!("skipped: metadata of a tagged frame: {error}\n");
            let _ = std::io::Write::write_all(&mut std::io::stderr(), why.as_bytes());
            return;
        }
        b.up("b5").unwrap();
        let mut second = frame;
        second.extend(b"second");
        lab::FrameSocket::open(&b, "b5")
            .unwrap()
            .send(&second)
            .unwrap();
        // The tag is beside the frame, where no program finds it but by asking.
        assert_eq!(told(b"second").tag, Some((0x8100, 5)));
    });
}

#[test]
fn frame_whose_queue_has_no_socket_stays_with_the_kernel() {
    if !may_load() {
        return;
    }
    lab::isolated!({
        let (a, b) = (lab::Host::new("a").unwrap(), lab::Host::new("b").unwrap());
        lab::veth((&a, "a0"), (&b, "b0"), 2).unwrap();
        let xsks = bpf::create_xskmap(1).unwrap();
        let program = assemble(&Filter::ALL, OnMatch::Redirect(xsks.as_fd()));
        let program = bpf::load(&program, Load::default()).unwrap();
        a.run(|| {
            let ifindex = index_of("a0");
            // The second queue is one that the map has no room for.
            for queue in 0..2 {
                let came_by = Some(CameBy { ifindex, queue });
                let (verdict, _) = bpf::test_run(program.as_fd(), &[0; 60], came_by).unwrap();
                assert_eq!(i32::try_from(verdict).unwrap(), XDP_PASS);
            }
            let nowhere = Some(CameBy { ifindex, queue: 2 });
            assert!(bpf::test_run(program.as_fd(), &[0; 60], nowhere).is_err());
        })
        .unwrap();
    });
}

#[test]
fn attached_program_is_seen_and_goes_with_its_link() {
    if !may_load() {
        return;
    }
    lab::isolated!({
        let (a, b) = (lab::Host::new("a").unwrap(), lab::Host::new("b").unwrap());
        lab::veth((&a, "a0"), (&b, "b0"), 2).unwrap();
        let program = assemble(&filter("match=tcp:80"), OnMatch::Return(XDP_PASS));
        let program = bpf::load(&program, Load::default()).unwrap();
        let id = bpf::program_info(program.as_fd()).unwrap().id;
        a.run(|| {
            let socket = netdev::socket().unwrap();
            let attached = || netdev::look(socket.as_fd(), "a0").unwrap().unwrap().xdp;
            let ifindex = index_of("a0");
            for (mode, seen) in [
                (Mode::Native, XdpMode::Native),
                (Mode::Generic, XdpMode::Generic),
            ] {
                assert_eq!(attached(), None);
                let link = bpf::attach(program.as_fd(), ifindex, mode).unwrap();
                let expected = Xdp {
                    mode: seen,
                    program: id,
                };
                assert_eq!(attached(), Some(expected));
                let info = bpf::link_info(link.as_fd()).unwrap().unwrap();
                assert_eq!((info.program, info.ifindex), (id, ifindex));
                // Nobody else's while it is ours.
                let again = bpf::attach(program.as_fd(), ifindex, mode).unwrap_err();
                assert_eq!(again.raw_os_error(), Some(libc::EBUSY));
                let other = link.try_clone().unwrap();
                drop(link);
                assert_eq!(attached(), Some(expected));
                drop(other);
            }
            assert_eq!(attached(), None);
            let link = bpf::attach(program.as_fd(), ifindex, Mode::Native).unwrap();
            bpf::detach(link.as_fd()).unwrap();
            assert_eq!(attached(), None);
            assert_eq!(bpf::link_info(link.as_fd()).unwrap().unwrap().ifindex, 0);
        })
        .unwrap();
    });
}

fn index_of(name: &str) -> u32 {
    let socket = netdev::socket().unwrap();
    rustix::net::netdevice::name_to_index(socket, name).unwrap()
}
