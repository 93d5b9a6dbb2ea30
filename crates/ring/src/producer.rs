//! The producing end of a ring, whatever its kind.

use crate::claim::{Claim, Sleepers, Watch, is_open};
use crate::error::{Full, NoBulk};
use crate::fanin;
use crate::mpmc;
use crate::sync::{AtomicU64, Ordering};
use eal::{Counter, Owner, Region};

/// What an enqueue did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "what was not taken is still the caller's"]
pub struct Enqueued {
    /// How many items were taken, from the front.
    pub count: usize,
    /// How many more would be taken, as far as known: the consumer may have made room since.
    pub free: usize,
}

/// A lane of its own, or the array of all.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the data path is made of the large one, and no end is ever moved"
)]
pub(crate) enum Lane<'r> {
    Own(fanin::Producer<'r>),
    Shared(mpmc::Producer<'r>),
}

/// The producing end: dropping it gives the end back.
///
/// It may go to another thread, but two cannot use it at once: that is what makes it fast.
#[derive(Debug)]
pub struct Producer<'r> {
    lane: Lane<'r>,
    /// The consumers' words, which say whether the ring is open.
    consumers: &'r [AtomicU64],
    /// The one of them that was found open last: of a lane of its own, the only one.
    open: &'r AtomicU64,
    drops: &'r Counter,
    /// Has the doorbells.
    region: &'r Region,
    /// Who of many consumers sleeps.
    sleepers: Sleepers<'r>,
    /// The look whether the consumer sleeps.
    watch: Watch,
    /// Says what the items are.
    mbufs: &'r AtomicU64,
    /// Dropped last, when all that was enqueued is published.
    claim: Claim<'r>,
}

impl<'r> Producer<'r> {
    /// `None` where there is no end to consume.
    pub(crate) fn new(
        lane: Lane<'r>,
        consumers: &'r [AtomicU64],
        drops: &'r Counter,
        region: &'r Region,
        sleepers: Sleepers<'r>,
        mbufs: &'r AtomicU64,
        claim: Claim<'r>,
    ) -> Option<Self> {
        Some(Self {
            lane,
            consumers,
            open: consumers.first()?,
            drops,
            region,
            sleepers,
            watch: Watch::of_process(),
            mbufs,
            claim,
        })
    }

    /// Says that the items of this ring are mbufs, which belong to somebody: what a dead consumer left is then given back
    /// to their pools instead of waiting for its successor. For who sends mbufs, before the first.
    pub fn set_carries_mbufs(&self) {
        // Relaxed: the tail that publishes the first of them is stored later, with Release.
        self.mbufs.store(1, Ordering::Relaxed);
    }

    /// Whom the end was claimed for.
    #[inline]
    pub fn owner(&self) -> Owner {
        self.claim.owner()
    }

    /// Adds one item. Slow: take [`enqueue_burst`](Self::enqueue_burst) where there are more.
    ///
    /// # Errors
    ///
    /// [`Full`] when there is no room or the ring is closed.
    #[inline]
    pub fn enqueue(&mut self, item: u32) -> Result<(), Full> {
        let Lane::Own(lane) = &mut self.lane else {
            return self.enqueue_shared(item);
        };
        let consumer = self.open;
        if !says_open(consumer) || !lane.enqueue(item) {
            return Err(Full);
        }
        self.wake(consumer);
        Ok(())
    }

    /// [`enqueue`](Self::enqueue) to many consumers.
    #[inline(never)]
    fn enqueue_shared(&mut self, item: u32) -> Result<(), Full> {
        let (true, Lane::Shared(array)) = (self.finds_open(), &mut self.lane) else {
            return Err(Full);
        };
        if !array.enqueue(item) {
            return Err(Full);
        }
        self.wake_many();
        Ok(())
    }

    /// Adds as many of `items` as fit, from the front.
    #[inline]
    pub fn enqueue_burst(&mut self, items: &[u32]) -> Enqueued {
        let Lane::Own(lane) = &mut self.lane else {
            return self.enqueue_burst_shared(items);
        };
        if !says_open(self.open) {
            return Enqueued::default();
        }
        let count = lane.enqueue_burst(items);
        let free = lane.known_free();
        self.enqueued(count, free)
    }

    /// [`enqueue_burst`](Self::enqueue_burst) to many consumers.
    #[inline(never)]
    fn enqueue_burst_shared(&mut self, items: &[u32]) -> Enqueued {
        let (true, Lane::Shared(array)) = (self.finds_open(), &mut self.lane) else {
            return Enqueued::default();
        };
        let count = array.enqueue_burst(items);
        let free = array.known_free();
        if count > 0 {
            self.wake_many();
        }
        Enqueued {
            count: count as usize,
            free: free as usize,
        }
    }

    /// Adds all of `items`, or none of them.
    ///
    /// # Errors
    ///
    /// [`NoBulk`] in a ring with many consumers.
    #[inline]
    pub fn enqueue_bulk(&mut self, items: &[u32]) -> Result<Enqueued, NoBulk> {
        let Lane::Own(lane) = &mut self.lane else {
            return Err(NoBulk);
        };
        if !says_open(self.open) {
            return Ok(Enqueued::default());
        }
        let count = lane.enqueue_bulk(items);
        let free = lane.known_free();
        Ok(self.enqueued(count, free))
    }

    /// Whether [`enqueue_bulk`](Self::enqueue_bulk) is not refused by name: unless there are many consumers.
    #[inline]
    pub fn takes_bulk(&self) -> bool {
        matches!(self.lane, Lane::Own(_))
    }

    #[inline]
    fn enqueued(&self, count: u32, free: u32) -> Enqueued {
        if count > 0 {
            self.wake(self.open);
        }
        Enqueued {
            count: count as usize,
            free: free as usize,
        }
    }

    /// After publishing in a lane of its own: rings if the owner of the consumer's word sleeps. Who dies before it leaves that to the sweep.
    #[inline]
    fn wake(&self, consumer: &AtomicU64) {
        if let Some(slot) = self.watch.sleeper(consumer) {
            self.region.ring_doorbell(slot);
        }
    }

    /// The same for many consumers.
    fn wake_many(&self) {
        for slot in self.sleepers.after(self.watch.barrier(), self.consumers) {
            self.region.ring_doorbell(slot);
        }
    }

    /// How many items would be taken now; 0 when the ring is closed. With many consumers about so many: up to 32 more or fewer.
    pub fn free(&mut self) -> usize {
        if !self.finds_open() {
            return 0;
        }
        match &mut self.lane {
            Lane::Own(lane) => lane.look() as usize,
            Lane::Shared(array) => array.look() as usize,
        }
    }

    /// Whether nobody consumes: what is enqueued now is refused.
    #[inline]
    pub fn is_closed(&self) -> bool {
        !(says_open(self.open) || self.consumers.iter().any(says_open))
    }

    /// Whether somebody consumes: by one look, as long as the same one does.
    #[inline]
    fn finds_open(&mut self) -> bool {
        says_open(self.open) || self.seeks_open()
    }

    #[cold]
    fn seeks_open(&mut self) -> bool {
        let found = self.consumers.iter().find(|word| says_open(word));
        self.open = found.unwrap_or(self.open);
        found.is_some()
    }

    /// Counts `items` that the caller dropped because they were not taken.
    pub fn count_drops(&mut self, items: usize) {
        self.drops.add(items as u64);
    }
}

/// Whether the consumer of this word is there.
#[inline]
fn says_open(word: &AtomicU64) -> bool {
    // Relaxed: it guards no data. Who sees it late enqueues into a ring that waits for
    // its next consumer, which positions allow.
    is_open(word.load(Ordering::Relaxed))
}
