use super::*;
use crate::wire::ethernet::Mac;

const ETH: InterfaceId = InterfaceId(0);
const OTHER: InterfaceId = InterfaceId(1);
const THEM: Mac = Mac([2, 0, 0, 0, 0, 0x0b]);

const fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// Addresses that are in use at once.
fn with(addresses: &[(&str, u8)]) -> Addresses {
    let mut all = Addresses::new(AddressConfig::default(), 1);
    for (address, len) in addresses {
        all.add(at(0), ETH, ip(address), *len, Origin::Static, Probing::None)
            .unwrap();
    }
    while all.poll(at(0)).is_some() {}
    while all.poll_event().is_some() {}
    all
}

fn one(address: &str, len: u8) -> Addresses {
    let mut all = Addresses::new(AddressConfig::default(), 1);
    all.add(at(0), ETH, ip(address), len, Origin::Static, Probing::Check)
        .unwrap();
    all
}

/// All asks until nothing is due before `end`, with their times.
fn run(all: &mut Addresses, end: Instant) -> Vec<(Instant, Ask)> {
    let mut asks = Vec::new();
    let mut now = Instant::ZERO;
    while let Some(due) = all.next_timeout().filter(|due| *due <= end) {
        now = now.max(due);
        while let Some(ask) = all.poll(now) {
            asks.push((now, ask));
        }
        assert!(
            all.next_timeout().is_none_or(|next| next > now),
            "poll leaves nothing that is due"
        );
    }
    asks
}

fn state(all: &Addresses, address: &str) -> Option<State> {
    all.is_ours(ETH, &ip(address))
}

#[test]
fn ipv4_address_is_ready_after_three_probes_that_nobody_answers() {
    let mut all = one("192.0.2.1", 24);
    assert_eq!(state(&all, "192.0.2.1"), Some(State::Tentative));
    assert_eq!(all.select_source(ETH, ip("192.0.2.9")), None);
    let before = all.generation();
    let asks = run(&mut all, at(10_000));
    let address = v4("192.0.2.1");
    let first = asks[0].0;
    assert!(first <= at(100));
    let probe = Ask::ArpProbe {
        interface: ETH,
        address,
    };
    let announce = Ask::ArpAnnounce {
        interface: ETH,
        address,
    };
    let after = |millis| first + Duration::from_millis(millis);
    let want = [
        (after(0), probe),
        (after(200), probe),
        (after(400), probe),
        (after(600), announce),
        (after(2_600), announce),
    ];
    assert_eq!(asks, want);
    assert_eq!(state(&all, "192.0.2.1"), Some(State::Preferred));
    assert_ne!(all.generation(), before);
    let ready = Event::AddressReady {
        interface: ETH,
        address: ip("192.0.2.1"),
    };
    assert_eq!((all.poll_event(), all.poll_event()), (Some(ready), None));
    assert_eq!(all.next_timeout(), None);
}

#[test]
fn ipv6_address_joins_its_group_first_and_is_ready_a_second_after_its_solicitation() {
    let mut all = one("2001:db8::12:3456", 64);
    let asks = run(&mut all, at(10_000));
    let address = v6("2001:db8::12:3456");
    let Ask::Join {
        interface: ETH,
        group,
        after,
    } = asks[0].1
    else {
        panic!("{asks:?}");
    };
    assert_eq!(group, v6("ff02::1:ff12:3456"));
    assert_eq!(asks[0].0, at(0));
    let first = asks[1].0;
    assert_eq!(first, at(0) + after);
    assert!(after <= Duration::from_secs(1));
    assert!(
        matches!(asks[1].1, Ask::DadSolicit { interface: ETH, address: a, .. } if a == address)
    );
    let advertise = Ask::NeighbourAdvertise {
        interface: ETH,
        address,
    };
    assert_eq!(asks[2..], [(first + Duration::from_secs(1), advertise)]);
    assert_eq!(state(&all, "2001:db8::12:3456"), Some(State::Preferred));
}

#[test]
fn link_local_address_is_not_advertised_to_routers() {
    let mut all = one("fe80::1", 64);
    assert_eq!(all.link_local(ETH), None);
    let asks = run(&mut all, at(10_000));
    assert_eq!(asks.len(), 2);
    assert_eq!(all.link_local(ETH), Some(v6("fe80::1")));
    assert_eq!(all.link_local(OTHER), None);
}

#[test]
fn answer_to_a_probe_makes_the_address_a_duplicate() {
    for (sender, target) in [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.7"),
        ("0.0.0.0", "192.0.2.1"),
    ] {
        let mut all = one("192.0.2.1", 24);
        assert!(all.poll(at(100)).is_some());
        // Ours is asked for by somebody who has another one: no conflict.
        let asked = all.arp(at(101), ETH, v4("192.0.2.7"), v4("192.0.2.1"), THEM);
        assert_eq!(asked, Verdict::NotOurs);
        assert_eq!(
            all.arp(at(101), OTHER, v4(sender), v4(target), THEM),
            Verdict::NotOurs
        );
        assert_eq!(
            all.arp(at(102), ETH, v4(sender), v4(target), THEM),
            Verdict::Duplicate
        );
        assert_eq!(state(&all, "192.0.2.1"), Some(State::Duplicate));
        assert_eq!(run(&mut all, at(60_000)), []);
        assert_eq!(
            all.arp(at(103), ETH, v4(sender), v4(target), THEM),
            Verdict::NotOurs
        );
        let event = all.poll_event().unwrap();
        assert_eq!(all.poll_event(), None);
        let said = event.to_string();
        for part in [
            "192.0.2.1",
            "interface 0",
            "02:00:00:00:00:0b",
            "give this interface another",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}

#[test]
fn conflict_in_the_wait_after_the_last_probe_counts() {
    let mut all = one("192.0.2.1", 24);
    let asks = run(&mut all, at(599));
    let last = asks[2].0;
    let now = last + Duration::from_millis(199);
    assert_eq!(all.poll(now), None);
    assert_eq!(
        all.arp(now, ETH, v4("192.0.2.1"), v4("192.0.2.1"), THEM),
        Verdict::Duplicate
    );
}

#[test]
fn neighbour_that_solicits_for_the_same_address_takes_it_from_us_and_our_own_echo_does_not() {
    let mut all = one("fe80::7", 64);
    let address = ip("fe80::7");
    let asks = run(&mut all, at(1_000));
    let Ask::DadSolicit { nonce, .. } = asks[1].1 else {
        panic!("{asks:?}");
    };
    let echo = Claim::Probes { nonce: Some(nonce) };
    let theirs = Claim::Probes {
        nonce: Some([9; 6]),
    };
    assert_eq!(
        all.conflict(at(1_000), ETH, address, THEM, echo),
        Verdict::Echo
    );
    assert_eq!(state(&all, "fe80::7"), Some(State::Tentative));
    assert_eq!(
        all.conflict(at(1_001), ETH, address, THEM, theirs),
        Verdict::Duplicate
    );
    let leave = Ask::Leave {
        interface: ETH,
        group: v6("ff02::1:ff00:7"),
    };
    assert_eq!(run(&mut all, at(60_000)), [(at(0), leave)]);
    assert_eq!(all.link_local(ETH), None);
}

#[test]
fn advertisement_or_nonceless_solicitation_makes_a_tentative_address_a_duplicate() {
    for claim in [Claim::Uses, Claim::Probes { nonce: None }] {
        let mut all = one("2001:db8::1", 64);
        // Even before the first solicitation has gone out: RFC 4862 section 5.4.2.
        assert_eq!(
            all.conflict(at(0), ETH, ip("2001:db8::1"), THEM, claim),
            Verdict::Duplicate
        );
        assert_eq!(run(&mut all, at(60_000)), [], "never joined, never left");
        assert!(matches!(
            all.poll_event(),
            Some(Event::Duplicate { by: THEM, .. })
        ));
    }
}

#[test]
fn address_in_use_is_defended_once_and_given_up_at_the_second_conflict() {
    let mut all = with(&[("192.0.2.1", 24)]);
    let (us, announce) = (
        v4("192.0.2.1"),
        Ask::ArpAnnounce {
            interface: ETH,
            address: v4("192.0.2.1"),
        },
    );
    let probe = all.arp(at(0), ETH, Ipv4Addr::UNSPECIFIED, us, THEM);
    assert_eq!(probe, Verdict::Answer);
    assert_eq!(all.arp(at(1_000), ETH, us, us, THEM), Verdict::Conflict);
    assert_eq!(all.poll(at(1_000)), Some(announce));
    assert_eq!(all.poll(at(1_000)), None);
    assert!(matches!(all.poll_event(), Some(Event::Conflict { .. })));
    // Eleven seconds later: a new quarrel.
    assert_eq!(all.arp(at(12_000), ETH, us, us, THEM), Verdict::Conflict);
    assert_eq!(all.poll(at(12_000)), Some(announce));
    assert!(matches!(all.poll_event(), Some(Event::Conflict { .. })));
    let before = all.generation();
    assert_eq!(all.arp(at(13_000), ETH, us, us, THEM), Verdict::Lost);
    assert_ne!(all.generation(), before);
    assert_eq!(all.poll(at(13_000)), None);
    assert_eq!(state(&all, "192.0.2.1"), Some(State::Duplicate));
    assert_eq!(all.select_source(ETH, ip("192.0.2.9")), None);
    let lost = all.poll_event().unwrap();
    assert!(matches!(lost, Event::AddressLost { by: THEM, .. }));
    assert!(lost.to_string().contains("02:00:00:00:00:0b"), "{lost}");
}

#[test]
fn ipv6_address_in_use_stays_whatever_is_claimed() {
    let mut all = with(&[("2001:db8::1", 64)]);
    let us = ip("2001:db8::1");
    let probes = Claim::Probes { nonce: None };
    assert_eq!(all.conflict(at(0), ETH, us, THEM, probes), Verdict::Answer);
    for second in 0..20 {
        let verdict = all.conflict(at(second * 1_000), ETH, us, THEM, Claim::Uses);
        assert_eq!(verdict, Verdict::Conflict);
        assert_eq!(all.poll(at(second * 1_000)), None);
    }
    let events = std::iter::from_fn(|| all.poll_event()).count();
    assert_eq!(events, 2, "one each ten seconds");
    assert_eq!(state(&all, "2001:db8::1"), Some(State::Preferred));
}

#[test]
fn recheck_begins_anew() {
    let mut all = one("192.0.2.1", 24);
    let us = v4("192.0.2.1");
    assert_eq!(all.arp(at(0), ETH, us, us, THEM), Verdict::Duplicate);
    assert_eq!(
        all.recheck(at(5_000), ETH, ip("192.0.2.2")),
        Err(Error::NoAddress(ip("192.0.2.2")))
    );
    all.recheck(at(5_000), ETH, ip("192.0.2.1")).unwrap();
    assert_eq!(state(&all, "192.0.2.1"), Some(State::Tentative));
    assert_eq!(run(&mut all, at(20_000)).len(), 5);
    assert_eq!(state(&all, "192.0.2.1"), Some(State::Preferred));
    // And for IPv6: the group is joined again, after it was left.
    let mut all = one("2001:db8::1", 64);
    assert!(matches!(all.poll(at(0)), Some(Ask::Join { .. })));
    all.conflict(at(0), ETH, ip("2001:db8::1"), THEM, Claim::Uses);
    all.recheck(at(0), ETH, ip("2001:db8::1")).unwrap();
    assert!(matches!(all.poll(at(0)), Some(Ask::Leave { .. })));
    assert!(matches!(all.poll(at(0)), Some(Ask::Join { .. })));
}

#[test]
fn lifetimes_deprecate_and_then_remove() {
    let mut all = with(&[("2001:db8::1", 64), ("2001:db8::2", 64)]);
    let (first, second) = (ip("2001:db8::1"), ip("2001:db8::2"));
    all.set_lifetimes(at(0), ETH, first, at(1_000), at(2_000))
        .unwrap();
    assert_eq!(all.next_timeout(), Some(at(1_000)));
    assert_eq!(all.select_source(ETH, ip("2001:db8::9")), Some(first));
    assert_eq!(all.poll(at(1_000)), None);
    assert_eq!(
        all.poll_event(),
        Some(Event::AddressDeprecated {
            interface: ETH,
            address: first
        })
    );
    assert_eq!(
        all.select_source(ETH, ip("2001:db8::9")),
        Some(second),
        "rule 3"
    );
    // A router prefers it again.
    all.set_lifetimes(at(1_500), ETH, first, at(1_800), at(2_000))
        .unwrap();
    assert_eq!(state(&all, "2001:db8::1"), Some(State::Preferred));
    assert_eq!(all.poll(at(1_800)), None);
    let before = all.generation();
    let leave = Ask::Leave {
        interface: ETH,
        group: v6("ff02::1:ff00:1"),
    };
    assert_eq!(
        (all.poll(at(2_000)), all.poll(at(2_000))),
        (Some(leave), None)
    );
    assert_ne!(all.generation(), before);
    assert_eq!(state(&all, "2001:db8::1"), None);
    let deprecated = Event::AddressDeprecated {
        interface: ETH,
        address: first,
    };
    let expired = Event::AddressExpired {
        interface: ETH,
        address: first,
    };
    assert_eq!(
        (all.poll_event(), all.poll_event()),
        (Some(deprecated), Some(expired))
    );
    assert_eq!(all.next_timeout(), None);
}

#[test]
fn address_deprecated_while_tentative_becomes_deprecated() {
    let mut all = one("2001:db8::1", 64);
    all.set_lifetimes(at(0), ETH, ip("2001:db8::1"), at(0), at(90_000))
        .unwrap();
    run(&mut all, at(5_000));
    assert_eq!(state(&all, "2001:db8::1"), Some(State::Deprecated));
    // Better than none.
    assert_eq!(
        all.select_source(ETH, ip("2001:db8::9")),
        Some(ip("2001:db8::1"))
    );
}

#[test]
fn only_what_a_host_can_have_is_taken() {
    let mut all = Addresses::new(AddressConfig::default(), 1);
    let mut add =
        |address: &str, len| all.add(at(0), ETH, ip(address), len, Origin::Static, Probing::None);
    for bad in [
        ("0.0.0.0", 0),
        ("0.1.2.3", 8),
        ("127.0.0.1", 8),
        ("224.0.0.1", 24),
        ("255.255.255.255", 32),
        ("240.0.0.1", 8),
        ("192.0.2.0", 24),
        ("192.0.2.255", 24),
        ("::", 0),
        ("::1", 128),
        ("ff02::1", 64),
        ("::ffff:192.0.2.1", 96),
    ] {
        assert_eq!(
            add(bad.0, bad.1),
            Err(Error::NotUnicast(ip(bad.0))),
            "{bad:?}"
        );
    }
    assert_eq!(
        add("192.0.2.1", 33),
        Err(Error::PrefixLen { len: 33, bits: 32 })
    );
    assert_eq!(
        add("2001:db8::1", 129),
        Err(Error::PrefixLen {
            len: 129,
            bits: 128
        })
    );
    for good in [
        ("192.0.2.0", 31),
        ("192.0.2.1", 31),
        ("192.0.2.255", 32),
        ("198.51.100.1", 0),
        ("2001:db8::", 128),
    ] {
        assert_eq!(add(good.0, good.1), Ok(()), "{good:?}");
    }
    assert_eq!(
        add("192.0.2.1", 24),
        Err(Error::AddressExists(ip("192.0.2.1")))
    );
}

#[test]
fn limits_hold_for_each_interface_and_for_all() {
    let config = AddressConfig {
        addresses_max: 5,
        addresses_max_each: 3,
        ..AddressConfig::default()
    };
    let mut all = Addresses::new(config, 1);
    let mut add = |interface: InterfaceId, n: u8| {
        let address = IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(n)));
        all.add(at(0), interface, address, 64, Origin::Static, Probing::None)
    };
    for n in 1..=3 {
        assert_eq!(add(ETH, n), Ok(()));
    }
    let Err(Error::Full {
        max: 3,
        key: "addresses_max_each",
        ..
    }) = add(ETH, 4)
    else {
        panic!();
    };
    assert_eq!((add(OTHER, 1), add(OTHER, 2)), (Ok(()), Ok(())));
    let Err(Error::Full {
        max: 5,
        key: "addresses_max",
        ..
    }) = add(OTHER, 3)
    else {
        panic!();
    };
    let joins = std::iter::from_fn(|| all.poll(at(0))).count();
    assert_eq!(joins, 5);
    all.remove_interface(ETH);
    assert_eq!(all.iter().count(), 2);
    let leaves: Vec<_> = std::iter::from_fn(|| all.poll(at(0))).collect();
    assert_eq!(leaves.len(), 3);
    assert!(
        leaves
            .iter()
            .all(|ask| matches!(ask, Ask::Leave { interface: ETH, .. }))
    );
}

#[test]
fn nothing_grows_however_often_addresses_come_and_go() {
    let config = AddressConfig {
        addresses_max: 4,
        ..AddressConfig::default()
    };
    let mut all = Addresses::new(config, 1);
    let (leaves, events) = (all.leaves.capacity(), all.events.capacity());
    for round in 0..1000_u32 {
        let address = IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(round)));
        all.add(at(0), ETH, address, 64, Origin::Static, Probing::None)
            .unwrap();
        if round % 3 == 0 {
            all.poll(at(0));
        }
        all.remove(ETH, address).unwrap();
    }
    assert_eq!(
        (all.leaves.capacity(), all.events.capacity()),
        (leaves, events)
    );
    assert!(all.events_lost() > 0);
    assert_eq!(
        all.remove(ETH, ip("2001:db8::1")),
        Err(Error::NoAddress(ip("2001:db8::1")))
    );
}

#[test]
fn broadcast_is_that_of_a_network_of_the_interface() {
    let all = with(&[("192.0.2.1", 24), ("198.51.100.2", 31), ("203.0.113.1", 32)]);
    let is = |address| all.is_broadcast(ETH, v4(address));
    assert!(is("255.255.255.255") && is("192.0.2.255"));
    for not in [
        "192.0.2.1",
        "192.0.2.0",
        "198.51.100.3",
        "203.0.113.1",
        "203.0.113.255",
        "224.0.0.1",
    ] {
        assert!(!is(not), "{not}");
    }
    assert!(!all.is_broadcast(OTHER, v4("192.0.2.255")));
}

#[test]
fn mapped_and_foreign_addresses_are_not_ours() {
    let all = with(&[("192.0.2.1", 24), ("2001:db8::1", 64)]);
    assert_eq!(state(&all, "::ffff:192.0.2.1"), None);
    assert_eq!(all.is_ours(OTHER, &ip("192.0.2.1")), None);
    assert_eq!(all.owner(&ip("2001:db8::1")), Some(ETH));
    assert_eq!(all.owner(&ip("2001:db8::2")), None);
}

/// RFC 6724 section 10.1, as far as it is about one interface.
#[test]
fn examples_of_rfc_6724_for_sources() {
    let choose = |addresses: &[(&str, u8)], to: &str| {
        let chosen = with(addresses)
            .select_source(ETH, ip(to))
            .map(|address| address.to_string());
        // The order of the candidates decides nothing.
        let turned: Vec<_> = addresses.iter().rev().copied().collect();
        let again = with(&turned)
            .select_source(ETH, ip(to))
            .map(|address| address.to_string());
        assert_eq!(chosen, again, "{addresses:?} {to}");
        chosen.unwrap_or_default()
    };
    let both = [("2001:db8:3::1", 64), ("fe80::1", 64)];
    assert_eq!(
        choose(&both, "2001:db8:1::1"),
        "2001:db8:3::1",
        "prefer appropriate scope"
    );
    assert_eq!(
        choose(&both, "ff05::1"),
        "2001:db8:3::1",
        "prefer appropriate scope"
    );
    assert_eq!(
        choose(&both, "fe80::2"),
        "fe80::1",
        "prefer appropriate scope"
    );
    assert_eq!(
        choose(&both, "ff02::1"),
        "fe80::1",
        "prefer appropriate scope"
    );
    let same = [("2001:db8:1::1", 64), ("2001:db8:2::1", 64)];
    assert_eq!(
        choose(&same, "2001:db8:1::1"),
        "2001:db8:1::1",
        "prefer same address"
    );
    let longest = [("2001:db8:1::2", 64), ("2001:db8:3::2", 64)];
    assert_eq!(
        choose(&longest, "2001:db8:1::1"),
        "2001:db8:1::2",
        "longest match"
    );
    let labels = [("2002:c633:6401::2", 64), ("2001:db8:1::2", 64)];
    assert_eq!(
        choose(&labels, "2002:c633:6401::1"),
        "2002:c633:6401::2",
        "prefer matching label"
    );
    assert_eq!(
        choose(&labels, "2001:db8:9::1"),
        "2001:db8:1::2",
        "prefer matching label"
    );
    let local = [("fd00:1::1", 64), ("2001:db8:1::2", 64)];
    assert_eq!(
        choose(&local, "fd00:2::1"),
        "fd00:1::1",
        "prefer matching label"
    );
    assert_eq!(
        choose(&local, "2606:4700::1"),
        "2001:db8:1::2",
        "prefer matching label"
    );
    let narrow = [("fe80::1", 64), ("fec0::1", 64)];
    assert_eq!(
        choose(&narrow, "2001:db8::1"),
        "fec0::1",
        "rule 2: as wide as can be"
    );
}

#[test]
fn equals_are_decided_by_who_came_first_and_interface_identifiers_do_not_count() {
    let all = with(&[("2001:db8:1::ffff", 64), ("2001:db8:1::2", 64)]);
    // Rule 8 ends with the prefix: the second has more bits in common, but they are not the network's.
    assert_eq!(
        all.select_source(ETH, ip("2001:db8:1::3")),
        Some(ip("2001:db8:1::ffff"))
    );
}

#[test]
fn ipv4_source_is_of_the_destinations_network_or_the_first() {
    let all = with(&[
        ("169.254.1.1", 16),
        ("192.0.2.1", 24),
        ("198.51.100.1", 24),
        ("198.51.100.130", 25),
    ]);
    let choose = |to| all.select_source(ETH, ip(to)).unwrap().to_string();
    assert_eq!(choose("198.51.100.9"), "198.51.100.1");
    assert_eq!(
        choose("198.51.100.200"),
        "198.51.100.130",
        "the smaller network"
    );
    assert_eq!(choose("198.51.100.130"), "198.51.100.130", "same address");
    assert_eq!(
        choose("203.0.113.1"),
        "192.0.2.1",
        "link-local does not reach"
    );
    assert_eq!(choose("169.254.9.9"), "169.254.1.1");
    assert_eq!(choose("224.0.0.251"), "192.0.2.1");
    assert_eq!(choose("255.255.255.255"), "192.0.2.1");
    assert_eq!(all.select_source(ETH, ip("2001:db8::1")), None);
    assert_eq!(all.select_source(OTHER, ip("192.0.2.1")), None);
}

/// Whatever is called in whatever order: groups joined are those of addresses in use or being checked, the small tables say
/// what the large one says, and nothing grows.
#[test]
fn random_walks_keep_tables_groups_and_timers_together() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let config = AddressConfig {
            addresses_max: 6,
            addresses_max_each: 4,
            ..AddressConfig::default()
        };
        let mut all = Addresses::new(config, seed);
        let mut groups = std::collections::BTreeMap::new();
        let mut now = Instant::ZERO;
        let room = (
            all.entries.capacity(),
            all.leaves.capacity(),
            all.events.capacity(),
        );
        for _ in 0..3_000 {
            let n = random.next();
            let interface = InterfaceId(u8::from(n & 1 == 1));
            let last = (n >> 8) % 6 + 1;
            let address = match n >> 16 & 1 {
                0 => IpAddr::V4(Ipv4Addr::from_bits(
                    0xc000_0200 | u32::try_from(last).unwrap(),
                )),
                _ => IpAddr::V6(Ipv6Addr::from_bits((0xfe80 << 112) | u128::from(last))),
            };
            let claim = match n >> 17 & 1 {
                0 => Claim::Uses,
                _ => Claim::Probes { nonce: None },
            };
            let probing = [
                Probing::None,
                Probing::Announce,
                Probing::Check,
                Probing::Check,
            ];
            let probing = probing[usize::try_from(n >> 18 & 3).unwrap()];
            let before = all.generation();
            let was: Vec<_> = all.iter().copied().collect();
            match (n >> 24) % 8 {
                0 | 1 => _ = all.add(now, interface, address, 24, Origin::Static, probing),
                2 => _ = all.remove(interface, address),
                3 => _ = all.conflict(now, interface, address, THEM, claim),
                4 => _ = all.recheck(now, interface, address),
                5 => {
                    let valid = now + random.within(Duration::from_secs(5));
                    let preferred = now + random.within(Duration::from_secs(5));
                    let _ = all.set_lifetimes(now, interface, address, preferred, valid);
                }
                6 if n >> 40 & 15 == 0 => all.remove_interface(interface),
                _ => now = now + random.within(Duration::from_millis(700)),
            }
            let polls = n >> 48 & 1 == 0;
            while let Some(ask) = polls.then(|| all.poll(now)).flatten() {
                match ask {
                    Ask::Join {
                        interface, group, ..
                    } => *groups.entry((interface, group)).or_insert(0) += 1,
                    Ask::Leave { interface, group } => {
                        *groups.get_mut(&(interface, group)).unwrap() -= 1
                    }
                    Ask::DadSolicit {
                        interface, address, ..
                    } => {
                        assert!(
                            groups[&(interface, solicited_node(address))] > 0,
                            "joined before it asks"
                        );
                    }
                    _ => {}
                }
            }
            if polls {
                assert!(all.next_timeout().is_none_or(|next| next > now));
                let mut want = std::collections::BTreeMap::new();
                for shown in all.iter().filter(|shown| shown.state != State::Duplicate) {
                    if let IpAddr::V6(address) = shown.address {
                        *want
                            .entry((shown.interface, solicited_node(address)))
                            .or_insert(0) += 1;
                    }
                }
                groups.retain(|_, count| *count != 0);
                assert_eq!(groups, want, "seed {seed}");
            }
            for shown in all.iter() {
                assert_eq!(
                    all.is_ours(shown.interface, &shown.address),
                    Some(shown.state)
                );
            }
            let known = |shown: &Address| (shown.interface, shown.address, shown.state);
            if !was.iter().map(known).eq(all.iter().map(known)) {
                assert_ne!(all.generation(), before, "seed {seed}");
            }
            assert!(all.entries.len() <= 6);
        }
        assert_eq!(
            room,
            (
                all.entries.capacity(),
                all.leaves.capacity(),
                all.events.capacity()
            )
        );
    }
}
