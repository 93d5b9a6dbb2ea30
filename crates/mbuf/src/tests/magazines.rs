//! Magazines by references, and the numbers that make a free always find room.

use eal::SlotId;
use eal::sync::AtomicU32;

use super::*;
use crate::brief::Seen;
use crate::magazine::{Held, MAGAZINE_LEN, Magazine, Need, Rack, Range};
use crate::tag::Tag;
use crate::{BURST_MAX, Burst};

fn tags(count: usize) -> Vec<Tag> {
    (0..count).map(|_| Tag::zeroed()).collect()
}

/// Mbufs that have tags and nothing else, which is all that a magazine looks at.
fn range(tags: &[Tag], pool: u8) -> Range<'_> {
    Range {
        tags,
        briefs: &[],
        metas: &[],
        first: MbufIndex::new(pool, 0),
    }
}

fn owner(slot: u8) -> Owner {
    Owner::new(SlotId::new(slot).unwrap(), 1)
}

fn holder(slot: u8) -> Holder {
    Holder::slot(SlotId::new(slot).unwrap())
}

#[test]
fn take_hands_out_the_last_given_first_and_tags_it() {
    let (tags, magazine) = (tags(8), Magazine::zeroed());
    let range = range(&tags, 2);
    let index = |number| MbufIndex::new(2, number).bits();
    let given: Vec<u32> = (0..5).map(index).collect();
    for tag in &tags {
        tag.set(holder(3));
    }
    assert_eq!(magazine.give(range, 0, &given, |_| true), 5);
    assert!(tags[..5].iter().all(|tag| tag.holder() == Holder::POOL));
    let mut out = [0; 3];
    let done = magazine.take(range, 5, (holder(4), Seen::fresh(0)), &mut out);
    assert_eq!((done.taken, done.left, done.bad), (3, 2, 0));
    assert_eq!(out, [index(4), index(3), index(2)]);
    assert!(tags[2..5].iter().all(|tag| tag.holder() == holder(4)));
    assert_eq!(magazine.count(), 2);
}

#[test]
fn give_stops_at_what_does_not_suit_and_at_a_stranger() {
    let (tags, magazine) = (tags(4), Magazine::zeroed());
    let range = range(&tags, 0);
    for tag in &tags {
        tag.set(holder(3));
    }
    tags[2].set_linked();
    let plain = |tag: crate::tag::Seen| !tag.is_linked();
    assert_eq!(magazine.give(range, 0, &[0, 1, 2, 3], plain), 2);
    assert_eq!(magazine.give(range, 2, &[2, 3], plain), 0);
    assert_eq!(magazine.give(range, 2, &[2, 4, 3], |_| true), 1);
    assert_eq!((magazine.count(), tags[3].holder()), (3, holder(3)));
}

#[test]
fn full_magazine_takes_no_more() {
    let (tags, magazine) = (tags(MAGAZINE_LEN + 1), Magazine::zeroed());
    let range = range(&tags, 0);
    let all: Vec<u32> = (0..)
        .map(|number| MbufIndex::new(0, number).bits())
        .take(tags.len())
        .collect();
    assert_eq!(magazine.give(range, 0, &all, |_| true), MAGAZINE_LEN);
    let more = &all[MAGAZINE_LEN..];
    assert_eq!(magazine.give(range, MAGAZINE_LEN, more, |_| true), 0);
    assert_eq!(magazine.count(), MAGAZINE_LEN);
}

#[test]
fn entry_that_names_no_free_mbuf_is_dropped_and_counted() {
    let (tags, magazine) = (tags(4), Magazine::zeroed());
    let range = range(&tags, 0);
    let twice = [0, 1, 1, 4, u32::MAX, MbufIndex::new(1, 0).bits()];
    assert_eq!(
        magazine.stock(twice.into_iter().map(MbufIndex::from_bits)),
        6
    );
    let mut out = [0; 6];
    let done = magazine.take(range, 6, (holder(0), Seen::fresh(0)), &mut out);
    assert_eq!((done.taken, done.left, done.bad), (2, 0, 4));
    assert_eq!(out[..2], [1, 0]);
}

#[test]
fn magazine_has_one_owner() {
    let magazine = Magazine::zeroed();
    assert_eq!(magazine.claim(owner(1)), Some(0));
    assert_eq!(magazine.claim(owner(2)), None);
    assert_eq!(magazine.owner(), owner(1));
    magazine.release();
    assert_eq!(magazine.claim(owner(2)), Some(0));
}

/// A rack whose magazines have these counts.
fn rack(counts: &[usize]) -> (Vec<Magazine>, Vec<AtomicU32>) {
    let magazines: Vec<Magazine> = counts.iter().map(|_| Magazine::zeroed()).collect();
    let hints: Vec<AtomicU32> = counts.iter().map(|_| AtomicU32::new(0)).collect();
    let rack = Rack {
        magazines: &magazines,
        hints: &hints,
    };
    for (number, (magazine, count)) in magazines.iter().zip(counts).enumerate() {
        magazine.stock((0..).map(|n| MbufIndex::new(0, n)).take(*count));
        rack.release(Held {
            magazine,
            number,
            count: *count,
        });
    }
    (magazines, hints)
}

#[test]
fn claims_prefer_full_and_empty_magazines_to_partial_ones() {
    let mut counts = [5; 70];
    (counts[40], counts[66]) = (MAGAZINE_LEN, 0);
    let (magazines, hints) = rack(&counts);
    let rack = Rack {
        magazines: &magazines,
        hints: &hints,
    };
    assert_eq!(rack.claim(owner(1), Need::Stock).unwrap().number, 40);
    assert_eq!(rack.claim(owner(1), Need::Room).unwrap().number, 66);
    assert_eq!(rack.claim(owner(1), Need::Stock).unwrap().number, 0);
    assert_eq!(rack.claim(owner(1), Need::Partial).unwrap().number, 1);
}

#[test]
fn lying_hints_cost_looks_and_nothing_else() {
    let (magazines, hints) = rack(&[0, MAGAZINE_LEN, 3]);
    let rack = Rack {
        magazines: &magazines,
        hints: &hints,
    };
    let lie = |hint| {
        for word in &hints {
            word.store(hint, eal::sync::Ordering::Relaxed);
        }
    };
    lie(u32::MAX);
    assert_eq!(rack.claim(owner(1), Need::Stock).unwrap().number, 1);
    assert_eq!(rack.claim(owner(1), Need::Room).unwrap().number, 0);
    lie(0);
    assert!(rack.claim(owner(1), Need::Stock).is_none());
    assert_eq!(
        rack.claim_unhinted(owner(1), Need::Stock, 7, 3)
            .unwrap()
            .number,
        2
    );
}

#[test]
fn burst_to_and_fro_costs_no_exchange() {
    let pool = pool(200);
    let lcore = lcore(pool);
    let mut burst = Burst::new(&lcore);
    lcore.alloc_burst(pool, &mut burst, 20);
    let mine = |pool: Pool| -> Vec<usize> {
        let owned = |(at, m): (usize, &Magazine)| (m.owner() != Owner::NONE).then_some(at);
        pool.magazines()
            .iter()
            .enumerate()
            .filter_map(owned)
            .collect()
    };
    burst.clear();
    lcore.alloc_burst(pool, &mut burst, BURST_MAX);
    let before = mine(pool);
    for _ in 0..10 {
        let mut more = Burst::new(&lcore);
        lcore.alloc_burst(pool, &mut more, BURST_MAX);
        burst.clear();
        lcore.alloc_burst(pool, &mut burst, BURST_MAX);
    }
    assert!(
        before.iter().all(|at| mine(pool).contains(at)),
        "{before:?}"
    );
    drop(burst);
    assert!(mine(pool).len() <= 2);
}

/// The worst case of the formula: all other slots own two magazines each, and one slot frees every mbuf that there is.
#[test]
fn free_finds_room_when_every_slot_sits_on_two_magazines() {
    for count in [1_u32, 63, 64, 65, 128, 300] {
        let pool = pool(count);
        let lcore = lcore(pool);
        let all: Vec<u32> =
            core::iter::from_fn(|| Some(lcore.alloc(pool)?.leak().bits())).collect();
        assert_eq!(all.len(), count as usize);
        let others = (1..eal::SLOTS_MAX).flat_map(|slot| [slot; 2]);
        let held: Vec<Held<'_>> = others
            .map(|slot| {
                pool.rack()
                    .claim(owner(u8::try_from(slot).unwrap()), Need::Room)
                    .unwrap()
            })
            .collect();
        lcore.free(&all);
        assert_eq!(lcore.counters().no_room.get(), 0, "{count} mbufs");
        assert_eq!(pool.in_use(), 0);
        for held in held {
            pool.rack().release(held);
        }
        drop(lcore);
        assert_at_rest(pool);
    }
}

#[test]
fn exits_merge_what_is_partial() {
    let pool = pool(count(32 * MAGAZINE_LEN));
    let lcores: Vec<Lcore> = (0..20).map(|_| lcore(pool)).collect();
    // Each frees what another allocated, so that all end with crumbs.
    let mut bits = Vec::new();
    for lcore in &lcores {
        let mut burst = Burst::new(lcore);
        lcore.alloc_burst(pool, &mut burst, 10);
        bits.push(burst.drain().map(|m| m.leak().bits()).collect::<Vec<_>>());
    }
    for (lcore, bits) in lcores.iter().rev().zip(&bits) {
        lcore
            .find(MbufIndex::from_bits(bits[0]))
            .unwrap()
            .0
            .give(lcore, &bits[..7], |_| true);
        lcore
            .find(MbufIndex::from_bits(bits[0]))
            .unwrap()
            .0
            .give(lcore, &bits[7..], |_| true);
    }
    drop(lcores);
    assert_at_rest(pool);
    let partial = pool
        .magazines()
        .iter()
        .filter(|m| Need::Partial.met_by(m.count()))
        .count();
    assert!(partial <= 1, "{partial} magazines are partial");
}
