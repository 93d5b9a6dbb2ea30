//! Who may have an end, and what becomes of it.

use super::*;
use crate::Error;

#[test]
fn an_end_held_by_the_living_is_refused_and_names_them() {
    let region = region(1 << 16);
    let (ring, slots) = (spsc(region, 8), slots(region, 2));
    let _producer = ring.producer(slots[0].owner()).unwrap();
    let _consumer = ring.consumer(slots[1].owner()).unwrap();
    let pid = std::process::id();
    let refused = ring.producer(slots[1].owner()).unwrap_err().to_string();
    assert!(
        refused.starts_with(&format!(
            "the producer of ring \"ring\" is held by slot 0 (process {pid}); stop"
        )),
        "{refused}"
    );
    let refused = ring.consumer(slots[0].owner()).unwrap_err();
    assert!(matches!(refused, Error::Taken { end: "consumer", slot, .. } if slot == slots[1].id()));
    // Nor twice by one and the same.
    assert!(ring.producer(slots[0].owner()).is_err());
    assert!(
        ring.producer(Owner::NONE)
            .unwrap_err()
            .to_string()
            .contains("claim a slot first")
    );
}

#[test]
fn an_end_given_back_goes_on_where_it_stopped() {
    let region = region(1 << 16);
    let (ring, slots) = (spsc(region, 4), slots(region, 2));
    Words::of(region, &ring).start_at(u32::MAX - 2);
    let mut consumer = ring.consumer(slots[0].owner()).unwrap();
    let mut first = ring.producer(slots[0].owner()).unwrap();
    assert_eq!(first.enqueue_bulk(&[1, 2, 3]).unwrap().count, 3);
    drop(first);
    let mut second = ring.producer(slots[1].owner()).unwrap();
    assert_eq!(second.enqueue_bulk(&[11, 12]).unwrap().count, 0);
    assert_eq!(second.enqueue_burst(&[11, 12]).count, 1);
    let mut out = [0; 4];
    assert_eq!(consumer.dequeue_burst(&mut out[..1]).count, 1);
    drop(consumer);
    let mut consumer = ring.consumer(slots[1].owner()).unwrap();
    assert_eq!(consumer.dequeue_burst(&mut out[1..]).count, 3);
    assert_eq!(out, [1, 2, 3, 11]);
}

#[test]
fn the_end_of_a_dead_owner_is_taken_with_what_it_left() {
    let region = region(1 << 16);
    let (ring, slots) = (spsc(region, 8), slots(region, 2));
    // Killed: their words stay, and they are not alive.
    let mut producer = ring.producer(dead(5)).unwrap();
    let mut consumer = ring.consumer(dead(6)).unwrap();
    assert_eq!(producer.enqueue_burst(&[1, 2, 3]).count, 3);
    let mut out = [0; 8];
    assert_eq!(consumer.peek_burst(&mut out), 3);
    consumer.release(1);
    std::mem::forget((producer, consumer));
    assert_eq!((ring.consumer_owner(), ring.is_open()), (dead(6), true));

    let mut producer = ring.producer(slots[0].owner()).unwrap();
    let mut consumer = ring.consumer(slots[1].owner()).unwrap();
    assert_eq!(producer.enqueue_burst(&[4]).count, 1);
    assert_eq!(consumer.dequeue_burst(&mut out).count, 3);
    assert_eq!(out[..3], [2, 3, 4]);
}

#[test]
fn an_owner_whose_end_was_taken_does_not_give_it_back() {
    let region = region(1 << 16);
    let (ring, slots) = (spsc(region, 8), slots(region, 1));
    let late = ring.consumer(dead(5)).unwrap();
    let consumer = ring.consumer(slots[0].owner()).unwrap();
    drop(late);
    assert_eq!(
        (ring.consumer_owner(), ring.is_open()),
        (slots[0].owner(), true)
    );
    drop(consumer);
    assert_eq!(
        (ring.consumer_owner(), ring.is_open()),
        (Owner::NONE, false)
    );
}

#[test]
fn closed_ring_takes_nothing_until_somebody_consumes() {
    let region = region(1 << 16);
    let (ring, slots) = (spsc(region, 8), slots(region, 2));
    let mut producer = ring.producer(slots[0].owner()).unwrap();
    assert!(producer.is_closed());
    assert_eq!(producer.enqueue_burst(&[1]).count, 0);
    assert_eq!(producer.enqueue_bulk(&[1]).unwrap().count, 0);
    assert!(producer.enqueue(1).is_err());
    assert_eq!(producer.free(), 0);
    let consumer = ring.consumer(slots[1].owner()).unwrap();
    assert_eq!(producer.free(), 8);
    assert_eq!(producer.enqueue_burst(&[1]).count, 1);
    drop(consumer);
    assert!(producer.is_closed() && !ring.is_open());
    assert_eq!(producer.enqueue_burst(&[2]).count, 0);
}

#[test]
fn draining_leaves_the_ring_closed() {
    let region = region(1 << 16);
    let (ring, slots) = (spsc(region, 8), slots(region, 2));
    let mut producer = ring.producer(slots[0].owner()).unwrap();
    std::mem::forget(ring.consumer(dead(9)).unwrap());
    assert_eq!(producer.enqueue_burst(&[1, 2]).count, 2);
    let mut drain = ring.drain(slots[1].owner()).unwrap();
    assert!(producer.is_closed() && !ring.is_open());
    assert_eq!(ring.consumer_owner(), slots[1].owner());
    assert_eq!(producer.enqueue_burst(&[3]).count, 0);
    assert_eq!(
        (drain.dequeue(), drain.dequeue(), drain.dequeue()),
        (Some(1), Some(2), None)
    );
    drop(drain);
    assert_eq!(ring.consumer_owner(), Owner::NONE);
}

#[test]
fn each_slot_has_its_own_lane() {
    let region = region(1 << 18);
    let (ring, slots) = (fan_in(region, 2, 8, 16), slots(region, 3));
    let mut consumer = ring.consumer(slots[0].owner()).unwrap();
    let mut lanes = slots[..2]
        .iter()
        .map(|slot| ring.producer(slot.owner()).unwrap())
        .collect::<Vec<_>>();
    let refused = ring.producer(slots[2].owner()).unwrap_err().to_string();
    assert!(
        refused.contains("lanes for slots 0 to 1, and this is slot 2; create"),
        "{refused}"
    );
    assert!(lanes[1].enqueue(5).is_ok());
    assert_eq!(
        ring.producers().collect::<Vec<_>>(),
        [(slots[0].id(), 0, 0), (slots[1].id(), 1, 0)]
    );
    assert_eq!(consumer.peek_burst(&mut [0; 4]), 1);
    assert_eq!(consumer.lane_producer(), slots[1].owner());
    lanes.pop();
    // Its item is there still, and so is its line.
    assert_eq!(consumer.lane_producer(), Owner::NONE);
    assert_eq!(ring.producers().last(), Some((slots[1].id(), 1, 0)));
    assert_eq!(consumer.dequeue(), Some(5));
    assert_eq!(ring.producers().last(), Some((slots[0].id(), 0, 0)));
}

#[test]
fn a_word_that_names_nobody_real_is_as_good_as_nobody() {
    let region = region(1 << 16);
    let (ring, slots) = (spsc(region, 8), slots(region, 1));
    for word in [u64::MAX, 0xff, 0x100, 1 << 32, 1 << 63] {
        Words::of(region, &ring)
            .consumer()
            .store(word, Ordering::Relaxed);
        drop(ring.consumer(slots[0].owner()).unwrap());
    }
}

#[test]
fn newcomer_waits_for_who_only_drains_and_finds_the_ring_closed_meanwhile() {
    let region = region(1 << 16);
    let (ring, slots) = (spsc(region, 8), slots(region, 3));
    let dead = ring.consumer(dead(5)).unwrap();
    std::mem::forget(dead);
    let mut producer = ring.producer(slots[0].owner()).unwrap();
    assert_eq!(producer.enqueue_burst(&[1, 2]).count, 2);
    let drain = ring.drain(slots[1].owner()).unwrap();
    assert!(producer.is_closed() && !ring.is_open());
    let (ring, newcomer) = (&ring, slots[2].owner());
    std::thread::scope(|scope| {
        let waits = scope.spawn(move || ring.consumer(newcomer).map(|end| end.owner()));
        // Held for longer than a look takes, so that the newcomer meets it as a rule.
        std::thread::sleep(std::time::Duration::from_millis(20));
        drop(drain);
        assert_eq!(waits.join().unwrap().unwrap(), newcomer);
    });
    // Who drains does not wait for another: it comes again.
    let drain = ring.drain(slots[1].owner()).unwrap();
    assert!(matches!(
        ring.drain(slots[2].owner()),
        Err(Error::Taken { .. })
    ));
    drop(drain);
    assert!(!ring.is_open());
}

#[test]
fn walk_shows_what_waits_in_all_lanes() {
    let region = region(1 << 20);
    let slots = slots(region, 3);
    let config = crate::FanInConfig {
        lanes: 3,
        lane_size: 4,
        limit: 12,
    };
    let ring = Ring::create_fan_in(region, "fan", config, None).unwrap();
    let mut consumer = ring.consumer(slots[0].owner()).unwrap();
    let shown = || {
        let mut shown = Vec::new();
        ring.walk(|item| shown.push(item));
        shown.sort_unstable();
        shown
    };
    assert!(shown().is_empty() && !ring.carries_mbufs());
    for (slot, items) in slots.iter().zip([[1, 2], [3, 4], [5, 6]]) {
        let mut producer = ring.producer(slot.owner()).unwrap();
        assert_eq!(producer.enqueue_bulk(&items).unwrap().count, 2);
        producer.set_carries_mbufs();
    }
    assert_eq!(shown(), [1, 2, 3, 4, 5, 6]);
    let mut out = [0; 2];
    assert_eq!(consumer.dequeue_burst(&mut out).count, 2);
    let left: Vec<u32> = (1..=6).filter(|item| !out.contains(item)).collect();
    assert_eq!(shown(), left);
    assert!(ring.carries_mbufs());
}
