//! What does it cost to allocate and free 32 mbufs, and how many pass from one core to another in a second? The twin of
//! `bench/peers/pool.c`: a pool of 8192, between the cores a ring of 1024.

use std::hint;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use forebay::{
    BURST_MAX, Burst, Eal, Flags, Lcore, MbufConsumer, MbufProducer, Pool, PoolConfig, Ring,
};

use super::{environment, pages, warm_up};
use crate::round::Round;

const MBUFS: u32 = 8192;
const RING_SIZE: u32 = 1024;

/// Where the mbufs are freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shape {
    /// Where they were allocated.
    AllocFree,
    /// On the other core.
    Handoff,
}

/// One round.
pub(crate) fn run(shape: Shape, items: u64, args: &[String]) -> Result<Round> {
    let items = items - items % BURST_MAX as u64;
    let eal = environment(args)?;
    let pool = Pool::create(eal.region(), &PoolConfig::new("bench", MBUFS))?;
    let (items, seconds) = match shape {
        Shape::AllocFree => alloc_free(&eal, pool, items)?,
        Shape::Handoff => handoff(&eal, pool, items)?,
    };
    Ok(Round {
        items,
        seconds,
        // Every mbuf is back: in the pool or in a magazine of it.
        sum: u64::from(MBUFS) - pool.in_use() as u64,
        expected: MBUFS.into(),
        pages: pages(&eal),
        loss: None,
        detail: None,
    })
}

fn alloc_free(eal: &Eal, pool: Pool, items: u64) -> Result<(u64, f64)> {
    let lcore = Lcore::new(eal.claim_slot("alone")?);
    let mut burst = Burst::new(&lcore);
    let (mut done, mut from) = (0, 0);
    let mut start = Instant::now();
    for until in [warm_up(items), items] {
        (from, start) = (done, Instant::now());
        while done < until {
            let count = lcore.alloc_burst(pool, &mut burst, BURST_MAX);
            ensure!(count == BURST_MAX, "the pool is empty");
            burst.clear();
            done += BURST_MAX as u64;
        }
    }
    Ok((done - from, start.elapsed().as_secs_f64()))
}

fn handoff(eal: &Eal, pool: Pool, items: u64) -> Result<(u64, f64)> {
    let flags = Flags::SP_ENQ | Flags::SC_DEQ;
    let ring = Ring::create(eal.region(), "bench", RING_SIZE, None, flags)?;
    let (sender, receiver) = (eal.claim_slot("sender")?, eal.claim_slot("receiver")?);
    let worker = eal.worker_lcores();
    let worker = worker.first().context("two lcores are needed")?;
    // Claimed here, so that the ring is open before the sender begins.
    let consumer = ring.consumer(receiver.owner())?;
    let receiver = eal.launch(*worker, move || {
        let lcore = Lcore::new(receiver);
        receive(&lcore, MbufConsumer::new(consumer), items)
    })?;
    let lcore = Lcore::new(sender);
    send(
        &lcore,
        pool,
        MbufProducer::new(ring.producer(lcore.owner())?),
        items,
    );
    Ok(receiver.wait()?)
}

fn send(lcore: &Lcore, pool: Pool, mut producer: MbufProducer<'_>, items: u64) {
    let mut burst = Burst::new(lcore);
    let mut done = 0;
    while done < items {
        if lcore.alloc_burst(pool, &mut burst, BURST_MAX) < BURST_MAX {
            burst.clear();
            hint::spin_loop();
            continue;
        }
        while !burst.is_empty() {
            if producer.enqueue_burst(&mut burst).count == 0 {
                hint::spin_loop();
            }
        }
        done += BURST_MAX as u64;
    }
}

fn receive(lcore: &Lcore, mut consumer: MbufConsumer<'_>, items: u64) -> (u64, f64) {
    let mut burst = Burst::new(lcore);
    let (mut done, mut from) = (0, 0);
    let mut start = Instant::now();
    for until in [warm_up(items), items] {
        (from, start) = (done, Instant::now());
        while done < until {
            let count = consumer.dequeue_burst(lcore, &mut burst).count;
            if count == 0 {
                hint::spin_loop();
                continue;
            }
            burst.clear();
            done += count as u64;
        }
    }
    (done - from, start.elapsed().as_secs_f64())
}
