//! Packets that wait.

use super::*;

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
