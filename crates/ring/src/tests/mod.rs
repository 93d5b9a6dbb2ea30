//! Tests of whole rings. Each wants a region, slots and sometimes the words themselves.

mod claims;
mod hostile;
mod model;
mod moving;
mod mpmc;
// Texts and look-ups through a thousand records: slow under Miri, and nothing for it to see.
#[cfg(not(miri))]
mod shapes;
mod threads;

use std::sync::Mutex;

use crate::layout::{CONSUMER_AT, Shape};
use crate::{FanInConfig, Flags, Ring};
use eal::sync::{AtomicU8, AtomicU32, AtomicU64, CacheLine, Ordering};
use eal::{Owner, Region, Slot, Zone, ZoneKind};

const SPSC: Flags = Flags::from_bits(3).expect("both flags");

/// Regions of tests live until the process ends, and are kept here so that Miri knows it.
static REGIONS: Mutex<Vec<&'static Region>> = Mutex::new(Vec::new());

fn region(len: usize) -> &'static Region {
    let region: &'static Region = Box::leak(Box::new(Region::anonymous(len).unwrap()));
    REGIONS.lock().unwrap().push(region);
    region
}

fn slots(region: &'static Region, count: usize) -> Vec<Slot> {
    (0..count)
        .map(|_| Slot::claim(region, "test").unwrap())
        .collect()
}

/// Somebody who is not alive: slot `number` in a generation that never was.
fn dead(number: u32) -> Owner {
    Owner::from_bits(0x00ab_cd00 | (number + 1))
}

fn spsc(region: &Region, size: u32) -> Ring<'_> {
    Ring::create(region, "ring", size, None, SPSC).unwrap()
}

fn fan_in(region: &Region, lanes: u8, lane_size: u32, limit: u32) -> Ring<'_> {
    let config = FanInConfig {
        lanes,
        lane_size,
        limit,
    };
    Ring::create_fan_in(region, "ring", config, None).unwrap()
}

/// The words of the ring's zone.
struct Words<'r> {
    zone: Zone<'r>,
    shape: Shape,
}

impl<'r> Words<'r> {
    fn of(region: &'r Region, ring: &Ring<'r>) -> Self {
        let zone = region.lookup(ZoneKind::Ring, ring.name().as_str()).unwrap();
        let shape = Shape::new("", ring.flags(), ring.size(), ring.lanes(), ring.limit()).unwrap();
        Self { zone, shape }
    }

    fn tail(&self, lane: usize) -> &'r AtomicU32 {
        &self
            .zone
            .slice(self.shape.places().tails, lane + 1)
            .unwrap()[lane]
    }

    fn head(&self, lane: usize) -> &'r AtomicU32 {
        let heads = self
            .zone
            .slice::<CacheLine<AtomicU32>>(self.shape.places().heads, lane + 1);
        &heads.unwrap()[lane].0
    }

    /// Lets every lane begin at `position`.
    fn start_at(&self, position: u32) {
        for lane in 0..self.shape.lanes as usize {
            self.tail(lane).store(position, Ordering::Relaxed);
            self.head(lane).store(position, Ordering::Relaxed);
        }
    }

    fn consumer(&self) -> &'r AtomicU64 {
        self.zone.get(CONSUMER_AT).unwrap()
    }

    fn header(&self, word: usize) -> &'r AtomicU64 {
        self.zone.get(word * 8).unwrap()
    }

    fn bytes(&self) -> &'r [AtomicU8] {
        self.zone.slice(0, self.zone.len()).unwrap()
    }
}
