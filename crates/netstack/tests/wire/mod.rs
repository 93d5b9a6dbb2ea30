//! Frames as others send them, made by hand.
#![allow(dead_code, reason = "each test program uses a part of it")]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netstack::wire::checksum::Sum;
use netstack::wire::ethernet::Mac;
use netstack::wire::{Protocol, arp, ipv4, ipv6, ndp};

/// Numbers that look random, the same for the same seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    /// A station that nobody has seen yet.
    pub(crate) fn mac(&mut self) -> Mac {
        let [a, b, c, d, e, ..] = self.next().to_be_bytes();
        Mac([6, a, b, c, d, e])
    }
}

/// The seed that `FOREBAY_SEED` says, or one of this run; printed, so that it can be said again.
pub(crate) fn seed() -> u64 {
    let seed = match std::env::var("FOREBAY_SEED") {
        Ok(seed) => seed.parse().expect("FOREBAY_SEED is a number"),
        Err(_) => std::process::id().into(),
    };
    println!("FOREBAY_SEED={seed}");
    seed
}

pub(crate) fn frame(from: Mac, to: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0, &kind.to_be_bytes(), payload].concat()
}

/// A whole IPv4 packet, or a piece: its identification, where it begins, whether more follows.
pub(crate) fn ipv4(
    (source, destination): (Ipv4Addr, Ipv4Addr),
    protocol: u8,
    (id, offset, more): (u16, u16, bool),
    payload: &[u8],
) -> Vec<u8> {
    let mut header = [0; ipv4::HEADER_LEN];
    let repr = ipv4::Repr {
        traffic_class: 0,
        payload_len: u16::try_from(payload.len()).unwrap(),
        id,
        dont_fragment: false,
        more_fragments: more,
        fragment_offset: offset,
        ttl: 64,
        protocol: Protocol(protocol),
        source,
        destination,
    };
    repr.write(&mut header);
    [&header[..], payload].concat()
}

pub(crate) fn ipv6(
    (source, destination): (Ipv6Addr, Ipv6Addr),
    next_header: u8,
    hop_limit: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut header = [0; ipv6::HEADER_LEN];
    let repr = ipv6::Repr {
        traffic_class: 0,
        flow_label: 0,
        payload_len: u16::try_from(payload.len()).unwrap(),
        next_header: Protocol(next_header),
        hop_limit,
        source,
        destination,
    };
    repr.write(&mut header);
    [&header[..], payload].concat()
}

/// A piece of an IPv6 datagram.
pub(crate) fn ipv6_piece(
    ends: (Ipv6Addr, Ipv6Addr),
    next_header: u8,
    (id, offset, more): (u32, u16, bool),
    payload: &[u8],
) -> Vec<u8> {
    let mut header = vec![next_header, 0];
    header.extend((offset | u16::from(more)).to_be_bytes());
    header.extend(id.to_be_bytes());
    header.extend_from_slice(payload);
    ipv6(ends, 44, 64, &header)
}

/// A packet with its one checksum, and whatever protocol: UDP or ICMP.
pub(crate) fn packet(
    ends: (IpAddr, IpAddr),
    upper: &[u8],
    checksum_at: usize,
    is_udp: bool,
) -> Vec<u8> {
    let mut upper = upper.to_vec();
    let len = u16::try_from(upper.len()).unwrap();
    let protocol = match (is_udp, ends.0) {
        (true, _) => Protocol::UDP,
        (false, IpAddr::V4(_)) => Protocol::ICMPV4,
        (false, IpAddr::V6(_)) => Protocol::ICMPV6,
    };
    let mut sum = match ends {
        (IpAddr::V4(_), _) if !is_udp => Sum::new(),
        (IpAddr::V4(from), IpAddr::V4(to)) => Sum::pseudo_v4(from, to, protocol, len),
        (IpAddr::V6(from), IpAddr::V6(to)) => Sum::pseudo_v6(from, to, protocol, len.into()),
        _ => panic!("two versions in one packet"),
    };
    upper[checksum_at..checksum_at + 2].fill(0);
    sum.add(&upper);
    upper[checksum_at..checksum_at + 2].copy_from_slice(&sum.finish_udp().to_be_bytes());
    match ends {
        (IpAddr::V4(from), IpAddr::V4(to)) => ipv4((from, to), protocol.0, (1, 0, false), &upper),
        (IpAddr::V6(from), IpAddr::V6(to)) => ipv6((from, to), protocol.0, 255, &upper),
        _ => panic!("two versions in one packet"),
    }
}

pub(crate) fn udp(ends: (IpAddr, IpAddr), ports: (u16, u16), data: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + data.len()).unwrap();
    let mut upper = Vec::new();
    for field in [ports.0, ports.1, len, 0] {
        upper.extend(field.to_be_bytes());
    }
    upper.extend_from_slice(data);
    packet(ends, &upper, 6, true)
}

/// An ICMP message of either version; its checksum is filled in.
pub(crate) fn icmp(ends: (IpAddr, IpAddr), message: &[u8]) -> Vec<u8> {
    packet(ends, message, 2, false)
}

pub(crate) fn arp_request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut out = [0; arp::Arp::LEN];
    let request = arp::Arp {
        operation: arp::Operation::Request,
        sender_mac: mac,
        sender,
        target_mac: Mac::ZERO,
        target,
    };
    request.write(&mut out);
    frame(mac, Mac::BROADCAST, 0x0806, &out)
}

pub(crate) fn solicit(mac: Mac, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let to = ndp::solicited_node(target);
    let mut out = [0; ndp::LEN_MAX];
    let message = ndp::NeighbourSolicit {
        target,
        source_mac: Some(mac),
        nonce: None,
    };
    let len = message.write(source, to, &mut out).unwrap();
    frame(
        mac,
        Mac::multicast_v6(to),
        0x86dd,
        &ipv6((source, to), 58, 255, &out[..len]),
    )
}

/// A router advertisement with a source link-layer address and one prefix of 64 bits, both for good.
pub(crate) fn advertise_router(mac: Mac, router: Ipv6Addr, prefix: Ipv6Addr) -> Vec<u8> {
    let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut message = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend([1, 1]);
    message.extend(mac.0);
    message.extend([3, 4, 64, 0xc0]);
    message.extend([0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend(prefix.octets());
    let packet = icmp((router.into(), all.into()), &message);
    frame(mac, Mac::multicast_v6(all), 0x86dd, &packet)
}
