//! From state to state: RFC 4861 section 7.3.2.

use super::*;

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
