use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

const IF: InterfaceId = InterfaceId(0);
const OTHER: InterfaceId = InterfaceId(1);
const START: Instant = Instant::from_millis(1000);
const HIM: Mac = Mac([2, 0, 0, 0, 0, 1]);
const HER: Mac = Mac([2, 0, 0, 0, 0, 2]);

const OURS: Purpose = Purpose::Ours;
const ANSWER: Purpose = Purpose::Answer;
const SOLICITED: Learned = Learned::Solicited { overriding: true };
const UNSOLICITED: Learned = Learned::Unsolicited { overriding: true };

fn v4(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + n).into()
}

fn v6(n: u128) -> IpAddr {
    Ipv6Addr::from_bits((0xfe80 << 112) + n).into()
}

fn ms(millis: u64) -> Instant {
    START + Duration::from_millis(millis)
}

fn secs(seconds: u64) -> Instant {
    ms(seconds * 1000)
}

fn neighbours() -> Neighbours<u32> {
    Neighbours::new(
        NeighbourConfig {
            waiting_max_each: 16,
            waiting_max: 256,
            ..NeighbourConfig::default()
        },
        7,
    )
}

fn small(entries_max: usize) -> Neighbours<u32> {
    let config = NeighbourConfig {
        entries_max,
        ..NeighbourConfig::default()
    };
    Neighbours::new(config, 7)
}

fn state<P>(table: &Neighbours<P>, address: IpAddr) -> Option<State> {
    table
        .iter()
        .find(|line| line.address == address)
        .map(|line| line.state)
}

fn solicit(address: IpAddr, mac: Option<Mac>, first: bool) -> Option<Ask> {
    Some(Ask::Solicit {
        interface: IF,
        address,
        mac,
        first,
    })
}

fn failed(address: IpAddr) -> Option<Ask> {
    Some(Ask::Failed {
        interface: IF,
        address,
    })
}

fn known(mac: Mac, until: Instant) -> Resolution {
    Resolution::Known { mac, until }
}

/// Asks for somebody who answers at once.
fn meet<P>(table: &mut Neighbours<P>, now: Instant, address: IpAddr, mac: Mac) {
    assert_eq!(table.resolve(now, IF, address, OURS), Resolution::Unknown);
    while table.poll(now).is_some() {}
    assert_eq!(
        table.learn(now, IF, address, mac, SOLICITED, false),
        Change::Resolved
    );
}

fn all_waiting<P>(table: &mut Neighbours<P>, address: IpAddr) -> Vec<P> {
    core::iter::from_fn(|| table.take_waiting(IF, address)).collect()
}

#[test]
fn neighbour_goes_through_all_states_in_both_versions() {
    for him in [v4(1), v6(1)] {
        let mut table = neighbours();
        assert_eq!(table.next_timeout(), None);
        assert_eq!(table.resolve(START, IF, him, OURS), Resolution::Unknown);
        assert_eq!(state(&table, him), Some(State::Incomplete));
        assert_eq!(table.wait(IF, him, 1), Ok(()));
        assert_eq!(table.wait(IF, him, 2), Ok(()));
        assert_eq!(table.next_timeout(), Some(START));
        assert_eq!(table.poll(START), solicit(him, None, true));
        assert_eq!(table.poll(START), None);
        assert_eq!(table.next_timeout(), Some(secs(1)));
        assert_eq!(table.resolve(ms(1), IF, him, OURS), Resolution::Unknown);
        assert_eq!(table.poll(ms(1)), None);

        // Reachable for 30 seconds.
        assert_eq!(
            table.learn(ms(2), IF, him, HIM, SOLICITED, false),
            Change::Resolved
        );
        assert_eq!(all_waiting(&mut table, him), [1, 2]);
        let end = ms(30_002);
        assert_eq!(table.resolve(ms(3), IF, him, OURS), known(HIM, end));
        assert_eq!(state(&table, him), Some(State::Reachable));
        assert_eq!(table.next_timeout(), Some(end));

        // Stale, then Delay with the next packet.
        assert_eq!(table.poll(end), None);
        assert_eq!(state(&table, him), Some(State::Stale));
        let end = secs(45);
        assert_eq!(table.resolve(secs(40), IF, him, OURS), known(HIM, end));
        assert_eq!(state(&table, him), Some(State::Delay));
        assert_eq!(table.resolve(secs(41), IF, him, OURS), known(HIM, end));
        assert_eq!(table.poll(secs(44)), None);

        // Probe: packets still go out.
        assert_eq!(table.poll(secs(45)), solicit(him, Some(HIM), true));
        assert_eq!(state(&table, him), Some(State::Probe));
        assert_eq!(table.resolve(secs(45), IF, him, OURS), known(HIM, secs(46)));
        assert_eq!(table.poll(secs(46)), solicit(him, Some(HIM), false));
        assert_eq!(
            table.learn(ms(46_500), IF, him, HIM, SOLICITED, false),
            Change::Nothing
        );
        assert_eq!(
            table.resolve(secs(47), IF, him, OURS),
            known(HIM, ms(76_500))
        );

        // Nothing changed for who kept an answer until its end.
        assert_eq!(table.generation(), 0);

        // And gone ten minutes after the last packet to him.
        assert_eq!(table.poll(ms(76_500)), None);
        assert_eq!(table.next_timeout(), Some(ms(676_500)));
        assert_eq!(table.poll(ms(676_500)), None);
        assert_eq!((state(&table, him), table.next_timeout()), (None, None));
    }
}

#[test]
fn silent_neighbour_is_asked_three_times_a_second_apart_and_given_up() {
    let mut table = neighbours();
    let him = v4(9);
    assert_eq!(table.resolve(START, IF, him, OURS), Resolution::Unknown);
    table.wait(IF, him, 5).unwrap();
    table.wait(IF, him, 6).unwrap();
    for (second, first) in [(0, true), (1, false), (2, false)] {
        let just_before = Instant::from_nanos(secs(second).as_nanos() - 1);
        assert_eq!(table.poll(just_before), None);
        assert_eq!(table.poll(secs(second)), solicit(him, None, first));
        assert_eq!(table.next_timeout(), Some(secs(second + 1)));
    }
    assert_eq!(table.poll(secs(3)), failed(him));
    assert_eq!(all_waiting(&mut table, him), [5, 6]);
    assert!(table.is_empty());
    assert_eq!((table.poll(secs(3)), table.next_timeout()), (None, None));
    assert_eq!((table.waiting(), table.take_discarded()), (0, 0));
    // The next packet begins anew.
    assert_eq!(table.resolve(secs(4), IF, him, OURS), Resolution::Unknown);
    assert_eq!(table.poll(secs(4)), solicit(him, None, true));
}

#[test]
fn packets_of_a_failure_that_nobody_takes_are_counted() {
    let mut table = neighbours();
    table.resolve(START, IF, v4(9), OURS);
    table.wait(IF, v4(9), 5).unwrap();
    for second in 0..3 {
        assert!(table.poll(secs(second)).is_some());
    }
    assert_eq!(table.poll(secs(3)), failed(v4(9)));
    assert_eq!(table.next_timeout(), Some(secs(3)));
    assert_eq!(table.wait(IF, v4(9), 6), Err((6, Reason::NeighbourFailed)));
    assert_eq!(table.poll(secs(3)), None);
    assert_eq!(
        (table.take_discarded(), table.take_discarded(), table.len()),
        (1, 0, 0)
    );
}

#[test]
fn failure_that_is_asked_for_again_keeps_its_packets() {
    let mut table = neighbours();
    table.resolve(START, IF, v4(9), OURS);
    table.wait(IF, v4(9), 5).unwrap();
    for second in 0..3 {
        assert!(table.poll(secs(second)).is_some());
    }
    assert_eq!(table.poll(secs(3)), failed(v4(9)));
    assert_eq!(table.resolve(secs(3), IF, v4(9), OURS), Resolution::Unknown);
    table.wait(IF, v4(9), 6).unwrap();
    assert_eq!(table.poll(secs(3)), solicit(v4(9), None, true));
    assert_eq!(
        table.learn(secs(3), IF, v4(9), HIM, SOLICITED, false),
        Change::Resolved
    );
    assert_eq!(all_waiting(&mut table, v4(9)), [5, 6]);
    assert_eq!(state(&table, v4(9)), Some(State::Reachable));
}

#[test]
fn probed_neighbour_that_is_gone_is_forgotten_and_so_are_answers_about_him() {
    let mut table = neighbours();
    meet(&mut table, START, v4(1), HIM);
    table.resolve(secs(31), IF, v4(1), OURS);
    for (second, first) in [(36, true), (37, false), (38, false)] {
        assert_eq!(table.poll(secs(second)), solicit(v4(1), Some(HIM), first));
    }
    assert_eq!(table.generation(), 0);
    assert_eq!(table.poll(secs(39)), failed(v4(1)));
    assert_eq!(table.generation(), 1);
    assert!(table.is_empty());
    assert_eq!(table.take_waiting(IF, v4(1)), None);
}

#[test]
fn sign_of_an_upper_layer_saves_the_probe() {
    let mut table = neighbours();
    meet(&mut table, START, v4(1), HIM);
    table.confirm(secs(20), IF, v4(1));
    assert_eq!(
        table.resolve(secs(49), IF, v4(1), OURS),
        known(HIM, secs(50))
    );
    assert_eq!(
        table.resolve(secs(50), IF, v4(1), OURS),
        known(HIM, secs(55))
    );
    table.confirm(secs(54), IF, v4(1));
    assert_eq!(table.poll(secs(55)), None);
    assert_eq!(state(&table, v4(1)), Some(State::Reachable));
    // In Probe, too: the repetitions end, and the next time there are three again.
    table.resolve(secs(84), IF, v4(1), OURS);
    assert_eq!(table.poll(secs(89)), solicit(v4(1), Some(HIM), true));
    table.confirm(secs(89), IF, v4(1));
    assert_eq!(table.poll(secs(90)), None);
    table.resolve(secs(120), IF, v4(1), OURS);
    for (second, first) in [(125, true), (126, false), (127, false)] {
        assert_eq!(table.poll(secs(second)), solicit(v4(1), Some(HIM), first));
    }
    assert_eq!(table.generation(), 0);
}

#[test]
fn sign_about_a_neighbour_whom_we_do_not_know_tells_nothing() {
    let mut table = neighbours();
    table.confirm(START, IF, v4(1));
    table.resolve(START, IF, v4(1), OURS);
    table.confirm(START, IF, v4(1));
    assert_eq!(
        table.learn(START, IF, v4(2), HER, Learned::Mention, true),
        Change::Created
    );
    table.confirm(START, IF, v4(2));
    table.set_static(START, IF, v4(3), HIM).unwrap();
    table.confirm(START, IF, v4(3));
    let states = [v4(1), v4(2), v4(3)].map(|address| state(&table, address));
    assert_eq!(
        states,
        [
            Some(State::Incomplete),
            Some(State::Stale),
            Some(State::Static)
        ]
    );
}

/// RFC 4861 section 7.2.5 and appendix C: each state, each kind of message, the same or another address.
#[test]
fn advertisements_change_states_as_the_rfc_says() {
    use State::{Delay, Incomplete, Probe, Reachable, Stale};
    let kinds = [
        Learned::Solicited { overriding: true },
        Learned::Solicited { overriding: false },
        Learned::Unsolicited { overriding: true },
        Learned::Unsolicited { overriding: false },
        Learned::Mention,
    ];
    // For each kind: the state after the same address, after another, and whether the other is taken over.
    let expected = [
        (
            Incomplete,
            [
                (Reachable, Reachable, true),
                (Reachable, Reachable, true),
                (Stale, Stale, true),
                (Stale, Stale, true),
                (Stale, Stale, true),
            ],
        ),
        (
            Reachable,
            [
                (Reachable, Reachable, true),
                (Reachable, Stale, false),
                (Reachable, Stale, true),
                (Reachable, Stale, false),
                (Reachable, Stale, true),
            ],
        ),
        (
            Stale,
            [
                (Reachable, Reachable, true),
                (Reachable, Stale, false),
                (Stale, Stale, true),
                (Stale, Stale, false),
                (Stale, Stale, true),
            ],
        ),
        (
            Delay,
            [
                (Reachable, Reachable, true),
                (Reachable, Delay, false),
                (Delay, Stale, true),
                (Delay, Delay, false),
                (Delay, Stale, true),
            ],
        ),
        (
            Probe,
            [
                (Reachable, Reachable, true),
                (Reachable, Probe, false),
                (Probe, Stale, true),
                (Probe, Probe, false),
                (Probe, Stale, true),
            ],
        ),
    ];
    for (before, after) in expected {
        for (kind, (same, other, taken)) in kinds.into_iter().zip(after) {
            for moves in [false, true] {
                let mut table = neighbours();
                let mut now = START;
                if before == Incomplete {
                    table.resolve(now, IF, v4(1), OURS);
                    table.poll(now);
                } else {
                    meet(&mut table, now, v4(1), HIM);
                }
                if matches!(before, Stale | Delay | Probe) {
                    now = secs(30);
                    table.poll(now);
                }
                if matches!(before, Delay | Probe) {
                    table.resolve(now, IF, v4(1), OURS);
                }
                if before == Probe {
                    now = secs(35);
                    table.poll(now);
                }
                assert_eq!(state(&table, v4(1)), Some(before));
                let generation = table.generation();
                let mac = if moves { HER } else { HIM };
                let change = table.learn(now, IF, v4(1), mac, kind, false);
                let what = format!("{before:?} {kind:?} {moves}");
                assert_eq!(
                    state(&table, v4(1)),
                    Some(if moves { other } else { same }),
                    "{what}"
                );
                let now_his = table.lookup(IF, v4(1)).unwrap();
                assert_eq!(now_his, if moves && taken { HER } else { HIM }, "{what}");
                let expected = match (before, moves && taken) {
                    (Incomplete, _) => Change::Resolved,
                    (_, true) => Change::Moved { from: HIM },
                    (_, false) => Change::Nothing,
                };
                assert_eq!(change, expected, "{what}");
                // An answer that somebody may have kept: it must go if the address or the trust in it did.
                let doubted = before == Reachable && state(&table, v4(1)) == Some(Stale);
                let moved = matches!(change, Change::Moved { .. });
                assert_eq!(table.generation() != generation, moved || doubted, "{what}");
            }
        }
    }
}

#[test]
fn only_who_may_create_does() {
    let mut table = neighbours();
    for how in [SOLICITED, UNSOLICITED, Learned::Mention] {
        assert_eq!(
            table.learn(START, IF, v4(1), HIM, how, false),
            Change::Nothing
        );
    }
    assert!(table.is_empty());
    // Whatever it claims to be, nobody asked for it: Stale.
    assert_eq!(
        table.learn(START, IF, v4(1), HIM, SOLICITED, true),
        Change::Created
    );
    assert_eq!(state(&table, v4(1)), Some(State::Stale));
    assert_eq!(table.resolve(START, IF, v4(1), OURS), known(HIM, secs(5)));
    assert_eq!(state(&table, v4(1)), Some(State::Delay));
}

#[test]
fn answer_that_was_not_asked_for_does_not_make_a_mentioned_one_reachable() {
    let mut table = neighbours();
    table.learn(START, IF, v6(1), HIM, Learned::Mention, true);
    assert_eq!(
        table.learn(START, IF, v6(1), HIM, SOLICITED, false),
        Change::Nothing
    );
    assert_eq!(state(&table, v6(1)), Some(State::Stale));
    let weak = Learned::Unsolicited { overriding: false };
    assert_eq!(
        table.learn(START, IF, v6(1), HER, weak, false),
        Change::Nothing
    );
    assert_eq!(table.lookup(IF, v6(1)), Some(HIM));
    let moved = Change::Moved { from: HIM };
    assert_eq!(
        table.learn(START, IF, v6(1), HER, Learned::Mention, false),
        moved
    );
    assert_eq!(
        (table.lookup(IF, v6(1)), table.generation()),
        (Some(HER), 0)
    );
}

#[test]
fn addresses_that_no_host_has_are_ignored() {
    let mut table = neighbours();
    for mac in [
        Mac([0; 6]),
        Mac([0xff; 6]),
        Mac([1, 0, 0x5e, 0, 0, 1]),
        Mac([0x33, 0x33, 0, 0, 0, 1]),
    ] {
        assert_eq!(
            table.learn(START, IF, v4(1), mac, Learned::Mention, true),
            Change::Nothing
        );
    }
    for address in [
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "127.0.0.1",
        "::",
        "::1",
        "ff02::1",
    ] {
        let change = table.learn(
            START,
            IF,
            address.parse().unwrap(),
            HIM,
            Learned::Mention,
            true,
        );
        assert_eq!(change, Change::Nothing, "{address}");
    }
    assert!(table.is_empty());
}

#[test]
fn same_address_on_two_interfaces_is_two_neighbours() {
    let mut table = neighbours();
    let mapped = Ipv6Addr::from_bits(0x0a00_0001).into();
    meet(&mut table, START, v4(1), HIM);
    meet(&mut table, START, mapped, HER);
    assert_eq!(
        table.resolve(START, OTHER, v4(1), OURS),
        Resolution::Unknown
    );
    assert_eq!(table.lookup(IF, v4(1)), Some(HIM));
    assert_eq!(table.lookup(IF, mapped), Some(HER));
    let lines: BTreeSet<_> = table
        .iter()
        .map(|line| (line.interface, line.address))
        .collect();
    assert_eq!(
        lines,
        BTreeSet::from([(IF, v4(1)), (IF, mapped), (OTHER, v4(1))])
    );
    table.flush(OTHER);
    assert_eq!(table.len(), 2);
}

#[test]
fn static_neighbour_is_neither_asked_nor_changed_nor_dropped() {
    let mut table = small(4);
    table.set_static(START, IF, v4(1), HIM).unwrap();
    assert_eq!(table.next_timeout(), None);
    for how in [SOLICITED, UNSOLICITED, Learned::Mention] {
        assert_eq!(
            table.learn(START, IF, v4(1), HER, how, true),
            Change::Nothing
        );
    }
    for n in 2..1000 {
        table.resolve(ms(n.into()), IF, v4(n), OURS);
        table.learn(ms(n.into()), IF, v4(n + 5000), HER, Learned::Mention, true);
    }
    table.flush(IF);
    assert_eq!(table.len(), 1);
    assert_eq!(
        table.resolve(Instant::MAX, IF, v4(1), OURS),
        known(HIM, Instant::MAX)
    );
    assert_eq!(table.poll(Instant::MAX), None);
    let generation = table.generation();
    table.set_static(START, IF, v4(1), HER).unwrap();
    assert_eq!(
        table.resolve(START, IF, v4(1), OURS),
        known(HER, Instant::MAX)
    );
    assert_eq!(table.generation(), generation + 1);
    assert!(table.remove(IF, v4(1)));
    assert!(!table.remove(IF, v4(1)));
    assert_eq!(table.generation(), generation + 2);

    for n in 0..4 {
        table.set_static(START, IF, v4(n), HIM).unwrap();
    }
    let full = Error::Full {
        what: "neighbours",
        max: 4,
        key: "neighbours.entries_max",
    };
    assert_eq!(table.set_static(START, IF, v4(9), HIM), Err(full));
    assert_eq!(table.resolve(START, IF, v4(9), OURS), Resolution::Unknown);
    assert_eq!(
        table.wait(IF, v4(9), 1),
        Err((1, Reason::NeighbourTableFull))
    );
    assert_eq!(
        table.learn(START, IF, v4(9), HIM, Learned::Mention, true),
        Change::Full
    );
}

#[test]
fn setting_a_neighbour_who_is_waited_for_lets_the_packets_go() {
    let mut table = neighbours();
    table.resolve(START, IF, v4(1), OURS);
    table.wait(IF, v4(1), 7).unwrap();
    table.set_static(START, IF, v4(1), HIM).unwrap();
    assert_eq!(all_waiting(&mut table, v4(1)), [7]);
    assert_eq!(table.len(), 1);
}

#[test]
fn removal_counts_what_waited() {
    let mut table = neighbours();
    for n in 0..3 {
        table.resolve(START, IF, v4(n), OURS);
        table.wait(IF, v4(n), n).unwrap();
    }
    assert!(table.remove(IF, v4(0)));
    assert_eq!(table.take_discarded(), 1);
    table.flush(IF);
    assert_eq!(
        (table.take_discarded(), table.waiting(), table.len()),
        (2, 0, 0)
    );
}

#[test]
fn latest_packets_are_kept_for_each_neighbour() {
    let mut table = neighbours();
    table.resolve(START, IF, v4(1), OURS);
    for n in 0..16 {
        table.wait(IF, v4(1), n).unwrap();
    }
    for n in 16..40 {
        assert_eq!(
            table.wait(IF, v4(1), n),
            Err((n - 16, Reason::NeighbourQueueFull))
        );
    }
    assert_eq!(table.waiting(), 16);
    table.learn(START, IF, v4(1), HIM, SOLICITED, false);
    assert_eq!(all_waiting(&mut table, v4(1)), (24..40).collect::<Vec<_>>());
}

#[test]
fn packets_for_the_dead_make_room_for_the_living() {
    let mut table = neighbours();
    // Sixteen packets each for a hundred who do not answer, and one for somebody who does.
    let mut dropped = 0;
    for n in 0..1600 {
        table.resolve(START, IF, v4(n % 100), OURS);
        if let Err((old, reason)) = table.wait(IF, v4(n % 100), n) {
            assert_eq!((old, reason), (n - 256, Reason::NeighbourQueueFull));
            dropped += 1;
        }
    }
    assert_eq!((table.waiting(), dropped), (256, 1600 - 256));
    table.resolve(START, IF, v4(500), OURS);
    assert_eq!(
        table.wait(IF, v4(500), 5000),
        Err((1600 - 256, Reason::NeighbourQueueFull))
    );
    table.learn(START, IF, v4(500), HIM, SOLICITED, false);
    assert_eq!(all_waiting(&mut table, v4(500)), [5000]);
}

#[test]
fn limits_of_nothing_refuse_and_do_not_panic() {
    for (entries_max, waiting_max_each, waiting_max) in [(0, 4, 4), (4, 0, 4), (4, 4, 0), (0, 0, 0)]
    {
        let config = NeighbourConfig {
            entries_max,
            waiting_max_each,
            waiting_max,
            probes_max: 0,
            reachable: Duration::ZERO,
            delay: Duration::ZERO,
            retransmit: Duration::ZERO,
            stale_after: Duration::ZERO,
        };
        let mut table = Neighbours::new(config, 0);
        for n in 0..20 {
            assert_eq!(table.resolve(START, IF, v4(n), OURS), Resolution::Unknown);
            assert!(table.wait(IF, v4(n), n).is_err());
            table.learn(START, IF, v4(n + 100), HIM, Learned::Mention, true);
            let asks = core::iter::from_fn(|| table.poll(START)).take(10).count();
            assert!(asks <= 2);
        }
        assert!(table.len() <= entries_max);
    }
}

/// Forty in use, forty idle, and two static ones.
fn lively(entries_max: usize) -> Neighbours<u32> {
    let mut table = small(entries_max);
    for n in 0..80 {
        meet(&mut table, START, v4(n), HIM);
    }
    for n in 100..102 {
        table.set_static(START, IF, v4(n), HER).unwrap();
    }
    for n in 0..40 {
        table.confirm(secs(20), IF, v4(n));
    }
    while table.poll(secs(31)).is_some() {}
    table
}

#[test]
fn flood_of_requests_evicts_nobody_whom_we_ever_used() {
    let mut table = lively(128);
    let generation = table.generation();
    let capacity = table.table.capacity();
    for n in 0..20_000_u32 {
        let now = secs(31) + Duration::from_micros(n.into());
        let address = v4(0x10_0000 + n.wrapping_mul(2_654_435_761) % 0xe0_0000);
        table.learn(now, IF, address, HER, Learned::Mention, true);
        // Nor by claiming to have answered.
        table.learn(now, IF, address, HER, SOLICITED, false);
        assert!(table.len() <= 128);
    }
    for n in (0..80).chain(100..102) {
        assert!(state(&table, v4(n)).is_some(), "{n}");
    }
    assert_eq!(table.generation(), generation);
    assert_eq!(table.table.capacity(), capacity);
    // Those of the flood make room for whom we want to reach.
    table.resolve(secs(32), IF, v4(5000), OURS);
    assert_eq!(state(&table, v4(5000)), Some(State::Incomplete));
}

#[test]
fn flood_of_requests_gets_nothing_where_all_are_used() {
    let mut table = small(8);
    for n in 0..8 {
        meet(&mut table, START, v4(n), HIM);
    }
    table.poll(secs(30));
    for n in 100..200 {
        assert_eq!(
            table.learn(secs(30), IF, v4(n), HER, Learned::Mention, true),
            Change::Full
        );
    }
    assert!((0..8).all(|n| state(&table, v4(n)) == Some(State::Stale)));
}

#[test]
fn flood_of_invented_neighbours_gets_half_and_evicts_nobody_in_use() {
    let mut table = lively(128);
    let generation = table.generation();
    let mut packets = 0;
    for n in 0..20_000_u32 {
        let now = secs(31) + Duration::from_micros(100 * u64::from(n));
        let address = v4(0x10_0000 + n);
        assert_eq!(table.resolve(now, IF, address, OURS), Resolution::Unknown);
        packets += u64::from(table.wait(IF, address, n).is_err());
        table.poll(now);
        assert!(table.len() <= 128);
        assert!(table.waiting() <= 256);
    }
    for n in (0..40).chain(100..102) {
        assert!(
            matches!(state(&table, v4(n)), Some(State::Reachable | State::Static)),
            "{n}"
        );
    }
    // Of the idle ones those stay for whom there is room beside half of the table.
    let idle = (40..80).filter(|n| state(&table, v4(*n)).is_some()).count();
    assert_eq!(idle, 128 - 64 - 42);
    assert_eq!(table.generation(), generation);
    // Each packet waits or was counted.
    assert_eq!(
        packets + table.take_discarded() + table.waiting() as u64,
        20_000
    );
    // Somebody who is there and answers is found in spite of it.
    let now = secs(33);
    table.resolve(now, IF, v4(600), OURS);
    table.wait(IF, v4(600), 1).ok();
    assert_eq!(
        table.learn(now, IF, v4(600), HIM, SOLICITED, false),
        Change::Resolved
    );
    assert_eq!(all_waiting(&mut table, v4(600)), [1]);
}

#[test]
fn one_more_than_all_who_are_in_use_displaces_who_was_confirmed_longest_ago() {
    let mut table = small(4);
    for n in 0..4 {
        meet(&mut table, ms(n.into()), v4(n), HIM);
    }
    let generation = table.generation();
    assert_eq!(table.resolve(secs(1), IF, v4(9), OURS), Resolution::Unknown);
    assert_eq!(table.wait(IF, v4(9), 1), Ok(()));
    assert_eq!(state(&table, v4(0)), None);
    assert_ne!(table.generation(), generation);
    // The next one displaces that one, who has his share, and not those who are there.
    for n in 10..20 {
        table.resolve(secs(1), IF, v4(n), OURS);
    }
    assert!((1..4).all(|n| state(&table, v4(n)) == Some(State::Reachable)));
    assert_eq!((table.len(), table.displaced()), (4, 11));
    // The first one becomes stale, without a poll in between.
    meet(&mut table, secs(29), v4(19), HIM);
    table.resolve(ms(30_001), IF, v4(20), OURS);
    assert!((2..4).all(|n| state(&table, v4(n)).is_some()));
    assert_eq!(state(&table, v4(1)), None);
}

/// A table of eight, and in it one of each kind and place that may be displaced.
fn one_of_each(kinds: &[(u32, &str)]) -> Neighbours<u32> {
    let mut table = small(kinds.len());
    // Whoever is to be Stale first, since that takes time.
    let mut all = kinds.to_vec();
    all.sort_by_key(|(_, kind)| !kind.contains("stale"));
    for (n, kind) in all {
        let now = if kind.contains("stale") {
            START
        } else {
            secs(40)
        };
        let address = v4(n);
        let purpose = if kind.contains("ours") { OURS } else { ANSWER };
        if kind.contains("mentioned") {
            table.learn(now, IF, address, HIM, Learned::Mention, true);
        } else if kind.contains("proven") {
            table.resolve(now, IF, address, purpose);
            while table.poll(now).is_some() {}
            table.learn(now, IF, address, HIM, SOLICITED, false);
        } else if kind.contains("asked") {
            table.resolve(now, IF, address, purpose);
            table.poll(now);
        } else {
            table.learn(now, IF, address, HIM, Learned::Mention, true);
            table.resolve(now, IF, address, purpose);
            if kind.contains("stale") {
                // He moved, and who says so has not answered.
                table.learn(now, IF, address, HER, UNSOLICITED, false);
            }
        }
        if kind.contains("stale") {
            table.poll(secs(40));
            assert_eq!(state(&table, address), Some(State::Stale), "{kind}");
        }
    }
    assert_eq!(table.len(), kinds.len());
    table
}

/// Who makes room for newcomers that wait for an answer, one after the other.
fn displaced(table: &mut Neighbours<u32>, purpose: Purpose, newcomers: u32) -> Vec<u32> {
    let mut order = Vec::new();
    for n in 0..newcomers {
        let before: Vec<_> = table.iter().map(|line| line.address).collect();
        table.resolve(secs(40), IF, v4(1000 + n), purpose);
        // They answer at once, so that they do not count as unresolved.
        table.poll(secs(40));
        let gone = before
            .iter()
            .find(|address| state(table, **address).is_none());
        order.extend(gone.map(|gone| match gone {
            IpAddr::V4(gone) => gone.to_bits() - 0x0a00_0000,
            IpAddr::V6(_) => panic!("{gone}"),
        }));
        if state(table, v4(1000 + n)).is_some() {
            table.set_static(secs(40), IF, v4(1000 + n), HIM).unwrap();
        }
    }
    order
}

const KINDS: [(u32, &str); 9] = [
    (1, "mentioned"),
    (2, "answered, stale"),
    (3, "answered, delay"),
    (4, "answered, asked"),
    (5, "answered, proven, stale"),
    (6, "answered, proven"),
    (7, "ours, delay"),
    (8, "ours, proven, stale"),
    (9, "ours, proven"),
];

#[test]
fn what_we_want_displaces_what_strangers_made_first_and_who_is_there_last() {
    let mut table = one_of_each(&KINDS);
    let order = displaced(&mut table, OURS, 10);
    assert_eq!(order, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(table.iter().all(|line| line.state == State::Static));
}

#[test]
fn answers_displace_nobody_whom_we_use() {
    let mut table = one_of_each(&KINDS);
    // A share of one: an idle one of ours goes only where strangers have nothing.
    assert_eq!(displaced(&mut table, ANSWER, 10), [1, 2, 3, 5, 4, 6, 8]);
    let left = [7, 9].map(|n| state(&table, v4(n)));
    assert_eq!(left, [Some(State::Delay), Some(State::Reachable)]);
    assert_eq!(
        table.resolve(secs(40), IF, v4(5000), ANSWER),
        Resolution::Unknown
    );
    assert_eq!(
        table.wait(IF, v4(5000), 1),
        Err((1, Reason::NeighbourTableFull))
    );
}

#[test]
fn mention_displaces_who_was_only_mentioned() {
    let mut table = one_of_each(&KINDS);
    let mention = |table: &mut Neighbours<u32>, n| {
        table.learn(secs(40), IF, v4(n), HIM, Learned::Mention, true)
    };
    assert_eq!(mention(&mut table, 100), Change::Created);
    assert_eq!(state(&table, v4(1)), None);
    table.set_static(secs(40), IF, v4(100), HIM).unwrap();
    assert_eq!(mention(&mut table, 101), Change::Full);
    assert!((2..10).all(|n| state(&table, v4(n)).is_some()));
}

#[test]
fn stranger_to_whom_we_send_is_ours_from_then_on() {
    let mut table = neighbours();
    let line = |table: &Neighbours<u32>| table.iter().next().map(|line| (line.ours, line.proven));
    table.learn(START, IF, v4(1), HIM, Learned::Mention, true);
    // What is not kept need not be taken back: until now, and no longer.
    assert_eq!(table.resolve(START, IF, v4(1), ANSWER), known(HIM, START));
    assert_eq!(line(&table), Some((false, false)));
    // To answer where nothing was asked proves nothing.
    table.learn(START, IF, v4(1), HIM, SOLICITED, false);
    assert_eq!(state(&table, v4(1)), Some(State::Reachable));
    assert_eq!(line(&table), Some((false, false)));
    assert_eq!(table.resolve(ms(1), IF, v4(1), OURS), known(HIM, secs(30)));
    assert_eq!(line(&table), Some((true, false)));
    table.poll(secs(30));
    table.resolve(secs(30), IF, v4(1), ANSWER);
    assert!(table.poll(secs(35)).is_some());
    table.learn(secs(35), IF, v4(1), HIM, SOLICITED, false);
    assert_eq!(line(&table), Some((true, true)));
    // It is another station now.
    table.learn(secs(36), IF, v4(1), HER, UNSOLICITED, false);
    assert_eq!(line(&table), Some((true, false)));
    table.confirm(secs(37), IF, v4(1));
    assert_eq!(line(&table), Some((true, true)));
}

#[test]
fn flood_of_strangers_who_get_answers_leaves_all_answers_that_are_kept() {
    let mut table = lively(128);
    let generation = table.generation();
    for n in 0..20_000_u32 {
        let now = secs(31) + Duration::from_micros(100 * u64::from(n));
        let address = v4(0x10_0000 + n);
        // Every other one says where he is; nobody answers.
        table.learn(now, IF, address, HER, Learned::Mention, n % 2 == 0);
        if table.resolve(now, IF, address, ANSWER) == Resolution::Unknown {
            let _ = table.wait(IF, address, n);
        }
        while table.poll(now).is_some() {}
        assert!(table.len() <= 128);
    }
    for n in (0..80).chain(100..102) {
        assert!(state(&table, v4(n)).is_some(), "{n}");
    }
    assert_eq!(table.generation(), generation);
    // A stranger who is there is found, and kept while the flood goes on.
    let now = secs(34);
    table.resolve(now, IF, v4(600), ANSWER);
    table.wait(IF, v4(600), 1).unwrap();
    while table.poll(now).is_some() {}
    table.learn(now, IF, v4(600), HIM, SOLICITED, false);
    for n in 0..20_000_u32 {
        let now = now + Duration::from_micros(100 * u64::from(n));
        table.learn(now, IF, v4(0x20_0000 + n), HER, Learned::Mention, true);
        table.resolve(now, IF, v4(0x20_0000 + n), ANSWER);
        while table.poll(now).is_some() {}
    }
    assert_eq!(state(&table, v4(600)), Some(State::Reachable));
}

#[test]
fn promotion_in_a_full_table_keeps_everybody_in_some_line() {
    let mut table = neighbours();
    for n in 0..1000 {
        table.resolve(ms(n.into()), IF, v4(n), ANSWER);
        table.poll(ms(n.into()));
    }
    // Out of order, further from the end than is looked.
    for n in 0..1000 {
        table.resolve(ms(999), IF, v4(n * 7 % 1000), OURS);
    }
    let mut asked = 0;
    while let Some(ask) = table.poll(secs(5)) {
        asked += u32::from(matches!(ask, Ask::Solicit { .. }));
    }
    assert_eq!(asked, 1000);
}

#[test]
fn step_of_time_lets_everybody_age_at_once() {
    let mut table = neighbours();
    for n in 0..1024 {
        meet(&mut table, ms(n.into()), v4(n), HIM);
    }
    assert_eq!(table.len(), 1024);
    // To Stale in one call, and then away.
    assert_eq!(table.poll(secs(100_000)), None);
    assert_eq!(table.next_timeout(), Some(secs(100_600)));
    assert_eq!(table.poll(Instant::MAX), None);
    assert!(table.is_empty());
    // At the end of time nothing is due later, and nothing panics.
    assert_eq!(
        table.resolve(Instant::MAX, IF, v4(1), OURS),
        Resolution::Unknown
    );
    for _ in 0..3 {
        assert!(matches!(
            table.poll(Instant::MAX),
            Some(Ask::Solicit { .. })
        ));
    }
    assert_eq!(table.poll(Instant::MAX), failed(v4(1)));
}

#[test]
fn clock_that_goes_back_keeps_lines_in_order() {
    let mut table = neighbours();
    for (n, second) in [(1, 50), (2, 10), (3, 30), (4, 10)] {
        meet(&mut table, secs(second), v4(n), HIM);
    }
    let mut ends = Vec::new();
    while let Some(due) = table.next_timeout()
        && due < secs(100)
    {
        ends.push(due);
        assert_eq!(table.poll(due), None);
    }
    assert_eq!(ends, [secs(40), secs(60), secs(80)]);
}

#[test]
fn generation_wraps() {
    let mut table = neighbours();
    table.generation = u32::MAX;
    table.set_static(START, IF, v4(1), HIM).unwrap();
    table.remove(IF, v4(1));
    assert_eq!(table.generation(), 0);
}

#[test]
fn seed_decides_which_addresses_collide() {
    // What fills one cell eightfold under one seed spreads under another.
    let cell = |seed: u64, n: u32| Table::new(1024, seed).cell_of(&Key::new(IF, v4(n)));
    let colliding: Vec<u32> = (0..0x4_0000).filter(|n| n % 7 == 0 && n % 3 == 0).collect();
    let table = Table::new(1024, 1);
    let of_first: Vec<u32> = colliding
        .into_iter()
        .filter(|n| table.cell_of(&Key::new(IF, v4(*n))) == 77)
        .collect();
    assert!(of_first.len() > 3);
    let cells: BTreeSet<_> = of_first.iter().map(|n| cell(2, *n)).collect();
    assert!(cells.len() + 1 >= of_first.len());
}

#[test]
fn hash_spreads_addresses_that_differ_little() {
    type Make = fn(u32) -> Key;
    let kinds: [Make; 5] = [
        |n| Key::new(IF, v4(n)),
        |n| Key::new(IF, v4(n << 12)),
        |n| Key::new(IF, v6(n.into())),
        |n| Key::new(IF, v6(u128::from(n) << 64)),
        |n| Key::new(InterfaceId(n.to_le_bytes()[0]), v4(n >> 8)),
    ];
    for seed in [0, 1, u64::MAX] {
        let table = Table::new(1024, seed);
        for kind in kinds {
            let mut cells = BTreeMap::<usize, usize>::new();
            for n in 0..1024 {
                *cells.entry(table.cell_of(&kind(n))).or_default() += 1;
            }
            // 1024 balls in 2048 bins: 806 bins are hit on average, the fullest one by 5 or 6.
            assert!(cells.len() > 740, "{}", cells.len());
            assert!(cells.values().all(|count| *count <= 9));
        }
    }
}

proptest! {
    /// The table against a map, with a hash that has few cells to choose from.
    #[test]
    fn table_agrees_with_a_map(
        steps in proptest::collection::vec((0..3_u8, 0..40_u32, any::<bool>()), 0..400),
        seed in any::<u64>(),
    ) {
        let mut table = Table::new(16, seed);
        let mut model = BTreeMap::<u32, u32>::new();
        for (what, n, stale) in steps {
            let key = Key::new(IF, v4(n));
            let place = if stale { Place::Stale } else { Place::Reachable };
                let standing = Standing { ours: n % 2 == 0, proven: n % 3 == 0 };
            match (what, model.get(&n).copied()) {
                (0, None) => {
                    let at = table.insert(key, HIM, (place, standing), START);
                    prop_assert_eq!(at.is_some(), model.len() < 16);
                    at.map(|at| model.insert(n, at));
                }
                (1, Some(at)) => {
                    table.remove(at);
                    model.remove(&n);
                }
                (2, Some(at)) => table.put(at, place, START),
                _ => {}
            }
            for n in 0..40 {
                prop_assert_eq!(table.find(&Key::new(IF, v4(n))), model.get(&n).copied());
            }
            prop_assert_eq!((table.len(), table.iter().count()), (model.len(), model.len()));
            let all = [Standing::STRANGER, Standing::MET, Standing::NEW, Standing::PROVEN];
            let count = |place| all.map(|standing| table.count(place, standing)).iter().sum::<usize>();
            prop_assert_eq!(count(Place::Stale) + count(Place::Reachable), model.len());
            let strangers = model.keys().filter(|n| **n % 2 != 0).count();
            prop_assert_eq!(table.strangers(), strangers);
        }
    }

    /// Queues in shared room against a `VecDeque` each.
    #[test]
    fn queues_agree_with_deques(steps in proptest::collection::vec((any::<bool>(), 0..4_u32), 0..300)) {
        use super::waiting::Queue;
        let mut waiting = Waiting::new(8);
        let mut queues = [Queue::EMPTY; 4];
        let mut model: [VecDeque<usize>; 4] = Default::default();
        for (n, (push, entry)) in steps.into_iter().enumerate() {
            let queue = &mut queues[entry as usize];
            let expected = &mut model[entry as usize];
            if push {
                let pushed = waiting.push(queue, entry, n);
                if waiting.len() < 8 || pushed.is_ok() {
                    prop_assert_eq!(pushed, Ok(()));
                    expected.push_back(n);
                } else {
                    prop_assert_eq!(pushed, Err(n));
                }
            } else {
                prop_assert_eq!(waiting.pop(queue), expected.pop_front());
            }
            let len = model.iter().map(VecDeque::len).sum::<usize>();
            prop_assert_eq!((waiting.len(), waiting.is_full()), (len, len == 8));
            for (queue, expected) in queues.iter().zip(&model) {
                prop_assert_eq!(queue.len(), expected.len());
            }
            let oldest = (0..4).filter(|n| !model[*n as usize].is_empty());
            let oldest = oldest.min_by_key(|n| model[*n as usize].front().copied());
            prop_assert_eq!(waiting.oldest_entry(), oldest);
        }
    }

    /// Whatever comes: limits hold, no packet is lost or doubled, an answer holds until its end or the generation moves, and
    /// polling comes to an end.
    #[test]
    fn nothing_is_lost_whatever_comes(
        steps in proptest::collection::vec((0..10_u8, 0..12_u32, 0..3_u8, 0..4000_u64), 0..400),
    ) {
        let config = NeighbourConfig {
            entries_max: 6,
            waiting_max_each: 3,
            waiting_max: 8,
            ..NeighbourConfig::default()
        };
        let mut table = Neighbours::<Rc<()>>::new(config, 3);
        let capacity = table.table.capacity();
        let packet = Rc::new(());
        let (mut sent, mut seen) = (0, 0_u64);
        let mut now = START;
        let mut answers = BTreeMap::<u32, (Mac, Instant, u32)>::new();
        for (what, n, variant, pause) in steps {
            let address = if n % 2 == 0 { v4(n) } else { v6(n.into()) };
            let mac = if variant == 0 { HER } else { HIM };
            match what {
                0..=2 => match table.resolve(now, IF, address, if variant == 0 { ANSWER } else { OURS }) {
                    Resolution::Known { mac, until } => {
                        answers.insert(n, (mac, until, table.generation()));
                    }
                    Resolution::Unknown => {
                        sent += 1;
                        seen += u64::from(table.wait(IF, address, packet.clone()).is_err());
                    }
                },
                3 => {
                    let how = Learned::Solicited { overriding: variant == 1 };
                    if table.learn(now, IF, address, mac, how, false) == Change::Resolved {
                        while table.take_waiting(IF, address).is_some() {
                            seen += 1;
                        }
                    }
                }
                4 => {
                    table.learn(now, IF, address, mac, Learned::Mention, variant == 1);
                }
                5 => {
                    table.learn(now, IF, address, mac, Learned::Unsolicited { overriding: variant == 1 }, false);
                }
                6 => table.confirm(now, IF, address),
                7 => match variant {
                    0 => drop(table.set_static(now, IF, address, mac)),
                    1 => drop(table.remove(IF, address)),
                    _ => table.flush(if n == 0 { IF } else { OTHER }),
                },
                _ => now = now + Duration::from_millis(pause),
            }
            let mut polls = 0;
            while variant != 2 && let Some(ask) = table.poll(now) {
                if let Ask::Failed { interface, address } = ask && pause % 2 == 0 {
                    while table.take_waiting(interface, address).is_some() {
                        seen += 1;
                    }
                }
                polls += 1;
                prop_assert!(polls <= 12);
            }
            if variant != 2 {
                prop_assert!(table.next_timeout().is_none_or(|due| due > now));
            }
            for (n, (mac, until, generation)) in &answers {
                if *until > now && *generation == table.generation() {
                    let address = if n % 2 == 0 { v4(*n) } else { v6((*n).into()) };
                    prop_assert_eq!(table.lookup(IF, address), Some(*mac));
                }
            }
            seen += table.take_discarded();
            prop_assert!(table.len() <= 6 && table.waiting() <= 8);
            prop_assert_eq!(table.iter().map(|line| line.waiting).sum::<usize>(), table.waiting());
            prop_assert_eq!(sent, seen + table.waiting() as u64);
            prop_assert_eq!(Rc::strong_count(&packet), 1 + table.waiting());
            prop_assert_eq!(table.table.capacity(), capacity);
        }
    }
}
