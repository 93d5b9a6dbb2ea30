//! How many items a second does a ring carry? The twin of `bench/peers/ring.c`.
//!
//! Every value is made, moved, read and added up. The first eighth of the items is not timed. Rings hold 1024; the fan-in ring
//! has four lanes, whose producers take turns in one thread.

use std::hint;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use forebay::ring::{Consumer, FanInConfig, Producer};
use forebay::{Eal, Flags, Ring, Slot};

use super::{environment, pages, warm_up};
use crate::round::{Round, sum_below};

const SIZE: u32 = 1024;
const LANES: u8 = 4;
/// The longest burst.
const BURST_MAX: u64 = 64;

/// Who sends and who receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shape {
    /// One to one, on two cores.
    Spsc,
    /// One to one, in turn on one core.
    #[value(name = "spsc-1core")]
    Alone,
    /// Four lanes to one, on two cores.
    Fanin,
    /// Through a ring for many to many, on two cores.
    Mpmc,
}

/// One round.
pub(crate) fn run(shape: Shape, burst: usize, items: u64, args: &[String]) -> Result<Round> {
    match burst {
        1 => run_with::<1>(shape, items, args),
        2 => run_with::<2>(shape, items, args),
        4 => run_with::<4>(shape, items, args),
        8 => run_with::<8>(shape, items, args),
        16 => run_with::<16>(shape, items, args),
        32 => run_with::<32>(shape, items, args),
        64 => run_with::<64>(shape, items, args),
        _ => bail!("a burst is a power of two up to {BURST_MAX}"),
    }
}

/// The length of a burst is a constant, as it is in most applications and in the peer.
fn run_with<const BURST: usize>(shape: Shape, items: u64, args: &[String]) -> Result<Round> {
    let items = items - items % BURST_MAX;
    let eal = environment(args)?;
    let region = eal.region();
    let receiver = eal.claim_slot("receiver")?;
    let senders = if shape == Shape::Fanin { LANES } else { 1 };
    let senders: Vec<Slot> = (0..senders)
        .map(|_| eal.claim_slot("sender"))
        .collect::<Result<_, _>>()?;
    let ring = if shape == Shape::Fanin {
        // The lanes of the senders' slots, and the receiver's own, which stays empty.
        let config = FanInConfig {
            lanes: LANES + 1,
            lane_size: SIZE,
            limit: SIZE,
        };
        Ring::create_fan_in(region, "bench", config, None)?
    } else {
        let flags = if shape == Shape::Mpmc {
            Flags::NONE
        } else {
            Flags::SP_ENQ | Flags::SC_DEQ
        };
        Ring::create(region, "bench", SIZE, None, flags)?
    };
    let consumer = ring.consumer(receiver.owner())?;
    let producers = senders
        .iter()
        .map(|sender| ring.producer(sender.owner()))
        .collect::<Result<Vec<_>, _>>()?;
    let taken = match shape {
        Shape::Alone => alone::<BURST>(producers, consumer, items),
        Shape::Spsc | Shape::Fanin | Shape::Mpmc => {
            two_cores::<BURST>(&eal, producers, consumer, items)?
        }
    };
    Ok(Round {
        items: taken.items,
        seconds: taken.seconds,
        sum: taken.sum,
        expected: sum_below(items),
        pages: pages(&eal),
        loss: None,
        detail: None,
    })
}

/// What the receiver found.
#[derive(Debug, Clone, Copy)]
struct Taken {
    items: u64,
    seconds: f64,
    sum: u64,
}

fn two_cores<const BURST: usize>(
    eal: &Eal,
    mut producers: Vec<Producer<'static>>,
    mut consumer: Consumer<'static>,
    items: u64,
) -> Result<Taken> {
    let worker = eal.worker_lcores();
    let worker = worker.first().context("two lcores are needed")?;
    let receiver = eal.launch(*worker, move || receive::<BURST>(&mut consumer, items))?;
    send::<BURST>(&mut producers, items);
    Ok(receiver.wait()?)
}

fn send<const BURST: usize>(producers: &mut [Producer<'_>], items: u64) {
    let (mut out, mut next) = ([0; BURST], 0);
    let mut left = items;
    while left > 0 {
        for producer in &mut *producers {
            if left == 0 {
                return;
            }
            fill(&mut out, &mut next);
            if BURST == 1 {
                while producer.enqueue(out[0]).is_err() {
                    hint::spin_loop();
                }
            } else {
                let mut rest = &out[..];
                while !rest.is_empty() {
                    let count = producer.enqueue_burst(rest).count;
                    rest = &rest[count..];
                    if count == 0 {
                        hint::spin_loop();
                    }
                }
            }
            left -= BURST as u64;
        }
    }
}

fn receive<const BURST: usize>(consumer: &mut Consumer<'_>, items: u64) -> Taken {
    let (mut received, mut sum) = (0, 0);
    let mut out = [0; BURST];
    let mut from = 0;
    let mut start = Instant::now();
    for until in [warm_up(items), items] {
        (from, start) = (received, Instant::now());
        while received < until {
            if BURST == 1 {
                match consumer.dequeue() {
                    Some(item) => {
                        sum += u64::from(item);
                        received += 1;
                    }
                    None => hint::spin_loop(),
                }
                continue;
            }
            let count = consumer.dequeue_burst(&mut out).count;
            if count == 0 {
                hint::spin_loop();
            }
            sum += add(&out[..count]);
            received += count as u64;
        }
    }
    Taken {
        items: received - from,
        seconds: start.elapsed().as_secs_f64(),
        sum,
    }
}

fn alone<const BURST: usize>(
    mut producers: Vec<Producer<'static>>,
    mut consumer: Consumer<'static>,
    items: u64,
) -> Taken {
    let producer = &mut producers[0];
    let (mut items_out, mut out) = ([0; BURST], [0; BURST]);
    let (mut next, mut sum, mut done, mut from) = (0, 0, 0, 0);
    let mut start = Instant::now();
    for until in [warm_up(items), items] {
        (from, start) = (done, Instant::now());
        while done < until {
            fill(&mut items_out, &mut next);
            let _ = producer.enqueue_burst(&items_out);
            let count = consumer.dequeue_burst(&mut out).count;
            sum += add(&out[..count]);
            done += BURST as u64;
        }
    }
    Taken {
        items: done - from,
        seconds: start.elapsed().as_secs_f64(),
        sum,
    }
}

#[inline]
fn fill(items: &mut [u32], next: &mut u32) {
    for item in items {
        *item = *next;
        *next = next.wrapping_add(1);
    }
}

#[inline]
fn add(items: &[u32]) -> u64 {
    items.iter().map(|item| u64::from(*item)).sum()
}
