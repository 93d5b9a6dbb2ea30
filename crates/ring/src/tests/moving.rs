//! What goes in comes out: bursts, bulks, peeks, lanes in turn, marks.

use super::*;
use crate::{Consumer, Producer};

fn ends(region: &'static Region, ring: &Ring<'static>) -> (Producer<'static>, Consumer<'static>) {
    let slots = slots(region, 2);
    let ends = (
        ring.producer(slots[0].owner()).unwrap(),
        ring.consumer(slots[1].owner()).unwrap(),
    );
    std::mem::forget(slots);
    ends
}

#[test]
fn full_ring_refuses_and_keeps_what_it_holds() {
    for size in [2, 4, 128] {
        let region = region(1 << 16);
        let (mut producer, mut consumer) = ends(region, &spsc(region, size));
        let items: Vec<u32> = (0..=size).collect();
        let enqueued = producer.enqueue_burst(&items);
        assert_eq!((enqueued.count, enqueued.free), (size as usize, 0));
        assert_eq!(producer.enqueue_burst(&[99]).count, 0);
        assert!(producer.enqueue(99).is_err());
        let mut out = vec![0; size as usize + 1];
        assert_eq!(consumer.dequeue_burst(&mut out).count, size as usize);
        assert_eq!(out[..size as usize], items[..size as usize]);
        assert_eq!(consumer.dequeue_burst(&mut out).count, 0);
        assert_eq!(consumer.dequeue(), None);
    }
}

#[test]
fn bulk_moves_all_or_none() {
    let region = region(1 << 16);
    let (mut producer, mut consumer) = ends(region, &spsc(region, 4));
    let mut out = [0; 4];
    assert_eq!(consumer.dequeue_bulk(&mut out[..1]).unwrap().count, 0);
    assert_eq!(producer.enqueue_bulk(&[1, 2, 3]).unwrap().count, 3);
    assert_eq!(producer.enqueue_bulk(&[4, 5]).unwrap().count, 0);
    assert_eq!(producer.enqueue_bulk(&[1, 2, 3, 4, 5]).unwrap().count, 0);
    let dequeued = consumer.dequeue_bulk(&mut out).unwrap();
    assert_eq!((dequeued.count, dequeued.left), (0, 3));
    let dequeued = consumer.dequeue_bulk(&mut out[..2]).unwrap();
    assert_eq!((dequeued.count, dequeued.left), (2, 1));
    assert_eq!(producer.enqueue_bulk(&[4, 5]).unwrap().count, 2);
    assert_eq!(consumer.dequeue_bulk(&mut out[..3]).unwrap().count, 3);
    assert_eq!(out[..3], [3, 4, 5]);
    assert_eq!(producer.enqueue_bulk(&[]).unwrap().count, 0);
    assert_eq!(consumer.dequeue_bulk(&mut []).unwrap().count, 0);
}

#[test]
fn what_is_free_and_left_is_told() {
    let region = region(1 << 16);
    let (mut producer, mut consumer) = ends(region, &spsc(region, 8));
    assert_eq!(producer.enqueue_burst(&[1, 2, 3]).free, 5);
    assert_eq!(producer.free(), 5);
    let mut out = [0; 2];
    assert_eq!(consumer.dequeue_burst(&mut out).left, 1);
    assert_eq!((consumer.len(), producer.free()), (1, 7));
}

#[test]
fn peeked_items_stay_until_they_are_released() {
    let region = region(1 << 16);
    let ring = spsc(region, 8);
    let (mut producer, mut consumer) = ends(region, &ring);
    assert_eq!(producer.enqueue_burst(&[1, 2, 3, 4, 5]).count, 5);
    let mut out = [0; 3];
    assert_eq!((consumer.peek_burst(&mut out), out), (3, [1, 2, 3]));
    assert_eq!(
        (ring.len(), consumer.peek_burst(&mut out), out),
        (5, 3, [1, 2, 3])
    );
    consumer.release(2);
    assert_eq!(
        (ring.len(), consumer.peek_burst(&mut out), out),
        (3, 3, [3, 4, 5])
    );
    consumer.release(1);
    // One of the three is gone, so two are left to release, however many are named.
    consumer.release(usize::MAX);
    consumer.release(1);
    assert_eq!((ring.len(), consumer.peek_burst(&mut out)), (0, 0));
    assert_eq!(producer.enqueue_burst(&[6]).count, 1);
    consumer.release(1);
    assert_eq!(consumer.dequeue(), Some(6));
}

#[test]
fn fan_in_peek_comes_again_until_it_is_released() {
    let region = region(1 << 16);
    let (ring, slots) = (fan_in(region, 2, 8, 16), slots(region, 2));
    let mut consumer = ring.consumer(slots[0].owner()).unwrap();
    let mut lanes = slots
        .iter()
        .map(|slot| ring.producer(slot.owner()).unwrap())
        .collect::<Vec<_>>();
    assert_eq!(lanes[0].enqueue_burst(&[1, 2, 3]).count, 3);
    assert_eq!(lanes[1].enqueue_burst(&[11]).count, 1);
    let mut out = [0; 2];
    assert_eq!((consumer.peek_burst(&mut out), out), (2, [1, 2]));
    assert_eq!((consumer.peek_burst(&mut out), out), (2, [1, 2]));
    consumer.release(2);
    assert_eq!((consumer.peek_burst(&mut out), out[0]), (1, 11));
    consumer.release(9);
    assert_eq!((consumer.peek_burst(&mut out), out[0]), (1, 3));
    consumer.release(1);
    assert_eq!((consumer.peek_burst(&mut out), consumer.len()), (0, 0));
}

#[test]
fn busy_lane_does_not_starve_the_others() {
    let region = region(1 << 18);
    let (ring, slots) = (fan_in(region, 4, 64, 1024), slots(region, 4));
    let mut consumer = ring.consumer(slots[0].owner()).unwrap();
    let mut lanes = slots
        .iter()
        .map(|slot| ring.producer(slot.owner()).unwrap())
        .collect::<Vec<_>>();
    let mut out = [0; 4];
    let mut waits = Vec::new();
    for quiet in [1, 2, 3, 1, 3, 2] {
        assert!(lanes[quiet].enqueue(7).is_ok());
        for wait in 0.. {
            let _ = lanes[0].enqueue_burst(&[0; 64]);
            let count = consumer.peek_burst(&mut out);
            consumer.release(count);
            if out[..count].contains(&7) {
                waits.push(wait);
                break;
            }
        }
    }
    // One lane is busy, so the wait is at most as many bursts as there are rounds between looks.
    assert!(
        waits
            .iter()
            .all(|wait| *wait <= crate::fanin::ROUNDS_A_LOOK),
        "{waits:?}"
    );
}

#[test]
fn fan_in_burst_is_filled_from_several_lanes() {
    let region = region(1 << 18);
    let (ring, slots) = (fan_in(region, 4, 8, 32), slots(region, 4));
    let mut consumer = ring.consumer(slots[0].owner()).unwrap();
    let mut out = [0; 8];
    assert_eq!(consumer.dequeue_bulk(&mut out[..1]).unwrap().count, 0);
    for (number, slot) in (0..).zip(&slots) {
        let mut lane = ring.producer(slot.owner()).unwrap();
        assert_eq!(lane.enqueue_burst(&[number * 10, number * 10 + 1]).count, 2);
    }
    assert_eq!((ring.len(), consumer.len()), (8, 8));
    let dequeued = consumer.dequeue_bulk(&mut out).unwrap();
    assert_eq!((dequeued.count, dequeued.left), (8, 0));
    assert_eq!(out, [0, 1, 10, 11, 20, 21, 30, 31]);
}

#[test]
fn limit_holds_to_the_item_when_producers_take_turns() {
    let region = region(1 << 18);
    let (ring, slots) = (fan_in(region, 3, 64, 100), slots(region, 3));
    let mut consumer = ring.consumer(slots[0].owner()).unwrap();
    let mut lanes = slots
        .iter()
        .map(|slot| ring.producer(slot.owner()).unwrap())
        .collect::<Vec<_>>();
    // Each asks for what exceeds any credit, so each looks.
    assert_eq!(lanes[0].enqueue_burst(&[0; 64]).count, 64);
    assert_eq!(lanes[1].enqueue_bulk(&[0; 64]).unwrap().count, 0);
    assert_eq!(lanes[1].enqueue_burst(&[0; 64]).count, 36);
    assert_eq!((lanes[2].free(), ring.len()), (0, 100));
    assert_eq!(lanes[2].enqueue_burst(&[0; 64]).count, 0);
    assert!(lanes[2].enqueue(0).is_err());
    assert_eq!(consumer.dequeue_burst(&mut [0; 10]).count, 10);
    assert_eq!(lanes[2].free(), 10);
    assert_eq!(lanes[2].enqueue_bulk(&[0; 10]).unwrap().count, 10);
    assert!(lanes[1].enqueue(0).is_err());
}

#[test]
fn limit_is_exceeded_by_no_more_than_the_credit_of_the_others() {
    const PRODUCERS: usize = 8;
    let sizes = [(64, 64), (1024, 16), (1024, 512), (256, 2000)];
    for (lane_size, limit) in sizes.into_iter().take(if cfg!(miri) { 1 } else { 4 }) {
        let region = region(1 << 20);
        let (ring, slots) = (
            fan_in(region, 8, lane_size, limit),
            slots(region, PRODUCERS),
        );
        let _consumer = ring.consumer(slots[0].owner()).unwrap();
        let mut lanes = slots
            .iter()
            .map(|slot| ring.producer(slot.owner()).unwrap())
            .collect::<Vec<_>>();
        // All take a credit while the ring is empty, by one item each, then use it up.
        for lane in &mut lanes {
            assert!(lane.enqueue(0).is_ok());
        }
        for lane in &mut lanes {
            while lane.enqueue(0).is_ok() {}
        }
        let credit = (limit / 8).max(crate::fanin::CREDIT_MIN);
        let most = limit as usize + (PRODUCERS - 1) * credit as usize;
        assert!(
            (limit as usize..=most).contains(&ring.len()),
            "{} of {limit}",
            ring.len()
        );
    }
}

#[test]
fn an_idle_neighbour_costs_no_room() {
    let region = region(1 << 18);
    let (ring, slots) = (
        Ring::create(region, "r", 128, None, Flags::SC_DEQ).unwrap(),
        slots(region, 2),
    );
    let mut consumer = ring.consumer(slots[0].owner()).unwrap();
    let mut lane = ring.producer(slots[1].owner()).unwrap();
    let mut out = [0; 128];
    for _ in 0..5 {
        assert_eq!(lane.enqueue_bulk(&[1; 128]).unwrap().count, 128);
        assert_eq!(lane.enqueue_burst(&[1]).count, 0);
        assert_eq!(consumer.dequeue_bulk(&mut out).unwrap().count, 128);
    }
}

#[test]
fn marks_tell_how_full_it_got() {
    let region = region(1 << 16);
    let ring = spsc(region, 16);
    let (mut producer, mut consumer) = ends(region, &ring);
    let mut out = [0; 16];
    assert_eq!(
        (ring.high_water(), ring.watermark(), ring.watermark_hits()),
        (0, None, 0)
    );
    consumer.set_watermark(Some(8));
    for fill in [3, 8, 5, 11, 2] {
        assert_eq!(producer.enqueue_bulk(&vec![0; fill]).unwrap().count, fill);
        assert_eq!(consumer.dequeue_burst(&mut out).count, fill);
        assert_eq!(consumer.dequeue_burst(&mut out).count, 0);
    }
    assert_eq!(
        (ring.high_water(), ring.watermark(), ring.watermark_hits()),
        (11, Some(8), 2)
    );
    assert!(producer.enqueue(1).is_ok());
    assert_eq!(consumer.dequeue(), Some(1));
    // Marks stay when the consumer changes.
    drop(consumer);
    let slots = slots(region, 1);
    let mut consumer = ring.consumer(slots[0].owner()).unwrap();
    assert_eq!(producer.enqueue_bulk(&[0; 12]).unwrap().count, 12);
    assert_eq!(consumer.dequeue(), Some(0));
    assert_eq!(
        (ring.high_water(), ring.watermark(), ring.watermark_hits()),
        (12, Some(8), 3)
    );
    consumer.set_watermark(None);
    assert_eq!(ring.watermark(), None);
}

#[test]
fn drops_are_counted_by_lane_and_outlive_the_producer() {
    let region = region(1 << 18);
    let (ring, slots) = (fan_in(region, 2, 8, 16), slots(region, 2));
    for _ in 0..2 {
        for slot in &slots {
            ring.producer(slot.owner())
                .unwrap()
                .count_drops(3 + slot.id().index());
        }
    }
    assert_eq!(ring.drops(), 14);
    assert_eq!(
        ring.producers()
            .map(|(_, _, drops)| drops)
            .collect::<Vec<_>>(),
        [6, 8]
    );
}
