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

use crate::slots::{Slots, ahead};
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
        // Release in `Consumer::pass_to`.
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
    /// How far may be filled: what `head` held when we last looked, and the capacity. It may only have grown since.
    until: u32,
    /// Looks that found an impossible head.
    faults: &'r Counter,
}

impl<'r> Producer<'r> {
    /// Goes on where the last producer stopped. The caller has claimed the end.
    pub(crate) fn attach(lane: Lane<'r>, faults: &'r Counter) -> Self {
        // Relaxed: what the last owner of the end stored came with the claim.
        let position = lane.tail.load(Ordering::Relaxed);
        // As if full: the first enqueue looks.
        Self {
            lane,
            position,
            until: position,
            faults,
        }
    }

    /// Adds one item. The caller knows that there is room.
    #[inline]
    pub(crate) fn fill_one(&mut self, item: u32) {
        let position = self.position;
        self.lane.slots.put(position, item);
        self.publish(position.wrapping_add(1));
    }

    /// Adds all of `items`. The caller knows that there is room.
    #[inline]
    pub(crate) fn fill(&mut self, items: &[u32]) {
        let position = self.position;
        self.lane.slots.write(position, items);
        self.publish(ahead(position, items.len()));
    }

    /// The next position to fill.
    #[inline]
    pub(crate) fn position(&self) -> u32 {
        self.position
    }

    /// Free slots as far as known: never more than there are.
    #[inline]
    pub(crate) fn known_free(&self) -> u32 {
        distance(self.position, self.until)
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
        let (known, capacity) = (self.known_free(), self.lane.slots.capacity());
        let until = self.lane.head().wrapping_add(capacity);
        let free = distance(self.position, until);
        if free >= known && free <= capacity {
            self.until = until;
        } else {
            self.faults.add(1);
        }
    }

    /// Hands over the slots before `position`, which are filled.
    #[inline]
    fn publish(&mut self, position: u32) {
        self.position = position;
        // Release: a consumer that sees this tail sees the slots before it. Pairs with
        // the Acquire in `Lane::tail`.
        self.lane.tail.store(position, release("tail"));
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
        let count = self.show(out).count;
        self.peeked = count;
        count
    }

    /// Takes the next items, as many as there are and `out` has room for.
    #[inline]
    pub(crate) fn dequeue_burst(&mut self, out: &mut [u32]) -> Shown {
        let shown = self.show(out);
        self.peeked = 0;
        if shown.count > 0 {
            self.pass(shown.count);
        }
        shown
    }

    /// Takes one item, and says how many waited as far as known, this one among them.
    #[inline]
    pub(crate) fn dequeue(&mut self) -> Option<(u32, u32)> {
        let position = self.position;
        let known = self.known();
        let waiting = if known > 0 { known } else { self.more()? };
        let item = self.lane.slots.at(position);
        self.peeked = 0;
        self.pass_to(position.wrapping_add(1));
        Some((item, waiting))
    }

    /// Gives the first `count` slots of the last peek back, no more than it showed.
    #[inline]
    pub(crate) fn release(&mut self, count: u32) -> u32 {
        let count = count.min(self.peeked);
        if count > 0 {
            self.peeked -= count;
            self.pass(count);
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

    /// Looks how far the producer is, and says how many items wait. Keeps the older look if it cannot be there.
    #[inline]
    pub(crate) fn look(&mut self) -> u32 {
        let (position, known) = (self.position, self.known());
        let tail = self.lane.tail();
        let waiting = distance(position, tail);
        if waiting < known || waiting > self.lane.slots.capacity() {
            self.faults.add(1);
            return known;
        }
        self.tail_seen = tail;
        waiting
    }

    /// How many items wait where none was known to, if there are any. As a look, in fewer steps.
    #[inline]
    fn more(&mut self) -> Option<u32> {
        let tail = self.lane.tail();
        let waiting = distance(self.position, tail);
        // None, or more than there can be.
        if waiting.wrapping_sub(1) >= self.lane.slots.capacity() {
            if waiting > 0 {
                self.faults.add(1);
            }
            return None;
        }
        self.tail_seen = tail;
        Some(waiting)
    }

    /// Copies the next items into `out`, as many as there are. Looks at the shared tail only if the last look does not cover them.
    #[inline(always)]
    fn show(&mut self, out: &mut [u32]) -> Shown {
        let (position, known) = (self.position, self.known());
        let wanted = saturated(out.len());
        let waiting = if known < wanted { self.look() } else { known };
        if waiting >= wanted {
            self.lane.slots.read(position, out);
            let count = wanted;
            return Shown { count, waiting };
        }
        let (shown, _) = out.split_at_mut(out.len().min(waiting as usize));
        self.lane.slots.read_ragged(position, shown);
        let count = waiting;
        Shown { count, waiting }
    }

    /// Gives back the next `count` slots, whose items we have read.
    #[inline]
    fn pass(&mut self, count: u32) {
        self.pass_to(self.position.wrapping_add(count));
    }

    /// Gives back the slots before `position`, whose items we have read.
    #[inline]
    fn pass_to(&mut self, position: u32) {
        self.position = position;
        // Release: we have read the slots that we give back. Pairs with the Acquire in
        // `Lane::head`.
        self.lane.head.store(position, release("head"));
    }
}

/// What a look into a lane showed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    /// How many items were copied.
    pub(crate) count: u32,
    /// How many waited as far as known, these among them.
    pub(crate) waiting: u32,
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
