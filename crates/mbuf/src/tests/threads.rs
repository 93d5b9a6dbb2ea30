//! Two threads, two slots, one pool.

use std::thread;

use super::*;
use crate::Burst;

const PACKETS: u32 = 2_000_000;

/// Bytes that tell which packet it is, long enough that some of them become chains.
fn fill(mbuf: &mut Mbuf<'_>, pool: Pool, number: u32) -> bool {
    let head = number.to_le_bytes();
    let Some(room) = mbuf.append(8) else {
        return false;
    };
    room[..4].copy_from_slice(&head);
    room[4..].copy_from_slice(&(!number).to_le_bytes());
    !number.is_multiple_of(97) || mbuf.extend_from_slice(pool, &[head[0]; 400])
}

#[track_caller]
fn check(mbuf: &Mbuf<'_>, number: u32) {
    let head = number.to_le_bytes();
    assert_eq!(mbuf.data()[..4], head);
    assert_eq!(mbuf.data()[4..8], (!number).to_le_bytes());
    let chained = number.is_multiple_of(97);
    assert_eq!(mbuf.packet_len(), if chained { 408 } else { 8 });
    assert!(
        !chained
            || mbuf
                .segments()
                .flatten()
                .skip(8)
                .all(|byte| *byte == head[0])
    );
}

#[test]
fn packets_between_two_threads_arrive_whole_in_order_and_once() {
    let pool = pool(1024);
    let ring = Ring::create(pool.region(), "r", 256, None, SPSC).unwrap();
    let receiver = thread::spawn(move || {
        let lcore = lcore(pool);
        let mut consumer = MbufConsumer::new(ring.consumer(lcore.owner()).unwrap());
        let (mut burst, mut next) = (Burst::new(&lcore), 0);
        while next < PACKETS {
            if consumer.dequeue_burst(&lcore, &mut burst).count == 0 {
                thread::yield_now();
            }
            for mbuf in burst.drain() {
                check(&mbuf, next);
                next += 1;
            }
        }
        let counters = lcore.counters();
        assert_eq!(
            (counters.bad_index.get(), counters.bad_holder.get()),
            (0, 0)
        );
        assert_eq!((counters.no_room.get(), counters.bad_entry.get()), (0, 0));
    });
    while !ring.is_open() {
        thread::yield_now();
    }
    let sender = lcore(pool);
    let mut producer = MbufProducer::new(ring.producer(sender.owner()).unwrap());
    let (mut burst, mut next) = (Burst::new(&sender), 0);
    while next < PACKETS || !burst.is_empty() {
        assert!(
            !receiver.is_finished() || next == PACKETS,
            "the receiver has failed"
        );
        while next < PACKETS && burst.room() > 0 {
            let Some(mut mbuf) = sender.alloc(pool) else {
                break;
            };
            if !fill(&mut mbuf, pool, next) {
                break;
            }
            burst.push(mbuf).unwrap();
            next += 1;
        }
        if producer.enqueue_burst(&mut burst).count == 0 {
            thread::yield_now();
            if receiver.is_finished() {
                break;
            }
        }
    }
    receiver.join().unwrap();
    drop(burst);
    drop((producer, sender));
    assert_at_rest(pool);
}

/// All threads allocate and free at once, over the edge of what is there: exchanges race for the last magazines.
#[test]
fn threads_that_fight_for_a_small_pool_lose_nothing() {
    const THREADS: usize = 4;
    let rounds = 20_000;
    for count in [1, 64, 65, 300, 1000] {
        let pool = pool(count);
        thread::scope(|s| {
            for seed in 0..THREADS {
                s.spawn(move || {
                    let lcore = lcore(pool);
                    let mut bursts: Vec<Burst<'_>> = (0..8).map(|_| Burst::new(&lcore)).collect();
                    let mut random = seed + 1;
                    for _ in 0..rounds {
                        random = random
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1);
                        let burst = &mut bursts[random >> 33 & 7];
                        if random >> 40 & 1 == 0 {
                            lcore.alloc_burst(pool, burst, random >> 41 & 31);
                        } else {
                            burst.clear();
                        }
                    }
                    drop(bursts);
                    assert_eq!(lcore.counters().no_room.get(), 0);
                    assert_eq!(lcore.counters().bad_entry.get(), 0);
                });
            }
        });
        assert_at_rest(pool);
    }
}
