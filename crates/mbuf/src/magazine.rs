//! Magazines: free buffers change hands between pool and slot by the 128.
//!
//! ```text
//! magazine  | owner | count | ... 64 B | entry 0 | entry 1 | ... | entry 63 |
//!                                      |<-- count of them are free mbufs -->|
//! hints     one word a magazine: | bit 0: has entries | bit 1: has room |
//! ```
//!
//! | word           | written by                                                                |
//! |----------------|---------------------------------------------------------------------------|
//! | owner          | by compare-and-swap from nobody to a slot, by that slot back to nobody    |
//! | count, entries | the owner                                                                 |
//! | hint           | the owner; it only says where looking is likely to pay                    |
//!
//! There is no list of free magazines: its links would have more than one writer. The owner words are the truth. A hint
//! is set before its magazine is let go and cleared after it is claimed, so that none lies free without it; by plain stores, since
//! a read-modify-write of a word that all share holds up the core until all that it stored before is out.
//!
//! **If a process dies**
//!
//! - *in `take`*, between tag and count: the mbufs carry the dead slot's tag and are still listed in its
//!   magazine. The sweep tags what is listed `POOL` again.
//! - *in `give`*: before the count they are not listed and carry the dead tag; after it they are listed. Never
//!   are they tagged `POOL` and listed nowhere.
//! - *around `claim` and `release`*: the owner word alone tells whose the magazine
//!   is. A hint that was not cleared costs the next seeker a look.

use eal::holder::Holder;
use eal::process::Owner;

use crate::brief::{Brief, Facts, Seen};
use crate::flags::OffloadFlags;
use crate::frames::Extent;
use crate::index::MbufIndex;
use crate::meta::{Meta, Place, Span};
use crate::shape::HEADROOM;
use crate::sync::{AtomicU32, CacheLine, Ordering, acquire, release};
use crate::tag::{self, Tag};

/// Most entries of a magazine.
pub const MAGAZINE_LEN: usize = if cfg!(any(loom, forebay_model)) {
    2
} else {
    128
};

/// A place for up to [`MAGAZINE_LEN`] free mbufs, owned by one slot at a time.
#[derive(Debug)]
#[repr(C)]
pub struct Magazine {
    head: CacheLine<Head>,
    entries: CacheLine<[AtomicU32; MAGAZINE_LEN]>,
}

#[derive(Debug)]
#[repr(C)]
struct Head {
    owner: AtomicU32,
    count: AtomicU32,
}

#[cfg(not(any(loom, forebay_model)))]
const _: () = assert!(size_of::<Magazine>() == 64 + 4 * MAGAZINE_LEN);

/// The mbufs that a magazine may name: one pool's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range<'m> {
    pub(crate) tags: &'m [Tag],
    pub(crate) briefs: &'m [Brief],
    pub(crate) metas: &'m [Meta],
    /// The index of the first of them.
    pub(crate) first: MbufIndex,
}

/// What there is of one mbuf, but for its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'m> {
    pub(crate) tag: &'m Tag,
    pub(crate) brief: &'m Brief,
    /// What the mbuf's last user left, if the brief is lazy; never if the tag says *linked*.
    pub(crate) meta: &'m Meta,
}

impl<'m> Record<'m> {
    /// The meta, written by now. For who holds the mbuf.
    #[inline]
    pub(crate) fn settled(&self) -> &'m Meta {
        let brief = self.brief.read();
        if brief.is_lazy() {
            self.meta.settle(brief);
            self.brief.write(brief.settled());
        }
        self.meta
    }

    /// What is asked of the packet, by its brief, or its meta if that does not know.
    #[inline]
    pub(crate) fn facts(&self) -> Facts {
        let facts = self.brief.read().facts();
        facts.unwrap_or_else(|| self.meta.facts())
    }

    /// Where its bytes lie. For who holds the mbuf, which stands alone.
    #[inline]
    pub(crate) fn extent(&self) -> Extent {
        let brief = self.brief.read();
        if brief.is_lazy() {
            return Extent {
                offset: HEADROOM,
                len: brief.len(),
                more: false,
            };
        }
        let Span { off, len, .. } = self.meta.span();
        Extent {
            offset: off,
            len,
            more: false,
        }
    }

    /// Whether something is still to be done to the packet on its way out. For who holds the mbuf.
    #[inline]
    pub(crate) fn wants_work(&self) -> bool {
        let flags = OffloadFlags::from_bits(self.meta.flags());
        !self.brief.read().is_lazy() && flags.intersects(OffloadFlags::TX)
    }

    /// A device has put a packet into its frame, which is as long as that. What would leave the frame is cut. For who holds the mbuf.
    #[inline]
    pub(crate) fn landed(&self, bytes: Extent, frame_len: u16) {
        let off = bytes.offset.min(frame_len);
        let len = bytes.len.min(frame_len - off);
        let brief = Seen::fresh(len);
        self.meta.settle(brief);
        self.meta.set_span(Span {
            off,
            len,
            packet_len: len.into(),
        });
        self.brief.write(brief.settled());
    }

    /// Notes where the packet came by, and tells what is asked of it. For who holds the mbuf.
    #[inline]
    pub(crate) fn come_by(&self, port: u16, queue: u16) -> Facts {
        let brief = self.brief.read();
        if brief.is_lazy()
            && let Some(brief) = brief.come_by(port, queue)
            && let Some(facts) = brief.facts()
        {
            self.brief.write(brief);
            return facts;
        }
        let meta = self.settled();
        let place = meta.place();
        meta.set_place(Place {
            port,
            queue,
            ..place
        });
        let facts = meta.facts();
        self.brief.write(Seen::of(facts));
        facts
    }
}

impl<'m> Range<'m> {
    /// No mbufs.
    pub(crate) const EMPTY: Self = Self {
        tags: &[],
        briefs: &[],
        metas: &[],
        first: MbufIndex::NONE,
    };

    /// The tag of an index, if it is one of these: the one check that every index from shared memory passes before it is used.
    #[inline]
    pub(crate) fn tag(&self, index: MbufIndex) -> Option<&'m Tag> {
        self.tags.get(self.number(index))
    }

    /// The brief of an index, if it is one of these.
    #[inline]
    pub(crate) fn brief(&self, index: MbufIndex) -> Option<&'m Brief> {
        self.briefs.get(self.number(index))
    }

    /// What a brief knows of a packet, if it is one of these.
    #[inline]
    pub(crate) fn known(&self, bits: u32) -> Option<Facts> {
        self.brief(MbufIndex::from_bits(bits))?.read().facts()
    }

    /// The meta of an index, if it is one of these.
    #[inline]
    pub(crate) fn meta(&self, index: MbufIndex) -> Option<&'m Meta> {
        self.metas.get(self.number(index))
    }

    /// Both.
    #[inline]
    pub(crate) fn find(&self, index: MbufIndex) -> Option<Record<'m>> {
        Some(Record {
            tag: self.tag(index)?,
            brief: self.brief(index)?,
            meta: self.meta(index)?,
        })
    }

    /// Another pool's index wraps round to a number that no pool has: ids are the top byte, lengths at most 2^24.
    #[inline]
    fn number(&self, index: MbufIndex) -> usize {
        index.bits().wrapping_sub(self.first.bits()) as usize
    }
}

impl Magazine {
    /// Who owns it.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner::from_bits(self.head.0.owner.load(Ordering::Relaxed))
    }

    /// How many entries are listed, at most [`MAGAZINE_LEN`] whatever the word says.
    #[must_use]
    pub fn count(&self) -> usize {
        // Acquire: entries below the count are those that the count was raised over. Pairs with the Release
        // stores in `take` and `give`; the sweep and the tools read while an owner may be at work.
        (self.head.0.count.load(acquire("count")) as usize).min(MAGAZINE_LEN)
    }

    /// The listed entries, unchecked: for the sweep, the tools and whoever counts.
    pub fn entries(&self) -> impl Iterator<Item = MbufIndex> + '_ {
        let count = self.count();
        self.entries.0[..count]
            .iter()
            .map(|entry| MbufIndex::from_bits(entry.load(Ordering::Relaxed)))
    }

    /// Exchange, step 3: claims the magazine if it is nobody's, *then* reads its count.
    ///
    /// Whose a magazine is, its owner word alone tells: killed right after the swap, nothing is lost.
    #[inline]
    pub(crate) fn claim(&self, me: Owner) -> Option<usize> {
        // A look first: the swap takes the line from whoever uses the magazine, even when it fails.
        if self.owner() != Owner::NONE {
            return None;
        }
        // Acquire: the last owner's entries, count and tags are in place. Pairs with the Release in `release`.
        self.head
            .0
            .owner
            .compare_exchange(
                Owner::NONE.bits(),
                me.bits(),
                acquire("owner"),
                Ordering::Relaxed,
            )
            .ok()?;
        Some((self.head.0.count.load(Ordering::Relaxed) as usize).min(MAGAZINE_LEN))
    }

    /// Exchange, step 2: lets go of a magazine that is ours. All tags of `give` are written by then (step 1).
    #[inline]
    #[cfg_attr(forebay_model, track_caller)]
    pub(crate) fn release(&self) {
        // Release: the next owner finds entries, count and tags as we left them; a tag written later would
        // overwrite its own. Pairs with the Acquire in `claim`.
        self.head
            .0
            .owner
            .store(Owner::NONE.bits(), release("owner"));
    }

    /// Alloc, steps 1 and 2: takes up to `out.len()` of the `held` entries of a magazine that is ours.
    ///
    /// What is taken is tagged `me`, and its brief says `fresh`. An entry that names no mbuf of `range`, or one that is not free, is dropped from the list and counted as bad: a
    /// scribbled magazine must not make two owners of one buffer.
    #[inline]
    pub(crate) fn take(
        &self,
        range: Range<'_>,
        held: usize,
        (me, fresh): (Holder, Seen),
        out: &mut [u32],
    ) -> Taken {
        let wanted = out.len().min(held);
        let left = held - wanted;
        // 1. tag <- me. What is written besides, no step goes by.
        let take = |entry: &AtomicU32, place: &mut u32| {
            let index = MbufIndex::from_bits(entry.load(Ordering::Relaxed));
            let Some(tag) = range.tag(index).filter(|tag| tag.read().is_pool()) else {
                return false;
            };
            tag.set(me);
            if let Some(brief) = range.brief(index) {
                brief.write(fresh);
            }
            *place = index.bits();
            true
        };
        // From the top: what came back last is the warmest.
        let stock = self.entries.0[left..held].iter().rev();
        let good = stock.clone().zip(out.iter_mut());
        let good = good.map(|(entry, place)| take(entry, place));
        let mut taken = good.take_while(|good| *good).count();
        // Behind a bad one there are others.
        for entry in stock.skip(taken + 1) {
            if let Some(place) = out.get_mut(taken) {
                taken += usize::from(take(entry, place));
            }
        }
        // 2. count - n, once. Release: who sees the count sees the tags. Pairs with the Acquire in `count`.
        self.set_count(left);
        Taken {
            taken,
            left,
            bad: wanted - taken,
        }
    }

    /// Free: lists `indices` behind the `held` entries of a magazine that is ours, and tags them `POOL`: as many as fit, up to
    /// the first whose tag does not `suit`, or that is none of `range`. Returns how many.
    #[inline]
    pub(crate) fn give(
        &self,
        range: Range<'_>,
        held: usize,
        indices: &[u32],
        suits: impl Fn(tag::Seen) -> bool,
    ) -> usize {
        let places = self.entries.0.get(held..).unwrap_or_default();
        // 1. entry[count] <- m.
        let listed = places.iter().zip(indices).take_while(|(place, index)| {
            let tag = range.tag(MbufIndex::from_bits(**index));
            let suits = tag.is_some_and(|tag| suits(tag.read()));
            if suits {
                place.store(**index, Ordering::Relaxed);
            }
            suits
        });
        let given = listed.count();
        // 2. count + n, once. Release: who sees the count sees the entries. Pairs with the Acquire in `count`.
        self.set_count(held + given);
        // 3. tag <- POOL.
        for index in &indices[..given] {
            if let Some(tag) = range.tag(MbufIndex::from_bits(*index)) {
                tag.set_pool();
            }
        }
        given
    }

    /// The sweep's step for a magazine of the dead: all that is listed is free again, then it is nobody's. Returns how many
    /// entries were on their way out, hence not tagged so; `None` if the magazine changed its owner meanwhile.
    ///
    /// What carries another's tag is not touched: no step of ours leaves such an entry, and `take` drops it.
    pub(crate) fn free_of(
        &self,
        dead: Owner,
        range: Range<'_>,
        is_dead: impl Fn(Holder) -> bool,
    ) -> Option<u32> {
        let mut half_taken = 0;
        for tag in self.entries().filter_map(|index| range.tag(index)) {
            if is_dead(tag.holder()) {
                tag.set_pool();
                half_taken += 1;
            }
        }
        // Release: as in `release`. By compare-and-swap: an owner word that was scribbled upon is not followed.
        self.head
            .0
            .owner
            .compare_exchange(
                dead.bits(),
                Owner::NONE.bits(),
                release("owner"),
                Ordering::Relaxed,
            )
            .ok()?;
        Some(half_taken)
    }

    #[inline]
    #[cfg_attr(forebay_model, track_caller)]
    fn set_count(&self, count: usize) {
        // At most MAGAZINE_LEN: both callers index the entries with it first.
        self.head
            .0
            .count
            .store(u32::try_from(count).unwrap_or(0), release("count"));
    }

    /// Fills a magazine of a pool that nobody uses yet.
    pub(crate) fn stock(&self, indices: impl Iterator<Item = MbufIndex>) -> usize {
        let mut count = 0;
        for (place, index) in self.entries.0.iter().zip(indices) {
            place.store(index.bits(), Ordering::Relaxed);
            count += 1;
        }
        self.set_count(count);
        self.release();
        count
    }

    /// A magazine as it lies in a fresh zone, for tests that have none.
    #[cfg(test)]
    pub(crate) fn zeroed() -> Self {
        Self {
            head: CacheLine(Head {
                owner: AtomicU32::new(0),
                count: AtomicU32::new(0),
            }),
            entries: CacheLine(core::array::from_fn(|_| AtomicU32::new(0))),
        }
    }
}

/// What [`Magazine::take`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Mbufs that are the caller's now.
    pub(crate) taken: usize,
    /// Entries that are left.
    pub(crate) left: usize,
    /// Entries that named no free mbuf.
    pub(crate) bad: usize,
}

/// In a hint: the magazine has entries.
const STOCK: u32 = 1;
/// In a hint: it has room.
const ROOM: u32 = 2;

/// What a seeker needs of a magazine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Entries, to allocate.
    Stock,
    /// Room, to free.
    Room,
    /// Both: to merge with another partial one.
    Partial,
}

impl Need {
    /// Whether `count` entries meet the need.
    pub(crate) fn met_by(self, count: usize) -> bool {
        match self {
            Self::Stock => count > 0,
            Self::Room => count < MAGAZINE_LEN,
            Self::Partial => count > 0 && count < MAGAZINE_LEN,
        }
    }

    /// The hint of a magazine that meets it best, and what that of any has that meets it.
    fn hints(self) -> (u32, u32) {
        match self {
            Self::Stock => (STOCK, STOCK),
            Self::Room => (ROOM, ROOM),
            Self::Partial => (STOCK | ROOM, STOCK | ROOM),
        }
    }
}

/// All magazines of a pool, with their hints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rack<'m> {
    pub(crate) magazines: &'m [Magazine],
    pub(crate) hints: &'m [AtomicU32],
}

/// A magazine that is ours, and how many entries it has. The count is kept here: what lies in memory, others could write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held<'m> {
    pub(crate) magazine: &'m Magazine,
    pub(crate) number: usize,
    pub(crate) count: usize,
}

impl<'m> Rack<'m> {
    /// Claims a magazine that meets the need, those that meet it best first.
    ///
    /// The lowest numbers are tried first: so few magazines, and few mbufs, circulate among those that are busy, and
    /// these stay in the caches.
    pub(crate) fn claim(&self, me: Owner, need: Need) -> Option<Held<'m>> {
        let (best, any) = need.hints();
        self.claim_hinted(me, need, |hint| hint == best)
            .or_else(|| self.claim_hinted(me, need, |hint| hint & any == any))
    }

    fn claim_hinted(
        &self,
        me: Owner,
        need: Need,
        promises: impl Fn(u32) -> bool,
    ) -> Option<Held<'m>> {
        let hints = self.hints.iter().enumerate();
        let mut promising = hints.filter(|(_, hint)| promises(hint.load(Ordering::Relaxed)));
        promising.find_map(|(number, _)| self.claim_one(me, need, number))
    }

    /// Looks at the owner words of `count` magazines from `start` on: the truth, for when the hints lie.
    pub(crate) fn claim_unhinted(
        &self,
        me: Owner,
        need: Need,
        start: usize,
        count: usize,
    ) -> Option<Held<'m>> {
        let len = self.magazines.len();
        (0..count.min(len)).find_map(|step| self.claim_one(me, need, (start + step) % len))
    }

    fn claim_one(&self, me: Owner, need: Need, number: usize) -> Option<Held<'m>> {
        let magazine = self.magazines.get(number)?;
        let count = magazine.claim(me)?;
        let held = Held {
            magazine,
            number,
            count,
        };
        // After the claim, so that a magazine is never free without its hint.
        self.set_hint(number, 0);
        if need.met_by(count) {
            return Some(held);
        }
        self.release(held);
        None
    }

    /// Lets go of a magazine, with the hints that its count deserves.
    pub(crate) fn release(&self, held: Held<'m>) {
        let stock = if held.count > 0 { STOCK } else { 0 };
        let room = if held.count < MAGAZINE_LEN { ROOM } else { 0 };
        // Before the owner word, so that a magazine is never free without its hint.
        self.set_hint(held.number, stock | room);
        held.magazine.release();
    }

    /// Gives the magazines of the dead back, as `free_of` says; returns how many, and how many entries they list.
    pub(crate) fn free_of(
        &self,
        owns: impl Fn(Owner) -> bool,
        range: Range<'_>,
        is_dead: impl Fn(Holder) -> bool + Copy,
    ) -> (u32, u32) {
        let (mut magazines, mut entries) = (0, 0);
        for (number, magazine) in self.magazines.iter().enumerate() {
            let owner = magazine.owner();
            if !owns(owner) {
                continue;
            }
            // Before it is free, as in `release`.
            self.set_hint(number, STOCK | ROOM);
            let listed = u32::try_from(magazine.count()).unwrap_or(u32::MAX);
            if magazine.free_of(owner, range, is_dead).is_some() {
                magazines += 1;
                entries += listed;
            }
        }
        (magazines, entries)
    }

    /// Relaxed: a hint, and one writer at a time, who owns the magazine; its owner word passes it on.
    #[cfg_attr(forebay_model, track_caller)]
    fn set_hint(&self, number: usize, hint: u32) {
        if let Some(word) = self.hints.get(number) {
            word.store(hint, Ordering::Relaxed);
        }
    }
}
