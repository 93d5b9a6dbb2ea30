//! Up to [`BURST_MAX`] mbufs of one thread: the unit of every call on the data path.
//!
//! A burst keeps indices, as rings and magazines do, so that it moves between them by the line. What is left in it when it
//! is dropped is given back.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use crate::BURST_MAX;
use crate::brief::Facts;
use crate::index::MbufIndex;
use crate::lcore::Lcore;
use crate::mbuf::Mbuf;

const HOLE: u32 = MbufIndex::NONE.bits();

/// What the mbufs of a burst come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets as a wire has them: [`Mbuf::wire_segments`].
    pub segments: u64,
}

/// The first mbufs of a burst, as far as they came by the same port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Which; [`PORT_NONE`](crate::PORT_NONE) if by none.
    pub port: u16,
    /// How many.
    pub len: usize,
    /// What they come to.
    pub totals: Totals,
}

impl Totals {
    #[inline]
    fn add(&mut self, facts: Facts) {
        self.packets += 1;
        self.bytes += u64::from(facts.len);
        self.segments += facts.segments;
    }
}

/// Mbufs that this thread owns, in order.
#[must_use = "dropping a burst frees its mbufs"]
pub struct Burst<'c> {
    lcore: &'c Lcore,
    len: usize,
    /// The first `len` are owned. A hole among them is an mbuf that was moved out through a leaked [`MbufMut`].
    indices: [u32; BURST_MAX],
}

impl<'c> Burst<'c> {
    /// An empty burst.
    #[inline]
    pub fn new(lcore: &'c Lcore) -> Self {
        Self {
            lcore,
            len: 0,
            indices: [HOLE; BURST_MAX],
        }
    }

    /// The thread whose mbufs it holds.
    #[inline]
    #[must_use]
    pub fn lcore(&self) -> &'c Lcore {
        self.lcore
    }

    /// How many mbufs it holds.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many more it has room for.
    #[inline]
    #[must_use]
    pub fn room(&self) -> usize {
        BURST_MAX - self.len
    }

    /// The indices, in order: what a ring takes.
    #[inline]
    #[must_use]
    pub fn indices(&self) -> &[u32] {
        &self.indices[..self.len]
    }

    /// Adds an mbuf at the end.
    ///
    /// # Errors
    ///
    /// Gives it back if there is no room, or if it is another thread's.
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf<'c>) -> Result<(), Mbuf<'c>> {
        if !core::ptr::eq(self.lcore, mbuf.lcore()) {
            return Err(mbuf);
        }
        let Some(place) = self.indices.get_mut(self.len) else {
            return Err(mbuf);
        };
        *place = mbuf.leak().bits();
        self.len += 1;
        Ok(())
    }

    /// Takes the last mbuf out.
    #[inline]
    #[must_use]
    pub fn pop(&mut self) -> Option<Mbuf<'c>> {
        while self.len > 0 {
            self.len -= 1;
            if let Some(mbuf) = owned(self.lcore, self.indices[self.len]) {
                return Some(mbuf);
            }
        }
        None
    }

    /// Lets `fill` write the indices of up to `count` mbufs, checked and held by `lcore`, behind the last; it returns how many.
    #[inline]
    pub(crate) fn extend_with(
        &mut self,
        lcore: &Lcore,
        count: usize,
        fill: impl FnOnce(&mut [u32]) -> usize,
    ) -> usize {
        if !core::ptr::eq(self.lcore, lcore) {
            return 0;
        }
        let free = &mut self.indices[self.len..];
        let count = count.min(free.len());
        let filled = fill(&mut free[..count]).min(count);
        self.len += filled;
        filled
    }

    /// The mbufs, to look at.
    pub fn iter(&self) -> impl Iterator<Item = MbufRef<'_, 'c>> {
        self.indices().iter().filter_map(|index| {
            Some(MbufRef {
                mbuf: Some(owned(self.lcore, *index)?),
                burst: PhantomData,
            })
        })
    }

    /// The mbufs, to change: `for mut mbuf in burst.iter_mut()`.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = MbufMut<'_, 'c>> {
        let lcore = self.lcore;
        self.indices[..self.len]
            .iter_mut()
            .filter_map(move |place| {
                let mbuf = owned(lcore, *place)?;
                // Until the guard is dropped the mbuf is in its hands alone, even if it is swapped out or leaked.
                *place = HOLE;
                Some(MbufMut {
                    lcore,
                    mbuf: Some(mbuf),
                    place,
                })
            })
    }

    /// The mbuf at a place, to look at.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<MbufRef<'_, 'c>> {
        let index = *self.indices().get(at)?;
        Some(MbufRef {
            mbuf: Some(owned(self.lcore, index)?),
            burst: PhantomData,
        })
    }

    /// Takes all mbufs out, the first one first. What is not taken is freed.
    pub fn drain(&mut self) -> Drain<'_, 'c> {
        let end = self.len;
        // Nothing is owned twice even if the `Drain` is leaked.
        self.len = 0;
        Drain {
            burst: self,
            next: 0,
            end,
        }
    }

    /// Takes the first `n` mbufs out as a burst, fewer if there are fewer.
    pub fn take_front(&mut self, n: usize) -> Self {
        let n = n.min(self.len);
        let mut front = Self::new(self.lcore);
        front.indices[..n].copy_from_slice(&self.indices[..n]);
        front.len = n;
        self.forget_front(n);
        front
    }

    /// Moves what fits of `other` to the end, the first one first, and returns how many.
    pub fn append(&mut self, other: &mut Self) -> usize {
        let lcore = other.lcore;
        let n = self.extend_with(lcore, other.len, |out| {
            out.copy_from_slice(&other.indices[..out.len()]);
            out.len()
        });
        other.forget_front(n);
        n
    }

    /// Frees all but the first `len` mbufs.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            let freed = len..core::mem::replace(&mut self.len, len);
            self.lcore.free(&self.indices[freed]);
        }
    }

    /// Frees the first `n` mbufs: what a driver does when they are sent.
    pub fn free_front(&mut self, n: usize) {
        drop(self.take_front(n));
    }

    /// Frees all mbufs.
    #[inline]
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// What the mbufs come to. One pass, for those who count.
    #[inline]
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut finder = self.lcore.finder();
        let mut totals = Totals::default();
        let mut rest = self.indices();
        while let Some(&first) = rest.first() {
            let range = finder.range_of(first);
            let known = rest.iter().map_while(|bits| range.known(*bits));
            let run = known.map(|facts| totals.add(facts)).count();
            rest = &rest[run..];
            if run == 0 {
                // None is the hole that a leaked `MbufMut` left.
                if let Some(record) = range.find(MbufIndex::from_bits(first)) {
                    totals.add(record.facts());
                }
                rest = &rest[1..];
            }
        }
        totals
    }

    /// Says where the mbufs from place `from` on came from, and what they come to: for ports.
    #[inline]
    pub fn arrived(&mut self, from: usize, port: u16, queue: u16) -> Totals {
        let mut finder = self.lcore.finder();
        let mut totals = Totals::default();
        for bits in self.indices().iter().skip(from) {
            // None is the hole that a leaked `MbufMut` left.
            if let Some(record) = finder.find(MbufIndex::from_bits(*bits)) {
                totals.add(record.come_by(port, queue));
            }
        }
        totals
    }

    /// The mbufs in front that came by one port.
    #[inline]
    #[must_use]
    pub fn run_of_port(&self) -> Run {
        let mut finder = self.lcore.finder();
        let mut run = Run {
            port: crate::PORT_NONE,
            len: 0,
            totals: Totals::default(),
        };
        for (at, bits) in self.indices().iter().enumerate() {
            // None is the hole that a leaked `MbufMut` left.
            if let Some(record) = finder.find(MbufIndex::from_bits(*bits)) {
                let facts = record.facts();
                if run.totals.packets == 0 {
                    run.port = facts.port;
                } else if facts.port != run.port {
                    break;
                }
                run.totals.add(facts);
            }
            run.len = at + 1;
        }
        run
    }

    /// Asks the processor to fetch the line of each mbuf's frame where data usually starts.
    pub fn prefetch_data(&self) {
        for index in self.indices() {
            let index = MbufIndex::from_bits(*index);
            if let Some((cache, _)) = self.lcore.find(index) {
                cache.pool().prefetch_data(index);
            }
        }
    }

    /// Asks the processor to fetch the lines where the data of the mbufs from place `from` on starts, and what stands just before it.
    pub fn prefetch_fronts(&self, from: usize) {
        for bits in self.indices().iter().skip(from) {
            let index = MbufIndex::from_bits(*bits);
            if let Some((cache, record)) = self.lcore.find(index) {
                let before = usize::from(record.extent().offset).saturating_sub(1);
                if let Some(before) = cache.pool().frame(index, before, 0) {
                    crate::pool::prefetch(before.as_ptr());
                }
            }
        }
    }

    /// Lets go of the first `n` mbufs, which somebody else has now.
    #[inline]
    pub(crate) fn forget_front(&mut self, n: usize) {
        let n = n.min(self.len);
        self.indices.copy_within(n..self.len, 0);
        self.len -= n;
    }

    /// Takes the mbuf at a place out and leaves a hole, to be filled with `set` or closed with `close_holes`.
    pub(crate) fn take_at(&mut self, at: usize) -> Option<Mbuf<'c>> {
        let place = self.indices[..self.len].get_mut(at)?;
        let mbuf = owned(self.lcore, *place)?;
        *place = HOLE;
        Some(mbuf)
    }

    /// Puts an mbuf of the same thread where `take_at` left a hole.
    pub(crate) fn put_at(&mut self, at: usize, mbuf: Mbuf<'c>) {
        if let Some(place) = self.indices[..self.len]
            .get_mut(at)
            .filter(|place| **place == HOLE)
        {
            *place = mbuf.leak().bits();
        }
    }

    /// Removes holes.
    pub(crate) fn close_holes(&mut self) {
        let mut kept = 0;
        for at in 0..self.len {
            if self.indices[at] != HOLE {
                self.indices[kept] = self.indices[at];
                kept += 1;
            }
        }
        self.len = kept;
    }
}

/// The mbuf of an index that a burst owned. The caller sees to it that the burst does not own it any more, or not meanwhile.
#[inline]
fn owned(lcore: &Lcore, bits: u32) -> Option<Mbuf<'_>> {
    (bits != HOLE).then(|| Mbuf::from_checked(lcore, MbufIndex::from_bits(bits)))
}

impl Drop for Burst<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.len > 0 {
            self.lcore.free(self.indices());
        }
    }
}

impl fmt::Debug for Burst<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|mbuf| mbuf.index()))
            .finish()
    }
}

/// An mbuf of a burst, to look at.
#[derive(Debug)]
pub struct MbufRef<'b, 'c> {
    /// Taken in `drop` alone.
    mbuf: Option<Mbuf<'c>>,
    burst: PhantomData<&'b Burst<'c>>,
}

impl<'c> Deref for MbufRef<'_, 'c> {
    type Target = Mbuf<'c>;

    #[inline]
    fn deref(&self) -> &Mbuf<'c> {
        self.mbuf.as_ref().expect("taken in drop alone")
    }
}

impl Drop for MbufRef<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        // The burst owns it still.
        if let Some(mbuf) = self.mbuf.take() {
            mbuf.leak();
        }
    }
}

/// An mbuf of a burst, to change.
#[derive(Debug)]
pub struct MbufMut<'b, 'c> {
    lcore: &'c Lcore,
    /// Taken in `drop` alone.
    mbuf: Option<Mbuf<'c>>,
    /// Where it belongs in the burst; a hole meanwhile.
    place: &'b mut u32,
}

impl<'c> Deref for MbufMut<'_, 'c> {
    type Target = Mbuf<'c>;

    #[inline]
    fn deref(&self) -> &Mbuf<'c> {
        self.mbuf.as_ref().expect("taken in drop alone")
    }
}

impl<'c> DerefMut for MbufMut<'_, 'c> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Mbuf<'c> {
        self.mbuf.as_mut().expect("taken in drop alone")
    }
}

impl Drop for MbufMut<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        // Whatever mbuf is in our hands now goes back to the burst; another thread's, swapped in, is freed there.
        if let Some(mbuf) = self.mbuf.take()
            && core::ptr::eq(mbuf.lcore(), self.lcore)
        {
            *self.place = mbuf.leak().bits();
        }
    }
}

/// The mbufs of a burst on their way out.
#[derive(Debug)]
pub struct Drain<'b, 'c> {
    burst: &'b mut Burst<'c>,
    next: usize,
    end: usize,
}

impl<'c> Iterator for Drain<'_, 'c> {
    type Item = Mbuf<'c>;

    #[inline]
    fn next(&mut self) -> Option<Mbuf<'c>> {
        while self.next < self.end {
            let bits = self.burst.indices[self.next];
            self.next += 1;
            if let Some(mbuf) = owned(self.burst.lcore, bits) {
                return Some(mbuf);
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.end - self.next))
    }
}

impl Drop for Drain<'_, '_> {
    fn drop(&mut self) {
        self.burst
            .lcore
            .free(&self.burst.indices[self.next..self.end]);
    }
}
