//! A pool against a set: whatever several slots do, nothing is lost and nothing is there twice.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{BURST_MAX, Burst};

#[derive(Debug, Clone)]
enum Step {
    Alloc {
        slot: usize,
        count: usize,
    },
    Free {
        slot: usize,
        count: usize,
    },
    Pass {
        from: usize,
        to: usize,
        count: usize,
    },
    Clone {
        slot: usize,
    },
    Leave {
        slot: usize,
    },
}

const SLOTS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let (slot, count) = (0..SLOTS, 1..=BURST_MAX);
    prop_oneof![
        6 => (slot.clone(), count.clone()).prop_map(|(slot, count)| Step::Alloc { slot, count }),
        5 => (slot.clone(), count.clone()).prop_map(|(slot, count)| Step::Free { slot, count }),
        5 => (slot.clone(), slot.clone(), count).prop_map(|(from, to, count)| Step::Pass { from, to, count }),
        1 => slot.clone().prop_map(|slot| Step::Clone { slot }),
        1 => slot.prop_map(|slot| Step::Leave { slot }),
    ]
}

/// A slot and the mbufs that it holds as bare indices, so that it may come and go.
struct Seat {
    lcore: Lcore,
    held: Vec<MbufIndex>,
}

fn run(count: u32, steps: &[Step]) {
    let pool = pool(count);
    let mut free: BTreeSet<MbufIndex> = (0..count).map(|n| MbufIndex::new(pool.id(), n)).collect();
    let mut seats: Vec<Seat> = (0..SLOTS)
        .map(|_| Seat {
            lcore: lcore(pool),
            held: Vec::new(),
        })
        .collect();
    let mut rings = 0;
    for step in steps {
        match *step {
            Step::Alloc { slot, count } => {
                let seat = &mut seats[slot];
                let mut burst = Burst::new(&seat.lcore);
                let got = seat.lcore.alloc_burst(pool, &mut burst, count);
                for mbuf in burst.drain() {
                    assert!(free.remove(&mbuf.index()), "{} was not free", mbuf.index());
                    seat.held.push(mbuf.into_raw());
                }
                // Others may sit on two magazines each; no more than that may be out of reach.
                let reach = free.len() + got;
                assert!(got == count.min(reach) || free.len() <= (SLOTS - 1) * 128);
            }
            Step::Free { slot, count } => {
                let seat = &mut seats[slot];
                let mut burst = Burst::new(&seat.lcore);
                for index in seat.held.drain(..count.min(seat.held.len())) {
                    burst.push(seat.lcore.adopt(index).unwrap()).unwrap();
                    assert!(free.insert(index));
                }
            }
            Step::Pass { from, to, count } if from != to => {
                rings += 1;
                let mut indices = core::mem::take(&mut seats[from].held);
                let rest = indices.split_off(count.min(indices.len()));
                seats[from].held = rest;
                let (sender, receiver) = (&seats[from].lcore, &seats[to].lcore);
                let (mut producer, mut consumer) = ring(&format!("r{rings}"), 32, sender, receiver);
                let mut burst = Burst::new(sender);
                for index in &indices {
                    burst.push(sender.adopt(*index).unwrap()).unwrap();
                }
                assert_eq!(producer.enqueue_burst(&mut burst).count, indices.len());
                let mut out = Burst::new(receiver);
                assert_eq!(
                    consumer.dequeue_burst(receiver, &mut out).count,
                    indices.len()
                );
                let passed: Vec<MbufIndex> = out.drain().map(Mbuf::into_raw).collect();
                assert_eq!(passed, indices);
                drop((out, burst));
                seats[to].held.extend(passed);
            }
            Step::Pass { .. } => {}
            Step::Clone { slot } => {
                let seat = &mut seats[slot];
                if let Some(index) = seat.held.pop() {
                    let mbuf = seat.lcore.adopt(index).unwrap();
                    let clone = mbuf.clone_ref();
                    drop(mbuf);
                    drop(clone);
                    assert!(free.insert(index));
                }
            }
            Step::Leave { slot } => {
                let seat = &mut seats[slot];
                for index in seat.held.drain(..) {
                    drop(seat.lcore.adopt(index).unwrap());
                    assert!(free.insert(index));
                }
                // The new occupant of the slot starts with nothing.
                let seat = seats.swap_remove(slot);
                drop(seat);
                seats.push(Seat {
                    lcore: lcore(pool),
                    held: Vec::new(),
                });
            }
        }
        let listed = listed(pool);
        assert_eq!(listed.keys().copied().collect::<BTreeSet<_>>(), free);
        assert!(listed.values().all(|times| *times == 1));
        for seat in &seats {
            for index in &seat.held {
                assert_eq!(pool.holder(*index), Some(seat.lcore.holder()));
            }
        }
    }
    for seat in &mut seats {
        for index in seat.held.drain(..) {
            drop(seat.lcore.adopt(index).unwrap());
        }
        let counters = seat.lcore.counters();
        assert_eq!((counters.no_room.get(), counters.bad_entry.get()), (0, 0));
    }
    drop(seats);
    assert_at_rest(pool);
}

fn cases() -> ProptestConfig {
    let cases = 200;
    ProptestConfig {
        failure_persistence: None,
        cases,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn pool_agrees_with_a_set(
        count in prop_oneof![1_u32..10, Just(63), Just(64), Just(65), Just(128), Just(200), Just(500)],
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        run(count, &steps);
    }
}
