//! What may wait, and for how long.

use super::*;

#[test]
fn time_runs_from_the_first_fragment_that_came() {
    let mut bench = Bench::usual();
    let start = bench.now;
    assert!(is_waiting(&bench.add(key(1, 1), 8, true, &[2; 8])));
    assert!(is_waiting(&bench.add(key6(1, 1), 0, true, &[1; 8])));
    bench.now = start + Duration::from_secs(29);
    assert!(is_waiting(&bench.add(key(1, 1), 0, true, &[1; 8])));
    assert!(is_waiting(&bench.add(key(2, 1), 8, true, &[1; 8])));
    assert!(bench.expire().is_empty());
    bench.now = start + Duration::from_secs(30);
    assert_eq!(bench.reassembly.next_timeout(), Some(bench.now));
    let expired = bench.expire();
    assert_eq!(
        (expired.len(), expired[0].key, expired[0].fragments),
        (1, key(1, 1), 2)
    );
    let first = expired[0].first.as_ref().unwrap();
    assert_eq!(first.headers.bytes(), headers_of(&key(1, 1), 0));
    assert_eq!(first.packet.data()[..first.len], [1; 8]);
    drop(expired);
    bench.now = start + Duration::from_secs(60);
    let expired = bench.expire();
    let keys: Vec<_> = expired
        .iter()
        .map(|expired| (expired.key, expired.first.is_some()))
        .collect();
    // Without its first fragment nobody is told.
    assert_eq!(keys, [(key6(1, 1), true), (key(2, 1), false)]);
    drop(expired);
    assert_eq!(bench.reassembly.next_timeout(), None);
    bench.close();
}

#[test]
fn flood_from_one_source_is_at_its_own_expense() {
    let mut bench = Bench::usual();
    let data = pattern(5, 3000);
    let mut id = 0;
    for round in 0..200 {
        let waiting = round % 2 == 0;
        for (start, end) in cuts(3000, 1000) {
            // Large, small, first and later ones, few and many of one datagram.
            for _ in 0..100 {
                id += 1;
                let (id, offset) = if waiting {
                    (id, 0)
                } else {
                    (id / 50, (id as usize % 50) * 1008)
                };
                bench.add(
                    key(666, id),
                    offset,
                    true,
                    &data[..if waiting { 8 } else { 1000 }],
                );
            }
            let outcome = bench.add(key(1, round), start, end < 3000, &data[start..end]);
            assert_eq!(is_waiting(&outcome), end < 3000);
            if end == 3000 {
                assert_eq!(complete(outcome), data);
            }
            assert!(bench.reassembly.datagrams() <= 17);
            assert!(bench.reassembly.bytes() <= (1 << 20) + 3000);
            assert!(bench.reassembly.packets() <= 512 + 3);
        }
    }
    assert!(bench.dropped["evicted"] > 20_000);
    bench.close();
}

#[test]
fn source_over_its_share_of_packets_or_bytes_loses_its_own_datagrams() {
    // Many small pieces, and few large ones.
    for (len, apart, pieces) in [(8, 1024, 60), (4000, 4096, 15)] {
        let mut bench = Bench::new(ReassemblyConfig {
            bytes_max: 1 << 20,
            ..ReassemblyConfig::default()
        });
        assert!(is_waiting(&bench.add(key(1, 1), 0, true, &[1; 8])));
        for id in 0..12 {
            for piece in 0..pieces {
                bench.add(key(666, id), piece * apart, true, &vec![0; len]);
            }
        }
        assert!(bench.dropped["evicted"] > 0 && bench.dropped.len() == 1);
        assert_eq!(complete(bench.add(key(1, 1), 8, false, &[1; 8])), [1; 16]);
        bench.close();
    }
}

#[test]
fn flood_from_many_sources_leaves_the_newest_their_time() {
    let mut bench = Bench::usual();
    let data = pattern(5, 3000);
    let mut source = 1000;
    for round in 0..200 {
        for (start, end) in cuts(3000, 1000) {
            let outcome = bench.add(key(1, round), start, end < 3000, &data[start..end]);
            assert_eq!(is_waiting(&outcome), end < 3000);
            if end == 3000 {
                assert_eq!(complete(outcome), data);
            }
            // Between the first and the last piece there are less than the table holds.
            for _ in 0..31 {
                source += 1;
                bench.add(key(source, 1), 0, true, &data[..8]);
            }
            assert!(bench.reassembly.datagrams() <= 64);
        }
    }
    bench.close();
}

#[test]
fn bytes_and_packets_have_limits_of_their_own() {
    let few = ReassemblyConfig {
        bytes_max: 8000,
        packets_max: 40,
        ..ReassemblyConfig::default()
    };
    // A source may have a quarter, also of one datagram.
    for (len, pieces, reason) in [
        (1000, 3, "fragment_limit"),
        (8, 15, "fragment_limit"),
        (1000, 2, "evicted"),
        (8, 10, "evicted"),
    ] {
        let mut bench = Bench::new(few);
        for source in 0..100 {
            for piece in 0..pieces {
                // Apart, so that none is copied into another.
                bench.add(key(source, 1), piece * 2048, true, &vec![1; len]);
                assert!(bench.reassembly.bytes() <= 8000);
                assert!(bench.reassembly.packets() <= 40);
                assert_eq!(bench.heap.in_use(), bench.reassembly.packets());
            }
        }
        let other = bench
            .dropped
            .keys()
            .find(|name| **name != reason && bench.dropped[*name] > 0);
        assert!(
            bench.dropped[reason] > 100 && other.is_none(),
            "{:?}",
            bench.dropped
        );
        bench.close();
    }
}

#[test]
fn pieces_of_one_datagram_have_a_limit_unless_they_follow_each_other() {
    let few = ReassemblyConfig {
        pieces_max: 4,
        ..ReassemblyConfig::default()
    };
    let mut bench = Bench::new(few);
    for piece in 0..4 {
        assert!(is_waiting(&bench.add(key(1, 1), piece * 16, true, &[1; 8])));
    }
    let outcome = bench.add(key(1, 1), 64, true, &[1; 8]);
    assert_eq!(reason(outcome), (Reason::FragmentLimit, 5));
    let data = pattern(1, 60_000);
    for (start, end) in cuts(60_000, 1200) {
        let outcome = bench.add(key(1, 2), start, end < 60_000, &data[start..end]);
        if end == 60_000 {
            assert_eq!(complete(outcome), data);
        }
    }
    bench.close();
}

#[test]
fn nothing_is_kept_where_nothing_may_be() {
    let usual = ReassemblyConfig::default();
    for config in [
        ReassemblyConfig {
            datagrams_max: 0,
            ..usual
        },
        ReassemblyConfig {
            per_source_max: 0,
            ..usual
        },
        ReassemblyConfig {
            pieces_max: 0,
            ..usual
        },
        ReassemblyConfig {
            bytes_max: 0,
            ..usual
        },
        ReassemblyConfig {
            packets_max: 0,
            ..usual
        },
    ] {
        let mut bench = Bench::new(config);
        for id in 0..100 {
            let outcome = bench.add(key(1, id), 0, true, &[1; 8]);
            assert_eq!(reason(outcome), (Reason::FragmentLimit, 1));
        }
        bench.close();
    }
}

#[test]
fn headers_too_long_to_be_kept_refuse_the_datagram() {
    let mut bench = Bench::usual();
    let mut headers = headers_of(&key6(1, 1), 0);
    headers.resize(HEADERS_MAX + 8, 0);
    assert!(is_waiting(&bench.add_with(
        key6(1, 1),
        8,
        true,
        &headers,
        &[1; 8]
    )));
    let outcome = bench.add_with(key6(1, 1), 0, true, &headers, &[1; 8]);
    assert_eq!(reason(outcome), (Reason::FragmentLimit, 2));
    bench.close();
}
