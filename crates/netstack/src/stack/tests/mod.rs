//! The whole stack, told and asked by frames. What it sends is read by etherparse, and all its checksums are summed up here
//! once more.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use etherparse::{NetSlice, SlicedPacket};

use crate::packet::Received;
use crate::wire::ethernet::Mac;
use crate::*;

mod arp;
mod checksum;
mod control;
mod drop;
mod echo;
mod error;
mod extension;
mod fragment;
mod gateway;
mod group;
mod loopback;
mod ndp;
mod pair;
mod path;
mod ping;
mod queue;
mod quick;
mod router;
mod socket;
mod vlan;
mod zone;

/// Two hosts on one cable.
struct Pair {
    hosts: [Stack<Heap>; 2],
    heap: Heap,
    now: Instant,
}

const LINK: InterfaceId = InterfaceId(0);

fn v4(host: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, 1 + u8::try_from(host).unwrap()])
}

fn v6(host: usize) -> IpAddr {
    IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1 + u16::try_from(host).unwrap()])
}

impl Pair {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let heap = Heap::new(10_000);
        let host = |number: usize| {
            let seed = 7 + number as u64;
            let mut stack = Stack::new(
                Config {
                    seed,
                    ..config.clone()
                },
                heap.clone(),
            );
            let mac = Mac([2, 0, 0, 0, 0, 1 + u8::try_from(number).unwrap()]);
            stack.add_interface(InterfaceConfig::new(0, mac)).unwrap();
            stack
                .add_address(LINK, v4(number), 24, Probing::None)
                .unwrap();
            stack
                .add_address(LINK, v6(number), 64, Probing::None)
                .unwrap();
            stack
        };
        Self {
            hosts: [host(0), host(1)],
            heap: heap.clone(),
            now: Instant::ZERO,
        }
    }

    /// Carries frames until there are no more; says how many there were.
    fn carry(&mut self) -> usize {
        let mut carried = 0;
        for _ in 0..100 {
            let before = carried;
            for from in 0..2 {
                while let Some(packet) = self.hosts[from].poll_transmit(0) {
                    let copy = self.heap.packet(packet.data()).unwrap();
                    drop(packet);
                    carried += 1;
                    let now = self.now;
                    self.hosts[1 - from].receive(now, 0, [copy]);
                }
            }
            if before == carried {
                return carried;
            }
        }
        panic!("they do not come to an end");
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.hosts.iter().filter_map(Stack::next_timeout).min()
            && next <= end
        {
            self.now = self.now.max(next);
            for host in &mut self.hosts {
                host.handle_timeout(self.now);
            }
            self.carry();
        }
        self.now = end;
    }

    fn socket(&mut self, host: usize, address: IpAddr, port: u16) -> UdpId {
        self.hosts[host]
            .udp_bound(SocketAddr::new(address, port))
            .unwrap()
    }
}

const US: Mac = Mac([2, 0, 0, 0, 0, 1]);
const THEM: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// ICMP of either version, UDP, and what nobody speaks.
const ICMPV4: u8 = 1;
const ICMPV6: u8 = 58;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;

/// One stack, and us in the place of everybody else. It has the addresses of the first of a [`Pair`]; we have those of the
/// second, and it knows where we are.
struct Host {
    stack: Stack<Heap>,
    heap: Heap,
    now: Instant,
}

impl Host {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        Self::on(InterfaceConfig::new(0, US), config)
    }

    fn on(interface: InterfaceConfig, config: Config) -> Self {
        let mut host = Self::bare(interface, config);
        for (address, len) in [(v4(0), 24), (v6(0), 64)] {
            host.stack
                .add_address(LINK, address, len, Probing::None)
                .unwrap();
        }
        for address in [v4(1), v6(1)] {
            host.stack.add_neighbour(LINK, address, THEM).unwrap();
        }
        host.wait(Duration::from_secs(60));
        while host.stack.poll_event().is_some() {}
        host
    }

    /// Without addresses.
    fn bare(interface: InterfaceConfig, config: Config) -> Self {
        let heap = Heap::new(10_000);
        let mut stack = Stack::new(Config { seed: 7, ..config }, heap.clone());
        stack.add_interface(interface).unwrap();
        Self {
            stack,
            heap,
            now: Instant::from_millis(1),
        }
    }

    /// Lets time pass, and says what was sent meanwhile.
    fn wait(&mut self, time: Duration) -> Vec<Vec<u8>> {
        let end = self.now + time;
        let mut sent = self.sent();
        for _ in 0..10_000 {
            let Some(next) = self.stack.next_timeout().filter(|next| *next <= end) else {
                self.now = end;
                self.stack.handle_timeout(end);
                sent.extend(self.sent());
                return sent;
            };
            self.now = self.now.max(next);
            self.stack.handle_timeout(self.now);
            sent.extend(self.sent());
        }
        panic!("time stands still at {:?}", self.now);
    }

    /// A frame comes.
    fn hears(&mut self, frame: &[u8]) {
        let packet = self.heap.packet(frame).unwrap();
        self.stack.receive(self.now, 0, [packet]);
    }

    /// A frame comes, and these are sent at once.
    fn answers(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.hears(frame);
        self.sent()
    }

    /// A frame comes, and one is sent at once.
    #[track_caller]
    fn answer(&mut self, frame: &[u8]) -> Vec<u8> {
        let before = self.stack.drops().clone();
        let mut sent = self.answers(frame);
        let after = self.stack.drops();
        assert_eq!(sent.len(), 1, "{sent:x?}, from {before:?} to {after:?}");
        sent.remove(0)
    }

    /// A frame comes, and is dropped for this reason and no other, once.
    #[track_caller]
    fn drops(&mut self, frame: &[u8], reason: Reason) {
        let before = self.stack.drops().clone();
        self.hears(frame);
        let after = self.stack.drops();
        let counted = (
            after.of(reason) - before.of(reason),
            after.total() - before.total(),
        );
        assert_eq!(counted, (1, 1), "{reason}: from {before:?} to {after:?}");
    }

    /// A frame comes, is dropped for this reason, and nobody hears of it.
    #[track_caller]
    fn swallows(&mut self, frame: &[u8], reason: Reason) {
        self.drops(frame, reason);
        let sent = self.sent();
        assert!(sent.is_empty(), "{sent:x?}");
    }

    /// What was sent since this was asked last.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let next = || self.stack.poll_transmit(0);
        core::iter::from_fn(next)
            .map(|packet| packet.data().to_vec())
            .collect()
    }

    fn socket(&mut self, address: IpAddr, port: u16) -> UdpId {
        self.stack
            .udp_bound(SocketAddr::new(address, port))
            .unwrap()
    }

    /// The next datagram of a socket.
    fn heard(&mut self, socket: UdpId) -> Option<(SocketAddr, Vec<u8>)> {
        let datagram = self.stack.udp(socket).recv_from()?;
        Some((datagram.from, datagram.packet.data().to_vec()))
    }

    fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.stack.poll_event()).collect()
    }
}

/// Bytes that differ from their neighbours.
fn pattern(len: usize, step: usize) -> Vec<u8> {
    let all = (0..len).map(|at| (at * step + len).to_le_bytes()[0]);
    all.collect()
}

/// All sixteen-bit words added up, and the carries to it.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// What UDP and ICMPv6 sum up besides themselves.
fn pseudo(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let mut bytes = [octets(from), octets(to)].concat();
    bytes.extend(u32::try_from(len).unwrap().to_be_bytes());
    bytes.extend(u32::from(protocol).to_be_bytes());
    bytes
}

/// A UDP datagram with its header.
fn udp(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + data.len()).unwrap();
    let mut bytes = Vec::new();
    for word in [from.port(), to.port(), len, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(data);
    let whole = [pseudo(from.ip(), to.ip(), UDP, bytes.len()), bytes.clone()].concat();
    let checksum = match !sum(&whole) {
        0 => 0xffff,
        checksum => checksum,
    };
    bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// An ICMP message of the version of the addresses.
fn icmp(from: IpAddr, to: IpAddr, kind: u8, code: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = [&[kind, code, 0, 0], data].concat();
    let mut whole = bytes.clone();
    if from.is_ipv6() {
        whole = [pseudo(from, to, ICMPV6, bytes.len()), whole].concat();
    }
    bytes[2..4].copy_from_slice(&(!sum(&whole)).to_be_bytes());
    bytes
}

/// An IPv4 header, fragmentation included, before some bytes.
fn ipv4(
    (from, to): (Ipv4Addr, Ipv4Addr),
    protocol: u8,
    (id, offset, more): (u16, usize, bool),
    data: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![0x45, 0];
    bytes.extend(u16::try_from(20 + data.len()).unwrap().to_be_bytes());
    bytes.extend(id.to_be_bytes());
    let offset = u16::try_from(offset / 8).unwrap() | u16::from(more) << 13;
    bytes.extend(offset.to_be_bytes());
    bytes.extend([64, protocol, 0, 0]);
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    let checksum = !sum(&bytes);
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    bytes.extend(data);
    bytes
}

fn ipv6((from, to): (Ipv6Addr, Ipv6Addr), protocol: u8, hop_limit: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend([protocol, hop_limit]);
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    bytes.extend(data);
    bytes
}

/// An IP packet of the version of the addresses.
fn ip(from: IpAddr, to: IpAddr, protocol: u8, data: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ipv4((from, to), protocol, (0, 0, false), data),
        (IpAddr::V6(from), IpAddr::V6(to)) => ipv6((from, to), protocol, 64, data),
        _ => panic!("{from} to {to}"),
    }
}

/// A fragment of a datagram that begins with `protocol`.
fn piece(
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    (id, offset, more): (u16, usize, bool),
    data: &[u8],
) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ipv4((from, to), protocol, (id, offset, more), data),
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut bytes = vec![protocol, 0];
            let offset = u16::try_from(offset).unwrap() | u16::from(more);
            bytes.extend(offset.to_be_bytes());
            bytes.extend([0, 0]);
            bytes.extend(id.to_be_bytes());
            bytes.extend(data);
            ipv6((from, to), FRAGMENT, 64, &bytes)
        }
        _ => panic!("{from} to {to}"),
    }
}

/// An IP packet in a frame.
fn framed(to: Mac, packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet[0] >> 4 == 4 {
        [8, 0]
    } else {
        [0x86, 0xdd]
    };
    [&to.0[..], &THEM.0, &kind, packet].concat()
}

/// A datagram from us to the host.
fn datagram(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    framed(US, &ip(from.ip(), to.ip(), UDP, &udp(from, to, data)))
}

/// What the host has sent, in parts; all checksums are right.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    to_mac: Mac,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    hop_limit: u8,
    dont_fragment: bool,
    /// Where the fragment begins, and whether there are more; `None` for what is whole.
    piece: Option<(usize, bool)>,
    /// Behind all IP headers.
    data: Vec<u8>,
}

#[track_caller]
fn seen(frame: &[u8]) -> Seen {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let mut seen = Seen {
        to_mac: Mac(frame[..6].try_into().unwrap()),
        source: v4(0),
        destination: v4(0),
        protocol: 0,
        hop_limit: 0,
        dont_fragment: false,
        piece: None,
        data: Vec::new(),
    };
    match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(packet) => {
            let header = packet.header();
            assert_eq!(sum(header.slice()), 0xffff, "the header's checksum");
            let offset = usize::from(header.fragments_offset().value()) * 8;
            let more = header.more_fragments();
            seen = Seen {
                source: header.source_addr().into(),
                destination: header.destination_addr().into(),
                protocol: packet.payload().ip_number.0,
                hop_limit: header.ttl(),
                dont_fragment: header.dont_fragment(),
                piece: (offset > 0 || more).then_some((offset, more)),
                data: packet.payload().payload.to_vec(),
                ..seen
            };
        }
        NetSlice::Ipv6(packet) => {
            let header = packet.header();
            seen = Seen {
                source: header.source_addr().into(),
                destination: header.destination_addr().into(),
                protocol: packet.payload().ip_number.0,
                hop_limit: header.hop_limit(),
                data: packet.payload().payload.to_vec(),
                ..seen
            };
            if packet.payload().fragmented {
                // It is the only extension header that we send with it.
                let field = u16::from_be_bytes([frame[56], frame[57]]);
                seen.piece = Some((usize::from(field & !7), field & 1 != 0));
            }
        }
        other => panic!("{other:?}"),
    }
    if seen.piece.is_none() {
        check(&seen);
    }
    seen
}

/// The checksum of what is whole.
#[track_caller]
fn check(seen: &Seen) {
    let pseudo = match seen.protocol {
        UDP if seen.data[6..8] == [0, 0] && seen.source.is_ipv4() => return,
        UDP | ICMPV6 => pseudo(
            seen.source,
            seen.destination,
            seen.protocol,
            seen.data.len(),
        ),
        _ => Vec::new(),
    };
    let whole = [pseudo, seen.data.clone()].concat();
    assert_eq!(sum(&whole), 0xffff, "the checksum of {seen:x?}");
}

/// Both versions: what the host has, what we have.
const BOTH: [fn(usize) -> IpAddr; 2] = [v4, v6];

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}
