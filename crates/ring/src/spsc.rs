//! One lane: one producer, one consumer, in memory that both processes map.
//!
//! Only numbers travel, so a slot is an atomic and this file needs no `unsafe`. A peer gone
//! mad can make us read a wrong number, never a wild pointer.
//!
//! ```text
//! position   ... |  taken  | waiting, the consumer's | free, the producer's | ...
//!                          ^ head                    ^ tail                 ^ head + size
//! ```
//!
//! Positions run through all of `u32` and wrap; they are never set back, whoever has the
//! ends. So each side may keep what it last saw of the other's position: it can only have
//! grown since, and a look at the shared word is due only when that is not enough.
//!
//! | word  | written by   | read by      |
//! |-------|--------------|--------------|
//! | tail  | the producer | the consumer |
//! | head  | the consumer | the producer |
//! | slots | the producer | the consumer |
//!
//! **If a process dies:** the producer fills slots first and publishes `tail` last, so the
//! consumer never sees half a burst; the consumer publishes `head` when it is done with the
//! items, so they are still in the lane for its successor. Either end goes on from the
//! shared words.

use crate::slots::Slots;
use crate::sync::{AtomicU32, Ordering, acquire, release};
use eal::counters::Counter;

/// What producer and consumer share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane<'r> {
    /// Next position to fill. The producer alone writes it.
    pub(crate) tail: &'r AtomicU32,
    /// Next position to empty. The consumer alone writes it.
    pub(crate) head: &'r AtomicU32,
    /// The items between them.
    pub(crate) slots: Slots<'r>,
}

/// Positions that no sequence of calls leaves behind: something scribbled over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Impossible {
    pub(crate) head: u32,
    pub(crate) tail: u32,
}

impl Lane<'_> {
    /// How many items wait, as far as one look can tell while both ends move.
    pub(crate) fn len(self) -> u32 {
        // Head first: seen the other way round, more could have been taken than was there.
        let head = self.head.load(Ordering::Relaxed);
        let filled = distance(head, self.tail.load(Ordering::Relaxed));
        filled.min(self.slots.capacity())
    }

    /// How far the consumer is.
    #[inline]
    fn head(self) -> u32 {
        // Acquire: the consumer has done with what it took: has read the slots, which may be filled again. Pairs with the
        // Release in `Consumer::release`.
        self.head.load(acquire("head"))
    }

    /// How far the producer is.
    #[inline]
    fn tail(self) -> u32 {
        // Acquire: the slots before this tail are filled. Pairs with the Release in `Producer::publish`.
        self.tail.load(acquire("tail"))
    }

    /// Every item between the ends, while both may move: what the consumer takes meanwhile may be among them, and what the
    /// producer adds. With ends that cannot be, all slots.
    ///
    /// What was taken before the look and is not among them, its taker has written to already (tags, above all).
    pub(crate) fn walk(self, mut item: impl FnMut(u32)) {
        // Head first: an item that we miss was taken, and we see what its taker did before.
        let head = self.head();
        let tail = self.tail();
        // Further apart than the lane is long: the slots of the first ones are others' by now.
        let count = distance(head, tail).min(self.slots.capacity());
        for back in (1..=count).rev() {
            item(self.slots.at(tail.wrapping_sub(back)));
        }
    }

    /// Whether the ends are where they can be. For who has claimed one of them: that one
    /// stands still, and the other keeps its distance.
    pub(crate) fn check(self) -> Result<(), Impossible> {
        let (head, tail) = (
            self.head.load(Ordering::Relaxed),
            self.tail.load(Ordering::Relaxed),
        );
        if distance(head, tail) <= self.slots.capacity() {
            return Ok(());
        }
        Err(Impossible { head, tail })
    }
}

/// The filling end.
#[derive(Debug)]
pub(crate) struct Producer<'r> {
    lane: Lane<'r>,
    /// What `tail` holds. Ours is the only hand on it.
    position: u32,
    /// What `head` held when we last looked. It may only have grown since.
    head_seen: u32,
    /// Looks that found an impossible head.
    faults: &'r Counter,
}

impl<'r> Producer<'r> {
    /// Goes on where the last producer stopped. The caller has claimed the end.
    pub(crate) fn attach(lane: Lane<'r>, faults: &'r Counter) -> Self {
        // Relaxed: what the last owner of the end stored came with the claim.
        let position = lane.tail.load(Ordering::Relaxed);
        // As if full: the first enqueue looks.
        let head_seen = position.wrapping_sub(lane.slots.capacity());
        Self {
            lane,
            position,
            head_seen,
            faults,
        }
    }

    /// Adds one item; `false` if there is no room.
    #[inline]
    pub(crate) fn enqueue(&mut self, item: u32) -> bool {
        if self.free_for(1) == 0 {
            return false;
        }
        self.lane.slots.put(self.position, item);
        self.publish(1);
        true
    }

    /// Adds what fits of `items` and returns how many that was.
    #[inline]
    pub(crate) fn enqueue_burst(&mut self, items: &[u32]) -> u32 {
        let count = self
            .free_for(saturated(items.len()))
            .min(saturated(items.len()));
        let (fitting, _) = items.split_at(items.len().min(count as usize));
        self.lane.slots.write(self.position, fitting);
        self.publish(count);
        count
    }

    /// Free slots as far as known: never more than there are.
    #[inline]
    pub(crate) fn known_free(&self) -> u32 {
        self.lane
            .slots
            .capacity()
            .wrapping_sub(distance(self.head_seen, self.position))
    }

    /// Free slots; looks at the shared head only if the last look does not cover `wanted`.
    #[inline]
    pub(crate) fn free_for(&mut self, wanted: u32) -> u32 {
        if self.known_free() < wanted {
            self.look();
        }
        self.known_free()
    }

    /// Looks how far the consumer is. Keeps the older look if it cannot be there.
    #[inline]
    pub(crate) fn look(&mut self) {
        let head = self.lane.head();
        if distance(head, self.position) <= distance(self.head_seen, self.position) {
            self.head_seen = head;
        } else {
            self.faults.add(1);
        }
    }

    /// Hands over the next `count` slots, which are filled.
    #[inline]
    fn publish(&mut self, count: u32) {
        if count > 0 {
            self.position = self.position.wrapping_add(count);
            // Release: a consumer that sees this tail sees the slots before it. Pairs with
            // the Acquire in `Lane::tail`.
            self.lane.tail.store(self.position, release("tail"));
        }
    }
}

/// The emptying end.
#[derive(Debug)]
pub(crate) struct Consumer<'r> {
    lane: Lane<'r>,
    /// What `head` holds. Ours is the only hand on it.
    position: u32,
    /// What `tail` held when we last looked. It may only have grown since.
    tail_seen: u32,
    /// How many items the last peek showed that are not released yet.
    peeked: u32,
    /// Looks that found an impossible tail.
    faults: &'r Counter,
}

impl<'r> Consumer<'r> {
    /// Goes on where the last consumer stopped. The caller has claimed the end.
    pub(crate) fn attach(lane: Lane<'r>, faults: &'r Counter) -> Self {
        // Relaxed: what the last owner of the end stored came with the claim.
        let position = lane.head.load(Ordering::Relaxed);
        // As if empty: the first peek looks.
        Self {
            lane,
            position,
            tail_seen: position,
            peeked: 0,
            faults,
        }
    }

    /// Copies the next items into `out`, as many as there are, and leaves them in the lane.
    #[inline]
    pub(crate) fn peek(&mut self, out: &mut [u32]) -> u32 {
        let wanted = saturated(out.len());
        if self.known() < wanted {
            self.look();
        }
        let count = self.known().min(wanted);
        let (shown, _) = out.split_at_mut(out.len().min(count as usize));
        self.lane.slots.read(self.position, shown);
        self.peeked = count;
        count
    }

    /// Takes one item.
    #[inline]
    pub(crate) fn dequeue(&mut self) -> Option<u32> {
        if self.known() == 0 {
            self.look();
        }
        (self.known() > 0).then(|| {
            let item = self.lane.slots.at(self.position);
            self.peeked = 1;
            self.release(1);
            item
        })
    }

    /// Gives the first `count` slots of the last peek back, no more than it showed.
    #[inline]
    pub(crate) fn release(&mut self, count: u32) -> u32 {
        let count = count.min(self.peeked);
        if count > 0 {
            self.peeked -= count;
            self.position = self.position.wrapping_add(count);
            // Release: we have read the slots that we give back. Pairs with the Acquire in
            // `Lane::head`.
            self.lane.head.store(self.position, release("head"));
        }
        count
    }

    /// How many items wait as far as known: never more than there are.
    #[inline]
    pub(crate) fn known(&self) -> u32 {
        distance(self.position, self.tail_seen)
    }

    /// How many items the last peek showed that are not released yet.
    #[inline]
    pub(crate) fn peeked(&self) -> u32 {
        self.peeked
    }

    /// Looks how far the producer is. Keeps the older look if it cannot be there.
    #[inline]
    pub(crate) fn look(&mut self) {
        let tail = self.lane.tail();
        let filled = distance(self.position, tail);
        if filled >= self.known() && filled <= self.lane.slots.capacity() {
            self.tail_seen = tail;
        } else {
            self.faults.add(1);
        }
    }
}

/// How far `to` is ahead of `from`.
#[inline]
pub(crate) fn distance(from: u32, to: u32) -> u32 {
    to.wrapping_sub(from)
}

/// A length as a count of slots; no lane has more than `u32` can say.
#[inline]
pub(crate) fn saturated(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
