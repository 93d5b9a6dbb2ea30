//! A data-path thread's context: its slot, and the two magazines that it has of each pool.
//!
//! All buffers of a thread borrow its `Lcore`; when it is dropped there are none left, its magazines go back to their pools
//! and its slot to the process table.
//!
//! | what                     | where                     | written by             |
//! |--------------------------|---------------------------|------------------------|
//! | which magazines are mine | their owner words         | this thread, by claims |
//! | their counts             | here, and in the magazine | this thread            |
//! | counters                 | slot record               | this thread            |
//!
//! **If a process dies:** nothing of this structure is needed to clean up: owner words and tags say what the slot held.

use core::cell::{Cell, OnceCell};
use core::fmt;
use core::marker::PhantomData;

use eal::holder::Holder;
use eal::process::{BufferCounters, Owner, Slot, SlotId};
use eal::region::Region;

use crate::burst::Burst;
use crate::cache::Cache;
use crate::error::BadIndex;
use crate::index::{MbufIndex, POOLS_MAX};
use crate::magazine::{Range, Record};
use crate::mbuf::Mbuf;
use crate::meta::{IN_TRANSIT, Meta};
use crate::pool::Pool;
use crate::shape::HEADROOM;
use crate::tag::Tag;
use crate::{BURST_MAX, SEGMENTS_MAX};

/// Values of the id part of an index.
const IDS: usize = POOLS_MAX + 1;

/// After a look for a pool that is not there, so many of its indices pass before the next: a peer that sends rubbish must
/// not make us search zones for each.
const LOOKS_SKIPPED: u32 = 1023;

/// What a data-path thread needs to allocate, free and receive mbufs. Stays on its thread.
pub struct Lcore {
    owner: Owner,
    holder: Holder,
    counters: &'static BufferCounters,
    pools: Box<[Known; IDS]>,
    /// Dropped after the magazines are given back: the slot is FREE only when it holds nothing.
    slot: Slot,
    stays: PhantomData<*const ()>,
}

/// What this thread knows of one pool id.
#[derive(Default)]
struct Known {
    cache: OnceCell<Box<Cache>>,
    /// Indices to pass over before the next look.
    skip: Cell<u32>,
}

impl Lcore {
    /// Makes the calling thread the data-path thread of this slot.
    #[must_use]
    pub fn new(slot: Slot) -> Self {
        Self {
            owner: slot.owner(),
            holder: Holder::slot(slot.id()),
            counters: &slot.record().buffers,
            pools: Box::new(core::array::from_fn(|_| Known::default())),
            slot,
            stays: PhantomData,
        }
    }

    /// The slot's number.
    #[must_use]
    pub fn slot_id(&self) -> SlotId {
        self.slot.id()
    }

    /// What it signs magazines, ring ends and queues with.
    #[inline]
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// The tag of the mbufs that it holds.
    #[inline]
    #[must_use]
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// The region that the slot is a place in.
    #[must_use]
    pub fn region(&self) -> &'static Region {
        self.slot.region()
    }

    /// The slot.
    #[must_use]
    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    /// What it counts of buffers, in shared memory where tools read it.
    #[inline]
    #[must_use]
    pub fn counters(&self) -> &'static BufferCounters {
        self.counters
    }

    /// Takes one empty mbuf. Slow; a burst of them costs little more.
    #[inline]
    #[must_use]
    pub fn alloc(&self, pool: Pool) -> Option<Mbuf<'_>> {
        let mut index = [0];
        let taken = self.take(&pool, 0, &mut index);
        (taken == 1).then(|| Mbuf::from_checked(self, MbufIndex::from_bits(index[0])))
    }

    /// Adds up to `count` empty mbufs to `burst`, as many as it has room for and the pool has, and returns how many.
    #[inline]
    pub fn alloc_burst<'c>(&'c self, pool: Pool, burst: &mut Burst<'c>, count: usize) -> usize {
        self.alloc_burst_of(pool, burst, count, 0)
    }

    /// The same with mbufs of `len` bytes each, which are whatever they were, for drivers that fill frames; no more than fit behind
    /// the headroom.
    #[inline]
    pub fn alloc_burst_of<'c>(
        &'c self,
        pool: Pool,
        burst: &mut Burst<'c>,
        count: usize,
        len: u16,
    ) -> usize {
        let len = len.min(pool.data_room().saturating_sub(HEADROOM));
        burst.extend_with(self, count, |out| self.take(&pool, len, out))
    }

    /// Adds `count` empty mbufs to `burst`, or none.
    #[must_use]
    pub fn alloc_bulk<'c>(&'c self, pool: Pool, burst: &mut Burst<'c>, count: usize) -> bool {
        if count > burst.room() {
            return false;
        }
        let taken = self.alloc_burst(pool, burst, count);
        if taken < count {
            burst.truncate(burst.len() - taken);
        }
        taken == count
    }

    /// An mbuf, or a chain, that holds a copy of `bytes`; `None` if the pool runs dry or the bytes do not fit a chain.
    #[must_use]
    pub fn mbuf_from(&self, pool: Pool, bytes: &[u8]) -> Option<Mbuf<'_>> {
        let mut mbuf = self.alloc(pool)?;
        mbuf.extend_from_slice(pool, bytes).then_some(mbuf)
    }

    /// Makes the mbuf that [`Mbuf::into_raw`] took apart whole again: for drivers whose frames come back.
    ///
    /// # Errors
    ///
    /// No pool has the index, another holds the mbuf, or it was not taken apart.
    pub fn adopt(&self, index: MbufIndex) -> Result<Mbuf<'_>, BadIndex> {
        let Some((_, record)) = self.find(index) else {
            self.counters.bad_index.add(1);
            return Err(BadIndex::Range(index));
        };
        if record.tag.holder() != self.holder {
            self.counters.bad_holder.add(1);
            return Err(BadIndex::Holder(index));
        }
        let meta = record.settled();
        let flags = meta.flags();
        if flags & IN_TRANSIT == 0 {
            return Err(BadIndex::Owned(index));
        }
        meta.set_flags(flags & !IN_TRANSIT);
        Ok(Mbuf::from_checked(self, index))
    }

    /// Takes mbufs of `pool`; those in the first places of `out`, as many as it returns, are the caller's.
    #[inline]
    fn take(&self, pool: &Pool, len: u16, out: &mut [u32]) -> usize {
        let Some(cache) = self.cache_of(pool) else {
            return 0;
        };
        let taken = cache.take(self, len, out);
        if taken < out.len() {
            self.counters.alloc_failed.add(1);
        }
        taken
    }

    /// The magazines of a pool; `None` if it is of another region.
    #[inline]
    fn cache_of(&self, pool: &Pool) -> Option<&Cache> {
        match self.pools[usize::from(pool.id())].cache.get() {
            Some(cache) if core::ptr::eq(pool.region(), cache.pool().region()) => Some(cache),
            _ => self.meet(pool),
        }
    }

    #[cold]
    fn meet(&self, pool: &Pool) -> Option<&Cache> {
        if !core::ptr::eq(pool.region(), self.region()) {
            return None;
        }
        Some(
            self.pools[usize::from(pool.id())]
                .cache
                .get_or_init(|| Box::new(Cache::new(*pool))),
        )
    }

    /// Lists mbufs of `pool` that carry this slot's tag, whatever they were part of: for the sweep.
    pub(crate) fn give_back(&self, pool: &Pool, indices: &[u32]) {
        if let Some(cache) = self.cache_of(pool) {
            cache.give(self, indices, |_| true);
        }
    }

    /// Knows the pool from now on, whatever was looked for in vain before.
    pub(crate) fn meet_again(&self, pool: &Pool) {
        self.meet(pool);
    }

    /// Gives its magazines back to their pools, until it needs some again: for a thread that will not for long.
    pub fn give_magazines_back(&self) {
        for cache in self.pools.iter().filter_map(|known| known.cache.get()) {
            cache.close(self);
        }
    }

    /// The pool of an index, and what there is of its mbuf, if there is such: the check that every index from shared memory passes.
    #[inline(always)]
    pub(crate) fn find(&self, index: MbufIndex) -> Option<(&Cache, Record<'static>)> {
        let cache = self.cache_with(index.pool())?;
        Some((cache, cache.pool().record(index)?))
    }

    /// The magazines of the pool with this id.
    #[inline]
    fn cache_with(&self, id: u8) -> Option<&Cache> {
        match self.pools[usize::from(id)].cache.get() {
            Some(cache) => Some(cache),
            None => self.discover(id),
        }
    }

    /// Finds mbufs of a burst, which mostly are of one pool.
    #[inline]
    pub(crate) fn finder(&self) -> Finder<'_> {
        Finder {
            lcore: self,
            range: Range::EMPTY,
        }
    }

    /// Looks for a pool that this thread has not met.
    #[cold]
    fn discover(&self, id: u8) -> Option<&Cache> {
        let known = &self.pools[usize::from(id)];
        if usize::from(id) >= POOLS_MAX || known.skip.get() > 0 {
            known.skip.set(known.skip.get().saturating_sub(1));
            return None;
        }
        let Some(pool) = Pool::with_id(self.region(), id) else {
            known.skip.set(LOOKS_SKIPPED);
            return None;
        };
        self.meet(&pool)
    }

    /// Gives mbufs of this slot back to their pools, chains and clones with all that hangs on them.
    #[inline]
    pub(crate) fn free(&self, indices: &[u32]) {
        let mut rest = indices;
        while let Some(&first) = rest.first() {
            let first = MbufIndex::from_bits(first);
            let Some(cache) = self.cache_with(first.pool()) else {
                // The hole that a leaked `MbufMut` left.
                rest = &rest[1..];
                continue;
            };
            let plain = cache.give(self, rest, |tag| !tag.is_linked());
            rest = &rest[plain..];
            if plain == 0 {
                self.free_chain(first);
                rest = &rest[1..];
            }
        }
    }

    /// Gives back a chain. Links come from shared memory: each is checked, and their number has a bound.
    #[cold]
    fn free_chain(&self, head: MbufIndex) {
        let mut index = head;
        for segment in 0..SEGMENTS_MAX {
            let Some((cache, Record { tag, meta, .. })) = self.find(index) else {
                self.counters.bad_index.add(1);
                return;
            };
            // A link to what is not ours ends the chain. One that leads back does so too: what is given back is the pool's.
            if segment > 0 && tag.holder() != self.holder {
                self.counters.bad_holder.add(1);
                return;
            }
            let links = meta.links();
            if links.original.is_none() {
                self.free_user(cache, meta, index);
            } else {
                self.free_original(links.original);
                cache.give(self, &[index.bits()], |_| true);
            }
            if links.next.is_none() {
                return;
            }
            index = links.next;
        }
        self.counters.chain_too_long.add(1);
    }

    /// A clone of `index` is gone.
    fn free_original(&self, index: MbufIndex) {
        match self.find(index) {
            Some((cache, Record { tag, meta, .. })) if tag.holder() == self.holder => {
                self.free_user(cache, meta, index)
            }
            Some(_) => self.counters.bad_holder.add(1),
            None => self.counters.bad_index.add(1),
        }
    }

    /// One user of a direct mbuf's frame is gone; the last one gives it back.
    ///
    /// A plain load and store: the mbuf and all its clones are held by this slot, thus by this thread.
    fn free_user(&self, cache: &Cache, meta: &Meta, index: MbufIndex) {
        let users = meta.refs();
        if users > 1 {
            meta.set_refs(users - 1);
        } else {
            cache.give(self, &[index.bits()], |_| true);
        }
    }
}

/// Finds one mbuf after the other, and looks for the pool only when it is another than before.
pub(crate) struct Finder<'l> {
    lcore: &'l Lcore,
    range: Range<'static>,
}

impl Finder<'_> {
    /// Whose thread looks.
    #[inline]
    pub(crate) fn holder(&self) -> Holder {
        self.lcore.holder
    }

    /// The mbufs among which one is, for loops over many; others than its, if there is no such.
    #[inline]
    pub(crate) fn range_of(&mut self, bits: u32) -> Range<'static> {
        let index = MbufIndex::from_bits(bits);
        if self.range.tag(index).is_none() {
            self.turn_to(index);
        }
        self.range
    }

    /// The tag of an index, if there is one: the check that every index from shared memory passes.
    #[inline]
    pub(crate) fn tag(&mut self, index: MbufIndex) -> Option<&'static Tag> {
        self.range_of(index.bits()).tag(index)
    }

    /// All there is of it.
    #[inline]
    pub(crate) fn find(&mut self, index: MbufIndex) -> Option<Record<'static>> {
        self.range_of(index.bits()).find(index)
    }

    #[inline(never)]
    fn turn_to(&mut self, index: MbufIndex) {
        if let Some(cache) = self.lcore.cache_with(index.pool()) {
            self.range = cache.pool().range();
        }
    }
}

impl Drop for Lcore {
    fn drop(&mut self) {
        self.give_magazines_back();
    }
}

impl fmt::Debug for Lcore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lcore")
            .field("slot", &self.slot.id())
            .finish_non_exhaustive()
    }
}

const _: () = assert!(BURST_MAX <= crate::magazine::MAGAZINE_LEN || cfg!(any(loom, forebay_model)));
