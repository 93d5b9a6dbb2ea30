use proptest::prelude::*;

use super::super::{Protocol, ipv6};
use super::*;

const UNSPECIFIED: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
const US: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x1234, 0x5678);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const GLOBAL: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn packet(source: Ipv6Addr, destination: Ipv6Addr, hop_limit: u8) -> Ipv6 {
    let repr = ipv6::Repr {
        traffic_class: 0,
        flow_label: 0,
        payload_len: 0,
        next_header: Protocol::ICMPV6,
        hop_limit,
        source,
        destination,
    };
    let mut out = [0; ipv6::HEADER_LEN];
    repr.write(&mut out);
    Ipv6::parse(&out).unwrap()
}

fn ip(source: Ipv6Addr, destination: Ipv6Addr) -> Ipv6 {
    packet(source, destination, HOP_LIMIT)
}

fn solicit(source_mac: Option<Mac>, nonce: Option<[u8; 6]>) -> ([u8; LEN_MAX], usize) {
    let mut out = [0xee; LEN_MAX];
    let message = NeighbourSolicit {
        target: US,
        source_mac,
        nonce,
    };
    let len = message.write(ROUTER, solicited_node(US), &mut out).unwrap();
    (out, len)
}

/// A router advertisement with an Ethernet address, an MTU, a prefix, and RDNSS, which is not understood.
fn advertisement() -> Vec<u8> {
    let mut bytes = vec![134, 0, 0, 0, 64, 0xc8, 0x07, 0x08];
    bytes.extend([0, 0, 0x75, 0x30, 0, 0, 3, 0xe8]);
    bytes.extend([1, 1, 2, 0, 0, 0, 0, 1]);
    bytes.extend([5, 1, 0, 0, 0, 0, 5, 0xdc]);
    bytes.extend([
        3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40, 0, 0, 0, 0,
    ]);
    bytes.extend([0x20, 1, 0xd, 0xb8, 0, 1, 0, 2, 0xff, 0, 0, 0, 0, 0, 0, 1]);
    bytes.extend([25, 3, 0, 0, 0, 0, 7, 8]);
    bytes.extend([0; 16]);
    bytes
}

#[test]
fn solicited_node_group_has_the_last_three_bytes() {
    let group: Ipv6Addr = "ff02::1:ff34:5678".parse().unwrap();
    assert_eq!(
        solicited_node(US),
        "ff02::1:ff34:5678".parse::<Ipv6Addr>().unwrap()
    );
    assert!(is_solicited_node(group));
    assert!(!is_solicited_node(ALL_NODES));
}

#[test]
fn advertisement_says_what_there_is_to_know() {
    let bytes = advertisement();
    let Ok(Message::RouterAdvertise(ra)) = Message::parse(&ip(ROUTER, ALL_NODES), &bytes) else {
        panic!("no router advertisement");
    };
    assert_eq!((ra.hop_limit, ra.managed, ra.other), (64, true, true));
    assert_eq!((ra.preference, ra.lifetime_s), (1, 1800));
    assert_eq!((ra.reachable_ms, ra.retransmit_ms), (30_000, 1000));
    assert_eq!((ra.source_mac(), ra.mtu()), (Some(MAC), Some(1500)));
    let prefix = Prefix {
        prefix: "2001:db8:1:2::".parse().unwrap(),
        len: 64,
        on_link: true,
        autonomous: true,
        valid_s: 86400,
        preferred_s: 14400,
    };
    assert_eq!(ra.prefixes().collect::<Vec<_>>(), [prefix]);
    assert_eq!(ra.options.last(), Some(Ok(NdpOption::Other(25))));
}

#[test]
fn preference_is_of_three_and_the_reserved_one_is_the_middle() {
    for (flags, preference) in [(0x00, 0), (0x08, 1), (0x10, 0), (0x18, -1)] {
        let mut bytes = advertisement();
        bytes[5] = flags;
        let message = Message::parse(&ip(ROUTER, ALL_NODES), &bytes);
        let Ok(Message::RouterAdvertise(ra)) = message else {
            panic!("no router advertisement");
        };
        assert_eq!(
            (ra.preference, ra.managed, ra.other),
            (preference, false, false)
        );
    }
}

#[test]
fn message_that_a_router_passed_on_is_refused() {
    let (bytes, len) = solicit(Some(MAC), None);
    let refused = Message::parse(&packet(ROUTER, solicited_node(US), 254), &bytes[..len]);
    assert_eq!(refused, Err(Malformed::BadField));
    let bytes = advertisement();
    let router = Message::parse(&packet(ROUTER, ALL_NODES, 254), &bytes);
    assert_eq!(router, Err(Malformed::BadField));
}

#[test]
fn other_code_and_type_are_refused() {
    let (mut bytes, len) = solicit(None, None);
    bytes[1] = 1;
    let ip = ip(ROUTER, US);
    assert_eq!(Message::parse(&ip, &bytes[..len]), Err(Malformed::BadField));
    for kind in [128, 132, 138] {
        (bytes[0], bytes[1]) = (kind, 0);
        assert_eq!(Message::parse(&ip, &bytes[..len]), Err(Malformed::BadField));
    }
}

#[test]
fn who_has_no_address_asks_the_group_and_tells_no_ethernet_address() {
    let parse = |mac, destination| {
        let (bytes, len) = solicit(mac, Some([7; 6]));
        Message::parse(&ip(UNSPECIFIED, destination), &bytes[..len]).map(|_| ())
    };
    assert_eq!(parse(None, solicited_node(US)), Ok(()));
    assert_eq!(
        parse(Some(MAC), solicited_node(US)),
        Err(Malformed::BadField)
    );
    assert_eq!(parse(None, ALL_NODES), Err(Malformed::BadField));
    assert_eq!(parse(None, US), Err(Malformed::BadField));

    let solicit = |source_mac| {
        let mut out = [0; LEN_MAX];
        let len = RouterSolicit { source_mac }.write(UNSPECIFIED, ALL_NODES, &mut out);
        Message::parse(&ip(UNSPECIFIED, ALL_NODES), &out[..len.unwrap()]).map(|_| ())
    };
    assert_eq!(solicit(None), Ok(()));
    assert_eq!(solicit(Some(MAC)), Err(Malformed::BadField));
}

#[test]
fn group_is_no_target_and_has_not_asked() {
    let advertise = |target, solicited, destination| {
        let message = NeighbourAdvertise {
            router: false,
            solicited,
            overriding: true,
            target,
            target_mac: Some(MAC),
        };
        let mut out = [0; LEN_MAX];
        let len = message.write(US, destination, &mut out).unwrap();
        Message::parse(&ip(US, destination), &out[..len]).map(|_| ())
    };
    assert_eq!(advertise(US, true, ROUTER), Ok(()));
    assert_eq!(advertise(US, false, ALL_NODES), Ok(()));
    assert_eq!(advertise(US, true, ALL_NODES), Err(Malformed::BadField));
    assert_eq!(
        advertise(ALL_NODES, false, ALL_NODES),
        Err(Malformed::BadField)
    );
}

#[test]
fn only_a_link_local_address_advertises_a_router_or_redirects() {
    let bytes = advertisement();
    assert_eq!(
        Message::parse(&ip(GLOBAL, ALL_NODES), &bytes),
        Err(Malformed::BadField)
    );
    assert_eq!(
        Message::parse(&ip(UNSPECIFIED, ALL_NODES), &bytes),
        Err(Malformed::BadField)
    );

    let redirect = |source, target: Ipv6Addr, destination: Ipv6Addr| {
        let head = [137, 0, 0, 0, 0, 0, 0, 0];
        let mac = [2, 1, 2, 0, 0, 0, 0, 1];
        let bytes = [&head[..], &target.octets(), &destination.octets(), &mac].concat();
        match Message::parse(&ip(source, US), &bytes) {
            Ok(Message::Redirect(redirect)) => Ok(redirect),
            Ok(_) => panic!("no redirect"),
            Err(error) => Err(error),
        }
    };
    let found = redirect(ROUTER, US, GLOBAL).unwrap();
    assert_eq!((found.target, found.destination), (US, GLOBAL));
    assert_eq!(found.target_mac, Some(MAC));
    assert!(redirect(ROUTER, GLOBAL, GLOBAL).is_ok());
    assert_eq!(redirect(GLOBAL, US, GLOBAL), Err(Malformed::BadField));
    assert_eq!(redirect(ROUTER, US, ALL_NODES), Err(Malformed::BadField));
    let other: Ipv6Addr = "2001:db8::2".parse().unwrap();
    assert_eq!(redirect(ROUTER, other, GLOBAL), Err(Malformed::BadField));
}

#[test]
fn option_without_a_length_or_past_the_end_is_refused() {
    let (bytes, len) = solicit(Some(MAC), None);
    let ip = ip(ROUTER, US);
    let with = |length| {
        let mut bytes = bytes;
        bytes[25] = length;
        Message::parse(&ip, &bytes[..len]).map(|_| ())
    };
    assert_eq!(with(1), Ok(()));
    assert_eq!(with(0), Err(Malformed::BadLength));
    assert_eq!(with(2), Err(Malformed::BadLength));
    for short in 25..len {
        let found = Message::parse(&ip, &bytes[..short]);
        assert_eq!(found, Err(Malformed::BadLength), "{short}");
    }
    for short in 0..24 {
        let found = Message::parse(&ip, &bytes[..short]);
        assert_eq!(found, Err(Malformed::Truncated), "{short}");
    }
}

#[test]
fn known_option_of_another_length_is_refused() {
    for kind in [SOURCE_MAC, TARGET_MAC, MTU, PREFIX] {
        let mut option = [0; 16];
        (option[0], option[1]) = (kind, 2);
        let mut options = Options { rest: &option };
        assert_eq!(options.next(), Some(Err(Malformed::BadLength)));
    }
    let mut option = [0; 16];
    (option[0], option[1]) = (NONCE, 2);
    let mut options = Options { rest: &option };
    assert_eq!(options.next(), Some(Ok(NdpOption::Other(NONCE))));
}

#[test]
fn prefix_has_at_most_as_many_bits_as_an_address() {
    let with = |len| {
        let mut option = [0xff; 32];
        (option[0], option[1], option[2]) = (PREFIX, 4, len);
        match (Options { rest: &option }).next() {
            Some(Ok(NdpOption::Prefix(prefix))) => Ok(prefix.prefix.to_bits()),
            Some(Err(error)) => Err(error),
            _ => panic!("no prefix"),
        }
    };
    assert_eq!(with(0), Ok(0));
    assert_eq!(with(1), Ok(1 << 127));
    assert_eq!(with(127), Ok(!1));
    assert_eq!(with(128), Ok(!0));
    assert_eq!(with(129), Err(Malformed::BadField));
}

#[test]
fn message_that_does_not_fit_is_not_written() {
    let message = NeighbourSolicit {
        target: US,
        source_mac: Some(MAC),
        nonce: Some([1; 6]),
    };
    for room in 0..LEN_MAX {
        assert_eq!(message.write(ROUTER, US, &mut vec![0; room]), None);
    }
    assert_eq!(message.write(ROUTER, US, &mut [0; LEN_MAX]), Some(LEN_MAX));
}

fn is_right(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> bool {
    let mut sum = icmpv6::pseudo(source, destination, message.len());
    sum.add(message);
    sum.is_right()
}

proptest! {
    #[test]
    fn message_that_is_written_is_read_again(
        target: [u8; 16], mac: Option<[u8; 6]>, nonce: Option<[u8; 6]>, flags: (bool, bool, bool),
    ) {
        let mut target = target;
        target[0] &= 0x7f;
        let (target, mac) = (Ipv6Addr::from(target), mac.map(Mac));
        let ip = ip(ROUTER, US);
        let mut out = [0xee; LEN_MAX];

        let solicit = RouterSolicit { source_mac: mac };
        let len = solicit.write(ROUTER, US, &mut out).unwrap();
        prop_assert!(is_right(ROUTER, US, &out[..len]));
        prop_assert_eq!(Message::parse(&ip, &out[..len]), Ok(Message::RouterSolicit(solicit)));

        let solicit = NeighbourSolicit { target, source_mac: mac, nonce };
        let len = solicit.write(ROUTER, US, &mut out).unwrap();
        prop_assert!(is_right(ROUTER, US, &out[..len]));
        prop_assert_eq!(Message::parse(&ip, &out[..len]), Ok(Message::NeighbourSolicit(solicit)));

        let advertise = NeighbourAdvertise {
            router: flags.0,
            solicited: flags.1,
            overriding: flags.2,
            target,
            target_mac: mac,
        };
        let len = advertise.write(ROUTER, US, &mut out).unwrap();
        prop_assert!(is_right(ROUTER, US, &out[..len]));
        prop_assert_eq!(Message::parse(&ip, &out[..len]), Ok(Message::NeighbourAdvertise(advertise)));
    }

    #[test]
    fn no_bytes_panic(kind in 132u8..139, mut bytes in prop::collection::vec(any::<u8>(), 0..120), short: bool) {
        if let Some(first) = bytes.first_chunk_mut::<2>() {
            *first = [kind, 0];
        }
        if short {
            // Options of eight bytes, so that more of them are looked at.
            bytes.iter_mut().skip(1).step_by(8).skip(1).for_each(|len| *len %= 5);
        }
        for source in [ROUTER, UNSPECIFIED] {
            if let Ok(Message::RouterAdvertise(ra)) = Message::parse(&ip(source, ALL_NODES), &bytes) {
                let mut options = ra.options;
                prop_assert!(options.all(|option| option.is_ok()));
                prop_assert!(ra.prefixes().all(|prefix| prefix.len <= 128));
                let _ = (ra.source_mac(), ra.mtu());
            }
        }
    }
}
