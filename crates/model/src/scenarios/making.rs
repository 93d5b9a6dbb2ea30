//! Zones, pools and rings, made by a primary that dies over it.

use eal::{Region, ZoneKind};
use mbuf::{Pool, PoolConfig};
use ring::{Flags, Ring};

use super::MORTAL_R;
use crate::explore::{Cast, Scenario, Start};
use crate::script::{POOL, Script};
use crate::words::{Class, Words};
use crate::world::PRIMARIES;

pub(super) fn scenarios() -> Vec<Scenario> {
    let scenario = |name, body| Scenario {
        name,
        setup: |_region| {},
        mark: everything,
        casts: vec![
            Cast { body, ..MORTAL_R },
            Cast {
                name: "B",
                region: PRIMARIES,
                start: Start::First,
                killable: false,
                body: look,
            },
            Cast {
                name: "R2",
                region: 1,
                start: Start::AfterDeathOf(0),
                killable: false,
                body,
            },
        ],
        preemptions: 1,
        deaths: 1,
    };
    vec![
        scenario("making a zone", make_zones),
        scenario("making a pool", make_pool),
        scenario("making a ring", make_ring),
    ]
}

/// All words are steps: those of zone records, and those that zones will have.
fn everything(region: &'static Region, words: &mut Words) {
    let data = region.data_words().len();
    let zones = eal::SLOTS_MAX * 64;
    words.set(zones, 4096, Class::Strong);
    words.used = words.used.max(zones + 4096);
    // The header is a page, the zone table follows.
    words.set(data + 1024, eal::region::ZONES_MAX * 32, Class::Strong);
}

fn make_zones(script: &Script) {
    script.ready();
    for name in ["one", "two"] {
        let made = script.region.reserve(ZoneKind::Plain, name, 256, 64, None);
        match made {
            Ok(_) | Err(eal::Error::NameTaken { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    check_records(script.region);
    let zones: Vec<_> = script
        .region
        .zones()
        .map(|zone| (zone.offset(), zone.len()))
        .collect();
    assert_eq!(zones.len(), 2, "{zones:?}");
    assert!(zones[0].0 + 256 <= zones[1].0, "{zones:?}");
}

fn make_pool(script: &Script) {
    script.ready();
    for (number, name) in [POOL, "other"].into_iter().enumerate() {
        let config = PoolConfig {
            data_room: 192,
            private_size: 64,
            ..PoolConfig::new(name, 3)
        };
        let made = Pool::create_or_lookup(script.region, &config);
        made.unwrap_or_else(|error| panic!("{error}"));
        // As others find it.
        let pool = Pool::lookup(script.region, name).unwrap_or_else(|error| panic!("{error}"));
        check_pool(pool, number);
        check_records(script.region);
    }
}

/// Every record that is announced describes a zone, and which one.
fn check_records(region: &Region) {
    assert_eq!(region.damaged_zone(), None);
    for zone in region.zones() {
        let name = zone.name();
        let kind = match name.as_str() {
            "one" | "two" => ZoneKind::Plain,
            POOL | "other" => ZoneKind::Pool,
            "ring" => ZoneKind::Ring,
            other => panic!("a zone named {other}"),
        };
        assert_eq!(zone.kind(), kind, "{name}");
    }
}

fn check_pool(pool: Pool, id: usize) {
    let sizes = (pool.count(), pool.data_room(), pool.private_size());
    assert_eq!((usize::from(pool.id()), sizes), (id, (3, 192, 64)));
    let magazines = pool.magazines().iter();
    let entries: Vec<u32> = magazines
        .flat_map(|magazine| magazine.entries())
        .map(|entry| entry.number())
        .collect();
    assert_eq!(entries, [0, 1, 2]);
}

fn make_ring(script: &Script) {
    script.ready();
    let flags = Flags::SP_ENQ | Flags::SC_DEQ;
    let ring = Ring::create_or_lookup(script.region, "ring", 2, None, flags);
    ring.unwrap_or_else(|error| panic!("{error}"));
    check_records(script.region);
    let ring = Ring::lookup(script.region, "ring").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        (ring.size(), ring.len(), ring.limit(), ring.lanes()),
        (2, 0, 2, 1)
    );
}

/// Looks twice at all that is there: it is whole, or not there yet.
fn look(script: &Script) {
    script.ready();
    for _ in 0..2 {
        check_records(script.region);
        for (number, name) in [POOL, "other"].into_iter().enumerate() {
            if let Ok(pool) = Pool::lookup(script.region, name) {
                check_pool(pool, number);
            }
        }
        if let Ok(ring) = Ring::lookup(script.region, "ring") {
            assert_eq!((ring.size(), ring.len()), (2, 0));
        }
    }
    script.rest();
}
