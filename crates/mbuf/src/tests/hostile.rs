//! A process that writes what it likes over a pool: nobody else crashes, reads out of bounds or hangs.

use proptest::prelude::*;

use eal::ZoneKind;
use eal::sync::{AtomicU32, AtomicU64, Ordering};

use super::*;
use crate::checksum::complete;
use crate::magazine::Magazine;
use crate::meta::Meta;
use crate::{Burst, MAGAZINE_LEN, OffloadFlags, SEGMENTS_MAX};

/// Everything that can be done with an mbuf, whatever its facts say.
fn exercise<'c>(lcore: &'c Lcore, pool: Pool, mbuf: &mut Mbuf<'c>) {
    let room = 256 * SEGMENTS_MAX;
    let data = mbuf.data().len();
    assert!(data <= usize::from(ROOM));
    assert_eq!(data, mbuf.len());
    assert!(mbuf.segments().count() <= SEGMENTS_MAX);
    assert!(
        mbuf.segments()
            .all(|bytes| bytes.len() <= usize::from(ROOM))
    );
    assert!(
        mbuf.segments()
            .map(|bytes| bytes.iter().map(|b| usize::from(*b)).sum::<usize>())
            .sum::<usize>()
            <= room * 255
    );
    assert!(mbuf.segment_count() <= SEGMENTS_MAX);
    assert!(mbuf.headroom() <= usize::from(ROOM) && mbuf.tailroom() <= usize::from(ROOM));
    let _ = (
        mbuf.packet_len(),
        mbuf.port(),
        mbuf.queue(),
        mbuf.vlan_tci(),
        mbuf.rss_hash(),
    );
    let _ = (
        mbuf.offload(),
        format!("{mbuf:?}"),
        mbuf.is_contiguous(),
        mbuf.is_shared(),
    );
    if let Some(data) = mbuf.data_mut() {
        data.fill(1);
    }
    for n in [0, 1, 100, 70_000] {
        if let Some(room) = mbuf.prepend(n) {
            assert_eq!(room.len(), n);
            room.fill(2);
        }
        if let Some(room) = mbuf.append(n) {
            assert_eq!(room.len(), n);
            room.fill(3);
        }
        mbuf.adj(n);
        mbuf.trim(n);
    }
    let mut out = [0; 600];
    let _ = mbuf.copy_out(10, &mut out);
    let _ = mbuf.copy_in(10, &out);
    mbuf.set_flags(OffloadFlags::TX_L4_CSUM);
    let _ = complete(mbuf);
    drop(mbuf.clone_ref());
    drop(mbuf.clone_deep(pool));
    mbuf.linearize();
    mbuf.extend_from_slice(pool, &out);
    if let Some(more) = lcore.mbuf_from(pool, b"more") {
        let _ = mbuf.append_segment(more);
    }
    mbuf.private_mut().fill(4);
    mbuf.reset_data(77);
}

/// A word of rubbish, more often one that looks right.
fn rubbish() -> impl Strategy<Value = u64> {
    let small = (0_u64..40, 0_u64..40).prop_map(|(a, b)| a | b << 32);
    let halves = (any::<u16>(), 0_u64..300, 0_u64..300)
        .prop_map(|(a, b, c)| b | c << 16 | u64::from(a) << 32);
    prop_oneof![
        any::<u64>(),
        small,
        halves,
        Just(0),
        Just(u64::MAX),
        Just(u64::from(u32::MAX))
    ]
}

fn cases() -> ProptestConfig {
    let cases = 400;
    ProptestConfig {
        failure_persistence: None,
        cases,
        ..ProptestConfig::default()
    }
}

/// Writes words over parts of a pool's zone, `at` in words from its start.
fn scribble(pool: Pool, words: &[(usize, u64)]) {
    let zone = pool.region().lookup(ZoneKind::Pool, "pool").unwrap();
    // Frames are bytes and carry no facts.
    let facts = zone.len() - pool.count() as usize * usize::from(ROOM);
    let all = zone.slice::<AtomicU64>(0, facts / 8).unwrap();
    for (at, word) in words {
        all[at % all.len()].store(*word, Ordering::Relaxed);
    }
}

/// Words of the metas, by number and word.
fn scribble_metas(pool: Pool, words: &[(usize, usize, u64)]) {
    let plan = config("pool", pool.count()).shape().unwrap().plan();
    for (number, word, value) in words {
        let number = number % pool.count() as usize;
        scribble(
            pool,
            &[(
                (plan.metas + number * size_of::<Meta>()) / 8 + word % 8,
                *value,
            )],
        );
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn facts_of_an_mbuf_that_lie_keep_everyone_in_bounds(
        len in 0_usize..700,
        words in proptest::collection::vec((0_usize..80, 0_usize..8, rubbish()), 1..100),
    ) {
        let pool = pool(count(MAGAZINE_LEN + 80));
        let (lcore, other) = (lcore(pool), lcore(pool));
        let mut kept = other.mbuf_from(pool, b"kept").unwrap();
        // The other slot sits on one magazine, the rest of the pool is ours.
        let mut mbuf = lcore.mbuf_from(pool, &pattern(1, len)).unwrap();
        scribble_metas(pool, &words);
        exercise(&lcore, pool, &mut mbuf);
        scribble_metas(pool, &words);
        exercise(&other, pool, &mut kept);
        drop(mbuf);
        scribble_metas(pool, &words);
    }

    #[test]
    fn magazines_hints_and_header_that_lie_keep_everyone_in_bounds(
        words in proptest::collection::vec((any::<usize>(), rubbish()), 1..400),
        metas in proptest::collection::vec((0_usize..100, 0_usize..8, rubbish()), 0..100),
    ) {
        let pool = pool(100);
        let (one, two) = (lcore(pool), lcore(pool));
        let (mut producer, mut consumer) = ring("r", 64, &one, &two);
        let mut burst = Burst::new(&one);
        one.alloc_burst(pool, &mut burst, 20);
        scribble(pool, &words);
        let _ = producer.enqueue_burst(&mut burst);
        scribble_metas(pool, &metas);
        for _ in 0..5 {
            one.alloc_burst(pool, &mut burst, 32);
            for mut mbuf in burst.iter_mut() {
                exercise(&one, pool, &mut mbuf);
            }
            let _ = producer.enqueue_burst(&mut burst);
            let mut out = Burst::new(&two);
            let _ = consumer.dequeue_burst(&two, &mut out);
            for mut mbuf in out.iter_mut() {
                exercise(&two, pool, &mut mbuf);
            }
            let _ = (out.totals(), out.run_of_port(), out.arrived(0, 1, 1));
            scribble(pool, &words);
        }
        let _ = (pool.in_use(), pool.cached_by(one.owner()), listed(pool).len());
        // A process that attaches now.
        if let Ok(found) = Pool::lookup(pool.region(), "pool") {
            let _ = (found.in_use(), found.count());
        }
        let _ = Pool::all(pool.region()).count();
    }

    #[test]
    fn header_that_lies_is_refused_or_stays_in_the_zone(
        words in proptest::collection::vec((0_usize..6, any::<u32>()), 1..5),
        small in proptest::collection::vec((2_usize..6, 0_u32..400), 0..4),
    ) {
        let pool = pool(40);
        let zone = pool.region().lookup(ZoneKind::Pool, "pool").unwrap();
        let header = zone.slice::<AtomicU32>(0, 6).unwrap();
        for (at, word) in words.into_iter().filter(|(at, _)| *at > 1).chain(small) {
            header[at].store(word, Ordering::Relaxed);
        }
        if let Ok(found) = Pool::lookup(pool.region(), "pool") {
            let config = PoolConfig {
                data_room: found.data_room(),
                private_size: found.private_size(),
                ..PoolConfig::new("pool", found.count())
            };
            prop_assert!(Pool::len_for(&config).unwrap() <= zone.len());
            let lcore = lcore(found);
            if let Some(mut mbuf) = lcore.alloc(found) {
                let _ = mbuf.append(1).map(|room| room.fill(1));
            }
        }
    }
}

/// Everything is somebody else's, or says so: a free must end, and keep what it cannot place.
#[test]
fn free_that_finds_no_magazine_ends_and_is_counted() {
    let pool = pool(count(MAGAZINE_LEN + 36));
    let lcore = lcore(pool);
    let mut all: Vec<Burst<'_>> = Vec::new();
    loop {
        let mut burst = Burst::new(&lcore);
        if lcore.alloc_burst(pool, &mut burst, 32) == 0 {
            break;
        }
        all.push(burst);
    }
    let plan = config("pool", count(MAGAZINE_LEN + 36))
        .shape()
        .unwrap()
        .plan();
    let owners: Vec<(usize, u64)> = (0..plan.magazine_count)
        .map(|number| {
            (
                (plan.magazines + number * size_of::<Magazine>()) / 8,
                0x1234,
            )
        })
        .collect();
    scribble(pool, &owners);
    drop(all);
    assert_eq!(lcore.counters().no_room.get(), 36);
    assert_eq!(pool.in_use(), 36);
}
