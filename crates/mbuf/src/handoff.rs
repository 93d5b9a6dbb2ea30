//! Mbufs from one slot to another, by a ring.
//!
//! ```text
//! slot X                          ring X -> Y                   slot Y
//! Burst --- enqueue ----> | m | m | m |   |   | ---- dequeue --> Burst
//! tag X, mark               tag X, marked            1. peek and check
//!                                                    2. tag <- Y, every segment of every packet
//!                                                    3. release: head moves on
//!                                                    4. unmark: only now the burst owns them
//! ```
//!
//! | word              | written by                                        |
//! |-------------------|---------------------------------------------------|
//! | tag of an mbuf    | the producer's from before; the consumer, in step 2 |
//! | mark of each segment, in its tag | the producer, before it enqueues; the consumer, in step 4 |
//! | links of a chain  | the producer, before it enqueues                  |
//! | ring              | as the ring says                                  |
//!
//! What comes out of a ring is another process's word: an index is checked against its pool, its holder must be a slot, and
//! each segment must be marked as sent. What fails is dropped and counted, and not freed: it is not ours. The holder
//! need not be the lane's producer of now, since former ones may have left packets there. The mark is what makes an index
//! good for one delivery: a copy of it, in the same ring or another, finds the mark gone, and so does an index that was put
//! into a ring past these ends while its `Mbuf` lives. The mark is a load and a store, not an exchange: two consumers at once
//! could both get a packet that a process listed in two rings on purpose. That is the limit that [`pool`](crate::pool) tells.
//!
//! **If a process dies:** the producer before the ring publishes: the mbufs carry its tag and are in no ring. After that they
//! are the ring's, whoever comes to take them. The consumer between steps 2 and 3: they carry its tag and are in the ring
//! still; the sweep empties the ring before it looks at tags, so it finds them once. Therefore a packet is passed on or
//! freed only after step 3: before it, it would be in two places that both count. It is unmarked after step 3 for the next
//! consumer, which must find what is in the ring still marked. In a ring with many consumers step 1 claims one packet, which
//! the ring lists until step 3 closes the claim; the sweep closes a dead one's, with the same steps.

use core::fmt;
use core::sync::atomic::{Ordering, compiler_fence};

use eal::holder::{Holder, HolderKind};
use eal::process::BufferCounters;
use eal::sleep::{Found, Source};
use ring::{Consumer, Dequeued, Enqueued, LeftClaim, NoBulk, Producer};

use crate::burst::Burst;
use crate::index::MbufIndex;
use crate::lcore::{Finder, Lcore};
use crate::magazine::Record;
use crate::mbuf::Mbuf;
use crate::tag::Tag;
use crate::{BURST_MAX, SEGMENTS_MAX};

/// The end of a ring that packets go into.
pub struct MbufProducer<'r> {
    ring: Producer<'r>,
}

impl<'r> MbufProducer<'r> {
    /// Packets for a ring whose end was claimed for this thread.
    #[must_use]
    pub fn new(ring: Producer<'r>) -> Self {
        ring.set_carries_mbufs();
        Self { ring }
    }

    /// Sends one packet. Slow; a burst costs little more.
    ///
    /// # Errors
    ///
    /// Gives it back if there is no room, or if a copy that must be made of it cannot be had.
    pub fn enqueue<'c>(&mut self, mbuf: Mbuf<'c>) -> Result<(), Mbuf<'c>> {
        let mut burst = Burst::new(mbuf.lcore());
        burst.push(mbuf)?;
        let _ = self.enqueue_burst(&mut burst);
        burst.pop().map_or(Ok(()), Err)
    }

    /// Sends what fits, the first ones first; what does not fit stays in the burst.
    ///
    /// A clone by reference, or an mbuf that has some, is replaced by a deep copy and counted: references do not leave
    /// their slot. Where the copy cannot be had, the burst ends.
    #[inline]
    pub fn enqueue_burst(&mut self, burst: &mut Burst<'_>) -> Enqueued {
        if !self.is_of(burst.lcore()) {
            return Enqueued {
                count: 0,
                free: self.ring.free(),
            };
        }
        let ready = prepare(burst, || self.room());
        let done = self.ring.enqueue_burst(&burst.indices()[..ready]);
        burst.forget_front(done.count);
        mark(burst.lcore(), burst.indices(), false);
        done
    }

    /// Sends all of the burst, or none.
    ///
    /// # Errors
    ///
    /// [`NoBulk`] in a ring with many consumers.
    #[inline]
    pub fn enqueue_bulk(&mut self, burst: &mut Burst<'_>) -> Result<Enqueued, NoBulk> {
        if !self.ring.takes_bulk() {
            return Err(NoBulk);
        }
        let whole = self.is_of(burst.lcore()) && prepare(burst, || self.room()) == burst.len();
        let done = if whole {
            self.ring.enqueue_bulk(burst.indices())
        } else {
            Ok(Enqueued {
                count: 0,
                free: self.ring.free(),
            })
        };
        burst.forget_front(done.map_or(0, |done| done.count));
        mark(burst.lcore(), burst.indices(), false);
        done
    }

    /// Whether the ring has no living consumer: then it takes nothing.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// Counts packets that were dropped since the ring had no room, where tools read it.
    pub fn count_drops(&mut self, n: usize) {
        self.ring.count_drops(n);
    }

    /// How many packets fit now.
    pub fn free(&mut self) -> usize {
        self.ring.free()
    }

    /// How many copies are worth making. A ring with many consumers only knows about how many fit, so it may be asked for any number.
    fn room(&mut self) -> usize {
        if self.ring.takes_bulk() {
            self.ring.free()
        } else {
            BURST_MAX
        }
    }

    /// The ring's end itself, for tests that do what no `Mbuf` can.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn ring(&mut self) -> &mut Producer<'r> {
        &mut self.ring
    }

    /// Whether the end was claimed for this thread's slot. If not, the mbufs would carry a tag that the ring's reader refuses.
    fn is_of(&self, lcore: &Lcore) -> bool {
        self.ring.owner() == lcore.owner()
    }
}

impl fmt::Debug for MbufProducer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MbufProducer")
            .field("owner", &self.ring.owner())
            .finish_non_exhaustive()
    }
}

/// Says of packets that they are sent, or that they are not after all.
#[inline]
fn mark(lcore: &Lcore, indices: &[u32], sent: bool) {
    let mut finder = lcore.finder();
    let mut rest = indices;
    while let Some(&first) = rest.first() {
        let run = mark_plain(&mut finder, rest, sent);
        rest = &rest[run..];
        if run == 0 {
            mark_packet(&mut finder, MbufIndex::from_bits(first), sent);
            rest = &rest[1..];
        }
    }
}

/// Marks packets up to the first that may not stand alone, and returns how many.
#[inline]
fn mark_plain(finder: &mut Finder<'_>, indices: &[u32], sent: bool) -> usize {
    run_of(finder, indices, |tag| {
        let seen = tag.read();
        let is_plain = !seen.is_linked();
        if is_plain {
            tag.set_in_ring(seen, sent);
        }
        is_plain
    })
}

/// Calls `plain` with one tag after the other, as far as the mbufs are of one pool and it says so. Returns how far.
#[inline]
fn run_of(finder: &mut Finder<'_>, indices: &[u32], plain: impl Fn(&Tag) -> bool) -> usize {
    let Some(&first) = indices.first() else {
        return 0;
    };
    let range = finder.range_of(first);
    let tags = indices
        .iter()
        .map(|bits| range.tag(MbufIndex::from_bits(*bits)));
    tags.take_while(|tag| tag.is_some_and(&plain)).count()
}

/// Marks all segments of a packet, or unmarks them.
#[inline]
fn mark_packet(finder: &mut Finder<'_>, head: MbufIndex, sent: bool) {
    let Some(tag) = finder.tag(head) else { return };
    let seen = tag.read();
    tag.set_in_ring(seen, sent);
    if seen.is_linked() {
        mark_segments(finder, head, sent);
    }
}

/// The same for what follows the head.
#[cold]
fn mark_segments(finder: &mut Finder<'_>, head: MbufIndex, sent: bool) {
    let mut index = head;
    for _ in 1..SEGMENTS_MAX {
        let Some(Record { meta, .. }) = finder.find(index) else {
            return;
        };
        index = meta.links().next;
        let Some(Record { tag, .. }) = finder.find(index) else {
            return;
        };
        let seen = tag.read();
        // A link that somebody scribbled upon may lead to another's: its tag is not ours to write.
        if seen.holder() != finder.holder() {
            return;
        }
        tag.set_in_ring(seen, sent);
    }
}

/// Makes the front of a burst fit to leave the slot, marks it as sent, and returns how many packets that is. Others may be
/// marked too.
#[inline]
fn prepare(burst: &mut Burst<'_>, free: impl FnOnce() -> usize) -> usize {
    let lcore = burst.lcore();
    if mark_plain(&mut lcore.finder(), burst.indices(), true) == burst.len() {
        return burst.len();
    }
    let ready = unshare(burst, free());
    mark(lcore, &burst.indices()[..ready], true);
    ready
}

/// The same for a burst with chains or clones; copies no more than there is room for.
#[cold]
fn unshare(burst: &mut Burst<'_>, free: usize) -> usize {
    burst.close_holes();
    let wanted = burst.len().min(free);
    for at in 0..wanted {
        if !burst.get(at).is_some_and(|mbuf| mbuf.is_shared()) {
            continue;
        }
        let Some(shared) = burst.take_at(at) else {
            continue;
        };
        let Some(copy) = shared.clone_deep(shared.pool()) else {
            burst.put_at(at, shared);
            return at;
        };
        burst.lcore().counters().clones_copied.add(1);
        burst.put_at(at, copy);
    }
    // What does not fit stays as it is, and is not offered to the ring.
    wanted
}

/// The end of a ring that packets come out of.
pub struct MbufConsumer<'r> {
    ring: Consumer<'r>,
}

impl<'r> MbufConsumer<'r> {
    /// Packets from a ring whose end was claimed for this thread.
    #[must_use]
    pub fn new(ring: Consumer<'r>) -> Self {
        Self { ring }
    }

    /// Adds the next packets to `burst`, as many as there are and as it has room for. Bad ones are dropped and
    /// counted, at most [`BURST_MAX`] of them a call.
    ///
    /// `count` of the answer is what was added; `left` is what waits in the ring as far as known.
    #[inline]
    pub fn dequeue_burst<'c>(&mut self, lcore: &'c Lcore, burst: &mut Burst<'c>) -> Dequeued {
        let (mut count, mut seen) = (0, 0);
        // A fan-in ring shows one lane at a time; others may have more. Bad packets take no room: they have a bound of
        // their own, or a peer that sends nothing else would keep us here.
        while burst.room() > 0 && seen - count < BURST_MAX {
            let most = BURST_MAX - (seen - count);
            let peeked = self.take(lcore, burst, &mut count, most);
            seen += peeked;
            if peeked == 0 || self.ring.known() == 0 {
                break;
            }
        }
        let left = self.ring.known();
        Dequeued { count, left }
    }

    /// Takes one packet. Slow; a burst costs little more.
    pub fn dequeue<'c>(&mut self, lcore: &'c Lcore) -> Option<Mbuf<'c>> {
        let mut burst = Burst::new(lcore);
        self.take(lcore, &mut burst, &mut 0, 1);
        burst.pop()
    }

    /// Takes up to `most` packets of one lane, counts the good ones and returns how many there were.
    #[inline]
    fn take<'c>(
        &mut self,
        lcore: &'c Lcore,
        burst: &mut Burst<'c>,
        count: &mut usize,
        most: usize,
    ) -> usize {
        if self.ring.owner() != lcore.owner() {
            return 0;
        }
        let mut peeked = 0;
        *count += burst.extend_with(lcore, most, |out| {
            peeked = self.ring.peek_burst(out);
            let mut finder = lcore.finder();
            let (me, counters) = (lcore.holder(), lcore.counters());
            let good = tag_good(&mut finder, me, counters, &mut out[..peeked]);
            // Step 3; the burst owns them when this closure is done.
            self.ring.release(peeked);
            // Against death the order of the program counts: nothing in the ring may be seen unmarked.
            compiler_fence(Ordering::Release);
            unmark(&mut finder, counters, &mut out[..good])
        });
        peeked
    }

    /// How many packets wait.
    pub fn len(&mut self) -> usize {
        self.ring.len()
    }

    /// Whether none waits.
    pub fn is_empty(&mut self) -> bool {
        self.len() == 0
    }

    /// The ring's end itself, for tests that do what no `Mbuf` can.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn ring(&mut self) -> &mut Consumer<'r> {
        &mut self.ring
    }
}

impl Source for MbufConsumer<'_> {
    fn sleep_begin(&mut self) {
        self.ring.sleep_begin();
    }

    fn look(&mut self) -> Found {
        self.ring.look()
    }

    fn sleep_end(&mut self) {
        self.ring.sleep_end();
    }
}

impl fmt::Debug for MbufConsumer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MbufConsumer")
            .field("owner", &self.ring.owner())
            .finish_non_exhaustive()
    }
}

/// Takes a packet that a dead consumer had claimed: tag, close, unmark, as a consumer does.
pub(crate) fn take_over<'c>(lcore: &'c Lcore, burst: &mut Burst<'c>, claim: LeftClaim<'_>) {
    burst.extend_with(lcore, 1, |out| {
        let mut finder = lcore.finder();
        out[0] = claim.item();
        let good = tag_good(&mut finder, lcore.holder(), lcore.counters(), &mut out[..1]);
        claim.close();
        compiler_fence(Ordering::Release);
        unmark(&mut finder, lcore.counters(), &mut out[..good])
    });
}

/// Whether an mbuf with this tag may have been sent: by any slot, the reader's own too. Who feeds the lane now need not be who
/// sent, and slots change hands: a former producer's packets may lie there under what is now our tag. It is the mark of what is
/// sent that tells a stale index.
fn is_slot(tag: Holder) -> bool {
    matches!(tag.kind(), HolderKind::Slot(_))
}

/// Dequeue, steps 1 and 2, for what was peeked: checks each packet and tags all its segments. The good ones are moved to
/// the front of `items`, in order; returns how many they are.
#[inline]
pub(crate) fn tag_good(
    finder: &mut Finder<'_>,
    me: Holder,
    counters: &BufferCounters,
    items: &mut [u32],
) -> usize {
    let plain = |tag: &Tag| {
        let seen = tag.read();
        let is_plain = seen.is_plain_in_ring();
        if is_plain {
            tag.hand_plain_to(me);
        }
        is_plain
    };
    keep(finder, items, plain, |finder, index| {
        let Some(tag) = finder.tag(index) else {
            counters.bad_index.add(1);
            return false;
        };
        let seen = tag.read();
        if !is_slot(seen.holder()) || !seen.is_in_ring() {
            counters.bad_holder.add(1);
            return false;
        }
        tag_chain(finder, me, counters, index)
    })
}

/// Dequeue, step 4: what is listed twice in one peek is marked the first time only. The good ones are moved to the front
/// of `items`, in order; returns how many they are.
#[inline]
fn unmark(finder: &mut Finder<'_>, counters: &BufferCounters, items: &mut [u32]) -> usize {
    let plain = |tag: &Tag| {
        let seen = tag.read();
        let is_plain = seen.is_in_ring() && !seen.is_linked();
        if is_plain {
            tag.set_in_ring(seen, false);
        }
        is_plain
    };
    keep(finder, items, plain, |finder, index| {
        let is_marked = finder.tag(index).is_some_and(|tag| tag.read().is_in_ring());
        if is_marked {
            mark_packet(finder, index, false);
        } else {
            counters.bad_holder.add(1);
        }
        is_marked
    })
}

/// Moves what is good to the front, in order, and returns how many they are. Nearly all are plain; what `other` says is asked of
/// the rest.
#[inline]
fn keep<'l>(
    finder: &mut Finder<'l>,
    items: &mut [u32],
    plain: impl Fn(&Tag) -> bool,
    other: impl Fn(&mut Finder<'l>, MbufIndex) -> bool,
) -> usize {
    let (mut good, mut seen) = (0, 0);
    while let Some(&first) = items.get(seen) {
        let run = run_of(finder, &items[seen..], &plain);
        if good < seen {
            items.copy_within(seen..seen + run, good);
        }
        good += run;
        seen += run;
        if run == 0 {
            seen += 1;
            if other(finder, MbufIndex::from_bits(first)) {
                items[good] = first;
                good += 1;
            }
        }
    }
    good
}

/// Steps 1 and 2 for a packet that may not stand alone. First looks at all segments, then tags them: a bad one is left as it
/// is, whole.
#[cold]
fn tag_chain(
    finder: &mut Finder<'_>,
    me: Holder,
    counters: &BufferCounters,
    head: MbufIndex,
) -> bool {
    let mut tags = [None; SEGMENTS_MAX];
    let mut index = head;
    for place in &mut tags {
        let Some(Record { tag, meta, .. }) = finder.find(index) else {
            counters.bad_index.add(1);
            return false;
        };
        let (seen, links) = (tag.read(), meta.links());
        // A clone by reference leads to a frame of the sender; a user besides this one is a clone that the sender kept.
        let sent = is_slot(seen.holder()) && seen.is_in_ring();
        if !sent || !links.original.is_none() || meta.refs() != 1 {
            counters.bad_holder.add(1);
            return false;
        }
        *place = Some((tag, seen));
        index = links.next;
        if index.is_none() {
            break;
        }
    }
    if !index.is_none() {
        counters.chain_too_long.add(1);
        return false;
    }
    for (tag, seen) in tags.into_iter().flatten() {
        tag.hand_to(seen, me);
    }
    true
}
