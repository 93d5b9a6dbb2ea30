//! Frames that a device works on: given to a queue, taken from it.
//!
//! The device is a process that nobody kills: it takes what is given, and hands it back, in steps of its own.

use eal::holder::Holder;
use eal::queue::QueueRecord;
use eal::sync::{AtomicU32, Ordering};
use eal::{Region, Zone, ZoneKind};
use mbuf::frames::{Descriptors, FrameQueue, FrameRing};
use mbuf::{Burst, MbufIndex};

use super::{R, make_pool, second_primary, secondary, victim};
use crate::explore::{Cast, Scenario};
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

    fn put(&self, position: u32, index: MbufIndex) {
        self.at(position).store(index.bits(), Ordering::Relaxed);
    }

    fn get(&self, position: u32) -> MbufIndex {
        MbufIndex::from_bits(self.at(position).load(Ordering::Relaxed))
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

fn queue(region: &'static Region) -> FrameQueue<'static, Indices> {
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
        given: ring(0),
        taken: ring(1),
    }
}

/// Claims the queue as a driver does.
fn claim(script: &Script, owner: eal::Owner) -> FrameQueue<'static, Indices> {
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

fn hand_over(script: &Script, queue: &FrameQueue<'_, Indices>, burst: &mut Burst<'_>) {
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
        let index = queue.given.descriptors.get(consumer);
        queue
            .given
            .consumer
            .store(consumer.wrapping_add(1), Ordering::Release);
        script.take_index(index.bits());
        let producer = queue.taken.producer.load(Ordering::Relaxed);
        queue.taken.descriptors.put(producer, index);
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
    script.guard(&lcore, &[&queue]);
}
