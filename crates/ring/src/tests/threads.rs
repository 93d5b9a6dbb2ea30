//! Real threads, and every item checked to come once and in order.

use std::thread;

use super::*;

/// Items that each producer sends.
const ITEMS: u32 = if cfg!(miri) { 120 } else { 2_000_000 };

/// Burst lengths that share no rhythm with the ring.
const BURSTS: [usize; 7] = [1, 32, 3, 17, 8, 2, 31];

/// Lets the other side run, which may need this very core.
fn patience(idle: &mut u32) {
    *idle += 1;
    if idle.is_multiple_of(16) {
        thread::yield_now();
    }
    std::hint::spin_loop();
}

/// Sends `0..ITEMS` marked with the lane in the upper bits.
fn send(mut producer: crate::Producer<'_>, lane: u32) {
    let (mut next, mut idle) = (0, 0);
    let mut lengths = BURSTS.iter().cycle();
    while next < ITEMS {
        let length = *lengths.next().unwrap();
        let items: Vec<u32> = (next..ITEMS)
            .take(length)
            .map(|item| lane << 24 | item)
            .collect();
        let count = match length {
            1 => usize::from(producer.enqueue(items[0]).is_ok()),
            8 => producer.enqueue_bulk(&items).unwrap().count,
            _ => producer.enqueue_burst(&items).count,
        };
        next += u32::try_from(count).unwrap();
        if count == 0 {
            patience(&mut idle);
        }
    }
}

/// Receives all that `lanes` producers send and checks the order of each.
fn receive(mut consumer: crate::Consumer<'_>, lanes: usize) {
    let mut next = vec![0; lanes];
    let (mut out, mut idle) = ([0; 32], 0);
    let mut lengths = BURSTS.iter().cycle();
    while next.iter().any(|next| *next < ITEMS) {
        let length = *lengths.next().unwrap();
        let count = match length {
            1 => consumer.dequeue().map_or(0, |item| {
                out[0] = item;
                1
            }),
            8 => consumer.dequeue_bulk(&mut out[..8]).unwrap().count,
            17 => {
                // Shown in whole, taken in part.
                let count = consumer.peek_burst(&mut out[..17]).div_ceil(2);
                consumer.release(count);
                count
            }
            _ => consumer.dequeue_burst(&mut out[..length]).count,
        };
        for item in &out[..count] {
            let lane = (item >> 24) as usize;
            assert_eq!(item & 0x00ff_ffff, next[lane], "from lane {lane}");
            next[lane] += 1;
        }
        if count == 0 {
            patience(&mut idle);
        }
    }
    assert_eq!(consumer.dequeue(), None);
}

fn run(ring: Ring<'static>, region: &'static Region, lanes: usize, start: u32) {
    Words::of(region, &ring).start_at(start);
    let slots = slots(region, lanes + 1);
    let consumer = ring.consumer(slots[lanes].owner()).unwrap();
    thread::scope(|threads| {
        for (lane, slot) in (0..).zip(&slots[..lanes]) {
            let producer = ring.producer(slot.owner()).unwrap();
            threads.spawn(move || send(producer, lane));
        }
        receive(consumer, lanes);
    });
    assert_eq!((ring.faults(), ring.len()), (0, 0));
}

#[test]
fn two_threads_move_every_item_once_and_in_order() {
    for size in [16, 64, 1024] {
        let region = region(1 << 16);
        // Positions pass the end of `u32` on the way.
        let size = if cfg!(miri) { 16 } else { size };
        run(spsc(region, size), region, 1, 0_u32.wrapping_sub(ITEMS / 2));
    }
}

#[test]
fn three_threads_fan_in_every_item_once_and_in_order() {
    for (size, limit) in [(16, 24), (256, 256), (256, 4096)] {
        let region = region(1 << 18);
        run(
            fan_in(region, 3, size, limit),
            region,
            3,
            0_u32.wrapping_sub(ITEMS / 2),
        );
    }
}

/// Two send and two receive: each item comes to one of them, and each sees what one producer sent in order.
#[test]
fn four_threads_move_every_item_once_through_one_array() {
    for size in [3, 16, 200, 1024] {
        let region = region(1 << 18);
        let flags = Flags::NONE | Flags::EXACT_SZ;
        let ring = Ring::create(region, "ring", size, None, flags).unwrap();
        let slots = slots(region, 4);
        let items = ITEMS / 8;
        let mut consumers: Vec<_> = slots[2..]
            .iter()
            .map(|slot| ring.consumer(slot.owner()).unwrap())
            .collect();
        let done = &AtomicU32::new(0);
        let seen: Vec<Vec<u32>> = thread::scope(|threads| {
            for (lane, slot) in (0..).zip(&slots[..2]) {
                let mut producer = ring.producer(slot.owner()).unwrap();
                threads.spawn(move || {
                    let (mut next, mut idle) = (0, 0);
                    let mut lengths = BURSTS.iter().cycle();
                    while next < items {
                        let length = *lengths.next().unwrap();
                        let burst: Vec<u32> = (next..items)
                            .take(length)
                            .map(|item| lane << 24 | item)
                            .collect();
                        let count = producer.enqueue_burst(&burst).count;
                        next += u32::try_from(count).unwrap();
                        if count == 0 {
                            patience(&mut idle);
                        }
                    }
                });
            }
            let ends: Vec<_> = consumers
                .iter_mut()
                .map(|consumer| {
                    threads.spawn(move || {
                        let (mut seen, mut out, mut idle) = (Vec::new(), [0; 32], 0);
                        let mut lengths = BURSTS.iter().cycle();
                        while done.load(Ordering::Relaxed) < 2 * items {
                            let length = *lengths.next().unwrap();
                            let count = if length == 8 {
                                let count = consumer.peek_burst(&mut out);
                                consumer.release(count);
                                count
                            } else {
                                consumer.dequeue_burst(&mut out[..length]).count
                            };
                            seen.extend(&out[..count]);
                            done.fetch_add(u32::try_from(count).unwrap(), Ordering::Relaxed);
                            if count == 0 {
                                patience(&mut idle);
                            }
                        }
                        seen
                    })
                })
                .collect();
            ends.into_iter().map(|end| end.join().unwrap()).collect()
        });
        let mut all: Vec<u32> = Vec::new();
        for seen in seen {
            for lane in 0..2 {
                let of_lane: Vec<_> = seen.iter().filter(|item| *item >> 24 == lane).collect();
                assert!(of_lane.is_sorted(), "out of order");
            }
            all.extend(seen);
        }
        all.sort_unstable();
        let sent: Vec<u32> = (0..2)
            .flat_map(|lane| (0..items).map(move |item| lane << 24 | item))
            .collect();
        assert!(all == sent, "{} of {}", all.len(), sent.len());
        drop(consumers);
        assert_eq!((ring.faults(), ring.len()), (0, 0));
        ring.check().unwrap();
    }
}

/// Producers that come and go, one at a time, each for a few bursts.
#[test]
fn ends_change_hands_between_threads_without_loss() {
    const TURNS: u32 = if cfg!(miri) { 3 } else { 2000 };
    let region = region(1 << 16);
    let (ring, slots) = (spsc(region, 16), slots(region, 4));
    let sent = thread::scope(|threads| {
        let (senders, receivers) = slots.split_at(2);
        let senders: Vec<_> = senders
            .iter()
            .map(|slot| {
                threads.spawn(move || {
                    let (mut sent, mut turns, mut idle) = (0_u64, 0, 0);
                    while turns < TURNS {
                        let Ok(mut producer) = ring.producer(slot.owner()) else {
                            patience(&mut idle);
                            continue;
                        };
                        for item in 0..20 {
                            sent += if producer.enqueue(item).is_ok() {
                                u64::from(item)
                            } else {
                                0
                            };
                        }
                        turns += 1;
                    }
                    sent
                })
            })
            .collect();
        let receivers: Vec<_> = receivers
            .iter()
            .map(|slot| {
                threads.spawn(move || {
                    let (mut received, mut turns, mut idle, mut out) = (0_u64, 0, 0, [0; 7]);
                    while turns < TURNS {
                        let Ok(mut consumer) = ring.consumer(slot.owner()) else {
                            patience(&mut idle);
                            continue;
                        };
                        for _ in 0..5 {
                            let count = consumer.dequeue_burst(&mut out).count;
                            received += out[..count].iter().copied().map(u64::from).sum::<u64>();
                        }
                        turns += 1;
                    }
                    received
                })
            })
            .collect();
        let sent: u64 = senders
            .into_iter()
            .map(|sender| sender.join().unwrap())
            .sum();
        let received: u64 = receivers
            .into_iter()
            .map(|receiver| receiver.join().unwrap())
            .sum();
        sent - received
    });
    // What nobody took is there still.
    let mut rest = ring.drain(slots[0].owner()).unwrap();
    let left: u64 = std::iter::from_fn(|| rest.dequeue()).map(u64::from).sum();
    assert_eq!((left, ring.faults()), (sent, 0));
}
