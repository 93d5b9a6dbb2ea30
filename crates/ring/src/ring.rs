//! A named ring in a zone of the shared region.
//!
//! The primary creates it; any process finds it by name and claims the ends that it works
//! on. `layout.rs` says where its words lie, `claim.rs` who holds an end, `spsc.rs`,
//! `fanin.rs` and `mpmc.rs` how items move.
//!
//! **If a process dies:** an end it held keeps its name; the next [`Ring::producer`] or
//! [`Ring::consumer`] proves the death, takes the end and goes on from the shared positions.

use core::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::claim::{Claim, Purpose, is_passing, owner_in};
use crate::consumer::{Consumer, Lanes};
use crate::error::Error;
use crate::fanin::{self, LANES_MAX, Limit};
use crate::flags::Flags;
use crate::gauge::Gauge;
use crate::layout::{HEADER_WORDS, Header, Kind, LAYOUT, PART_ALIGN, Shape, Unreadable};
use crate::mpmc::{self, Array, LeftClaim, Odd};
use crate::parts::Parts;
use crate::producer::{self, Producer};
use crate::spsc::{self, Impossible, Lane};
use crate::sync::{AtomicU64, Ordering};
use eal::sync::pause;
use eal::{Owner, Region, SlotId, Zone, ZoneKind, ZoneName};

/// Keeps threads of the primary apart that create: one must not take for unfinished what the
/// other is writing.
static CREATING: Mutex<()> = Mutex::new(());

/// How long somebody may take who only empties the ring.
const PASSING_MAX: Duration = Duration::from_secs(1);
/// How often we look whether he is done.
const POLL: Duration = Duration::from_millis(1);

/// Looks at an array whose ends move, until it is said to be damaged.
const LOOKS: usize = 16;

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

impl<'r> Ring<'r> {
    /// Creates a ring for `size` items. For the primary.
    ///
    /// The flags say how many may enqueue and dequeue, and whether the size may be any number: see [`Flags`].
    /// With `SC_DEQ` alone every slot of the group has a lane of `size`, and the limit is `size`;
    /// [`create_fan_in`](Self::create_fan_in) needs less memory.
    ///
    /// # Errors
    ///
    /// A size that is no power of two from 2 to [`RING_SIZE_MAX`](crate::RING_SIZE_MAX) without `EXACT_SZ`,
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
        let lanes = match Kind::of(flags) {
            Kind::FanIn => spsc::saturated(LANES_MAX),
            Kind::One | Kind::Mpmc => 1,
        };
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

    /// Claims the producing end, or where there are many that of the owner's slot.
    ///
    /// # Errors
    ///
    /// [`Error::Taken`] while a living owner has it, [`Error::NoLane`] when the slot has none,
    /// [`Error::Damaged`] when its positions cannot be; a tool that only looks may claim nothing.
    pub fn producer(&self, owner: Owner) -> Result<Producer<'r>, Error> {
        let slot = self.slot_of(owner)?;
        let number = if self.shape.flags.has(Flags::SP_ENQ) {
            0
        } else {
            slot.index()
        };
        let no_lane = || Error::NoLane {
            name: self.name.to_string(),
            slot,
            lanes: self.shape.lanes,
        };
        let (Some(word), Some((drops, faults))) =
            (self.parts.producers.get(number), self.parts.counts(number))
        else {
            return Err(no_lane());
        };
        let claim;
        let end = if let Some(array) = self.parts.array() {
            claim = self.claim("producer", word, owner, Purpose::Produce)?;
            self.sound(array)?;
            producer::Lane::Shared(mpmc::Producer::attach(array, faults))
        } else {
            let lane = self.parts.lane(number).ok_or_else(no_lane)?;
            claim = self.claim("producer", word, owner, Purpose::Produce)?;
            self.checked(lane)?;
            let limit = Limit::new(
                self.parts.tails,
                self.parts.heads,
                self.shape.size,
                self.shape.limit,
            );
            let limit = limit.filter(|_| self.shape.kind() == Kind::FanIn);
            producer::Lane::Own(fanin::Producer::attach(lane, limit, faults))
        };
        let producer = Producer::new(
            end,
            self.parts.consumers,
            drops,
            self.region,
            self.parts.sleepers,
            self.parts.mbufs,
            claim,
        );
        producer.ok_or_else(|| self.damaged("it has no end to consume".to_owned()))
    }

    /// Claims the consuming end, or where there are many that of the owner's slot, and opens the ring.
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
        let slot = self.slot_of(owner)?;
        let number = match self.shape.kind() {
            Kind::Mpmc => slot.index(),
            Kind::One | Kind::FanIn => 0,
        };
        let end = self.parts.consumers.get(number);
        let end = end.ok_or_else(|| self.damaged("it has no such end".to_owned()))?;
        let claim = self.claim("consumer", end, owner, purpose)?;
        let own = self.parts.own(number);
        let lanes = match self.parts.array() {
            Some(array) => {
                self.sound(array)?;
                // The last one in this slot may have died asleep.
                self.parts.sleepers.set(slot, false);
                Lanes::Shared(mpmc::Consumer::attach(array, slot, own.faults))
            }
            // A damaged lane gives nothing and is counted; the others go on.
            None if self.shape.kind() == Kind::FanIn => {
                Lanes::Many(fanin::Consumer::attach(self.parts.lanes(), own.faults))
            }
            None => {
                let lane = self.parts.lane(0);
                let lane = lane.ok_or_else(|| self.damaged("it has no lane".to_owned()))?;
                self.checked(lane)?;
                Lanes::One(spsc::Consumer::attach(lane, own.faults))
            }
        };
        Ok(Consumer::new(
            lanes,
            Gauge::new(own.marks),
            self.parts.producers,
            self.parts.sleepers,
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

    /// The array, if its slots and hints are what they can be. Ends move meanwhile: what is odd is looked at again.
    fn sound(&self, array: Array<'r>) -> Result<(), Error> {
        let mut odd = array.check();
        for _ in 1..LOOKS {
            if odd.is_ok() {
                break;
            }
            odd = array.check();
        }
        odd.map_err(|odd| {
            self.damaged(match odd {
                Odd::Hints { head, tail } => {
                    format!("head {head} and tail {tail} are too far apart")
                }
                Odd::Slot { number, word } => format!("slot {number} says {word:#018x}"),
            })
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

    /// How many items wait, as one look at moving ends can tell.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a look at a moving thing: compare the number"
    )]
    pub fn len(&self) -> usize {
        match self.parts.array() {
            Some(array) => array.len() as usize,
            None => self.parts.lanes().map(|lane| lane.len() as usize).sum(),
        }
    }

    /// Whether mbufs were ever sent through it, so that what waits in it belongs to pools.
    pub fn carries_mbufs(&self) -> bool {
        self.parts.mbufs.load(Ordering::Relaxed) != 0
    }

    /// Whether the ends of all lanes, or all slots of many consumers, are where they can be, as far as a look at moving ends can tell: look again before you
    /// believe an error.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`].
    pub fn check(&self) -> Result<(), Error> {
        match self.parts.array() {
            Some(array) => self.sound(array),
            None => self.parts.lanes().try_for_each(|lane| self.checked(lane)),
        }
    }

    /// Shows every item that waits, in all lanes, while the ends may move: those taken or added meanwhile may be among them. An
    /// item that is not shown was taken before, and what its taker wrote before it let go of the slot is seen. Of a ring with
    /// many consumers, what they have claimed and not closed as well. For the sweep and for who checks.
    pub fn walk(&self, mut item: impl FnMut(u32)) {
        match self.parts.array() {
            Some(array) => array.walk(item),
            None => self.parts.lanes().for_each(|lane| lane.walk(&mut item)),
        }
    }

    /// What consumers of many have claimed who will never close it, as `is_gone` says of slots that nobody living has. Give the
    /// item a new owner, then close it. For the sweep.
    pub fn left_claims(
        &self,
        is_gone: impl Fn(SlotId) -> bool,
    ) -> impl Iterator<Item = LeftClaim<'r>> {
        let array = self.parts.array();
        array
            .into_iter()
            .flat_map(move |array| array.left_claims(&is_gone).collect::<Vec<_>>())
    }

    /// Gives the ends of dead consumers back, where there are many, so that producers see when nobody is left. For the sweep.
    pub fn forget_dead_consumers(&self) {
        if self.shape.kind() != Kind::Mpmc {
            return;
        }
        for word in self.parts.consumers {
            let seen = word.load(Ordering::Relaxed);
            if owner_in(seen) != Owner::NONE && !self.region.owner_alive(owner_in(seen)) {
                // Relaxed: nothing is handed on by it. Only from the very word that was read: a successor keeps its own.
                let _ = word.compare_exchange(seen, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// Whether somebody consumes, or did when it died.
    pub fn is_open(&self) -> bool {
        self.parts.is_open()
    }

    /// The most items that a consumer saw waiting.
    pub fn high_water(&self) -> u64 {
        self.parts.high_water()
    }

    /// The fill that counts as high, if one was set.
    pub fn watermark(&self) -> Option<u64> {
        Some(self.parts.watermark()).filter(|fill| *fill > 0)
    }

    /// How often the consumer saw the fill rise to the watermark.
    pub fn watermark_hits(&self) -> u64 {
        self.parts.rises()
    }

    /// Items that producers dropped because they were not taken.
    pub fn drops(&self) -> u64 {
        self.parts.drops()
    }

    /// Looks that found the other end where it cannot be: something scribbles over the ring.
    pub fn faults(&self) -> u64 {
        self.parts.faults()
    }

    /// Who produces, or did and left something: slot, items waiting, items dropped. In a ring
    /// with one producer, whoever holds its end. Whose the items are that wait for many consumers, nobody knows: 0 of each.
    pub fn producers(&self) -> impl Iterator<Item = (SlotId, usize, u64)> + use<'r> {
        let parts = self.parts;
        let is_single = self.shape.flags.has(Flags::SP_ENQ);
        let ends = parts.producers.iter().enumerate();
        ends.filter_map(move |(number, word)| {
            let owner = owner_in(word.load(Ordering::Relaxed));
            let len = parts.lane(number).map_or(0, |lane| lane.len() as usize);
            let drops = parts.counts(number).map_or(0, |(drops, _)| drops.get());
            let slot = if is_single {
                owner.slot()
            } else {
                SlotId::new(u8::try_from(number).ok()?)
            };
            (owner != Owner::NONE || len > 0 || drops > 0).then_some((slot?, len, drops))
        })
    }

    /// Who consumes, or did when it died: several, where there are many.
    pub fn consumers(&self) -> impl Iterator<Item = Owner> + use<'r> {
        let words = self.parts.consumers.iter();
        let owners = words.map(|word| owner_in(word.load(Ordering::Relaxed)));
        owners.filter(|owner| *owner != Owner::NONE)
    }

    /// Who consumes, or did when it died; [`Owner::NONE`] for nobody. Of many, one of them.
    pub fn consumer_owner(&self) -> Owner {
        self.consumers().next().unwrap_or(Owner::NONE)
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
