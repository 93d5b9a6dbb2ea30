//! Processes of a group: roles, slots, and who is alive.
//!
//! A *slot* is the place of one data-path thread in the process table; a process with several takes several. The table is the
//! first thing in the data part of a region.
//!
//! ```text
//! slot 0  line 0 | state pid proc_type started name      |
//!         line 1 | sleeping core spare                   |
//!         line 2 | counters of the loop                  |
//!         line 3 | counters of buffers                   |
//! slot 1  ...
//! state   bits 0..8 FREE, LIVE or SWEEPING; 8..32 generation
//! owner   bits 0..8 slot + 1, 0 for nobody; 8..32 generation
//! ```
//!
//! | part            | written by                                                                      | read by   |
//! |-----------------|---------------------------------------------------------------------------------|-----------|
//! | state           | by compare-and-swap: FREE to LIVE by who holds the slot's lock byte, LIVE to SWEEPING to FREE by the primary; LIVE to FREE by its owner | everybody |
//! | the rest        | the owner of the slot                                                           | everybody |
//!
//! **If a process dies:** the kernel lets go of the slot's lock byte and the state stays LIVE. That is how the dead are told: LIVE
//! and not locked. Nobody takes such a slot before the primary has swept what its occupant held. A process killed between locking
//! and LIVE leaves a FREE slot, one killed between FREE and unlocking likewise. Texts and counters may be half written and are
//! only shown.

use core::fmt;
use core::str::FromStr;

use crate::counters::Counter;
use crate::doorbell::Doorbell;
use crate::error::Error;
use crate::region::Region;
use crate::sync::{AtomicU32, AtomicU64, Ordering, mutated};
use crate::sys;
use crate::text::Text;

/// Slots of a group. A set of slots fits a word.
pub const SLOTS_MAX: usize = if cfg!(forebay_model) { 6 } else { 64 };

/// Slots that only a primary may take: for two threads of a primary and two of its successor. Secondaries that are killed while no
/// primary sweeps must not fill the table, or none could ever start again.
pub const PRIMARY_SLOTS: usize = if cfg!(forebay_model) { 0 } else { 4 };

/// Number of a slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct SlotId(u8);

impl SlotId {
    /// Slot `id`, if there is such a slot.
    #[inline]
    pub const fn new(id: u8) -> Option<Self> {
        if (id as usize) < SLOTS_MAX {
            Some(Self(id))
        } else {
            None
        }
    }

    /// The number.
    #[inline]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The number, to index an array of [`SLOTS_MAX`] with.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// All slots, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map_while(Self::new)
    }
}

/// Some of the slots of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct SlotSet(u64);

const _: () = assert!(SLOTS_MAX <= 64);

impl SlotSet {
    /// None.
    pub const EMPTY: Self = Self(0);

    /// Whether the slot is one of them.
    #[inline]
    pub const fn contains(self, slot: SlotId) -> bool {
        self.0 & (1 << slot.0) != 0
    }

    /// Adds one.
    pub fn insert(&mut self, slot: SlotId) {
        self.0 |= 1 << slot.0;
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many there are.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// All of them, in order.
    pub fn iter(self) -> impl Iterator<Item = SlotId> {
        SlotId::all().filter(move |slot| self.contains(*slot))
    }
}

impl FromIterator<SlotId> for SlotSet {
    fn from_iter<I: IntoIterator<Item = SlotId>>(slots: I) -> Self {
        let mut set = Self::EMPTY;
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, slot) in self.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{slot}")?;
        }
        Ok(())
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Who owns a thing in shared memory: a slot and its generation, or nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(transparent)]
pub struct Owner(u32);

impl Owner {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// The occupant of `slot` in its `generation`.
    #[inline]
    pub const fn new(slot: SlotId, generation: u32) -> Self {
        Self((slot.0 as u32 + 1) | generation << 8)
    }

    /// A word read from shared memory.
    #[inline]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The word that lies in shared memory.
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The slot; `None` for nobody, and for a damaged word.
    #[inline]
    pub const fn slot(self) -> Option<SlotId> {
        match self.0.to_le_bytes() {
            [0, ..] => None,
            [slot, ..] => SlotId::new(slot - 1),
        }
    }

    /// Which occupant of the slot.
    #[inline]
    pub const fn generation(self) -> u32 {
        self.0 >> 8
    }
}

/// What a slot is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotState {
    /// To be had.
    Free,
    /// Somebody's, who lives if the slot's lock byte is held.
    Live,
    /// The primary is giving back what the last occupant held.
    Sweeping,
    /// A damaged word.
    Invalid,
}

/// A mistake that the crash model makes, to show that it would see it.
const TAKES_UNLOCKED: &str = "a joiner takes a slot that is merely unlocked";

const FREE: u64 = 0;
const LIVE: u64 = 1;
const SWEEPING: u64 = 2;
const GENERATION_MASK: u32 = (1 << 24) - 1;

/// State word of a slot. Bits above its own are dropped.
const fn state_word(state: u64, generation: u32) -> u64 {
    state | ((generation & GENERATION_MASK) as u64) << 8
}

/// The generation in a state word.
const fn generation_of(word: u64) -> u32 {
    let [_, a, b, c, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, 0])
}

/// What a state word says. With bits where none belong it says nothing.
pub(crate) const fn read_state(word: u64) -> (SlotState, u32) {
    let generation = generation_of(word);
    let state = match word & !state_word(0, GENERATION_MASK) {
        FREE => SlotState::Free,
        LIVE => SlotState::Live,
        SWEEPING => SlotState::Sweeping,
        _ => SlotState::Invalid,
    };
    (state, generation)
}

/// One slot of the process table.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct SlotRecord {
    pub(crate) state: AtomicU64,
    pub(crate) pid: AtomicU32,
    pub(crate) proc_type: AtomicU32,
    pub(crate) started: AtomicU64,
    pub(crate) name: Text<5>,

    /// Not zero while its thread sleeps or is about to. Written by the owner alone.
    pub sleeping: AtomicU32,
    pub(crate) core: AtomicU32,
    pub(crate) spare: [AtomicU32; 14],

    /// What the thread's loop counts.
    pub run: RunCounters,
    /// What the thread counts of buffers.
    pub buffers: BufferCounters,
}

/// What the loop of a data-path thread counts.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RunCounters {
    /// Times round the loop: the heartbeat.
    pub loops: Counter,
    /// Nanoseconds in rounds that found work.
    pub busy_ns: Counter,
    /// Nanoseconds in rounds that found none, awake.
    pub idle_ns: Counter,
    /// Times it went to sleep.
    pub sleeps: Counter,
    /// Sleeps that timed out while there was work: each one is a bug.
    pub late: Counter,
    /// Packets received.
    pub rx: Counter,
    /// Packets sent.
    pub tx: Counter,
    /// The longest a round took, in nanoseconds, less the wait for a core; only counted where asked for.
    pub stall_ns: Counter,
}

/// What a data-path thread counts of buffers.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct BufferCounters {
    /// Allocations that found the pool empty.
    pub alloc_failed: Counter,
    /// Indices received that are in no pool.
    pub bad_index: Counter,
    /// Buffers received whose holder was not who may have sent them.
    pub bad_holder: Counter,
    /// Clones by reference that were copied, since they left the slot.
    pub clones_copied: Counter,
    /// Chains cut off for their length.
    pub chain_too_long: Counter,
    /// Positions of a peer that were impossible.
    pub bad_position: Counter,
    /// Entries of a magazine that named no free mbuf.
    pub bad_entry: Counter,
    /// Frees that found no magazine with room.
    pub no_room: Counter,
}

#[cfg(not(loom))]
const _: () = assert!(
    size_of::<SlotRecord>() == 256
        && size_of::<RunCounters>() == 64
        && size_of::<BufferCounters>() == 64
);

impl SlotRecord {
    /// What the slot is doing, and in which generation.
    pub fn state(&self) -> (SlotState, u32) {
        // Acquire: what the former occupant or the sweep did before is seen by who finds it FREE. Pairs with the Release of
        // `Slot::drop` and with the compare-and-swaps of `claim_from` and the sweep.
        read_state(self.state.load(Ordering::Acquire))
    }

    /// The occupant's process id, for texts only.
    pub fn pid(&self) -> u32 {
        // Relaxed, here and below: shown, never relied upon.
        self.pid.load(Ordering::Relaxed)
    }

    /// The occupant's role.
    pub fn proc_type(&self) -> ProcType {
        ProcType::from_number(self.proc_type.load(Ordering::Relaxed))
    }

    /// Unix time in seconds at which the slot was taken.
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// What the occupant calls itself.
    pub fn name(&self) -> String {
        self.name.get()
    }

    /// The core that the occupant's thread is pinned to, if it said so.
    pub fn core(&self) -> Option<u32> {
        self.core.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Stands for the slot's doorbell in the crash model.
    #[cfg(forebay_model)]
    pub fn bell(&self) -> &AtomicU32 {
        &self.spare[0]
    }

    /// Says which core the thread is pinned to. For the owner of the slot.
    pub fn set_core(&self, core: u32) {
        self.core.store(core.wrapping_add(1), Ordering::Relaxed);
    }

    /// FREE to LIVE in the next generation; `None` if it is not FREE. The caller holds the lock byte.
    fn claim_from_free(&self) -> Option<u32> {
        let (state, generation) = self.state();
        let from = match state {
            SlotState::Free => state_word(FREE, generation),
            SlotState::Live if mutated(TAKES_UNLOCKED) => state_word(LIVE, generation),
            _ => return None,
        };
        let next = generation.wrapping_add(1) & GENERATION_MASK;
        let to = state_word(LIVE, next);
        // Acquire: as in `state`. Release: nobody takes anything from before this as the new occupant's.
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .ok()?;
        Some(next)
    }

    /// The state word as it lies there, to be judged and swapped from.
    pub(crate) fn state_bits(&self) -> u64 {
        // Acquire: as in `state`.
        self.state.load(Ordering::Acquire)
    }

    /// `word` to SWEEPING in the same generation; says whether the word was still that.
    pub(crate) fn start_sweep(&self, word: u64) -> bool {
        // Acquire: what the dead did is seen. Release: nobody sees the sweep before SWEEPING.
        self.state
            .compare_exchange(
                word,
                state_word(SWEEPING, generation_of(word)),
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// SWEEPING to FREE, when nothing of the last occupant is left.
    pub(crate) fn end_sweep(&self) {
        let (state, generation) = self.state();
        if state == SlotState::Sweeping {
            // Release: the next occupant finds all that the sweep gave back. Pairs with the Acquire in `state`.
            self.state
                .store(state_word(FREE, generation), Ordering::Release);
        }
    }

    /// LIVE to FREE. For the owner, when it holds nothing any more.
    fn give_back(&self, generation: u32) {
        let (from, to) = (state_word(LIVE, generation), state_word(FREE, generation));
        // Release: all that the occupant gave back is seen by who finds the slot FREE: pairs with the Acquire in `state`. Failing
        // means that the word was damaged; then it is not ours to change.
        let _ = self
            .state
            .compare_exchange(from, to, Ordering::Release, Ordering::Relaxed);
    }

    /// What the new occupant says of itself, and its counters from zero.
    fn introduce(&self, proc_type: ProcType, name: &str) {
        self.pid.store(std::process::id(), Ordering::Relaxed);
        self.proc_type.store(proc_type.number(), Ordering::Relaxed);
        self.started.store(sys::unix_seconds(), Ordering::Relaxed);
        self.name.set(name);
        self.sleeping.store(0, Ordering::Relaxed);
        self.core.store(0, Ordering::Relaxed);
        let RunCounters {
            loops,
            busy_ns,
            idle_ns,
            sleeps,
            late,
            rx,
            tx,
            stall_ns,
        } = &self.run;
        let BufferCounters {
            alloc_failed,
            bad_index,
            bad_holder,
            clones_copied,
            chain_too_long,
            bad_position,
            bad_entry,
            no_room,
        } = &self.buffers;
        let run = [loops, busy_ns, idle_ns, sleeps, late, rx, tx, stall_ns];
        let buffers = [
            alloc_failed,
            bad_index,
            bad_holder,
            clones_copied,
            chain_too_long,
            bad_position,
            bad_entry,
            no_room,
        ];
        for counter in run.into_iter().chain(buffers) {
            counter.set(0);
        }
    }
}

/// One data-path thread's place in the group. Dropping it gives the place back.
#[derive(Debug)]
pub struct Slot {
    region: &'static Region,
    id: SlotId,
    generation: u32,
}

impl Slot {
    /// Takes a free slot; `name` is what `forebay list` shows.
    ///
    /// # Errors
    ///
    /// [`Error::NoSlot`] when all are taken, or wait for a primary to sweep them; [`Error::ReadOnly`] in a tool.
    pub fn claim(region: &'static Region, name: &str) -> Result<Self, Error> {
        // One thread of this process at a time: our lock does not keep out ourselves.
        let mut places = region.places("take a slot")?;
        let (mut live, mut dead) = (0, 0);
        let kept = if region.is_primary() {
            0
        } else {
            PRIMARY_SLOTS
        };
        for (id, record) in SlotId::all().zip(region.slots()).take(SLOTS_MAX - kept) {
            // Looked at before the byte is locked, so that those who ask after a dead slot do not see it held for a moment, and
            // again, by compare-and-swap, behind the lock.
            let is_free = record.state().0 == SlotState::Free || mutated(TAKES_UNLOCKED);
            if is_free && !places.has(id) && places.lock(id)? {
                if let Some(generation) = record.claim_from_free() {
                    places.keep(id);
                    record.introduce(region.proc_type(), name);
                    return Ok(Self {
                        region,
                        id,
                        generation,
                    });
                }
                places.unlock(id);
            }
            *(if places.is_held(id) {
                &mut live
            } else {
                &mut dead
            }) += 1;
        }
        Err(Error::NoSlot { live, dead })
    }

    /// Its number.
    #[inline]
    pub fn id(&self) -> SlotId {
        self.id
    }

    /// What it signs with.
    #[inline]
    pub fn owner(&self) -> Owner {
        Owner::new(self.id, self.generation)
    }

    /// The region that it is a place in.
    #[inline]
    pub fn region(&self) -> &'static Region {
        self.region
    }

    /// What wakes its thread, emptied of what was meant for the last occupant.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it is missing or not ours to open.
    pub fn doorbell(&self) -> Result<Doorbell, Error> {
        Doorbell::of(self.region, self.id)
    }

    /// Its record in the process table.
    #[inline]
    pub fn record(&self) -> &'static SlotRecord {
        &self.region.slots()[self.id.index()]
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // The lock byte goes last: a slot that is LIVE and not locked is a dead one's.
        let Ok(mut places) = self.region.places("give a slot back") else {
            return;
        };
        // Abandoned: it is the sweep's.
        if !places.has(self.id) {
            return;
        }
        self.record().give_back(self.generation);
        places.give_back(self.id);
    }
}

/// The role of a process in its group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum ProcType {
    /// Creates the region, opens the ports, sweeps after the dead. One a group.
    #[default]
    Primary,
    /// Joins what a primary created.
    Secondary,
    /// Primary if there is none, else secondary. A wish, not a role.
    Auto,
    /// None of these: a damaged word.
    Invalid,
}

impl ProcType {
    const fn number(self) -> u32 {
        match self {
            Self::Primary => 1,
            Self::Secondary => 2,
            Self::Auto => 3,
            Self::Invalid => 0,
        }
    }

    const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Primary,
            2 => Self::Secondary,
            3 => Self::Auto,
            _ => Self::Invalid,
        }
    }
}

impl fmt::Display for ProcType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Primary => "PRIMARY",
            Self::Secondary => "SECONDARY",
            Self::Auto => "AUTO",
            Self::Invalid => "INVALID",
        })
    }
}

/// Not a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no process type; take primary, secondary or auto")]
pub struct ProcTypeError(
    /// What was given.
    pub String,
);

impl FromStr for ProcType {
    type Err = ProcTypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "primary" => Ok(Self::Primary),
            "secondary" => Ok(Self::Secondary),
            "auto" => Ok(Self::Auto),
            _ => Err(ProcTypeError(text.to_owned())),
        }
    }
}
