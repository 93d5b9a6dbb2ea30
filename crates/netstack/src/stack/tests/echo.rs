//! Echo of both versions: RFC 1122 section 3.2.2.6, RFC 4443 section 4.2.

use super::*;

/// Protocol, request, reply.
const fn kinds(address: IpAddr) -> (u8, u8, u8) {
    match address {
        IpAddr::V4(_) => (ICMPV4, 8, 0),
        IpAddr::V6(_) => (ICMPV6, 128, 129),
    }
}

fn request(from: IpAddr, to: IpAddr, data: &[u8]) -> Vec<u8> {
    let (protocol, kind, _) = kinds(to);
    let message = icmp(from, to, kind, 0, &[&[0x12, 0x34, 0, 1], data].concat());
    ip(from, to, protocol, &message)
}

#[test]
fn requests_of_all_sizes_are_answered_with_their_data() {
    let mut host = Host::new();
    for address in BOTH {
        for len in [0, 1, 7, 56, 1000, 1451, 1452] {
            let data: Vec<u8> = pattern(len, 13);
            let frame = framed(US, &request(address(1), address(0), &data));
            let reply = seen(&host.answer(&frame));
            let (protocol, _, kind) = kinds(address(0));
            assert_eq!(
                (reply.to_mac, reply.hop_limit, reply.protocol),
                (THEM, 64, protocol)
            );
            assert_eq!((reply.source, reply.destination), (address(0), address(1)));
            assert_eq!(reply.data[..2], [kind, 0]);
            assert_eq!(reply.data[4..], [&[0x12, 0x34, 0, 1][..], &data].concat());
        }
    }
    assert_eq!(host.stack.traffic().echoes, 14);
    assert_eq!(host.heap.in_use(), 0);
}

#[test]
fn request_in_fragments_is_answered_in_fragments() {
    let mut host = Host::new();
    for address in BOTH {
        let whole = request(address(1), address(0), &[9; 4000]);
        let (protocol, ..) = kinds(address(0));
        let header = whole.len() - 4008;
        let data = &whole[header..];
        let mut sent = Vec::new();
        for (number, chunk) in data.chunks(1400).enumerate() {
            let more = (number + 1) * 1400 < data.len();
            let bytes = piece(
                address(1),
                address(0),
                protocol,
                (5, number * 1400, more),
                chunk,
            );
            sent.extend(host.answers(&framed(US, &bytes)));
        }
        assert_eq!(sent.len(), 3);
        let mut reply: Vec<_> = sent.iter().map(|frame| seen(frame)).collect();
        reply.sort_by_key(|seen| seen.piece);
        let whole = Seen {
            data: reply.iter().flat_map(|seen| seen.data.clone()).collect(),
            piece: None,
            ..reply.remove(0)
        };
        check(&whole);
        assert_eq!(whole.data.len(), 4008);
        assert_eq!(whole.data[8..], [9; 4000]);
    }
}

#[test]
fn request_to_everybody_is_ignored_unless_the_configuration_says_otherwise() {
    let groups = [[255; 4], [10, 0, 0, 255], [224, 0, 0, 1]].map(IpAddr::from);
    let mut config = Config::default();
    let mut host = Host::new();
    config.icmp.echo_to_broadcast = true;
    let mut polite = Host::with(config);
    for to in groups {
        let frame = framed(Mac::BROADCAST, &request(v4(1), to, b"all?"));
        host.swallows(&frame, Reason::IcmpBroadcast);
        let reply = seen(&polite.answer(&frame));
        assert_eq!((reply.source, reply.destination), (v4(0), v4(1)));
    }
}

#[test]
fn request_to_a_group_of_ipv6_is_answered_from_ourselves() {
    let mut host = Host::new();
    let group: Ipv6Addr = "ff02::1".parse().unwrap();
    let frame = framed(
        Mac::multicast_v6(group),
        &request(v6(1), group.into(), b"all?"),
    );
    let reply = seen(&host.answer(&frame));
    assert_eq!((reply.source, reply.destination), (v6(0), v6(1)));
    assert_eq!(reply.data[8..], *b"all?");
}

#[test]
fn requests_over_the_rate_wait_for_nobody() {
    let mut config = Config::default();
    (config.icmp.echoes_per_second, config.icmp.echoes_burst) = (10, 5);
    let mut host = Host::with(config);
    let frame = framed(US, &request(v4(1), v4(0), b"?"));
    for _ in 0..5 {
        host.answer(&frame);
    }
    host.swallows(&frame, Reason::IcmpRate);
    host.wait(Duration::from_millis(100));
    host.answer(&frame);
    host.swallows(&frame, Reason::IcmpRate);
}

#[test]
fn what_is_wrong_is_dropped_and_replies_to_nobody_are() {
    let mut host = Host::new();
    for address in BOTH {
        let (protocol, kind, reply) = kinds(address(0));
        let mut wrong = framed(US, &request(address(1), address(0), b"sum"));
        *wrong.last_mut().unwrap() ^= 1;
        host.swallows(&wrong, Reason::IcmpChecksum);
        let short = ip(address(1), address(0), protocol, &[kind, 0, 0]);
        host.swallows(&framed(US, &short), Reason::IcmpMalformed);
        for (kind, reason) in [(reply, Reason::IcmpUnrelated), (200, Reason::IcmpType)] {
            let message = icmp(address(1), address(0), kind, 0, &[0; 8]);
            let frame = framed(US, &ip(address(1), address(0), protocol, &message));
            host.swallows(&frame, reason);
        }
    }
    let message = icmp(v4(1), v4(0), 5, 1, &[&[10, 0, 0, 2][..], &[0; 28]].concat());
    host.swallows(
        &framed(US, &ip(v4(1), v4(0), ICMPV4, &message)),
        Reason::IcmpRedirect,
    );
}
