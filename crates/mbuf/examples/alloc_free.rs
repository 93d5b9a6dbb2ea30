//! What does it cost to allocate and free 32 mbufs on one core, and how many pass from one core to another in a second?
//!
//! `cargo run --release -p forebay-mbuf --example alloc_free [ROUNDS]` prints one line a round and the medians.
//! What bounds it: on one core the stores to a fresh line of facts; between two cores the line of each mbuf, which travels
//! there with the mbuf and back through the pool, and the lines of ring and magazines (32 and 16 mbufs each).

use std::error::Error;
use std::io::{Write, stdout};
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use eal::{Region, Slot};
use mbuf::{BURST_MAX, Burst, Lcore, MbufConsumer, MbufProducer, Pool, PoolConfig};
use ring::{Flags, Ring};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Mbufs of the pool: as many as a port with some queues has.
const MBUFS: u32 = 8192;
const RING: u32 = 1024;
const BURSTS: u32 = 300_000;
const HANDED: usize = 16_000_000;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let rounds = std::env::args()
        .nth(1)
        .map_or(Ok(5), |rounds| rounds.parse())?;
    let region: &'static Region = Box::leak(Box::new(Region::anonymous(64 << 20)?));
    let pool = Pool::create(region, &PoolConfig::new("bench", MBUFS))?;
    let ring = Ring::create(region, "bench", RING, None, Flags::SP_ENQ | Flags::SC_DEQ)?;
    let cpus = cpus()?;
    let mut out = stdout().lock();
    let (mut costs, mut rates) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let cost = thread::scope(|s| s.spawn(|| one_core(region, pool, cpus[0])).join())
            .map_err(|_| "the one core's thread panicked")??;
        costs.push(cost);
        write!(
            out,
            "round {round}: alloc+free of {BURST_MAX}: {cost:.2} ns an mbuf"
        )?;
        if cpus.len() > 1 {
            let rate = two_cores(region, pool, ring, [cpus[0], cpus[1]])?;
            rates.push(rate);
            write!(
                out,
                "; hand-off in bursts of {BURST_MAX}: {rate:.1} M mbufs/s"
            )?;
        }
        writeln!(out)?;
    }
    writeln!(
        out,
        "median: {:.2} ns an mbuf, {:.1} M mbufs/s",
        median(costs),
        median(rates)
    )?;
    Ok(())
}

/// Nanoseconds that an mbuf takes to be allocated and freed.
fn one_core(region: &'static Region, pool: Pool, cpu: usize) -> Result<f64> {
    pin(cpu)?;
    let lcore = Lcore::new(Slot::claim(region, "one")?);
    let mut burst = Burst::new(&lcore);
    let mut run = |bursts: u32| {
        for _ in 0..bursts {
            lcore.alloc_burst(pool, &mut burst, BURST_MAX);
            burst.clear();
        }
    };
    run(BURSTS / 10);
    let start = Instant::now();
    run(BURSTS);
    Ok(start.elapsed().as_secs_f64() * 1e9 / (f64::from(BURSTS) * BURST_MAX as f64))
}

/// Millions of mbufs a second, allocated on one core and freed on the other.
fn two_cores(
    region: &'static Region,
    pool: Pool,
    ring: Ring<'static>,
    cpus: [usize; 2],
) -> Result<f64> {
    let ready = Barrier::new(2);
    thread::scope(|s| {
        let receiver = s.spawn(|| -> Result<f64> {
            pin(cpus[1])?;
            let lcore = Lcore::new(Slot::claim(region, "receiver")?);
            let mut consumer = MbufConsumer::new(ring.consumer(lcore.owner())?);
            let mut burst = Burst::new(&lcore);
            ready.wait();
            let mut receive = |mut left: usize| {
                while left > 0 {
                    left = left.saturating_sub(consumer.dequeue_burst(&lcore, &mut burst).count);
                    burst.clear();
                }
            };
            receive(HANDED / 10);
            let start = Instant::now();
            receive(HANDED);
            Ok(HANDED as f64 / start.elapsed().as_secs_f64() / 1e6)
        });
        let sender = s.spawn(|| -> Result<()> {
            pin(cpus[0])?;
            let lcore = Lcore::new(Slot::claim(region, "sender")?);
            let mut producer = MbufProducer::new(ring.producer(lcore.owner())?);
            let mut burst = Burst::new(&lcore);
            ready.wait();
            // Some more than are counted, so that the receiver never waits for the last.
            let mut left = HANDED + HANDED / 10 + RING as usize;
            while left > 0 && !producer.is_closed() {
                let wanted = burst.room();
                lcore.alloc_burst(pool, &mut burst, wanted);
                left = left.saturating_sub(producer.enqueue_burst(&mut burst).count);
            }
            Ok(())
        });
        sender.join().map_err(|_| "the sender panicked")??;
        receiver.join().map_err(|_| "the receiver panicked")?
    })
}

/// The processors that this process may use.
fn cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
