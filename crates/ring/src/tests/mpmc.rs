//! Rings of many to many: claims, the dead, laps, sizes, and words that cannot be.

use super::*;
use crate::mpmc::{ARRAY_MIN, Array, Consumer as End, Producer as Filler};
use crate::{Consumer, Error, NoBulk, Producer};
use eal::{Counter, SlotId};
use proptest::prelude::*;
use std::collections::VecDeque;

fn mpmc(region: &Region, size: u32) -> Ring<'_> {
    let flags = Flags::NONE | Flags::EXACT_SZ;
    Ring::create(region, "ring", size, None, flags).unwrap()
}

fn slot_id(number: u8) -> SlotId {
    SlotId::new(number).unwrap()
}

/// An array in private memory, whose next position is `start`.
struct Memory {
    head: AtomicU64,
    tail: AtomicU64,
    slots: Vec<AtomicU64>,
    capacity: u32,
    faults: Counter,
}

impl Memory {
    fn new(len: u64, capacity: u32, start: u64) -> Self {
        let lap = |number: u64| {
            let first = start.wrapping_sub(number).div_ceil(len);
            (first & 0x3f_ffff) << 42
        };
        Self {
            head: AtomicU64::new(start),
            tail: AtomicU64::new(start),
            slots: (0..len).map(|number| AtomicU64::new(lap(number))).collect(),
            capacity,
            faults: Counter::default(),
        }
    }

    fn array(&self) -> Array<'_> {
        Array::new(&self.head, &self.tail, &self.slots, self.capacity).unwrap()
    }

    fn filler(&self) -> Filler<'_> {
        Filler::attach(self.array(), &self.faults)
    }

    fn end(&self, number: u8) -> End<'_> {
        End::attach(self.array(), slot_id(number), &self.faults)
    }
}

#[test]
fn consumers_share_what_several_producers_send() {
    let region = region(1 << 18);
    let (ring, slots) = (mpmc(region, 200), slots(region, 3));
    let mut producers: Vec<_> = slots
        .iter()
        .map(|slot| ring.producer(slot.owner()).unwrap())
        .collect();
    let mut consumers: Vec<_> = slots
        .iter()
        .map(|slot| ring.consumer(slot.owner()).unwrap())
        .collect();
    for (producer, first) in producers.iter_mut().zip([10, 20, 30]) {
        assert_eq!(producer.enqueue_burst(&[first, first + 1]).count, 2);
    }
    assert_eq!(ring.len(), 6);
    let mut out = [0; 4];
    assert_eq!(consumers[0].dequeue_burst(&mut out[..3]).count, 3);
    assert_eq!(out[..3], [10, 11, 20]);
    assert_eq!(consumers[1].dequeue(), Some(21));
    assert_eq!(consumers[2].dequeue_burst(&mut out).count, 2);
    assert_eq!(out[..2], [30, 31]);
    assert!(consumers.iter_mut().all(|end| end.dequeue().is_none()));
    assert_eq!((ring.faults(), ring.len()), (0, 0));
    assert!(ring.high_water() >= 3 && ring.high_water() <= 6);
    assert_eq!(ring.consumers().count(), 3);
}

#[test]
#[cfg_attr(
    miri,
    ignore = "takes minutes there, and moves nothing that other tests do not"
)]
fn every_kind_holds_exactly_as_many_as_asked_for() {
    for flags in (0..4).map(|bits| Flags::from_bits(bits).unwrap() | Flags::EXACT_SZ) {
        for size in [1, 2, 3, 5, 31, 33, 100, 127, 129, 1000] {
            let region = region(1 << 20);
            let slots = slots(region, 2);
            let ring = Ring::create(region, "ring", size, None, flags).unwrap();
            assert_eq!((ring.size(), ring.limit()), (size, size), "{flags}");
            let mut producer = ring.producer(slots[0].owner()).unwrap();
            let mut consumer = ring.consumer(slots[1].owner()).unwrap();
            let items: Vec<u32> = (0..size + 7).collect();
            for turn in 0..if cfg!(miri) { 1 } else { 40 } {
                // From another position each time.
                assert_eq!(
                    producer.enqueue_burst(&items[..turn % 3]).count,
                    (turn % 3).min(size as usize)
                );
                let mut out = vec![0; size as usize + 7];
                let _ = consumer.dequeue_burst(&mut out);
                let enqueued = producer.enqueue_burst(&items);
                assert_eq!(enqueued.count, size as usize, "{flags} {size} turn {turn}");
                assert_eq!(enqueued.free, 0);
                assert!(producer.enqueue(1).is_err());
                assert_eq!(ring.len(), size as usize);
                assert_eq!(consumer.dequeue(), Some(0));
                assert!(producer.enqueue(size).is_ok());
                assert!(producer.enqueue(1).is_err());
                assert_eq!(consumer.dequeue_burst(&mut out).count, size as usize);
                assert_eq!(out[..size as usize], (1..=size).collect::<Vec<_>>());
                assert_eq!(consumer.dequeue(), None);
            }
            assert_eq!(ring.faults(), 0);
            ring.check().unwrap();
        }
    }
}

#[test]
fn bulks_are_refused_with_what_to_do() {
    let region = region(1 << 18);
    let (ring, slots) = (mpmc(region, 128), slots(region, 1));
    let mut producer = ring.producer(slots[0].owner()).unwrap();
    assert_eq!(producer.enqueue_bulk(&[1]), Err(NoBulk));
    let mut consumer = ring.consumer(slots[0].owner()).unwrap();
    let refused = producer.enqueue_bulk(&[1]).unwrap_err().to_string();
    assert!(refused.contains("use enqueue_burst"), "{refused}");
    assert_eq!(consumer.dequeue_bulk(&mut [0]), Err(NoBulk));
    assert_eq!(ring.len(), 0);
}

#[test]
fn one_producer_of_many_consumers_is_one() {
    let region = region(1 << 18);
    let slots = slots(region, 2);
    let ring = Ring::create(region, "ring", 128, None, Flags::SP_ENQ).unwrap();
    let producer = ring.producer(slots[0].owner()).unwrap();
    assert!(matches!(
        ring.producer(slots[1].owner()),
        Err(Error::Taken {
            end: "producer",
            ..
        })
    ));
    let ends = slots
        .iter()
        .map(|slot| ring.consumer(slot.owner()).unwrap());
    assert_eq!(ends.collect::<Vec<_>>().len(), 2);
    assert_eq!(
        ring.producers().collect::<Vec<_>>(),
        [(slots[0].id(), 0, 0)]
    );
    drop(producer);
    ring.producer(slots[1].owner()).unwrap();
}

#[test]
fn ring_is_open_as_long_as_one_of_its_consumers_lives() {
    let region = region(1 << 18);
    let (ring, slots) = (mpmc(region, 128), slots(region, 3));
    let mut producer = ring.producer(slots[0].owner()).unwrap();
    assert!(producer.is_closed() && producer.enqueue(1).is_err());
    assert_eq!(producer.enqueue_burst(&[1]).count, 0);
    let (one, two) = (
        ring.consumer(slots[1].owner()).unwrap(),
        ring.consumer(slots[2].owner()).unwrap(),
    );
    producer.enqueue(1).unwrap();
    drop(one);
    assert!(!producer.is_closed());
    producer.enqueue(2).unwrap();
    drop(two);
    assert!(producer.is_closed() && !ring.is_open() && producer.free() == 0);
    // One that died has it open until the sweep comes.
    std::mem::forget(ring.consumer(dead(9)).unwrap());
    let living = ring.consumer(slots[1].owner()).unwrap();
    drop(living);
    assert!(ring.is_open() && producer.enqueue(3).is_ok());
    ring.forget_dead_consumers();
    assert!(!ring.is_open() && producer.enqueue(4).is_err());
    assert_eq!(ring.consumer_owner(), Owner::NONE);
    // Who only empties it leaves it closed.
    let mut drain = ring.drain(slots[0].owner()).unwrap();
    assert!(!ring.is_open());
    let rest: Vec<_> = std::iter::from_fn(|| drain.dequeue()).collect();
    assert_eq!(rest, [1, 2, 3]);
}

#[test]
fn living_consumers_keep_their_ends_when_the_dead_are_forgotten() {
    let region = region(1 << 18);
    let (ring, slots) = (mpmc(region, 128), slots(region, 1));
    let _living = ring.consumer(slots[0].owner()).unwrap();
    std::mem::forget(ring.consumer(dead(9)).unwrap());
    assert_eq!(ring.consumers().count(), 2);
    ring.forget_dead_consumers();
    assert_eq!(ring.consumers().collect::<Vec<_>>(), [slots[0].owner()]);
    assert!(ring.is_open());
}

#[test]
fn claimed_item_is_hidden_from_others_and_shown_again_until_released() {
    let region = region(1 << 18);
    let (ring, slots) = (mpmc(region, 128), slots(region, 2));
    let mut producer = ring.producer(slots[0].owner()).unwrap();
    let mut one = ring.consumer(slots[0].owner()).unwrap();
    let mut two = ring.consumer(slots[1].owner()).unwrap();
    assert_eq!(producer.enqueue_burst(&[1, 2, 3]).count, 3);
    let mut out = [0; 4];
    assert_eq!((one.peek_burst(&mut out), out[0]), (1, 1));
    assert_eq!((one.peek_burst(&mut out), out[0]), (1, 1));
    assert_eq!((two.peek_burst(&mut out), out[0]), (1, 2));
    assert_eq!(ring.len(), 1);
    let mut walked = Vec::new();
    ring.walk(|item| walked.push(item));
    assert_eq!(walked, [1, 2, 3]);
    one.release(0);
    one.release(5);
    assert_eq!(two.dequeue(), Some(2));
    assert_eq!((one.peek_burst(&mut out), out[0]), (1, 3));
    drop(one);
    assert_eq!((ring.len(), two.dequeue()), (0, None));
    ring.walk(|item| panic!("{item} is there still"));
}

#[test]
fn claims_of_the_dead_are_found_once_and_closed() {
    let region = region(1 << 18);
    let (ring, slots) = (mpmc(region, 128), slots(region, 2));
    let mut producer = ring.producer(slots[0].owner()).unwrap();
    let mut living = ring.consumer(slots[1].owner()).unwrap();
    let mut dying = ring.consumer(dead(7)).unwrap();
    assert_eq!(producer.enqueue_burst(&[1, 2, 3]).count, 3);
    assert_eq!(dying.peek_burst(&mut [0]), 1);
    assert_eq!(living.peek_burst(&mut [0]), 1);
    std::mem::forget(dying);
    // The ring goes round meanwhile, and passes over the claim more than once.
    let mut out = [0; 64];
    for turn in 0..8 {
        let items: Vec<u32> = (100 * turn..100 * turn + 60).collect();
        assert_eq!(producer.enqueue_burst(&items).count, 60);
        let mut taken = 0;
        while taken < 60 {
            taken += living.dequeue_burst(&mut out).count;
        }
    }
    living.release(1);
    let is_gone = |slot: SlotId| slot.index() == 7;
    let claims: Vec<_> = ring.left_claims(is_gone).collect();
    assert_eq!(
        claims
            .iter()
            .map(crate::LeftClaim::item)
            .collect::<Vec<_>>(),
        [1]
    );
    claims.into_iter().for_each(crate::LeftClaim::close);
    assert_eq!(ring.left_claims(|_| true).count(), 0);
    while living.dequeue().is_some() {}
    ring.check().unwrap();
    assert_eq!((ring.len(), ring.faults()), (0, 0));
}

#[test]
fn sleepers_are_told_and_the_dead_among_them_forgotten() {
    use crate::claim::Sleepers;
    use eal::barrier::Light;
    let region = region(1 << 18);
    let (ring, slots) = (mpmc(region, 128), slots(region, 3));
    let mut one = ring.consumer(slots[1].owner()).unwrap();
    let mut two = ring.consumer(slots[2].owner()).unwrap();
    let mut gone = ring.consumer(dead(9)).unwrap();
    let places = Words::of(region, &ring).shape.places();
    let zone = region.lookup(ZoneKind::Ring, "ring").unwrap();
    let sleepers = Sleepers(zone.get(168).unwrap());
    let ends: &[AtomicU64] = zone.slice(places.consumers, 64).unwrap();
    let told = || -> Vec<usize> {
        let slots = sleepers.after(Light::of_process(), ends);
        slots.map(SlotId::index).collect()
    };
    assert!(told().is_empty());
    two.set_sleeping(true);
    gone.set_sleeping(true);
    assert_eq!(told(), [2, 9]);
    one.set_sleeping(true);
    two.set_sleeping(false);
    assert_eq!(told(), [1, 9]);
    std::mem::forget(gone);
    ring.forget_dead_consumers();
    assert_eq!(told(), [1]);
    let mut producer = ring.producer(slots[0].owner()).unwrap();
    assert!(producer.enqueue(1).is_ok() && producer.enqueue_burst(&[2]).count == 1);
    one.set_sleeping(false);
    assert!(told().is_empty());
    // Who has its slot next does not begin asleep.
    drop(ring.consumer(dead(9)).unwrap());
    assert_eq!(sleepers.0.load(Ordering::Relaxed), 0);
}

/// All slots of the process table but one died with a claim, and no primary is there to sweep.
#[test]
fn one_alone_passes_items_through_past_all_claims_of_the_dead() {
    for start in [0, 77, (1 << 22) * 128 - 100] {
        let memory = Memory::new(ARRAY_MIN.into(), 100, start);
        let mut filler = memory.filler();
        let mut dead: Vec<_> = (0..63).map(|number| memory.end(number)).collect();
        for (end, item) in dead.iter_mut().zip(0..) {
            assert!(filler.enqueue(item));
            assert_eq!(end.claim(), Some(item));
        }
        let mut end = memory.end(63);
        for item in 1000..2000 {
            assert!(filler.enqueue(item));
            assert_eq!(end.dequeue(), Some(item));
            assert_eq!(end.dequeue(), None);
        }
        // Those who were only stopped go on.
        for end in &mut dead {
            assert!(end.close());
        }
        assert_eq!(memory.faults.get(), 0);
        memory.array().check().unwrap();
    }
}

#[test]
fn hints_that_lag_are_walked_up_and_never_followed_back() {
    for start in [5, (1 << 22) * 128 - 16, u64::MAX - 20] {
        let memory = Memory::new(128, 128, start);
        let (mut one, mut other) = (memory.filler(), memory.filler());
        for item in 0..20 {
            // Each goes on where the other stopped, whatever the hint says.
            let filler = if item % 3 == 0 { &mut one } else { &mut other };
            assert!(filler.enqueue(item));
            memory.tail.store(start, Ordering::Relaxed);
        }
        let (mut one, mut other) = (memory.end(1), memory.end(2));
        for item in 0..20 {
            let end = if item % 3 == 0 { &mut one } else { &mut other };
            assert_eq!(end.dequeue(), Some(item));
            memory.head.store(start, Ordering::Relaxed);
        }
        assert_eq!((one.dequeue(), other.dequeue()), (None, None));
        assert_eq!(memory.head.load(Ordering::Relaxed), start.wrapping_add(20));
        assert_eq!(memory.faults.get(), 0);
    }
}

#[test]
fn producer_that_knows_only_a_hint_that_lags_finds_room() {
    let memory = Memory::new(128, 128, 0);
    let (mut one, mut end) = (memory.filler(), memory.end(0));
    assert_eq!(one.enqueue_burst(&[1; 5]), 5);
    assert_eq!(end.dequeue_burst(&mut [0; 9]), 5);
    // All is taken and said to be; what was filled is not.
    assert_eq!(memory.head.load(Ordering::Relaxed), 5);
    assert_eq!(memory.tail.load(Ordering::Relaxed), 0);
    let mut other = memory.filler();
    assert_eq!((other.look(), other.known_free()), (128, 128));
    assert_eq!(other.enqueue_burst(&[2; 128]), 128);
    assert_eq!((other.look(), other.enqueue(3)), (0, false));
}

#[test]
fn laps_come_round() {
    let memory = Memory::new(128, 128, (1 << 22) * 128 - 256);
    let (mut filler, mut end) = (memory.filler(), memory.end(0));
    for item in 0..1000 {
        assert!(filler.enqueue(item));
        assert_eq!(end.claim(), Some(item));
        assert!(end.close());
    }
    let items: Vec<u32> = (0..200).collect();
    assert_eq!(filler.enqueue_burst(&items), 128);
    assert_eq!((memory.array().len(), memory.faults.get()), (128, 0));
}

#[test]
fn words_that_cannot_be_are_counted_and_end_every_loop() {
    for word in [
        u64::MAX,
        3 << 32,
        5 << 42,
        0_u64.wrapping_sub(1 << 43),
        2 << 32,
        1 << 41,
    ] {
        let memory = Memory::new(128, 128, 0);
        let (mut filler, mut end) = (memory.filler(), memory.end(0));
        assert!(filler.enqueue(1));
        memory.slots[1].store(word, Ordering::Relaxed);
        let _ = filler.enqueue_burst(&[2; 40]);
        let mut out = [0; 40];
        assert!(end.dequeue_burst(&mut out) <= 40);
        let _ = (end.claim(), end.close(), end.known(), filler.look());
    }
    // A claim that is no more there when it is to be closed.
    let memory = Memory::new(128, 128, 0);
    let (mut filler, mut end) = (memory.filler(), memory.end(0));
    assert!(filler.enqueue(1));
    assert_eq!(end.claim(), Some(1));
    memory.slots[0].store(0, Ordering::Relaxed);
    assert!(end.close());
    assert_eq!(memory.faults.get(), 1);
    // All slots as if taken: there is no end of them.
    let memory = Memory::new(128, 128, 0);
    memory
        .slots
        .iter()
        .for_each(|slot| slot.store(1 << 62, Ordering::Relaxed));
    assert!(!memory.filler().enqueue(1));
    assert_eq!(memory.end(0).dequeue(), None);
    assert!(memory.faults.get() >= 1);
}

#[test]
fn damaged_arrays_are_not_handed_out() {
    let region = region(1 << 18);
    let (ring, slots) = (mpmc(region, 128), slots(region, 1));
    let places = Words::of(region, &ring).shape.places();
    let zone = region.lookup(ZoneKind::Ring, "ring").unwrap();
    let word: &AtomicU64 = zone.get(places.slots + 8).unwrap();
    for bad in [u64::MAX, 7, 3 << 32, 2 << 32, 77 << 42] {
        word.store(bad, Ordering::Relaxed);
        let refused = ring.producer(slots[0].owner()).unwrap_err().to_string();
        assert!(refused.contains("slot 1 says"), "{refused}");
        assert!(ring.consumer(slots[0].owner()).is_err() && ring.check().is_err());
    }
    word.store(0, Ordering::Relaxed);
    let tail: &AtomicU64 = zone.get(places.tails).unwrap();
    tail.store(1 << 40, Ordering::Relaxed);
    let refused = ring.producer(slots[0].owner()).unwrap_err().to_string();
    assert!(refused.contains("too far apart"), "{refused}");
    tail.store(0, Ordering::Relaxed);
    ring.producer(slots[0].owner()).unwrap();
}

/// One thing to do to a ring.
#[derive(Debug, Clone, Copy)]
enum Step {
    Enqueue { end: usize, count: usize },
    Dequeue { end: usize, room: usize },
    Claim { end: usize },
    Close { end: usize },
    Producer { end: usize, dies: bool },
    Consumer { end: usize, dies: bool },
}

const ENDS: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (end, count) = (0..ENDS, 0..40_usize);
    let step = prop_oneof![
        4 => (end.clone(), count.clone()).prop_map(|(end, count)| Step::Enqueue { end, count }),
        4 => (end.clone(), count).prop_map(|(end, room)| Step::Dequeue { end, room }),
        3 => end.clone().prop_map(|end| Step::Claim { end }),
        3 => end.clone().prop_map(|end| Step::Close { end }),
        1 => (end.clone(), any::<bool>()).prop_map(|(end, dies)| Step::Producer { end, dies }),
        1 => (end, any::<bool>()).prop_map(|(end, dies)| Step::Consumer { end, dies }),
    ];
    prop::collection::vec(step, 1..if cfg!(miri) { 20 } else { 200 })
}

/// A ring, what should be in it, and what is claimed.
struct Model {
    ring: Ring<'static>,
    slots: Vec<Slot>,
    producers: Vec<Option<Producer<'static>>>,
    consumers: Vec<Option<Consumer<'static>>>,
    claimed: Vec<Option<u32>>,
    queue: VecDeque<u32>,
    next: u32,
    /// Claims that may have cost a place since the ring was last empty: each that was passed over.
    costs: usize,
}

impl Model {
    fn new(region: &'static Region, size: u32) -> Self {
        let (ring, slots) = (mpmc(region, size), slots(region, ENDS));
        Self {
            producers: slots
                .iter()
                .map(|slot| ring.producer(slot.owner()).ok())
                .collect(),
            consumers: slots
                .iter()
                .map(|slot| ring.consumer(slot.owner()).ok())
                .collect(),
            claimed: vec![None; ENDS],
            queue: VecDeque::new(),
            next: 0,
            costs: 0,
            ring,
            slots,
        }
    }

    /// What one may look at, of those who consume.
    fn consumer(&mut self, end: usize) -> &mut Consumer<'static> {
        self.consumers[end].as_mut().unwrap()
    }

    fn run(&mut self, step: Step) {
        let size = self.ring.size() as usize;
        match step {
            Step::Enqueue { end, count } => {
                let items: Vec<u32> = (self.next..).take(count).collect();
                self.next += u32::try_from(count).unwrap();
                let taken = self.producers[end]
                    .as_mut()
                    .unwrap()
                    .enqueue_burst(&items)
                    .count;
                self.queue.extend(&items[..taken]);
                assert!(self.queue.len() <= size);
                assert!(
                    taken == count || self.queue.len() + self.costs >= size,
                    "{taken} of {count}"
                );
            }
            Step::Dequeue { end, room } => {
                let mut out = vec![0; room];
                let dequeued = self.consumer(end).dequeue_burst(&mut out);
                let mut expected = Vec::new();
                if room > 0 {
                    expected.extend(self.claimed[end].take());
                }
                let more = (room - expected.len()).min(self.queue.len());
                expected.extend(self.queue.drain(..more));
                assert_eq!(out[..dequeued.count], expected);
                // What others took last they may not have said yet.
                assert!(dequeued.left <= size);
                assert_eq!(self.consumer(end).len(), self.queue.len());
            }
            Step::Claim { end } => {
                let mut out = [0; 2];
                let count = self.consumer(end).peek_burst(&mut out);
                if self.claimed[end].is_none() {
                    self.claimed[end] = self.queue.pop_front();
                    self.costs += 1;
                }
                assert_eq!(out[..count], *self.claimed[end].as_slice());
            }
            Step::Close { end } => {
                self.consumer(end).release(1);
                self.claimed[end] = None;
            }
            Step::Producer { end, dies } => {
                let last = self.producers[end].take();
                if dies {
                    // Its hint stays behind.
                    std::mem::forget(last);
                    self.renew(end);
                } else {
                    drop(last);
                }
                let owner = self.slots[end].owner();
                self.producers[end] = Some(self.ring.producer(owner).unwrap());
            }
            Step::Consumer { end, dies } => {
                let last = self.consumers[end].take();
                let claimed = self.claimed[end].take();
                if dies {
                    std::mem::forget(last);
                    self.renew(end);
                    let gone = self.slots[end].id();
                    let claims: Vec<_> = self.ring.left_claims(|slot| slot == gone).collect();
                    let items: Vec<_> = claims.iter().map(crate::LeftClaim::item).collect();
                    assert_eq!(items, claimed.as_slice());
                    claims.into_iter().for_each(crate::LeftClaim::close);
                } else {
                    drop(last);
                }
                let owner = self.slots[end].owner();
                self.consumers[end] = Some(self.ring.consumer(owner).unwrap());
            }
        }
        if self.queue.is_empty() {
            self.costs = self.claimed.iter().flatten().count();
        }
        assert_eq!(self.ring.len(), self.queue.len());
        assert_eq!(self.ring.faults(), 0);
        self.ring.check().unwrap();
    }

    /// Another occupant for a slot. Both its ends are the dead one's until they are claimed again.
    fn renew(&mut self, end: usize) {
        let slot = self.slots.remove(end);
        let region = slot.region();
        drop(slot);
        self.slots
            .insert(end, Slot::claim(region, "again").unwrap());
    }
}

fn cases() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 300 })
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn ring_of_many_does_what_a_queue_does(size in 1..300_u32, steps in steps()) {
        let region = region(1 << 18);
        let mut model = Model::new(region, size);
        steps.into_iter().for_each(|step| model.run(step));
        for end in 0..ENDS {
            model.run(Step::Close { end });
            model.run(Step::Dequeue { end, room: size as usize });
        }
        assert_eq!(model.ring.len(), 0);
    }
}
