//! How long a sweep takes: pools of 2^16 and of 2^20 buffers, a tenth of them in the dead one's hands, a ring full.
//!
//! ```text
//! cargo run --release -p forebay-mbuf --example sweep_time
//! ```
//!
//! What bounds it: one cache line a buffer is read (the tag), so the time grows with the pool and hardly with what the dead
//! one held.

use std::error::Error;
use std::mem::forget;
use std::time::Instant;

use eal::process::SlotSet;
use eal::{Region, Slot};
use mbuf::{BURST_MAX, Burst, Lcore, MbufConsumer, MbufProducer, Pool, PoolConfig, sweep};
use ring::{Flags, Ring};

/// Sweeps a size is measured with.
const ROUNDS: usize = 11;

fn main() -> Result<(), Box<dyn Error>> {
    for count in [1_u32 << 16, 1 << 20] {
        let config = PoolConfig::new("pool", count);
        let region: &'static Region = Box::leak(Box::new(Region::anonymous(
            Pool::len_for(&config)? + (4 << 20),
        )?));
        let pool = Pool::create(region, &config)?;
        let flags = Flags::SP_ENQ | Flags::SC_DEQ;
        let ring = Ring::create(region, "ring", 1024, None, flags)?;
        let sweeper = Lcore::new(Slot::claim(region, "sweeper")?);
        let mut times = Vec::new();
        let mut found = (0, 0, 0);
        for _ in 0..ROUNDS {
            let dead = Lcore::new(Slot::claim(region, "dead")?);
            let mut producer = MbufProducer::new(ring.producer(dead.owner())?);
            let consumer = MbufConsumer::new(ring.consumer(dead.owner())?);
            for _ in 0..1024 / BURST_MAX {
                let mut burst = Burst::new(&dead);
                dead.alloc_burst(pool, &mut burst, BURST_MAX);
                let _ = producer.enqueue_burst(&mut burst);
            }
            for _ in 0..count / 10 / 32 {
                let mut burst = Burst::new(&dead);
                dead.alloc_burst(pool, &mut burst, BURST_MAX);
                forget(burst);
            }
            region.abandon(dead.slot_id());
            forget((producer, consumer));
            forget(dead);
            let start = Instant::now();
            let report = sweep(region, &sweeper, SlotSet::EMPTY)?.ok_or("nobody is dead")?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            found = (report.in_hand, report.magazines, report.rings);
        }
        times.sort_by(f64::total_cmp);
        println!(
            "{count} buffers: median {:.2} ms, longest {:.2} ms ({} in hand, {} in magazines, {} in rings came back)",
            times[ROUNDS / 2],
            times[ROUNDS - 1],
            found.0,
            found.1,
            found.2
        );
        assert_eq!(pool.in_use(), 0, "every buffer is back");
    }
    Ok(())
}
