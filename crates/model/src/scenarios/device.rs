//! Frames that a device works on: given to a queue, taken from it.
//!
//! The device is a process that nobody kills: it takes what is given, and hands it back, in steps of its own.

use eal::holder::Holder;
use eal::queue::QueueRecord;
use eal::sync::{AtomicU32, Ordering};
use eal::{Owner, Region, Zone, ZoneKind};
use mbuf::frames::{Descriptors, Extent, FrameQueue, FrameRing};
use mbuf::{Burst, MbufIndex};

use super::{R, make_pool, second_primary, secondary, victim};
use crate::explore::{Cast, Scenario, Start};
use crate::script::Script;
use crate::words::{QueueWords, Words};

/// Descriptors of each ring.
const SIZE: usize = 2;
const QUEUE: &str = "queue";

pub(super) fn scenarios() -> Vec<Scenario> {
    let device = secondary("device", 1, device);
    vec![
        Scenario {
            name: "give to a queue",
            setup,
            mark,
            casts: vec![victim("A", 0, give), device, SWEEPER],
            preemptions: 2,
            deaths: 1,
        },
        Scenario {
            name: "give to a queue and take from it",
            setup,
            mark,
            casts: vec![victim("A", 0, give_and_take), device, SWEEPER],
            preemptions: 2,
            deaths: 1,
        },
        Scenario {
            name: "the queue is reaped before the sweep",
            setup,
            mark,
            casts: vec![
                victim("A", 0, give_and_take),
                device,
                Cast {
                    body: reap_and_sweep,
                    ..R
                },
            ],
            preemptions: 2,
            deaths: 1,
        },
        Scenario {
            name: "a successor takes the queue",
            setup,
            mark,
            casts: vec![
                victim("A", 0, give_and_take),
                device,
                R,
                Cast {
                    start: Start::AfterDeathOf(0),
                    ..secondary("B", 2, succeed)
                },
            ],
            preemptions: 1,
            deaths: 1,
        },
        Scenario {
            name: "a successor comes while the queue is reaped",
            setup,
            mark,
            casts: vec![
                victim("A", 0, give),
                SWEEPER,
                Cast {
                    start: Start::AfterDeathOf(0),
                    ..secondary("B", 2, succeed)
                },
            ],
            preemptions: 2,
            deaths: 1,
        },
        Scenario {
            name: "the sweeper dies over a queue",
            setup,
            mark,
            casts: vec![
                victim("A", 0, give_and_take),
                device,
                Cast {
                    killable: true,
                    ..SWEEPER
                },
                Cast {
                    body: sweep_queue,
                    ..second_primary(2)
                },
            ],
            preemptions: 1,
            deaths: 2,
        },
    ]
}

const SWEEPER: Cast = Cast {
    body: sweep_queue,
    ..R
};

/// Descriptors that are indices.
#[derive(Clone, Copy)]
struct Indices(&'static [AtomicU32]);

impl Indices {
    fn at(&self, position: u32) -> &'static AtomicU32 {
        &self.0[position as usize % SIZE]
    }
}

impl Descriptors for Indices {
    fn len(&self) -> u32 {
        2
    }

    fn put(&self, position: u32, index: MbufIndex, _bytes: Extent) {
        self.at(position).store(index.bits(), Ordering::Relaxed);
    }

    fn get(&self, position: u32) -> (MbufIndex, Option<Extent>) {
        let index = MbufIndex::from_bits(self.at(position).load(Ordering::Relaxed));
        (index, None)
    }
}

fn setup(region: &'static Region) {
    make_pool(region, 3);
    let len = QueueWords::len(SIZE) * size_of::<u32>();
    region
        .reserve(ZoneKind::Plain, QUEUE, len, 128, None)
        .expect("there is room for it");
}

fn zone(region: &'static Region) -> Zone<'static> {
    region
        .lookup(ZoneKind::Plain, QUEUE)
        .expect("the setup made it")
}

fn mark(region: &'static Region, words: &mut Words) {
    let start = usize::try_from(zone(region).offset()).expect("it is mapped") / size_of::<u32>();
    words.add_queue(QueueWords { start, size: SIZE });
}

fn queue(region: &'static Region) -> FrameQueue<'static, Indices, Indices> {
    let zone = zone(region);
    let words: &'static [AtomicU32] = zone
        .slice(
            QueueWords::RECORD * size_of::<u32>(),
            QueueWords::POSITIONS + 2 * SIZE,
        )
        .expect("it is as long");
    let record: &'static QueueRecord = zone.get(0).expect("it is as long");
    let ring = |number: usize| FrameRing {
        producer: &words[2 * number],
        consumer: &words[2 * number + 1],
        descriptors: Indices(&words[QueueWords::POSITIONS + number * SIZE..][..SIZE]),
    };
    FrameQueue {
        record,
        holder: Holder::queue(0, 0, true),
        pool: 0,
        given: ring(0),
        taken: ring(1),
    }
}

/// Claims the queue as a driver does.
fn claim(script: &Script, owner: eal::Owner) -> FrameQueue<'static, Indices, Indices> {
    let queue = queue(script.region);
    queue.record.owner.store(owner.bits(), Ordering::Release);
    queue
}

fn give(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    let queue = claim(script, lcore.owner());
    script.ready();
    let mut burst = script.alloc_burst(&lcore, pool, 2);
    hand_over(script, &queue, &mut burst);
    drop(burst);
    script.rest();
}

fn give_and_take(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    let queue = claim(script, lcore.owner());
    script.ready();
    let mut burst = script.alloc_burst(&lcore, pool, 2);
    hand_over(script, &queue, &mut burst);
    drop(burst);
    let mut back = Burst::new(&lcore);
    queue.take(&lcore, &mut back);
    back.iter().for_each(|mbuf| script.take(&mbuf));
    script.free_burst(back);
    script.rest();
}

fn hand_over(script: &Script, queue: &FrameQueue<'_, Indices, Indices>, burst: &mut Burst<'_>) {
    burst.iter().for_each(|mbuf| script.let_go(&mbuf));
    queue.give(burst);
}

/// What a kernel does: takes descriptors that are given, and hands the frames back.
fn device(script: &Script) {
    let queue = queue(script.region);
    script.ready();
    for _ in 0..2 {
        let consumer = queue.given.consumer.load(Ordering::Relaxed);
        if queue.given.producer.load(Ordering::Acquire) == consumer {
            continue;
        }
        let (index, _) = queue.given.descriptors.get(consumer);
        queue
            .given
            .consumer
            .store(consumer.wrapping_add(1), Ordering::Release);
        script.take_index(index.bits());
        let producer = queue.taken.producer.load(Ordering::Relaxed);
        let nothing = Extent::default();
        queue.taken.descriptors.put(producer, index, nothing);
        script.let_go_index(index.bits());
        queue
            .taken
            .producer
            .store(producer.wrapping_add(1), Ordering::Release);
    }
    script.rest();
}

fn sweep_queue(script: &Script) {
    let lcore = script.join();
    let queue = queue(script.region);
    script.ready();
    let reap = || {
        queue.reap(&lcore);
    };
    script.guard_and(&lcore, || {}, reap);
}

fn reap_and_sweep(script: &Script) {
    let lcore = script.join();
    let queue = queue(script.region);
    script.ready();
    let reap = || {
        queue.reap(&lcore);
    };
    script.guard_and(&lcore, reap, || {});
}

/// Takes the queue from who died over it, and what the device is done with. It may use what it gets at once: the sweep runs
/// beside it.
fn succeed(script: &Script) {
    let lcore = script.join();
    let queue = queue(script.region);
    script.ready();
    let word = &queue.record.owner;
    let now = word.load(Ordering::Acquire);
    let is_free = now == Owner::NONE.bits() || !script.region.owner_alive(Owner::from_bits(now));
    let ours = lcore.owner().bits();
    let claimed = is_free
        && word
            .compare_exchange(now, ours, Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
    if !claimed {
        // The primary is about to reap it.
        script.rest();
        return;
    }
    queue.adopt(&lcore);
    let mut back = Burst::new(&lcore);
    queue.take(&lcore, &mut back);
    back.iter().for_each(|mbuf| script.take(&mbuf));
    script.free_burst(back);
    let mut burst = script.alloc_burst(&lcore, script.pool(), 1);
    hand_over(script, &queue, &mut burst);
    drop(burst);
    script.rest();
}
