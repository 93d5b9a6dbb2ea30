//! A table that is full, and who makes room.

use super::*;

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
