//! Floods against every limit of the stack, while somebody honest has datagrams of three fragments echoed: memory stays
//! bounded, and he loses nothing. `--nocapture` shows the counters.
//!
//! The flood comes at a hundred thousand frames a second. After every hundred of them a datagram is echoed, IPv4 and IPv6 in
//! turn, and fifteen more frames of the flood go between any two of its fragments.

mod wire;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use netstack::wire::checksum::checksum;
use netstack::wire::ethernet::Mac;
use netstack::{
    Config, Error, Heap, Instant, InterfaceConfig, InterfaceId, Packet, Probing, Reason, Stack,
    UdpId,
};
use wire::Random;

const LINK: InterfaceId = InterfaceId(0);
const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
const HONEST: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// Of host 1, which is flooded, and of host 2, which is honest.
fn v4(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, host)
}

fn v6(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host)
}

/// Somebody on the link, of 16 million.
fn anybody_v4(random: &mut Random) -> Ipv4Addr {
    let [_, b, c, d, ..] = random.next().to_be_bytes();
    Ipv4Addr::new(10, b | 1, c, d.clamp(1, 254))
}

fn anybody_v6(random: &mut Random) -> Ipv6Addr {
    let [a, b, c, d, ..] = random.next().to_be_bytes();
    let word = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfd00, 0, 0, 0, 1, 0, word(a, b), word(c, d))
}

fn host(mac: Mac, addresses: (Ipv4Addr, Ipv6Addr), heap: &Heap, config: Config) -> Stack<Heap> {
    let mut stack = Stack::new(config, heap.clone());
    stack.add_interface(InterfaceConfig::new(0, mac)).unwrap();
    stack
        .add_address(LINK, addresses.0.into(), 8, Probing::None)
        .unwrap();
    stack
        .add_address(LINK, addresses.1.into(), 64, Probing::None)
        .unwrap();
    stack
}

/// A host that is flooded, and one that wants something of it.
struct Town {
    stack: Stack<Heap>,
    heap: Heap,
    echo: [UdpId; 2],
    honest: Stack<Heap>,
    mac: Mac,
    honest_heap: Heap,
    asks: [UdpId; 2],
    now: Instant,
    random: Random,
    /// Between two frames of the flood.
    pace: Duration,
    rounds: u64,
    flooded: u64,
    /// Frames to others than the honest one.
    answers: u64,
    most_in_use: usize,
    most_neighbours: usize,
}

impl Town {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let (heap, honest_heap) = (Heap::new(1 << 16), Heap::new(1 << 12));
        let mut stack = host(OURS, (v4(1), v6(1)), &heap, Config { seed: 1, ..config });
        let mut honest = host(
            HONEST,
            (v4(2), v6(2)),
            &honest_heap,
            Config {
                seed: 2,
                ..Config::default()
            },
        );
        let bound = |stack: &mut Stack<Heap>, address: IpAddr, port| {
            stack.udp_bound(SocketAddr::new(address, port)).unwrap()
        };
        let echo = [
            bound(&mut stack, v4(1).into(), 7),
            bound(&mut stack, v6(1).into(), 7),
        ];
        let asks = [
            bound(&mut honest, v4(2).into(), 1000),
            bound(&mut honest, v6(2).into(), 1000),
        ];
        let mut town = Self {
            stack,
            heap,
            echo,
            honest,
            mac: HONEST,
            honest_heap,
            asks,
            now: Instant::from_millis(1),
            random: Random(wire::seed()),
            pace: Duration::from_micros(10),
            rounds: 0,
            flooded: 0,
            answers: 0,
            most_in_use: 0,
            most_neighbours: 0,
        };
        town.greet();
        town
    }

    /// The honest one is heard of in both versions, in peace.
    fn greet(&mut self) {
        let flooded = self.flooded;
        for _ in 0..2 {
            self.round(&mut |_, _| {});
        }
        self.flooded = flooded;
    }

    /// Another honest one comes instead, of whom nobody knows yet.
    fn come(&mut self, number: u8) {
        self.mac.0[5] = number;
        let addresses = (v4(number), v6(number.into()));
        let config = Config {
            seed: 3,
            ..Config::default()
        };
        self.honest = host(self.mac, addresses, &self.honest_heap, config);
        self.asks = [IpAddr::from(addresses.0), addresses.1.into()].map(|address| {
            let local = SocketAddr::new(address, 1000);
            self.honest.udp_bound(local).unwrap()
        });
        self.greet();
    }

    /// What the stack may ever hold: everything that waits in a table, once what is to be sent was taken.
    fn bound(&self) -> usize {
        let config = self.stack.config();
        config.reassembly.packets_max
            + config.neighbours.waiting_max
            + config.udp.queued_max
            + config.echo.queued_max
            + config.local_max
    }

    fn receive(&mut self, bytes: &[u8]) {
        let packet = self.heap.packet(bytes).unwrap();
        self.stack.receive(self.now, 0, [packet]);
    }

    /// Takes what the flooded host sends: to the honest one what is his.
    fn deliver(&mut self) {
        while let Some(packet) = self.stack.poll_transmit(0) {
            let is_his = packet.data()[..6] == self.mac.0 || packet.data()[0] & 1 == 1;
            if is_his {
                let copy = self.honest_heap.packet(packet.data()).unwrap();
                self.honest.receive(self.now, 0, [copy]);
            }
            self.answers += u64::from(packet.data()[..6] != self.mac.0);
        }
    }

    fn measure(&mut self) {
        self.most_in_use = self.most_in_use.max(self.heap.in_use());
        self.most_neighbours = self.most_neighbours.max(self.stack.neighbours().count());
        assert!(self.heap.in_use() <= self.bound(), "{:?}", self.stack);
        assert!(self.stack.neighbours().count() <= self.stack.config().neighbours.entries_max);
    }

    fn flood(&mut self, frames: usize, flood: &mut impl FnMut(&mut Self, u64)) {
        for _ in 0..frames {
            flood(self, self.flooded);
            self.flooded += 1;
            self.now = self.now + self.pace;
        }
    }

    /// The honest one sends a datagram of three fragments, with the flood between them, and must get it back.
    fn round(&mut self, flood: &mut impl FnMut(&mut Self, u64)) {
        self.rounds += 1;
        let which = usize::from(self.rounds.is_multiple_of(2));
        let to = SocketAddr::new([IpAddr::from(v4(1)), v6(1).into()][which], 7);
        let bytes: Vec<u8> = (0..500)
            .flat_map(|at| {
                (at ^ self.rounds)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .to_be_bytes()
            })
            .collect();
        let (asks, echo) = (self.asks[which], self.echo[which]);
        self.honest.handle_timeout(self.now);
        self.honest.udp(asks).send_bytes(&bytes, to).unwrap();
        // Four times: a neighbour may have to be asked for, here and there.
        for _ in 0..4 {
            while let Some(packet) = self.honest.poll_transmit(0) {
                let frame = packet.data().to_vec();
                self.receive(&frame);
                self.deliver();
                self.flood(15, flood);
            }
            while let Some(asked) = self.stack.udp(echo).recv_from() {
                let answer = (asked.packet, asked.to, asked.from);
                self.stack
                    .udp(echo)
                    .send_from(answer.0, answer.1, answer.2)
                    .unwrap();
            }
            self.deliver();
        }
        let answer = self.honest.udp(asks).recv_from();
        let answer = answer.unwrap_or_else(|| {
            panic!(
                "round {} to {to} was lost: {:?} {:?}",
                self.rounds, self.stack, self.honest
            )
        });
        assert!(answer.packet.data() == bytes);
        assert!(self.honest.udp(asks).recv_from().is_none());
    }

    fn run(&mut self, name: &str, frames: u64, mut flood: impl FnMut(&mut Self, u64)) {
        while self.flooded < frames {
            self.flood(100, &mut flood);
            self.measure();
            if let Some(due) = self.stack.next_timeout()
                && due <= self.now
            {
                self.stack.handle_timeout(self.now);
            }
            self.deliver();
            self.round(&mut flood);
            self.measure();
        }
        println!(
            "{name}: {} frames of flood, {} answers; {} echoes, none lost; at most {} packets of {}, {} neighbours, {} displaced\n  {:?}\n  {:?}",
            self.flooded,
            self.answers,
            self.rounds,
            self.most_in_use,
            self.bound(),
            self.most_neighbours,
            self.stack.neighbours_displaced(),
            self.stack.traffic(),
            self.stack.drops(),
        );
    }

    /// Waits until everything was given up, and looks whether all memory is back.
    fn end(mut self) {
        self.now = self.now + Duration::from_secs(120);
        self.stack.handle_timeout(self.now);
        self.deliver();
        for _ in 0..10 {
            self.now = self.now + Duration::from_secs(2);
            self.stack.handle_timeout(self.now);
            self.deliver();
        }
        assert_eq!(self.heap.in_use(), 0, "{:?}", self.stack);
    }

    fn dropped(&self, reason: Reason) -> u64 {
        self.stack.drops().of(reason)
    }
}

#[test]
fn questions_of_a_hundred_thousand_neighbours() {
    let mut town = Town::new();
    town.run("ARP requests, solicitations", 100_000, |town, number| {
        let mac = town.random.mac();
        let question = if number.is_multiple_of(2) {
            wire::arp_request(mac, anybody_v4(&mut town.random), v4(1))
        } else {
            wire::solicit(mac, anybody_v6(&mut town.random), v6(1))
        };
        town.receive(&question);
    });
    let max = town.stack.config().neighbours.entries_max;
    assert_eq!(town.most_neighbours, max);
    // Each question is answered once; nobody is asked for, as they said where they are.
    let most = town.flooded + 4;
    assert!(
        town.answers > town.flooded - 16 && town.answers <= most,
        "{} answers to {} questions: {:?}",
        town.answers,
        town.flooded,
        town.stack
    );
    assert_eq!(town.dropped(Reason::NeighbourTableFull), 0);
    // And who comes only now is heard.
    town.come(3);
    town.end();
}

#[test]
fn questions_for_others() {
    let mut town = Town::new();
    town.run("questions for others", 50_000, |town, number| {
        let mac = town.random.mac();
        let question = if number.is_multiple_of(2) {
            let (sender, target) = (anybody_v4(&mut town.random), anybody_v4(&mut town.random));
            wire::arp_request(mac, sender, target)
        } else {
            let (source, target) = (anybody_v6(&mut town.random), anybody_v6(&mut town.random));
            wire::solicit(mac, source, target)
        };
        town.receive(&question);
    });
    // Nobody was learnt, nobody answered, but for the honest one.
    assert!(town.most_neighbours <= 2, "{}", town.most_neighbours);
    assert!(town.answers <= 4, "{}", town.answers);
    town.end();
}

/// A piece of a datagram that is never whole, from one of these.
fn piece(source: (Ipv4Addr, Ipv6Addr), number: u64, offset: u16, data: &[u8]) -> Vec<u8> {
    let id = u32::try_from(number & 0xffff_ffff).unwrap();
    if number.is_multiple_of(2) {
        let id = u16::try_from(id & 0xffff).unwrap();
        let packet = wire::ipv4((source.0, v4(1)), 17, (id, offset, true), data);
        wire::frame(Mac([6; 6]), OURS, 0x0800, &packet)
    } else {
        let packet = wire::ipv6_piece((source.1, v6(1)), 17, (id, offset, true), data);
        wire::frame(Mac([6; 6]), OURS, 0x86dd, &packet)
    }
}

#[test]
fn pieces_of_one_who_never_sends_the_rest() {
    let mut town = Town::new();
    town.run("pieces from one source", 100_000, |town, number| {
        town.receive(&piece((v4(66), v6(66)), number, 0, &[7; 1400]));
    });
    assert!(town.dropped(Reason::FragmentEvicted) > 90_000);
    // His share, and the three of who is honest.
    let config = town.stack.config().reassembly;
    assert!(town.most_in_use <= 2 * config.per_source_max + 16);
    town.end();
}

#[test]
fn pieces_of_many_who_never_send_the_rest() {
    let mut town = Town::new();
    town.run("pieces from many sources", 100_000, |town, number| {
        let source = (anybody_v4(&mut town.random), anybody_v6(&mut town.random));
        town.receive(&piece(source, number, 0, &[7; 1400]));
    });
    assert!(town.dropped(Reason::FragmentEvicted) > 90_000);
    assert!(town.most_in_use <= town.stack.config().reassembly.datagrams_max + 16);
    town.end();
}

#[test]
fn small_pieces_with_holes_between_them() {
    let mut town = Town::new();
    town.run("small pieces with holes", 100_000, |town, number| {
        // Eight bytes, and none of the next eight: no two can be joined.
        let offset = u16::try_from(number / 2 % 4000).unwrap() * 16;
        town.receive(&piece(
            (v4(66), v6(66)),
            number / 8000 * 2 + number % 2,
            offset,
            &[7; 8],
        ));
    });
    assert!(town.dropped(Reason::FragmentLimit) > 50_000);
    town.end();
}

#[test]
fn pieces_that_overlap() {
    let mut town = Town::new();
    town.run("overlapping pieces", 100_000, |town, number| {
        let offset = u16::try_from(town.random.below(100)).unwrap() * 8;
        town.receive(&piece(
            (v4(66), v6(66)),
            number / 4 * 2 + number % 2,
            offset,
            &[7; 800],
        ));
    });
    assert!(town.dropped(Reason::FragmentOverlap) > 10_000);
    town.end();
}

#[test]
fn packets_to_ten_thousand_who_never_answer() {
    let mut town = Town::new();
    let sockets = [
        town.stack
            .udp_bound(SocketAddr::new(v4(1).into(), 99))
            .unwrap(),
        town.stack
            .udp_bound(SocketAddr::new(v6(1).into(), 99))
            .unwrap(),
    ];
    town.run("silent neighbours", 20_000, |town, number| {
        let low = u16::try_from(number / 2 % 10_000).unwrap();
        let to: IpAddr = if number.is_multiple_of(2) {
            let [high, low] = low.to_be_bytes();
            Ipv4Addr::new(10, 9, high, low).into()
        } else {
            v6(0x1000 + low).into()
        };
        let socket = sockets[usize::from(number % 2 == 1)];
        // Refused, where too many wait: that is the limit.
        let _ = town
            .stack
            .udp(socket)
            .send_bytes(&[7; 100], SocketAddr::new(to, 9));
        town.deliver();
    });
    assert!(town.dropped(Reason::NeighbourQueueFull) > 0);
    let config = town.stack.config().neighbours;
    assert!(
        town.most_in_use <= config.waiting_max + 16,
        "{}",
        town.most_in_use
    );
    town.end();
}

/// Echo requests from invented neighbours on the link, each of whom would have to be asked for.
#[test]
fn pings_of_neighbours_who_are_not_there() {
    let mut town = Town::new();
    town.run("pings from nowhere", 50_000, |town, number| {
        let frame = if number.is_multiple_of(2) {
            let from = anybody_v4(&mut town.random);
            let packet = wire::icmp((from.into(), v4(1).into()), &[8, 0, 0, 0, 0, 0, 0, 0, 7, 7]);
            wire::frame(Mac([6; 6]), OURS, 0x0800, &packet)
        } else {
            let from = anybody_v6(&mut town.random);
            let message = [128, 0, 0, 0, 0, 0, 0, 0, 7, 7];
            let packet = wire::icmp((from.into(), v6(1).into()), &message);
            wire::frame(Mac([6; 6]), OURS, 0x86dd, &packet)
        };
        town.receive(&frame);
        town.deliver();
    });
    let config = town.stack.config().neighbours;
    assert!(
        town.most_in_use <= config.waiting_max + 16,
        "{}",
        town.most_in_use
    );
    // Each is asked for as often as the configuration says, at most.
    let most = town.flooded * u64::from(config.probes_max);
    assert!(town.answers <= most, "{}", town.answers);
    town.end();
}

/// Somebody on the link says that he is there, and then wants something that is answered: every other one a ping, or what the
/// application sends back. Nobody answers when he is asked in turn.
fn strangers(town: &mut Town, number: u64, application_too: bool) {
    let (mac, from) = (town.random.mac(), anybody_v4(&mut town.random));
    town.receive(&wire::arp_request(mac, from, v4(1)));
    let (from, to) = (from.into(), v4(1).into());
    let packet = if application_too && number.is_multiple_of(2) {
        wire::udp((from, to), (9, 7), &[7; 100])
    } else {
        wire::icmp((from, to), &[8, 0, 0, 0, 0, 0, 0, 0, 7, 7])
    };
    town.receive(&wire::frame(mac, OURS, 0x0800, &packet));
    for echo in town.echo {
        while let Some(asked) = town.stack.udp(echo).recv_from() {
            let sent = town
                .stack
                .udp(echo)
                .send_from(asked.packet, asked.to, asked.from);
            sent.unwrap();
        }
    }
    if let Some(due) = town.stack.next_timeout()
        && due <= town.now
    {
        town.stack.handle_timeout(town.now);
    }
    town.deliver();
}

#[test]
fn strangers_who_are_answered_keep_nobody_out() {
    for application_too in [false, true] {
        let name = ["answers to strangers", "answers of an application, too"];
        let name = name[usize::from(application_too)];
        let mut town = Town::new();
        let max = town.stack.config().neighbours.entries_max;
        let flood = |town: &mut Town, number| strangers(town, number, application_too);
        town.run(name, 20_000, flood);
        assert_eq!(town.most_neighbours, max);
        // Somebody comes while all places are taken, is heard, and is not driven out.
        let displaced = town.stack.neighbours_displaced();
        town.come(3);
        town.run(name, 40_000, flood);
        let known = |town: &Town, address: IpAddr| {
            let mut all = town.stack.neighbours();
            // Who had to make room once was asked for at once, and has proven since then to be there.
            all.any(|one| one.address == address && one.ours && (one.proven || !application_too))
        };
        for address in [IpAddr::from(v4(3)), v6(3).into()] {
            assert!(known(&town, address), "{address}: {:?}", town.stack);
        }
        assert!(town.stack.neighbours_displaced() > displaced);
        town.end();
    }
}

/// So slow that everybody is asked again, and so long that an answer is no longer believed: who is there is asked once in a while,
/// and is known all the time.
#[test]
fn strangers_who_go_on_for_minutes_keep_nobody_out() {
    let mut town = Town::new();
    town.pace = Duration::from_millis(1);
    let max = town.stack.config().neighbours.entries_max;
    town.run("answers for minutes", 60_000, |town, number| {
        strangers(town, number, true);
        let honest = [IpAddr::from(v4(2)), v6(2).into()];
        let known = town.stack.neighbours().filter(|neighbour| {
            honest.contains(&neighbour.address) && neighbour.proven && neighbour.mac.is_some()
        });
        // At first they are as new as the others.
        let is_early = town.now.since(Instant::ZERO) < Duration::from_secs(10);
        let looks = !is_early && number.is_multiple_of(97);
        assert!(!looks || known.count() == 2, "{:?}", town.stack);
    });
    assert!(town.now.since(Instant::ZERO) > Duration::from_secs(60));
    assert_eq!(town.most_neighbours, max);
    town.come(3);
    town.end();
}

#[test]
fn sockets_that_nobody_reads() {
    let mut town = Town::new();
    // More of them than their queues together may hold.
    let sockets: Vec<UdpId> = (0..20)
        .map(|port| {
            let local = SocketAddr::new(v4(1).into(), 100 + port);
            town.stack.udp_bound(local).unwrap()
        })
        .collect();
    let config = town.stack.config().udp;
    town.run("unread sockets, one", 10_000, |town, _| {
        let packet = wire::udp((v4(66).into(), v4(1).into()), (9, 100), &[7; 100]);
        town.receive(&wire::frame(Mac([6; 6]), OURS, 0x0800, &packet));
    });
    assert_eq!(
        town.stack.udp(sockets[0]).queued().unwrap(),
        config.queue_max
    );
    let full = town.dropped(Reason::UdpQueueFull);
    assert_eq!(full, town.flooded - u64::from(config.queue_max));
    assert!(town.most_in_use <= config.queue_max as usize + 16);
    // Seven sockets, so that there is room for who is read.
    town.run("unread sockets, seven", 50_000, |town, number| {
        let port = 100 + u16::try_from(number % 7).unwrap();
        let packet = wire::udp((v4(66).into(), v4(1).into()), (9, port), &[7; 100]);
        town.receive(&wire::frame(Mac([6; 6]), OURS, 0x0800, &packet));
    });
    assert!(town.most_in_use <= config.queued_max);
    for socket in sockets {
        town.stack.udp(socket).close().unwrap();
    }
    assert_eq!(
        town.dropped(Reason::UdpClosed),
        7 * u64::from(config.queue_max)
    );
    town.end();
}

/// Together all queues have a limit, too: what is over it is dropped, and goes on when somebody reads.
#[test]
fn queues_of_all_sockets_have_a_limit_together() {
    let mut town = Town::new();
    let config = town.stack.config().udp;
    let count = u16::try_from(config.queued_max / config.queue_max as usize + 4).unwrap();
    let sockets: Vec<UdpId> = (0..count)
        .map(|port| {
            let local = SocketAddr::new(v4(1).into(), 100 + port);
            town.stack.udp_bound(local).unwrap()
        })
        .collect();
    for number in 0..20_000 {
        let packet = wire::udp(
            (v4(66).into(), v4(1).into()),
            (9, 100 + number % count),
            &[7; 100],
        );
        town.receive(&wire::frame(Mac([6; 6]), OURS, 0x0800, &packet));
        town.measure();
    }
    assert_eq!(town.heap.in_use(), config.queued_max);
    println!("all queues full: {:?}", town.stack.drops());
    while town.stack.udp(sockets[0]).recv_from().is_some() {}
    // One reads, and there is room again.
    town.round(&mut |_, _| {});
    for socket in sockets {
        town.stack.udp(socket).close().unwrap();
    }
    town.end();
}

#[test]
fn all_sockets_open() {
    let mut town = Town::new();
    let max = town.stack.config().udp.sockets_max;
    let mut sockets = Vec::new();
    loop {
        let port = 10_000 + u16::try_from(sockets.len()).unwrap();
        match town.stack.udp_bound(SocketAddr::new(v6(1).into(), port)) {
            Ok(socket) => sockets.push(socket),
            Err(error) => {
                assert!(matches!(error, Error::Full { .. }), "{error}");
                break;
            }
        }
    }
    assert_eq!(sockets.len() + 2, max);
    town.run("all sockets open", 20_000, |town, number| {
        let port = 10_000 + u16::try_from(number % 1022).unwrap();
        let packet = wire::udp((v6(66).into(), v6(1).into()), (9, port), &[7; 100]);
        town.receive(&wire::frame(Mac([6; 6]), OURS, 0x86dd, &packet));
        if number.is_multiple_of(10) {
            while let Some(ready) = town.stack.poll_ready() {
                // One datagram each, as there is no more than one.
                if !town.echo.contains(&ready) {
                    let _ = town.stack.udp(ready).recv_from();
                }
            }
        }
    });
    for socket in sockets {
        town.stack.udp(socket).close().unwrap();
    }
    town.stack.udp_v4().unwrap();
    town.end();
}

#[test]
fn errors_are_sent_at_their_rate() {
    let mut town = Town::new();
    let start = town.now;
    town.run("provoked errors", 200_000, |town, number| {
        let frame = match number % 4 {
            0 => {
                let packet = wire::udp((v4(66).into(), v4(1).into()), (9, 9), b"?");
                wire::frame(Mac([6; 6]), OURS, 0x0800, &packet)
            }
            1 => {
                let packet = wire::udp((v6(66).into(), v6(1).into()), (9, 9), b"?");
                wire::frame(Mac([6; 6]), OURS, 0x86dd, &packet)
            }
            2 => {
                let packet = wire::ipv4((v4(66), v4(1)), 99, (0, 0, false), b"????????");
                wire::frame(Mac([6; 6]), OURS, 0x0800, &packet)
            }
            _ => {
                // An option that nobody knows, whose number says to complain.
                let options = [59, 0, 0x80 | 0x1e, 4, 0, 0, 0, 0];
                let packet = wire::ipv6((v6(66), v6(1)), 60, 64, &options);
                wire::frame(Mac([6; 6]), OURS, 0x86dd, &packet)
            }
        };
        town.receive(&frame);
    });
    let config = town.stack.config().icmp;
    let rate = u128::from(config.errors_per_second);
    let most = rate * town.now.since(start).as_micros() / 1_000_000 + 1;
    let most = u64::try_from(most).unwrap() + u64::from(config.errors_burst);
    let sent = town.stack.traffic().errors_sent;
    assert!(sent <= most && sent > most / 2, "{sent} of {most}");
    town.end();
}

#[test]
fn echoes_are_sent_at_their_rate() {
    let mut config = Config::default();
    (config.icmp.echoes_per_second, config.icmp.echoes_burst) = (1000, 10);
    let mut town = Town::with(config);
    let start = town.now;
    town.run("pings", 100_000, |town, number| {
        let [.., high, low] = number.to_be_bytes();
        let message = [8, 0, 0, 0, 0, 0, high, low, 7, 7];
        let packet = wire::icmp((v4(66).into(), v4(1).into()), &message);
        town.receive(&wire::frame(Mac([6; 6]), OURS, 0x0800, &packet));
    });
    let most = town.now.since(start).as_millis() + 11;
    let sent = u128::from(town.stack.traffic().echoes);
    assert!(sent <= most && sent > most / 2, "{sent} of {most}");
    assert!(town.dropped(Reason::IcmpRate) > 90_000);
    town.end();
}

/// Somebody who knows our identifiers, or tries all, sends replies that nobody reads.
#[test]
fn replies_that_nobody_asked_for() {
    let mut town = Town::new();
    let config = town.stack.config().echo;
    // More of them than their queues together may hold.
    let sockets: Vec<_> = (0..10)
        .map(|_| town.stack.echo_bound(v4(1).into(), 0).unwrap())
        .collect();
    let idents: Vec<u16> = town.stack.echo_sockets().map(|info| info.ident).collect();
    let reply = |ident: u16| {
        let [high, low] = ident.to_be_bytes();
        let mut message = [&[0, 0, 0, 0, high, low, 0, 1][..], &[7; 100]].concat();
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let packet = wire::ipv4((v4(66), v4(1)), 1, (0, 0, false), &message);
        wire::frame(Mac([6; 6]), OURS, 0x0800, &packet)
    };
    town.run("replies to all identifiers", 70_000, |town, number| {
        let [.., high, low] = number.to_be_bytes();
        town.receive(&reply(u16::from_be_bytes([high, low])));
    });
    assert!(town.dropped(Reason::IcmpUnrelated) > town.flooded - 30);
    town.run("replies to ours", 120_000, |town, number| {
        let place = usize::try_from(number % 10).unwrap();
        town.receive(&reply(idents[place]));
    });
    assert!(town.most_in_use <= config.queued_max + 16);
    assert!(town.dropped(Reason::EchoQueueFull) > 48_000);
    for socket in sockets {
        town.stack.echo(socket).close().unwrap();
    }
    let closed = town.dropped(Reason::EchoClosed);
    assert_eq!(closed, config.queued_max as u64);
    town.end();
}

#[test]
fn routers_that_nobody_asked_for() {
    let mut town = Town::new();
    town.stack.enable_autoconf(LINK).unwrap();
    town.run("router advertisements", 20_000, |town, _| {
        let [a, b, c, d, ..] = town.random.next().to_be_bytes();
        let word = |high, low| u16::from_be_bytes([high, low]);
        let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 1, 1, word(a, b), word(c, d));
        let prefix = Ipv6Addr::new(0x2001, 0xdb8, word(a, b), word(c, d), 0, 0, 0, 0);
        let mac = town.random.mac();
        town.receive(&wire::advertise_router(mac, router, prefix));
        let config = town.stack.config();
        assert!(town.stack.addresses().count() <= config.addresses.addresses_max);
        assert!(town.stack.routes().count() <= config.routes_max);
    });
    let (addresses, routes) = (town.stack.addresses().count(), town.stack.routes().count());
    let (routers, config) = (town.stack.routers().count(), town.stack.config());
    println!("  {addresses} addresses, {routes} routes, {routers} routers");
    // They were heard, or this would say nothing: as many as there is room for, and no more.
    assert_eq!(routers, config.autoconf.routers_max);
    assert!(addresses > 3 && addresses <= config.addresses.addresses_max_each);
    let most = 3 + config.autoconf.routers_max + config.autoconf.prefixes_max;
    assert!(routes > 3 && routes <= most, "{routes} of {most}");
    assert!(town.dropped(Reason::NdpIgnored) < town.flooded);
    town.end();
}

#[test]
fn small_paths_that_others_invent() {
    let mut town = Town::new();
    town.run("forged packet too big", 50_000, |town, _| {
        let to = anybody_v6(&mut town.random);
        let mut message = vec![2, 0, 0, 0, 0, 0, 5, 0];
        let quoted = wire::udp((v6(1).into(), to.into()), (7, 9), &[7; 100]);
        message.extend(quoted);
        let packet = wire::icmp((v6(66).into(), v6(1).into()), &message);
        town.receive(&wire::frame(Mac([6; 6]), OURS, 0x86dd, &packet));
    });
    assert_eq!(town.stack.traffic().errors_received, town.flooded);
    town.end();
}
