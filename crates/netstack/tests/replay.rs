//! Captures replayed to a stack, as they are and with bytes changed: it never panics, holds no memory in the end, and never
//! answers more packets than it got.
//!
//! `captures/linux.pcap` is what two Linux hosts said to each other on a cable that had just been plugged in: duplicate address
//! detection, listener reports, router solicitations, ARP both ways, pings of one and of several fragments, to nobody and to
//! everybody, UDP of all sizes, refusals of ports, TCP that nobody wants. The stack plays one of them. `FOREBAY_SEED` repeats
//! what is changed.
//!
//! An answer counts once, into how many fragments it may be cut. Besides answers, the stack sends this:
//!
//! | what | how many |
//! |---|---|
//! | ARP requests and neighbour solicitations for those whom it wants to answer | `probes_max` for each frame received, as each brings one neighbour at most; as many again to see whether he is still there |
//! | ARP announcements that defend an address | one for each frame that attacks it; in fact one in ten seconds |
//! | listener reports of groups, asked or when an address came | one for each frame received, and what it says unasked of its own groups: `UNASKED` |
//! | router solicitations | three an interface, within `UNASKED` |
//! | fragments of an echo reply | the request's length over the least path MTU, 528 bytes of data each: also where the request came whole |

mod wire;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use netstack::wire::ethernet::Mac;
use netstack::{
    Config, Heap, Instant, InterfaceConfig, InterfaceId, Packet, Probing, Reason, Stack, Traffic,
};
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{LegacyPcapReader, PcapBlockOwned, PcapError};
use wire::Random;

const LINK: InterfaceId = InterfaceId(0);
/// Whom the stack plays.
const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
const CAPTURES: &[(&str, &[u8])] = &[("linux.pcap", include_bytes!("captures/linux.pcap"))];
/// What the stack says of its own groups and asks for routers, however little comes.
const UNASKED: u64 = 32;

/// When a frame came, since the first one, and its bytes.
type Frame = (Duration, Vec<u8>);

fn frames(capture: &[u8]) -> Vec<Frame> {
    let mut reader = LegacyPcapReader::new(1 << 17, capture).unwrap();
    let mut frames: Vec<Frame> = Vec::new();
    let mut begin = None;
    loop {
        match reader.next() {
            Ok((taken, block)) => {
                if let PcapBlockOwned::Legacy(frame) = block {
                    let micros = u64::from(frame.ts_sec) * 1_000_000 + u64::from(frame.ts_usec);
                    let since = micros.saturating_sub(*begin.get_or_insert(micros));
                    frames.push((Duration::from_micros(since), frame.data.to_vec()));
                }
                reader.consume(taken);
            }
            Err(PcapError::Eof) => return frames,
            Err(PcapError::Incomplete(_)) => reader.refill().unwrap(),
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// What a frame of the stack is.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// It asks for a neighbour.
    Question,
    /// It says or asks something unasked: a report, an announcement, a router solicitation, a probe.
    Unasked,
    /// What follows the first fragment.
    Rest,
    Answer,
}

fn kind(frame: &[u8]) -> Kind {
    let ip = &frame[14..];
    match frame[12..14] {
        // A request: an announcement names its sender as target, a probe no sender.
        [8, 6] if ip[7] == 1 && (ip[14..18] == ip[24..28] || ip[14..18] == [0; 4]) => Kind::Unasked,
        [8, 6] if ip[7] == 1 => Kind::Question,
        [8, 0] if u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff != 0 => Kind::Rest,
        [8, 0] if ip[9] == 2 => Kind::Unasked,
        [0x86, 0xdd] => match (ip[6], ip[40]) {
            (44, _) if u16::from_be_bytes([ip[42], ip[43]]) & !7 != 0 => Kind::Rest,
            // Listener reports have a hop-by-hop header.
            (0, _) => Kind::Unasked,
            (58, 133) => Kind::Unasked,
            (58, 135) if ip[8..24] == [0; 16] => Kind::Unasked,
            (58, 135) => Kind::Question,
            // Not solicited: nobody asked.
            (58, 136) if ip[44] & 0x40 == 0 && ip[24..40] != all_nodes() => Kind::Unasked,
            _ => Kind::Answer,
        },
        _ => Kind::Answer,
    }
}

fn all_nodes() -> [u8; 16] {
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets()
}

#[derive(Debug, Default)]
struct Sent {
    questions: u64,
    unasked: u64,
    rest: u64,
    answers: u64,
}

/// What was received and how the stack took it.
#[derive(Debug, Default)]
struct Tally {
    received: u64,
    bytes: u64,
    sent: Sent,
}

struct Replay {
    stack: Stack<Heap>,
    heap: Heap,
    now: Instant,
    tally: Tally,
}

impl Replay {
    fn new() -> Self {
        let heap = Heap::new(1 << 14);
        let config = Config {
            seed: 7,
            ..Config::default()
        };
        let mut stack = Stack::new(config, heap.clone());
        stack.add_interface(InterfaceConfig::new(0, OURS)).unwrap();
        let global = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
        // The link-local one it gives itself, and that is Linux's, too.
        let addresses: [(IpAddr, u8); 2] =
            [(Ipv4Addr::new(10, 0, 0, 1).into(), 24), (global.into(), 64)];
        for (address, len) in addresses {
            stack
                .add_address(LINK, address, len, Probing::None)
                .unwrap();
        }
        stack.enable_autoconf(LINK).unwrap();
        for address in [IpAddr::from([0; 4]), IpAddr::from([0_u16; 8])] {
            stack.udp_bound(SocketAddr::new(address, 7)).unwrap();
        }
        Self {
            stack,
            heap,
            now: Instant::from_millis(1),
            tally: Tally::default(),
        }
    }

    fn transmit(&mut self) {
        while let Some(packet) = self.stack.poll_transmit(0) {
            let sent = &mut self.tally.sent;
            assert_eq!(packet.data()[6..12], OURS.0);
            match kind(packet.data()) {
                Kind::Question => sent.questions += 1,
                Kind::Unasked => sent.unasked += 1,
                Kind::Rest => sent.rest += 1,
                Kind::Answer => sent.answers += 1,
            }
        }
    }

    fn receive(&mut self, frame: &[u8], vouched: bool) {
        self.tally.received += 1;
        self.tally.bytes += frame.len() as u64;
        let mut packet = self.heap.packet(frame).unwrap();
        if vouched {
            // What a device says that has looked: so that changed bytes get further.
            packet.received.ip_checksum = Some(true);
            packet.received.l4_checksum = Some(true);
        }
        self.stack.receive(self.now, 0, [packet]);
        self.transmit();
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.stack.next_timeout()
            && next <= end
        {
            self.now = self.now.max(next);
            self.stack.handle_timeout(self.now);
            self.transmit();
        }
        self.now = end;
    }

    fn run<'f>(&mut self, frames: impl IntoIterator<Item = &'f Frame>) {
        let mut since = Duration::ZERO;
        for (at, frame) in frames {
            self.pass(at.saturating_sub(since));
            since = since.max(*at);
            self.receive(frame, false);
        }
    }

    /// Gives everything time to end, and compares.
    fn end(mut self) -> (Tally, Traffic) {
        self.pass(Duration::from_secs(120));
        let Tally {
            received,
            bytes,
            ref sent,
        } = self.tally;
        let probes: u64 = self.stack.config().neighbours.probes_max.into();
        assert!(sent.answers <= received, "{:?}", self.tally);
        assert!(sent.questions <= 2 * probes * received, "{:?}", self.tally);
        assert!(sent.unasked <= received + UNASKED, "{:?}", self.tally);
        assert!(sent.rest <= bytes / 528, "{:?}", self.tally);
        let traffic = *self.stack.traffic();
        drop(self.stack);
        assert_eq!(self.heap.in_use(), 0);
        (self.tally, traffic)
    }
}

#[test]
fn capture_as_it_is_is_answered_as_linux_did() {
    for (name, capture) in CAPTURES {
        let mut replay = Replay::new();
        replay.run(&frames(capture));
        let drops = replay.stack.drops().clone();
        let (tally, traffic) = replay.end();
        println!("{name}: {tally:?}\n  {traffic:?}\n  {drops:?}");
        // Pings, also in pieces, pieces of UDP, and ports where nobody listens: as many as Linux answered in the capture.
        assert_eq!((traffic.echoes, traffic.reassembled), (7, 6));
        assert_eq!(drops.of(Reason::UdpNoSocket), 2);
        assert!(traffic.errors_sent >= 2, "{traffic:?}");
    }
}

/// Changes a few bytes, as chance has it, or the length.
fn change(frame: &mut Vec<u8>, random: &mut Random) {
    match random.below(8) {
        0 => frame.truncate(random.below(frame.len() + 1)),
        1 => frame.resize(frame.len() + random.below(64), 0x55),
        2 => {
            // Part of it again, somewhere else.
            let (from, to) = (random.below(frame.len()), random.below(frame.len()));
            let len = random.below(40).min(frame.len() - from.max(to));
            frame.copy_within(from..from + len, to);
        }
        _ => {
            // Mostly headers: they are what is read.
            let end = if random.below(4) == 0 {
                frame.len()
            } else {
                80
            };
            for _ in 0..=random.below(4) {
                let at = random.below(end.min(frame.len()));
                if let Some(byte) = frame.get_mut(at) {
                    *byte = match random.below(3) {
                        0 => 1 << random.below(8) ^ *byte,
                        1 => [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
                        _ => random.next().to_be_bytes()[0],
                    };
                }
            }
        }
    }
}

#[test]
fn changed_captures_neither_panic_nor_multiply() {
    let mut random = Random(wire::seed());
    let (mut all, mut reasons) = (Tally::default(), std::collections::BTreeMap::new());
    for (_, capture) in CAPTURES {
        let frames = frames(capture);
        for _ in 0..300 {
            let mut replay = Replay::new();
            for _ in 0..frames.len() {
                // In any order, each some times or never.
                let mut frame = frames[random.below(frames.len())].1.clone();
                if random.below(4) > 0 {
                    change(&mut frame, &mut random);
                }
                if random.below(8) == 0 && frame.len() > 6 {
                    frame[..6].copy_from_slice(&OURS.0);
                }
                replay.pass(Duration::from_micros(random.next() % 100_000));
                replay.receive(&frame, random.below(2) == 0);
            }
            for (name, count) in replay.stack.drops().iter() {
                *reasons.entry(name).or_insert(0) += count;
            }
            let (tally, _) = replay.end();
            all.received += tally.received;
            all.bytes += tally.bytes;
            all.sent.answers += tally.sent.answers;
            all.sent.questions += tally.sent.questions;
            all.sent.unasked += tally.sent.unasked;
            all.sent.rest += tally.sent.rest;
        }
    }
    println!("{all:?}\n  {reasons:?}");
    // What was changed got far enough to be dropped for many reasons.
    assert!(reasons.len() >= 15, "{reasons:?}");
}

/// Bytes of any length that are nothing at all.
#[test]
fn noise_is_dropped() {
    let mut random = Random(wire::seed());
    let mut replay = Replay::new();
    for _ in 0..50_000 {
        let len = random.below(200);
        let mut frame: Vec<u8> = (0..len).map(|_| random.next().to_be_bytes()[0]).collect();
        if let Some(header) = frame.first_chunk_mut::<14>() {
            header[..6].copy_from_slice(&OURS.0);
            header[6] = 6;
            let kind: [u8; 2] = [[8, 0], [8, 6], [0x86, 0xdd], [0x81, 0]][random.below(4)];
            header[12..].copy_from_slice(&kind);
            if let Some(first) = frame.get_mut(14) {
                *first = if kind == [8, 0] { 0x45 } else { 0x60 };
            }
        }
        replay.receive(&frame, true);
    }
    let (tally, traffic) = replay.end();
    println!("{tally:?} {traffic:?}");
    assert_eq!(tally.sent.answers, 0);
}
