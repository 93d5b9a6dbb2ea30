//! Tests of pools and what is made of them. Each has a region of its own.

#[cfg(not(miri))]
mod bursts;
#[cfg(not(miri))]
mod chains;
#[cfg(not(miri))]
mod checksums;
#[cfg(not(miri))]
mod clones;
// The one for Miri, to which each further region and pool costs seconds.
mod frames;
#[cfg(not(miri))]
mod handoff;
#[cfg(not(miri))]
mod hostile;
#[cfg(not(miri))]
mod magazines;
#[cfg(not(miri))]
mod mbufs;
#[cfg(not(miri))]
mod model;
#[cfg(not(miri))]
mod opened;
#[cfg(not(miri))]
mod pools;
#[cfg(not(miri))]
mod sweep;
#[cfg(not(miri))]
mod threads;

use std::collections::BTreeMap;
use std::sync::Mutex;

use eal::holder::Holder;
use eal::{Owner, Region, Slot};
use ring::{Flags, Ring};

use crate::{Lcore, Mbuf, MbufConsumer, MbufIndex, MbufProducer, Pool, PoolConfig};

const SPSC: Flags = Flags::from_bits(3).expect("both flags");

/// Frames of tests: small, so that Miri has little to look after.
const ROOM: u16 = 256;

/// What rings and the tables of a region need besides pools.
const REST: usize = 1 << 18;

/// Regions of tests live until the process ends, and are kept here so that Miri knows it.
static REGIONS: Mutex<Vec<&'static Region>> = Mutex::new(Vec::new());

fn region(len: usize) -> &'static Region {
    let region: &'static Region = Box::leak(Box::new(Region::anonymous(len).unwrap()));
    REGIONS.lock().unwrap().push(region);
    region
}

fn config(name: &str, count: u32) -> PoolConfig<'_> {
    PoolConfig {
        data_room: ROOM,
        private_size: 16,
        ..PoolConfig::new(name, count)
    }
}

/// A length as a number of mbufs.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap()
}

/// A pool of `count` small mbufs in a region of its own.
fn pool(count: u32) -> Pool {
    let config = config("pool", count);
    Pool::create(region(Pool::len_for(&config).unwrap() + REST), &config).unwrap()
}

fn lcore(pool: Pool) -> Lcore {
    Lcore::new(Slot::claim(pool.region(), "test").unwrap())
}

fn ring<'c>(
    name: &str,
    size: u32,
    from: &'c Lcore,
    to: &'c Lcore,
) -> (MbufProducer<'static>, MbufConsumer<'static>) {
    let ring = Ring::create(from.region(), name, size, None, SPSC).unwrap();
    let consumer = MbufConsumer::new(ring.consumer(to.owner()).unwrap());
    (
        MbufProducer::new(ring.producer(from.owner()).unwrap()),
        consumer,
    )
}

/// Some bytes that tell where they belong.
fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from((seed * 31 + at * 7) % 251).unwrap())
        .collect()
}

/// All bytes of a packet in one piece.
fn bytes(mbuf: &Mbuf<'_>) -> Vec<u8> {
    mbuf.segments().flatten().copied().collect()
}

/// Every magazine entry of a pool, with how often it is listed.
fn listed(pool: Pool) -> BTreeMap<MbufIndex, usize> {
    let mut listed = BTreeMap::new();
    for index in pool
        .magazines()
        .iter()
        .flat_map(|magazine| magazine.entries())
    {
        *listed.entry(index).or_default() += 1;
    }
    listed
}

/// When all is at rest: every mbuf is listed once, tagged so, and no magazine is anybody's.
#[track_caller]
fn assert_at_rest(pool: Pool) {
    let listed = listed(pool);
    for number in 0..pool.count() {
        let index = MbufIndex::new(pool.id(), number);
        assert_eq!(listed.get(&index), Some(&1), "how often {index} is listed");
        assert_eq!(pool.holder(index), Some(Holder::POOL), "the tag of {index}");
    }
    assert_eq!(
        listed.len(),
        pool.count() as usize,
        "a foreign index is listed"
    );
    assert!(
        pool.magazines()
            .iter()
            .all(|magazine| magazine.owner() == Owner::NONE)
    );
    assert_eq!(pool.in_use(), 0);
}
