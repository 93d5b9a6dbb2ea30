//! Where the words of pools and rings lie, read anew and on purpose apart from `mbuf` and `ring`.
//!
//! ```text
//! pool  0    layout u64, id u32, count u32, data room u32, private size u32
//!       64   hints: a u32 a magazine
//!       then magazines, 576 bytes each: owner u32, count u32; at 64 up to 128 indices u32
//!       then tags, u32 each: whose, in ring at bit 31, linked at bit 30
//!       then briefs, u32 each: what is not needed here
//!       then metas, 64 bytes each: at 24 next u32 and original u32, as one u64
//! ring  0    layout, flags, size, lanes, limit: u64 each
//!       160  not zero once mbufs were sent, u64; other rings hold numbers of their users'
//!       256  producers u64 a lane | tails u32 a lane | heads, a line a lane | counters, likewise |
//!            slots, u32 each, two in a u64, even one low; parts at multiples of 128
//!       of many consumers (flag 2 not set), from 256 on: producers u64 a slot of the process table (one with flag 1) |
//!            consumers, likewise | tail u64 | head, in a line | counters, a line a producer | marks, a line a consumer |
//!            slots, u64 each: item at bit 0, state at bit 32: 0 empty, 1 full, 2 claimed
//!       arrays of slots are powers of two, whatever the size, and of many consumers at least 128
//! ```
//!
//! Nothing that is read is trusted: each number is read once, checked, and used as a private copy.

use forebay::eal::sync::{AtomicU32, AtomicU64, Ordering};
use forebay::eal::{Owner, Zone, ZoneError};

const LINE: usize = 64;
const PAIR: usize = 128;
const WORD: usize = size_of::<u64>();
const HALF: usize = size_of::<u32>();

/// Entries of a magazine, and what stands before them.
const MAGAZINE_LEN: usize = 128;
const MAGAZINE_STRIDE: usize = LINE + MAGAZINE_LEN * HALF;
/// Magazines beyond those that all buffers fill: two a slot and two more.
const MAGAZINES_BESIDES: usize = 2 * 64 + 2;
const META_STRIDE: usize = 64;
/// What a tag says besides whose the buffer is.
const TAG_MARKS: u32 = 3 << 30;
const TAG_LINKED: u32 = 1 << 30;
const META_LINKS: usize = 24;
/// Bits of an index that count within its pool.
const NUMBER_BITS: u32 = 24;

/// Where a ring says that it carries mbufs.
const MBUFS: usize = 160;
/// Where a ring's producers stand.
const PRODUCERS: usize = 256;
/// Flags of a ring: one producer, one consumer, a size that is no power of two.
const ONE_PRODUCER: u64 = 1;
const ONE_CONSUMER: u64 = 2;
const EXACT_SIZE: u64 = 4;
/// Ends of one side where there are many, and the least slots of such a ring.
const ENDS: usize = 64;
const ARRAY_MIN: usize = 128;
/// The most that a ring may claim to be: 64 lanes of 2^24 items.
const LANES_MAX: u64 = 64;
const SIZE_MAX: u64 = 1 << 24;

/// The index that ends a chain.
const NONE: u32 = u32::MAX;

/// Why a pool or a ring cannot be walked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// Its primary has not finished it.
    #[error("is not finished")]
    Unfinished,
    /// Its numbers cannot be.
    #[error("has a header that cannot be")]
    Damaged,
    /// It is larger than its zone.
    #[error("does not fit its zone: {0}")]
    Zone(#[from] ZoneError),
}

/// A pool's words.
#[derive(Debug)]
pub(crate) struct PoolWords<'r> {
    /// The id in its indices.
    pub(crate) id: u8,
    /// Its buffers.
    pub(crate) count: u32,
    magazines: Vec<MagazineWords<'r>>,
    tags: &'r [AtomicU32],
    metas: &'r [AtomicU64],
}

/// A magazine's words.
#[derive(Debug)]
struct MagazineWords<'r> {
    owner: &'r AtomicU32,
    count: &'r AtomicU32,
    entries: &'r [AtomicU32],
}

impl<'r> PoolWords<'r> {
    /// Finds them in a pool's zone.
    pub(crate) fn find(zone: &Zone<'r>) -> Result<Self, Unreadable> {
        // Acquire: the rest of the header was stored before.
        if zone.get::<AtomicU64>(0)?.load(Ordering::Acquire) == 0 {
            return Err(Unreadable::Unfinished);
        }
        let word = |at| Ok::<_, ZoneError>(zone.get::<AtomicU32>(at)?.load(Ordering::Relaxed));
        let id = u8::try_from(word(8)?).map_err(|_| Unreadable::Damaged)?;
        let count = word(12)?;
        if count == 0 || count > 1 << NUMBER_BITS {
            return Err(Unreadable::Damaged);
        }
        let buffers = usize::try_from(count).map_err(|_| Unreadable::Damaged)?;
        let magazine_count = buffers.div_ceil(MAGAZINE_LEN) + MAGAZINES_BESIDES;
        let magazines = (LINE + magazine_count * HALF).next_multiple_of(LINE);
        let tags = magazines + magazine_count * MAGAZINE_STRIDE;
        let briefs = (tags + buffers * HALF).next_multiple_of(LINE);
        let metas = (briefs + buffers * HALF).next_multiple_of(LINE);
        let magazine = |number: usize| {
            let at = magazines + number * MAGAZINE_STRIDE;
            Ok::<_, ZoneError>(MagazineWords {
                owner: zone.get(at)?,
                count: zone.get(at + HALF)?,
                entries: zone.slice(at + LINE, MAGAZINE_LEN)?,
            })
        };
        Ok(Self {
            id,
            count,
            magazines: (0..magazine_count)
                .map(magazine)
                .collect::<Result<_, _>>()?,
            tags: zone.slice(tags, buffers)?,
            metas: zone.slice(metas, buffers * META_STRIDE / WORD)?,
        })
    }

    /// The number within this pool of an index, if it is one of this pool's.
    pub(crate) fn number(&self, index: u32) -> Option<u32> {
        let number = index & ((1 << NUMBER_BITS) - 1);
        (index >> NUMBER_BITS == u32::from(self.id) && number < self.count).then_some(number)
    }

    /// Each magazine: who owns it, and what it lists.
    pub(crate) fn magazines(&self) -> impl Iterator<Item = (Owner, Vec<u32>)> {
        self.magazines.iter().map(|magazine| {
            let owner = Owner::from_bits(magazine.owner.load(Ordering::Acquire));
            // Acquire: entries below the count are those that it was raised over.
            let count = magazine.count.load(Ordering::Acquire) as usize;
            let listed = magazine.entries.iter().take(count);
            (
                owner,
                listed.map(|entry| entry.load(Ordering::Relaxed)).collect(),
            )
        })
    }

    /// The tag of buffer `number`.
    pub(crate) fn tag(&self, number: u32) -> u32 {
        self.tag_word(number) & !TAG_MARKS
    }

    fn tag_word(&self, number: u32) -> u32 {
        // Acquire: a tag is looked at after the places that a buffer may lie in.
        let tag = self.tags.get(number as usize);
        tag.map_or(0, |tag| tag.load(Ordering::Acquire))
    }

    /// The segment after buffer `number`. Only of a linked buffer does its meta say so.
    pub(crate) fn next(&self, number: u32) -> Option<u32> {
        let word = (number as usize * META_STRIDE + META_LINKS) / WORD;
        let links = self.metas.get(word);
        let next = low(links.map_or(0, |word| word.load(Ordering::Acquire)));
        (self.tag_word(number) & TAG_LINKED != 0 && next != NONE).then_some(next)
    }
}

/// A ring's words.
#[derive(Debug)]
pub(crate) struct RingWords<'r> {
    size: u32,
    lanes: Vec<LaneWords<'r>>,
    /// The array of a ring with many consumers.
    array: Option<&'r [AtomicU64]>,
}

/// A lane's words.
#[derive(Debug)]
struct LaneWords<'r> {
    tail: &'r AtomicU32,
    head: &'r AtomicU32,
    slots: &'r [AtomicU64],
}

impl<'r> RingWords<'r> {
    /// Finds them in a ring's zone.
    pub(crate) fn find(zone: &Zone<'r>) -> Result<Self, Unreadable> {
        // Acquire: the rest of the header was stored before.
        if zone.get::<AtomicU64>(0)?.load(Ordering::Acquire) == 0 {
            return Err(Unreadable::Unfinished);
        }
        let word = |number: usize| {
            Ok::<_, ZoneError>(
                zone.get::<AtomicU64>(number * WORD)?
                    .load(Ordering::Relaxed),
            )
        };
        let (flags, size, lanes) = (word(1)?, word(2)?, word(3)?);
        let is_exact = flags & EXACT_SIZE != 0;
        if !(is_exact || size.is_power_of_two() && size >= 2)
            || !(1..=SIZE_MAX).contains(&size)
            || !(1..=LANES_MAX).contains(&lanes)
        {
            return Err(Unreadable::Damaged);
        }
        let usize_of = |number| usize::try_from(number).map_err(|_| Unreadable::Damaged);
        let items = usize_of(size)?.next_power_of_two().max(2);
        let lane_count = usize_of(lanes)?;
        let carries_mbufs = zone.get::<AtomicU64>(MBUFS)?.load(Ordering::Relaxed) != 0;
        let size = u32::try_from(size).map_err(|_| Unreadable::Damaged)?;
        let behind = |start: usize, len: usize| (start + len).next_multiple_of(PAIR);
        if flags & ONE_CONSUMER == 0 {
            let producers = if flags & ONE_PRODUCER == 0 { ENDS } else { 1 };
            let consumers = behind(PRODUCERS, producers * WORD);
            let tail = behind(consumers, ENDS * WORD);
            let head = behind(tail, WORD);
            let counters = behind(head, LINE);
            let marks = behind(counters, producers * LINE);
            let slots = behind(marks, ENDS * LINE);
            let array = zone.slice(slots, items.max(ARRAY_MIN))?;
            return Ok(Self {
                size,
                lanes: Vec::new(),
                array: carries_mbufs.then_some(array),
            });
        }
        let tails = behind(PRODUCERS, lane_count * WORD);
        let heads = behind(tails, lane_count * HALF);
        let counters = behind(heads, lane_count * LINE);
        let slots = behind(counters, lane_count * LINE);
        let stride = (items * HALF).max(LINE);
        let lane = |number: usize| {
            Ok::<_, ZoneError>(LaneWords {
                tail: zone.get(tails + number * HALF)?,
                head: zone.get(heads + number * LINE)?,
                slots: zone.slice(slots + number * stride, items / 2)?,
            })
        };
        Ok(Self {
            size,
            lanes: if carries_mbufs {
                (0..lane_count).map(lane).collect::<Result<_, _>>()?
            } else {
                Vec::new()
            },
            array: None,
        })
    }

    /// What waits in each lane, or waits or is claimed in the array; `None` where head and tail, or a slot, cannot be.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = Option<Vec<u32>>> {
        let array = self.array.iter().map(|array| {
            let words = array.iter().map(|slot| slot.load(Ordering::Acquire));
            let items = words.filter_map(|word| match word >> 32 & 3 {
                0 => None,
                1 | 2 => Some(Some(low(word))),
                _ => Some(None),
            });
            items.collect()
        });
        array.chain(self.lanes.iter().map(|lane| {
            // Head before tail: what is taken meanwhile is seen twice rather than not at all.
            let head = lane.head.load(Ordering::Acquire);
            let tail = lane.tail.load(Ordering::Acquire);
            let count = tail.wrapping_sub(head);
            (count <= self.size).then(|| {
                (0..count)
                    .map(|step| Self::item(lane, head.wrapping_add(step)))
                    .collect()
            })
        }))
    }

    fn item(lane: &LaneWords<'_>, position: u32) -> u32 {
        let slot = position as usize & (lane.slots.len() * 2 - 1);
        let pair = lane
            .slots
            .get(slot / 2)
            .map_or(0, |pair| pair.load(Ordering::Relaxed));
        low(if slot.is_multiple_of(2) {
            pair
        } else {
            pair >> 32
        })
    }
}

/// The lower half.
fn low(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
