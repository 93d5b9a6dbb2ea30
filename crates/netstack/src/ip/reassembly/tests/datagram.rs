//! Pieces that become one datagram.

use super::*;

#[test]
fn two_pieces_are_one_datagram_in_either_order_on_both_versions() {
    let data = pattern(1, 100);
    for key in [key(1, 1), key6(1, 1)] {
        for order in [[0, 1], [1, 0]] {
            let mut bench = Bench::usual();
            let pieces = [(0, true, &data[..40]), (40, false, &data[40..])];
            let (offset, more, bytes) = pieces[order[0]];
            assert!(is_waiting(&bench.add(key, offset, more, bytes)));
            let (offset, more, bytes) = pieces[order[1]];
            assert_eq!(complete(bench.add(key, offset, more, bytes)), data);
            bench.close();
        }
    }
}

#[test]
fn what_differs_in_the_key_is_another_datagram() {
    let same = key(1, 1);
    let [mut protocol, mut interface, mut destination] = [same; 3];
    protocol.protocol = 6;
    interface.interface = InterfaceId(1);
    destination.destination = Ipv4Addr::new(10, 0, 0, 2).into();
    let mut bench = Bench::usual();
    for other in [key(2, 1), key(1, 2), protocol, interface, destination] {
        assert!(is_waiting(&bench.add(same, 0, true, &[1; 8])));
        assert!(is_waiting(&bench.add(other, 8, false, &[2; 8])));
        assert_eq!(complete(bench.add(same, 8, false, &[3; 8]))[8..], [3; 8]);
    }
    bench.close();
}

#[test]
fn atomic_fragments_are_whole_and_leave_others_of_their_identification_alone() {
    let mut bench = Bench::usual();
    assert!(is_waiting(&bench.add(key6(1, 1), 0, true, &[1; 8])));
    assert_eq!(complete(bench.add(key6(1, 1), 0, false, &[2; 20])), [2; 20]);
    assert_eq!(complete(bench.add(key6(1, 1), 0, false, &[])), []);
    assert_eq!(complete(bench.add(key6(1, 1), 8, false, &[3; 8])).len(), 16);
    let long = bench.add_with(key6(1, 2), 0, false, &[0x60; HEADERS_MAX + 1], &[1]);
    assert_eq!(reason(long), (Reason::FragmentLimit, 1));
    bench.close();
}

#[test]
fn the_largest_datagrams_are_complete_and_larger_ones_refused() {
    // IPv4 counts its header, IPv6 does not.
    for (key, most) in [(key(1, 1), 65_535 - 20), (key6(1, 1), 65_535)] {
        let data = pattern(3, most);
        let mut bench = Bench::usual();
        let (rest, last) = cuts(most, 1480)
            .split_last()
            .map(|(last, rest)| (rest.to_vec(), *last))
            .unwrap();
        for (start, end) in rest {
            assert!(is_waiting(&bench.add(key, start, true, &data[start..end])));
        }
        let mut longer = data[last.0..].to_vec();
        longer.push(0);
        let outcome = bench.add(key, last.0, false, &longer);
        match outcome {
            Outcome::Dropped(Dropped {
                fragments: 1,
                problem,
                ..
            }) => {
                let pointer = problem.map(|problem| problem.pointer);
                assert_eq!(pointer, key.source.is_ipv6().then_some(42));
            }
            other => panic!("not dropped: {other:?}"),
        }
        assert_eq!(
            complete(bench.add(key, last.0, false, &data[last.0..])),
            data
        );
        bench.close();
    }
    // The first header alone is that of the datagram, and may be longer than those of the others.
    let (mut bench, mut options) = (Bench::usual(), headers_of(&key(1, 1), 0));
    options.resize(60, 0);
    assert!(is_waiting(&bench.add(
        key(1, 1),
        32_000,
        false,
        &pattern(1, 33_515)
    )));
    let outcome = bench.add_with(key(1, 1), 0, true, &options, &pattern(2, 32_000));
    assert_eq!(reason(outcome), (Reason::FragmentMalformed, 2));
    bench.close();
}

#[test]
fn congestion_of_one_fragment_is_that_of_the_datagram() {
    for (first, second, whole) in [
        (0, 0, Some(0)),
        (2, 2, Some(2)),
        (1, 2, Some(1)),
        (2, 3, Some(3)),
        (3, 1, Some(3)),
        (3, 3, Some(3)),
        (0, 3, None),
        (3, 0, None),
    ] {
        for key in [key(1, 1), key6(1, 1)] {
            let mut bench = Bench::usual();
            bench.add_with(key, 0, true, &headers_of(&key, first), &[1; 8]);
            let outcome = bench.add_with(key, 8, false, &headers_of(&key, second), &[1; 8]);
            match (outcome, whole) {
                (Outcome::Complete(datagram), Some(ecn)) => assert_eq!(datagram.ecn, ecn),
                (Outcome::Dropped(Dropped { fragments: 2, .. }), None) => {}
                (other, _) => panic!("{first} {second}: {other:?}"),
            }
            bench.close();
        }
    }
}

#[test]
fn what_a_device_found_out_about_one_fragment_is_forgotten() {
    let mut bench = Bench::usual();
    let mut first = bench.heap.packet(&[1; 8]).unwrap();
    first.received.l4_checksum = Some(true);
    let headers = headers_of(&key(1, 1), 0);
    bench.given += 1;
    bench
        .reassembly
        .add(bench.now, key(1, 1), 0, true, &headers, first);
    let Outcome::Complete(datagram) = bench.add(key(1, 1), 8, false, &[1; 8]) else {
        panic!("not complete");
    };
    assert_eq!(datagram.packet.look().received.l4_checksum, None);
    drop(datagram);
    bench.close();
}
