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

mod attachment;
mod hints;
mod reference;
mod verdict;

use reference::reference;

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

fn index_of(name: &str) -> u32 {
    let socket = netdev::socket().unwrap();
    rustix::net::netdevice::name_to_index(socket, name).unwrap()
}
