//! Who gets an entry, and how it goes.

use super::*;

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
fn generation_wraps() {
    let mut table = neighbours();
    table.generation = u32::MAX;
    table.set_static(START, IF, v4(1), HIM).unwrap();
    table.remove(IF, v4(1));
    assert_eq!(table.generation(), 0);
}
