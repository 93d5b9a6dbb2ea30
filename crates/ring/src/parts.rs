//! The words of a ring, as views into its zone.
//!
//! `layout.rs` says where they lie. This file only hands them out, by lane, by end, and by what they count.
//!
//! **If a process dies:** nothing is changed here.

use crate::claim::{Sleepers, is_open};
use crate::gauge::Marks;
use crate::layout::{
    COUNT_DROPS, COUNT_FAULTS, EACH_FAULTS, EACH_HIGH, EACH_RISES, Kind, MARK_FAULTS, MARK_HIGH,
    MARK_MBUFS, MARK_RISES, MARK_SLEEPERS, MARK_WATERMARK, MARKS_AT, Shape,
};
use crate::mpmc::Array;
use crate::slots::Slots;
use crate::spsc::Lane;
use crate::sync::{AtomicU32, AtomicU64, CacheLine, Ordering};
use eal::{Counter, Zone, ZoneError};

/// The words of a ring: views into its zone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'r> {
    shape: Shape,
    /// Of one consumer.
    marks: Marks<'r>,
    /// Impossible positions that the one consumer met.
    faults: &'r Counter,
    /// Not zero once mbufs were sent.
    pub(crate) mbufs: &'r AtomicU64,
    /// Which of many consumers sleep.
    pub(crate) sleepers: Sleepers<'r>,
    /// The claims of the producing ends, and of the consuming ends.
    pub(crate) producers: &'r [AtomicU64],
    pub(crate) consumers: &'r [AtomicU64],
    pub(crate) tails: &'r [AtomicU32],
    pub(crate) heads: &'r [CacheLine<AtomicU32>],
    counters: &'r [CacheLine<[Counter; 2]>],
    /// What each of many consumers counts.
    each: &'r [CacheLine<[Counter; 3]>],
    slots: &'r [AtomicU64],
    /// Words from the first slot of one lane to that of the next.
    stride: usize,
    array: Option<Array<'r>>,
}

/// What one consumer writes besides items.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own<'r> {
    pub(crate) marks: Marks<'r>,
    pub(crate) faults: &'r Counter,
}

impl<'r> Parts<'r> {
    /// The parts of a ring of that shape; an error if the zone is too small for it.
    pub(crate) fn view(zone: &Zone<'r>, shape: Shape) -> Result<Self, ZoneError> {
        let (places, lanes) = (shape.places(), shape.lanes as usize);
        let mark = |word| zone.get::<Counter>(MARKS_AT + word * size_of::<u64>());
        let stride = places.lane_stride / size_of::<u64>();
        let slots = zone.slice(places.slots, lanes.saturating_mul(stride))?;
        let (mut tails, mut heads, mut each): (&[AtomicU32], &[CacheLine<AtomicU32>], &[_]) =
            (&[], &[], &[]);
        let mut array = None;
        if shape.kind() == Kind::Mpmc {
            each = zone.slice(places.marks, shape.consumers())?;
            let slots = slots.get(..shape.array() as usize).unwrap_or_default();
            array = Array::new(
                zone.get(places.heads)?,
                zone.get(places.tails)?,
                slots,
                shape.size,
            );
        } else {
            tails = zone.slice(places.tails, lanes)?;
            heads = zone.slice(places.heads, lanes)?;
        }
        Ok(Self {
            shape,
            marks: Marks {
                high: mark(MARK_HIGH)?,
                watermark: zone.get(MARKS_AT + MARK_WATERMARK * size_of::<u64>())?,
                rises: mark(MARK_RISES)?,
            },
            faults: mark(MARK_FAULTS)?,
            mbufs: zone.get(MARKS_AT + MARK_MBUFS * size_of::<u64>())?,
            sleepers: Sleepers(zone.get(MARKS_AT + MARK_SLEEPERS * size_of::<u64>())?),
            producers: zone.slice(places.producers, shape.producers())?,
            consumers: zone.slice(places.consumers, shape.consumers())?,
            tails,
            heads,
            counters: zone.slice(places.counters, shape.producers())?,
            each,
            slots,
            stride,
            array,
        })
    }

    /// The array of a ring with many consumers.
    pub(crate) fn array(&self) -> Option<Array<'r>> {
        self.array
    }

    /// The lane of that number.
    pub(crate) fn lane(&self, number: usize) -> Option<Lane<'r>> {
        let words = self
            .slots
            .get(number.checked_mul(self.stride)?..)?
            .get(..self.shape.array() as usize / 2)?;
        Some(Lane {
            tail: self.tails.get(number)?,
            head: &self.heads.get(number)?.0,
            slots: Slots::new(words, self.shape.size)?,
        })
    }

    /// All lanes: none where there is one array.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = Lane<'r>> {
        let parts = *self;
        (0..parts.tails.len()).filter_map(move |number| parts.lane(number))
    }

    /// What a consumer writes besides items: of many, the one of that number.
    pub(crate) fn own(&self, number: usize) -> Own<'r> {
        let one = Own {
            marks: self.marks,
            faults: self.faults,
        };
        self.each.get(number).map_or(one, |each| Own {
            marks: Marks {
                high: &each.0[EACH_HIGH],
                watermark: self.marks.watermark,
                rises: &each.0[EACH_RISES],
            },
            faults: &each.0[EACH_FAULTS],
        })
    }

    /// What producer `number` counts: drops, and faults.
    pub(crate) fn counts(&self, number: usize) -> Option<(&'r Counter, &'r Counter)> {
        let [drops, faults] = &self.counters.get(number)?.0;
        Some((drops, faults))
    }

    /// Whether a consumer has the ring open.
    pub(crate) fn is_open(&self) -> bool {
        let mut words = self.consumers.iter();
        words.any(|word| is_open(word.load(Ordering::Relaxed)))
    }

    /// The most items that a consumer saw waiting.
    pub(crate) fn high_water(&self) -> u64 {
        let all = self.each.iter().map(|each| each.0[EACH_HIGH].get());
        all.fold(self.marks.high.get(), u64::max)
    }

    /// The fill that counts as high; 0 for none.
    pub(crate) fn watermark(&self) -> u64 {
        self.marks.watermark.load(Ordering::Relaxed)
    }

    /// How often a consumer saw the fill rise to it.
    pub(crate) fn rises(&self) -> u64 {
        let all = self.each.iter().map(|each| each.0[EACH_RISES].get());
        all.fold(self.marks.rises.get(), u64::wrapping_add)
    }

    /// Items that producers dropped.
    pub(crate) fn drops(&self) -> u64 {
        self.counted(COUNT_DROPS)
    }

    /// What all ends counted as faults.
    pub(crate) fn faults(&self) -> u64 {
        let all = self.each.iter().map(|each| each.0[EACH_FAULTS].get());
        let consumers = all.fold(self.faults.get(), u64::wrapping_add);
        self.counted(COUNT_FAULTS).wrapping_add(consumers)
    }

    fn counted(&self, word: usize) -> u64 {
        let counts = self.counters.iter().map(|line| line.0[word].get());
        counts.fold(0, u64::wrapping_add)
    }
}
