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
//! have it: who claims the queue frees it ([`FrameQueue::adopt`]). What was not tagged is in the dead one's hands. In `take` before
//! 2: what was tagged is in the dead one's hands, and the device's ring lists it still. It is the sweep's, which frees it by its
//! tag, and by then it may be anybody's: so who claims the queue passes over what is not tagged as the queue's. Nobody but the
//! queue's owner tags an mbuf so; therefore neither has to wait for the other, and the sweep need not know where a device's rings
//! are. (`docs/decisions/0020-device-queues-without-the-sweep.md`)

use core::sync::atomic::compiler_fence;

use eal::holder::Holder;
use eal::process::Owner;
use eal::queue::QueueRecord;
use eal::sync::mutated;

use crate::burst::Burst;
use crate::index::MbufIndex;
use crate::lcore::Lcore;
use crate::magazine::Record;
use crate::mbuf::Mbuf;
use crate::pool::Pool;
use crate::sync::{AtomicU32, Ordering, acquire, release};

/// Where the bytes of a packet lie in its frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Octets before them.
    pub offset: u16,
    /// How many.
    pub len: u16,
    /// Whether the packet goes on in the next descriptor.
    pub more: bool,
}

/// What was taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// How many mbufs.
    pub count: usize,
    /// Which of them, by place from the first, go on in the next.
    pub more: u64,
}

/// Where the descriptors of one ring of a device lie, and what they look like.
pub trait Descriptors {
    /// How many: a power of two.
    fn len(&self) -> u32;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the one at `position` (modulo [`len`](Self::len)), for the mbuf `index` whose bytes lie there.
    fn put(&self, position: u32, index: MbufIndex, bytes: Extent);

    /// Which mbuf the one at `position` is for, and where the device has put a packet, if it does. Anything may stand there.
    fn get(&self, position: u32) -> (MbufIndex, Option<Extent>);
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
pub struct FrameQueue<'r, G, T> {
    /// Who drives the queue, and what it was about to give.
    pub record: &'r QueueRecord,
    /// The tag of what the device has.
    pub holder: Holder,
    /// The pool whose frames the device can reach, by its id.
    pub pool: u8,
    /// To the device: TX, or fill.
    pub given: FrameRing<'r, G>,
    /// From the device: completion, or RX.
    pub taken: FrameRing<'r, T>,
}

impl<G: Descriptors, T: Descriptors> FrameQueue<'_, G, T> {
    /// How many more the device takes now.
    pub fn room(&self) -> u32 {
        // Relaxed: ours alone.
        let producer = self.given.producer.load(Ordering::Relaxed);
        // Acquire: the device has read what it gives back. Pairs with its release.
        let consumer = self.given.consumer.load(acquire("device"));
        let len = self.given.descriptors.len();
        len.saturating_sub(producer.wrapping_sub(consumer))
    }

    /// Gives mbufs from the front of `burst` to the device, as many as fit and can be given as they are, and returns how many. One
    /// of another pool ends it, a chain, a clone or an mbuf with clones (references stay within their slot), and one of which
    /// something is still to be done on its way out: copy it first. For the queue's owner.
    pub fn give(&self, burst: &mut Burst<'_>) -> usize {
        self.hand_over(burst, false)
    }

    /// Gives all mbufs of `burst`, which [`give`](Self::give) would take, as the parts of one packet; `false`, and nothing done, if
    /// there is no room for them all.
    pub fn give_parts(&self, burst: &mut Burst<'_>) -> bool {
        let fits = burst.len() <= self.room() as usize;
        fits && self.hand_over(burst, true) > 0
    }

    fn hand_over(&self, burst: &mut Burst<'_>, is_chain: bool) -> usize {
        let lcore = burst.lcore();
        // Relaxed: ours alone.
        let producer = self.given.producer.load(Ordering::Relaxed);
        let free = self.room();
        let tags = burst.indices().iter().map_while(|bits| {
            let index = MbufIndex::from_bits(*bits);
            let (_, record) = lcore.find(index)?;
            let is_plain = !record.tag.read().is_linked() || record.meta.is_plain();
            let is_ready = index.pool() == self.pool && is_plain && !record.wants_work();
            is_ready.then_some((index, record))
        });
        let ready = tags.take(free as usize);
        let last = producer.wrapping_add(u32::try_from(burst.len()).unwrap_or(0));
        // 1. Descriptors behind the producer index: the device does not look there.
        let mut end = producer;
        for (index, record) in ready.clone() {
            let more = is_chain && end.wrapping_add(1) != last;
            let bytes = Extent {
                more,
                ..record.extent()
            };
            self.given.descriptors.put(end, index, bytes);
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
        ready.for_each(|(_, record)| record.tag.set(self.holder));
        // 4. producer <- intent. Release: the device sees the descriptors; who sees it sees the tags.
        self.given.producer.store(end, release("device"));
        let count = end.wrapping_sub(producer) as usize;
        burst.forget_front(count);
        count
    }

    /// Takes what the device has handed back, whole packets, as much as `burst` has room for. A descriptor that names
    /// no frame of this queue is passed and counted. For the queue's owner.
    pub fn take<'c>(&self, lcore: &'c Lcore, burst: &mut Burst<'c>) -> Taken {
        let (consumer, waiting) = self.taken.waiting();
        let mut wanted = waiting.min(u32::try_from(burst.room()).unwrap_or(0));
        // What goes on beyond is left for the next burst.
        while wanted > 0 && self.goes_on(consumer.wrapping_add(wanted - 1)) {
            wanted -= 1;
        }
        if wanted == 0 {
            return Taken::default();
        }
        let (room, mut more) = (wanted as usize, 0);
        let count = burst.extend_with(lcore, room, |out| {
            let taken = self.tag_taken(lcore, consumer, wanted, (out, &mut more));
            // 2. consumer + n. Release: we have read the descriptors, and tagged.
            self.taken
                .consumer
                .store(consumer.wrapping_add(wanted), release("device"));
            taken
        });
        Taken { count, more }
    }

    /// Whether the packet of a descriptor goes on in the next.
    #[inline]
    fn goes_on(&self, position: u32) -> bool {
        let (_, bytes) = self.taken.descriptors.get(position);
        bytes.is_some_and(|bytes| bytes.more)
    }

    /// Take, step 1: tags the frames of `count` descriptors; those that are the queue's are put into `out`, and into
    /// `more` which of them go on.
    fn tag_taken(
        &self,
        lcore: &Lcore,
        from: u32,
        count: u32,
        (out, more): (&mut [u32], &mut u64),
    ) -> usize {
        let mut taken = 0;
        for offset in 0..count {
            let (index, bytes) = self.taken.descriptors.get(from.wrapping_add(offset));
            match lcore.find(index) {
                None => lcore.counters().bad_index.add(1),
                Some((cache, record)) if record.tag.holder() == self.holder => {
                    record.tag.set(lcore.holder());
                    if let Some(bytes) = bytes {
                        record.landed(bytes, cache.pool().data_room());
                        *more |= u64::from(bytes.more) << taken;
                    }
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

    /// For who has claimed the queue, before anything else: frees what the last owner had half given, and passes over what it had
    /// half taken. The sweep after that one may come before or after. How many frames it freed.
    pub fn adopt(&self, lcore: &Lcore) -> u32 {
        let undone = self.undo_give(lcore);
        let (consumer, waiting) = self.taken.waiting();
        let is_taken = |offset: &u32| {
            let (index, _) = self.taken.descriptors.get(consumer.wrapping_add(*offset));
            let holder = lcore.find(index).map(|(_, record)| record.tag.holder());
            holder != Some(self.holder)
        };
        let passed = (0..waiting).take_while(is_taken).count();
        let mut passed = u32::try_from(passed).unwrap_or(0);
        // The rest of a packet that was half taken is no packet.
        let mut rest = Burst::new(lcore);
        while passed > 0 && passed < waiting && self.goes_on(consumer.wrapping_add(passed - 1)) {
            let at = consumer.wrapping_add(passed);
            rest.extend_with(lcore, 1, |out| self.tag_taken(lcore, at, 1, (out, &mut 0)));
            passed += 1;
        }
        if passed > 0 && !mutated("a successor takes what was half taken") {
            // Release: as in `take`.
            self.taken
                .consumer
                .store(consumer.wrapping_add(passed), release("device"));
        }
        undone
    }

    /// For the primary: if the queue's owner does not live, gives back what it had half given and what the device is done with,
    /// and lets go of the queue. Not for a queue whose packets somebody is to have. `None` if it is not so.
    pub fn reap(&self, lcore: &Lcore) -> Option<u32> {
        let word = &self.record.owner;
        let owner = Owner::from_bits(word.load(Ordering::Acquire));
        if owner == Owner::NONE || lcore.region().owner_alive(owner) {
            return None;
        }
        // Ours first, so that no successor works on it beside us; should we die over it, we are one of the dead ourselves.
        // Acquire: what the dead one did is seen.
        let ours = lcore.owner().bits();
        word.compare_exchange(owner.bits(), ours, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        let mut reaped = self.adopt(lcore);
        let (_, waiting) = self.taken.waiting();
        let mut burst = Burst::new(lcore);
        for _ in 0..waiting.div_ceil(u32::try_from(burst.room()).unwrap_or(1)) {
            reaped += u32::try_from(self.take(lcore, &mut burst).count).unwrap_or(0);
            burst.clear();
        }
        // Last, so that what is cut short is repeated. Release: the queue is seen as we leave it.
        let none = Owner::NONE.bits();
        let _ = word.compare_exchange(ours, none, Ordering::Release, Ordering::Relaxed);
        Some(reaped)
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
                let (index, _) = self.given.descriptors.get(producer.wrapping_add(offset));
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
}

/// Gives back every mbuf of a pool that a queue's device has, once there is no such device any more: nobody has its socket, and
/// its memory is not mapped. For the queue's owner, before it gives the next device anything. How many there were.
pub fn reclaim(lcore: &Lcore, pool: Pool, holder: Holder) -> u32 {
    let mut reclaimed = 0;
    for number in 0..pool.count() {
        let index = MbufIndex::new(pool.id(), number);
        if let Some((_, Record { tag, .. })) = lcore.find(index)
            && let seen = tag.read()
            && seen.holder() == holder
            && tag.set_from(seen, lcore.holder())
        {
            drop(Mbuf::from_checked(lcore, index));
            reclaimed += 1;
        }
    }
    reclaimed
}
