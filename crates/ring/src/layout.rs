//! Where the words of a ring lie in its zone.
//!
//! ```text
//! 0       header      layout, flags, size, lanes, limit        written once
//! 64      end         the consumer's claim                     changes hands
//! 128     marks       high-water, watermark, rises, faults     the consumer
//! 160     content     whether the items are mbufs              any producer
//! 256     ends        the producers' claims, a word a lane     change hands
//!         tails       a word a lane, sixteen to a line         the producers
//!         heads       a line a lane                            the consumer
//!         counters    a line a lane: drops, faults             the producers
//!         slots       lane after lane, two items a word        the producers
//! ```
//!
//! A single-producer ring is a ring of one lane. A ring with many consumers has other parts from 64 on:
//!
//! ```text
//! 136     watermark   a word                                   any consumer
//! 160     content     whether the items are mbufs              any producer
//! 168     sleepers    who of the consumers sleeps, a bit each  each its own
//! 256     ends        the producers' claims, a word a slot of  change hands
//!                     the process table; one word with SP_ENQ
//!         consumers   the consumers' claims, a word a slot     change hands
//!         tail        a word                                   the producers
//!         head        a word                                   the consumers
//!         counters    a line a producer: drops, faults         the producers
//!         marks       a line a consumer: high-water, rises,    the consumers
//!                     faults
//!         slots       an item a word, in one array             all
//! ```
//!
//! Parts begin at multiples of 128 bytes, since processors fetch lines in pairs. An array of slots is a power of two, also where
//! the ring holds fewer.
//!
//! **If a process dies:** while it writes the header, the layout word is still zero, nobody
//! uses the ring, and the next primary that creates it starts over.

use crate::error::Error;
use crate::fanin::LANES_MAX;
use crate::flags::Flags;
use crate::mpmc;
use crate::sync::{AtomicU64, Ordering, acquire, release};
use eal::SLOTS_MAX;
use eal::layout::Hash;

/// Where parts begin: a multiple of a pair of cache lines.
pub(crate) const PART_ALIGN: usize = 128;

/// The largest ring, or lane: 2^24 items, as many as a pool has buffers.
pub const RING_SIZE_MAX: u32 = 1 << 24;

/// Words of the header.
pub(crate) const HEADER_WORDS: usize = 8;
const WORD_LAYOUT: usize = 0;
const WORD_FLAGS: usize = 1;
const WORD_SIZE: usize = 2;
const WORD_LANES: usize = 3;
const WORD_LIMIT: usize = 4;

/// Where the fixed parts begin.
pub(crate) const CONSUMER_AT: usize = 64;
pub(crate) const MARKS_AT: usize = 128;
const PRODUCERS_AT: usize = 256;

/// Words of the marks.
pub(crate) const MARK_HIGH: usize = 0;
pub(crate) const MARK_WATERMARK: usize = 1;
pub(crate) const MARK_RISES: usize = 2;
pub(crate) const MARK_FAULTS: usize = 3;
/// Behind them: not zero once mbufs were sent.
pub(crate) const MARK_MBUFS: usize = 4;
/// Behind that: which of many consumers sleep, a bit each.
pub(crate) const MARK_SLEEPERS: usize = 5;

/// Words of a consumer's marks, where there are many.
pub(crate) const EACH_HIGH: usize = 0;
pub(crate) const EACH_RISES: usize = 1;
pub(crate) const EACH_FAULTS: usize = 2;
/// Words of a lane's counters.
pub(crate) const COUNT_DROPS: usize = 0;
pub(crate) const COUNT_FAULTS: usize = 1;

/// Bytes of a cache line.
const LINE: usize = eal::sync::CACHE_LINE;

/// What this build thinks where each word of a ring lies. It stands in each ring's header.
pub const LAYOUT: u64 = Hash::new()
    .text("layout")
    .size(WORD_LAYOUT)
    .text("flags")
    .size(WORD_FLAGS)
    .text("size")
    .size(WORD_SIZE)
    .text("lanes")
    .size(WORD_LANES)
    .text("limit")
    .size(WORD_LIMIT)
    .text("consumer: owner, open at bit 32, passing at bit 33, sleeping at bit 34")
    .size(CONSUMER_AT)
    .text("marks: high, watermark, rises, faults, mbufs")
    .size(MARKS_AT)
    .size(MARK_HIGH)
    .size(MARK_WATERMARK)
    .size(MARK_RISES)
    .size(MARK_FAULTS)
    .size(MARK_MBUFS)
    .text("sleepers, of many consumers")
    .size(MARK_SLEEPERS)
    .text("producers: u64 each; tails: u32 each; heads, counters: a line each; slots: two in a u64, even one low")
    .size(PRODUCERS_AT)
    .text("counters: drops, faults")
    .size(COUNT_DROPS)
    .size(COUNT_FAULTS)
    .text("many consumers: producers, consumers: u64 each; tail, head: u64; counters, marks: a line each; slots: u64")
    .text("slot: item at bit 0, state at bit 32: empty, full, claimed; owner at bit 34, lap at bit 42")
    .text("marks of each: high, rises, faults")
    .size(EACH_HIGH)
    .size(EACH_RISES)
    .size(EACH_FAULTS)
    .size(mpmc::ARRAY_MIN as usize)
    .size(PART_ALIGN)
    .size(LINE)
    .size(LANES_MAX)
    .size(RING_SIZE_MAX as usize)
    .finish();

/// How many work on a ring, and so how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One lane.
    One,
    /// A lane for each producer.
    FanIn,
    /// One array for all.
    Mpmc,
}

/// What a ring is: checked, so that everything can be computed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) flags: Flags,
    /// Items a lane holds.
    pub(crate) size: u32,
    pub(crate) lanes: u32,
    /// Items that all lanes together shall hold.
    pub(crate) limit: u32,
}

/// Where the parts of a ring begin that depend on its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) producers: usize,
    pub(crate) consumers: usize,
    pub(crate) tails: usize,
    pub(crate) heads: usize,
    pub(crate) counters: usize,
    pub(crate) marks: usize,
    pub(crate) slots: usize,
    /// From the first slot of one lane to that of the next.
    pub(crate) lane_stride: usize,
    /// Bytes in all.
    pub(crate) len: usize,
}

impl Shape {
    /// Checks what a user asks for.
    pub(crate) fn new(
        name: &str,
        flags: Flags,
        size: u32,
        lanes: u32,
        limit: u32,
    ) -> Result<Self, Error> {
        let name = || name.to_owned();
        let is_power = size.is_power_of_two() && size >= 2;
        if !(is_power || flags.has(Flags::EXACT_SZ)) || !(1..=RING_SIZE_MAX).contains(&size) {
            let nearest = size.clamp(2, RING_SIZE_MAX).next_power_of_two();
            return Err(Error::Size {
                name: name(),
                size,
                nearest,
            });
        }
        let lanes_max = match Kind::of(flags) {
            Kind::FanIn => LANES_MAX,
            Kind::One | Kind::Mpmc => 1,
        };
        if !(1..=lanes_max).contains(&(lanes as usize)) {
            return Err(Error::Lanes {
                name: name(),
                lanes,
            });
        }
        if limit == 0 {
            return Err(Error::Limit { name: name() });
        }
        Ok(Self {
            flags,
            size,
            lanes,
            limit,
        })
    }

    /// How it works.
    pub(crate) fn kind(self) -> Kind {
        Kind::of(self.flags)
    }

    /// Slots of a lane, or of the array: a power of two.
    pub(crate) fn array(self) -> u32 {
        let least = match self.kind() {
            Kind::Mpmc => mpmc::ARRAY_MIN,
            Kind::One | Kind::FanIn => 2,
        };
        self.size.next_power_of_two().max(least)
    }

    /// Producing ends.
    pub(crate) fn producers(self) -> usize {
        match self.kind() {
            Kind::Mpmc if !self.flags.has(Flags::SP_ENQ) => SLOTS_MAX,
            _ => self.lanes as usize,
        }
    }

    /// Consuming ends.
    pub(crate) fn consumers(self) -> usize {
        match self.kind() {
            Kind::Mpmc => SLOTS_MAX,
            Kind::One | Kind::FanIn => 1,
        }
    }

    /// Where everything lies. No sum overflows: 64 lanes of 2^24 items are 4 GiB, and a
    /// platform whose `usize` cannot say that saturates and finds no such zone.
    pub(crate) fn places(self) -> Places {
        let (lanes, producers, consumers) =
            (self.lanes as usize, self.producers(), self.consumers());
        let is_mpmc = self.kind() == Kind::Mpmc;
        let behind = |start: usize, len: usize| {
            start
                .saturating_add(len)
                .checked_next_multiple_of(PART_ALIGN)
                .unwrap_or(usize::MAX)
        };
        let many = |len: usize| if is_mpmc { len } else { 0 };
        let after_ends = behind(PRODUCERS_AT, producers * size_of::<u64>());
        let tails = behind(after_ends, many(consumers * size_of::<u64>()));
        let word = if is_mpmc {
            size_of::<u64>()
        } else {
            size_of::<u32>()
        };
        let heads = behind(tails, lanes * word);
        let counters = behind(heads, lanes * LINE);
        let marks = behind(counters, producers * LINE);
        let slots = behind(marks, many(consumers * LINE));
        let lane_stride = (self.array() as usize).saturating_mul(word).max(LINE);
        let len = behind(slots, lanes.saturating_mul(lane_stride));
        Places {
            producers: PRODUCERS_AT,
            consumers: if is_mpmc { after_ends } else { CONSUMER_AT },
            tails,
            heads,
            counters,
            marks,
            slots,
            lane_stride,
            len,
        }
    }
}

impl Kind {
    pub(crate) fn of(flags: Flags) -> Self {
        match (flags.has(Flags::SP_ENQ), flags.has(Flags::SC_DEQ)) {
            (true, true) => Self::One,
            (false, true) => Self::FanIn,
            (_, false) => Self::Mpmc,
        }
    }
}

/// The header of a ring: what it is, written once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header<'r>(pub(crate) &'r [AtomicU64; HEADER_WORDS]);

/// Why a header says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Nobody has finished writing it.
    Unfinished,
    /// Another build wrote it.
    Layout(u64),
    /// No ring has such a shape.
    Damaged,
}

impl Header<'_> {
    /// Writes what the ring is, then says so.
    pub(crate) fn announce(self, shape: Shape) {
        let Shape {
            flags,
            size,
            lanes,
            limit,
        } = shape;
        self.0[WORD_FLAGS].store(flags.bits().into(), Ordering::Relaxed);
        self.0[WORD_SIZE].store(size.into(), Ordering::Relaxed);
        self.0[WORD_LANES].store(lanes.into(), Ordering::Relaxed);
        self.0[WORD_LIMIT].store(limit.into(), Ordering::Relaxed);
        // Release: who sees the layout sees the words before it. Pairs with the Acquire in
        // `read`.
        self.0[WORD_LAYOUT].store(LAYOUT, release("header"));
    }

    /// What the ring is: each word read once and checked.
    pub(crate) fn read(self) -> Result<Shape, Unreadable> {
        // Acquire: the other words were stored before. Pairs with the Release in `announce`.
        match self.0[WORD_LAYOUT].load(acquire("header")) {
            LAYOUT => {}
            0 => return Err(Unreadable::Unfinished),
            theirs => return Err(Unreadable::Layout(theirs)),
        }
        let word = |at: usize| {
            u32::try_from(self.0[at].load(Ordering::Relaxed)).map_err(|_| Unreadable::Damaged)
        };
        let flags = Flags::from_bits(word(WORD_FLAGS)?).ok_or(Unreadable::Damaged)?;
        let (size, lanes, limit) = (word(WORD_SIZE)?, word(WORD_LANES)?, word(WORD_LIMIT)?);
        Shape::new("", flags, size, lanes, limit).map_err(|_| Unreadable::Damaged)
    }
}
