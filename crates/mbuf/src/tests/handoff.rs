//! Mbufs through rings.

use std::collections::VecDeque;

use super::*;
use crate::{BURST_MAX, BadIndex, Burst, OffloadFlags, SEGMENTS_MAX};

/// Where the word with the tag lies, and those with data, links and users.
const TAG: usize = 0;
const REFS: usize = 4;
const LINKS: usize = 24;

/// Writes words of an mbuf's meta as a process gone mad would.
fn scribble(pool: Pool, index: MbufIndex, at: usize, value: u32) {
    use eal::sync::{AtomicU32, Ordering};
    let zone = pool
        .region()
        .lookup(eal::ZoneKind::Pool, pool.name().as_str())
        .unwrap();
    let metas = zone.len() - pool.count() as usize * usize::from(ROOM);
    let shape = PoolConfig {
        data_room: ROOM,
        private_size: 16,
        ..PoolConfig::new("", pool.count())
    };
    let plan = shape.shape().unwrap().plan();
    assert!(plan.metas < metas);
    let offset = plan.metas + index.number() as usize * 64 + at;
    // The links are a word of 64 bits; its halves are written here, which a process gone mad may do.
    zone.get::<AtomicU32>(offset)
        .unwrap()
        .store(value, Ordering::Relaxed);
}

#[test]
fn packets_change_hands_in_order() {
    let pool = pool(64);
    let (from, to) = (lcore(pool), lcore(pool));
    let (mut producer, mut consumer) = ring("r", 16, &from, &to);
    let mut burst = Burst::new(&from);
    for number in 0..20 {
        burst
            .push(from.mbuf_from(pool, &[number]).unwrap())
            .unwrap();
    }
    let done = producer.enqueue_burst(&mut burst);
    assert_eq!((done.count, done.free, burst.len()), (16, 0, 4));
    assert_eq!(
        burst.get(0).unwrap().data(),
        [16],
        "the rest stays, from the front"
    );
    let index = MbufIndex::from_bits(burst.indices()[0]);
    assert_eq!(pool.holder(index), Some(from.holder()));

    let mut out = Burst::new(&to);
    assert_eq!(consumer.len(), 16);
    let done = consumer.dequeue_burst(&to, &mut out);
    assert_eq!((done.count, done.left), (16, 0));
    for (number, mbuf) in out.iter().enumerate() {
        assert_eq!(usize::from(mbuf.data()[0]), number);
        assert_eq!(pool.holder(mbuf.index()), Some(to.holder()));
    }
    drop((burst, out));
    assert!(
        producer
            .enqueue(from.mbuf_from(pool, b"one").unwrap())
            .is_ok()
    );
    assert_eq!(consumer.dequeue(&to).unwrap().data(), b"one");
    assert!(consumer.dequeue(&to).is_none() && consumer.is_empty());
    drop((producer, consumer, from, to));
    assert_at_rest(pool);
}

#[test]
fn bulk_goes_whole_or_stays() {
    let pool = pool(64);
    let (from, to) = (lcore(pool), lcore(pool));
    let (mut producer, mut consumer) = ring("r", 16, &from, &to);
    let mut burst = Burst::new(&from);
    from.alloc_burst(pool, &mut burst, 10);
    assert_eq!(producer.enqueue_bulk(&mut burst).unwrap().count, 10);
    from.alloc_burst(pool, &mut burst, 10);
    assert_eq!(producer.enqueue_bulk(&mut burst).unwrap().count, 0);
    assert_eq!(burst.len(), 10);
    let mut out = Burst::new(&to);
    assert_eq!(consumer.dequeue_burst(&to, &mut out).count, 10);
    assert_eq!(producer.enqueue_bulk(&mut burst).unwrap().count, 10);
}

#[test]
fn closed_ring_gives_the_packet_back() {
    let pool = pool(8);
    let (from, to) = (lcore(pool), lcore(pool));
    let (mut producer, consumer) = ring("r", 16, &from, &to);
    drop(consumer);
    assert!(producer.is_closed());
    let back = producer
        .enqueue(from.mbuf_from(pool, b"back").unwrap())
        .unwrap_err();
    assert_eq!(back.data(), b"back");
    producer.count_drops(1);
    drop(back);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn ends_of_another_thread_move_nothing() {
    let pool = pool(200);
    let (from, to) = (lcore(pool), lcore(pool));
    let (mut producer, mut consumer) = ring("r", 16, &from, &to);
    assert!(producer.enqueue(to.alloc(pool).unwrap()).is_err());
    assert!(producer.enqueue(from.alloc(pool).unwrap()).is_ok());
    assert!(consumer.dequeue(&from).is_none());
    assert_eq!(
        consumer.dequeue_burst(&from, &mut Burst::new(&from)).count,
        0
    );
    assert_eq!(consumer.dequeue_burst(&to, &mut Burst::new(&from)).count, 0);
    assert!(consumer.dequeue(&to).is_some());
}

#[test]
fn chain_travels_by_one_index_and_all_its_segments_change_holder() {
    let pool = pool(32);
    let (from, to) = (lcore(pool), lcore(pool));
    let (mut producer, mut consumer) = ring("r", 16, &from, &to);
    let data = pattern(5, 900);
    producer
        .enqueue(from.mbuf_from(pool, &data).unwrap())
        .unwrap();
    let mbuf = consumer.dequeue(&to).unwrap();
    assert_eq!(bytes(&mbuf), data);
    let mut index = Some(mbuf.index());
    let mut segments = 0;
    while let Some(here) = index {
        assert_eq!(pool.holder(here), Some(to.holder()));
        index = pool.next(here);
        segments += 1;
    }
    assert_eq!(segments, 5);
    drop(mbuf);
    drop((producer, consumer, from, to));
    assert_at_rest(pool);
}

#[test]
fn clones_are_copied_before_they_leave_and_counted() {
    let pool = pool(64);
    let (from, to) = (lcore(pool), lcore(pool));
    let (mut producer, mut consumer) = ring("r", 16, &from, &to);
    let mut mbuf = from.mbuf_from(pool, &pattern(6, 500)).unwrap();
    mbuf.set_flags(OffloadFlags::RX_L4_GOOD);
    let kept = mbuf.clone_ref().unwrap();
    let mut burst = Burst::new(&from);
    burst.push(from.mbuf_from(pool, b"plain").unwrap()).unwrap();
    burst.push(kept.clone_ref().unwrap()).unwrap();
    burst.push(mbuf).unwrap();
    assert_eq!(producer.enqueue_burst(&mut burst).count, 3);
    assert_eq!(
        from.counters().clones_copied.get(),
        2,
        "the clone, and the original that has some"
    );
    let mut out = Burst::new(&to);
    assert_eq!(consumer.dequeue_burst(&to, &mut out).count, 3);
    for mut mbuf in out.drain().skip(1) {
        assert_eq!(
            (bytes(&mbuf), mbuf.flags()),
            (pattern(6, 500), OffloadFlags::RX_L4_GOOD)
        );
        mbuf.data_mut().unwrap().fill(0);
    }
    assert_eq!(
        bytes(&kept),
        pattern(6, 500),
        "the clone that stayed is untouched"
    );
    drop((kept, burst, out));
    drop((producer, consumer, from, to));
    assert_at_rest(pool);
}

#[test]
fn clone_that_cannot_be_copied_stays() {
    let pool = pool(4);
    let (from, to) = (lcore(pool), lcore(pool));
    let (mut producer, _consumer) = ring("r", 16, &from, &to);
    let mbuf = from.mbuf_from(pool, b"dry").unwrap();
    let mut burst = Burst::new(&from);
    burst.push(from.alloc(pool).unwrap()).unwrap();
    burst.push(mbuf.clone_ref().unwrap()).unwrap();
    burst.push(from.alloc(pool).unwrap()).unwrap();
    assert_eq!(producer.enqueue_burst(&mut burst).count, 1);
    assert_eq!(
        (burst.len(), burst.get(0).unwrap().data()),
        (2, &b"dry"[..])
    );
    assert_eq!(producer.enqueue_bulk(&mut burst).unwrap().count, 0);
    assert_eq!(burst.len(), 2);
}

#[test]
fn nothing_is_copied_for_a_full_ring() {
    let pool = pool(8);
    let (from, to) = (lcore(pool), lcore(pool));
    let (mut producer, _consumer) = ring("r", 2, &from, &to);
    producer.enqueue(from.alloc(pool).unwrap()).unwrap();
    producer.enqueue(from.alloc(pool).unwrap()).unwrap();
    let mbuf = from.mbuf_from(pool, b"full").unwrap();
    let clone = producer.enqueue(mbuf.clone_ref().unwrap()).unwrap_err();
    assert!(clone.is_shared());
    assert_eq!(from.counters().clones_copied.get(), 0);
}

#[test]
fn pool_that_the_reader_has_not_met_is_found() {
    let region = region(1 << 20);
    let pools = ["one", "two"].map(|name| Pool::create(region, &config(name, 8)).unwrap());
    let (from, to) = (lcore(pools[0]), lcore(pools[0]));
    let (mut producer, mut consumer) = ring("r", 16, &from, &to);
    for pool in pools {
        let mut mbuf = from.mbuf_from(pool, b"head").unwrap();
        mbuf.append_segment(from.mbuf_from(pools[1], b"tail").unwrap())
            .unwrap();
        producer.enqueue(mbuf).unwrap();
    }
    for _ in pools {
        assert_eq!(bytes(&consumer.dequeue(&to).unwrap()), b"headtail");
    }
    drop((producer, consumer, from, to));
    for pool in pools {
        assert_at_rest(pool);
    }
}

/// What a peer gone mad could put into our ring.
#[test]
fn bad_items_are_dropped_and_counted_and_not_freed() {
    let pool = pool(200);
    let (from, to) = (lcore(pool), lcore(pool));
    let (mut producer, mut consumer) = ring("r", 16, &from, &to);
    let mine = to.mbuf_from(pool, b"mine").unwrap();
    let good = from.mbuf_from(pool, b"good").unwrap();
    let free = from.alloc(pool).unwrap().index();
    let again = good.index().bits();
    producer.enqueue(good).unwrap();
    let items = [
        MbufIndex::NONE.bits(),
        MbufIndex::new(77, 1).bits(),          // no such pool
        MbufIndex::new(pool.id(), 200).bits(), // past the end
        mine.index().bits(),                   // not the sender's
        free.bits(),                           // nobody's
        again,                                 // a second time
    ];
    assert_eq!(producer.ring().enqueue_burst(&items).count, items.len());
    let mut out = Burst::new(&to);
    assert_eq!(consumer.dequeue_burst(&to, &mut out).count, 1);
    assert_eq!(out.get(0).unwrap().data(), b"good");
    assert_eq!(
        (
            to.counters().bad_index.get(),
            to.counters().bad_holder.get()
        ),
        (3, 3)
    );
    assert!(consumer.is_empty());
    assert_eq!(mine.data(), b"mine");
    drop((out, mine));
    drop((producer, consumer, from, to));
    assert_at_rest(pool);
}

#[test]
fn chains_that_lead_astray_are_dropped_whole() {
    let pool = pool(200);
    let (from, to) = (lcore(pool), lcore(pool));
    let (mut producer, mut consumer) = ring("r", 16, &from, &to);
    let mine = to.alloc(pool).unwrap();
    // Sent as they should be, and scribbled over in the ring.
    let mut send = |data: &[u8]| {
        let mbuf = from.mbuf_from(pool, data).unwrap();
        let index = mbuf.index();
        producer.enqueue(mbuf).unwrap();
        index
    };
    let mut heads = Vec::new();
    for next in [
        mine.index().bits(),
        MbufIndex::new(9, 9).bits(),
        pool.count(),
    ] {
        let head = send(&[1; 200]);
        scribble(pool, pool.next(head).unwrap(), LINKS, next);
        heads.push(head);
    }
    let round = send(&[1; 200]);
    scribble(pool, pool.next(round).unwrap(), LINKS, round.bits());
    let shown = from.mbuf_from(pool, b"a frame of the sender").unwrap();
    let clone = send(b"looks like a clone");
    scribble(pool, clone, LINKS + 4, shown.index().bits());
    pool.range().tag(clone).unwrap().set_linked();
    let users = send(b"looks used");
    scribble(pool, users, REFS, 2);
    pool.range().tag(users).unwrap().set_linked();
    heads.extend([round, clone, users]);
    assert_eq!(consumer.dequeue_burst(&to, &mut Burst::new(&to)).count, 0);
    assert_eq!(
        to.counters().chain_too_long.get(),
        1,
        "the one that goes round"
    );
    assert_eq!(
        to.counters().bad_index.get() + to.counters().bad_holder.get(),
        5
    );
    for head in heads {
        assert_eq!(pool.holder(head), Some(from.holder()), "left as it was");
    }
}

#[test]
fn chain_of_the_greatest_length_passes() {
    let pool = pool(u32::try_from(SEGMENTS_MAX).unwrap());
    let (from, to) = (lcore(pool), lcore(pool));
    let (mut producer, mut consumer) = ring("r", 16, &from, &to);
    let len = 128 + (SEGMENTS_MAX - 1) * 256;
    producer
        .enqueue(from.mbuf_from(pool, &pattern(1, len)).unwrap())
        .unwrap();
    assert_eq!(bytes(&consumer.dequeue(&to).unwrap()), pattern(1, len));
    drop((producer, consumer, from, to));
    assert_at_rest(pool);
}

#[test]
fn dead_reader_is_followed_by_one_who_finds_every_packet() {
    let pool = pool(16);
    let (from, to) = (lcore(pool), lcore(pool));
    let (mut producer, mut consumer) = ring("r", 16, &from, &to);
    for number in 0..3 {
        producer
            .enqueue(from.mbuf_from(pool, &[number]).unwrap())
            .unwrap();
    }
    // Killed between steps 2 and 3: tagged with the dead slot, and still in the ring.
    let mut items = [0; 2];
    assert_eq!(consumer.ring().peek_burst(&mut items), 2);
    for item in items {
        scribble(pool, MbufIndex::from_bits(item), TAG, to.holder().bits());
    }
    drop(consumer);
    let next = lcore(pool);
    let ring = Ring::lookup(pool.region(), "r").unwrap();
    let mut consumer = MbufConsumer::new(ring.consumer(next.owner()).unwrap());
    let mut out = Burst::new(&next);
    assert_eq!(consumer.dequeue_burst(&next, &mut out).count, 3);
    assert_eq!(
        out.iter().map(|mbuf| mbuf.data()[0]).collect::<Vec<_>>(),
        [0, 1, 2]
    );
}

#[test]
fn ring_to_oneself_works() {
    let pool = pool(8);
    let lcore = lcore(pool);
    let ring = Ring::create(pool.region(), "r", 4, None, SPSC).unwrap();
    let mut consumer = MbufConsumer::new(ring.consumer(lcore.owner()).unwrap());
    let mut producer = MbufProducer::new(ring.producer(lcore.owner()).unwrap());
    producer
        .enqueue(lcore.mbuf_from(pool, b"note").unwrap())
        .unwrap();
    drop(producer);
    assert_eq!(consumer.dequeue(&lcore).unwrap().data(), b"note");
}

#[test]
fn fan_in_keeps_senders_apart() {
    let pool = pool(200);
    let (one, two, to) = (lcore(pool), lcore(pool), lcore(pool));
    let ring = Ring::create(pool.region(), "r", 64, None, Flags::SC_DEQ).unwrap();
    let mut consumer = MbufConsumer::new(ring.consumer(to.owner()).unwrap());
    let mut ends = [&one, &two].map(|l| {
        (
            l,
            MbufProducer::new(ring.producer(l.owner()).unwrap()),
            VecDeque::new(),
        )
    });
    for round in 0..10_u8 {
        for (sender, (lcore, producer, sent)) in ends.iter_mut().enumerate() {
            let data = [u8::try_from(sender).unwrap(), round];
            producer
                .enqueue(lcore.mbuf_from(pool, &data).unwrap())
                .unwrap();
            sent.push_back(round);
        }
    }
    let mut burst = Burst::new(&to);
    while consumer.dequeue_burst(&to, &mut burst).count > 0 {
        for mbuf in burst.drain() {
            let sent = &mut ends[usize::from(mbuf.data()[0])].2;
            assert_eq!(sent.pop_front(), Some(mbuf.data()[1]));
        }
    }
    assert!(ends.iter().all(|(_, _, sent)| sent.is_empty()));
}

#[test]
fn bad_items_without_end_do_not_keep_the_reader() {
    let pool = pool(200);
    let (from, to) = (lcore(pool), lcore(pool));
    let (mut producer, mut consumer) = ring("r", 256, &from, &to);
    let bad = [MbufIndex::NONE.bits(); 100];
    assert_eq!(producer.ring().enqueue_burst(&bad).count, 100);
    producer
        .enqueue(from.mbuf_from(pool, b"good").unwrap())
        .unwrap();
    let mut burst = Burst::new(&to);
    for call in 1..=3 {
        assert_eq!(consumer.dequeue_burst(&to, &mut burst).count, 0);
        assert_eq!(to.counters().bad_index.get(), call * BURST_MAX as u64);
    }
    assert_eq!(consumer.dequeue_burst(&to, &mut burst).count, 1);
    assert_eq!(burst.get(0).unwrap().data(), b"good");
}

#[test]
fn index_in_two_lanes_is_delivered_once() {
    let pool = pool(200);
    let (one, two, to) = (lcore(pool), lcore(pool), lcore(pool));
    let ring = Ring::create(pool.region(), "r", 64, None, Flags::SC_DEQ).unwrap();
    let mut consumer = MbufConsumer::new(ring.consumer(to.owner()).unwrap());
    let mut producers = [&one, &two].map(|l| MbufProducer::new(ring.producer(l.owner()).unwrap()));
    for copies_first in [false, true] {
        let mbuf = one.mbuf_from(pool, b"once").unwrap();
        let copy = [mbuf.index().bits(); 2];
        if copies_first {
            let _ = producers[1].ring().enqueue_burst(&copy);
        }
        producers[0].enqueue(mbuf).unwrap();
        if !copies_first {
            let _ = producers[1].ring().enqueue_burst(&copy);
        }
        let before = to.counters().bad_holder.get();
        let mut burst = Burst::new(&to);
        while !consumer.is_empty() {
            let _ = consumer.dequeue_burst(&to, &mut burst);
        }
        assert_eq!(burst.len(), 1);
        assert_eq!(burst.get(0).unwrap().data(), b"once");
        assert_eq!(to.counters().bad_holder.get() - before, 2);
    }
    drop((producers, consumer, one, two, to));
    assert_at_rest(pool);
}

#[test]
fn index_twice_in_a_ring_to_oneself_is_delivered_once() {
    let pool = pool(8);
    let lcore = lcore(pool);
    let (mut producer, mut consumer) = ring("r", 4, &lcore, &lcore);
    let mbuf = lcore.mbuf_from(pool, b"once").unwrap();
    let copy = mbuf.index().bits();
    producer.enqueue(mbuf).unwrap();
    let _ = producer.ring().enqueue_burst(&[copy, copy]);
    let mut burst = Burst::new(&lcore);
    assert_eq!(consumer.dequeue_burst(&lcore, &mut burst).count, 1);
    assert_eq!(lcore.counters().bad_holder.get(), 2);
    drop((burst, producer, consumer));
    drop(lcore);
    assert_at_rest(pool);
}

#[test]
fn what_was_not_sent_is_not_received() {
    let pool = pool(200);
    let (from, to) = (lcore(pool), lcore(pool));
    let (mut producer, mut consumer) = ring("r", 16, &from, &to);
    let kept = from.mbuf_from(pool, b"kept").unwrap();
    let raw = from.mbuf_from(pool, b"raw").unwrap().into_raw();
    let items = [kept.index().bits(), raw.bits()];
    assert_eq!(producer.ring().enqueue_burst(&items).count, 2);
    assert!(consumer.dequeue(&to).is_none() && consumer.dequeue(&to).is_none());
    assert!(consumer.is_empty());
    assert_eq!(to.counters().bad_holder.get(), 2);
    assert_eq!(kept.data(), b"kept");
    assert_eq!(from.adopt(raw).unwrap().data(), b"raw");
}

#[test]
fn what_was_sent_cannot_be_adopted() {
    let pool = pool(200);
    let (from, to) = (lcore(pool), lcore(pool));
    let (mut producer, mut consumer) = ring("r", 16, &from, &to);
    let mbuf = from.mbuf_from(pool, b"sent").unwrap();
    let index = mbuf.index();
    producer.enqueue(mbuf).unwrap();
    assert_eq!(from.adopt(index).unwrap_err(), BadIndex::Owned(index));
    let mbuf = consumer.dequeue(&to).unwrap();
    assert_eq!(mbuf.data(), b"sent");
    assert_eq!(to.adopt(index).unwrap_err(), BadIndex::Owned(index));
}

/// Those that stay in the burst are mbufs still, whatever kept them there.
#[test]
fn what_stays_in_the_burst_is_not_marked_as_sent() {
    let pool = pool(200);
    let (from, to) = (lcore(pool), lcore(pool));
    let (mut producer, mut consumer) = ring("r", 4, &from, &to);
    let unmarked = |burst: &Burst<'_>| {
        let mut indices = burst.indices().iter().copied().map(MbufIndex::from_bits);
        indices.all(|index| !from.find(index).unwrap().1.tag.read().is_in_ring())
    };
    for len in [1, 200] {
        let mut burst = Burst::new(&from);
        for _ in 0..6 {
            burst.push(from.mbuf_from(pool, &[0; 1]).unwrap()).unwrap();
        }
        burst
            .push(from.mbuf_from(pool, &pattern(1, len)).unwrap())
            .unwrap();
        assert_eq!(producer.enqueue_bulk(&mut burst).unwrap().count, 0);
        assert!(burst.len() == 7 && unmarked(&burst));
        assert_eq!(producer.enqueue_burst(&mut burst).count, 4);
        assert!(burst.len() == 3 && unmarked(&burst));
        let mut out = Burst::new(&to);
        assert_eq!(consumer.dequeue_burst(&to, &mut out).count, 4);
        assert!(unmarked(&out));
    }
}
