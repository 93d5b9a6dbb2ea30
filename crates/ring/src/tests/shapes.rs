//! Which rings there can be, and how they are found.

use super::*;
use crate::{Error, LAYOUT, RING_SIZE_MAX};

fn message(result: Result<Ring<'_>, Error>) -> String {
    result.map(|ring| ring.name()).unwrap_err().to_string()
}

#[test]
fn sizes_that_are_no_power_of_two_are_refused_with_one_that_is() {
    let region = region(1 << 16);
    for (size, nearest) in [
        (0, 2),
        (1, 2),
        (3, 4),
        (100, 128),
        (1 << 25, 1 << 24),
        (u32::MAX, 1 << 24),
    ] {
        let refused = message(Ring::create(region, "r", size, None, SPSC));
        let expected = format!(
            "ring \"r\" cannot have {size} slots; \
             give a power of two from 2 to {RING_SIZE_MAX}, such as {nearest}, or EXACT_SZ for any size from 1 on"
        );
        assert_eq!(refused, expected);
    }
    assert_eq!(Ring::all(region).count(), 0);
}

#[test]
fn lanes_and_limits_that_cannot_be_are_refused() {
    let region = region(1 << 16);
    let create = |lanes, limit| {
        let config = FanInConfig {
            lanes,
            lane_size: 8,
            limit,
        };
        message(Ring::create_fan_in(region, "r", config, None))
    };
    for lanes in [0, 65, 255] {
        assert!(
            create(lanes, 8).contains(&format!("cannot have {lanes} lanes; give one for each"))
        );
    }
    assert!(create(2, 0).contains("cannot have a limit of 0; give the number"));
}

#[test]
fn names_too_long_or_taken_are_refused() {
    let region = region(1 << 16);
    let long = "x".repeat(48);
    assert!(message(Ring::create(region, &long, 8, None, SPSC)).contains("48 bytes long"));
    assert!(message(Ring::create(region, "", 8, None, SPSC)).contains("must not be empty"));
    let full_length = "x".repeat(47);
    Ring::create(region, &full_length, 8, None, SPSC).unwrap();
    let taken = message(Ring::create(region, &full_length, 8, None, SPSC));
    assert!(taken.contains("there already"), "{taken}");
}

#[test]
fn a_ring_that_does_not_fit_says_what_to_raise() {
    let region = region(1 << 16);
    let refused = message(Ring::create(region, "r", RING_SIZE_MAX, None, SPSC));
    assert!(refused.contains("-m "), "{refused}");
    let config = FanInConfig {
        lanes: 64,
        lane_size: RING_SIZE_MAX,
        limit: 1,
    };
    let refused = message(Ring::create_fan_in(region, "r", config, None));
    assert!(refused.contains("-m "), "{refused}");
}

#[test]
fn lookup_finds_the_same_ring_and_no_other() {
    let region = region(1 << 20);
    let slots = slots(region, 2);
    let made = Ring::create(region, "a", 8, None, SPSC).unwrap();
    Ring::create(region, "b", 8, None, Flags::SC_DEQ).unwrap();
    let found = Ring::lookup(region, "a").unwrap();
    let mut consumer = made.consumer(slots[0].owner()).unwrap();
    found
        .producer(slots[1].owner())
        .unwrap()
        .enqueue(7)
        .unwrap();
    assert_eq!(consumer.dequeue(), Some(7));
    assert!(message(Ring::lookup(region, "c")).contains("\"c\""));
    let all: Vec<_> = Ring::all(region)
        .map(|ring| (ring.name().to_string(), ring.flags(), ring.lanes()))
        .collect();
    assert_eq!(
        all,
        [
            ("a".to_owned(), SPSC, 1),
            ("b".to_owned(), Flags::SC_DEQ, 64)
        ]
    );
}

#[test]
fn create_or_lookup_refuses_a_ring_of_another_shape() {
    let region = region(1 << 20);
    let make = |size, flags| Ring::create_or_lookup(region, "r", size, None, flags);
    assert_eq!(make(8, SPSC).unwrap().size(), 8);
    assert_eq!(make(8, SPSC).unwrap().size(), 8);
    assert_eq!(
        message(make(16, SPSC)),
        "ring \"r\" exists with 8 slots, flags SP_ENQ|SC_DEQ, and 16 slots, flags SP_ENQ|SC_DEQ \
         was asked for; ask for the same, or take another name"
    );
    assert!(message(make(8, Flags::SC_DEQ)).contains("64 lanes, limit 8 was asked for"));
}

#[test]
fn unfinished_ring_is_refused_and_finished_by_the_next_primary() {
    let region = region(1 << 16);
    let len = Shape::new("", SPSC, 8, 1, 8).unwrap().places().len;
    region.reserve(ZoneKind::Ring, "r", len, 128, None).unwrap();
    let refused = message(Ring::lookup(region, "r"));
    assert!(refused.contains("not finished") && refused.contains("start the primary again"));
    assert_eq!(Ring::all(region).count(), 0);
    let larger = message(Ring::create(region, "r", 1 << 10, None, SPSC));
    assert!(larger.contains("do not fit"), "{larger}");
    Ring::create_or_lookup(region, "r", 8, None, SPSC).unwrap();
    assert_eq!(Ring::lookup(region, "r").unwrap().size(), 8);
}

#[test]
fn ring_of_another_layout_is_refused() {
    let region = region(1 << 16);
    let words = Words::of(region, &spsc(region, 8));
    words.header(0).store(LAYOUT ^ 1, Ordering::Relaxed);
    let refused = message(Ring::lookup(region, "ring"));
    assert!(
        refused.contains(&format!("{:#018x}", LAYOUT ^ 1)),
        "{refused}"
    );
    assert!(refused.contains("from one release"), "{refused}");
}

#[test]
fn headers_that_describe_no_ring_are_refused() {
    let region = region(1 << 16);
    let words = Words::of(region, &fan_in(region, 2, 8, 16));
    let values = [
        0,
        1,
        3,
        5,
        63,
        65,
        1 << 20,
        1 << 24,
        1 << 25,
        u64::from(u32::MAX),
        1 << 32 | 8,
        u64::MAX,
    ];
    for (word, good) in [
        (1, vec![2]),
        (2, vec![2, 4, 8]),
        (3, vec![1, 2]),
        (4, vec![]),
    ] {
        let before = words.header(word).load(Ordering::Relaxed);
        for value in values {
            words.header(word).store(value, Ordering::Relaxed);
            if let Ok(ring) = Ring::lookup(region, "ring") {
                // Whatever was believed must lie in the zone and be of that shape.
                let shape = Words::of(region, &ring).shape;
                assert!(
                    shape.places().len <= words.zone.len(),
                    "word {word} = {value}"
                );
                assert!(
                    word == 4 || good.contains(&value) || value == 1 && word == 3,
                    "word {word} = {value}"
                );
            }
        }
        words.header(word).store(before, Ordering::Relaxed);
    }
    Ring::lookup(region, "ring").unwrap();
}

#[test]
fn parts_of_a_ring_lie_apart_and_in_order() {
    for (flags, size, lanes) in [
        (SPSC, 2, 1),
        (SPSC, 1024, 1),
        (Flags::SC_DEQ, 2, 64),
        (Flags::SC_DEQ, 128, 17),
    ] {
        let shape = Shape::new("", flags, size, lanes, size).unwrap();
        let (places, lanes) = (shape.places(), lanes as usize);
        assert!(places.producers + lanes * 8 <= places.tails);
        assert!(places.tails + lanes * 4 <= places.heads);
        assert!(places.heads + lanes * 64 <= places.counters);
        assert!(places.counters + lanes * 64 <= places.slots);
        assert!(places.lane_stride >= (size as usize * 4).max(64));
        assert_eq!(
            places.len,
            (places.slots + lanes * places.lane_stride).next_multiple_of(128)
        );
    }
}
