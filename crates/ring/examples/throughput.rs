//! How many items a second does a ring carry from one core to the next?
//!
//! Two pinned threads, a ring of 1024, bursts of 1, 8 and 32; every value is moved and read.
//! With NAME, only the lines with that in their name. Prints the median of some runs and their extremes, in millions of items a second.
//!
//! ```text
//! cargo run --release -p forebay-ring --example throughput [RUNS [NAME]]
//! ```

use std::error::Error;
use std::sync::Barrier;
use std::time::Instant;
use std::{env, hint, thread};

use eal::{Owner, Region, Slot};
use forebay_ring::{Consumer, FanInConfig, Flags, Producer, Ring};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

const ITEMS: u32 = 1 << 22;
const SIZE: u32 = 1024;
const LANES: u8 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let runs = env::args().nth(1).map_or(Ok(5), |runs| runs.parse())?;
    let cores = cores()?;
    let region: &'static Region = Box::leak(Box::new(Region::anonymous(16 << 20)?));
    let slots = (0..LANES)
        .map(|_| Slot::claim(region, "throughput"))
        .collect::<Result<Vec<_>, _>>()?;
    let owners: Vec<Owner> = slots.iter().map(Slot::owner).collect();
    let one = Ring::create(region, "one", SIZE, None, Flags::SP_ENQ | Flags::SC_DEQ)?;
    let config = FanInConfig {
        lanes: LANES,
        lane_size: SIZE,
        limit: SIZE,
    };
    let many = Ring::create_fan_in(region, "many", config, None)?;
    let all = Ring::create(region, "all", SIZE, None, Flags::NONE)?;

    println!(
        "{} cores, {ITEMS} items a run, median of {runs} [least, most], M items/s",
        cores.len()
    );
    for burst in [1, 8, 32] {
        report(&format!("spsc-2core-{burst}"), runs, || {
            two_cores(one, &owners[..1], burst, &cores)
        })?;
    }
    for burst in [1, 8, 32] {
        report(&format!("fanin-2core-{burst}"), runs, || {
            two_cores(many, &owners, burst, &cores)
        })?;
    }
    for burst in [1, 8, 32] {
        report(&format!("mpmc-2core-{burst}"), runs, || {
            two_cores(all, &owners[..1], burst, &cores)
        })?;
    }
    report("spsc-1core-32", runs, || {
        one_core(one, owners[0], 32, &cores)
    })?;
    report("fanin-1core-32", runs, || {
        one_core(many, owners[0], 32, &cores)
    })?;
    report("mpmc-1core-32", runs, || {
        one_core(all, owners[0], 32, &cores)
    })
}

/// Moves all items from one thread to another; the producers take turns on theirs.
fn two_cores(
    ring: Ring<'_>,
    owners: &[Owner],
    burst: usize,
    cores: &[usize],
) -> Result<f64, Box<dyn Error>> {
    let mut consumer = ring.consumer(owners[0])?;
    let mut producers = owners
        .iter()
        .map(|owner| ring.producer(*owner))
        .collect::<Result<Vec<_>, _>>()?;
    let (first, last) = (cores[0], cores[cores.len() - 1]);
    let both_pinned = Barrier::new(2);
    thread::scope(|threads| {
        let sender = threads.spawn(|| {
            pin(first);
            both_pinned.wait();
            send(&mut producers, burst);
        });
        pin(last);
        both_pinned.wait();
        let start = Instant::now();
        let sum = receive(&mut consumer, burst);
        let seconds = start.elapsed().as_secs_f64();
        sender.join().map_err(|_| "the sender panicked")?;
        checked(sum)?;
        Ok(f64::from(ITEMS) / seconds / 1e6)
    })
}

fn one_core(
    ring: Ring<'_>,
    owner: Owner,
    burst: usize,
    cores: &[usize],
) -> Result<f64, Box<dyn Error>> {
    pin(cores[0]);
    let (mut consumer, mut producer) = (ring.consumer(owner)?, ring.producer(owner)?);
    let (mut items, mut out, mut sum, mut next) = ([0; 32], [0; 32], 0, 0);
    let start = Instant::now();
    while next < ITEMS {
        fill(&mut items[..burst], &mut next);
        let _ = producer.enqueue_burst(&items[..burst]);
        let count = consumer.dequeue_burst(&mut out[..burst]).count;
        sum += add(&out[..count]);
    }
    let seconds = start.elapsed().as_secs_f64();
    checked(sum)?;
    Ok(f64::from(ITEMS) / seconds / 1e6)
}

fn send(producers: &mut [Producer<'_>], burst: usize) {
    let (mut items, mut next) = ([0; 32], 0);
    loop {
        for producer in &mut *producers {
            if next == ITEMS {
                return;
            }
            if burst == 1 {
                while producer.enqueue(next).is_err() {
                    hint::spin_loop();
                }
                next += 1;
                continue;
            }
            fill(&mut items[..burst], &mut next);
            let mut left = &items[..burst];
            while !left.is_empty() {
                let count = producer.enqueue_burst(left).count;
                left = &left[count..];
                if count == 0 {
                    hint::spin_loop();
                }
            }
        }
    }
}

fn receive(consumer: &mut Consumer<'_>, burst: usize) -> u64 {
    let (mut out, mut sum, mut received) = ([0; 32], 0, 0);
    while received < ITEMS as usize {
        if burst == 1 {
            match consumer.dequeue() {
                Some(item) => {
                    sum += u64::from(item);
                    received += 1;
                }
                None => hint::spin_loop(),
            }
            continue;
        }
        let count = consumer.dequeue_burst(&mut out[..burst]).count;
        if count == 0 {
            hint::spin_loop();
        }
        sum += add(&out[..count]);
        received += count;
    }
    sum
}

fn fill(items: &mut [u32], next: &mut u32) {
    for item in items {
        *item = *next;
        *next += 1;
    }
}

fn add(items: &[u32]) -> u64 {
    items.iter().map(|item| u64::from(*item)).sum()
}

fn checked(sum: u64) -> Result<(), Box<dyn Error>> {
    let expected = u64::from(ITEMS) * u64::from(ITEMS - 1) / 2;
    if sum == expected {
        Ok(())
    } else {
        Err(format!("items add up to {sum}, not {expected}").into())
    }
}

fn report(
    name: &str,
    runs: usize,
    mut run: impl FnMut() -> Result<f64, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    if !env::args()
        .nth(2)
        .is_none_or(|wanted| name.contains(&wanted))
    {
        return Ok(());
    }
    let mut results = (0..runs.max(1))
        .map(|_| run())
        .collect::<Result<Vec<_>, _>>()?;
    results.sort_by(f64::total_cmp);
    let (least, most) = (results[0], results[results.len() - 1]);
    println!(
        "{name:16} {:8.1} [{least:.1}, {most:.1}]",
        results[results.len() / 2]
    );
    Ok(())
}

/// The cores that this process may use.
fn cores() -> Result<Vec<usize>, Box<dyn Error>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|core| allowed.is_set(*core))
        .collect())
}

/// Keeps this thread on a core that `cores` named.
fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    if let Err(error) = sched_setaffinity(None, &set) {
        eprintln!("throughput: cannot stay on core {core}: {error}");
    }
}
