//! Datagrams cut and mixed at random.

use super::*;

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
