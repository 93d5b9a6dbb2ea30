//! A named ring in a zone of the shared region.
//!
//! The primary creates it; any process finds it by name and claims the ends that it works
//! on. `layout.rs` says where its words lie, `claim.rs` who holds an end, `spsc.rs` and
//! `fanin.rs` how items move.
//!
//! **If a process dies:** an end it held keeps its name; the next [`Ring::producer`] or
//! [`Ring::consumer`] proves the death, takes the end and goes on from the shared positions.

use core::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::claim::{Claim, Purpose, is_open, is_passing, owner_in};
use crate::consumer::{Consumer, Lanes};
use crate::error::Error;
use crate::fanin::{self, LANES_MAX, Limit};
use crate::flags::Flags;
use crate::gauge::{Gauge, Marks};
use crate::layout::{
    CONSUMER_AT, COUNT_DROPS, COUNT_FAULTS, HEADER_WORDS, Header, LAYOUT, MARK_FAULTS, MARK_HIGH,
    MARK_MBUFS, MARK_RISES, MARK_WATERMARK, MARKS_AT, PART_ALIGN, Shape, Unreadable,
};
use crate::producer::Producer;
use crate::slots::Slots;
use crate::spsc::{self, Impossible, Lane};
use crate::sync::{AtomicU32, AtomicU64, CacheLine, Ordering};
use eal::sync::pause;
use eal::{Counter, Owner, Region, SlotId, Zone, ZoneError, ZoneKind, ZoneName};

/// Keeps threads of the primary apart that create: one must not take for unfinished what the
/// other is writing.
static CREATING: Mutex<()> = Mutex::new(());

/// How long somebody may take who only empties the ring.
const PASSING_MAX: Duration = Duration::from_secs(1);
/// How often we look whether he is done.
const POLL: Duration = Duration::from_millis(1);

/// How a fan-in ring is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FanInConfig {
    /// Lanes: slot `i` sends by lane `i`, so one more than the highest slot that sends.
    pub lanes: u8,
    /// Items a lane holds: a power of two.
    pub lane_size: u32,
    /// Items that all lanes together shall hold. Soft: the crate's page on fan-in says by how much.
    pub limit: u32,
}

/// A named ring, as a handle to be copied freely. It moves nothing; its ends do.
#[derive(Debug, Clone, Copy)]
pub struct Ring<'r> {
    region: &'r Region,
    name: ZoneName,
    node: u32,
    shape: Shape,
    parts: Parts<'r>,
}

/// The words of a ring: views into its zone.
#[derive(Debug, Clone, Copy)]
struct Parts<'r> {
    consumer: &'r AtomicU64,
    marks: Marks<'r>,
    /// Impossible positions that the consumer met.
    faults: &'r Counter,
    /// Not zero once mbufs were sent.
    mbufs: &'r AtomicU64,
    producers: &'r [AtomicU64],
    tails: &'r [AtomicU32],
    heads: &'r [CacheLine<AtomicU32>],
    counters: &'r [CacheLine<[Counter; 2]>],
    slots: &'r [AtomicU64],
    /// Words from the first slot of one lane to that of the next, and words of a lane.
    stride: usize,
    lane_words: usize,
}

impl<'r> Parts<'r> {
    /// The parts of a ring of that shape; an error if the zone is too small for it.
    fn view(zone: &Zone<'r>, shape: Shape) -> Result<Self, ZoneError> {
        let (places, lanes) = (shape.places(), shape.lanes as usize);
        let mark = |word| zone.get::<Counter>(MARKS_AT + word * size_of::<u64>());
        let stride = places.lane_stride / size_of::<u64>();
        Ok(Self {
            consumer: zone.get(CONSUMER_AT)?,
            marks: Marks {
                high: mark(MARK_HIGH)?,
                watermark: zone.get(MARKS_AT + MARK_WATERMARK * size_of::<u64>())?,
                rises: mark(MARK_RISES)?,
            },
            faults: mark(MARK_FAULTS)?,
            mbufs: zone.get(MARKS_AT + MARK_MBUFS * size_of::<u64>())?,
            producers: zone.slice(places.producers, lanes)?,
            tails: zone.slice(places.tails, lanes)?,
            heads: zone.slice(places.heads, lanes)?,
            counters: zone.slice(places.counters, lanes)?,
            slots: zone.slice(places.slots, lanes.saturating_mul(stride))?,
            stride,
            lane_words: shape.size as usize / 2,
        })
    }

    /// The lane of that number.
    fn lane(&self, number: usize) -> Option<Lane<'r>> {
        let words = self
            .slots
            .get(number.checked_mul(self.stride)?..)?
            .get(..self.lane_words)?;
        Some(Lane {
            tail: self.tails.get(number)?,
            head: &self.heads.get(number)?.0,
            slots: Slots::new(words)?,
        })
    }

    fn lanes(&self) -> impl Iterator<Item = Lane<'r>> {
        let parts = *self;
        (0..parts.tails.len()).filter_map(move |number| parts.lane(number))
    }
}

impl<'r> Ring<'r> {
    /// Creates a ring of `size` slots, all of them usable. For the primary.
    ///
    /// With `SC_DEQ` alone every slot of the group has a lane of `size`, and the limit is `size`;
    /// [`create_fan_in`](Self::create_fan_in) needs less memory.
    ///
    /// # Errors
    ///
    /// A size that is no power of two from 2 to [`RING_SIZE_MAX`](crate::RING_SIZE_MAX), flags of a ring with many consumers,
    /// a name that is taken or may not be one, no room, not the primary.
    pub fn create(
        region: &'r Region,
        name: &str,
        size: u32,
        node: Option<u32>,
        flags: Flags,
    ) -> Result<Self, Error> {
        let shape = Self::shape_for(name, size, flags)?;
        Self::make(region, name, shape, node)
    }

    /// Creates a fan-in ring. For the primary.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create), and a number of lanes or a limit that cannot be.
    pub fn create_fan_in(
        region: &'r Region,
        name: &str,
        config: FanInConfig,
        node: Option<u32>,
    ) -> Result<Self, Error> {
        let FanInConfig {
            lanes,
            lane_size,
            limit,
        } = config;
        let shape = Shape::new(name, Flags::SC_DEQ, lane_size, lanes.into(), limit)?;
        Self::make(region, name, shape, node)
    }

    /// Finds a ring.
    ///
    /// # Errors
    ///
    /// There is none of that name, it is not finished, another build made it, or it is damaged.
    pub fn lookup(region: &'r Region, name: &str) -> Result<Self, Error> {
        Self::open(region, &region.lookup(ZoneKind::Ring, name)?)
    }

    /// Creates the ring in the primary, finds it in a secondary. A primary that takes a group
    /// over finds it as well.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create) and [`lookup`](Self::lookup); [`Error::Differs`] when it exists with other parameters.
    pub fn create_or_lookup(
        region: &'r Region,
        name: &str,
        size: u32,
        node: Option<u32>,
        flags: Flags,
    ) -> Result<Self, Error> {
        let ours = Self::shape_for(name, size, flags)?;
        let found = match Self::lookup(region, name) {
            Err(Error::Eal(eal::Error::NoZone { .. }) | Error::Unfinished { .. })
                if region.is_primary() =>
            {
                Self::make(region, name, ours, node)
            }
            found => found,
        }?;
        if found.shape == ours {
            return Ok(found);
        }
        let (theirs, ours) = (found.shape.to_string(), ours.to_string());
        Err(Error::Differs {
            name: name.to_owned(),
            theirs,
            ours,
        })
    }

    /// All rings of the group that are finished and sound.
    pub fn all(region: &'r Region) -> impl Iterator<Item = Self> {
        let rings = region.zones().filter(|zone| zone.kind() == ZoneKind::Ring);
        rings.filter_map(|zone| Self::open(region, &zone).ok())
    }

    fn shape_for(name: &str, size: u32, flags: Flags) -> Result<Shape, Error> {
        let one = flags.has(Flags::SP_ENQ);
        let lanes = if one { 1 } else { spsc::saturated(LANES_MAX) };
        Shape::new(name, flags, size, lanes, size)
    }

    fn make(
        region: &'r Region,
        name: &str,
        shape: Shape,
        node: Option<u32>,
    ) -> Result<Self, Error> {
        let _one_at_a_time = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
        let len = shape.places().len;
        let zone = match region.reserve(ZoneKind::Ring, name, len, PART_ALIGN, node) {
            // A primary that died before it announced the ring left an unused zone.
            Err(taken @ eal::Error::NameTaken { .. }) => {
                let zone = region.lookup(ZoneKind::Ring, name)?;
                if !matches!(header(&zone)?.read(), Err(Unreadable::Unfinished)) {
                    return Err(taken.into());
                }
                zone
            }
            reserved => reserved?,
        };
        // Looked at before it is announced: an unfinished zone may be of another shape.
        Parts::view(&zone, shape).map_err(eal::Error::from)?;
        header(&zone)?.announce(shape);
        Self::open(region, &zone)
    }

    fn open(region: &'r Region, zone: &Zone<'r>) -> Result<Self, Error> {
        let name = || zone.name().to_string();
        let damaged = |what: String| Error::Damaged { name: name(), what };
        let shape = header(zone)?.read().map_err(|why| match why {
            Unreadable::Unfinished => Error::Unfinished { name: name() },
            Unreadable::Layout(theirs) => Error::Layout {
                name: name(),
                ours: LAYOUT,
                theirs,
            },
            Unreadable::Damaged => damaged("its header describes no ring".to_owned()),
        })?;
        let parts = Parts::view(zone, shape).map_err(|why| damaged(why.to_string()))?;
        Ok(Self {
            region,
            name: zone.name(),
            node: zone.node(),
            shape,
            parts,
        })
    }

    /// Claims the producing end, or the lane of the owner's slot in a fan-in ring.
    ///
    /// # Errors
    ///
    /// [`Error::Taken`] while a living owner has it, [`Error::NoLane`] when the slot has none,
    /// [`Error::Damaged`] when its positions cannot be; a tool that only looks may claim nothing.
    pub fn producer(&self, owner: Owner) -> Result<Producer<'r>, Error> {
        let slot = self.slot_of(owner)?;
        let number = if self.is_fan_in() { slot.index() } else { 0 };
        let no_lane = || Error::NoLane {
            name: self.name.to_string(),
            slot,
            lanes: self.shape.lanes,
        };
        let (Some(lane), Some(word), Some(counters)) = (
            self.parts.lane(number),
            self.parts.producers.get(number),
            self.parts.counters.get(number),
        ) else {
            return Err(no_lane());
        };
        let claim = self.claim("producer", word, owner, Purpose::Produce)?;
        self.checked(lane)?;
        let limit = Limit::new(
            self.parts.tails,
            self.parts.heads,
            self.shape.size,
            self.shape.limit,
        );
        let limit = limit.filter(|_| self.is_fan_in());
        let lane = fanin::Producer::attach(lane, limit, &counters.0[COUNT_FAULTS]);
        Ok(Producer::new(
            lane,
            self.parts.consumer,
            &counters.0[COUNT_DROPS],
            self.region,
            self.parts.mbufs,
            claim,
        ))
    }

    /// Claims the consuming end and opens the ring.
    ///
    /// # Errors
    ///
    /// [`Error::Taken`] while a living owner has it, [`Error::Damaged`] when its positions
    /// cannot be. For one who only [drains](Self::drain) the ring it waits, for a second at most.
    pub fn consumer(&self, owner: Owner) -> Result<Consumer<'r>, Error> {
        self.consume(owner, Purpose::Consume)
    }

    /// Claims the consuming end for a moment and leaves the ring closed: to empty what a dead consumer left.
    ///
    /// # Errors
    ///
    /// As for [`consumer`](Self::consumer).
    pub fn drain(&self, owner: Owner) -> Result<Consumer<'r>, Error> {
        self.consume(owner, Purpose::Drain)
    }

    fn consume(&self, owner: Owner, purpose: Purpose) -> Result<Consumer<'r>, Error> {
        self.slot_of(owner)?;
        let claim = self.claim("consumer", self.parts.consumer, owner, purpose)?;
        let faults = self.parts.faults;
        let lanes = if self.is_fan_in() {
            // A damaged lane gives nothing and is counted; the others go on.
            Lanes::Many(fanin::Consumer::attach(self.parts.lanes(), faults))
        } else {
            let lane = self
                .parts
                .lane(0)
                .ok_or_else(|| self.damaged("it has no lane".to_owned()))?;
            self.checked(lane)?;
            Lanes::One(spsc::Consumer::attach(lane, faults))
        };
        Ok(Consumer::new(
            lanes,
            Gauge::new(self.parts.marks),
            self.parts.producers,
            claim,
        ))
    }

    fn slot_of(&self, owner: Owner) -> Result<SlotId, Error> {
        if !self.region.is_writable() {
            let what = "claim an end of a ring";
            return Err(eal::Error::ReadOnly { what }.into());
        }
        owner.slot().ok_or_else(|| Error::Nobody {
            name: self.name.to_string(),
        })
    }

    fn claim(
        &self,
        end: &'static str,
        word: &'r AtomicU64,
        owner: Owner,
        purpose: Purpose,
    ) -> Result<Claim<'r>, Error> {
        let start = Instant::now();
        let claim = loop {
            match Claim::take(word, owner, purpose, |holder| {
                self.region.owner_alive(holder)
            }) {
                Err(held)
                    if purpose == Purpose::Consume
                        && is_passing(held)
                        && start.elapsed() < PASSING_MAX =>
                {
                    pause(POLL);
                }
                outcome => break outcome,
            }
        };
        claim.map_err(|held| {
            let name = self.name.to_string();
            match owner_in(held).slot() {
                Some(slot) => {
                    let pid = self
                        .region
                        .slots()
                        .get(slot.index())
                        .map_or(0, |record| record.pid());
                    if is_passing(held) && purpose == Purpose::Consume {
                        Error::Emptied { name, slot, pid }
                    } else {
                        Error::Taken {
                            name,
                            end,
                            slot,
                            pid,
                        }
                    }
                }
                None => self.damaged(format!("the word of its {end} changes all the time")),
            }
        })
    }

    /// The lane, if its ends are where they can be.
    fn checked(&self, lane: Lane<'r>) -> Result<(), Error> {
        lane.check().map_err(|Impossible { head, tail }| {
            self.damaged(format!("head {head} and tail {tail} are too far apart"))
        })
    }

    fn damaged(&self, what: String) -> Error {
        Error::Damaged {
            name: self.name.to_string(),
            what,
        }
    }

    /// Its name.
    pub fn name(&self) -> ZoneName {
        self.name
    }

    /// Items that it holds; in a fan-in ring, that each lane holds.
    pub fn size(&self) -> u32 {
        self.shape.size
    }

    /// Items that it shall hold in all: [`size`](Self::size), or the limit of a fan-in ring.
    pub fn limit(&self) -> u32 {
        self.shape.limit
    }

    /// Lanes: 1, or those of a fan-in ring.
    pub fn lanes(&self) -> u32 {
        self.shape.lanes
    }

    /// How many may enqueue and dequeue.
    pub fn flags(&self) -> Flags {
        self.shape.flags
    }

    /// The NUMA node of its memory.
    pub fn node(&self) -> u32 {
        self.node
    }

    fn is_fan_in(&self) -> bool {
        !self.shape.flags.has(Flags::SP_ENQ)
    }

    /// How many items wait, as one look at moving ends can tell.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a look at a moving thing: compare the number"
    )]
    pub fn len(&self) -> usize {
        self.parts.lanes().map(|lane| lane.len() as usize).sum()
    }

    /// Whether mbufs were ever sent through it, so that what waits in it belongs to pools.
    pub fn carries_mbufs(&self) -> bool {
        self.parts.mbufs.load(Ordering::Relaxed) != 0
    }

    /// Whether the ends of all lanes are where they can be, as far as a look at moving ends can tell: look again before you
    /// believe an error.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`].
    pub fn check(&self) -> Result<(), Error> {
        self.parts.lanes().try_for_each(|lane| self.checked(lane))
    }

    /// Shows every item that waits, in all lanes, while the ends may move: those taken or added meanwhile may be among them. An
    /// item that is not shown was taken before, and what its taker wrote before it let go of the slot is seen. For the sweep
    /// and for who checks.
    pub fn walk(&self, mut item: impl FnMut(u32)) {
        self.parts.lanes().for_each(|lane| lane.walk(&mut item));
    }

    /// Whether somebody consumes, or did when it died.
    pub fn is_open(&self) -> bool {
        is_open(self.parts.consumer.load(Ordering::Relaxed))
    }

    /// The most items that the consumer saw waiting.
    pub fn high_water(&self) -> u64 {
        self.parts.marks.high.get()
    }

    /// The fill that counts as high, if one was set.
    pub fn watermark(&self) -> Option<u64> {
        Some(self.parts.marks.watermark.load(Ordering::Relaxed)).filter(|fill| *fill > 0)
    }

    /// How often the consumer saw the fill rise to the watermark.
    pub fn watermark_hits(&self) -> u64 {
        self.parts.marks.rises.get()
    }

    /// Items that producers dropped because they were not taken.
    pub fn drops(&self) -> u64 {
        self.counted(COUNT_DROPS)
    }

    /// Looks that found the other end where it cannot be: something scribbles over the ring.
    pub fn faults(&self) -> u64 {
        self.counted(COUNT_FAULTS)
            .wrapping_add(self.parts.faults.get())
    }

    fn counted(&self, word: usize) -> u64 {
        let counts = self.parts.counters.iter().map(|line| line.0[word].get());
        counts.fold(0, u64::wrapping_add)
    }

    /// Who produces, or did and left something: slot, items waiting, items dropped. In a ring
    /// with one producer, whoever holds its end.
    pub fn producers(&self) -> impl Iterator<Item = (SlotId, usize, u64)> + use<'r> {
        let (parts, fan_in) = (self.parts, self.is_fan_in());
        let lanes = parts.producers.iter().zip(parts.counters).enumerate();
        lanes.filter_map(move |(number, (word, counters))| {
            let owner = owner_in(word.load(Ordering::Relaxed));
            let len = parts.lane(number).map_or(0, |lane| lane.len() as usize);
            let drops = counters.0[COUNT_DROPS].get();
            let slot = if fan_in {
                SlotId::new(u8::try_from(number).ok()?)
            } else {
                owner.slot()
            };
            (owner != Owner::NONE || len > 0 || drops > 0).then_some((slot?, len, drops))
        })
    }

    /// Who consumes, or did when it died; [`Owner::NONE`] for nobody.
    pub fn consumer_owner(&self) -> Owner {
        owner_in(self.parts.consumer.load(Ordering::Relaxed))
    }
}

fn header<'r>(zone: &Zone<'r>) -> Result<Header<'r>, Error> {
    Ok(Header(
        zone.get::<[AtomicU64; HEADER_WORDS]>(0)
            .map_err(eal::Error::from)?,
    ))
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            flags,
            size,
            lanes,
            limit,
        } = self;
        write!(f, "{size} slots, flags {flags}")?;
        if *lanes > 1 {
            write!(f, ", {lanes} lanes, limit {limit}")?;
        }
        Ok(())
    }
}
