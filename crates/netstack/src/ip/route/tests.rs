use core::time::Duration;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const FIRST: InterfaceId = InterfaceId(0);
const SECOND: InterfaceId = InterfaceId(1);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A static route over the first interface: `10.0.0.0/8`, `::/0`.
fn route(network: &str) -> Route {
    let (prefix, len) = network.split_once('/').unwrap();
    Route {
        prefix: ip(prefix),
        len: len.parse().unwrap(),
        interface: FIRST,
        gateway: None,
        metric: 0,
        origin: Origin::Static,
        mtu: None,
        until: None,
    }
}

fn via(network: &str, gateway: &str) -> Route {
    Route {
        gateway: Some(ip(gateway)),
        ..route(network)
    }
}

fn advertised(network: &str, gateway: &str, until: u64) -> Route {
    Route {
        origin: Origin::RouterAdvertisement,
        until: Some(Instant::from_millis(until)),
        ..via(network, gateway)
    }
}

fn networks(routes: &Routes) -> Vec<String> {
    let text = |route: &Route| format!("{}/{}", route.prefix, route.len);
    routes.iter().map(text).collect()
}

#[test]
fn longest_prefix_wins_in_both_versions() {
    let mut routes = Routes::new(16);
    for network in [
        "0.0.0.0/0",
        "10.1.2.3/32",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "::/0",
        "2001:db8::/32",
        "2001:db8::1/128",
        "fe80::/10",
    ] {
        routes.add(route(network)).unwrap();
    }
    let len = |to| {
        routes
            .lookup(ip(to))
            .map(|route| (route.prefix.is_ipv6(), route.len))
    };
    assert_eq!(len("10.1.2.3"), Some((false, 32)));
    assert_eq!(len("10.1.2.4"), Some((false, 16)));
    assert_eq!(len("10.2.0.0"), Some((false, 8)));
    assert_eq!(len("11.0.0.0"), Some((false, 0)));
    assert_eq!(len("255.255.255.255"), Some((false, 0)));
    assert_eq!(len("2001:db8::1"), Some((true, 128)));
    assert_eq!(len("2001:db8::2"), Some((true, 32)));
    assert_eq!(len("febf::1"), Some((true, 10)));
    assert_eq!(len("fec0::1"), Some((true, 0)));
    assert_eq!(len("::ffff:10.1.2.3"), Some((true, 0)));
    assert_eq!(
        networks(&routes),
        [
            "10.1.2.3/32",
            "10.1.0.0/16",
            "10.0.0.0/8",
            "0.0.0.0/0",
            "2001:db8::1/128",
            "2001:db8::/32",
            "fe80::/10",
            "::/0",
        ]
    );
}

#[test]
fn empty_table_leads_nowhere() {
    let routes = Routes::new(4);
    assert_eq!(routes.lookup(ip("10.0.0.1")), None);
    assert_eq!(routes.lookup(ip("::1")), None);
    assert_eq!(routes.next_timeout(), None);
}

#[test]
fn a_version_does_not_lead_the_other() {
    let mut routes = Routes::new(4);
    routes.add(route("::/0")).unwrap();
    assert_eq!(routes.lookup(ip("10.0.0.1")), None);
    routes.remove(ip("::"), 0, |_| true).unwrap();
    routes.add(route("0.0.0.0/0")).unwrap();
    assert_eq!(routes.lookup(ip("::1")), None);
}

#[test]
fn bits_beyond_the_prefix_are_cleared() {
    let mut routes = Routes::new(4);
    routes.add(route("10.1.2.3/8")).unwrap();
    routes.add(route("2001:db8::1/64")).unwrap();
    assert_eq!(networks(&routes), ["10.0.0.0/8", "2001:db8::/64"]);
    routes.remove(ip("10.9.9.9"), 8, |_| true).unwrap();
    assert_eq!(networks(&routes), ["2001:db8::/64"]);
}

#[test]
fn lowest_metric_wins_then_who_added_it_then_who_came_first() {
    let mut routes = Routes::new(8);
    let metric = |gateway, metric| Route {
        metric,
        ..via("0.0.0.0/0", gateway)
    };
    routes.add(metric("10.0.0.3", 30)).unwrap();
    routes.add(metric("10.0.0.1", 10)).unwrap();
    routes.add(metric("10.0.0.2", 20)).unwrap();
    for last in [4, 5] {
        let gateway = format!("10.0.0.{last}");
        let mut route = advertised("0.0.0.0/0", &gateway, 1000);
        route.metric = 10;
        routes.add(route).unwrap();
    }
    let gateways = |routes: &Routes| -> Vec<IpAddr> {
        let matches = routes.matches(ip("1.1.1.1"));
        matches.filter_map(|route| route.gateway).collect()
    };
    let order = ["10.0.0.1", "10.0.0.4", "10.0.0.5", "10.0.0.2", "10.0.0.3"];
    assert_eq!(gateways(&routes), order.map(ip));
    assert_eq!(
        routes.lookup(ip("1.1.1.1")).unwrap().gateway,
        Some(ip("10.0.0.1"))
    );

    // A router that lowers its preference moves back, and one that repeats itself does not move.
    let mut lower = advertised("0.0.0.0/0", "10.0.0.4", 2000);
    lower.metric = 40;
    routes.add(lower).unwrap();
    let order = ["10.0.0.1", "10.0.0.5", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
    assert_eq!(gateways(&routes), order.map(ip));
}

#[test]
fn second_static_route_is_refused_unless_it_differs_in_gateway_metric_or_interface() {
    let mut routes = Routes::new(8);
    let first = via("0.0.0.0/0", "10.0.0.1");
    routes.add(first).unwrap();
    assert_eq!(routes.add(first), Err(Error::RouteExists(ip("0.0.0.0"), 0)));
    for other in [
        via("0.0.0.0/0", "10.0.0.2"),
        Route { metric: 1, ..first },
        Route {
            interface: SECOND,
            ..first
        },
    ] {
        routes.add(other).unwrap();
    }
    assert_eq!(routes.iter().count(), 4);
    // The first one that was added is used, until its gateway is silent.
    assert_eq!(routes.lookup(ip("1.1.1.1")), Some(&first));
}

fn gateway(routes: &Routes, to: &str) -> String {
    let route = routes.lookup(ip(to)).unwrap();
    route.gateway.unwrap().to_string()
}

#[test]
fn silent_gateway_is_passed_over_until_it_is_heard() {
    let mut routes = Routes::new(8);
    routes.add(via("0.0.0.0/0", "10.0.0.1")).unwrap();
    routes.add(via("0.0.0.0/0", "10.0.0.2")).unwrap();
    routes.add(via("20.0.0.0/8", "10.0.0.3")).unwrap();
    routes.add(via("::/0", "fe80::1")).unwrap();
    let generation = routes.generation();
    assert!(routes.fell_silent(Instant::ZERO, FIRST, ip("10.0.0.1")));
    assert_eq!(routes.generation(), generation + 1);
    assert_eq!(gateway(&routes, "1.1.1.1"), "10.0.0.2");
    assert_eq!(gateway(&routes, "::1"), "fe80::1");
    // RFC 4191 section 3.2: who can be reached comes before the longest prefix.
    assert!(routes.fell_silent(Instant::ZERO, FIRST, ip("10.0.0.3")));
    assert_eq!(gateway(&routes, "20.0.0.1"), "10.0.0.2");
    // A neighbour, and no gateway; a gateway of another interface; one that was silent before.
    assert!(!routes.fell_silent(Instant::ZERO, FIRST, ip("10.0.0.9")));
    assert!(!routes.fell_silent(Instant::ZERO, SECOND, ip("10.0.0.2")));
    assert!(!routes.fell_silent(Instant::ZERO, FIRST, ip("10.0.0.3")));
    let generation = routes.generation();
    assert!(!routes.was_heard(FIRST, ip("10.0.0.2")));
    assert!(!routes.was_heard(SECOND, ip("10.0.0.1")));
    assert_eq!(routes.generation(), generation);
    assert!(routes.was_heard(FIRST, ip("10.0.0.3")));
    assert!(routes.was_heard(FIRST, ip("10.0.0.1")));
    assert_eq!(routes.generation(), generation + 2);
    assert_eq!(gateway(&routes, "20.0.0.1"), "10.0.0.3");
    assert_eq!(gateway(&routes, "1.1.1.1"), "10.0.0.1");
    assert_eq!(routes.silent().count(), 0);
}

#[test]
fn silent_gateways_are_tried_in_turn() {
    let mut routes = Routes::new(8);
    let all = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
    for gateway in all {
        routes.add(via("0.0.0.0/0", gateway)).unwrap();
    }
    for _ in 0..3 {
        for expected in all {
            assert_eq!(gateway(&routes, "1.1.1.1"), expected);
            routes.fell_silent(Instant::ZERO, FIRST, ip(expected));
        }
    }
    assert_eq!(routes.silent().count(), 3);
    // A new one is better than all of them, and one that is removed is forgotten.
    routes.add(via("0.0.0.0/0", "10.0.0.4")).unwrap();
    assert_eq!(gateway(&routes, "1.1.1.1"), "10.0.0.4");
    for gateway in ["10.0.0.1", "10.0.0.4"] {
        let is_it = |route: &Route| route.gateway == Some(ip(gateway));
        routes.remove(ip("0.0.0.0"), 0, is_it).unwrap();
    }
    let left: Vec<_> = routes.silent().map(|(_, gateway)| gateway).collect();
    assert_eq!(left, [ip("10.0.0.2"), ip("10.0.0.3")]);
    routes.add(via("0.0.0.0/0", "10.0.0.1")).unwrap();
    assert_eq!(gateway(&routes, "1.1.1.1"), "10.0.0.1");
}

#[test]
fn silent_gateway_is_asked_again_once_a_minute_where_it_would_lead() {
    let mut routes = Routes::new(8);
    let at = |seconds: u64| Instant::from_millis(seconds * 1000);
    routes.add(via("20.0.0.0/8", "10.0.0.1")).unwrap();
    routes.add(via("0.0.0.0/0", "10.0.0.2")).unwrap();
    assert_eq!(routes.to_retry(at(100), ip("20.0.0.1")), None);
    routes.fell_silent(at(0), FIRST, ip("10.0.0.1"));
    assert_eq!(routes.to_retry(at(59), ip("20.0.0.1")), None);
    assert_eq!(routes.to_retry(at(60), ip("30.0.0.1")), None);
    let again = Some((FIRST, ip("10.0.0.1")));
    assert_eq!(routes.to_retry(at(60), ip("20.0.0.1")), again);
    assert_eq!(routes.to_retry(at(119), ip("20.0.0.1")), None);
    assert_eq!(routes.to_retry(at(120), ip("20.0.0.1")), again);
    // Nor where it would not be used if it were there.
    routes.add(via("20.1.0.0/16", "10.0.0.2")).unwrap();
    assert_eq!(routes.to_retry(at(200), ip("20.1.0.1")), None);
    assert_eq!(routes.to_retry(at(200), ip("20.2.0.1")), again);
}

#[test]
fn impossible_routes_are_refused() {
    let mut routes = Routes::new(8);
    let refused = |routes: &mut Routes, route| routes.add(route).unwrap_err();
    assert_eq!(
        refused(&mut routes, route("10.0.0.0/33")),
        Error::PrefixLen { len: 33, bits: 32 }
    );
    assert_eq!(
        refused(&mut routes, route("::/129")),
        Error::PrefixLen {
            len: 129,
            bits: 128
        }
    );
    assert_eq!(
        refused(&mut routes, via("10.0.0.0/8", "fe80::1")),
        Error::OtherVersion(ip("fe80::1"))
    );
    for gateway in ["224.0.0.1", "0.0.0.0", "127.0.0.1"] {
        assert_eq!(
            refused(&mut routes, via("10.0.0.0/8", gateway)),
            Error::NotUnicast(ip(gateway))
        );
    }
    assert_eq!((routes.iter().count(), routes.generation()), (0, 0));
}

#[test]
fn full_table_refuses_and_keeps_what_it_holds() {
    let mut routes = Routes::new(2);
    routes
        .add(advertised("10.0.0.0/8", "10.0.0.1", 1000))
        .unwrap();
    routes.add(route("11.0.0.0/8")).unwrap();
    let full = Error::Full {
        what: "routes",
        max: 2,
        key: "routes_max",
    };
    let generation = routes.generation();
    assert_eq!(routes.add(route("12.0.0.0/8")), Err(full));
    assert_eq!(routes.generation(), generation);
    // What replaces a route needs no room.
    routes
        .add(advertised("10.0.0.0/8", "10.0.0.1", 2000))
        .unwrap();
    assert_eq!(networks(&routes), ["11.0.0.0/8", "10.0.0.0/8"]);
    assert_eq!(routes.next_timeout(), Some(Instant::from_millis(2000)));
}

#[test]
fn repeated_advertisement_extends_the_lifetime_without_a_new_generation() {
    let mut routes = Routes::new(8);
    routes.add(advertised("::/0", "fe80::1", 1000)).unwrap();
    let generation = routes.generation();
    routes.add(advertised("::/0", "fe80::1", 5000)).unwrap();
    assert_eq!(routes.generation(), generation);
    assert_eq!(routes.next_timeout(), Some(Instant::from_millis(5000)));
    assert_eq!(routes.expire(Instant::from_millis(4999)), 0);
    let narrower = Route {
        mtu: Some(1400),
        ..advertised("::/0", "fe80::1", 5000)
    };
    routes.add(narrower).unwrap();
    assert_ne!(routes.generation(), generation);
    assert_eq!(routes.lookup(ip("2001:db8::1")).unwrap().mtu, Some(1400));
    assert_eq!(routes.iter().count(), 1);
}

#[test]
fn routes_go_when_their_time_has_come() {
    let mut routes = Routes::new(8);
    routes.add(advertised("::/0", "fe80::1", 3000)).unwrap();
    routes.add(advertised("::/0", "fe80::2", 1000)).unwrap();
    routes.add(route("2001:db8::/32")).unwrap();
    let end = Instant::from_millis(1000);
    assert_eq!(routes.next_timeout(), Some(end));
    assert_eq!(routes.expire(Instant::from_nanos(end.as_nanos() - 1)), 0);
    assert_eq!(routes.expire(end), 1);
    assert_eq!(
        routes.lookup(ip("::1")).unwrap().gateway,
        Some(ip("fe80::1"))
    );
    assert_eq!(routes.next_timeout(), Some(Instant::from_millis(3000)));
    assert_eq!(routes.expire(Instant::MAX), 1);
    assert_eq!(routes.lookup(ip("::1")), None);
    assert_eq!(
        (networks(&routes), routes.next_timeout()),
        (vec!["2001:db8::/32".to_owned()], None)
    );
}

#[test]
fn link_local_destination_goes_out_where_it_is_asked_to() {
    let mut routes = Routes::new(8);
    for interface in [FIRST, SECOND] {
        routes
            .add(Route {
                interface,
                origin: Origin::Address,
                ..route("fe80::/10")
            })
            .unwrap();
    }
    let over = |interface| {
        routes
            .lookup_on(interface, ip("fe80::7"))
            .map(|route| route.interface)
    };
    assert_eq!(over(FIRST), Some(FIRST));
    assert_eq!(over(SECOND), Some(SECOND));
    assert_eq!(over(InterfaceId(2)), None);
}

#[test]
fn routes_go_with_their_interface_or_their_origin() {
    let mut routes = Routes::new(8);
    routes.add(route("10.0.0.0/8")).unwrap();
    routes.add(advertised("::/0", "fe80::1", 1000)).unwrap();
    routes
        .add(Route {
            interface: SECOND,
            ..advertised("::/0", "fe80::1", 1000)
        })
        .unwrap();
    assert_eq!(routes.remove_origin(FIRST, Origin::RouterAdvertisement), 1);
    assert_eq!(routes.lookup(ip("::1")).unwrap().interface, SECOND);
    let generation = routes.generation();
    assert_eq!(routes.remove_origin(FIRST, Origin::RouterAdvertisement), 0);
    assert_eq!(routes.generation(), generation);
    assert_eq!(routes.remove_interface(FIRST), 1);
    assert_eq!(routes.lookup(ip("10.0.0.1")), None);
    assert_eq!(routes.remove_interface(SECOND), 1);
    assert_eq!(routes.iter().count(), 0);
}

#[test]
fn removal_names_one_route() {
    let mut routes = Routes::new(8);
    routes.add(via("10.0.0.0/8", "10.0.0.1")).unwrap();
    routes
        .add(Route {
            metric: 5,
            ..via("10.0.0.0/8", "10.0.0.2")
        })
        .unwrap();
    let missing = Err(Error::RouteMissing(ip("10.0.0.0"), 9));
    assert_eq!(routes.remove(ip("10.0.0.0"), 9, |_| true), missing);
    let gone = routes.remove(ip("10.0.0.0"), 8, |route| {
        route.gateway == Some(ip("10.0.0.2"))
    });
    assert_eq!(gone.unwrap().metric, 5);
    assert_eq!(
        routes.lookup(ip("10.0.0.9")).unwrap().gateway,
        Some(ip("10.0.0.1"))
    );
}

#[test]
fn generation_wraps() {
    let mut routes = Routes::new(2);
    routes.generation = u32::MAX;
    routes.add(route("10.0.0.0/8")).unwrap();
    assert_eq!(routes.generation(), 0);
}

#[test]
fn networks_contain_their_addresses_at_every_length() {
    for len in 0..=32 {
        let inside = Ipv4Addr::from_bits(0xdead_beef ^ (!mask_v4(len)));
        assert!(contains(ip("222.173.190.239"), len, inside.into()), "{len}");
    }
    for len in 1..=128 {
        let address = 0x2001_0db8_u128 << 96 | 77;
        let other = address ^ (1 << (128 - u32::from(len)));
        let [address, other] = [address, other].map(|bits| Ipv6Addr::from_bits(bits).into());
        assert!(!contains(address, len, other), "{len}");
        assert!(contains(address, len - 1, other), "{len}");
    }
    assert!(!contains(ip("0.0.0.0"), 0, ip("::")));
    // Longer than an address: all of it counts.
    assert!(contains(ip("::1"), 255, ip("::1")));
    assert!(!contains(ip("::1"), 255, ip("::2")));
}

/// What happens to a table in the model test.
#[derive(Debug, Clone)]
enum Step {
    Add {
        v6: bool,
        bits: u8,
        len: u8,
        metric: u32,
        lifetime: Option<u64>,
    },
    Remove {
        v6: bool,
        bits: u8,
        len: u8,
    },
    Wait(u64),
}

/// Addresses that differ in their first eight bits alone meet each other's prefixes often.
fn address(v6: bool, bits: u8) -> IpAddr {
    if v6 {
        Ipv6Addr::from_bits(u128::from(bits) << 120).into()
    } else {
        Ipv4Addr::from_bits(u32::from(bits) << 24).into()
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let network = (any::<bool>(), any::<u8>(), 0..9_u8);
    let lifetime = proptest::option::of(1..50_u64);
    prop_oneof![
        4 => (network.clone(), 0..3_u32, lifetime).prop_map(|((v6, bits, len), metric, lifetime)| {
            Step::Add { v6, bits, len, metric, lifetime }
        }),
        2 => network.prop_map(|(v6, bits, len)| Step::Remove { v6, bits, len }),
        1 => (0..20_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Against a map from network and metric: the longest network that contains the address, and of its routes the one with
    /// the lowest metric.
    #[test]
    fn table_agrees_with_a_map(steps in proptest::collection::vec(steps(), 1..80)) {
        let mut routes = Routes::new(24);
        let mut model = BTreeMap::<(bool, u8, u8, u32), Option<Instant>>::new();
        let mut now = Instant::ZERO;
        let cut = |bits: u8, len: u8| bits & 0xff_u8.checked_shl(8 - u32::from(len)).unwrap_or(0);
        for step in steps {
            let generation = routes.generation();
            let before = model.keys().copied().collect::<Vec<_>>();
            match step {
                Step::Add { v6, bits, len, metric, lifetime } => {
                    let until = lifetime.map(|seconds| now + Duration::from_secs(seconds));
                    let added = routes.add(Route {
                        prefix: address(v6, bits), len, interface: FIRST, gateway: None, metric,
                        origin: Origin::Static, mtu: None, until,
                    });
                    let key = (v6, len, cut(bits, len), metric);
                    let expected = if model.contains_key(&key) {
                        Err(Error::RouteExists(address(v6, cut(bits, len)), len))
                    } else if model.len() == 24 {
                        Err(Error::Full { what: "routes", max: 24, key: "routes_max" })
                    } else {
                        model.insert(key, until);
                        Ok(())
                    };
                    prop_assert_eq!(added, expected);
                }
                Step::Remove { v6, bits, len } => {
                    let key = (v6, len, cut(bits, len));
                    let first = model.range((key.0, key.1, key.2, 0)..=(key.0, key.1, key.2, 9)).next();
                    let first = first.map(|(key, _)| *key);
                    let removed = routes.remove(address(v6, bits), len, |_| true);
                    prop_assert_eq!(removed.ok().map(|route| route.metric), first.map(|key| key.3));
                    first.map(|key| model.remove(&key));
                }
                Step::Wait(seconds) => {
                    now = now + Duration::from_secs(seconds);
                    routes.expire(now);
                    model.retain(|_, until| until.is_none_or(|until| until > now));
                }
            }
            let after = model.keys().copied().collect::<Vec<_>>();
            prop_assert_eq!(generation != routes.generation(), before != after);
            prop_assert_eq!(routes.next_timeout(), model.values().copied().flatten().min());
            prop_assert_eq!(routes.iter().count(), model.len());
            for v6 in [false, true] {
                for bits in (0..=255).step_by(5) {
                    let of_len = |len| model.keys().find(|key| (key.0, key.1, key.2) == (v6, len, cut(bits, len)));
                    let expected = (0..=8).rev().find_map(of_len).map(|key| (key.1, key.3));
                    let found = routes.lookup(address(v6, bits));
                    prop_assert_eq!(found.map(|route| (route.len, route.metric)), expected);
                    prop_assert_eq!(routes.matches(address(v6, bits)).next(), found);
                }
            }
        }
    }
}
