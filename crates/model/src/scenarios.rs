//! What is run: each operation, killed anywhere; then deaths that meet.
//!
//! Processes are called A to C where they are secondaries and R where they are the primary that sweeps; R2 is the primary after
//! it. A victim dies anywhere, the others go on meanwhile.

mod buffers;
mod deaths;
mod device;
mod making;
mod many;
mod rings;
mod sleep;

use eal::Region;
use mbuf::{Pool, PoolConfig};
use ring::{FanInConfig, Flags, Ring};

use crate::explore::{Cast, Scenario, Start};
use crate::script::{POOL, Script};
use crate::words::Words;
use crate::world::PRIMARIES;

/// All scenarios, the small ones first.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = buffers::scenarios();
    all.extend(rings::scenarios());
    all.extend(many::scenarios());
    all.extend(sleep::scenarios());
    all.extend(device::scenarios());
    all.extend(deaths::scenarios());
    all.extend(making::scenarios());
    all
}

/// A pool of so many mbufs.
fn make_pool(region: &'static Region, count: u32) {
    let config = PoolConfig {
        data_room: 192,
        ..PoolConfig::new(POOL, count)
    };
    Pool::create(region, &config).expect("there is room for it");
}

/// A pool, and a ring of two called `ring`.
fn make_lane(region: &'static Region, count: u32) {
    make_pool(region, count);
    make_ring(region, "ring");
}

/// A ring of two.
fn make_ring(region: &'static Region, name: &str) {
    let flags = Flags::SP_ENQ | Flags::SC_DEQ;
    Ring::create(region, name, 2, None, flags).expect("there is room for it");
}

/// A pool, and a fan-in ring with lanes of two, called `ring`.
fn make_fan_in(region: &'static Region, count: u32) {
    make_pool(region, count);
    let config = FanInConfig {
        lanes: 4,
        lane_size: 2,
        limit: 4,
    };
    Ring::create_fan_in(region, "ring", config, None).expect("there is room for it");
}

/// A pool, and a ring of two for many to many, called `ring`.
fn make_mpmc(region: &'static Region, count: u32, size: u32) {
    make_pool(region, count);
    let flags = if size.is_power_of_two() {
        Flags::NONE
    } else {
        Flags::EXACT_SZ
    };
    Ring::create(region, "ring", size, None, flags).expect("there is room for it");
}

/// Nothing to say of words.
fn nothing(_region: &'static Region, _words: &mut Words) {}

/// A secondary that is there from the start.
const fn secondary(name: &'static str, number: usize, body: fn(&Script)) -> Cast {
    Cast {
        name,
        region: PRIMARIES + number,
        start: Start::First,
        killable: false,
        body,
    }
}

/// A secondary that may be killed.
const fn victim(name: &'static str, number: usize, body: fn(&Script)) -> Cast {
    Cast {
        killable: true,
        ..secondary(name, number, body)
    }
}

/// The primary that sweeps.
const R: Cast = Cast {
    name: "R",
    region: 0,
    start: Start::First,
    killable: false,
    body: sweeper,
};

/// The primary that sweeps, and may be killed over it.
const MORTAL_R: Cast = Cast {
    killable: true,
    ..R
};

/// The primary that comes when process `first` was killed.
const fn second_primary(first: usize) -> Cast {
    Cast {
        name: "R2",
        region: 1,
        start: Start::AfterDeathOf(first),
        ..R
    }
}

fn sweeper(script: &Script) {
    let lcore = script.join();
    script.ready();
    script.guard(&lcore);
}
