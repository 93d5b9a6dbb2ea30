//! Rings against queues that are plainly right, from any position, through changes of owner.

use std::collections::VecDeque;

use super::*;
use crate::fanin::CREDIT_MIN;
use crate::{Consumer, Producer};
use proptest::prelude::*;

/// One thing to do to a ring.
#[derive(Debug, Clone, Copy)]
enum Step {
    Enqueue { lane: usize },
    Burst { lane: usize, count: usize },
    Bulk { lane: usize, count: usize },
    Dequeue,
    DequeueBurst { room: usize },
    DequeueBulk { room: usize },
    Peek { room: usize, release: usize },
    NextProducer { lane: usize, dead: bool },
    NextConsumer { dead: bool },
}

const LANES: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let (lane, count) = (0..LANES, 0..40_usize);
    prop_oneof![
        3 => lane.clone().prop_map(|lane| Step::Enqueue { lane }),
        3 => (lane.clone(), count.clone()).prop_map(|(lane, count)| Step::Burst { lane, count }),
        2 => (lane.clone(), count.clone()).prop_map(|(lane, count)| Step::Bulk { lane, count }),
        3 => Just(Step::Dequeue),
        3 => count.clone().prop_map(|room| Step::DequeueBurst { room }),
        2 => count.clone().prop_map(|room| Step::DequeueBulk { room }),
        3 => (count.clone(), count).prop_map(|(room, release)| Step::Peek { room, release }),
        1 => (lane, any::<bool>()).prop_map(|(lane, dead)| Step::NextProducer { lane, dead }),
        1 => any::<bool>().prop_map(|dead| Step::NextConsumer { dead }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..if cfg!(miri) { 20 } else { 200 })
}

/// Positions near the end of `u32`, so that most runs go through it.
fn start() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(0),
        (0..200_u32).prop_map(|before| 0_u32.wrapping_sub(before)),
        any::<u32>()
    ]
}

fn cases() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 400 })
    }
}

/// A ring, and what should be in it.
struct Model {
    ring: Ring<'static>,
    slots: Vec<Slot>,
    producers: Vec<Option<Producer<'static>>>,
    consumer: Option<Consumer<'static>>,
    queues: Vec<VecDeque<u32>>,
    next: u32,
    /// The largest burst so far: what a credit may be.
    largest: usize,
}

impl Model {
    fn new(ring: Ring<'static>, region: &'static Region, start: u32) -> Self {
        Words::of(region, &ring).start_at(start);
        let lanes = ring.lanes() as usize;
        let mut model = Self {
            ring,
            slots: slots(region, lanes + 1),
            producers: (0..lanes).map(|_| None).collect(),
            consumer: None,
            queues: vec![VecDeque::new(); lanes],
            next: 0,
            largest: 0,
        };
        for lane in 0..lanes {
            model.next_producer(lane, false);
        }
        model.next_consumer(false);
        model
    }

    fn items(&mut self, count: usize) -> Vec<u32> {
        self.largest = self.largest.max(count);
        let items = (self.next..).take(count).collect();
        self.next += u32::try_from(count).unwrap();
        items
    }

    fn waiting(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    fn producer(&mut self, lane: usize) -> &mut Producer<'static> {
        self.producers[lane].as_mut().unwrap()
    }

    fn consumer(&mut self) -> &mut Consumer<'static> {
        self.consumer.as_mut().unwrap()
    }

    /// Leaves the end as a killed owner would, or gives it back, and claims it anew.
    fn next_producer(&mut self, lane: usize, killed: bool) {
        let last = self.producers[lane].take();
        if killed {
            std::mem::forget(last);
            // Its slot is free again, so the word names somebody who is not there.
            let slot = self.slots.remove(lane);
            let region = slot.region();
            drop(slot);
            self.slots
                .insert(lane, Slot::claim(region, "again").unwrap());
        } else {
            drop(last);
        }
        let owner = self.slots[lane].owner();
        self.producers[lane] = Some(self.ring.producer(owner).unwrap());
    }

    fn next_consumer(&mut self, killed: bool) {
        let last = self.consumer.take();
        let at = self.slots.len() - 1;
        if killed {
            std::mem::forget(last);
            let slot = self.slots.remove(at);
            let region = slot.region();
            drop(slot);
            self.slots.push(Slot::claim(region, "again").unwrap());
        } else {
            drop(last);
        }
        self.consumer = Some(self.ring.consumer(self.slots[at].owner()).unwrap());
    }

    /// Checks what an enqueue of `items` took.
    fn took(&mut self, lane: usize, items: &[u32], taken: usize, bulk: bool) {
        let lane_room = self.ring.size() as usize - self.queues[lane].len();
        let limit_room = (self.ring.limit() as usize).saturating_sub(self.waiting());
        let one_lane = self.ring.lanes() == 1;
        if bulk {
            assert!(
                taken == 0 || taken == items.len(),
                "{taken} of {}",
                items.len()
            );
            if taken == 0 && !items.is_empty() {
                assert!(
                    lane_room.min(limit_room) < items.len(),
                    "refused although there was room"
                );
            }
        } else {
            let least = items.len().min(lane_room).min(limit_room);
            assert!(taken >= least, "{taken} where {least} had room");
        }
        assert!(taken <= lane_room);
        assert!(!one_lane || taken <= limit_room);
        self.queues[lane].extend(&items[..taken]);
        let share = (self.ring.limit() / self.ring.lanes()).max(CREDIT_MIN) as usize;
        let most = self.ring.limit() as usize + (self.queues.len() - 1) * share.max(self.largest);
        assert!(
            self.waiting() <= most,
            "{} wait, {most} at most",
            self.waiting()
        );
    }

    /// Checks that `items` were next in some lanes, and takes them out unless they were only shown.
    fn came(&mut self, items: &[u32]) {
        for item in items {
            let lane = self
                .queues
                .iter()
                .position(|queue| queue.front() == Some(item));
            let lane = lane.unwrap_or_else(|| panic!("{item} is not next in any lane"));
            self.queues[lane].pop_front();
        }
    }

    fn run(&mut self, step: Step) {
        let lanes = self.queues.len();
        match step {
            Step::Enqueue { lane } => {
                let items = self.items(1);
                let taken = self.producer(lane % lanes).enqueue(items[0]).is_ok();
                self.took(lane % lanes, &items, taken.into(), false);
            }
            Step::Burst { lane, count } => {
                let items = self.items(count);
                let enqueued = self.producer(lane % lanes).enqueue_burst(&items);
                self.took(lane % lanes, &items, enqueued.count, false);
                assert!(
                    enqueued.free <= self.ring.size() as usize - self.queues[lane % lanes].len()
                );
            }
            Step::Bulk { lane, count } => {
                let items = self.items(count);
                let taken = self
                    .producer(lane % lanes)
                    .enqueue_bulk(&items)
                    .unwrap()
                    .count;
                self.took(lane % lanes, &items, taken, true);
            }
            Step::Dequeue => {
                let item = self.consumer().dequeue();
                assert_eq!(item.is_none(), self.waiting() == 0);
                self.came(item.as_slice());
            }
            Step::DequeueBurst { room } => {
                let mut out = vec![0; room];
                let dequeued = self.consumer().dequeue_burst(&mut out);
                assert_eq!(dequeued.count, room.min(self.waiting()));
                self.came(&out[..dequeued.count]);
                assert!(dequeued.left <= self.waiting());
            }
            Step::DequeueBulk { room } => {
                let mut out = vec![0; room];
                let count = self.consumer().dequeue_bulk(&mut out).unwrap().count;
                assert_eq!(count, if room <= self.waiting() { room } else { 0 });
                self.came(&out[..count]);
            }
            Step::Peek { room, release } => {
                let mut out = vec![0; room];
                let count = self.consumer().peek_burst(&mut out);
                assert_eq!(count == 0, room == 0 || self.waiting() == 0);
                self.consumer().release(release);
                self.came(&out[..count.min(release)]);
            }
            Step::NextProducer { lane, dead } => self.next_producer(lane % lanes, dead),
            Step::NextConsumer { dead } => self.next_consumer(dead),
        }
        assert_eq!(self.ring.len(), self.waiting());
        assert_eq!(self.ring.faults(), 0);
    }

    /// Takes out all that is left.
    fn finish(&mut self) {
        while self.waiting() > 0 {
            self.run(Step::DequeueBurst { room: 7 });
        }
        assert_eq!(self.consumer().dequeue(), None);
        assert!(self.ring.high_water() <= u64::from(self.next));
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn spsc_ring_does_what_a_queue_does(start in start(), bits in 1..6_u32, steps in steps()) {
        let region = region(1 << 16);
        let mut model = Model::new(spsc(region, 1 << bits), region, start);
        steps.into_iter().for_each(|step| model.run(step));
        model.finish();
    }

    #[test]
    fn fan_in_ring_does_what_its_queues_do(
        start in start(), bits in 1..6_u32, limit in 1..200_u32, steps in steps(),
    ) {
        let region = region(1 << 16);
        let ring = fan_in(region, 3, 1 << bits, limit);
        let mut model = Model::new(ring, region, start);
        steps.into_iter().for_each(|step| model.run(step));
        model.finish();
    }
}
