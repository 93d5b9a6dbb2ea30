//! After a death every buffer is back. The crash model kills at every step; here whole slots die with all they hold.

use std::mem::forget;

use eal::process::SlotSet;
use eal::sleep::{Bell as _, Cause, WaitSet};
use eal::{SlotId, SlotState};
use ring::FanInConfig;

use super::*;
use crate::handoff::tag_good;
use crate::verify::verify;
use crate::{BURST_MAX, Burst, Report, sweep};

/// Dies with all that the slot holds.
fn kill(lcore: Lcore) -> SlotId {
    let slot = lcore.slot_id();
    lcore.region().abandon(slot);
    forget(lcore);
    slot
}

/// The sweep by a slot of the primary that does nothing else.
fn swept(pool: Pool) -> Report {
    let sweeper = lcore(pool);
    let report = sweep(pool.region(), &sweeper, SlotSet::EMPTY);
    let report = report.unwrap().expect("somebody is dead");
    assert!(
        report.strays.is_empty() && report.corrupt == 0,
        "{report:?}"
    );
    report
}

#[test]
fn buffers_in_hand_and_in_magazines_come_back() {
    let pool = pool(512);
    let (living, dead) = (lcore(pool), lcore(pool));
    let kept = living.mbuf_from(pool, b"kept").unwrap();
    let mut burst = Burst::new(&dead);
    assert_eq!(dead.alloc_burst(pool, &mut burst, 20), 20);
    let mut chain = dead.mbuf_from(pool, &pattern(1, 900)).unwrap();
    assert!(chain.segment_count() > 2);
    chain
        .append_segment(dead.mbuf_from(pool, b"tail").unwrap())
        .unwrap();
    let clone = chain.clone_ref().unwrap();
    let in_hand = 20 + 2 * u32::try_from(chain.segment_count()).unwrap();
    forget((chain, clone));
    forget(burst);
    let slot = kill(dead);
    let report = swept(pool);
    assert_eq!(report.slots, SlotSet::from_iter([slot]));
    assert_eq!((report.in_hand, report.rings), (in_hand, 0));
    assert!(report.magazines > 0);
    assert_eq!(
        report.to_string(),
        format!(
            "slots {slot}: {in_hand} buffers in hand, {} in magazines, 0 in rings",
            report.magazines
        )
    );
    assert_eq!(
        pool.region().slots()[slot.index()].state().0,
        SlotState::Free
    );
    assert_eq!(kept.data(), b"kept");
    drop(kept);
    drop(living);
    verify(pool.region()).unwrap();
    assert_at_rest(pool);
    assert!(
        sweep(pool.region(), &lcore(pool), SlotSet::EMPTY)
            .unwrap()
            .is_none()
    );
}

/// Killed between publishing and ringing: who sleeps is woken by the sweep, whatever he says of himself.
#[test]
fn sweep_rings_for_who_sleeps_over_what_the_dead_published() {
    let pool = pool(256);
    let (dead, living, idle) = (lcore(pool), lcore(pool), lcore(pool));
    let (mut producer, consumer) = ring("r", 16, &dead, &living);
    let (_nobody_sends, _empty) = ring("s", 16, &living, &idle);
    let bells = [&living, &idle].map(|lcore| lcore.slot().doorbell().unwrap());
    let rung = || {
        let now = std::time::Duration::ZERO;
        bells
            .each_ref()
            .map(|bell| bell.wait(&WaitSet::default(), now))
    };
    // The consumer does not say that it sleeps: so nobody rings, as if the producer had died before it did.
    assert!(
        producer
            .enqueue(dead.mbuf_from(pool, b"last").unwrap())
            .is_ok()
    );
    assert_eq!(rung(), [Cause::Time, Cause::Time]);
    forget(producer);
    kill(dead);
    swept(pool);
    assert_eq!(rung(), [Cause::Rung, Cause::Time]);
    drop(consumer);
}

#[test]
fn what_a_dead_producer_sent_is_still_received() {
    let pool = pool(256);
    let (dead, living) = (lcore(pool), lcore(pool));
    let (mut producer, mut consumer) = ring("r", 16, &dead, &living);
    for number in 0..5 {
        let packet = pattern(number, 600);
        assert!(
            producer
                .enqueue(dead.mbuf_from(pool, &packet).unwrap())
                .is_ok()
        );
    }
    let slot = {
        forget(producer);
        kill(dead)
    };
    assert_eq!(swept(pool).in_hand, 0);
    // Its place is taken by another, whose death does not take them either.
    let successor = lcore(pool);
    assert_eq!(successor.slot_id(), slot);
    forget(successor.mbuf_from(pool, b"in hand"));
    kill(successor);
    assert_eq!(swept(pool).in_hand, 1);
    let mut out = Burst::new(&living);
    assert_eq!(consumer.dequeue_burst(&living, &mut out).count, 5);
    for (number, mbuf) in out.iter().enumerate() {
        assert_eq!(bytes(&mbuf), pattern(number, 600));
    }
    drop(out);
    drop((consumer, living));
    assert_at_rest(pool);
}

#[test]
fn ring_of_a_dead_consumer_is_emptied_and_closed_until_its_successor_comes() {
    let pool = pool(256);
    let (living, dead) = (lcore(pool), lcore(pool));
    let (mut producer, mut consumer) = ring("r", 16, &living, &dead);
    let mut burst = Burst::new(&living);
    assert_eq!(living.alloc_burst(pool, &mut burst, 10), 10);
    assert_eq!(producer.enqueue_burst(&mut burst).count, 10);
    // Half taken: peeked and tagged, as a kill between two steps leaves it.
    let mut out = [0; 3];
    assert_eq!(consumer.ring().peek_burst(&mut out), 3);
    for index in out {
        let tag = pool.range().tag(MbufIndex::from_bits(index)).unwrap();
        tag.hand_to(tag.read(), dead.holder());
    }
    forget(consumer);
    kill(dead);
    assert!(!producer.is_closed(), "nobody has noticed");
    let report = swept(pool);
    assert_eq!((report.in_hand, report.rings), (0, 10));
    assert!(producer.is_closed());
    let successor = lcore(pool);
    let ring = Ring::lookup(pool.region(), "r").unwrap();
    let mut consumer = MbufConsumer::new(ring.consumer(successor.owner()).unwrap());
    assert!(!producer.is_closed());
    assert!(
        producer
            .enqueue(living.mbuf_from(pool, b"new").unwrap())
            .is_ok()
    );
    assert_eq!(consumer.dequeue(&successor).unwrap().data(), b"new");
    drop(burst);
    drop((producer, consumer, living, successor));
    assert_at_rest(pool);
}

#[test]
fn both_ends_dead_and_every_lane_of_a_fan_in() {
    let pool = pool(512);
    let config = FanInConfig {
        lanes: 8,
        lane_size: 64,
        limit: 512,
    };
    let fan_in = Ring::create_fan_in(pool.region(), "dispatch", config, None).unwrap();
    let (one, two, reader) = (lcore(pool), lcore(pool), lcore(pool));
    let consumer = MbufConsumer::new(fan_in.consumer(reader.owner()).unwrap());
    for from in [&one, &two] {
        let mut producer = MbufProducer::new(fan_in.producer(from.owner()).unwrap());
        for _ in 0..2 {
            let mut burst = Burst::new(from);
            assert_eq!(from.alloc_burst(pool, &mut burst, BURST_MAX), BURST_MAX);
            assert_eq!(producer.enqueue_burst(&mut burst).count, BURST_MAX);
        }
        forget(producer);
    }
    forget(consumer);
    for lcore in [one, reader, two] {
        kill(lcore);
    }
    let report = swept(pool);
    assert_eq!(report.slots.len(), 3);
    assert_eq!(report.rings, 4 * 32);
    assert_at_rest(pool);
}

#[test]
fn ring_of_numbers_keeps_them_for_the_successor() {
    let pool = pool(64);
    let region = pool.region();
    let dead = lcore(pool);
    let ring = Ring::create(region, "numbers", 8, None, SPSC).unwrap();
    let consumer = ring.consumer(dead.owner()).unwrap();
    let living = lcore(pool);
    let mut producer = ring.producer(living.owner()).unwrap();
    // Numbers that are indices of free mbufs: nobody may take them for such.
    assert_eq!(producer.enqueue_burst(&[1, 2, 3]).count, 3);
    forget(consumer);
    kill(dead);
    assert_eq!(swept(pool).rings, 0);
    // Nobody consumes: producers are told.
    assert!(producer.is_closed() && !ring.is_open());
    assert_eq!(producer.enqueue_burst(&[4]).count, 0);
    let mut consumer = ring.consumer(living.owner()).unwrap();
    let mut out = [0; 8];
    assert_eq!(consumer.dequeue_burst(&mut out).count, 3);
    drop((consumer, producer, living));
    assert_at_rest(pool);
}

#[test]
fn packet_under_what_is_now_the_readers_own_tag_is_received() {
    let pool = pool(64);
    let (first, reader) = (lcore(pool), lcore(pool));
    let (mut producer, consumer) = ring("r", 8, &first, &reader);
    assert!(
        producer
            .enqueue(first.mbuf_from(pool, b"from before").unwrap())
            .is_ok()
    );
    let slot = first.slot_id();
    drop((producer, first));
    let ring = Ring::lookup(pool.region(), "r").unwrap();
    drop(consumer);
    // The reader's successor sits where the sender sat, and another sends.
    let reader_again = lcore(pool);
    assert_eq!(reader_again.slot_id(), slot);
    let sender = lcore(pool);
    let _sends = ring.producer(sender.owner()).unwrap();
    let mut consumer = MbufConsumer::new(ring.consumer(reader_again.owner()).unwrap());
    assert_eq!(
        consumer.dequeue(&reader_again).unwrap().data(),
        b"from before"
    );
    assert_eq!(reader_again.counters().bad_holder.get(), 0);
}

#[test]
fn what_a_slot_left_although_it_ended_well_is_a_stray_and_comes_back() {
    let pool = pool(256);
    let region = pool.region();
    let (sweeper, careless, dead) = (lcore(pool), lcore(pool), lcore(pool));
    forget(careless.mbuf_from(pool, b"forgotten"));
    let slot = careless.slot_id();
    drop(careless);
    kill(dead);
    let report = sweep(region, &sweeper, SlotSet::EMPTY).unwrap().unwrap();
    assert_eq!(report.strays, SlotSet::from_iter([slot]));
    let report = sweep(region, &sweeper, report.strays).unwrap().unwrap();
    assert_eq!((report.in_hand, report.strays), (1, SlotSet::EMPTY));
    drop(sweeper);
    assert_at_rest(pool);
}

#[test]
fn sweeper_that_dies_is_swept_with_those_it_had_begun() {
    let pool = pool(256);
    let region = pool.region();
    let (dead, sweeper) = (lcore(pool), lcore(pool));
    forget(dead.mbuf_from(pool, b"in hand"));
    kill(dead);
    let begun = region.claim_dead(SlotSet::EMPTY).unwrap();
    forget(sweeper.mbuf_from(pool, b"as if taken from a lane"));
    drop(begun);
    kill(sweeper);
    let report = swept(pool);
    assert_eq!((report.slots.len(), report.in_hand), (2, 2));
    assert_at_rest(pool);
}

#[test]
fn damage_is_named_and_motion_is_not_damage() {
    let pool = pool(64);
    let region = pool.region();
    let lcore = lcore(pool);
    let kept = lcore.mbuf_from(pool, b"in hand").unwrap();
    verify(region).unwrap();
    pool.range().tags[7].set(Holder::from_bits(0x1555_5555));
    let error = verify(region).unwrap_err().to_string();
    assert!(error.contains("\"pool\" is damaged: the tag of"), "{error}");
    assert!(error.contains("forebay clean"), "{error}");
    pool.range().tags[7].set_pool();
    verify(region).unwrap();
    drop(kept);
    let free = pool.magazines().iter().find(|m| m.count() > 1).unwrap();
    let twice = free.entries().next().unwrap();
    let other = pool.magazines().iter().find(|m| m.count() == 0).unwrap();
    assert_eq!(other.stock([twice].into_iter()), 1);
    let error = verify(region).unwrap_err().to_string();
    assert!(error.contains("is listed twice"), "{error}");
}

#[test]
fn ring_that_was_left_with_packets_in_it_is_emptied_although_nobody_died() {
    let pool = pool(256);
    let region = pool.region();
    let (sweeper, sender, reader) = (lcore(pool), lcore(pool), lcore(pool));
    let (mut producer, consumer) = ring("r", 16, &sender, &reader);
    assert!(
        producer
            .enqueue(sender.mbuf_from(pool, b"late").unwrap())
            .is_ok()
    );
    drop((consumer, reader, producer, sender));
    assert!(crate::sweep::has_orphans(region));
    let report = sweep(region, &sweeper, SlotSet::EMPTY).unwrap().unwrap();
    assert_eq!((report.rings, report.slots), (1, SlotSet::EMPTY));
    assert_eq!(
        report.to_string(),
        "1 packets in rings that nobody consumes"
    );
    assert!(!crate::sweep::has_orphans(region));
    drop(sweeper);
    assert_at_rest(pool);
}

#[test]
fn where_a_ring_cannot_be_looked_into_nothing_in_hand_is_freed() {
    let pool = pool(256);
    let region = pool.region();
    let (sweeper, dead, reader) = (lcore(pool), lcore(pool), lcore(pool));
    let (mut producer, mut consumer) = ring("r", 16, &dead, &reader);
    assert!(
        producer
            .enqueue(dead.mbuf_from(pool, b"waits").unwrap())
            .is_ok()
    );
    let zone = region.lookup(eal::ZoneKind::Ring, "r").unwrap();
    let header = zone.get::<eal::sync::AtomicU64>(0).unwrap();
    header.store(77, eal::sync::Ordering::Relaxed);
    forget(producer);
    kill(dead);
    let report = sweep(region, &sweeper, SlotSet::EMPTY).unwrap().unwrap();
    assert_eq!((report.unreadable, report.in_hand), (1, 0));
    assert!(report.to_string().contains("damaged"), "{report}");
    assert_eq!(consumer.dequeue(&reader).unwrap().data(), b"waits");
}

/// A ring of many to many, and its ends for these slots: all of them produce and consume.
fn many(
    pool: Pool,
    lcores: &[&Lcore],
) -> (
    Ring<'static>,
    Vec<(MbufProducer<'static>, MbufConsumer<'static>)>,
) {
    let ring = Ring::create(pool.region(), "many", 128, None, Flags::NONE).unwrap();
    let ends = lcores.iter().map(|lcore| {
        (
            MbufProducer::new(ring.producer(lcore.owner()).unwrap()),
            MbufConsumer::new(ring.consumer(lcore.owner()).unwrap()),
        )
    });
    let ends = ends.collect();
    (ring, ends)
}

fn packets<'c>(lcore: &'c Lcore, pool: Pool, count: usize) -> Burst<'c> {
    let mut burst = Burst::new(lcore);
    for number in 0..count {
        let long = if number % 3 == 0 { 900 } else { 60 };
        burst
            .push(lcore.mbuf_from(pool, &pattern(number, long)).unwrap())
            .unwrap();
    }
    burst
}

#[test]
fn packets_through_a_ring_of_many_arrive_whole_and_once() {
    let pool = pool(512);
    let (a, b) = (lcore(pool), lcore(pool));
    let (ring, mut ends) = many(pool, &[&a, &b]);
    let mut burst = packets(&a, pool, 10);
    assert_eq!(ends[0].0.enqueue_burst(&mut burst).count, 10);
    assert!(ends[0].0.enqueue_bulk(&mut burst).is_err());
    let (mut mine, mut theirs) = (Burst::new(&a), Burst::new(&b));
    let first = ends[1].1.dequeue(&b).unwrap();
    assert_eq!(bytes(&first), pattern(0, 900));
    for _ in 0..4 {
        theirs.push(ends[1].1.dequeue(&b).unwrap()).unwrap();
    }
    assert_eq!(ends[0].1.dequeue_burst(&a, &mut mine).count, 5);
    let all = theirs.drain().chain(mine.drain());
    for (mbuf, number) in all.zip(1..) {
        let long = if number % 3 == 0 { 900 } else { 60 };
        assert_eq!(bytes(&mbuf), pattern(number, long));
    }
    assert!(ends[0].1.is_empty() && ends[0].1.dequeue(&a).is_none());
    assert_eq!((ring.len(), ring.faults()), (0, 0));
    drop((first, ends, burst, mine, theirs));
    for lcore in [a, b] {
        assert_eq!(lcore.counters().bad_holder.get(), 0);
        drop(lcore);
    }
    assert_at_rest(pool);
}

#[test]
fn what_a_dead_consumer_of_many_had_claimed_comes_back_and_the_rest_stays() {
    // Killed after the claim, and after it had tagged what it claimed.
    for tagged in [false, true] {
        let pool = pool(512);
        let (living, dead) = (lcore(pool), lcore(pool));
        let (ring, mut ends) = many(pool, &[&living, &dead]);
        let (_, mut dying) = ends.pop().unwrap();
        let mut burst = packets(&living, pool, 6);
        assert_eq!(ends[0].0.enqueue_burst(&mut burst).count, 6);
        let mut claimed = [0];
        assert_eq!(dying.ring().peek_burst(&mut claimed), 1);
        if tagged {
            let mut finder = dead.finder();
            let good = tag_good(&mut finder, dead.holder(), dead.counters(), &mut claimed);
            assert_eq!(good, 1);
        }
        forget(dying);
        kill(dead);
        verify(pool.region()).unwrap();
        let report = swept(pool);
        assert_eq!((report.rings, report.in_hand), (1, 0), "{report:?}");
        assert!(ring.is_open() && ring.consumers().count() == 1);
        let mut rest = Burst::new(&living);
        assert_eq!(ends[0].1.dequeue_burst(&living, &mut rest).count, 5);
        drop((rest, burst, ends));
        drop(living);
        assert_eq!(ring.faults(), 0);
        assert_at_rest(pool);
    }
}

#[test]
fn what_a_living_consumer_of_many_has_claimed_is_left_to_it() {
    let pool = pool(512);
    let (living, dead) = (lcore(pool), lcore(pool));
    let (_ring, mut ends) = many(pool, &[&living, &dead]);
    let (mut sender, consumer) = ends.pop().unwrap();
    let mut burst = packets(&dead, pool, 3);
    assert_eq!(sender.enqueue_burst(&mut burst).count, 3);
    // The claim names the living, the tag still the dead.
    assert_eq!(ends[0].1.ring().peek_burst(&mut [0]), 1);
    forget((sender, consumer, burst));
    kill(dead);
    let report = swept(pool);
    assert_eq!((report.rings, report.in_hand), (0, 0), "{report:?}");
    let mut came = Burst::new(&living);
    assert_eq!(ends[0].1.dequeue_burst(&living, &mut came).count, 3);
    drop((came, ends));
    drop(living);
    assert_at_rest(pool);
}

#[test]
fn ring_of_many_whose_consumers_are_all_dead_is_emptied_and_closed() {
    let pool = pool(512);
    let (living, dead) = (lcore(pool), lcore(pool));
    let (ring, mut ends) = many(pool, &[&living, &dead]);
    let (_, dying) = ends.pop().unwrap();
    let (mut sender, receiver) = ends.pop().unwrap();
    let mut burst = packets(&living, pool, 8);
    assert_eq!(sender.enqueue_burst(&mut burst).count, 8);
    drop(receiver);
    forget(dying);
    kill(dead);
    let report = swept(pool);
    assert_eq!(report.rings, 8);
    assert!(sender.is_closed() && !ring.is_open() && ring.len() == 0);
    drop((sender, burst));
    drop(living);
    assert_at_rest(pool);
}
