//! What each word of the memory is: where pools and rings keep what, read anew and on purpose apart from `mbuf` and `ring`.
//!
//! ```text
//! pool  0    layout u64, id u32, count u32
//!       64   hints: a u32 a magazine
//!       then magazines, 128 bytes each: owner u32, count u32; at 64 two indices u32
//!       then tags, u32 each; then briefs, u32 each; then metas, 64 bytes each: unused u32, references u32, span u64, place u64, next u32 and original u32, flags u64, ...
//! ring  0    layout, flags, size, lanes, limit: u64 each
//!       64   consumer u64
//!       160  whether it carries mbufs u64
//!       256  producers u64 a lane | tails u32 a lane | heads, a line a lane | counters, likewise |
//!            slots, u32 each, two in a u64, even one low; parts at multiples of 128
//!       of many consumers: from 256 on producers u64 a slot of the table (one with SP_ENQ) | consumers, likewise | tail u64 |
//!            head, a line | counters, a line a producer | marks, a line a consumer |
//!            slots, u64 each: item at bit 0, state at bit 32, owner at bit 34, lap at bit 61 (42 in a normal build)
//! ```

use eal::{Region, SLOTS_MAX, ZoneKind};

use crate::world::World;

const WORD: usize = size_of::<u32>();
const LINE: usize = 64 / WORD;
const PAIR: usize = 2 * LINE;

/// Entries of a magazine in this build.
pub(crate) const MAGAZINE_LEN: usize = 2;
const MAGAZINE_STRIDE: usize = 2 * LINE;
const MAGAZINES_BESIDES: usize = 2 * SLOTS_MAX + 2;
const META_STRIDE: usize = LINE;
/// From the start of a slot's record to that of the next, and the words of its counters of buffers.
const SLOT_STRIDE: usize = 256 / WORD;
const SLOT_COUNTERS: usize = 192 / WORD;
/// The word that is its doorbell.
const SLOT_BELL: usize = 72 / WORD;

/// Where a ring says that it carries mbufs.
const MBUFS: usize = 160 / WORD;

/// What a word is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Class {
    /// Nothing that the protocol rests on: counters, names, lengths, what is shown. No step.
    #[default]
    Shown,
    /// A step, but one that no other step leans on: hints.
    Weak,
    /// What the protocol is about.
    Strong,
}

/// In a tag: the mbuf has links.
const TAG_LINKED: u32 = 1 << 30;
/// Where a meta says which segment is next.
const META_LINKS: usize = 6;

/// A pool's words.
#[derive(Debug, Clone)]
pub(crate) struct PoolWords {
    pub(crate) id: u32,
    pub(crate) count: usize,
    pub(crate) hints: usize,
    pub(crate) magazines: usize,
    pub(crate) magazine_count: usize,
    pub(crate) tags: usize,
    pub(crate) metas: usize,
}

impl PoolWords {
    fn find(world: &World, start: usize) -> Self {
        let (id, count) = (world.read(start + 2), world.read(start + 3) as usize);
        let magazine_count = count.div_ceil(MAGAZINE_LEN) + MAGAZINES_BESIDES;
        let hints = start + LINE;
        let magazines = start + (LINE + magazine_count).next_multiple_of(LINE);
        let tags = magazines + magazine_count * MAGAZINE_STRIDE;
        let briefs = (tags - start + count).next_multiple_of(LINE);
        Self {
            id,
            count,
            hints,
            magazines,
            magazine_count,
            tags,
            metas: start + briefs + count.next_multiple_of(LINE),
        }
    }

    /// Where magazine `number` starts: owner, count; entries a line behind.
    pub(crate) fn magazine(&self, number: usize) -> usize {
        self.magazines + number * MAGAZINE_STRIDE
    }

    /// Where the entries of magazine `number` start.
    pub(crate) fn entries(&self, number: usize) -> usize {
        self.magazine(number) + LINE
    }

    /// Where the tag of mbuf `number` is.
    pub(crate) fn tag(&self, number: usize) -> usize {
        self.tags + number
    }

    /// Where the meta of mbuf `number` starts.
    pub(crate) fn meta(&self, number: usize) -> usize {
        self.metas + number * META_STRIDE
    }

    /// The segment after mbuf `number`, by a look that is no step. Only of a linked one does the meta say so.
    pub(crate) fn next(&self, world: &World, number: usize) -> Option<u32> {
        let is_linked = world.read(self.tag(number)) & TAG_LINKED != 0;
        let next = world.read(self.meta(number) + META_LINKS);
        (is_linked && next != u32::MAX).then_some(next)
    }

    /// The number of the mbuf with this index, if it is of this pool.
    pub(crate) fn number(&self, index: u32) -> Option<usize> {
        let number = index as usize & 0xff_ffff;
        (index >> 24 == self.id && number < self.count).then_some(number)
    }
}

/// A ring's words.
#[derive(Debug, Clone)]
pub(crate) struct RingWords {
    pub(crate) name: String,
    /// Slots of a lane, or of the array.
    pub(crate) size: usize,
    /// Items that they hold.
    pub(crate) capacity: u32,
    pub(crate) lanes: usize,
    pub(crate) consumer: usize,
    mbufs: usize,
    pub(crate) producers: usize,
    pub(crate) tails: usize,
    pub(crate) heads: usize,
    pub(crate) slots: usize,
    stride: usize,
    /// Ends of each side: consumers of many have theirs one after the other.
    ends: usize,
    pub(crate) consumers: usize,
    /// Whether it is one array for many consumers.
    pub(crate) is_shared: bool,
}

impl RingWords {
    fn find(world: &World, start: usize, name: String) -> Self {
        let (flags, capacity, lanes) = (
            world.read(start + 2),
            world.read(start + 4),
            world.read(start + 6) as usize,
        );
        let size = (capacity as usize).next_power_of_two().max(2);
        let producers = start + 2 * PAIR;
        let behind =
            |from: usize, words: usize| start + (from - start + words).next_multiple_of(PAIR);
        if flags & 2 == 0 {
            let ends = if flags & 1 == 0 { SLOTS_MAX } else { 1 };
            let consumers = behind(producers, ends * 2);
            let tails = behind(consumers, SLOTS_MAX * 2);
            let heads = behind(tails, 2);
            let marks = behind(behind(heads, LINE), ends * LINE);
            let slots = behind(marks, SLOTS_MAX * LINE);
            return Self {
                name,
                size,
                capacity,
                lanes,
                consumer: consumers,
                mbufs: start + MBUFS,
                producers,
                tails,
                heads,
                slots,
                stride: size * 2,
                ends,
                consumers: SLOTS_MAX,
                is_shared: true,
            };
        }
        let tails = behind(producers, lanes * 2);
        let heads = behind(tails, lanes);
        let counters = behind(heads, lanes * LINE);
        let slots = behind(counters, lanes * LINE);
        Self {
            name,
            size,
            capacity,
            lanes,
            consumer: start + LINE,
            mbufs: start + MBUFS,
            producers,
            tails,
            heads,
            slots,
            stride: size.max(LINE),
            ends: lanes,
            consumers: 1,
            is_shared: false,
        }
    }

    /// Where the word of a consuming end lies.
    pub(crate) fn consumer(&self, number: usize) -> usize {
        self.consumer + 2 * number
    }

    /// Where the head of a lane lies.
    pub(crate) fn head(&self, lane: usize) -> usize {
        self.heads + lane * LINE
    }

    /// Where the slot for a position of a lane lies.
    pub(crate) fn slot(&self, lane: usize, position: u32) -> usize {
        self.slots + lane * self.stride + position as usize % self.size
    }
}

/// A device queue of a scenario: two rings of `size` descriptors, each a u32.
#[derive(Debug, Clone)]
pub(crate) struct QueueWords {
    pub(crate) start: usize,
    pub(crate) size: usize,
}

impl QueueWords {
    /// Words of the record, then producer and consumer of both rings, then the descriptors.
    pub(crate) const RECORD: usize = 128 / WORD;
    /// What was about to be given.
    pub(crate) const INTENT: usize = 2;
    /// Words before the descriptors: producer and consumer of what is given, then of what is taken.
    pub(crate) const POSITIONS: usize = 4;

    /// Words in all.
    pub(crate) const fn len(size: usize) -> usize {
        Self::RECORD + Self::POSITIONS + 2 * size
    }
}

/// All words that a scenario has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Words {
    /// Words of the data part that zones have.
    pub(crate) used: usize,
    pub(crate) classes: Vec<Class>,
    pub(crate) pools: Vec<PoolWords>,
    pub(crate) rings: Vec<RingWords>,
    pub(crate) queues: Vec<QueueWords>,
}

impl Words {
    /// What lies in the zones of a region.
    pub(crate) fn of(world: &World, region: &Region) -> Self {
        let mut words = Self {
            classes: vec![Class::Shown; world.len()],
            ..Self::default()
        };
        for slot in 0..SLOTS_MAX {
            words.set(slot * SLOT_STRIDE, 2, Class::Strong);
            words.set(slot * SLOT_STRIDE + SLOT_BELL, 1, Class::Strong);
        }
        for zone in region.zones() {
            let end = usize::try_from(zone.offset()).unwrap_or(0) + zone.len();
            words.used = words.used.max(end / WORD);
            let start = usize::try_from(zone.offset()).map_or(usize::MAX, |bytes| bytes / WORD);
            match zone.kind() {
                ZoneKind::Pool => words.add_pool(PoolWords::find(world, start)),
                ZoneKind::Ring => {
                    words.add_ring(RingWords::find(world, start, zone.name().to_string()));
                }
                ZoneKind::Plain => {}
            }
        }
        words
    }

    fn add_pool(&mut self, pool: PoolWords) {
        self.set(pool.hints, pool.magazine_count, Class::Weak);
        for number in 0..pool.magazine_count {
            self.set(pool.magazine(number), 2, Class::Strong);
            self.set(pool.entries(number), MAGAZINE_LEN, Class::Strong);
        }
        for number in 0..pool.count {
            self.set(pool.tag(number), 1, Class::Strong);
            let meta = pool.meta(number);
            // References; links and flags. The others are written anew before an mbuf is used again.
            self.set(meta + 1, 1, Class::Strong);
            self.set(meta + 6, 4, Class::Strong);
        }
        self.pools.push(pool);
    }

    fn add_ring(&mut self, ring: RingWords) {
        if ring.is_shared {
            self.set(ring.consumer, ring.consumers * 2, Class::Strong);
            self.set(ring.mbufs, 2, Class::Strong);
            self.set(ring.producers, ring.ends * 2, Class::Strong);
            self.set(ring.tails, 2, Class::Strong);
            self.set(ring.heads, 2, Class::Strong);
            self.set(ring.slots, ring.size * 2, Class::Strong);
            self.rings.push(ring);
            return;
        }
        self.set(ring.consumer, 2, Class::Strong);
        self.set(ring.mbufs, 2, Class::Strong);
        self.set(ring.producers, ring.lanes * 2, Class::Strong);
        self.set(ring.tails, ring.lanes, Class::Strong);
        for lane in 0..ring.lanes {
            self.set(ring.head(lane), 1, Class::Strong);
            self.set(ring.slot(lane, 0), ring.size, Class::Strong);
        }
        self.rings.push(ring);
    }

    /// Says that a device queue lies there.
    pub(crate) fn add_queue(&mut self, queue: QueueWords) {
        // Owner, kind, intent, producer; then the rings.
        self.set(queue.start, 4, Class::Strong);
        self.set(
            queue.start + QueueWords::RECORD,
            QueueWords::POSITIONS + 2 * queue.size,
            Class::Strong,
        );
        self.queues.push(queue);
    }

    /// Says what words are.
    pub(crate) fn set(&mut self, start: usize, count: usize, class: Class) {
        if let Some(classes) = self.classes.get_mut(start..start + count) {
            classes.fill(class);
        }
    }

    /// What a word is.
    pub(crate) fn class(&self, number: usize) -> Class {
        self.classes.get(number).copied().unwrap_or_default()
    }

    /// What a word is called in a schedule.
    pub(crate) fn name(&self, number: usize) -> String {
        if let Some(slot) = Self::bell_of(number) {
            return format!("doorbell {slot}");
        }
        if number < SLOTS_MAX * SLOT_STRIDE {
            return format!("slot {}", number / SLOT_STRIDE);
        }
        for pool in &self.pools {
            if (pool.hints..pool.magazines).contains(&number) {
                return "hints".to_owned();
            }
            if (pool.magazines..pool.tags).contains(&number) {
                let at = number - pool.magazines;
                let word = match at % MAGAZINE_STRIDE {
                    0 => "owner".to_owned(),
                    1 => "count".to_owned(),
                    entry => format!("entry {}", entry - LINE),
                };
                return format!("magazine {} {word}", at / MAGAZINE_STRIDE);
            }
            if (pool.tags..pool.tags + pool.count).contains(&number) {
                return format!("mbuf {} tag", number - pool.tags);
            }
            let at = number.wrapping_sub(pool.metas);
            if at < pool.count * META_STRIDE {
                let word = match at % META_STRIDE {
                    1 => "references",
                    6 | 7 => "links",
                    8 | 9 => "flags",
                    _ => "facts",
                };
                return format!("mbuf {} {word}", at / META_STRIDE);
            }
        }
        for ring in &self.rings {
            let RingWords { name, .. } = ring;
            if (ring.consumer..ring.consumer + 2 * ring.consumers).contains(&number) {
                return format!("ring {name} consumer {}", (number - ring.consumer) / 2);
            }
            if number == ring.mbufs {
                return format!("ring {name} content");
            }
            if (ring.producers..ring.producers + 2 * ring.ends).contains(&number) {
                return format!("ring {name} producer {}", (number - ring.producers) / 2);
            }
            if (ring.tails..ring.heads).contains(&number) {
                return format!("ring {name} tail {}", number - ring.tails);
            }
            if (ring.heads..ring.slots).contains(&number) {
                return format!("ring {name} head {}", (number - ring.heads) / LINE);
            }
            let at = number.wrapping_sub(ring.slots);
            if at < ring.lanes * ring.stride && ring.is_shared {
                return format!("ring {name} slot {}", at / 2);
            }
            if at < ring.lanes * ring.stride {
                return format!(
                    "ring {name} lane {} slot {}",
                    at / ring.stride,
                    at % ring.stride
                );
            }
        }
        for queue in &self.queues {
            let at = number.wrapping_sub(queue.start);
            if at < QueueWords::len(queue.size) {
                return match at {
                    0 => "queue owner".to_owned(),
                    2 => "queue intent".to_owned(),
                    _ => format!("queue word {at}"),
                };
            }
        }
        format!("word {number}")
    }

    /// Where the counters of buffers of a slot lie: eight u64.
    pub(crate) fn counters(slot: usize) -> usize {
        slot * SLOT_STRIDE + SLOT_COUNTERS
    }

    /// The slot whose doorbell a word is.
    pub(crate) const fn bell_of(number: usize) -> Option<usize> {
        let slot = number / SLOT_STRIDE;
        if slot < SLOTS_MAX && number % SLOT_STRIDE == SLOT_BELL {
            Some(slot)
        } else {
            None
        }
    }

    /// Where the state of a slot lies.
    pub(crate) fn slot(slot: usize) -> usize {
        slot * SLOT_STRIDE
    }
}
