//! Entries: found by a hash of their key, and standing in line with the others in the same place.
//!
//! ```text
//! cells    | . | 2 | . | 0 | 1 | . | . | . |     hash of the key -> number of the entry; a quarter to half of them in use
//! entries  | 0 | 1 | 2 | free                    never move; each one a cache line
//! lines    Reachable: 2 -> 0   Stale: 1          by `until`, soonest first; one for each place and standing
//! ```
//!
//! All entries in a place wait for equally long, so who comes last stands last, and the head of a line is the next one due, and
//! the one of its kind that is missed least.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::waiting::Queue;
use crate::interface::InterfaceId;
use crate::time::Instant;
use crate::wire::ethernet::Mac;

/// No entry, no cell, no packet.
pub(super) const NONE: u32 = u32::MAX;

/// The tag of a free entry, which no key has.
const FREE: u16 = u16::MAX;

/// Entries that are passed at most to find a place in line: whoever would stand further to the front is seen to a little later.
const LOOK_MAX: usize = 32;

/// Most entries that there can be.
const ENTRIES_MAX: usize = 1 << 20;

/// Where an entry stands; says more than its state does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Place {
    /// Incomplete, and nobody was asked yet.
    Fresh,
    /// Incomplete, and asked.
    Incomplete,
    /// Nobody answered; packets wait to be taken by who has to report that.
    Failed,
    /// Stale, and we never sent it anything: others have mentioned it.
    Mentioned,
    /// Stale.
    Stale,
    /// Reachable.
    Reachable,
    /// Delay.
    Delay,
    /// Probe.
    Probe,
    /// Static.
    Static,
}

impl Place {
    const COUNT: usize = Self::Static as usize + 1;
}

/// What an entry is worth to us, when somebody has to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Something of ours was sent there, and not only answers to what came from there.
    pub(super) ours: bool,
    /// It has answered a question, or an upper layer knows that it is there: nobody has just made it up.
    pub(super) proven: bool,
}

impl Standing {
    /// Who got an answer at most, and was never heard to be there.
    pub(super) const STRANGER: Self = Self {
        ours: false,
        proven: false,
    };
    /// Who got answers, and is there.
    pub(super) const MET: Self = Self {
        ours: false,
        proven: true,
    };
    /// Whom we want to reach, and who was never heard to be there.
    pub(super) const NEW: Self = Self {
        ours: true,
        proven: false,
    };
    /// Whom we want to reach, and who is there.
    pub(super) const PROVEN: Self = Self {
        ours: true,
        proven: true,
    };
    const COUNT: usize = 4;

    const fn place(self) -> usize {
        (self.ours as usize) << 1 | self.proven as usize
    }
}

/// An address on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    address: u128,
    /// The interface; bit 8 for IPv6.
    tag: u16,
}

impl Key {
    const IPV6: u16 = 1 << 8;

    #[inline]
    pub(super) fn new(interface: InterfaceId, address: IpAddr) -> Self {
        let tag = u16::from(interface.0);
        match address {
            IpAddr::V4(address) => Self {
                address: address.to_bits().into(),
                tag,
            },
            IpAddr::V6(address) => Self {
                address: address.to_bits(),
                tag: tag | Self::IPV6,
            },
        }
    }

    pub(super) fn interface(self) -> InterfaceId {
        let [interface, _] = self.tag.to_le_bytes();
        InterfaceId(interface)
    }

    pub(super) fn address(self) -> IpAddr {
        if self.tag & Self::IPV6 != 0 {
            Ipv6Addr::from_bits(self.address).into()
        } else {
            Ipv4Addr::from_bits((self.address & 0xffff_ffff) as u32).into()
        }
    }
}

/// What is known about one neighbour.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Entry {
    // The fields of `Key` by themselves: as one they would take 32 bytes, and the entry a second cache line.
    address: u128,
    tag: u16,
    /// Has no meaning in the places before `Mentioned`.
    pub(super) mac: Mac,
    /// When something happens: a repetition, a change of state, the end.
    pub(super) until: Instant,
    /// Packets for it.
    pub(super) waiting: Queue,
    hash: u32,
    /// Neighbours in line; `next`, too, of free entries.
    prev: u32,
    next: u32,
    pub(super) place: Place,
    pub(super) standing: Standing,
    /// Solicitations sent since it was last known to be there.
    pub(super) asked: u8,
}

/// The line of a place and a standing.
#[inline]
const fn line_of(place: Place, standing: Standing) -> usize {
    place as usize * Standing::COUNT + standing.place()
}

const _: () = assert!(size_of::<Entry>() == 64, "an entry is a cache line");

impl Entry {
    #[inline]
    pub(super) fn key(&self) -> Key {
        Key {
            address: self.address,
            tag: self.tag,
        }
    }

    fn line(&self) -> usize {
        line_of(self.place, self.standing)
    }
}

/// A line for each place and standing, those of a place side by side.
const LINES: usize = Place::COUNT * Standing::COUNT;

const _: () = assert!(LINES <= 64, "a line is a bit of `occupied`");

/// The lines of a place, as bits.
const fn lines_of(place: Place) -> u64 {
    ((1 << Standing::COUNT) - 1) << (place as usize * Standing::COUNT)
}

/// Entries in the same place with the same standing.
#[derive(Debug, Clone, Copy)]
struct Line {
    head: u32,
    tail: u32,
    len: usize,
}

/// Keeps peers from choosing addresses that collide.
#[derive(Debug, Clone, Copy)]
struct Seed([u64; 3]);

impl Seed {
    /// Three words from one, by SplitMix64.
    fn new(seed: u64) -> Self {
        let mut state = seed;
        Self([(); 3].map(|()| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        }))
    }

    /// Two multiplications to 128 bits, each folded by xor: every bit of the key and of the seed reaches every bit.
    #[inline]
    fn hash(self, key: &Key) -> u32 {
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            (product & 0xffff_ffff_ffff_ffff) as u64 ^ (product >> 64) as u64
        };
        let Self([a, b, c]) = self;
        let low = (key.address & 0xffff_ffff_ffff_ffff) as u64;
        let high = (key.address >> 64) as u64;
        // Odd, so that the product with the tag keeps all of it.
        let tag = u64::from(key.tag).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let once = fold(low ^ a, high ^ b);
        (fold(once ^ tag ^ c, 0xa076_1d64_78bd_642f) >> 32) as u32
    }
}

/// All entries.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<Entry>,
    entries_max: usize,
    len: usize,
    /// The first free one of `entries`.
    free: u32,
    /// Numbers of entries; a power of two of them.
    cells: Vec<u32>,
    mask: usize,
    seed: Seed,
    lines: [Line; LINES],
    /// A bit for each line in which somebody stands.
    occupied: u64,
}

impl Table {
    pub(super) fn new(entries_max: usize, seed: u64) -> Self {
        let entries_max = entries_max.min(ENTRIES_MAX);
        let cells = (entries_max * 2).next_power_of_two();
        let line = Line {
            head: NONE,
            tail: NONE,
            len: 0,
        };
        Self {
            entries: Vec::with_capacity(entries_max),
            entries_max,
            len: 0,
            free: NONE,
            cells: vec![NONE; cells],
            mask: cells - 1,
            seed: Seed::new(seed),
            lines: [line; LINES],
            occupied: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn max(&self) -> usize {
        self.entries_max
    }

    pub(super) fn is_full(&self) -> bool {
        self.len >= self.entries_max
    }

    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<&Entry> {
        self.entries.get(at as usize)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut Entry> {
        self.entries.get_mut(at as usize)
    }

    /// The number of the entry with this key.
    #[inline]
    pub(super) fn find(&self, key: &Key) -> Option<u32> {
        let mut cell = self.seed.hash(key) as usize;
        // Half of the cells are empty, so this ends soon; the bound is for show.
        for _ in 0..self.cells.len() {
            let at = *self.cells.get(cell & self.mask)?;
            let entry = self.get(at)?;
            if entry.key() == *key {
                return Some(at);
            }
            cell = cell.wrapping_add(1);
        }
        None
    }

    /// Adds an entry, whose key is not there yet; `None` if the table is full.
    pub(super) fn insert(
        &mut self,
        key: Key,
        mac: Mac,
        (place, standing): (Place, Standing),
        until: Instant,
    ) -> Option<u32> {
        if self.is_full() {
            return None;
        }
        let hash = self.seed.hash(&key);
        let mut cell = hash as usize;
        while *self.cells.get(cell & self.mask)? != NONE {
            cell = cell.wrapping_add(1);
        }
        let entry = Entry {
            address: key.address,
            tag: key.tag,
            mac,
            until,
            waiting: Queue::EMPTY,
            hash,
            prev: NONE,
            next: NONE,
            place,
            standing,
            asked: 0,
        };
        let at = match self.entries.get_mut(self.free as usize) {
            Some(free) => {
                let at = self.free;
                self.free = free.next;
                *free = entry;
                at
            }
            None => {
                // Within the capacity: `entries` grows only while nothing is free, and `is_full` has said no.
                let at = u32::try_from(self.entries.len()).ok()?;
                self.entries.push(entry);
                at
            }
        };
        *self.cells.get_mut(cell & self.mask)? = at;
        self.len += 1;
        self.link(at);
        Some(at)
    }

    /// Removes an entry. What waits for it must have been taken before.
    pub(super) fn remove(&mut self, at: u32) {
        let Some(hash) = self.get(at).map(|entry| entry.hash) else {
            return;
        };
        self.unlink(at);
        let mut hole = hash as usize & self.mask;
        for _ in 0..self.cells.len() {
            if self.cells.get(hole) == Some(&at) {
                break;
            }
            hole = (hole + 1) & self.mask;
        }
        // What stands behind moves up, so that no search ends at the hole before it has found what it looks for.
        let mut cell = hole;
        for _ in 0..self.cells.len() {
            cell = (cell + 1) & self.mask;
            let Some(&behind) = self.cells.get(cell) else {
                break;
            };
            let Some(home) = self.get(behind).map(|entry| entry.hash as usize) else {
                break;
            };
            let from_home = cell.wrapping_sub(home) & self.mask;
            let from_hole = cell.wrapping_sub(hole) & self.mask;
            if from_home >= from_hole {
                self.set_cell(hole, behind);
                hole = cell;
            }
        }
        self.set_cell(hole, NONE);
        let free = self.free;
        if let Some(entry) = self.get_mut(at) {
            entry.next = free;
            entry.tag = FREE;
        }
        self.free = at;
        self.len = self.len.saturating_sub(1);
    }

    /// Moves an entry to the end of the line of `place`; or further to the front, where others wait for longer.
    pub(super) fn put(&mut self, at: u32, place: Place, until: Instant) {
        self.unlink(at);
        if let Some(entry) = self.get_mut(at) {
            entry.place = place;
            entry.until = until;
            self.link(at);
        }
    }

    /// Changes what an entry is worth to us.
    pub(super) fn stand(&mut self, at: u32, standing: Standing) {
        self.unlink(at);
        if let Some(entry) = self.get_mut(at) {
            entry.standing = standing;
            self.link(at);
        }
    }

    /// The entry in a place with a standing that is due first.
    #[inline]
    pub(super) fn first(&self, place: Place, standing: Standing) -> Option<u32> {
        let head = self.lines.get(line_of(place, standing))?.head;
        (head != NONE).then_some(head)
    }

    /// An entry in a place that is due.
    #[inline]
    pub(super) fn due(&self, place: Place, now: Instant) -> Option<u32> {
        let is_due = |at: &u32| self.get(*at).is_some_and(|entry| entry.until <= now);
        self.heads(lines_of(place)).find(is_due)
    }

    /// How many entries are in a place with a standing.
    pub(super) fn count(&self, place: Place, standing: Standing) -> usize {
        let line = self.lines.get(line_of(place, standing));
        line.map_or(0, |line| line.len)
    }

    /// How many entries only ever got answers.
    pub(super) fn strangers(&self) -> usize {
        let lines = self.lines.iter().enumerate();
        let is_strangers = |place: usize| place % Standing::COUNT < Standing::COUNT / 2;
        let lens = lines.map(|(place, line)| if is_strangers(place) { line.len } else { 0 });
        lens.sum()
    }

    /// When the first one of all is due.
    #[inline]
    pub(super) fn next_due(&self) -> Option<Instant> {
        let moving = self.heads(!lines_of(Place::Static));
        let due = moving.filter_map(|at| self.get(at).map(|entry| entry.until));
        due.min()
    }

    /// Who stands first in each of these lines.
    #[inline]
    fn heads(&self, lines: u64) -> impl Iterator<Item = u32> {
        let mut left = self.occupied & lines;
        core::iter::from_fn(move || {
            let line = self.lines.get(left.trailing_zeros() as usize)?;
            left &= left.wrapping_sub(1);
            Some(line.head)
        })
    }

    /// The entry, if it is in use.
    pub(super) fn live(&self, at: u32) -> Option<&Entry> {
        self.get(at).filter(|entry| entry.tag != FREE)
    }

    /// Numbers of entries; those of free ones are among them.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        (0..NONE).take(self.entries.len())
    }

    /// The entries that are in use.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.tag != FREE)
    }

    fn set_cell(&mut self, cell: usize, at: u32) {
        if let Some(cell) = self.cells.get_mut(cell) {
            *cell = at;
        }
    }

    fn link(&mut self, at: u32) {
        let Some((line, until)) = self.get(at).map(|entry| (entry.line(), entry.until)) else {
            return;
        };
        let Some(Line { head, tail, .. }) = self.lines.get(line).copied() else {
            return;
        };
        // Nearly always right away. Only if the clock went back, or a standing has changed, someone stands behind who is due later.
        let mut prev = tail;
        for _ in 0..LOOK_MAX {
            match self.get(prev) {
                Some(entry) if entry.until > until => prev = entry.prev,
                _ => break,
            }
        }
        let next = match self.get(prev) {
            Some(entry) => entry.next,
            None => head,
        };
        if let Some(entry) = self.get_mut(at) {
            (entry.prev, entry.next) = (prev, next);
        }
        self.join(line, prev, at);
        self.join(line, at, next);
        if let Some(known) = self.lines.get_mut(line) {
            known.len += 1;
            self.occupied |= 1 << line;
        }
    }

    fn unlink(&mut self, at: u32) {
        let Some(entry) = self.get(at) else {
            return;
        };
        let (line, prev, next) = (entry.line(), entry.prev, entry.next);
        self.join(line, prev, next);
        if let Some(known) = self.lines.get_mut(line) {
            known.len = known.len.saturating_sub(1);
            if known.len == 0 {
                self.occupied &= !(1 << line);
            }
        }
    }

    /// Has `next` follow `prev` in a line; one of them may be its end.
    fn join(&mut self, line: usize, prev: u32, next: u32) {
        match self.get_mut(prev) {
            Some(entry) => entry.next = next,
            None => {
                if let Some(line) = self.lines.get_mut(line) {
                    line.head = next;
                }
            }
        }
        match self.get_mut(next) {
            Some(entry) => entry.prev = prev,
            None => {
                if let Some(line) = self.lines.get_mut(line) {
                    line.tail = prev;
                }
            }
        }
    }

    /// Where the search for a key begins.
    #[cfg(test)]
    pub(super) fn cell_of(&self, key: &Key) -> usize {
        self.seed.hash(key) as usize & self.mask
    }

    /// Room for entries and cells.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> (usize, usize) {
        (self.entries.capacity(), self.cells.capacity())
    }
}
