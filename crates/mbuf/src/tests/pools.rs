//! Making and finding pools.

use std::sync::Barrier;
use std::thread;

use eal::{ZoneKind, sync::AtomicU64, sync::Ordering};

use super::*;
use crate::shape::{DATA_ROOM_MAX, DATA_ROOM_MIN};
use crate::{Error, MAGAZINE_LEN, POOLS_MAX};

#[test]
fn fresh_pool_lists_every_mbuf_once() {
    for count in [1, 2, 63, 64, 65, 130] {
        assert_at_rest(pool(count));
    }
}

#[test]
fn pool_is_found_as_it_was_made() {
    let made = pool(10);
    let found = Pool::lookup(made.region(), "pool").unwrap();
    assert_eq!(
        (found.id(), found.count(), found.data_room()),
        (made.id(), 10, ROOM)
    );
    assert_eq!(found.private_size(), made.private_size());
    assert_eq!(Pool::all(made.region()).count(), 1);
    assert_eq!(found.name().as_str(), "pool");
    let error = Pool::lookup(made.region(), "lake").unwrap_err().to_string();
    assert!(error.contains("\"lake\""), "{error}");
}

#[test]
fn second_pool_has_another_id_and_the_same_name_is_refused() {
    let region = region(1 << 20);
    let one = Pool::create(region, &config("one", 4)).unwrap();
    let two = Pool::create(region, &config("two", 4)).unwrap();
    assert_ne!(one.id(), two.id());
    let error = Pool::create(region, &config("two", 4))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("two") && error.contains("there already"),
        "{error}"
    );
    assert_eq!(
        Pool::with_id(region, two.id()).unwrap().name().as_str(),
        "two"
    );
}

#[test]
fn create_or_lookup_makes_finds_and_compares() {
    let region = region(1 << 20);
    let made = Pool::create_or_lookup(region, &config("pool", 4)).unwrap();
    let found = Pool::create_or_lookup(region, &config("pool", 4)).unwrap();
    assert_eq!(made.id(), found.id());
    let error = Pool::create_or_lookup(region, &config("pool", 5)).unwrap_err();
    assert!(matches!(error, Error::Different { .. }), "{error}");
    assert!(error.to_string().contains("5 buffers"), "{error}");
}

#[test]
fn numbers_out_of_range_are_refused_by_name() {
    let region = region(1 << 20);
    let bad = [
        PoolConfig {
            count: 0,
            ..config("p", 1)
        },
        PoolConfig {
            count: crate::POOL_COUNT_MAX + 1,
            ..config("p", 1)
        },
        PoolConfig {
            data_room: DATA_ROOM_MIN - 64,
            ..config("p", 1)
        },
        PoolConfig {
            data_room: 300,
            ..config("p", 1)
        },
        PoolConfig {
            data_room: u16::MAX,
            ..config("p", 1)
        },
        PoolConfig {
            private_size: 65,
            ..config("p", 1)
        },
    ];
    for config in bad {
        let error = Pool::create(region, &config).unwrap_err().to_string();
        assert!(error.contains("\"p\"") && error.contains("give"), "{error}");
        assert!(Pool::len_for(&config).is_err());
    }
    let most = PoolConfig {
        data_room: DATA_ROOM_MAX,
        ..config("p", 2)
    };
    assert!(Pool::create(region, &most).is_ok());
}

#[test]
fn full_region_says_what_to_raise() {
    let error = Pool::create(region(1 << 16), &config("p", 10_000))
        .unwrap_err()
        .to_string();
    assert!(error.contains("-m "), "{error}");
}

#[test]
fn size_is_the_sum_of_its_terms() {
    let (count, private, room) = (1000_usize, 16, 256);
    // Header, hints, the magazines, tags, briefs, metas, private areas; to the page; frames.
    let magazines = count.div_ceil(MAGAZINE_LEN) + 2 * eal::SLOTS_MAX + 2;
    let hints = 4 * magazines;
    let tags = (count * 4).next_multiple_of(64);
    let head = (64 + hints).next_multiple_of(64)
        + magazines * 576
        + 2 * tags
        + count * 64
        + count * private;
    let expected = head.next_multiple_of(4096) + count * room;
    assert_eq!(Pool::len_for(&config("p", 1000)).unwrap(), expected);
}

#[test]
fn frames_lie_on_pages_and_keep_their_distance() {
    let config = PoolConfig::new("p", 3);
    let pool = Pool::create(region(1 << 20), &config).unwrap();
    let start = |number| {
        pool.frame(MbufIndex::new(pool.id(), number), 0, 0)
            .unwrap()
            .as_ptr()
            .addr()
    };
    assert_eq!(start(0) % 4096, 0);
    assert_eq!(start(2) - start(0), 4096);
    assert!(pool.frame(MbufIndex::new(pool.id(), 3), 0, 0).is_none());
    assert!(pool.frame(MbufIndex::new(pool.id(), 0), 2048, 1).is_none());
}

#[test]
fn pool_that_its_primary_did_not_fill_is_refused_and_filled_by_the_next() {
    let (config, len) = (config("p", 8), Pool::len_for(&config("p", 8)).unwrap());
    let region = region(len + REST);
    // Killed right after reserving.
    region
        .reserve(ZoneKind::Pool, "p", len, 4096, None)
        .unwrap();
    assert!(matches!(
        Pool::lookup(region, "p"),
        Err(Error::Unfinished { .. })
    ));
    assert_eq!(Pool::all(region).count(), 0);
    assert_at_rest(Pool::create_or_lookup(region, &config).unwrap());
}

#[test]
fn pool_of_another_release_is_refused() {
    let pool = pool(4);
    let zone = pool.region().lookup(ZoneKind::Pool, "pool").unwrap();
    zone.get::<AtomicU64>(0)
        .unwrap()
        .store(77, Ordering::Relaxed);
    let error = Pool::lookup(pool.region(), "pool").unwrap_err();
    assert!(matches!(error, Error::Layout { theirs: 77, .. }), "{error}");
    // Nor is another made beside it: its id is not known.
    let error = Pool::create(pool.region(), &config("beside", 4)).unwrap_err();
    assert!(matches!(error, Error::Layout { theirs: 77, .. }), "{error}");
    assert!(pool.region().lookup(ZoneKind::Pool, "beside").is_err());
}

#[test]
fn damaged_pool_keeps_its_id() {
    let region = region(1 << 20);
    let damaged = Pool::create(region, &config("damaged", 4)).unwrap();
    let zone = region.lookup(ZoneKind::Pool, "damaged").unwrap();
    // The id and, above it, the count.
    let word = zone.get::<AtomicU64>(8).unwrap();
    word.fetch_or(u64::from(u32::MAX) << 32, Ordering::Relaxed);
    assert!(Pool::lookup(region, "damaged").is_err());
    let next = Pool::create(region, &config("next", 4)).unwrap();
    assert_ne!(next.id(), damaged.id());
}

#[test]
fn last_id_is_given_and_no_more() {
    let one = config("pool 000", 1);
    let len = Pool::len_for(&one).unwrap().next_multiple_of(4096);
    let region = region((POOLS_MAX + 2) * len + REST);
    for number in 0..POOLS_MAX {
        let pool = Pool::create(region, &config(&format!("pool {number:03}"), 1)).unwrap();
        assert_eq!(usize::from(pool.id()), number);
    }
    let error = Pool::create(region, &config("late", 1)).unwrap_err();
    assert!(matches!(error, Error::TooManyPools { .. }), "{error}");
    let left = region.lookup(ZoneKind::Pool, "late");
    assert!(left.is_err(), "a zone without an id");
}

#[test]
fn threads_that_make_pools_at_once_get_one_of_each_name_with_its_own_id() {
    const NAMES: [&str; 2] = ["one", "two"];
    for _ in 0..50 {
        let len = Pool::len_for(&config("one", 400)).unwrap();
        let region = region(2 * (len + 4096) + REST);
        let start = Barrier::new(4);
        let made: Vec<Pool> = thread::scope(|s| {
            let make = |name| {
                start.wait();
                Pool::create_or_lookup(region, &config(name, 400)).unwrap()
            };
            let threads = [0, 1, 0, 1].map(|name| s.spawn(move || make(NAMES[name])));
            threads.map(|thread| thread.join().unwrap()).into()
        });
        assert_eq!((made[0].id(), made[1].id()), (made[2].id(), made[3].id()));
        assert_ne!(made[0].id(), made[1].id());
        made.into_iter().for_each(assert_at_rest);
    }
}

#[test]
fn of_threads_that_create_one_pool_one_succeeds() {
    for _ in 0..50 {
        let region = region(Pool::len_for(&config("p", 400)).unwrap() + REST);
        let start = Barrier::new(4);
        let made: usize = thread::scope(|s| {
            let create = || {
                start.wait();
                usize::from(Pool::create(region, &config("p", 400)).is_ok())
            };
            let threads = [(); 4].map(|()| s.spawn(create));
            threads.map(|thread| thread.join().unwrap()).iter().sum()
        });
        assert_eq!(made, 1);
        assert_at_rest(Pool::lookup(region, "p").unwrap());
    }
}
