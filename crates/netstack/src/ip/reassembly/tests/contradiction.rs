//! Pieces that contradict each other or themselves: RFC 5722, RFC 8200 section 4.5.

use super::*;

#[test]
fn overlap_drops_the_datagram_and_what_comes_of_it_until_its_time_is_over() {
    // What is there, what comes.
    for (there, comes) in [
        ((0, 16), (8, 24)),
        ((8, 24), (0, 16)),
        ((16, 24), (8, 32)),
        ((8, 32), (16, 24)),
        ((8, 16), (8, 16)),
        ((8, 24), (8, 16)),
        ((8, 16), (8, 24)),
    ] {
        for key in [key(1, 1), key6(1, 1)] {
            let mut bench = Bench::usual();
            let (there, comes): ((usize, usize), (usize, usize)) = (there, comes);
            assert!(is_waiting(&bench.add(
                key,
                there.0,
                true,
                &vec![1; there.1 - there.0]
            )));
            assert!(is_waiting(&bench.add(key, 48, true, &[1; 8])));
            // Where there is nothing, zero is no more the same than anything else.
            let byte = if comes == (8, 24) { 1 } else { 2 };
            let mut data = vec![byte; comes.1 - comes.0];
            if byte == 1 {
                data[8..].fill(0);
            }
            let outcome = bench.add(key, comes.0, true, &data);
            assert_eq!(reason(outcome), (Reason::FragmentOverlap, 3));
            assert_eq!(bench.heap.in_use(), 0);
            for offset in [0, 8, 64] {
                let outcome = bench.add(key, offset, true, &[3; 8]);
                assert_eq!(reason(outcome), (Reason::FragmentOverlap, 1));
            }
            bench.now = bench.reassembly.next_timeout().unwrap();
            assert!(
                bench.expire().is_empty(),
                "it was counted when it was dropped"
            );
            assert!(is_waiting(&bench.add(key, 0, true, &[4; 8])));
            assert_eq!(complete(bench.add(key, 8, false, &[4; 8])), [4; 16]);
            bench.close();
        }
    }
}

#[test]
fn exact_duplicates_are_dropped_alone() {
    let data = pattern(1, 700);
    let mut bench = Bench::usual();
    for (start, end) in [(0, 304), (304, 400), (600, 700)] {
        for turn in 0..3 {
            let outcome = bench.add(key(1, 1), start, end < 700, &data[start..end]);
            if turn == 0 {
                assert!(is_waiting(&outcome));
            } else {
                assert_eq!(reason(outcome), (Reason::FragmentDuplicate, 1));
            }
        }
    }
    assert_eq!(
        complete(bench.add(key(1, 1), 400, true, &data[400..600])),
        data
    );
    bench.close();
}

#[test]
fn ends_that_contradict_drop_the_datagram() {
    // Offset, length, whether more follows.
    for pieces in [
        // Two ends.
        [(16, 8, false), (24, 8, false)],
        [(24, 8, false), (16, 8, false)],
        [(16, 8, false), (16, 4, false)],
        // Something behind the end.
        [(16, 8, false), (24, 8, true)],
        [(24, 8, true), (16, 8, false)],
        // The end says that more follows.
        [(16, 8, false), (16, 8, true)],
        [(16, 8, true), (16, 8, false)],
    ] {
        let mut bench = Bench::usual();
        let [first, second] = pieces;
        assert!(is_waiting(&bench.add(
            key(1, 1),
            first.0,
            first.2,
            &vec![1; first.1]
        )));
        let outcome = bench.add(key(1, 1), second.0, second.2, &vec![1; second.1]);
        assert_eq!(reason(outcome), (Reason::FragmentMalformed, 2));
        bench.close();
    }
}

#[test]
fn wrong_lengths_are_a_parameter_problem_over_ipv6_alone() {
    let mut bench = Bench::usual();
    assert_eq!(pointer(bench.add(key6(1, 1), 0, true, &[1; 12])), 4);
    assert_eq!(pointer(bench.add(key6(1, 1), 12, true, &[1; 8])), 4);
    // The offset of a fragment header that follows the IPv6 header.
    assert_eq!(pointer(bench.add(key6(1, 1), 65_528, false, &[1; 8])), 42);
    for (offset, more, len) in [
        (0, true, 12),
        (12, true, 8),
        (65_528, false, 8),
        (8, false, 0),
    ] {
        let outcome = bench.add(key(1, 1), offset, more, &vec![1; len]);
        assert_eq!(reason(outcome), (Reason::FragmentMalformed, 1));
    }
    assert_eq!(
        reason(bench.add(key6(1, 1), 0, true, &[])),
        (Reason::FragmentMalformed, 1)
    );
    assert_eq!(bench.reassembly.datagrams(), 0, "they take no place");
    bench.close();
}
