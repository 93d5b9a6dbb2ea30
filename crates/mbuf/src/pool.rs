//! A pool: a number of mbufs in one zone, and the magazines in which the free ones lie.
//!
//! ```text
//! offset  0        64      64-aligned   64-aligned  64-aligned  64-aligned  64-aligned  64-aligned        4096-aligned
//!         | header | hints | magazines  | tags      | briefs    | metas     | private   | ... to the page | frames    |
//!         | 64     | 4 for | 576 each   | 4 each    | 4 each    | 64 each   | private_  |                 | data_room |
//!         |        | each  |            |           |           |           | size each |                 | each      |
//! ```
//!
//! Frames of 2048 bytes lie 2048-aligned, so that the frame array can be an AF_XDP UMEM as it stands.
//!
//! | part           | written by                                              | read by   |
//! |----------------|---------------------------------------------------------|-----------|
//! | header         | the primary, once, `layout` last                        | everybody |
//! | hints          | everybody, as [`magazine`](crate::magazine) says        | everybody |
//! | magazines      | their owners                                            | everybody |
//! | tags           | as [`tag`](crate::tag) says                             | everybody |
//! | briefs         | who holds the mbuf                                      | everybody |
//! | metas          | who holds the mbuf                                      | everybody |
//! | private, frame | who holds the mbuf; the device, while it is tagged so   | likewise  |
//!
//! **How far this can be trusted.** That an mbuf is one `Mbuf`'s at a time, and that its frame may therefore be read and written
//! as plain bytes, rests on what lies in the zone: magazines, tags, and the marks of what is sent and of what was made a
//! bare index. `Mbuf`, `Burst` and the ends of rings of mbufs keep it so, and from this process safe code that uses these
//! alone cannot make a second `Mbuf` of an index; an index put into a ring past them is refused. But all processes of a
//! group map the zone, and safe code of any of them can find it by name and write its words. Whoever does so, or lists a
//! packet that was sent in two rings on purpose, can have two slots hold one frame at a time, which in Rust is a data race.
//! No check here undoes that: a group is one domain of trust. What is checked holds in any case: nobody leaves the zone,
//! loops for ever or panics over what lies in it.
//!
//! **If a process dies:** while the primary fills a new pool: its header has no layout word, everybody refuses it, and the next
//! primary fills it from the start. Later: see [`magazine`](crate::magazine) and [`meta`](crate::meta).

use core::fmt;
use core::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use eal::holder::Holder;
use eal::process::{Owner, SLOTS_MAX};
use eal::region::Region;
use eal::zone::{Shared, Zone, ZoneKind, ZoneName};

use crate::brief::Brief;
use crate::error::Error;
use crate::index::{MbufIndex, POOL_COUNT_MAX, POOLS_MAX};
use crate::magazine::{Held, MAGAZINE_LEN, Magazine, Rack, Range, Record};
use crate::meta::Meta;
use crate::shape::{
    HEADER_LEN, HEADROOM, MAGAZINES_PER_SLOT, MAGAZINES_SPARE, PAGE, Plan, PoolConfig, Shape,
};
use crate::sync::{AtomicU32, AtomicU64, Ordering, acquire, release};
use crate::tag::Tag;

/// Held while this process makes a pool: its other threads must take neither the zone for a dead primary's, nor the id.
static MAKING: Mutex<()> = Mutex::new(());

fn making() -> MutexGuard<'static, ()> {
    // It guards no data: after a panic a zone without a layout word may be left, and `half_made` finds it.
    MAKING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What every process must know of a pool before it can find anything in it.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Header {
    /// [`LAYOUT`], stored last.
    layout: AtomicU64,
    id: AtomicU32,
    count: AtomicU32,
    data_room: AtomicU32,
    private_size: AtomicU32,
    unused: [AtomicU64; 5],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Header>() == HEADER_LEN);

#[cfg(all(test, loom))]
impl Header {
    /// A header as it lies in a fresh zone, for models that have none.
    pub(crate) fn zeroed() -> Self {
        Self {
            layout: AtomicU64::new(0),
            id: AtomicU32::new(0),
            count: AtomicU32::new(0),
            data_room: AtomicU32::new(0),
            private_size: AtomicU32::new(0),
            unused: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

#[cfg(all(test, loom))]
impl Facts {
    pub(crate) fn is_ready(&self) -> bool {
        self.layout == LAYOUT
    }

    pub(crate) fn says(&self, id: u8, shape: Shape) -> bool {
        let Self {
            data_room,
            private_size,
            ..
        } = *self;
        let sizes = (u32::from(shape.data_room), u32::from(shape.private_size));
        self.is_ready()
            && self.id == u32::from(id)
            && self.count == shape.count
            && (data_room, private_size) == sizes
    }
}

/// What a header says, read once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    layout: u64,
    id: u32,
    count: u32,
    data_room: u32,
    private_size: u32,
}

impl Header {
    /// Says that the pool is ready.
    pub(crate) fn announce(&self, id: u8, shape: Shape) {
        self.id.store(u32::from(id), Ordering::Relaxed);
        self.count.store(shape.count, Ordering::Relaxed);
        self.data_room
            .store(u32::from(shape.data_room), Ordering::Relaxed);
        self.private_size
            .store(u32::from(shape.private_size), Ordering::Relaxed);
        // Release: who sees the layout word sees the pool filled. Pairs with the Acquire in `read`.
        self.layout.store(LAYOUT, release("layout"));
    }

    /// Reads everything once.
    pub(crate) fn read(&self) -> Facts {
        // Acquire: pairs with the Release in `announce`.
        let layout = self.layout.load(acquire("layout"));
        Facts {
            layout,
            id: self.id.load(Ordering::Relaxed),
            count: self.count.load(Ordering::Relaxed),
            data_room: self.data_room.load(Ordering::Relaxed),
            private_size: self.private_size.load(Ordering::Relaxed),
        }
    }
}

// SAFETY: `repr(C)` of atomics, no pointer, no padding with a meaning; any bits are a value.
unsafe impl Shared for Header {}
// SAFETY: transparent over an atomic, no pointer; any bits are a value.
unsafe impl Shared for Tag {}
// SAFETY: transparent over an atomic, no pointer; any bits are a value.
unsafe impl Shared for Brief {}
// SAFETY: `repr(C)` of atomics and arrays of them, no pointer; any bits are a value.
unsafe impl Shared for Meta {}
// SAFETY: `repr(C)` of atomics in cache lines, no pointer; any bits are a value.
unsafe impl Shared for Magazine {}

/// What the parts of a pool look like, as one number: another release with another layout has another one.
pub const LAYOUT: u64 = {
    let facts: [usize; 15] = [
        5, // The revision: raise it when a word changes its meaning without moving.
        size_of::<Header>(),
        core::mem::offset_of!(Header, id),
        core::mem::offset_of!(Header, count),
        core::mem::offset_of!(Header, data_room),
        core::mem::offset_of!(Header, private_size),
        size_of::<Tag>(),
        size_of::<Brief>(),
        size_of::<Meta>(),
        size_of::<Magazine>(),
        MAGAZINE_LEN,
        MAGAZINES_PER_SLOT * SLOTS_MAX + MAGAZINES_SPARE,
        HEADROOM as usize,
        POOLS_MAX,
        POOL_COUNT_MAX as usize,
    ];
    // FNV-1a.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut at = 0;
    while at < facts.len() {
        hash = (hash ^ facts[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
};

/// A pool of mbufs: a handle that costs nothing to copy, good for as long as the process lives.
#[derive(Clone, Copy)]
pub struct Pool {
    region: &'static Region,
    name: ZoneName,
    node: u32,
    id: u8,
    shape: Shape,
    tags: &'static [Tag],
    briefs: &'static [Brief],
    metas: &'static [Meta],
    rack: Rack<'static>,
    private: Bytes,
    frames: Bytes,
}

/// `count` areas of `stride` bytes, one an mbuf.
#[derive(Debug, Clone, Copy)]
struct Bytes {
    start: NonNull<u8>,
    count: usize,
    stride: usize,
}

// SAFETY: an address in a mapping that every thread of the process sees; what may be done with the bytes, `Mbuf` says.
unsafe impl Send for Bytes {}
// SAFETY: as for `Send`: it gives addresses away, never references.
unsafe impl Sync for Bytes {}

impl Bytes {
    /// Where `len` bytes at `off` of area `number` start; `None` if they leave the area.
    #[inline]
    fn at(self, number: usize, off: usize, len: usize) -> Option<NonNull<u8>> {
        if number >= self.count || off.checked_add(len)? > self.stride {
            return None;
        }
        // SAFETY: `start` leads `count * stride` mapped bytes (checked when the pool was opened); `number < count` and
        // `off <= stride`, so this stays inside, and the `len` bytes after it too.
        Some(unsafe { self.start.add(number * self.stride + off) })
    }
}

impl Pool {
    /// Makes a pool and fills its magazines. For the primary.
    ///
    /// # Errors
    ///
    /// A number out of its range, a name that is taken, a region that is full or has a pool of another release, a process
    /// that is not the primary.
    pub fn create(region: &'static Region, config: &PoolConfig<'_>) -> Result<Self, Error> {
        Self::make(region, config, &making())
    }

    /// [`create`](Self::create), while no other thread does.
    fn make(
        region: &'static Region,
        config: &PoolConfig<'_>,
        _alone: &MutexGuard<'static, ()>,
    ) -> Result<Self, Error> {
        let shape = config.shape()?;
        let plan = shape.plan();
        if config.cache > 0 {
            tracing::debug!(
                pool = config.name,
                cache = config.cache,
                "each slot has two magazines of {MAGAZINE_LEN} instead of the cache"
            );
        }
        // Before the zone: without an id none must be left behind.
        let id = Self::free_id(region)?.ok_or_else(|| Error::TooManyPools {
            name: config.name.to_owned(),
        })?;
        let zone = match region.reserve(ZoneKind::Pool, config.name, plan.len, PAGE, config.node) {
            Err(eal::Error::NameTaken { .. }) if region.is_primary() => {
                Self::half_made(region, config.name, plan)?
            }
            zone => zone?,
        };
        let pool = Self::open(region, zone, shape, id)?;
        pool.fill(zone.get(0).map_err(eal::Error::from)?);
        Ok(pool)
    }

    /// The zone of a pool that a primary died over before it had filled it.
    fn half_made(region: &'static Region, name: &str, plan: Plan) -> Result<Zone<'static>, Error> {
        let zone = region.lookup(ZoneKind::Pool, name)?;
        let header: &Header = zone.get(0).map_err(eal::Error::from)?;
        if header.read().layout == 0 && zone.len() == plan.len {
            return Ok(zone);
        }
        Err(eal::Error::NameTaken {
            kind: ZoneKind::Pool,
            name: name.to_owned(),
        }
        .into())
    }

    /// The lowest id that no pool has. One thread of one primary at a time makes pools, so nobody else takes it meanwhile.
    ///
    /// A pool that cannot be attached, since its header lies, keeps its id: others may have attached it before.
    fn free_id(region: &'static Region) -> Result<Option<u8>, Error> {
        let mut taken = [false; POOLS_MAX];
        let pools = region.zones().filter(|zone| zone.kind() == ZoneKind::Pool);
        for zone in pools {
            // Too short for a header: never was a pool.
            let Ok(header) = zone.get::<Header>(0) else {
                continue;
            };
            let facts = header.read();
            match facts.layout {
                LAYOUT => {}
                0 => continue,
                // Where it keeps its id, its release knows alone.
                theirs => {
                    return Err(Error::Layout {
                        name: zone.name().to_string(),
                        ours: LAYOUT,
                        theirs,
                    });
                }
            }
            if let Some(taken) = taken.get_mut(facts.id as usize) {
                *taken = true;
            }
        }
        let free = taken.iter().position(|taken| !taken);
        Ok(free.and_then(|id| u8::try_from(id).ok()))
    }

    /// Lists every mbuf in a magazine, and says that the pool is ready.
    fn fill(&self, header: &Header) {
        let mut numbers = (0..self.shape.count).map(|number| MbufIndex::new(self.id, number));
        for (number, magazine) in self.rack.magazines.iter().enumerate() {
            let count = magazine.stock(numbers.by_ref().take(MAGAZINE_LEN));
            self.rack.release(Held {
                magazine,
                number,
                count,
            });
        }
        for tag in self.tags {
            tag.set_pool();
        }
        header.announce(self.id, self.shape);
    }

    /// Finds the pool of that name.
    ///
    /// # Errors
    ///
    /// None of that name, not yet filled, made by another release, or damaged.
    pub fn lookup(region: &'static Region, name: &str) -> Result<Self, Error> {
        Self::attach(region, region.lookup(ZoneKind::Pool, name)?)
    }

    /// Makes the pool if this process is the primary and there is none; else finds it.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create) and [`lookup`](Self::lookup), and if it is there with other numbers.
    pub fn create_or_lookup(
        region: &'static Region,
        config: &PoolConfig<'_>,
    ) -> Result<Self, Error> {
        let missing = |found: &Result<Self, Error>| {
            let none = matches!(
                found,
                Err(Error::Eal(eal::Error::NoZone { .. }) | Error::Unfinished { .. })
            );
            none && region.is_primary()
        };
        let mut found = Self::lookup(region, config.name);
        if missing(&found) {
            // Again, now that no other thread is about to make it.
            let alone = making();
            found = Self::lookup(region, config.name);
            if missing(&found) {
                return Self::make(region, config, &alone);
            }
        }
        let found = found?;
        let ours = config.shape()?;
        if found.shape == ours {
            return Ok(found);
        }
        Err(Error::Different {
            name: config.name.to_owned(),
            theirs: found.shape.to_string(),
            ours: ours.to_string(),
        })
    }

    /// All pools of a group that can be used.
    pub fn all(region: &'static Region) -> impl Iterator<Item = Self> {
        region
            .zones()
            .filter(|zone| zone.kind() == ZoneKind::Pool)
            .filter_map(move |zone| Self::attach(region, zone).ok())
    }

    /// The pool that the indices with this id belong to. Looks through the zones: not for the data path.
    #[must_use]
    pub fn with_id(region: &'static Region, id: u8) -> Option<Self> {
        Self::all(region).find(|pool| pool.id == id)
    }

    /// Reads the header once, checks it, and never looks at it again.
    fn attach(region: &'static Region, zone: Zone<'static>) -> Result<Self, Error> {
        let name = || zone.name().to_string();
        let header: &Header = zone.get(0).map_err(|error| damaged(&zone, error))?;
        let facts = header.read();
        match facts.layout {
            LAYOUT => {}
            0 => return Err(Error::Unfinished { name: name() }),
            theirs => {
                return Err(Error::Layout {
                    name: name(),
                    ours: LAYOUT,
                    theirs,
                });
            }
        }
        let Facts {
            id,
            count,
            data_room,
            private_size,
            ..
        } = facts;
        let id = u8::try_from(id)
            .ok()
            .filter(|id| usize::from(*id) < POOLS_MAX)
            .ok_or_else(|| damaged(&zone, format!("its id is {id}")))?;
        let short = |value: u32| {
            u16::try_from(value).map_err(|_| damaged(&zone, format!("a size of {value} bytes")))
        };
        let config = PoolConfig {
            data_room: short(data_room)?,
            private_size: short(private_size)?,
            ..PoolConfig::new("", count)
        };
        let shape = config.shape().map_err(|error| damaged(&zone, error))?;
        Self::open(region, zone, shape, id)
    }

    /// Views of the parts, all checked against the zone.
    fn open(
        region: &'static Region,
        zone: Zone<'static>,
        shape: Shape,
        id: u8,
    ) -> Result<Self, Error> {
        let plan = shape.plan();
        if zone.len() < plan.len {
            let (len, wanted) = (zone.len(), plan.len);
            return Err(damaged(
                &zone,
                format!("{shape} need {wanted} bytes, and it has {len}"),
            ));
        }
        let out = |error| damaged(&zone, error);
        let count = shape.count as usize;
        let bytes = |offset, stride: u16| -> Result<Bytes, Error> {
            let stride = usize::from(stride);
            let start = zone.raw(offset, count * stride).map_err(out)?;
            Ok(Bytes {
                start,
                count,
                stride,
            })
        };
        Ok(Self {
            region,
            name: zone.name(),
            node: zone.node(),
            id,
            shape,
            tags: zone.slice(plan.tags, count).map_err(out)?,
            briefs: zone.slice(plan.briefs, count).map_err(out)?,
            metas: zone.slice(plan.metas, count).map_err(out)?,
            rack: Rack {
                magazines: zone
                    .slice(plan.magazines, plan.magazine_count)
                    .map_err(out)?,
                hints: zone.slice(plan.hints, plan.magazine_count).map_err(out)?,
            },
            private: bytes(plan.private, shape.private_size)?,
            frames: bytes(plan.frames, shape.data_room)?,
        })
    }

    /// Bytes of zone that such a pool takes: header, hints, magazines, 4 for each tag and each brief, 64 for each meta, private areas, frames.
    ///
    /// # Errors
    ///
    /// A number out of its range.
    pub fn len_for(config: &PoolConfig<'_>) -> Result<usize, Error> {
        Ok(config.shape()?.plan().len)
    }

    /// How many mbufs a pool needs beyond those in flight, so that none runs dry while the rest lies in the magazines
    /// of `slots` slots.
    #[must_use]
    pub const fn reserve_for_slots(slots: usize) -> usize {
        MAGAZINES_PER_SLOT * MAGAZINE_LEN * slots
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> ZoneName {
        self.name
    }

    /// The id in its indices.
    #[inline]
    #[must_use]
    pub fn id(&self) -> u8 {
        self.id
    }

    /// Its mbufs.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.shape.count
    }

    /// Bytes of a frame, headroom included.
    #[inline]
    #[must_use]
    pub fn data_room(&self) -> u16 {
        self.shape.data_room
    }

    /// Bytes of an mbuf's private area.
    #[must_use]
    pub fn private_size(&self) -> u16 {
        self.shape.private_size
    }

    /// The NUMA node of its memory.
    #[must_use]
    pub fn node(&self) -> u32 {
        self.node
    }

    /// The region it lies in.
    #[must_use]
    pub fn region(&self) -> &'static Region {
        self.region
    }

    /// Mbufs that lie in no magazine, roughly: others allocate and free while we count. What a slot keeps in its own
    /// magazines counts as free.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        let free: usize = self.rack.magazines.iter().map(Magazine::count).sum();
        self.shape
            .count
            .saturating_sub(u32::try_from(free).unwrap_or(u32::MAX))
    }

    /// Whether `slot`'s two magazines hold anything, and how many: `forebay pools` shows it.
    #[must_use]
    pub fn cached_by(&self, owner: Owner) -> usize {
        self.magazines()
            .iter()
            .filter(|magazine| magazine.owner() == owner)
            .map(Magazine::count)
            .sum()
    }

    /// Its magazines: for the sweep, the tools and whoever counts.
    #[must_use]
    pub fn magazines(&self) -> &'static [Magazine] {
        self.rack.magazines
    }

    /// Who holds an mbuf, if it is one of this pool.
    #[must_use]
    pub fn holder(&self, index: MbufIndex) -> Option<Holder> {
        Some(self.range().tag(index)?.holder_in_order())
    }

    /// The next segment after an mbuf, if it is one of this pool and has one. Unchecked: follow at most
    /// [`SEGMENTS_MAX`](crate::SEGMENTS_MAX) of them.
    #[must_use]
    pub fn next(&self, index: MbufIndex) -> Option<MbufIndex> {
        let Record { tag, meta, .. } = self.range().find(index)?;
        let next = meta.links().next;
        (tag.read().is_linked() && !next.is_none()).then_some(next)
    }

    /// What there is of an mbuf, if it is one of this pool: what [`Range::find`] tells, for one comparison.
    #[inline]
    pub(crate) fn record(&self, index: MbufIndex) -> Option<Record<'static>> {
        let number = index.bits().wrapping_sub(MbufIndex::new(self.id, 0).bits()) as usize;
        let tag = self.tags.get(number)?;
        // SAFETY: `open`, the only maker of a `Pool`, gave `briefs` and `tags` one length, and `number` is below it.
        let brief = unsafe { self.briefs.get_unchecked(number) };
        // SAFETY: as for `briefs`.
        let meta = unsafe { self.metas.get_unchecked(number) };
        Some(Record { tag, brief, meta })
    }

    #[inline]
    pub(crate) fn range(&self) -> Range<'static> {
        Range {
            tags: self.tags,
            briefs: self.briefs,
            metas: self.metas,
            first: MbufIndex::new(self.id, 0),
        }
    }

    #[inline]
    pub(crate) fn rack(&self) -> Rack<'static> {
        self.rack
    }

    /// Where the array of frames lies in this process, as a device is told of it: its start, and its length. The frame of mbuf
    /// `number` begins `number` times [`data_room`](Self::data_room) behind the start.
    #[must_use]
    pub fn frames(&self) -> (NonNull<u8>, usize) {
        (self.frames.start, self.frames.count * self.frames.stride)
    }

    /// Where `len` bytes at `off` of an mbuf's frame start; `None` if they leave it, or if it is no mbuf of this pool.
    #[inline]
    pub(crate) fn frame(&self, index: MbufIndex, off: usize, len: usize) -> Option<NonNull<u8>> {
        debug_assert_eq!(index.pool(), self.id, "the index of another pool");
        self.frames.at(index.number() as usize, off, len)
    }

    /// Where an mbuf's private area starts; its length is [`private_size`](Self::private_size).
    #[inline]
    pub(crate) fn private(&self, index: MbufIndex) -> Option<NonNull<u8>> {
        self.private
            .at(index.number() as usize, 0, self.private.stride)
    }

    /// Asks the processor to fetch the line of an mbuf's frame where data usually starts.
    #[inline]
    pub(crate) fn prefetch_data(&self, index: MbufIndex) {
        if let Some(data) = self.frame(index, usize::from(HEADROOM), 0) {
            prefetch(data.as_ptr());
        }
    }
}

/// Asks the processor to fetch a line, to be read.
#[inline]
pub(crate) fn prefetch<T>(line: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; it reads nothing that a program could see, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = line;
}

fn damaged(zone: &Zone<'_>, what: impl fmt::Display) -> Error {
    Error::Damaged {
        name: zone.name().to_string(),
        what: what.to_string(),
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name)
            .field("id", &self.id)
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}
