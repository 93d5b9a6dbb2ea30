use super::*;
use crate::ip::address::{AddressConfig, Claim, State};

const ETH: InterfaceId = InterfaceId(0);
const OTHER: InterfaceId = InterfaceId(1);
const MAC: Mac = Mac([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
const THEM: Mac = Mac([2, 0, 0, 0, 0, 0x0b]);
const HOST: &str = "3656:78ff:fe9a:bcde";

const fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1_000)
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn made(prefix: &str) -> IpAddr {
    format!("{prefix}{HOST}").parse().unwrap()
}

struct Bench {
    autoconf: Autoconf,
    addresses: Addresses,
}

impl Bench {
    fn new(config: AutoconfConfig) -> Self {
        let mut autoconf = Autoconf::new(config, 1);
        let mut addresses = Addresses::new(AddressConfig::default(), 2);
        autoconf.enable(at(0), &mut addresses, ETH, MAC).unwrap();
        Self {
            autoconf,
            addresses,
        }
    }

    /// With a link-local address in use, and solicitations of no interest.
    fn quick() -> Self {
        let mut bench = Self::new(AutoconfConfig {
            probing: Probing::None,
            ..AutoconfConfig::default()
        });
        bench.run(at(1));
        bench.events();
        bench
    }

    /// What is due until `end`, but solicitations.
    fn run(&mut self, end: Instant) -> Vec<(Instant, Action)> {
        let mut all = self.run_all(end);
        all.retain(|(_, action)| !matches!(action, Action::RouterSolicit { .. }));
        all
    }

    fn run_all(&mut self, end: Instant) -> Vec<(Instant, Action)> {
        let (mut actions, mut now) = (Vec::new(), Instant::ZERO);
        loop {
            let timeouts = [self.autoconf.next_timeout(), self.addresses.next_timeout()];
            let Some(due) = timeouts
                .into_iter()
                .flatten()
                .min()
                .filter(|due| *due <= end)
            else {
                return actions;
            };
            now = now.max(due);
            while self.addresses.poll(now).is_some() {}
            while let Some(action) = self.autoconf.poll(now, &mut self.addresses) {
                actions.push((now, action));
            }
            assert!(self.autoconf.next_timeout().is_none_or(|next| next > now));
        }
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.addresses.poll_event()).collect()
    }

    fn hear(&mut self, now: Instant, advertisement: Advertisement, prefixes: &[PrefixInformation]) {
        let prefixes = prefixes.iter().copied();
        assert!(
            self.autoconf
                .advertised(now, &mut self.addresses, ETH, &advertisement, prefixes)
        );
    }

    fn shown(&self, address: IpAddr) -> Option<(State, Instant, Instant)> {
        let shown = self.addresses.get(ETH, &address)?;
        Some((shown.state, shown.preferred_until, shown.valid_until))
    }
}

fn router(last: u16, lifetime: u16) -> Advertisement {
    Advertisement {
        router: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last),
        lifetime,
        preference: Preference::Medium,
        hop_limit: 0,
        reachable_ms: 0,
        retransmit_ms: 0,
        mtu: None,
    }
}

fn prefix(prefix: &str, valid: u32, preferred: u32) -> PrefixInformation {
    PrefixInformation {
        prefix: v6(prefix),
        len: 64,
        on_link: true,
        autonomous: true,
        valid,
        preferred,
    }
}

fn default_route(last: u16, preference: Preference) -> Action {
    Action::AddRoute {
        interface: ETH,
        prefix: Ipv6Addr::UNSPECIFIED,
        len: 0,
        gateway: Some(router(last, 0).router),
        preference,
    }
}

fn no_default_route(last: u16) -> Action {
    let gateway = Some(router(last, 0).router);
    Action::RemoveRoute {
        interface: ETH,
        prefix: Ipv6Addr::UNSPECIFIED,
        len: 0,
        gateway,
    }
}

fn actions(timed: Vec<(Instant, Action)>) -> Vec<Action> {
    timed.into_iter().map(|(_, action)| action).collect()
}

#[test]
fn host_makes_a_link_local_address_and_solicits_ever_more_slowly() {
    let mut bench = Bench::new(AutoconfConfig::default());
    assert_eq!(bench.shown(made("fe80::")).unwrap().0, State::Tentative);
    let solicited = bench.run_all(at(40_000));
    assert_eq!(bench.shown(made("fe80::")).unwrap().0, State::Preferred);
    assert!(solicited[0].0 <= at(1));
    assert_eq!(
        solicited[0].1,
        Action::RouterSolicit {
            interface: ETH,
            source: None
        }
    );
    let source = Some(v6(&format!("fe80::{HOST}")));
    assert_eq!(
        solicited[1].1,
        Action::RouterSolicit {
            interface: ETH,
            source
        }
    );
    let waits: Vec<_> = solicited
        .windows(2)
        .map(|pair| pair[1].0.since(pair[0].0))
        .collect();
    let secs = Duration::from_secs_f64;
    assert!(waits[0] >= secs(3.6) && waits[0] <= secs(4.4), "{waits:?}");
    for pair in waits.windows(2) {
        let doubled = pair[1] >= pair[0].mul_f64(1.89) && pair[1] <= pair[0].mul_f64(2.11);
        let longest = pair[1] >= secs(3_240.0) && pair[1] <= secs(3_960.0);
        assert!(doubled || longest, "{waits:?}");
    }
    assert!(waits.len() > 15 && waits[10..].iter().all(|wait| *wait >= secs(3_240.0)));
}

#[test]
fn host_stops_soliciting_once_there_is_a_router_and_begins_anew_when_it_is_gone() {
    let mut bench = Bench::new(AutoconfConfig::default());
    // Heard before the first solicitation: one goes nevertheless.
    bench.hear(at(0), router(1, 100), &[]);
    let all = actions(bench.run_all(at(99)));
    let solicits = |all: &[Action]| {
        all.iter()
            .filter(|action| matches!(action, Action::RouterSolicit { .. }))
            .count()
    };
    assert_eq!(solicits(&all), 1);
    let all = bench.run_all(at(103));
    assert_eq!(all[0], (at(100), no_default_route(1)));
    assert_eq!(solicits(&actions(all)), 1);
    bench.hear(at(103), router(1, 1_000), &[]);
    assert_eq!(
        actions(bench.run_all(at(900))),
        [default_route(1, Preference::Medium)]
    );
}

#[test]
fn advertised_prefix_makes_a_route_and_an_address_that_is_checked() {
    let mut bench = Bench::new(AutoconfConfig::default());
    bench.run(at(10));
    bench.events();
    bench.hear(
        at(10),
        router(1, 1_800),
        &[prefix("2001:db8::", 86_400, 14_400)],
    );
    let on_link = Action::AddRoute {
        interface: ETH,
        prefix: v6("2001:db8::"),
        len: 64,
        gateway: None,
        preference: Preference::Medium,
    };
    let address = made("2001:db8::");
    assert_eq!(
        bench.shown(address),
        Some((State::Tentative, at(14_410), at(86_410)))
    );
    let done = actions(bench.run(at(20)));
    assert_eq!(done, [default_route(1, Preference::Medium), on_link]);
    assert_eq!(bench.shown(address).unwrap().0, State::Preferred);
    let found = Event::RouterFound {
        interface: ETH,
        router: v6("fe80::1"),
    };
    assert_eq!(
        bench.events(),
        [
            found,
            Event::AddressReady {
                interface: ETH,
                address
            }
        ]
    );
    // Left alone, all of it ends in its time.
    let ends = bench.run(at(100_000));
    let remove = Action::RemoveRoute {
        interface: ETH,
        prefix: v6("2001:db8::"),
        len: 64,
        gateway: None,
    };
    assert_eq!(
        ends,
        [(at(1_810), no_default_route(1)), (at(86_410), remove)]
    );
    assert_eq!(bench.shown(address), None);
    let want = [
        Event::RouterLost {
            interface: ETH,
            router: v6("fe80::1"),
        },
        Event::AddressDeprecated {
            interface: ETH,
            address,
        },
        Event::AddressExpired {
            interface: ETH,
            address,
        },
    ];
    assert_eq!(bench.events(), want);
}

#[test]
fn advertisements_do_not_shorten_a_valid_lifetime_below_two_hours() {
    let hours = |n: u64| n * 3_600;
    // Remaining, advertised, and what is left after: RFC 4862 section 5.5.3 (e).
    for (remaining, advertised, left) in [
        (hours(1), hours(3), hours(3)),  // longer than two hours: taken
        (hours(24), hours(3), hours(3)), // likewise, though shorter than before
        (hours(1), 5_400, 5_400),        // longer than what remains: taken
        (hours(1), 60, hours(1)),        // two hours or less remain: not touched
        (hours(2), 60, hours(2)),        // likewise, at the limit
        (hours(24), 60, hours(2)),       // cut, but to two hours only
        (hours(24), 0, hours(2)),        // zero does not remove
        (hours(24), hours(2), hours(2)), // two hours are not longer than two hours
    ] {
        let mut bench = Bench::quick();
        let (remaining, advertised) = (
            u32::try_from(remaining).unwrap(),
            u32::try_from(advertised).unwrap(),
        );
        bench.hear(
            at(10),
            router(1, 0),
            &[prefix("2001:db8::", remaining, remaining)],
        );
        bench.hear(at(10), router(1, 0), &[prefix("2001:db8::", advertised, 0)]);
        let (_, preferred, valid) = bench.shown(made("2001:db8::")).unwrap();
        assert_eq!(valid, at(10 + left), "{remaining} {advertised}");
        // The preferred lifetime is what was advertised, always.
        assert_eq!(preferred, at(10));
        bench.run(at(11));
        assert_eq!(
            bench.shown(made("2001:db8::")).unwrap().0,
            State::Deprecated
        );
        bench.run(at(9 + left));
        assert!(bench.shown(made("2001:db8::")).is_some());
        bench.run(at(10 + left));
        assert_eq!(bench.shown(made("2001:db8::")), None);
    }
}

#[test]
fn infinite_lifetimes_never_end_and_may_be_ended() {
    let mut bench = Bench::quick();
    bench.hear(
        at(10),
        router(1, 0),
        &[prefix("2001:db8::", u32::MAX, u32::MAX)],
    );
    assert_eq!(
        bench.shown(made("2001:db8::")),
        Some((State::Preferred, Instant::MAX, Instant::MAX))
    );
    bench.run(at(100));
    bench.hear(at(100), router(1, 0), &[prefix("2001:db8::", 0, 0)]);
    // On-link ends at once, RFC 4861 section 6.3.4; the address does not.
    let remove = Action::RemoveRoute {
        interface: ETH,
        prefix: v6("2001:db8::"),
        len: 64,
        gateway: None,
    };
    assert_eq!(actions(bench.run(at(100))), [remove]);
    assert_eq!(
        bench.shown(made("2001:db8::")),
        Some((State::Deprecated, at(100), at(7_300)))
    );
}

#[test]
fn prefixes_that_make_no_address_make_none() {
    let mut bench = Bench::quick();
    let good = prefix("2001:db8::", 100, 100);
    for bad in [
        PrefixInformation {
            autonomous: false,
            on_link: false,
            ..good
        },
        PrefixInformation {
            preferred: 101,
            on_link: false,
            ..good
        },
        PrefixInformation {
            len: 65,
            on_link: false,
            ..good
        },
        PrefixInformation { len: 0, ..good },
        PrefixInformation { len: 129, ..good },
        PrefixInformation {
            prefix: v6("fe80::"),
            ..good
        },
        PrefixInformation {
            prefix: v6("ff05::"),
            ..good
        },
        PrefixInformation {
            valid: 0,
            preferred: 0,
            ..good
        },
    ] {
        bench.hear(at(10), router(1, 0), &[bad]);
        assert_eq!(bench.addresses.iter().count(), 1, "{bad:?}");
        assert_eq!(bench.run(at(10)), [], "{bad:?}");
    }
    // On the link, though no address is made of it; and bits after the prefix do not count.
    let odd = PrefixInformation {
        prefix: v6("2001:db8::ffff"),
        len: 112,
        ..good
    };
    bench.hear(at(10), router(1, 0), &[odd]);
    let done = actions(bench.run(at(10)));
    assert!(
        matches!(done[..], [Action::AddRoute { len: 112, prefix, .. }] if prefix == v6("2001:db8::"))
    );
    // Who is not link-local, or not where it is heeded, is not heard.
    let far = Advertisement {
        router: v6("2001:db8::1"),
        ..router(1, 100)
    };
    assert!(
        !bench
            .autoconf
            .advertised(at(10), &mut bench.addresses, ETH, &far, [good])
    );
    assert!(
        !bench
            .autoconf
            .advertised(at(10), &mut bench.addresses, OTHER, &router(1, 9), [good])
    );
}

#[test]
fn routers_come_go_and_change_their_preference() {
    let mut bench = Bench::quick();
    bench.hear(
        at(10),
        Advertisement {
            preference: Preference::Low,
            ..router(1, 100)
        },
        &[],
    );
    bench.hear(at(10), router(2, 1_000), &[]);
    let low = default_route(1, Preference::Low);
    assert_eq!(
        actions(bench.run(at(10))),
        [low, default_route(2, Preference::Medium)]
    );
    // The same again changes the lifetime only.
    bench.hear(
        at(50),
        Advertisement {
            preference: Preference::Low,
            ..router(1, 100)
        },
        &[],
    );
    assert_eq!(bench.run(at(149)), []);
    bench.hear(
        at(149),
        Advertisement {
            preference: Preference::High,
            ..router(1, 100)
        },
        &[],
    );
    let high = default_route(1, Preference::High);
    assert_eq!(actions(bench.run(at(149))), [no_default_route(1), high]);
    // Lifetime zero: no default router at once.
    bench.hear(at(150), router(1, 0), &[]);
    assert_eq!(bench.run(at(150)), [(at(150), no_default_route(1))]);
    assert_eq!(
        bench.autoconf.routers().collect::<Vec<_>>(),
        [(ETH, v6("fe80::2"), Preference::Medium, at(1_010))]
    );
    let bits = [0, 1, 2, 3].map(Preference::from_bits);
    assert_eq!(
        bits,
        [
            Preference::Medium,
            Preference::High,
            Preference::Medium,
            Preference::Low
        ]
    );
}

#[test]
fn flood_of_forged_routers_and_prefixes_drives_none_out() {
    let mut bench = Bench::quick();
    for n in 1..=1_000 {
        let text = format!("2001:db8:0:{n:x}::");
        bench.hear(at(10), router(n, 1_800), &[prefix(&text, 86_400, 86_400)]);
    }
    assert_eq!(bench.autoconf.routers().count(), 8);
    assert_eq!(bench.addresses.iter().count(), 16);
    let added = bench.run(at(10)).len();
    assert_eq!(added, 8 + 16);
    assert_eq!(bench.autoconf.refused(), 992 + 984 + 985);
    assert!(
        bench
            .autoconf
            .routers()
            .any(|(_, router, ..)| router == v6("fe80::1"))
    );
}

#[test]
fn parameters_are_told_when_they_change() {
    let mut bench = Bench::quick();
    let said = Advertisement {
        hop_limit: 63,
        reachable_ms: 20_000,
        retransmit_ms: 500,
        mtu: Some(1_400),
        ..router(1, 0)
    };
    bench.hear(at(10), said, &[]);
    let want = [
        Action::SetMtu {
            interface: ETH,
            mtu: 1_400,
        },
        Action::SetHopLimit {
            interface: ETH,
            hop_limit: 63,
        },
        Action::SetReachable {
            interface: ETH,
            reachable: Duration::from_secs(20),
        },
        Action::SetRetransmit {
            interface: ETH,
            retransmit: Duration::from_millis(500),
        },
    ];
    assert_eq!(actions(bench.run(at(10))), want);
    bench.hear(at(11), said, &[]);
    bench.hear(at(11), router(1, 0), &[]);
    let absurd = Advertisement {
        mtu: Some(1_279),
        reachable_ms: 3_600_001,
        ..router(1, 0)
    };
    bench.hear(at(11), absurd, &[]);
    assert_eq!(bench.run(at(11)), []);
    bench.hear(
        at(12),
        Advertisement {
            mtu: Some(u32::MAX),
            ..router(1, 0)
        },
        &[],
    );
    assert_eq!(
        actions(bench.run(at(12))),
        [Action::SetMtu {
            interface: ETH,
            mtu: u16::MAX
        }]
    );
}

#[test]
fn duplicate_opaque_address_is_followed_by_another_until_retries_are_used_up() {
    let identifier = Identifier::Opaque { secret: [7; 16] };
    let mut bench = Bench::new(AutoconfConfig {
        identifier,
        ..AutoconfConfig::default()
    });
    bench.hear(at(1), router(1, 0), &[prefix("2001:db8::", 86_400, 14_400)]);
    let mut tried = Vec::new();
    for _ in 0..4 {
        let mut all = bench.addresses.iter();
        let shown = all
            .find(|shown| shown.origin == Origin::RouterAdvertisement)
            .copied()
            .unwrap();
        assert_eq!(
            (shown.state, shown.valid_until),
            (State::Tentative, at(86_401))
        );
        drop(all);
        tried.push(shown.address);
        bench
            .addresses
            .conflict(at(1), ETH, shown.address, THEM, Claim::Uses);
        for event in bench.events() {
            bench.autoconf.handle(at(1), &mut bench.addresses, &event);
        }
    }
    tried.dedup();
    assert_eq!(tried.len(), 4);
    // The last one stays a duplicate, and the next advertisement does not begin anew.
    assert_eq!(bench.shown(tried[3]).unwrap().0, State::Duplicate);
    bench.hear(at(2), router(1, 0), &[prefix("2001:db8::", 86_400, 14_400)]);
    assert_eq!(bench.addresses.iter().count(), 2);
}

#[test]
fn host_with_a_duplicate_link_address_makes_no_more_addresses() {
    let mut bench = Bench::new(AutoconfConfig::default());
    bench
        .addresses
        .conflict(at(0), ETH, made("fe80::"), THEM, Claim::Uses);
    for event in bench.events() {
        bench.autoconf.handle(at(0), &mut bench.addresses, &event);
    }
    assert_eq!(bench.shown(made("fe80::")).unwrap().0, State::Duplicate);
    bench.hear(
        at(1),
        router(1, 100),
        &[prefix("2001:db8::", 86_400, 14_400)],
    );
    assert_eq!(bench.addresses.iter().count(), 1);
}

#[test]
fn address_given_by_hand_is_not_the_routers_to_change() {
    let mut bench = Bench::quick();
    let address = made("2001:db8::");
    bench
        .addresses
        .add(at(1), ETH, address, 64, Origin::Static, Probing::None)
        .unwrap();
    bench.hear(at(10), router(1, 0), &[prefix("2001:db8::", 100, 100)]);
    assert_eq!(
        bench.shown(address),
        Some((State::Preferred, Instant::MAX, Instant::MAX))
    );
    assert_eq!(bench.autoconf.refused(), 0);
}

#[test]
fn disabled_interface_keeps_what_was_given_by_hand_and_nothing_else() {
    let mut bench = Bench::quick();
    let by_hand = "2001:db8:9::1".parse().unwrap();
    bench
        .addresses
        .add(at(1), ETH, by_hand, 64, Origin::Static, Probing::None)
        .unwrap();
    bench.hear(at(10), router(1, 100), &[prefix("2001:db8::", 100, 100)]);
    assert_eq!(bench.run(at(10)).len(), 2);
    bench.autoconf.disable(&mut bench.addresses, ETH);
    assert_eq!(
        bench
            .addresses
            .iter()
            .map(|shown| shown.address)
            .collect::<Vec<_>>(),
        [by_hand]
    );
    let removed = bench.run_all(at(50));
    assert_eq!(removed.len(), 2);
    assert!(
        removed
            .iter()
            .all(|(_, action)| matches!(action, Action::RemoveRoute { .. }))
    );
    assert_eq!(bench.autoconf.next_timeout(), None);
    let expired = bench
        .events()
        .into_iter()
        .filter(|e| matches!(e, Event::AddressExpired { .. }));
    assert_eq!(expired.count(), 2);
    assert!(
        !bench
            .autoconf
            .advertised(at(60), &mut bench.addresses, ETH, &router(1, 9), [])
    );
}

#[test]
fn interfaces_are_limited_and_enabled_once() {
    let mut bench = Bench::new(AutoconfConfig {
        interfaces_max: 1,
        ..AutoconfConfig::default()
    });
    assert_eq!(
        bench.autoconf.enable(at(0), &mut bench.addresses, ETH, MAC),
        Ok(())
    );
    assert_eq!(bench.addresses.iter().count(), 1);
    let full = bench
        .autoconf
        .enable(at(0), &mut bench.addresses, OTHER, MAC);
    assert!(matches!(
        full,
        Err(Error::Full {
            key: "interfaces_max",
            ..
        })
    ));
}
