//! Echo sockets: RFC 1122 section 3.2.2.6, RFC 4443 sections 4.1 and 4.2.

use super::*;
use crate::echo::{EchoInfo, Failure, Why};

/// Protocol, request, reply.
const fn kinds(address: IpAddr) -> (u8, u8, u8) {
    match address {
        IpAddr::V4(_) => (ICMPV4, 8, 0),
        IpAddr::V6(_) => (ICMPV6, 128, 129),
    }
}

const fn data_max(address: IpAddr) -> usize {
    if address.is_ipv4() { 65_507 } else { 65_527 }
}

fn opened(stack: &mut Stack<Heap>, version: IpAddr) -> EchoId {
    if version.is_ipv4() {
        stack.echo_v4().unwrap()
    } else {
        stack.echo_v6().unwrap()
    }
}

/// Identifier, sequence number and data of a reply from us, with the headers of an echo.
fn reply((from, to): (IpAddr, IpAddr), ident: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
    let (protocol, _, kind) = kinds(to);
    let rest = [&ident.to_be_bytes()[..], &sequence.to_be_bytes(), data].concat();
    ip(from, to, protocol, &icmp(from, to, kind, 0, &rest))
}

/// An ICMP error of `by` about a packet of the host.
fn error(by: IpAddr, about: &[u8], (kind, code, rest): (u8, u8, u32)) -> Vec<u8> {
    let to = v4(0);
    let to = if by.is_ipv4() { to } else { v6(0) };
    let quote = &about[..about.len().min(500)];
    let data = [&rest.to_be_bytes()[..], quote].concat();
    framed(
        US,
        &ip(by, to, kinds(to).0, &icmp(by, to, kind, code, &data)),
    )
}

impl Host {
    fn pinger(&mut self, version: IpAddr) -> (EchoId, u16) {
        let socket = opened(&mut self.stack, version);
        (socket, self.stack.echo(socket).ident().unwrap())
    }

    /// The IP packet of a request.
    fn asks(&mut self, socket: EchoId, to: IpAddr, sequence: u16, data: &[u8]) -> Vec<u8> {
        let sent = self.stack.echo(socket).send_bytes(data, to, sequence);
        sent.unwrap();
        let mut frames = self.sent();
        assert_eq!(frames.len(), 1);
        frames.remove(0).split_off(14)
    }

    fn failure(&mut self, socket: EchoId) -> Option<Failure> {
        self.stack.echo(socket).take_error().unwrap()
    }

    fn info(&self) -> EchoInfo {
        self.stack.echo_sockets().next().unwrap()
    }
}

#[test]
fn questions_of_all_sizes_are_answered_by_another_stack() {
    let mut pair = Pair::new();
    for address in BOTH {
        let socket = opened(&mut pair.hosts[0], address(0));
        let (to, max) = (address(1), data_max(address(0)));
        let lens = [0, 1, 7, 56, 1452, 1453, 1472, 1473, 3000, 9000, 65_507, max];
        for (sequence, len) in (65_530..=u16::MAX).chain(0..).zip(lens) {
            let data = pattern(len, 7);
            let mut echo = pair.hosts[0].echo(socket);
            echo.set_traffic_class(0xb8).unwrap();
            echo.send_bytes(&data, to, sequence).unwrap();
            pair.carry();
            let reply = pair.hosts[0].echo(socket).recv();
            let reply = reply.unwrap_or_else(|| panic!("{len}: {:?}", pair.hosts));
            assert!(reply.packet.data() == data, "{len} bytes");
            assert_eq!((reply.from, reply.to), (to, address(0)));
            assert_eq!((reply.sequence, reply.hop_limit), (sequence, 64));
            assert_eq!((reply.traffic_class, reply.interface), (0xb8, LINK));
        }
        let mut echo = pair.hosts[0].echo(socket);
        assert!(echo.recv().is_none());
        assert_eq!(echo.take_error(), Ok(None));
        let long = echo.send_bytes(&vec![0; max + 1], to, 0);
        assert_eq!(long, Err(Error::TooLong { len: max + 1, max }));
    }
    assert_eq!(pair.hosts[1].traffic().echoes, 24);
    assert_eq!(pair.heap.in_use(), 0);
    let dropped = pair.hosts.iter().map(|host| host.drops().total());
    assert_eq!(dropped.sum::<u64>(), 0, "{:?}", pair.hosts);
}

#[test]
fn both_ask_at_once_and_each_gets_its_own() {
    let mut pair = Pair::new();
    for address in BOTH {
        let sockets = [0, 1].map(|host: usize| opened(&mut pair.hosts[host], address(0)));
        for sequence in 0..60 {
            for (host, socket) in sockets.into_iter().enumerate() {
                let data = [u8::try_from(host).unwrap(); 40];
                let mut echo = pair.hosts[host].echo(socket);
                echo.send_bytes(&data, address(1 - host), sequence).unwrap();
            }
        }
        pair.carry();
        for (host, socket) in sockets.into_iter().enumerate() {
            for sequence in 0..60 {
                let reply = pair.hosts[host].echo(socket).recv().unwrap();
                assert_eq!((reply.sequence, reply.from), (sequence, address(1 - host)));
                assert_eq!(reply.packet.data(), [u8::try_from(host).unwrap(); 40]);
            }
        }
    }
}

#[test]
fn request_is_what_the_standards_say() {
    let mut host = Host::new();
    for address in BOTH {
        let (socket, ident) = host.pinger(address(0));
        let (protocol, kind, _) = kinds(address(0));
        for len in [0, 1, 56, 1401] {
            let data = pattern(len, 3);
            let request = host.asks(socket, address(1), 0x0203, &data);
            // Its checksum is looked at there.
            let sent = seen(&framed(US, &request));
            assert_eq!((sent.source, sent.destination), (address(0), address(1)));
            assert_eq!((sent.protocol, sent.hop_limit), (protocol, 64));
            assert_eq!(sent.data[..2], [kind, 0]);
            assert_eq!(
                sent.data[4..8],
                [&ident.to_be_bytes()[..], &[2, 3]].concat()
            );
            assert_eq!(sent.data[8..], data);
        }
        let mut echo = host.stack.echo(socket);
        echo.set_hop_limit(Some(3)).unwrap();
        echo.set_traffic_class(0x28).unwrap();
        let request = host.asks(socket, address(1), 1, b"x");
        assert_eq!(seen(&framed(US, &request)).hop_limit, 3);
        let class = if address(0).is_ipv4() {
            request[1]
        } else {
            request[0] << 4 | request[1] >> 4
        };
        assert_eq!(class, 0x28);
    }
}

#[test]
fn checksum_is_never_left_to_the_device() {
    let mut interface = InterfaceConfig::new(0, US);
    interface.offloads = Offloads {
        ip_checksum: false,
        l4_checksum: true,
    };
    let mut host = Host::on(interface, Config::default());
    for address in BOTH {
        let (socket, _) = host.pinger(address(0));
        let request = host.asks(socket, address(1), 1, &pattern(99, 5));
        seen(&framed(US, &request));
    }
}

#[test]
fn identifiers_are_unique_in_their_version_and_not_to_be_foreseen() {
    let config = |seed| {
        let mut config = Config {
            seed,
            ..Config::default()
        };
        config.echo.sockets_max = 1000;
        config
    };
    let chosen = |seed| {
        let mut stack = Stack::new(config(seed), Heap::new(1));
        let idents = (0..500).map(|_| {
            let id = stack.echo_v4().unwrap();
            stack.echo(id).ident().unwrap()
        });
        idents.collect::<Vec<_>>()
    };
    let (ours, theirs) = (chosen(1), chosen(2));
    let unique: std::collections::BTreeSet<_> = ours.iter().collect();
    assert!(unique.len() == 500 && !unique.contains(&0));
    let near = ours
        .windows(2)
        .filter(|pair| pair[0].abs_diff(pair[1]) < 100);
    assert!(near.count() < 20, "{ours:?}");
    let same = ours.iter().zip(&theirs).filter(|(a, b)| a == b);
    assert!(same.count() < 3);
}

#[test]
fn identifier_that_is_taken_is_refused_until_it_is_free() {
    let mut host = Host::new();
    let (any, any_v6) = (IpAddr::from([0; 4]), IpAddr::from([0_u16; 8]));
    let first = host.stack.echo_bound(any, 77).unwrap();
    let again = host.stack.echo_bound(v4(0), 77);
    assert_eq!(again, Err(Error::IdentInUse(77)));
    // Of the other version it is another one.
    let other = host.stack.echo_bound(any_v6, 77).unwrap();
    assert_eq!(host.stack.echo(other).ident(), Ok(77));
    let nobody = IpAddr::from([10, 0, 0, 9]);
    let bound = host.stack.echo_bound(nobody, 78);
    assert_eq!(bound, Err(Error::NoAddress(nobody)));
    host.stack.echo(first).close().unwrap();
    let second = host.stack.echo_bound(v4(0), 77).unwrap();
    assert_ne!(first, second);
    assert_eq!(host.stack.echo(first).ident(), Err(Error::NoSocket));
    assert_eq!(host.info().ident, 77);
}

#[test]
fn every_identifier_can_be_had() {
    let mut config = Config::default();
    (config.echo.sockets_max, config.echo.queue_max) = (100_000, 0);
    config.echo.failures_max = 0;
    let mut stack = Stack::new(config, Heap::new(1));
    for _ in 0..65_534 {
        stack.echo_v4().unwrap();
    }
    let full = stack.echo_v4().unwrap_err().to_string();
    assert!(full.contains("65534 echo sockets"), "{full}");
    assert!(full.contains("`echo.sockets_max`"), "{full}");
}

#[test]
fn replies_that_no_socket_waits_for_are_unrelated() {
    for address in BOTH {
        let mut host = Host::new();
        let (socket, ident) = host.pinger(address(0));
        let ends = (address(1), address(0));
        let (protocol, _, kind) = kinds(address(0));
        // Another identifier.
        let frame = framed(US, &reply(ends, ident ^ 1, 1, b"?"));
        host.swallows(&frame, Reason::IcmpUnrelated);
        // Of the other version.
        let other = if address(0).is_ipv4() { v6 } else { v4 };
        let frame = framed(US, &reply((other(1), other(0)), ident, 1, b"?"));
        host.swallows(&frame, Reason::IcmpUnrelated);
        // A wrong checksum, or no whole header.
        let mut frame = framed(US, &reply(ends, ident, 1, b"?"));
        *frame.last_mut().unwrap() ^= 1;
        host.swallows(&frame, Reason::IcmpChecksum);
        for len in 0..8 {
            let message = &icmp(ends.0, ends.1, kind, 0, &[0; 4])[..len];
            let frame = framed(US, &ip(ends.0, ends.1, protocol, message));
            host.swallows(&frame, Reason::IcmpMalformed);
        }
        assert!(host.stack.echo(socket).recv().is_none());
        assert!(host.stack.poll_echo_ready().is_none());
    }
}

#[test]
fn reply_without_the_pseudo_header_in_its_checksum_is_wrong_over_ipv6() {
    let mut host = Host::new();
    let (_, ident) = host.pinger(v6(0));
    let mut message = [&[129, 0, 0, 0][..], &ident.to_be_bytes(), &[0, 1]].concat();
    let checksum = !sum(&message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let frame = framed(US, &ip(v6(1), v6(0), ICMPV6, &message));
    host.swallows(&frame, Reason::IcmpChecksum);
}

/// As Linux does it: who answers for a group, or for an address that leads to several, is somebody else than who was asked.
#[test]
fn reply_of_a_stranger_is_heard_and_says_whose_it_is() {
    for address in BOTH {
        let mut host = Host::new();
        let (socket, ident) = host.pinger(address(0));
        host.asks(socket, address(1), 1, b"?");
        host.hears(&framed(
            US,
            &reply((address(8), address(0)), ident, 1, b"!"),
        ));
        let reply = host.stack.echo(socket).recv().unwrap();
        assert_eq!((reply.from, reply.packet.data()), (address(8), &b"!"[..]));
    }
}

#[test]
fn socket_that_is_bound_hears_what_comes_to_its_address_alone() {
    let mut host = Host::new();
    let second = IpAddr::from([10, 0, 0, 11]);
    let added = host.stack.add_address(LINK, second, 24, Probing::None);
    added.unwrap();
    host.sent();
    let socket = host.stack.echo_bound(second, 7).unwrap();
    let request = host.asks(socket, v4(1), 1, b"?");
    assert_eq!(seen(&framed(US, &request)).source, second);
    let frame = framed(US, &reply((v4(1), v4(0)), 7, 1, b"!"));
    host.swallows(&frame, Reason::IcmpUnrelated);
    host.hears(&framed(US, &reply((v4(1), second), 7, 1, b"!")));
    assert_eq!(host.stack.echo(socket).recv().unwrap().to, second);
    // Errors about what it did not send are not its own.
    let not_ours = ip(v4(0), v4(1), ICMPV4, &[8, 0, 0, 0, 0, 7, 0, 1]);
    host.swallows(&error(v4(1), &not_ours, (3, 1, 0)), Reason::IcmpUnrelated);
    host.hears(&error(v4(1), &request, (3, 1, 0)));
    assert!(host.failure(socket).is_some());
}

#[test]
fn group_is_asked_on_the_link_and_all_answers_are_heard() {
    let mut host = Host::new();
    for (group, address) in [
        (IpAddr::from([224, 0, 0, 1]), v4 as fn(usize) -> IpAddr),
        ("ff02::1".parse().unwrap(), v6),
        (IpAddr::from([255; 4]), v4),
        (IpAddr::from([10, 0, 0, 255]), v4),
    ] {
        let (socket, ident) = host.pinger(group);
        let request = host.asks(socket, group, 1, b"all?");
        let sent = seen(&framed(US, &request));
        assert_eq!(sent.hop_limit, if group.is_multicast() { 1 } else { 64 });
        assert!(!sent.source.is_multicast() && sent.source.is_ipv4() == group.is_ipv4());
        for number in 1..4 {
            let frame = framed(US, &reply((address(number), address(0)), ident, 1, b"!"));
            host.hears(&frame);
        }
        for number in 1..4 {
            let reply = host.stack.echo(socket).recv().unwrap();
            assert_eq!(reply.from, address(number));
        }
        // But nobody answers to a group.
        let frame = framed(Mac::BROADCAST, &reply((address(1), group), ident, 1, b"!"));
        host.swallows(&frame, Reason::IcmpUnrelated);
    }
}

#[test]
fn reply_in_fragments_is_put_together_in_any_order() {
    for address in BOTH {
        let mut host = Host::new();
        let (socket, ident) = host.pinger(address(0));
        let data = pattern(4000, 11);
        let whole = reply((address(1), address(0)), ident, 5, &data);
        let header = whole.len() - 4008;
        let upper = &whole[header..];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            for number in order {
                let chunk = upper.chunks(1400).nth(number).unwrap();
                let piece = piece(
                    address(1),
                    address(0),
                    kinds(address(0)).0,
                    (9, number * 1400, number < 2),
                    chunk,
                );
                assert!(host.answers(&framed(US, &piece)).is_empty());
            }
            let reply = host.stack.echo(socket).recv().unwrap();
            assert_eq!((reply.sequence, reply.packet.len()), (5, 4000));
            assert!(reply.packet.data() == data);
        }
        assert_eq!((host.stack.drops().total(), host.heap.in_use()), (0, 0));
    }
}

#[test]
fn router_that_says_no_is_named_with_the_request() {
    let router = |address: fn(usize) -> IpAddr| address(6);
    for (address, kind, why, words) in [
        (
            v4 as fn(usize) -> IpAddr,
            (11, 0, 0),
            Why::TimeExceeded { code: 0 },
            "Time to live exceeded",
        ),
        (
            v4,
            (11, 1, 0),
            Why::TimeExceeded { code: 1 },
            "Frag reassembly time exceeded",
        ),
        (
            v4,
            (3, 0, 0),
            Why::Unreachable { code: 0 },
            "Destination Net Unreachable",
        ),
        (
            v4,
            (3, 13, 0),
            Why::Unreachable { code: 13 },
            "Packet filtered",
        ),
        (
            v4,
            (3, 2, 0),
            Why::Unreachable { code: 2 },
            "Destination Protocol Unreachable",
        ),
        (
            v4,
            (3, 4, 1300),
            Why::TooBig { mtu: 1300 },
            "Frag needed and DF set (mtu = 1300)",
        ),
        (
            v4,
            (12, 0, 20 << 24),
            Why::Parameter {
                code: 0,
                pointer: 20,
            },
            "Parameter problem: pointer = 20",
        ),
        (
            v6,
            (3, 0, 0),
            Why::TimeExceeded { code: 0 },
            "Time exceeded: Hop limit",
        ),
        (
            v6,
            (1, 0, 0),
            Why::Unreachable { code: 0 },
            "Destination unreachable: No route",
        ),
        (
            v6,
            (1, 3, 0),
            Why::Unreachable { code: 3 },
            "Destination unreachable: Address unreachable",
        ),
        (
            v6,
            (2, 0, 1280),
            Why::TooBig { mtu: 1280 },
            "Packet too big: mtu=1280",
        ),
        (
            v6,
            (4, 1, 40),
            Why::Parameter {
                code: 1,
                pointer: 40,
            },
            "Parameter problem: Unknown header at 40",
        ),
    ] {
        let mut host = Host::new();
        let (socket, _) = host.pinger(address(0));
        let requests = [10, 11].map(|number| host.asks(socket, address(1), number, &[9; 100]));
        for (request, sequence) in requests.iter().zip([10, 11]) {
            host.hears(&error(router(address), request, kind));
            let failure = host.failure(socket).unwrap();
            let expected = Failure {
                to: address(1),
                sequence,
                by: router(address),
                why,
            };
            assert_eq!(failure, expected);
            assert_eq!(failure.to_string(), words);
        }
        assert_eq!(host.failure(socket), None);
        assert_eq!(host.stack.traffic().errors_received, 2);
        // Who asks with another identifier is not us.
        let mut forged = requests[0].clone();
        let at = if address(0).is_ipv4() { 20 } else { 40 };
        forged[at + 5] ^= 1;
        let frame = error(router(address), &forged, kind);
        host.swallows(&frame, Reason::IcmpUnrelated);
        assert_eq!(host.failure(socket), None);
    }
}

#[test]
fn path_that_takes_less_has_the_next_ones_cut() {
    for (address, too_big, header) in [
        (v4 as fn(usize) -> IpAddr, (3, 4, 1300), 20),
        (v6, (2, 0, 1300), 40),
    ] {
        let mut host = Host::new();
        let (socket, ident) = host.pinger(address(0));
        let request = host.asks(socket, address(1), 1, &[1; 1400]);
        // Not by somebody who only guesses.
        let mut forged = request.clone();
        let [high, low] = (!ident).to_be_bytes();
        (forged[header + 4], forged[header + 5]) = (high, low);
        let frame = error(address(1), &forged, too_big);
        host.swallows(&frame, Reason::IcmpUnrelated);
        host.asks(socket, address(1), 1, &[1; 1400]);
        host.hears(&error(address(6), &request, too_big));
        let mut echo = host.stack.echo(socket);
        echo.send_bytes(&[1; 1400], address(1), 2).unwrap();
        let sent = host.sent();
        assert_eq!(sent.len(), 2);
        assert!(sent.iter().all(|frame| frame.len() <= 14 + 1300));
        // A request that was on its way by then is told of, too, though nothing is learned from it.
        let why = Why::TooBig { mtu: 1300 };
        assert_eq!(host.failure(socket).unwrap().why, why);
        host.hears(&error(address(6), &request, too_big));
        assert_eq!(host.failure(socket).unwrap().why, why);
        let mut echo = host.stack.echo(socket);
        echo.set_never_cut(true).unwrap();
        let to = address(1);
        let fits = 1300 - header - 8;
        let refused = echo.send_bytes(&vec![1; fits + 1], to, 3);
        assert_eq!(refused, Err(Error::PacketTooBig { to, mtu: 1300 }));
        echo.send_bytes(&vec![1; fits], to, 3).unwrap();
    }
}

#[test]
fn silent_neighbour_is_told_with_each_request() {
    let mut pair = Pair::new();
    for (to, own, words) in [
        (
            IpAddr::from([10, 0, 0, 99]),
            v4(0),
            "Destination Host Unreachable",
        ),
        (
            "fd00::99".parse().unwrap(),
            v6(0),
            "Destination unreachable: Address unreachable",
        ),
    ] {
        let socket = opened(&mut pair.hosts[0], to);
        for (sequence, len) in [(1, 56), (2, 4000)] {
            let sent = pair.hosts[0]
                .echo(socket)
                .send_bytes(&vec![1; len], to, sequence);
            sent.unwrap();
        }
        pair.pass(Duration::from_secs(10));
        for sequence in [1, 2] {
            let failure = pair.hosts[0].echo(socket).take_error().unwrap().unwrap();
            let why = Why::Silence;
            let (by, expected) = (own, failure.to_string());
            assert_eq!(
                failure,
                Failure {
                    to,
                    sequence,
                    by,
                    why
                }
            );
            assert_eq!(expected, words);
        }
        assert_eq!(pair.hosts[0].echo(socket).take_error(), Ok(None));
    }
    assert_eq!(pair.heap.in_use(), 0);
}

#[test]
fn first_requests_wait_for_the_neighbour_and_none_is_lost() {
    let mut pair = Pair::new();
    for address in BOTH {
        let socket = opened(&mut pair.hosts[0], address(0));
        for sequence in 0..10 {
            let mut echo = pair.hosts[0].echo(socket);
            echo.send_bytes(b"first", address(1), sequence).unwrap();
        }
        pair.carry();
        for sequence in 0..10 {
            let reply = pair.hosts[0].echo(socket).recv().unwrap();
            assert_eq!(reply.sequence, sequence);
        }
    }
}

#[test]
fn queues_that_are_full_drop_the_newest_and_count() {
    let mut config = Config::default();
    (config.echo.queue_max, config.echo.queued_max) = (3, 5);
    config.echo.failures_max = 2;
    let mut host = Host::with(config);
    let (a, ident) = host.pinger(v4(0));
    let (b, other) = host.pinger(v6(0));
    let frame = |ident, number| framed(US, &reply((v4(1), v4(0)), ident, number, b"!"));
    let frame_v6 = |number| framed(US, &reply((v6(1), v6(0)), other, number, b"!"));
    for number in 0..3 {
        host.hears(&frame(ident, number));
    }
    host.swallows(&frame(ident, 3), Reason::EchoQueueFull);
    // All together have room for five.
    host.hears(&frame_v6(0));
    host.hears(&frame_v6(1));
    host.swallows(&frame_v6(2), Reason::EchoQueueFull);
    let infos: Vec<_> = host.stack.echo_sockets().collect();
    assert_eq!((infos[0].queued, infos[0].dropped), (3, 1));
    assert_eq!((infos[1].queued, infos[1].dropped), (2, 1));
    assert_eq!(host.heap.in_use(), 5);
    for number in 0..3 {
        let reply = host.stack.echo(a).recv().unwrap();
        assert_eq!(reply.sequence, number);
    }
    assert!(host.stack.echo(a).recv().is_none());
    host.hears(&frame_v6(3));
    assert_eq!(host.stack.echo(b).queued(), Ok(3));
    let request = host.asks(a, v4(1), 1, b"?");
    for _ in 0..2 {
        host.hears(&error(v4(6), &request, (11, 0, 0)));
    }
    let frame = error(v4(6), &request, (11, 0, 0));
    host.swallows(&frame, Reason::EchoQueueFull);
    assert_eq!(host.info().dropped, 2);
}

#[test]
fn flood_of_replies_to_a_known_identifier_is_bounded() {
    let mut host = Host::new();
    let limits = host.stack.config().echo;
    let sockets: Vec<_> = BOTH
        .iter()
        .cycle()
        .take(limits.sockets_max)
        .map(|address| (host.pinger(address(0)).1, address))
        .collect();
    let full = host.stack.echo_v4().unwrap_err();
    let key = "echo.sockets_max";
    assert!(matches!(full, Error::Full { key: of, .. } if of == key));
    for number in 0..300 {
        for (ident, address) in &sockets {
            let packet = reply((address(1), address(0)), *ident, number, &[0; 50]);
            host.hears(&framed(US, &packet));
        }
    }
    let held = limits.queued_max;
    assert_eq!(host.heap.in_use(), held);
    let dropped = host.stack.drops().of(Reason::EchoQueueFull);
    assert_eq!(dropped, (300 * limits.sockets_max - held) as u64);
}

#[test]
fn socket_that_is_closed_drops_what_nobody_read_and_hears_no_more() {
    for address in BOTH {
        let mut host = Host::new();
        let (socket, ident) = host.pinger(address(0));
        let request = host.asks(socket, address(1), 1, b"?");
        let frame = framed(US, &reply((address(1), address(0)), ident, 1, b"!"));
        host.hears(&frame);
        host.hears(&frame);
        host.stack.echo(socket).close().unwrap();
        assert_eq!(host.stack.drops().of(Reason::EchoClosed), 2);
        assert_eq!(host.heap.in_use(), 0);
        assert!(host.stack.poll_echo_ready().is_none());
        host.swallows(&frame, Reason::IcmpUnrelated);
        let unreachable = if address(0).is_ipv4() {
            (3, 1, 0)
        } else {
            (1, 3, 0)
        };
        let frame = error(address(6), &request, unreachable);
        host.swallows(&frame, Reason::IcmpUnrelated);
        let mut echo = host.stack.echo(socket);
        assert!(echo.recv().is_none());
        assert_eq!(echo.take_error(), Err(Error::NoSocket));
        assert_eq!(echo.set_hop_limit(None), Err(Error::NoSocket));
        let sent = echo.send_bytes(b"?", address(1), 2);
        assert_eq!(sent, Err(Error::NoSocket));
        assert_eq!(echo.close(), Err(Error::NoSocket));
        assert_eq!(host.stack.echo_sockets().count(), 0);
    }
}

#[test]
fn ready_sockets_are_named_once() {
    let mut host = Host::new();
    let (socket, ident) = host.pinger(v4(0));
    let request = host.asks(socket, v4(1), 1, b"?");
    assert_eq!(host.stack.poll_echo_ready(), None);
    let frame = framed(US, &reply((v4(1), v4(0)), ident, 1, b"!"));
    host.hears(&frame);
    host.hears(&frame);
    assert_eq!(host.stack.poll_echo_ready(), Some(socket));
    assert_eq!(host.stack.poll_echo_ready(), None);
    host.hears(&frame);
    assert_eq!(host.stack.poll_echo_ready(), None);
    // A failure is news, though replies wait.
    host.hears(&error(v4(6), &request, (11, 0, 0)));
    assert_eq!(host.stack.poll_echo_ready(), Some(socket));
    while host.stack.echo(socket).recv().is_some() {}
    host.hears(&frame);
    assert_eq!(host.stack.poll_echo_ready(), Some(socket));
}

#[test]
fn what_cannot_be_sent_is_refused_and_kept() {
    let config = Config {
        transmit_max: 2,
        ..Config::default()
    };
    let mut host = Host::with(config);
    let socket = host.stack.echo_v4().unwrap();
    let packet = |host: &Host| host.heap.packet(b"kept").unwrap();
    let refuse = |host: &mut Host, to: IpAddr, error: Error| {
        let packet = packet(host);
        let unsent = host.stack.echo(socket).send_to(packet, to, 1).unwrap_err();
        assert_eq!(unsent.error, error);
        assert_eq!(unsent.packet.unwrap().data(), b"kept");
    };
    let far = IpAddr::from([192, 0, 2, 1]);
    refuse(&mut host, far, Error::NoRoute(far));
    refuse(&mut host, v6(1), Error::OtherVersion(v6(1)));
    for number in 0..2 {
        let packet = packet(&host);
        let sent = host.stack.echo(socket).send_to(packet, v4(1), number);
        sent.map_err(|unsent| unsent.error).unwrap();
    }
    refuse(&mut host, v4(1), Error::WouldBlock);
    assert_eq!(host.stack.drops().total(), 0, "refused is not dropped");
    assert_eq!(host.sent().len(), 2);
}

#[test]
fn we_answer_ourselves() {
    let mut pair = Pair::new();
    for address in BOTH {
        let socket = opened(&mut pair.hosts[0], address(0));
        for len in [0, 56, 60_000] {
            let data = pattern(len, 3);
            let mut echo = pair.hosts[0].echo(socket);
            echo.send_bytes(&data, address(0), 1).unwrap();
            let now = pair.now;
            for _ in 0..2 {
                assert_eq!(pair.hosts[0].next_timeout(), Some(now));
                pair.hosts[0].handle_timeout(now);
            }
            let reply = pair.hosts[0].echo(socket).recv().unwrap();
            assert_eq!((reply.from, reply.to), (address(0), address(0)));
            assert!(reply.packet.data() == data);
        }
    }
    // Besides these there is what every host says to its link.
    pair.carry();
    assert_eq!(pair.heap.in_use(), 0);
}
