//! Frames that lie in a device: given to a queue and taken back from it.
//!
//! A device that works on the frames themselves (an AF_XDP socket, whose UMEM is a pool's frame array) has them while nobody
//! lists them: their tag `QUEUE q` is their only record. The queue's record in shared memory says what was about to be given.
//!
//! ```text
//! give   1. descriptors behind the producer index   2. intent <- producer + n   3. tags <- QUEUE q   4. producer <- intent
//! take   1. tags <- me                              2. consumer + n             3. use them
//! ```
//!
//! | word                      | written by                            | read by                         |
//! |---------------------------|---------------------------------------|---------------------------------|
//! | intent, in the record     | the queue's owner                     | its successor, the sweep        |
//! | given: producer, descriptors | the queue's owner                  | the device                      |
//! | taken: consumer           | the queue's owner                     | the device                      |
//! | taken: producer, descriptors | the device                         | the queue's owner, the sweep    |
//!
//! **If a process dies** in `give` before 4: what was tagged lies between producer index and intent, and the device does not
//! have it; what was not tagged is in the dead one's hands. In `take` before 2: it is listed by the device's ring still, so the
//! sweep takes it there before it looks at tags. [`Orphaned::undo`] does both, can be repeated, and lets go of the queue last.

use core::sync::atomic::compiler_fence;

use eal::holder::{Holder, HolderKind};
use eal::process::Owner;
use eal::queue::QueueRecord;

use crate::burst::Burst;
use crate::index::MbufIndex;
use crate::lcore::Lcore;
use crate::magazine::Record;
use crate::mbuf::Mbuf;
use crate::sync::{AtomicU32, Ordering, acquire, release};

/// Where the descriptors of one ring of a device lie, and what they look like.
pub trait Descriptors {
    /// How many: a power of two.
    fn len(&self) -> u32;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the one at `position` (modulo [`len`](Self::len)), for the mbuf `index`.
    fn put(&self, position: u32, index: MbufIndex);

    /// Which mbuf the one at `position` is for. Anything may stand there.
    fn get(&self, position: u32) -> MbufIndex;
}

/// One ring between a queue's owner and the device.
#[derive(Debug)]
pub struct FrameRing<'r, D> {
    /// Positions that were filled.
    pub producer: &'r AtomicU32,
    /// Positions that were emptied.
    pub consumer: &'r AtomicU32,
    /// What lies between them.
    pub descriptors: D,
}

impl<D: Descriptors> FrameRing<'_, D> {
    /// Positions filled and not emptied, never more than there are descriptors.
    fn waiting(&self) -> (u32, u32) {
        // Acquire: who took what is not shown any more has tagged it. Pairs with the release of `take`.
        let consumer = self.consumer.load(acquire("device"));
        // Acquire: descriptors come with the index. Pairs with the device's release.
        let producer = self.producer.load(acquire("device"));
        (
            consumer,
            producer.wrapping_sub(consumer).min(self.descriptors.len()),
        )
    }
}

/// The frames side of a device queue: the ring that the device empties, and the one that it fills.
#[derive(Debug)]
pub struct FrameQueue<'r, D> {
    /// Who drives the queue, and what it was about to give.
    pub record: &'r QueueRecord,
    /// The tag of what the device has.
    pub holder: Holder,
    /// To the device: TX, or fill.
    pub given: FrameRing<'r, D>,
    /// From the device: completion, or RX.
    pub taken: FrameRing<'r, D>,
}

/// A device queue as the sweep sees it.
pub trait Orphaned {
    /// If it has an owner who does not live: gives back what was half given or half taken, and lets go of the queue. Returns
    /// how many frames that were.
    fn undo(&self, lcore: &Lcore) -> u32;

    /// Shows every mbuf that the device has handed back and that nobody has taken yet.
    fn walk(&self, mbuf: &mut dyn FnMut(MbufIndex));
}

impl<D: Descriptors> FrameQueue<'_, D> {
    /// Gives mbufs from the front of `burst` to the device, as many as fit and stand alone, and returns how many. A chain, a
    /// clone or an mbuf with clones ends it: references stay within their slot, so copy it first. For the queue's owner.
    pub fn give(&self, burst: &mut Burst<'_>) -> usize {
        let lcore = burst.lcore();
        // Relaxed: ours alone.
        let producer = self.given.producer.load(Ordering::Relaxed);
        // Acquire: the device has read what it gives back. Pairs with its release.
        let consumer = self.given.consumer.load(acquire("device"));
        let free = self
            .given
            .descriptors
            .len()
            .saturating_sub(producer.wrapping_sub(consumer));
        let tags = burst.indices().iter().map_while(|bits| {
            let index = MbufIndex::from_bits(*bits);
            let (_, Record { tag, meta, .. }) = lcore.find(index)?;
            let is_plain = !tag.read().is_linked() || meta.is_plain();
            is_plain.then_some((index, tag))
        });
        let ready = tags.take(free as usize);
        // 1. Descriptors behind the producer index: the device does not look there.
        let mut end = producer;
        for (index, _) in ready.clone() {
            self.given.descriptors.put(end, index);
            end = end.wrapping_add(1);
        }
        if end == producer {
            return 0;
        }
        // 2. intent <- producer + n. Release: who sees it sees the descriptors.
        self.record.intent.store(end, release("intent"));
        // Against death the order of the program counts: no tag before the intent.
        compiler_fence(Ordering::Release);
        // 3. tag <- QUEUE q.
        ready.for_each(|(_, tag)| tag.set(self.holder));
        // 4. producer <- intent. Release: the device sees the descriptors; who sees it sees the tags.
        self.given.producer.store(end, release("device"));
        let count = end.wrapping_sub(producer) as usize;
        burst.forget_front(count);
        count
    }

    /// Takes what the device has handed back, as much as `burst` has room for, and returns how many. A descriptor that names
    /// no frame of this queue is passed and counted. For the queue's owner.
    pub fn take<'c>(&self, lcore: &'c Lcore, burst: &mut Burst<'c>) -> usize {
        let (consumer, waiting) = self.taken.waiting();
        let wanted = waiting.min(u32::try_from(burst.room()).unwrap_or(0));
        if wanted == 0 {
            return 0;
        }
        let room = wanted as usize;
        burst.extend_with(lcore, room, |out| {
            let taken = self.tag_taken(lcore, consumer, wanted, out, |tag| tag == self.holder);
            // 2. consumer + n. Release: we have read the descriptors, and tagged.
            self.taken
                .consumer
                .store(consumer.wrapping_add(wanted), release("device"));
            taken
        })
    }

    /// Take, step 1: tags the frames of `count` descriptors whose tag `may_be` ours to take; those are put into `out`.
    fn tag_taken(
        &self,
        lcore: &Lcore,
        from: u32,
        count: u32,
        out: &mut [u32],
        may_be: impl Fn(Holder) -> bool,
    ) -> usize {
        let mut taken = 0;
        for offset in 0..count {
            let index = self.taken.descriptors.get(from.wrapping_add(offset));
            match lcore.find(index) {
                None => lcore.counters().bad_index.add(1),
                Some((_, Record { tag, .. })) if may_be(tag.holder()) => {
                    tag.set(lcore.holder());
                    if let Some(place) = out.get_mut(taken) {
                        *place = index.bits();
                        taken += 1;
                    }
                }
                Some(_) => lcore.counters().bad_holder.add(1),
            }
        }
        taken
    }

    /// For who has claimed the queue after an owner that died, before anything else: frees what that one had half given, and
    /// tags what it had half taken as the queue's again, so that [`take`](Self::take) finds it. The sweep may come before or
    /// after.
    pub fn adopt(&self, lcore: &Lcore) {
        self.undo_give(lcore);
        let (consumer, waiting) = self.taken.waiting();
        for offset in 0..waiting {
            let index = self.taken.descriptors.get(consumer.wrapping_add(offset));
            if let Some((_, Record { tag, .. })) = lcore.find(index)
                && matches!(tag.holder().kind(), HolderKind::Slot(_))
            {
                tag.set(self.holder);
            }
        }
    }

    /// What the last owner left half given is undone, for who has claimed the queue after it: frees what was tagged and not
    /// published.
    fn undo_give(&self, lcore: &Lcore) -> u32 {
        let producer = self.given.producer.load(Ordering::Relaxed);
        let intent = self.record.intent.load(acquire("intent"));
        let begun = intent.wrapping_sub(producer);
        let mut undone = 0;
        // More than there is room for was never meant: somebody scribbled.
        if begun <= self.given.descriptors.len() {
            for offset in 0..begun {
                let index = self.given.descriptors.get(producer.wrapping_add(offset));
                if let Some((_, Record { tag, .. })) = lcore.find(index)
                    && let seen = tag.read()
                    && seen.holder() == self.holder
                    && tag.set_from(seen, lcore.holder())
                {
                    drop(Mbuf::from_checked(lcore, index));
                    undone += 1;
                }
            }
        }
        self.record.intent.store(producer, release("intent"));
        undone
    }

    /// Takes and frees what the device has handed back by now, half taken or not.
    fn undo_take(&self, lcore: &Lcore) -> u32 {
        let (mut consumer, mut waiting) = self.taken.waiting();
        // A slot's: of who died over a take. The queue is ours, so that nobody living is about to.
        let may_be = |tag: Holder| tag == self.holder || matches!(tag.kind(), HolderKind::Slot(_));
        let mut undone = 0;
        while waiting > 0 {
            let mut burst = Burst::new(lcore);
            let now = waiting.min(u32::try_from(burst.room()).unwrap_or(1));
            let taken = burst.extend_with(lcore, now as usize, |out| {
                let taken = self.tag_taken(lcore, consumer, now, out, may_be);
                self.taken
                    .consumer
                    .store(consumer.wrapping_add(now), release("device"));
                taken
            });
            undone += u32::try_from(taken).unwrap_or(u32::MAX);
            (consumer, waiting) = (consumer.wrapping_add(now), waiting - now);
        }
        undone
    }
}

impl<D: Descriptors> Orphaned for FrameQueue<'_, D> {
    fn undo(&self, lcore: &Lcore) -> u32 {
        let word = &self.record.owner;
        let owner = Owner::from_bits(word.load(Ordering::Acquire));
        // Ours first, so that no successor works on it beside us; should we die over it, we are one of the dead ourselves.
        // Acquire: what the dead one did is seen.
        let ours = lcore.owner().bits();
        let claimed = owner != Owner::NONE
            && !lcore.region().owner_alive(owner)
            && word
                .compare_exchange(owner.bits(), ours, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        if !claimed {
            return 0;
        }
        let undone = self.undo_give(lcore) + self.undo_take(lcore);
        // Last, so that a sweep cut short is repeated. Release: the queue is seen as we leave it.
        let _ = word.compare_exchange(
            ours,
            Owner::NONE.bits(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        undone
    }

    fn walk(&self, mbuf: &mut dyn FnMut(MbufIndex)) {
        let (consumer, waiting) = self.taken.waiting();
        for offset in 0..waiting {
            mbuf(self.taken.descriptors.get(consumer.wrapping_add(offset)));
        }
    }
}
