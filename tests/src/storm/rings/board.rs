//! What workers tell the storm, in a zone of the group: it stays when they are killed.
//!
//! ```text
//! line 0          | order |
//! line 2i, 2i+1   | side inside operations published | fate noting ... next+gaps twice damaged |     of instance i
//! ```
//!
//! | part                                  | written by                       |
//! |---------------------------------------|----------------------------------|
//! | order, fate                           | the storm                        |
//! | side, inside, operations, published, noting | the instance               |
//! | next and gaps, twice, damaged         | the consumer that is there       |
//!
//! **If a process dies:** each word stands for itself; `next` and `gaps` are one word, so that they are both of before or both
//! of after a packet.

use forebay::eal::sync::{AtomicU64, Ordering};
use std::sync::atomic::{Ordering as StdOrdering, compiler_fence};
use std::time::Duration;

use forebay::eal::{Region, ZoneKind};

use super::kind::Side;

/// Name of the zone.
const BOARD: &str = "storm_board";
/// Workers of one kind, one after the other.
const INSTANCES_MAX: usize = 16 * 1024;
/// Words of an instance: two cache lines, by their writers.
const WORDS: usize = 16;

const SIDE: usize = 0;
const INSIDE: usize = 1;
const OPERATIONS: usize = 2;
const PUBLISHED: usize = 3;
/// Written by the storm: a plan is read and not changed.
const FATE: usize = 4;
const PROGRESS: usize = 8;
const TWICE: usize = 9;
const DAMAGED: usize = 10;

/// Of a consumer: the packet that it is noting, until its buffer is given back.
const NOTING: usize = 5;

/// Bits of the gaps in the word of the progress.
const GAP_BITS: u32 = 24;

/// Bits of a packet's number in the word of the one that is noted.
const NUMBER_BITS: u32 = 40;

/// Orders to the workers.
pub(super) const PRODUCERS_STOP: u64 = 1;
pub(super) const ALL_STOP: u64 = 2;

/// The zone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Board<'r> {
    words: &'r [AtomicU64],
}

/// All that is known of a producer.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) side: Side,
    pub(super) published: u64,
    /// The number that is expected next.
    pub(super) next: u64,
    /// Numbers that were passed over.
    pub(super) gaps: u64,
    pub(super) twice: u64,
    pub(super) damaged: u64,
}

/// The words that an instance writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own<'r> {
    inside: &'r AtomicU64,
    operations: &'r AtomicU64,
    published: &'r AtomicU64,
    noting: &'r AtomicU64,
}

impl Own<'_> {
    /// Says that a packet is about to be noted; `None` when its buffer has been given back.
    #[inline]
    pub(super) fn set_noting(&self, packet: Option<(u32, u64)>) {
        let word = packet.map_or(0, |(producer, number)| {
            (u64::from(producer) << NUMBER_BITS) | (number & ((1 << NUMBER_BITS) - 1))
        });
        compiler_fence(StdOrdering::SeqCst);
        self.noting.store(word, Ordering::Relaxed);
        compiler_fence(StdOrdering::SeqCst);
    }

    /// Runs the operation, and counts what it says it published.
    ///
    /// Whether a kill fell inside is to be told to the instruction: what was stored before it is there, whatever the
    /// processor had in mind, so that nothing but the compiler must be kept from moving stores across.
    #[inline]
    pub(super) fn inside<T>(
        &self,
        operation: impl FnOnce() -> T,
        published: impl Fn(&T) -> u64,
    ) -> T {
        self.inside.store(1, Ordering::Relaxed);
        compiler_fence(StdOrdering::SeqCst);
        let result = operation();
        compiler_fence(StdOrdering::SeqCst);
        self.inside.store(0, Ordering::Relaxed);
        let add =
            |word: &AtomicU64, n| word.store(word.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        add(self.operations, 1);
        add(self.published, published(&result));
        result
    }
}

impl<'r> Board<'r> {
    pub(super) fn create(region: &'r Region) -> anyhow::Result<Self> {
        let len = (INSTANCES_MAX + 1) * WORDS * size_of::<u64>();
        region.reserve(ZoneKind::Plain, BOARD, len, 64, None)?;
        Self::lookup(region)
    }

    pub(super) fn lookup(region: &'r Region) -> anyhow::Result<Self> {
        let zone = region.lookup(ZoneKind::Plain, BOARD)?;
        let words = zone.slice(0, (INSTANCES_MAX + 1) * WORDS)?;
        Ok(Self { words })
    }

    /// A word of an instance. One that a damaged packet names may not exist: that is the order's line then, unused words.
    fn word(&self, instance: u32, word: usize) -> &'r AtomicU64 {
        let instance = usize::try_from(instance).unwrap_or(0);
        let instance = if instance <= INSTANCES_MAX {
            instance
        } else {
            0
        };
        &self.words[instance * WORDS + word]
    }

    fn get(&self, instance: u32, word: usize) -> u64 {
        // Relaxed, here and below, where nothing else is said: numbers that stand for themselves.
        self.word(instance, word).load(Ordering::Relaxed)
    }

    pub(super) fn tell(&self, order: u64) {
        self.words[0].store(order, Ordering::Relaxed);
    }

    pub(super) fn order(&self) -> u64 {
        self.words[0].load(Ordering::Relaxed)
    }

    /// An instance introduces itself, and gets the words that it writes.
    pub(super) fn introduce(&self, instance: u32, side: Side) -> Own<'r> {
        let side = if side == Side::Consumer { 2 } else { 1 };
        self.word(instance, SIDE).store(side, Ordering::Relaxed);
        Own {
            inside: self.word(instance, INSIDE),
            operations: self.word(instance, OPERATIONS),
            published: self.word(instance, PUBLISHED),
            noting: self.word(instance, NOTING),
        }
    }

    pub(super) fn side(&self, instance: u32) -> Side {
        match self.get(instance, SIDE) {
            2 => Side::Consumer,
            _ => Side::Producer,
        }
    }

    /// Tells an instance to die so long after the beginning of its next series of operations.
    pub(super) fn doom(&self, instance: u32, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.word(instance, FATE)
            .store(ns.max(1), Ordering::Relaxed);
    }

    /// Whether, and when, the instance is to die.
    pub(super) fn fate(&self, instance: u32) -> Option<Duration> {
        let ns = self.get(instance, FATE);
        (ns > 0).then(|| Duration::from_nanos(ns))
    }

    pub(super) fn is_inside(&self, instance: u32) -> bool {
        self.get(instance, INSIDE) == 1
    }

    /// Whether a dead consumer may have noted a packet whose buffer it had not given back.
    pub(super) fn has_noted_in_hand(&self, consumer: u32) -> bool {
        let word = self.get(consumer, NOTING);
        let producer = u32::try_from(word >> NUMBER_BITS).unwrap_or(0);
        producer != 0 && self.read(producer).next > word & ((1 << NUMBER_BITS) - 1)
    }

    pub(super) fn operations(&self, instance: u32) -> u64 {
        self.get(instance, OPERATIONS)
    }

    /// A packet arrived. For the consumer.
    #[inline]
    pub(super) fn note(&self, producer: u32, number: u64) {
        let word = self.word(producer, PROGRESS);
        let (next, gaps) = split(word.load(Ordering::Relaxed));
        if number < next {
            self.count(producer, TWICE);
            return;
        }
        let gaps = gaps + (number - next);
        word.store((number + 1) << GAP_BITS | gaps, Ordering::Relaxed);
    }

    /// A packet arrived that was not as it was sent. For the consumer.
    pub(super) fn note_damaged(&self, producer: u32) {
        self.count(producer, DAMAGED);
    }

    fn count(&self, instance: u32, word: usize) {
        self.word(instance, word).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, instance: u32) -> Record {
        let (next, gaps) = split(self.get(instance, PROGRESS));
        Record {
            side: self.side(instance),
            published: self.get(instance, PUBLISHED),
            next,
            gaps,
            twice: self.get(instance, TWICE),
            damaged: self.get(instance, DAMAGED),
        }
    }
}

fn split(progress: u64) -> (u64, u64) {
    (progress >> GAP_BITS, progress & ((1 << GAP_BITS) - 1))
}
