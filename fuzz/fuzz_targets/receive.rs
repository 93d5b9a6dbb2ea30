//! A whole stack: whatever comes, whenever, and whatever its user does meanwhile, it does not panic, holds no more memory
//! than it may, sends no more than it has cause to, and only frames that are in order.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use netstack::wire::checksum::{Sum, checksum};
use netstack::wire::ethernet::Mac;
use netstack::wire::{Protocol, ipv4::Ipv4};
use netstack::{
    Config, EchoId, Heap, Instant, InterfaceConfig, InterfaceId, Packet, Probing, Stack, UdpId,
};

const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
const MTU: u16 = 1500;
const LINKS: [InterfaceId; 2] = [InterfaceId(0), InterfaceId(1)];
const TRANSMIT_MAX: usize = 256;
/// The identifier of echo sockets, small enough to be found.
const IDENT: u16 = 0x0101;

/// Host 1 is us, 2 to 6 are others; 0 and 7 are addresses of many.
fn v4(host: u8) -> Ipv4Addr {
    match host & 7 {
        0 => Ipv4Addr::BROADCAST,
        7 => Ipv4Addr::new(224, 0, 0, 1),
        host => Ipv4Addr::new(10, 0, 0, host),
    }
}

fn v6(host: u8) -> Ipv6Addr {
    match host & 15 {
        0 => Ipv6Addr::UNSPECIFIED,
        7 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
        8 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1),
        host @ 1..=6 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into()),
        host => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, u16::from(host) - 8),
    }
}

fn any(number: u8) -> IpAddr {
    if number & 16 == 0 {
        v4(number).into()
    } else {
        v6(number).into()
    }
}

/// The input, read bit by bit; its end is zeros.
struct Input<'i>(&'i [u8]);

impl<'i> Input<'i> {
    fn byte(&mut self) -> u8 {
        let byte = self.0.first().copied().unwrap_or_default();
        self.0 = self.0.get(1..).unwrap_or_default();
        byte
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn bytes(&mut self, len: usize) -> &'i [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// Fills in the checksum of what an IP packet carries, where it has one.
fn fill_in(protocol: u8, upper: &mut [u8], pseudo: Sum) {
    let (at, mut sum) = match protocol {
        1 | 2 => (2, Sum::new()),
        17 => (6, pseudo),
        58 => (2, pseudo),
        _ => return,
    };
    if let Some(place) = upper.get_mut(at..at + 2) {
        place.fill(0);
        sum.add(upper);
        upper[at..at + 2].copy_from_slice(&sum.finish_udp().to_be_bytes());
    }
}

struct World {
    stack: Stack<Heap>,
    heap: Heap,
    now: Instant,
    sockets: Vec<UdpId>,
    /// Of both versions.
    pingers: [EchoId; 2],
    /// What there is cause to send for.
    calls: usize,
    bytes: usize,
    sent: usize,
}

impl World {
    fn new() -> Self {
        let heap = Heap::new(4096);
        let mut config = Config {
            seed: 7,
            transmit_max: TRANSMIT_MAX,
            local_max: 16,
            ..Config::default()
        };
        (config.neighbours.entries_max, config.neighbours.waiting_max) = (8, 24);
        config.reassembly.datagrams_max = 8;
        (
            config.reassembly.packets_max,
            config.reassembly.per_source_max,
        ) = (64, 4);
        (config.udp.sockets_max, config.udp.queued_max) = (8, 32);
        config.udp.queue_max = 8;
        (config.echo.sockets_max, config.echo.queued_max) = (2, 12);
        (config.echo.queue_max, config.echo.failures_max) = (8, 4);
        config.reassembly.pieces_max = 16;
        let mut stack = Stack::new(config, heap.clone());
        let mut plain = InterfaceConfig::new(0, OURS);
        plain.mtu = MTU;
        stack.add_interface(plain).unwrap();
        let tagged = InterfaceConfig {
            vlan: [Some(5), None],
            ..plain
        };
        stack.add_interface(tagged).unwrap();
        for (address, len) in [(v4(1).into(), 24), (v6(1).into(), 64), (v6(9).into(), 64)] {
            let added = stack.add_address(LINKS[0], address, len, Probing::None);
            added.unwrap();
        }
        let second = IpAddr::from([10, 0, 5, 1]);
        stack
            .add_address(LINKS[1], second, 24, Probing::None)
            .unwrap();
        // Routers are believed on one of the two.
        stack.enable_autoconf(LINKS[0]).unwrap();
        let sockets = [IpAddr::from([0; 4]), v6(1).into()].map(|address| {
            let local = SocketAddr::new(address, 7);
            stack.udp_bound(local).unwrap()
        });
        let pingers = [IpAddr::from([0; 4]), v6(1).into()]
            .map(|address| stack.echo_bound(address, IDENT).unwrap());
        Self {
            stack,
            heap,
            now: Instant::from_millis(1),
            sockets: sockets.to_vec(),
            pingers,
            calls: 8,
            bytes: 0,
            sent: 0,
        }
    }

    fn receive(&mut self, frame: &[u8], vouched: bool) {
        self.bytes += frame.len();
        let Some(mut packet) = self.heap.packet(frame) else {
            panic!("{} packets are out", self.heap.in_use());
        };
        if vouched {
            packet.received.ip_checksum = Some(true);
            packet.received.l4_checksum = Some(true);
        }
        self.stack.receive(self.now, 0, [packet]);
    }

    fn ip(&mut self, kind: u16, packet: &[u8], to_all: bool) {
        let to = if to_all { [0x33; 6] } else { OURS.0 };
        let from = [6, 0, 0, 0, 0, packet[packet.len() / 2] & 3];
        let frame = [&to[..], &from, &kind.to_be_bytes(), packet].concat();
        self.receive(&frame, false);
    }

    fn ipv4(&mut self, input: &mut Input<'_>) {
        let (ends, protocol) = (input.byte(), input.byte());
        let (fragment, len) = (input.word(), usize::from(input.byte()) * 6);
        let protocol = [1, 17, 2, protocol][usize::from(ends >> 6)];
        let (source, destination) = (v4(ends >> 3), v4(ends));
        let mut upper = input.bytes(len).to_vec();
        let total = 20 + upper.len() as u16;
        let pseudo = Sum::pseudo_v4(source, destination, Protocol(protocol), total - 20);
        // Mostly whole.
        let fragment = if fragment & 0x1000 == 0 {
            0
        } else {
            fragment & 0x2fff
        };
        if fragment == 0 {
            fill_in(protocol, &mut upper, pseudo);
        }
        let mut header = vec![0x45, 0];
        for word in [total, u16::from(ends >> 5), fragment] {
            header.extend(word.to_be_bytes());
        }
        header.extend([64, protocol, 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header.extend(upper);
        self.ip(0x0800, &header, destination != v4(1) && ends & 1 == 1);
    }

    fn ipv6(&mut self, input: &mut Input<'_>) {
        let (ends, next, hop_limit) = (input.byte(), input.byte(), input.byte());
        let len = usize::from(input.byte()) * 6;
        let (source, destination) = (v6(ends >> 4), v6(ends));
        let mut upper = input.bytes(len).to_vec();
        let next = match next >> 6 {
            0 => 58,
            1 => 17,
            2 => [0, 43, 44, 60][usize::from(next & 3)],
            _ => next,
        };
        let len = upper.len() as u16;
        let pseudo = Sum::pseudo_v6(source, destination, Protocol(next), len.into());
        fill_in(next, &mut upper, pseudo);
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(len.to_be_bytes());
        packet.extend([next, if hop_limit < 200 { 255 } else { hop_limit }]);
        packet.extend(source.octets());
        packet.extend(destination.octets());
        packet.extend(upper);
        self.ip(0x86dd, &packet, destination.is_multicast());
    }

    fn arp(&mut self, input: &mut Input<'_>) {
        let (hosts, mac) = (input.byte(), input.byte());
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1 + (hosts >> 7)];
        arp.extend([6, 0, 0, 0, 0, mac & 3]);
        arp.extend(match hosts >> 3 & 7 {
            0 => [0; 4],
            host => v4(host).octets(),
        });
        arp.extend([0; 6]);
        arp.extend(v4(hosts).octets());
        let frame = [&[0xff; 6][..], &[6, 0, 0, 0, 0, mac & 3], &[8, 6], &arp].concat();
        self.receive(&frame, false);
    }

    /// What a user does; errors are his.
    fn call(&mut self, input: &mut Input<'_>) {
        let (what, number) = (input.byte(), input.byte());
        let socket = self.sockets[usize::from(number) % self.sockets.len()];
        let to = SocketAddr::new(any(input.byte()), 7 + u16::from(number & 3));
        let len = if to.is_ipv4() { 24 } else { 64 };
        let link = LINKS[usize::from(number & 1)];
        let pinger = usize::from(to.is_ipv6());
        match what % 16 {
            0 => {
                let len = usize::from(input.word()) % 5000;
                self.bytes += len;
                let mut echo = self.stack.echo(self.pingers[pinger]);
                echo.set_never_cut(number & 2 == 0).unwrap();
                let _ = echo.send_bytes(&vec![what; len], to.ip(), number.into());
            }
            1 => {
                let mut echo = self.stack.echo(self.pingers[pinger]);
                while echo.recv().is_some() {}
                while echo.take_error().unwrap().is_some() {}
                if number & 4 == 0 {
                    echo.close().unwrap();
                    let any = [IpAddr::from([0; 4]), IpAddr::from([0_u16; 8])][pinger];
                    self.pingers[pinger] = self.stack.echo_bound(any, IDENT).unwrap();
                }
            }
            2..=3 => {
                let len = usize::from(input.word()) % 5000;
                self.bytes += len;
                let _ = self.stack.udp(socket).send_bytes(&vec![what; len], to);
            }
            4 => {
                while let Some(datagram) = self.stack.udp(socket).recv_from() {
                    self.bytes += datagram.packet.len();
                    let (to, from) = (datagram.to, datagram.from);
                    let _ = self.stack.udp(socket).send_from(datagram.packet, to, from);
                }
            }
            5 => while self.stack.udp(socket).recv_from().is_some() {},
            6 => {
                let opened = self.stack.udp_bound(to);
                self.sockets.extend(opened);
            }
            7 if self.sockets.len() > 1 => {
                self.sockets.retain(|open| *open != socket);
                self.stack.udp(socket).close().unwrap();
            }
            8 => drop(self.stack.udp(socket).connect(to)),
            9 => drop(self.stack.udp(socket).disconnect()),
            10 => {
                let mut socket = self.stack.udp(socket);
                socket.set_never_cut(number & 1 == 0).unwrap();
                socket.set_no_checksum(number & 2 == 0).unwrap();
            }
            11 => drop(self.stack.join(link, to.ip())),
            12 => drop(self.stack.leave(link, to.ip())),
            13 => {
                let probing =
                    [Probing::None, Probing::Check, Probing::Announce][usize::from(number) % 3];
                let _ = self.stack.add_address(link, to.ip(), len, probing);
            }
            14 => drop(self.stack.remove_address(link, to.ip())),
            _ => drop(self.stack.add_route(any(what), 0, to.ip())),
        }
        while self.stack.poll_ready().is_some() {}
        while self.stack.poll_echo_ready().is_some() {}
        while self.stack.poll_event().is_some() {}
    }

    /// Looks at what is to be sent.
    fn transmit(&mut self) {
        while let Some(packet) = self.stack.poll_transmit(0) {
            self.sent += 1;
            let frame = packet.data();
            assert_eq!(packet.len(), frame.len());
            assert_eq!(frame[6..12], OURS.0);
            let tag = if frame[12..14] == [0x81, 0] { 4 } else { 0 };
            let (kind, ip) = (&frame[12 + tag..14 + tag], &frame[14 + tag..]);
            assert!(ip.len() <= usize::from(MTU), "{}", ip.len());
            match kind {
                [8, 0] => {
                    let header = Ipv4::parse(ip).unwrap();
                    assert!(header.checksum_is_right(ip));
                    assert_eq!(usize::from(header.total_len()), ip.len());
                    assert!(!header.source().is_unspecified() && !header.source().is_multicast());
                }
                [0x86, 0xdd] => {
                    let len = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
                    assert_eq!(40 + len, ip.len());
                    assert_ne!(ip[8], 0xff);
                }
                kind => assert_eq!(kind, [8, 6]),
            }
        }
        // A call, or a frame, has a question, an answer and a few reports sent, and questions are repeated; long answers are cut.
        let most = 16 * self.calls + self.bytes / 128;
        assert!(self.sent <= most, "{} of {most}", self.sent);
    }

    fn look(&self) {
        let config = self.stack.config();
        let most = config.reassembly.packets_max
            + config.neighbours.waiting_max
            + config.udp.queued_max
            + config.echo.queued_max
            + config.local_max
            + config.transmit_max;
        assert!(self.heap.in_use() <= most, "{}", self.heap.in_use());
        assert!(self.stack.neighbours().count() <= config.neighbours.entries_max);
        assert!(self.stack.routes().count() <= config.routes_max);
        assert!(self.stack.addresses().count() <= config.addresses.addresses_max);
    }

    /// What is due at a moment is done in a few calls, and then nothing is.
    fn let_pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..16 {
            let Some(due) = self.stack.next_timeout().filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            self.calls += 1;
            self.stack.handle_timeout(self.now);
            self.transmit();
        }
        self.now = self.now.max(end);
        for _ in 0..8 {
            self.calls += 1;
            self.stack.handle_timeout(self.now);
            self.transmit();
        }
        let next = self.stack.next_timeout();
        assert!(
            next.is_none_or(|next| next > self.now),
            "{next:?} at {:?}",
            self.now
        );
    }
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let mut world = World::new();
    while !input.0.is_empty() {
        let what = input.byte();
        world.calls += 1;
        match what & 7 {
            0 => {
                let len = usize::from(input.word()) % 1700;
                let frame = input.bytes(len);
                world.receive(frame, what & 8 != 0);
            }
            1 => world.ipv4(&mut input),
            2 | 3 => world.ipv6(&mut input),
            4 => world.arp(&mut input),
            5 => {
                let unit = if what & 8 == 0 { 1 } else { 200 };
                let millis = u64::from(input.word()) * unit;
                world.let_pass(Duration::from_millis(millis));
            }
            6 => world.call(&mut input),
            // What was sent together is looked at, until then it waits.
            _ => world.transmit(),
        }
        world.look();
    }
    world.transmit();
    drop(world.stack);
    assert_eq!(world.heap.in_use(), 0);
});
