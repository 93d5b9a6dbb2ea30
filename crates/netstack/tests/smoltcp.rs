//! Another implementation at the other end of a cable in memory: what one says, the other understands, and both agree on
//! every checksum.
//!
//! smoltcp does not do all that our stack does, so some ways go in one direction only: it cuts and joins fragments of IPv4
//! alone, answers neither an ARP probe nor a neighbour solicitation from `::` (RFC 5227 and RFC 4862 want both), and no
//! solicitation that is sent to it alone. `FOREBAY_SEED` repeats the weather of the bad cable.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::collections::VecDeque;

use netstack::ip::address::State;
use netstack::wire::ethernet::Mac;
use netstack::{
    Config, Error, Event, Heap, Instant, InterfaceConfig, InterfaceId, Mbufs, Packet, Packets,
    Probing, Reason, Stack, UdpId,
};
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::{icmp, udp};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint};

const LINK: InterfaceId = InterfaceId(0);
const MTU: usize = 1500;
const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Of host 1, which is ours, of host 2, which is smoltcp, and of others.
type Address = fn(u8) -> IpAddr;

fn v4(host: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, host])
}

fn v6(host: u8) -> IpAddr {
    IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host)])
}

const VERSIONS: [Address; 2] = [v4, v6];

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Bytes that tell which datagram they are of: the same for the same number, and for no other.
fn pattern(number: u64, len: usize) -> Vec<u8> {
    let mut state = number;
    let words = (0..len.div_ceil(8)).flat_map(|_| random(&mut state).to_be_bytes());
    words.take(len).collect()
}

/// smoltcp's end of the cable.
#[derive(Default)]
struct Plug {
    to_peer: VecDeque<Vec<u8>>,
    from_peer: VecDeque<Vec<u8>>,
}

struct Received(Vec<u8>);
struct Transmit<'p>(&'p mut VecDeque<Vec<u8>>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for Transmit<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl phy::Device for Plug {
    type RxToken<'p> = Received;
    type TxToken<'p> = Transmit<'p>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Transmit<'_>)> {
        let frame = self.to_peer.pop_front()?;
        Some((Received(frame), Transmit(&mut self.from_peer)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Transmit<'_>> {
        Some(Transmit(&mut self.from_peer))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 14 + MTU;
        capabilities
    }
}

/// The one's complement sum of RFC 1071 in its plainest form: neither stack's.
fn plain_sum(bytes: impl Iterator<Item = u8>) -> u16 {
    let bytes: Vec<u8> = bytes.collect();
    let mut sum: u64 = 0;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// Checks all checksums of a frame by hand, and returns that of UDP if it has one.
fn check(frame: &[u8]) -> Option<u16> {
    let ip = &frame[14..];
    let (protocol, addresses, upper) = match &frame[12..14] {
        [8, 0] => {
            let header_len = usize::from(ip[0] & 15) * 4;
            assert_eq!(
                plain_sum(ip[..header_len].iter().copied()),
                0xffff,
                "{frame:x?}"
            );
            let len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
            // A piece has the checksum of the whole.
            if u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0 {
                return None;
            }
            (ip[9], &ip[12..20], &ip[header_len..len])
        }
        [0x86, 0xdd] => {
            let len = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
            (ip[6], &ip[8..40], &ip[40..40 + len])
        }
        _ => return None,
    };
    let len = u16::try_from(upper.len()).unwrap().to_be_bytes();
    let pseudo = addresses
        .iter()
        .copied()
        .chain([0, protocol, len[0], len[1]]);
    match protocol {
        1 => assert_eq!(plain_sum(upper.iter().copied()), 0xffff, "{frame:x?}"),
        17 | 58 => {
            let all = pseudo.chain(upper.iter().copied());
            assert_eq!(plain_sum(all), 0xffff, "{frame:x?}");
        }
        _ => {}
    }
    (protocol == 17).then(|| u16::from_be_bytes([upper[6], upper[7]]))
}

/// What a bad cable does, of a hundred frames.
struct Weather {
    state: u64,
    lost: u64,
    twice: u64,
    late: u64,
    /// Frames that are overtaken by others.
    held: Vec<Vec<u8>>,
}

impl Weather {
    fn pass(&mut self, frame: Vec<u8>, out: &mut VecDeque<Vec<u8>>) {
        let chance = random(&mut self.state) % 100;
        if chance < self.lost {
            return;
        }
        if chance < self.lost + self.twice {
            out.push_back(frame.clone());
        }
        if random(&mut self.state) % 100 < self.late {
            self.held.push(frame);
        } else {
            out.push_back(frame);
            // Whoever was held comes after one that was sent later.
            if !self.held.is_empty() && random(&mut self.state).is_multiple_of(2) {
                out.push_back(self.held.swap_remove(0));
            }
        }
    }
}

/// Our stack and smoltcp on a cable.
struct Cable<A: Packets> {
    stack: Stack<A>,
    interface: Interface,
    sockets: SocketSet<'static>,
    plug: Plug,
    now: Instant,
    /// To smoltcp and from it.
    weather: Option<[Weather; 2]>,
    /// UDP checksums, as the frames went by.
    checksums: Vec<u16>,
    /// ARP and neighbour discovery.
    questions: usize,
}

impl<A: Packets> Cable<A> {
    fn with(packets: A, config: Config) -> Self {
        let mut stack = Stack::new(config, packets);
        stack
            .add_interface(InterfaceConfig::new(0, OUR_MAC))
            .unwrap();
        let mut plug = Plug::default();
        let mac = HardwareAddress::Ethernet(EthernetAddress(PEER_MAC));
        let mut interface = Interface::new(
            smoltcp::iface::Config::new(mac),
            &mut plug,
            smoltcp::time::Instant::ZERO,
        );
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(v4(2).into(), 24)).unwrap();
            addresses.push(IpCidr::new(v6(2).into(), 64)).unwrap();
        });
        Self {
            stack,
            interface,
            sockets: SocketSet::new(vec![]),
            plug,
            now: Instant::from_millis(1000),
            weather: None,
            checksums: Vec::new(),
            questions: 0,
        }
    }

    fn new(packets: A) -> Self {
        let mut cable = Self::with(packets, Config::default());
        for address in VERSIONS {
            let len = if address(1).is_ipv4() { 24 } else { 64 };
            cable
                .stack
                .add_address(LINK, address(1), len, Probing::None)
                .unwrap();
        }
        cable.carry();
        cable.questions = 0;
        cable
    }

    fn poll_peer(&mut self) {
        let micros = i64::try_from(self.now.as_nanos() / 1000).unwrap();
        let now = smoltcp::time::Instant::from_micros(micros);
        self.interface.poll(now, &mut self.plug, &mut self.sockets);
    }

    fn see(&mut self, frame: &[u8]) {
        self.checksums.extend(check(frame));
        let ndp = frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] >= 133;
        self.questions += usize::from(ndp || frame[12..14] == [8, 6]);
    }

    /// Carries frames until there are no more.
    fn carry(&mut self) {
        for _ in 0..10_000 {
            self.poll_peer();
            let mut arriving = VecDeque::new();
            while let Some(frame) = self.plug.from_peer.pop_front() {
                self.see(&frame);
                match &mut self.weather {
                    Some([_, weather]) => weather.pass(frame, &mut arriving),
                    None => arriving.push_back(frame),
                }
            }
            let mut idle = arriving.is_empty();
            for frame in arriving {
                let mut packet = self.stack.packets_mut().alloc().unwrap();
                packet.append(frame.len()).unwrap().copy_from_slice(&frame);
                self.stack.receive(self.now, 0, [packet]);
            }
            while let Some(packet) = self.stack.poll_transmit(0) {
                let frame: Vec<u8> = packet.segments().flatten().copied().collect();
                self.see(&frame);
                idle = false;
                match &mut self.weather {
                    Some([weather, _]) => weather.pass(frame, &mut self.plug.to_peer),
                    None => self.plug.to_peer.push_back(frame),
                }
            }
            if idle {
                return;
            }
        }
        panic!("they do not come to an end");
    }

    /// Lets time pass, a tenth of a second at a time.
    fn pass(&mut self, tenths: u32) {
        for _ in 0..tenths {
            self.now = self.now + Duration::from_millis(100);
            self.stack.handle_timeout(self.now);
            self.carry();
        }
    }

    fn open(&mut self, local: SocketAddr) -> UdpId {
        self.stack.udp_bound(local).unwrap()
    }

    fn open_peer(&mut self, port: u16) -> SocketHandle {
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 1 << 17]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(port).unwrap();
        self.sockets.add(socket)
    }

    fn pinger(&mut self, endpoint: icmp::Endpoint) -> SocketHandle {
        let buffer =
            || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 64], vec![0; 1 << 17]);
        let mut socket = icmp::Socket::new(buffer(), buffer());
        socket.bind(endpoint).unwrap();
        self.sockets.add(socket)
    }

    fn ping(&mut self, pinger: SocketHandle, to: IpAddr, number: u16, data: &[u8]) {
        let [high, low] = number.to_be_bytes();
        let kind = if to.is_ipv4() { 8 } else { 128 };
        let mut message = vec![kind, 0, 0, 0, 0x2a, 0x2a, high, low];
        message.extend_from_slice(data);
        let socket = self.sockets.get_mut::<icmp::Socket>(pinger);
        socket.send_slice(&message, to.into()).unwrap();
    }

    /// The number and the data of the next answer.
    fn pong(&mut self, pinger: SocketHandle, from: IpAddr) -> Option<(u16, Vec<u8>)> {
        let socket = self.sockets.get_mut::<icmp::Socket>(pinger);
        let (message, by) = socket.recv().ok()?;
        assert_eq!(by, IpAddress::from(from));
        assert_eq!(message[0], if from.is_ipv4() { 0 } else { 129 });
        Some((
            u16::from_be_bytes([message[6], message[7]]),
            message[8..].to_vec(),
        ))
    }

    /// Sends a datagram from smoltcp, has it echoed by us, and compares.
    fn echo(&mut self, address: Address, ours: UdpId, theirs: SocketHandle, bytes: &[u8]) {
        let to = IpEndpoint::new(address(1).into(), 7);
        self.checksums.clear();
        self.sockets
            .get_mut::<udp::Socket>(theirs)
            .send_slice(bytes, to)
            .unwrap();
        self.carry();
        let there = self
            .stack
            .udp(ours)
            .recv_from()
            .unwrap_or_else(|| panic!("{} bytes: {:?}", bytes.len(), self.stack));
        let data: Vec<u8> = there.packet.segments().flatten().copied().collect();
        assert!(data == bytes, "{} bytes", bytes.len());
        assert_eq!((there.from.ip(), there.to), (address(2), address(1)));
        self.stack
            .udp(ours)
            .reply(there)
            .unwrap_or_else(|unsent| panic!("{}", unsent.error));
        self.carry();
        let socket = self.sockets.get_mut::<udp::Socket>(theirs);
        let (back, from) = socket.recv().unwrap();
        assert!(back == bytes, "{} bytes back", bytes.len());
        assert_eq!(from.endpoint, to);
        self.agree();
    }

    /// Sends a datagram from us, has it echoed by smoltcp, and compares.
    fn echo_there(&mut self, address: Address, ours: UdpId, theirs: SocketHandle, bytes: &[u8]) {
        let to = SocketAddr::new(address(2), 7);
        self.checksums.clear();
        self.stack.udp(ours).send_bytes(bytes, to).unwrap();
        self.carry();
        let socket = self.sockets.get_mut::<udp::Socket>(theirs);
        let (there, from) = socket.recv().unwrap();
        assert!(there == bytes, "{} bytes", bytes.len());
        let (there, from) = (there.to_vec(), from.endpoint);
        assert_eq!(from.addr, IpAddress::from(address(1)));
        socket.send_slice(&there, from).unwrap();
        self.carry();
        let back = self.stack.udp(ours).recv_from().unwrap();
        let data: Vec<u8> = back.packet.segments().flatten().copied().collect();
        assert!(data == bytes, "{} bytes back", bytes.len());
        assert_eq!((back.from, back.to), (to, address(1)));
        self.agree();
    }

    /// There and back the same words are summed up, in another order: both have to come to the same checksum.
    fn agree(&self) {
        if let [there, back] = self.checksums[..] {
            assert_eq!(there, back);
        } else {
            assert!(self.checksums.is_empty(), "{:?}", self.checksums);
        }
    }

    fn mac_of_peer(&self, address: Address) -> Option<Mac> {
        let mut neighbours = self.stack.neighbours();
        neighbours
            .find(|neighbour| neighbour.address == address(2))
            .and_then(|neighbour| neighbour.mac)
    }
}

fn heap() -> Heap {
    Heap::new(10_000)
}

/// Lengths around 0, and around the borders between one packet, two and three.
fn lengths() -> impl Iterator<Item = usize> {
    let pieces = (1..4).flat_map(|pieces| {
        let border = pieces * (MTU - 20);
        border - 20..border + 20
    });
    (0..40).chain(1420..1480).chain(pieces)
}

/// Tenths of a second in which smoltcp asks for no other neighbour after it has asked for one.
const QUIET: u32 = 11;

/// As much as IPv6 carries of UDP or ICMP in one packet, which is all that smoltcp does.
const WHOLE_V6: usize = MTU - 40 - 8;

fn fits(address: Address, len: usize) -> bool {
    address(1).is_ipv4() || len <= WHOLE_V6
}

#[test]
fn neighbours_find_each_other_whoever_begins() {
    for address in VERSIONS {
        let mut cable = Cable::new(heap());
        let (ours, theirs) = (
            cable.open(SocketAddr::new(address(1), 7)),
            cable.open_peer(7),
        );
        cable.echo_there(address, ours, theirs, b"we begin");
        assert_eq!(cable.mac_of_peer(address), Some(Mac(PEER_MAC)));
        // One question and its answer: who is asked learns who asks.
        assert_eq!(cable.questions, 2);

        let mut cable = Cable::new(heap());
        let (ours, theirs) = (
            cable.open(SocketAddr::new(address(1), 7)),
            cable.open_peer(9),
        );
        cable.echo(address, ours, theirs, b"they begin");
        assert_eq!(cable.mac_of_peer(address), Some(Mac(PEER_MAC)));
        assert_eq!(cable.questions, 2);
        assert_eq!(cable.stack.drops().total(), 0, "{:?}", cable.stack);
    }
}

#[test]
fn long_talk_survives_that_neighbours_are_asked_again() {
    for address in VERSIONS {
        let mut cable = Cable::new(heap());
        let (ours, theirs) = (
            cable.open(SocketAddr::new(address(1), 7)),
            cable.open_peer(7),
        );
        // Three minutes: addresses grow stale and are asked for, here and there.
        for number in 0..360 {
            cable.echo_there(address, ours, theirs, &pattern(number, 100));
            cable.pass(5);
        }
        assert!(cable.questions > 4, "{}", cable.questions);
        assert_eq!(cable.stack.drops().total(), 0, "{:?}", cable.stack);
    }
}

fn pings_of_all_sizes<A: Packets>(packets: A, step: usize) {
    let mut cable = Cable::new(packets);
    let pinger = cable.pinger(icmp::Endpoint::Ident(0x2a2a));
    for address in VERSIONS {
        cable.pass(QUIET);
        for len in (0..=8000).step_by(step).filter(|len| fits(address, *len)) {
            let (number, data) = (u16::try_from(len).unwrap(), pattern(len as u64, len));
            cable.ping(pinger, address(1), number, &data);
            cable.carry();
            let pong = cable.pong(pinger, address(1));
            assert!(pong == Some((number, data)), "{len} bytes");
        }
    }
    assert_eq!(cable.stack.drops().total(), 0, "{:?}", cable.stack);
}

#[test]
fn pings_of_all_sizes_come_back_whole() {
    pings_of_all_sizes(heap(), 1);
}

#[test]
fn ten_thousand_pings_are_answered_and_none_is_lost() {
    let mut cable = Cable::new(heap());
    let pinger = cable.pinger(icmp::Endpoint::Ident(0x2a2a));
    for address in VERSIONS {
        cable.pass(QUIET);
        // Bursts of as many as smoltcp's queue holds; the first has to find the neighbour.
        let (mut sent, mut answered) = (0_u16, 0_u16);
        while answered < 5000 {
            let burst = if sent == 0 { 1 } else { 50.min(5000 - sent) };
            for _ in 0..burst {
                let data = pattern(sent.into(), usize::from(sent) % 1400);
                cable.ping(pinger, address(1), sent, &data);
                sent += 1;
            }
            cable.carry();
            cable.now = cable.now + Duration::from_millis(1);
            while let Some((number, data)) = cable.pong(pinger, address(1)) {
                assert_eq!(number, answered);
                assert!(data == pattern(number.into(), usize::from(number) % 1400));
                answered += 1;
            }
            assert_eq!(answered, sent, "{:?}", cable.stack);
        }
    }
    assert_eq!(cable.stack.traffic().echoes, 10_000);
    assert_eq!(cable.stack.drops().total(), 0, "{:?}", cable.stack);
}

/// Pings smoltcp `count` times of each version, in bursts, with data of changing lengths: none is lost.
fn our_pings<A: Packets>(packets: A, count: u16, len: impl Fn(Address, u16) -> usize) {
    let mut cable = Cable::new(packets);
    for address in VERSIONS {
        cable.pass(QUIET);
        let socket = cable.stack.echo_bound(address(1), 0x2a2a).unwrap();
        let (mut sent, mut answered) = (0, 0);
        while answered < count {
            // The first has to find the neighbour.
            let burst = if sent == 0 { 1 } else { 10.min(count - sent) };
            for _ in 0..burst {
                let data = pattern(sent.into(), len(address, sent));
                let mut echo = cable.stack.echo(socket);
                echo.send_bytes(&data, address(2), sent).unwrap();
                sent += 1;
                cable.carry();
            }
            cable.now = cable.now + Duration::from_millis(1);
            assert_eq!(cable.stack.poll_echo_ready(), Some(socket));
            while let Some(reply) = cable.stack.echo(socket).recv() {
                let data: Vec<u8> = reply.packet.segments().flatten().copied().collect();
                assert_eq!((reply.sequence, reply.from), (answered, address(2)));
                assert!(data == pattern(answered.into(), len(address, answered)));
                answered += 1;
            }
            assert_eq!(answered, sent, "{:?}", cable.stack);
        }
        cable.stack.echo(socket).close().unwrap();
    }
    assert_eq!(cable.stack.drops().total(), 0, "{:?}", cable.stack);
}

#[test]
fn ten_thousand_pings_of_ours_are_answered_and_none_is_lost() {
    let heap = heap();
    our_pings(heap.clone(), 5000, |_, number| usize::from(number) % 1400);
    assert_eq!(heap.in_use(), 0);
}

/// As large as smoltcp takes them.
fn large(address: Address, number: u16) -> usize {
    let len = usize::from(number) * 16 + 8;
    if fits(address, len) {
        len
    } else {
        len % WHOLE_V6
    }
}

#[test]
fn large_pings_of_ours_come_back_whole() {
    let heap = heap();
    our_pings(heap.clone(), 500, large);
    assert_eq!(heap.in_use(), 0);
}

fn datagrams_around_the_mtu<A: Packets>(packets: A) {
    let mut cable = Cable::new(packets);
    let theirs = cable.open_peer(7);
    for address in VERSIONS {
        cable.pass(QUIET);
        let ours = cable.open(SocketAddr::new(address(1), 7));
        for len in lengths().filter(|len| fits(address, *len)) {
            let bytes = pattern(len as u64, len);
            cable.echo(address, ours, theirs, &bytes);
            cable.echo_there(address, ours, theirs, &bytes);
        }
    }
    assert_eq!(cable.stack.drops().total(), 0, "{:?}", cable.stack);
}

#[test]
fn datagrams_around_the_mtu_are_echoed_both_ways() {
    let heap = heap();
    datagrams_around_the_mtu(heap.clone());
    assert_eq!(heap.in_use(), 0);
}

#[test]
fn stack_on_mbufs_agrees_too() {
    let config = mbuf::PoolConfig::new("peers", 500);
    let len = mbuf::Pool::len_for(&config).unwrap() + (1 << 18);
    // Lives as long as the program, as a region does.
    let region = Box::leak(Box::new(eal::Region::anonymous(len).unwrap()));
    let pool = mbuf::Pool::create(region, &config).unwrap();
    let lcore = mbuf::Lcore::new(eal::Slot::claim(region, "test").unwrap());
    pings_of_all_sizes(Mbufs::new(&lcore, pool), 7);
    datagrams_around_the_mtu(Mbufs::new(&lcore, pool));
    our_pings(Mbufs::new(&lcore, pool), 500, large);
    // All of them are back, or this would run out.
    let all: Vec<_> = core::iter::from_fn(|| lcore.alloc(pool)).collect();
    assert_eq!(all.len(), 500);
}

#[test]
fn nobody_on_a_port_is_told_both_ways() {
    let mut cable = Cable::new(heap());
    let theirs = cable.open_peer(9);
    for address in VERSIONS {
        let ours = cable.open(SocketAddr::new(address(1), 7));
        let to = SocketAddr::new(address(2), 5555);
        cable.stack.udp(ours).send_bytes(b"anybody?", to).unwrap();
        cable.carry();
        let error = cable.stack.udp(ours).take_error().unwrap();
        assert_eq!(error, Some(Error::Refused(to)));

        let heard = cable.pinger(icmp::Endpoint::Udp(9.into()));
        let nobody = IpEndpoint::new(address(1).into(), 5555);
        cable
            .sockets
            .get_mut::<udp::Socket>(theirs)
            .send_slice(b"anybody?", nobody)
            .unwrap();
        cable.carry();
        let socket = cable.sockets.get_mut::<icmp::Socket>(heard);
        let (message, by) = socket.recv().unwrap();
        let unreachable = if address(1).is_ipv4() { [3, 3] } else { [1, 4] };
        assert_eq!(message[..2], unreachable);
        assert!(message.ends_with(b"anybody?"));
        assert_eq!(by, IpAddress::from(address(1)));
        cable.sockets.remove(heard);
    }
    assert_eq!(cable.stack.drops().of(Reason::UdpNoSocket), 2);
    assert_eq!(cable.stack.traffic().errors_sent, 2);
    assert_eq!(cable.stack.traffic().errors_received, 2);
}

/// smoltcp answers no probe, but it may be caught using the address: it sends from it, or tells somebody who asks.
#[test]
fn address_of_the_peer_is_found_to_be_taken() {
    for address in VERSIONS {
        let mut cable = Cable::new(heap());
        let ours = cable.open(SocketAddr::new(address(1), 7));
        let theirs = cable.open_peer(9);
        let len = if address(1).is_ipv4() { 24 } else { 64 };
        cable
            .stack
            .add_address(LINK, address(2), len, Probing::Check)
            .unwrap();
        let state = |cable: &Cable<Heap>| {
            let mut addresses = cable.stack.addresses();
            addresses
                .find(|known| known.address == address(2))
                .map(|known| known.state)
        };
        assert_eq!(state(&cable), Some(State::Tentative));
        if address(1).is_ipv4() {
            // It asks for somebody: its ARP request has the address as the sender's.
            let somebody = IpEndpoint::new(address(77).into(), 9);
            cable
                .sockets
                .get_mut::<udp::Socket>(theirs)
                .send_slice(b"hello", somebody)
                .unwrap();
        } else {
            // We ask for it from the address that we have: its advertisement says so.
            let to = SocketAddr::new(address(2), 9);
            cable.stack.udp(ours).send_bytes(b"hello", to).unwrap();
        }
        cable.pass(50);
        assert_eq!(state(&cable), Some(State::Duplicate));
        let events: Vec<_> = core::iter::from_fn(|| cable.stack.poll_event()).collect();
        let expected = Event::Duplicate {
            interface: LINK,
            address: address(2),
            by: Mac(PEER_MAC),
        };
        assert!(events.contains(&expected), "{events:?}");
    }
}

#[test]
fn address_that_nobody_has_is_taken_beside_the_peer() {
    for address in VERSIONS {
        let mut cable = Cable::new(heap());
        let len = if address(1).is_ipv4() { 24 } else { 64 };
        cable
            .stack
            .add_address(LINK, address(3), len, Probing::Check)
            .unwrap();
        cable.pass(50);
        let events: Vec<_> = core::iter::from_fn(|| cable.stack.poll_event()).collect();
        let expected = Event::AddressReady {
            interface: LINK,
            address: address(3),
        };
        assert!(events.contains(&expected), "{events:?}");
        // And the peer finds us there.
        let pinger = cable.pinger(icmp::Endpoint::Ident(0x2a2a));
        cable.ping(pinger, address(3), 1, b"new");
        cable.carry();
        assert_eq!(cable.pong(pinger, address(3)), Some((1, b"new".to_vec())));
    }
}

/// What waits half a minute for its other pieces must not be completed by those of another datagram: RFC 6864 section 4.3.
#[test]
fn identification_of_pieces_comes_again_only_when_all_others_have() {
    for seed in (0..8).map(|number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        let config = Config {
            seed,
            ..Config::default()
        };
        let mut cable = Cable::with(heap(), config);
        cable
            .stack
            .add_address(LINK, v4(1), 24, Probing::None)
            .unwrap();
        let ours = cable.open(SocketAddr::new(v4(1), 7));
        let to = SocketAddr::new(v4(2), 9);
        cable.stack.udp(ours).send_bytes(b"hello", to).unwrap();
        cable.carry();
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..20_000 {
            cable.stack.udp(ours).send_bytes(&[7; 2000], to).unwrap();
            while let Some(packet) = cable.stack.poll_transmit(0) {
                let frame = packet.data();
                let id = u16::from_be_bytes([frame[18], frame[19]]);
                let is_first = u16::from_be_bytes([frame[20], frame[21]]) & 0x1fff == 0;
                assert_eq!(
                    seen.insert(id),
                    is_first,
                    "datagram {number}, seed {seed:#x}"
                );
            }
        }
    }
}

/// Datagrams begin with their number, which says what follows.
fn numbered(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend(pattern(number, len));
    bytes
}

#[test]
fn no_wrong_byte_arrives_over_a_bad_cable() {
    let seed = match std::env::var("FOREBAY_SEED") {
        Ok(seed) => seed.parse().expect("FOREBAY_SEED is a number"),
        Err(_) => std::process::id().into(),
    };
    println!("FOREBAY_SEED={seed}");
    let mut chance: u64 = seed;
    let weather = |chance: &mut u64| Weather {
        state: random(chance),
        lost: 3,
        twice: 5,
        late: 10,
        held: Vec::new(),
    };
    for address in VERSIONS {
        let heap = heap();
        let mut cable = Cable::new(heap.clone());
        let ours = cable.open(SocketAddr::new(address(1), 7));
        let theirs = cable.open_peer(7);
        cable.weather = Some([weather(&mut chance), weather(&mut chance)]);
        let (mut sent, mut here, mut there, mut echoed) = (0, 0, 0, 0);
        let is_right = |bytes: &[u8], sent: u64| {
            let number = bytes.first_chunk().copied().map(u64::from_be_bytes);
            let number = number.expect("a datagram that was sent");
            assert!(
                number < sent && bytes == numbered(number, bytes.len() - 8),
                "a wrong byte in datagram {number}; FOREBAY_SEED={seed}"
            );
        };
        for _ in 0..1500 {
            let most = if address(1).is_ipv4() {
                6000
            } else {
                WHOLE_V6 - 8
            };
            let len = usize::try_from(random(&mut chance)).unwrap() % most;
            let to = SocketAddr::new(address(2), 7);
            // Refused where too many wait for a neighbour whose answer was lost.
            let _ = cable.stack.udp(ours).send_bytes(&numbered(sent, len), to);
            sent += 1;
            // A second, so that smoltcp's few places for what is incomplete are enough: it keeps them for a minute.
            cable.pass(10);
            while let Ok((bytes, from)) = cable.sockets.get_mut::<udp::Socket>(theirs).recv() {
                is_right(bytes, sent);
                there += 1;
                // Every other one goes back.
                let (bytes, to) = (bytes.to_vec(), from.endpoint);
                if there % 2 == 0 {
                    let socket = cable.sockets.get_mut::<udp::Socket>(theirs);
                    echoed += u64::from(socket.send_slice(&bytes, to).is_ok());
                }
            }
            cable.carry();
            while let Some(datagram) = cable.stack.udp(ours).recv_from() {
                let bytes: Vec<u8> = datagram.packet.segments().flatten().copied().collect();
                is_right(&bytes, sent);
                here += 1;
            }
        }
        println!(
            "IPv{}: {sent} sent, {there} arrived, {echoed} sent back, {here} arrived; {:?} {:?}",
            if address(1).is_ipv4() { 4 } else { 6 },
            cable.stack.traffic(),
            cable.stack.drops(),
        );
        assert!(there > sent / 10 * 7 && here > echoed / 10 * 7);
        // What waits for its other pieces is given up.
        cable.weather = None;
        cable.pass(700);
        assert_eq!(heap.in_use(), 0, "{:?}", cable.stack);
    }
}

#[test]
fn link_local_addresses_of_both_talk() {
    let mut cable = Cable::new(heap());
    let local = |host: u16| IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host));
    cable
        .stack
        .add_address(LINK, local(1), 64, Probing::None)
        .unwrap();
    cable.interface.update_ip_addrs(|addresses| {
        addresses.clear();
        addresses.push(IpCidr::new(local(2).into(), 64)).unwrap();
    });
    let pinger = cable.pinger(icmp::Endpoint::Ident(0x2a2a));
    cable.ping(pinger, local(1), 1, b"on the link");
    cable.carry();
    assert_eq!(
        cable.pong(pinger, local(1)),
        Some((1, b"on the link".to_vec()))
    );
}
