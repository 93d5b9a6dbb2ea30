//! The producing end of a ring, whatever its kind.

use crate::claim::{Claim, is_open, sleeper};
use crate::error::Full;
use crate::fanin;
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

/// The producing end: dropping it gives the end back.
///
/// It may go to another thread, but two cannot use it at once: that is what makes it fast.
#[derive(Debug)]
pub struct Producer<'r> {
    lane: fanin::Producer<'r>,
    /// The consumer's word, which says whether the ring is open.
    consumer: &'r AtomicU64,
    drops: &'r Counter,
    /// Has the doorbells.
    region: &'r Region,
    /// Between publishing and the look whether the consumer sleeps.
    barrier: Light,
    /// Says what the items are.
    mbufs: &'r AtomicU64,
    /// Dropped last, when all that was enqueued is published.
    claim: Claim<'r>,
}

impl<'r> Producer<'r> {
    pub(crate) fn new(
        lane: fanin::Producer<'r>,
        consumer: &'r AtomicU64,
        drops: &'r Counter,
        region: &'r Region,
        mbufs: &'r AtomicU64,
        claim: Claim<'r>,
    ) -> Self {
        Self {
            lane,
            consumer,
            drops,
            region,
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
        if !self.is_closed() && self.lane.enqueue(item) {
            self.wake();
            Ok(())
        } else {
            Err(Full)
        }
    }

    /// Adds as many of `items` as fit, from the front.
    #[inline]
    pub fn enqueue_burst(&mut self, items: &[u32]) -> Enqueued {
        if self.is_closed() {
            return Enqueued::default();
        }
        let count = self.lane.enqueue_burst(items);
        self.enqueued(count)
    }

    /// Adds all of `items`, or none of them.
    #[inline]
    pub fn enqueue_bulk(&mut self, items: &[u32]) -> Enqueued {
        if self.is_closed() {
            return Enqueued::default();
        }
        let count = self.lane.enqueue_bulk(items);
        self.enqueued(count)
    }

    #[inline]
    fn enqueued(&self, count: u32) -> Enqueued {
        if count > 0 {
            self.wake();
        }
        Enqueued {
            count: count as usize,
            free: self.lane.known_free() as usize,
        }
    }

    /// After publishing: rings if the consumer sleeps. Who dies before it leaves that to the sweep.
    #[inline]
    fn wake(&self) {
        if let Some(slot) = sleeper(self.consumer, self.barrier) {
            self.region.ring_doorbell(slot);
        }
    }

    /// How many items would be taken now; 0 when the ring is closed.
    pub fn free(&mut self) -> usize {
        if self.is_closed() {
            0
        } else {
            self.lane.look() as usize
        }
    }

    /// Whether nobody consumes: what is enqueued now is refused.
    #[inline]
    pub fn is_closed(&self) -> bool {
        // Relaxed: it guards no data. Who sees it late enqueues into a ring that waits for
        // its next consumer, which positions allow.
        !is_open(self.consumer.load(Ordering::Relaxed))
    }

    /// Counts `items` that the caller dropped because they were not taken.
    pub fn count_drops(&mut self, items: usize) {
        self.drops.add(items as u64);
    }
}
