//! Rings whose memory somebody scribbles over: never a panic, a loop without end, or a place
//! outside of the zone.

use super::*;
use crate::{Consumer, Producer};
use proptest::prelude::*;

#[test]
fn impossible_head_is_counted_and_makes_no_room() {
    let region = region(1 << 16);
    let (ring, slots) = (spsc(region, 8), slots(region, 2));
    let (words, mut producer) = (
        Words::of(region, &ring),
        ring.producer(slots[0].owner()).unwrap(),
    );
    let mut consumer = ring.consumer(slots[1].owner()).unwrap();
    assert_eq!(producer.enqueue_burst(&[1; 8]).count, 8);
    // Ahead of the tail, and behind what was seen.
    for (faults, head) in (1..).zip([9, 100, u32::MAX, 1 << 31]) {
        words.head(0).store(head, Ordering::Relaxed);
        assert_eq!(producer.enqueue_burst(&[2]).count, 0, "head {head}");
        assert_eq!(ring.faults(), faults);
    }
    words.head(0).store(0, Ordering::Relaxed);
    assert_eq!(consumer.dequeue(), Some(1));
    assert_eq!(producer.enqueue_burst(&[2, 3]).count, 1);
}

#[test]
fn impossible_tail_is_counted_and_brings_nothing() {
    let region = region(1 << 16);
    let (ring, slots) = (spsc(region, 8), slots(region, 2));
    let (words, mut producer) = (
        Words::of(region, &ring),
        ring.producer(slots[0].owner()).unwrap(),
    );
    let mut consumer = ring.consumer(slots[1].owner()).unwrap();
    assert_eq!(producer.enqueue_burst(&[1, 2, 3]).count, 3);
    let mut out = [0; 8];
    assert_eq!(consumer.peek_burst(&mut out), 3);
    for (faults, tail) in (1..).zip([9, 2, u32::MAX, 1 << 31]) {
        words.tail(0).store(tail, Ordering::Relaxed);
        // What was seen before is still good.
        assert_eq!(consumer.peek_burst(&mut out), 3, "tail {tail}");
        assert_eq!(ring.faults(), faults);
    }
    assert!(ring.len() <= 8);
    words.tail(0).store(4, Ordering::Relaxed);
    assert_eq!(consumer.peek_burst(&mut out), 4);
}

#[test]
fn ends_too_far_apart_are_not_handed_out() {
    let region = region(1 << 18);
    let (ring, slots) = (spsc(region, 8), slots(region, 1));
    Words::of(region, &ring).tail(0).store(9, Ordering::Relaxed);
    let owner = slots[0].owner();
    for refused in [
        ring.producer(owner).map(|_| ()),
        ring.consumer(owner).map(|_| ()),
    ] {
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("damaged: head 0 and tail 9 are too far apart; stop"),
            "{refused}"
        );
    }
    assert_eq!(
        (ring.consumer_owner(), ring.is_open()),
        (Owner::NONE, false)
    );
}

#[test]
fn damaged_lane_stops_no_other() {
    let region = region(1 << 18);
    let (ring, slots) = (fan_in(region, 3, 8, 8), slots(region, 3));
    Words::of(region, &ring)
        .tail(1)
        .store(1000, Ordering::Relaxed);
    let mut consumer = ring.consumer(slots[0].owner()).unwrap();
    assert!(ring.producer(slots[1].owner()).is_err());
    let mut out = [0; 8];
    for turn in 1..if cfg!(miri) { 5 } else { 50 } {
        let mut lane = ring.producer(slots[2].owner()).unwrap();
        assert_eq!(lane.enqueue_burst(&[turn; 8]).count, 8);
        assert_eq!(consumer.dequeue_burst(&mut out).count, 8);
        assert_eq!(out, [turn; 8]);
        assert_eq!(consumer.dequeue_burst(&mut out).count, 0);
    }
    assert!(ring.faults() > 0);
}

/// Bytes to change: where, counted from the start or from anywhere, and to what.
fn scribbles() -> impl Strategy<Value = Vec<(usize, u8)>> {
    let at = prop_oneof![0..48_usize, 0..1024_usize, any::<usize>()];
    let value = prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(1), Just(0x80)];
    prop::collection::vec((at, value), 1..24)
}

fn scribble(words: &Words<'_>, scribbles: &[(usize, u8)]) {
    let bytes = words.bytes();
    for (at, value) in scribbles {
        bytes[at % bytes.len()].store(*value, Ordering::Relaxed);
    }
}

/// Looks a ring up and does everything to it once.
fn use_all(region: &Region, owners: [Owner; 2]) {
    for ring in Ring::all(region).chain(Ring::lookup(region, "ring")) {
        let mut producer = ring.producer(owners[0]);
        let mut consumer = ring.consumer(owners[1]);
        exercise(producer.as_mut().ok(), consumer.as_mut().ok());
        tell(&ring);
    }
}

fn exercise(producer: Option<&mut Producer<'_>>, consumer: Option<&mut Consumer<'_>>) {
    if let Some(producer) = producer {
        let _ = producer.enqueue(1);
        assert!(producer.enqueue_burst(&[2; 40]).count <= 40);
        let bulk = producer.enqueue_bulk(&[3; 3]);
        assert!(bulk.is_ok_and(|done| [0, 3].contains(&done.count)) || bulk.is_err());
        producer.count_drops(1);
        let _ = producer.free();
    }
    if let Some(consumer) = consumer {
        let mut out = [0; 40];
        assert!(consumer.peek_burst(&mut out) <= 40);
        consumer.release(1);
        let _ = (consumer.dequeue(), consumer.lane_producer(), consumer.len());
        assert!(consumer.dequeue_burst(&mut out).count <= 40);
        let bulk = consumer.dequeue_bulk(&mut out[..5]);
        assert!(bulk.is_ok_and(|done| [0, 5].contains(&done.count)) || bulk.is_err());
        consumer.set_watermark(Some(1));
    }
}

fn tell(ring: &Ring<'_>) {
    assert!(ring.len() <= ring.size().max(128) as usize * ring.lanes() as usize);
    ring.left_claims(|_| true).for_each(crate::LeftClaim::close);
    ring.forget_dead_consumers();
    let _ = (
        ring.high_water(),
        ring.watermark(),
        ring.watermark_hits(),
        ring.drops(),
        ring.faults(),
    );
    let _ = (
        ring.is_open(),
        ring.consumer_owner(),
        ring.producers().count(),
    );
}

/// One of each kind.
fn any_ring(region: &Region, kind: i32) -> Ring<'_> {
    match kind {
        0 => spsc(region, 16),
        1 => fan_in(region, 3, 8, 16),
        _ => Ring::create(region, "ring", 16, None, Flags::NONE).unwrap(),
    }
}

fn cases() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(3000)
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    #[cfg_attr(miri, ignore = "bytes are changed under words: Miri knows atomics of one size only")]
    fn ring_with_changed_bytes_is_refused_or_works_within_bounds(kind in 0..3, changes in scribbles()) {
        let region = Region::anonymous(1 << 15).unwrap();
        let ring = any_ring(&region, kind);
        let owners = [dead(1), dead(2)];
        let words = Words::of(&region, &ring);
        use_all(&region, owners);
        for change in changes.chunks(4) {
            scribble(&words, change);
            use_all(&region, owners);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "bytes are changed under words: Miri knows atomics of one size only")]
    fn ends_survive_bytes_that_change_under_them(kind in 0..3, changes in scribbles()) {
        let region = Region::anonymous(1 << 15).unwrap();
        let ring = any_ring(&region, kind);
        let words = Words::of(&region, &ring);
        let mut producer = ring.producer(dead(1)).unwrap();
        let mut consumer = ring.consumer(dead(2)).unwrap();
        for change in changes.chunks(2) {
            scribble(&words, change);
            exercise(Some(&mut producer), Some(&mut consumer));
            tell(&ring);
        }
    }
}
