use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;

use mbuf::{Lcore, Mbuf, Pool, PoolConfig};
use proptest::prelude::*;

use super::*;
use crate::interface::InterfaceId;
use crate::packet::{Bytes, Heap};

const HERE: InterfaceId = InterfaceId(0);
const DST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn key(source: u32, id: u16) -> Key {
    Key::v4(HERE, Ipv4Addr::from_bits(0x0a00_0100 + source), DST, 17, id)
}

fn key6(source: u32, id: u32) -> Key {
    let source = Ipv6Addr::from_bits((0x2001_0db8 << 96) + u128::from(source));
    Key::v6(HERE, source, Ipv6Addr::from_bits(1), id)
}

/// An IPv4 header of UDP, or an IPv6 header and a fragment header before UDP.
fn headers_of(key: &Key, ecn: u8) -> Vec<u8> {
    let mut headers = vec![0; 48];
    if key.source.is_ipv4() {
        headers.truncate(20);
        (headers[0], headers[1], headers[9]) = (0x45, ecn, 17);
    } else {
        (headers[0], headers[1], headers[6], headers[40]) = (0x60, ecn << 4, 44, 17);
    }
    headers
}

/// Bytes of which no two stretches are alike.
fn pattern(seed: usize, len: usize) -> Vec<u8> {
    let byte =
        |at: usize| (at.wrapping_mul(0x9e37_79b9).wrapping_add(seed * 77) >> 11).to_le_bytes()[0];
    (0..len).map(byte).collect()
}

/// A reassembly, and a count of what went in and out.
struct Bench {
    reassembly: Reassembly<Bytes>,
    heap: Heap,
    now: Instant,
    given: u64,
    completed: u64,
    dropped: BTreeMap<&'static str, u64>,
}

impl Bench {
    fn new(config: ReassemblyConfig) -> Self {
        Self {
            reassembly: Reassembly::new(config, 7),
            heap: Heap::new(100_000),
            now: Instant::from_millis(1),
            given: 0,
            completed: 0,
            dropped: BTreeMap::new(),
        }
    }

    fn usual() -> Self {
        Self::new(ReassemblyConfig::default())
    }

    fn count(&mut self, name: &'static str, fragments: u64) {
        *self.dropped.entry(name).or_default() += fragments;
    }

    fn add(&mut self, key: Key, offset: usize, more: bool, data: &[u8]) -> Outcome<Bytes> {
        let headers = headers_of(&key, 0);
        self.add_with(key, offset, more, &headers, data)
    }

    fn add_with(
        &mut self,
        key: Key,
        offset: usize,
        more: bool,
        headers: &[u8],
        data: &[u8],
    ) -> Outcome<Bytes> {
        let packet = self.heap.packet(data).unwrap();
        let offset = u16::try_from(offset).unwrap();
        self.given += 1;
        let outcome = self
            .reassembly
            .add(self.now, key, offset, more, headers, packet);
        match &outcome {
            Outcome::Waiting => {}
            Outcome::Complete(datagram) => self.completed += u64::from(datagram.fragments),
            Outcome::Dropped(dropped) => {
                self.count(dropped.reason.name(), dropped.fragments.into());
            }
        }
        let evicted = self.reassembly.take_evicted();
        self.count("evicted", evicted);
        outcome
    }

    fn expire(&mut self) -> Vec<Expired<Bytes>> {
        let expired: Vec<_> =
            std::iter::from_fn(|| self.reassembly.poll_expired(self.now)).collect();
        let fragments = expired
            .iter()
            .map(|expired| u64::from(expired.fragments))
            .sum();
        self.count("expired", fragments);
        expired
    }

    /// Waits until nothing waits, and sees whether each fragment and each packet went somewhere.
    fn close(&mut self) {
        while let Some(timeout) = self.reassembly.next_timeout() {
            self.now = self.now.max(timeout);
            self.expire();
        }
        let dropped: u64 = self.dropped.values().sum();
        assert_eq!(self.given, self.completed + dropped, "{:?}", self.dropped);
        let Reassembly { bytes, packets, .. } = self.reassembly;
        assert_eq!((self.reassembly.datagrams(), bytes, packets), (0, 0, 0));
        assert_eq!(self.heap.in_use(), 0);
    }
}

fn complete(outcome: Outcome<Bytes>) -> Vec<u8> {
    match outcome {
        Outcome::Complete(datagram) => {
            assert_eq!(datagram.headers.protocol(), 17);
            datagram.packet.data().to_vec()
        }
        other => panic!("not complete: {other:?}"),
    }
}

fn reason(outcome: Outcome<Bytes>) -> (Reason, u32) {
    match outcome {
        Outcome::Dropped(Dropped {
            reason,
            fragments,
            problem: None,
        }) => (reason, fragments),
        other => panic!("not dropped: {other:?}"),
    }
}

fn pointer(outcome: Outcome<Bytes>) -> u32 {
    match outcome {
        Outcome::Dropped(Dropped {
            reason: Reason::FragmentMalformed,
            fragments: 1,
            problem: Some(problem),
        }) => problem.pointer,
        other => panic!("no problem: {other:?}"),
    }
}

fn is_waiting(outcome: &Outcome<Bytes>) -> bool {
    matches!(outcome, Outcome::Waiting)
}

/// Places and ends of pieces of at most `size` bytes.
fn cuts(len: usize, size: usize) -> Vec<(usize, usize)> {
    let starts = (0..len).step_by(size);
    starts.map(|start| (start, len.min(start + size))).collect()
}

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

/// What happens to one datagram: its version, its bytes, where it is cut, and how often each piece arrives.
#[derive(Debug, Clone)]
struct Sent {
    v6: bool,
    data: Vec<u8>,
    cuts: Vec<(usize, usize)>,
    times: Vec<usize>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let units = proptest::collection::vec(1..=185usize, 1..40);
    let times = proptest::collection::vec(
        prop_oneof![1 => Just(0usize), 60 => Just(1), 3 => Just(2)],
        41,
    );
    (any::<bool>(), any::<u16>(), units, 1..1400usize, times).prop_map(
        |(v6, seed, units, last, times)| {
            let mut cuts: Vec<(usize, usize)> = Vec::new();
            for len in units.iter().map(|units| units * 8).chain([last]) {
                let start = cuts.last().map_or(0, |cut| cut.1);
                cuts.push((start, start + len));
            }
            let data = pattern(seed.into(), cuts.last().unwrap().1);
            Sent {
                v6,
                data,
                cuts,
                times,
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_completed_is_what_was_sent(
        all in proptest::collection::vec(sent(), 1..12),
        seed in any::<u64>(),
    ) {
        let mut bench = Bench::usual();
        let mut arrivals = Vec::new();
        for (number, sent) in all.iter().enumerate() {
            for (cut, times) in sent.cuts.iter().zip(&sent.times) {
                arrivals.extend(std::iter::repeat_n((number, *cut), *times));
            }
        }
        // Within a window, as a network would, or altogether.
        let window = [4, 30, arrivals.len().max(1)][(seed % 3) as usize];
        let mut random = seed;
        for at in 0..arrivals.len() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let other = (at + (random >> 33) as usize % window).min(arrivals.len() - 1);
            arrivals.swap(at, other);
        }
        let mut completed = vec![0; all.len()];
        for (number, (start, end)) in arrivals {
            let (sent, id) = (&all[number], u16::try_from(number).unwrap());
            let key = if sent.v6 { key6(1, id.into()) } else { key(1, id) };
            let more = end < sent.data.len();
            match bench.add(key, start, more, &sent.data[start..end]) {
                Outcome::Waiting => {}
                Outcome::Complete(datagram) => {
                    completed[number] += 1;
                    prop_assert_eq!(datagram.packet.data(), &sent.data[..]);
                    prop_assert_eq!(datagram.headers.bytes(), headers_of(&key, 0));
                }
                Outcome::Dropped(dropped) => {
                    prop_assert_eq!(dropped.reason, Reason::FragmentDuplicate);
                }
            }
        }
        for (sent, completed) in all.iter().zip(completed) {
            let whole = sent.cuts.iter().zip(&sent.times).all(|(_, times)| *times > 0);
            prop_assert_eq!(completed > 0, whole);
        }
        bench.close();
    }

    #[test]
    fn whatever_comes_limits_hold_and_each_fragment_is_counted_once(
        fragments in proptest::collection::vec(
            (0..6u32, 0..4u16, 0..40u16, 0..60usize, any::<bool>(), any::<bool>(), 0..6u8),
            1..400,
        ),
    ) {
        let config = ReassemblyConfig {
            datagrams_max: 5,
            per_source_max: 3,
            pieces_max: 4,
            bytes_max: 600,
            packets_max: 12,
            timeout_v4: Duration::from_secs(3),
            timeout_v6: Duration::from_secs(5),
        };
        let mut bench = Bench::new(config);
        let positions = pattern(9, 1000);
        for (source, id, offset, len, more, v6, wait) in fragments {
            let key = if v6 { key6(source, id.into()) } else { key(source, id) };
            let offset = usize::from(offset) * 4;
            let len = if len < 50 { len / 8 * 8 } else { len };
            match bench.add(key, offset, more, &positions[offset..offset + len]) {
                Outcome::Complete(datagram) => {
                    let data = datagram.packet.data();
                    prop_assert_eq!(data, &positions[..data.len()]);
                }
                Outcome::Dropped(Dropped { problem, .. }) => prop_assert!(problem.is_none() || v6),
                Outcome::Waiting => {}
            }
            let reassembly = &bench.reassembly;
            prop_assert!(reassembly.datagrams() <= 5);
            prop_assert!(reassembly.bytes() <= 600 && reassembly.packets() <= 12);
            prop_assert!(bench.heap.in_use() <= reassembly.packets());
            bench.now = bench.now + Duration::from_secs(u64::from(wait / 5));
            for expired in bench.expire() {
                if let Some(first) = expired.first {
                    prop_assert_eq!(&first.packet.data()[..first.len], &positions[..first.len]);
                }
            }
            let earliest = bench.reassembly.next_timeout();
            prop_assert!(earliest.is_none_or(|earliest| earliest > bench.now));
        }
        bench.close();
    }
}

fn pool(count: u32, data_room: u16) -> Pool {
    let config = PoolConfig {
        data_room,
        ..PoolConfig::new("packets", count)
    };
    let len = Pool::len_for(&config).unwrap() + (1 << 18);
    let region = Box::leak(Box::new(eal::Region::anonymous(len).unwrap()));
    Pool::create(region, &config).unwrap()
}

/// A fragment as a device delivers it, its headers cut off.
fn received<'c>(lcore: &'c Lcore, pool: Pool, data: &[u8]) -> Mbuf<'c> {
    let mut mbuf = lcore.mbuf_from(pool, &[0; 34]).unwrap();
    assert!(mbuf.extend_from_slice(pool, data) && mbuf.adj(34));
    mbuf
}

/// Sends `data` in pieces of `size` in an order, and says how many mbufs were taken at most.
fn through_mbufs(
    data: &[u8],
    size: usize,
    data_room: u16,
    shuffle: impl Fn(&mut Vec<(usize, usize)>),
) -> u32 {
    let pool = pool(320, data_room);
    let lcore = Lcore::new(eal::Slot::claim(pool.region(), "test").unwrap());
    let mut reassembly = Reassembly::new(ReassemblyConfig::default(), 1);
    let mut arrivals = cuts(data.len(), size);
    shuffle(&mut arrivals);
    let (mut most, mut done) = (0, false);
    for (start, end) in arrivals {
        let packet = received(&lcore, pool, &data[start..end]);
        let (offset, more) = (u16::try_from(start).unwrap(), end < data.len());
        let headers = headers_of(&key(1, 1), 0);
        match reassembly.add(Instant::ZERO, key(1, 1), offset, more, &headers, packet) {
            Outcome::Waiting => {}
            Outcome::Complete(datagram) => {
                let bytes: Vec<u8> = datagram.packet.segments().flatten().copied().collect();
                assert!(bytes == data, "{size}: other bytes");
                assert!(datagram.packet.segment_count() <= mbuf::SEGMENTS_MAX);
                done = true;
            }
            Outcome::Dropped(dropped) => panic!("{size}: {dropped:?}"),
        }
        most = most.max(pool.in_use());
    }
    assert!(done, "{size}: not complete");
    assert_eq!(pool.in_use(), 0);
    most
}

#[test]
fn large_datagrams_of_real_mbufs_are_complete_in_any_order_and_give_all_back() {
    let data = pattern(4, 65_000);
    for size in [1456, 976, 944, 528, 8] {
        through_mbufs(&data, size, mbuf::DATA_ROOM, |_| {});
        through_mbufs(&data, size, mbuf::DATA_ROOM, |arrivals| arrivals.reverse());
        // Neighbours change places.
        through_mbufs(&data, size, mbuf::DATA_ROOM, |arrivals| {
            arrivals.chunks_mut(2).for_each(<[_]>::reverse);
        });
        if size > 8 {
            for seed in 1..6 {
                through_mbufs(&data, size, mbuf::DATA_ROOM, |arrivals| {
                    arrivals.sort_by_key(|cut| {
                        (cut.0 + 1).wrapping_mul(0x9e37_79b9 * seed) & 0xffff_ffff
                    });
                });
            }
        }
    }
}

#[test]
fn small_pieces_do_not_hold_a_frame_each() {
    let data = pattern(4, 65_000);
    assert!(through_mbufs(&data, 8, mbuf::DATA_ROOM, |_| {}) < 40);
    assert!(through_mbufs(&data, 528, mbuf::DATA_ROOM, |_| {}) < 50);
}

#[test]
fn pieces_that_are_chains_themselves_become_one_datagram() {
    for (size, data_room, len) in [
        (4096, 2048, 65_000),
        (8 * 1117, 2048, 65_000),
        (1456, 1152, 60_000),
        (8 * 1117, 1152, 65_000),
    ] {
        let data = pattern(4, len);
        through_mbufs(&data, size, data_room, |_| {});
        through_mbufs(&data, size, data_room, |arrivals| arrivals.reverse());
    }
}

#[test]
fn mbufs_that_wait_are_given_back_when_the_time_is_over_and_when_all_ends() {
    let pool = pool(64, mbuf::DATA_ROOM);
    let lcore = Lcore::new(eal::Slot::claim(pool.region(), "test").unwrap());
    let mut reassembly = Reassembly::new(ReassemblyConfig::default(), 1);
    let headers = headers_of(&key(1, 1), 0);
    for id in 0..10 {
        let packet = received(&lcore, pool, &[1; 1000]);
        reassembly.add(Instant::ZERO, key(1, id), 0, true, &headers, packet);
    }
    assert_eq!(pool.in_use(), 10);
    let later = reassembly.next_timeout().unwrap();
    assert_eq!(
        std::iter::from_fn(|| reassembly.poll_expired(later)).count(),
        10
    );
    assert_eq!(pool.in_use(), 0);
    let packet = received(&lcore, pool, &[1; 1000]);
    reassembly.add(Instant::ZERO, key(1, 1), 0, true, &headers, packet);
    drop(reassembly);
    assert_eq!(pool.in_use(), 0);
}
