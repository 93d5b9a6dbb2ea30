//! The check against pools and rings that are in order, and against such as are not.

use forebay::eal::sync::{AtomicU8, AtomicU32, Ordering};
use forebay::eal::{Slot, ZoneKind};
use forebay::mbuf::{Burst, Lcore, MbufConsumer, MbufProducer, Pool, PoolConfig};
use forebay::ring::{Flags, Ring};

use super::survey::Places;
use super::*;

const COUNT: u32 = 500;

fn region() -> &'static Region {
    Box::leak(Box::new(Region::anonymous(8 << 20).unwrap()))
}

fn lcore(region: &'static Region, name: &str) -> Lcore {
    Lcore::new(Slot::claim(region, name).unwrap())
}

fn pool(region: &'static Region) -> Pool {
    Pool::create(region, &PoolConfig::new("pool", COUNT)).unwrap()
}

fn spsc(region: &'static Region, size: u32) -> Ring<'static> {
    Ring::create(region, "ring", size, None, Flags::SP_ENQ | Flags::SC_DEQ).unwrap()
}

fn places(region: &Region) -> Places {
    let survey = Survey::take(region);
    assert!(survey.is_clean(), "{survey:?}");
    survey.pools[0].places
}

fn faults(region: &Region) -> Vec<Fault> {
    Survey::take(region).pools[0]
        .faults
        .values()
        .copied()
        .collect()
}

#[test]
fn fresh_pool_is_all_in_its_magazines() {
    let region = region();
    pool(region);
    assert_eq!(
        places(region),
        Places {
            pool_magazines: COUNT,
            ..Places::default()
        }
    );
}

#[test]
fn each_buffer_is_found_where_it_was_put() {
    let region = region();
    let pool = pool(region);
    let ring = spsc(region, 8);
    let me = lcore(region, "me");
    let consumer = ring.consumer(me.owner()).unwrap();
    let mut producer = MbufProducer::new(ring.producer(me.owner()).unwrap());

    let held = me.alloc(pool).unwrap();
    let mut chain = me.alloc(pool).unwrap();
    chain.append_segment(me.alloc(pool).unwrap()).unwrap();
    let mut burst = Burst::new(&me);
    burst.push(chain).unwrap();
    burst.push(me.alloc(pool).unwrap()).unwrap();
    assert_eq!(producer.enqueue_burst(&mut burst).count, 2);

    let found = places(region);
    assert_eq!((found.hand, found.rings, found.queues), (1, 3, 0));
    assert!(found.slot_magazines > 0, "{found:?}");
    assert_eq!(found.pool_magazines + found.slot_magazines, COUNT - 4);
    drop(held);
    assert_eq!(places(region).hand, 0);
    drop(consumer);
}

#[test]
fn rings_are_read_at_every_position() {
    let region = region();
    let pool = pool(region);
    let me = lcore(region, "me");
    for (name, size) in [("two", 2_u32), ("sixteen", 16)] {
        let ring = Ring::create(region, name, size, None, Flags::SP_ENQ | Flags::SC_DEQ).unwrap();
        let mut producer = MbufProducer::new(ring.producer(me.owner()).unwrap());
        let mut consumer = MbufConsumer::new(ring.consumer(me.owner()).unwrap());
        for turn in 0..3 * size {
            let count = turn % size + 1;
            let mut burst = Burst::new(&me);
            assert!(me.alloc_bulk(pool, &mut burst, count as usize));
            assert_eq!(producer.enqueue_burst(&mut burst).count, count as usize);
            assert_eq!(places(region).rings, count, "{name}, turn {turn}");
            while consumer.dequeue_burst(&me, &mut burst).count > 0 {
                burst.clear();
            }
        }
    }
}

#[test]
fn lanes_of_a_fan_in_ring_are_all_walked() {
    let region = region();
    let pool = pool(region);
    let ring = Ring::create(region, "ring", 32, None, Flags::SC_DEQ).unwrap();
    let (a, b) = (lcore(region, "a"), lcore(region, "b"));
    let consumer = ring.consumer(a.owner()).unwrap();
    let mut put = Vec::new();
    for (lcore, count) in [(&a, 3), (&b, 5)] {
        let mut producer = MbufProducer::new(ring.producer(lcore.owner()).unwrap());
        let mut burst = Burst::new(lcore);
        assert!(lcore.alloc_bulk(pool, &mut burst, count));
        assert_eq!(producer.enqueue_burst(&mut burst).count, count);
        put.push(producer);
    }
    assert_eq!(places(region).rings, 8);
    drop((put, consumer));
}

#[test]
fn what_a_slot_held_that_is_gone_is_leaked() {
    let region = region();
    let pool = pool(region);
    let gone = lcore(region, "gone");
    let index = gone.alloc(pool).unwrap().into_raw();
    let slot = gone.slot_id();
    drop(gone);
    let survey = Survey::take(region);
    let leaked = Fault::Leaked(forebay::eal::holder::HolderKind::Slot(slot));
    assert_eq!(survey.pools[0].faults.get(&index.number()), Some(&leaked));
    assert_eq!(PoolRow::new(&survey.pools[0]).leaked, 1);
}

#[test]
fn index_in_two_places_is_double_and_one_of_no_pool_a_stray() {
    let region = region();
    let pool = pool(region);
    let ring = spsc(region, 8);
    let me = lcore(region, "me");
    let consumer = ring.consumer(me.owner()).unwrap();
    let mut producer = ring.producer(me.owner()).unwrap();
    let index = me.alloc(pool).unwrap().into_raw().bits();
    // Past the end of an mbuf ring, which would not list one twice.
    producer.set_carries_mbufs();
    assert_eq!(
        producer
            .enqueue_burst(&[index, index, index | 0x00ff_ffff])
            .count,
        3
    );
    assert_eq!(faults(region), [Fault::Double(2)]);
    assert_eq!(Survey::take(region).strays, 1);
    drop(consumer);
}

#[test]
fn tag_that_does_not_fit_the_place_is_told() {
    let region = region();
    let pool = pool(region);
    let me = lcore(region, "me");
    // The first magazine of a fresh pool lists the first buffers.
    let zone = region.lookup(ZoneKind::Pool, "pool").unwrap();
    let me_bits = me.holder().bits();
    let held = me.alloc(pool).unwrap();
    // Magazines name their owner by another word than buffers do.
    let place = (0..zone.len() / 4)
        .map(|word| word * 4)
        .find(|at| zone.get::<AtomicU32>(*at).unwrap().load(Ordering::Relaxed) == me_bits)
        .unwrap();
    zone.get::<AtomicU32>(place)
        .unwrap()
        .store(0, Ordering::Relaxed);
    let leaked = Fault::Leaked(forebay::eal::holder::HolderKind::Pool);
    assert_eq!(faults(region), [leaked], "tagged free and listed nowhere");
    zone.get::<AtomicU32>(place)
        .unwrap()
        .store(u32::MAX, Ordering::Relaxed);
    let nonsense = Fault::Leaked(forebay::eal::holder::HolderKind::Invalid);
    assert_eq!(faults(region), [nonsense]);
    zone.get::<AtomicU32>(place)
        .unwrap()
        .store(me_bits, Ordering::Relaxed);
    drop(held);
    places(region);
}

#[test]
fn fault_that_does_not_stay_is_forgiven_and_counted_as_moving() {
    let region = region();
    let pool = pool(region);
    let gone = lcore(region, "gone");
    let index = gone.alloc(pool).unwrap().into_raw();
    drop(gone);
    let earlier = Survey {
        pools: Vec::new(),
        ..Survey::take(region)
    };
    let mut later = Survey::take(region);
    assert!(later.pools[0].faults.contains_key(&index.number()));
    later.keep_what_stayed(&earlier);
    assert!(later.is_clean());
    assert_eq!(PoolRow::new(&later.pools[0]).moving, 1);
}

/// Numbers that look random, from a seed that a failure prints.
fn numbers(seed: u64) -> impl Iterator<Item = usize> {
    let mut state = seed | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).unwrap()
    })
}

#[test]
fn damaged_memory_is_told_and_never_followed() {
    for seed in 1..100_u64 {
        let region: &'static Region = Box::leak(Box::new(Region::anonymous(1 << 20).unwrap()));
        let pool = Pool::create(region, &PoolConfig::new("pool", 64)).unwrap();
        let ring = spsc(region, 8);
        let me = lcore(region, "me");
        let consumer = ring.consumer(me.owner()).unwrap();
        let mut producer = MbufProducer::new(ring.producer(me.owner()).unwrap());
        let mut burst = Burst::new(&me);
        assert!(me.alloc_bulk(pool, &mut burst, 5));
        assert_eq!(producer.enqueue_burst(&mut burst).count, 5);
        let mut numbers = numbers(seed * 0x9e37_79b9);
        for (kind, name) in [(ZoneKind::Pool, "pool"), (ZoneKind::Ring, "ring")] {
            let zone = region.lookup(kind, name).unwrap();
            // The first bytes are the headers, where damage tells most.
            for reach in [64, 512, zone.len()] {
                let byte = numbers.next().unwrap() % reach.min(zone.len());
                let [value, ..] = numbers.next().unwrap().to_le_bytes();
                zone.get::<AtomicU8>(byte)
                    .unwrap()
                    .store(value, Ordering::Relaxed);
            }
        }
        println!("seed {seed}: {}", Survey::take(region).is_clean());
        std::mem::forget((burst, producer, consumer));
        std::mem::forget(me);
    }
}

#[test]
fn ring_of_numbers_holds_no_buffers() {
    let region = region();
    let pool = pool(region);
    let ring = spsc(region, 8);
    let me = lcore(region, "me");
    let consumer = ring.consumer(me.owner()).unwrap();
    let mut producer = ring.producer(me.owner()).unwrap();
    // A number that no pool has, and one that a free buffer has.
    assert_eq!(producer.enqueue_burst(&[u32::MAX, 1]).count, 2);
    assert_eq!((faults(region), Survey::take(region).strays), (vec![], 0));
    drop((consumer, pool));
}
