//! The producing end of a ring, whatever its kind.

use crate::claim::{Claim, Sleepers, is_open, sleeper};
use crate::error::{Full, NoBulk};
use crate::fanin;
use crate::mpmc;
use crate::sync::{AtomicU64, Ordering};
use eal::barrier::Light;
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
    /// The one of them that was found open last.
    open: usize,
    drops: &'r Counter,
    /// Has the doorbells.
    region: &'r Region,
    /// Who of many consumers sleeps.
    sleepers: Sleepers<'r>,
    /// Between publishing and the look whether the consumer sleeps.
    barrier: Light,
    /// Says what the items are.
    mbufs: &'r AtomicU64,
    /// Dropped last, when all that was enqueued is published.
    claim: Claim<'r>,
}

impl<'r> Producer<'r> {
    pub(crate) fn new(
        lane: Lane<'r>,
        consumers: &'r [AtomicU64],
        drops: &'r Counter,
        region: &'r Region,
        sleepers: Sleepers<'r>,
        mbufs: &'r AtomicU64,
        claim: Claim<'r>,
    ) -> Self {
        Self {
            lane,
            consumers,
            open: 0,
            drops,
            region,
            sleepers,
            barrier: Light::of_process(),
            mbufs,
            claim,
        }
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
        if !self.finds_open() {
            return Err(Full);
        }
        let added = match &mut self.lane {
            Lane::Own(lane) => lane.enqueue(item),
            Lane::Shared(array) => array.enqueue(item),
        };
        if !added {
            return Err(Full);
        }
        self.wake();
        Ok(())
    }

    /// Adds as many of `items` as fit, from the front.
    #[inline]
    pub fn enqueue_burst(&mut self, items: &[u32]) -> Enqueued {
        if !self.finds_open() {
            return Enqueued::default();
        }
        let count = match &mut self.lane {
            Lane::Own(lane) => lane.enqueue_burst(items),
            Lane::Shared(array) => array.enqueue_burst(items),
        };
        self.enqueued(count)
    }

    /// Adds all of `items`, or none of them.
    ///
    /// # Errors
    ///
    /// [`NoBulk`] in a ring with many consumers.
    #[inline]
    pub fn enqueue_bulk(&mut self, items: &[u32]) -> Result<Enqueued, NoBulk> {
        let is_open = self.finds_open();
        let Lane::Own(lane) = &mut self.lane else {
            return Err(NoBulk);
        };
        if !is_open {
            return Ok(Enqueued::default());
        }
        let count = lane.enqueue_bulk(items);
        Ok(self.enqueued(count))
    }

    /// Whether [`enqueue_bulk`](Self::enqueue_bulk) is not refused by name: unless there are many consumers.
    #[inline]
    pub fn takes_bulk(&self) -> bool {
        matches!(self.lane, Lane::Own(_))
    }

    #[inline]
    fn enqueued(&mut self, count: u32) -> Enqueued {
        if count > 0 {
            self.wake();
        }
        let free = match &mut self.lane {
            Lane::Own(lane) => lane.known_free(),
            Lane::Shared(array) => array.known_free(),
        };
        Enqueued {
            count: count as usize,
            free: free as usize,
        }
    }

    /// After publishing: rings if the consumer sleeps. Who dies before it leaves that to the sweep.
    #[inline]
    fn wake(&self) {
        match (&self.lane, self.consumers) {
            (Lane::Own(_), [consumer, ..]) => {
                if let Some(slot) = sleeper(consumer, self.barrier) {
                    self.region.ring_doorbell(slot);
                }
            }
            (Lane::Own(_), []) => {}
            (Lane::Shared(_), _) => {
                for slot in self.sleepers.after(self.barrier, self.consumers) {
                    self.region.ring_doorbell(slot);
                }
            }
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
        // Relaxed: it guards no data. Who sees it late enqueues into a ring that waits for
        // its next consumer, which positions allow.
        let is_open = |word: &AtomicU64| is_open(word.load(Ordering::Relaxed));
        !(self.consumers.get(self.open).is_some_and(is_open) || self.consumers.iter().any(is_open))
    }

    /// Whether somebody consumes: by one look, as long as the same one does.
    #[inline]
    fn finds_open(&mut self) -> bool {
        // Relaxed: as in `is_closed`.
        let word = self.consumers.get(self.open);
        word.is_some_and(|word| is_open(word.load(Ordering::Relaxed))) || self.seeks_open()
    }

    #[cold]
    fn seeks_open(&mut self) -> bool {
        let mut words = self.consumers.iter();
        let found = words.position(|word| is_open(word.load(Ordering::Relaxed)));
        self.open = found.unwrap_or(self.open);
        found.is_some()
    }

    /// Counts `items` that the caller dropped because they were not taken.
    pub fn count_drops(&mut self, items: usize) {
        self.drops.add(items as u64);
    }
}
