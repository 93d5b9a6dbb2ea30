//! A worker: one end of the ring, in a process of its own that may be killed at any moment.

use std::cell::Cell;
use std::path::PathBuf;

use clap::Args;
use forebay::ring::Enqueued;
use forebay::{
    BURST_MAX, Burst, Eal, EalArgs, Lcore, Mbuf, MbufConsumer, MbufProducer, Pool, Ring,
};

use super::POOL;
use super::board::{ALL_STOP, Board, Own, PRODUCERS_STOP};
use super::kind::{How, Kind, RING, Side};
use crate::storm::random::mix;

/// Bursts that are prepared, or taken, one after the other, so that most of the time passes inside the operation.
const SERIES: usize = 256;
/// Attempts in vain before a series ends, or the core is lent to the other end.
const ATTEMPTS: u32 = 256;
/// Bytes of a packet: producer, number, checksum.
const PACKET_LEN: usize = 24;

/// Which end, and as whom.
#[derive(Debug, Clone, Args)]
pub struct WorkerArgs {
    #[arg(long)]
    file_prefix: String,
    #[arg(long)]
    runtime_dir: PathBuf,
    #[arg(long)]
    kind: String,
    #[arg(long)]
    side: String,
    #[arg(long)]
    instance: u32,
}

/// Works at one end of the ring until it is told to stop.
///
/// # Errors
///
/// If the group cannot be joined, or the end is taken.
pub fn work(args: &WorkerArgs) -> anyhow::Result<()> {
    let kind = Kind::named(&args.kind).ok_or_else(|| anyhow::anyhow!("no kind {:?}", args.kind))?;
    let line = [
        "forebay-storm".to_owned(),
        "--proc-type=secondary".to_owned(),
        "--log-level=error".to_owned(),
        format!("--file-prefix={}", args.file_prefix),
        format!("--runtime-dir={}", args.runtime_dir.display()),
    ];
    let eal = Eal::init(EalArgs::parse(line)?.0)?;
    let region = eal.region();
    let side = if args.side == Side::Consumer.name() {
        Side::Consumer
    } else {
        Side::Producer
    };
    let board = Board::lookup(region)?;
    let worker = Worker {
        lcore: Lcore::new(eal.claim_slot(&args.side)?),
        own: board.introduce(args.instance, side),
        is_doomed: Cell::new(false),
        board,
        pool: Pool::lookup(region, POOL)?,
        instance: args.instance,
        how: kind.how(side),
    };
    let ring = Ring::lookup(region, RING)?;
    match side {
        Side::Producer => worker.produce(MbufProducer::new(ring.producer(worker.lcore.owner())?)),
        Side::Consumer => worker.consume(MbufConsumer::new(ring.consumer(worker.lcore.owner())?)),
    }
    drop(worker);
    Ok(eal.cleanup()?)
}

struct Worker {
    lcore: Lcore,
    board: Board<'static>,
    own: Own<'static>,
    /// Whether the timer runs.
    is_doomed: Cell<bool>,
    pool: Pool,
    instance: u32,
    how: How,
}

impl Worker {
    fn produce(&self, mut ring: MbufProducer<'_>) {
        let mut next = 0;
        while self.board.order() < PRODUCERS_STOP {
            let mut series: Vec<_> = (0..SERIES).map(|_| self.burst(&mut next)).collect();
            self.meet_fate();
            for burst in &mut series {
                if self.how == How::One {
                    self.send_one_by_one(&mut ring, burst);
                } else {
                    self.send(&mut ring, burst);
                }
            }
        }
    }

    /// A whole burst of packets, numbered on; none while the pool is dry.
    fn burst(&self, next: &mut u64) -> Burst<'_> {
        let mut burst = Burst::new(&self.lcore);
        if !self.lcore.alloc_bulk(self.pool, &mut burst, BURST_MAX) {
            std::thread::yield_now();
        }
        for mut mbuf in burst.iter_mut() {
            if let Some(bytes) = mbuf.append(PACKET_LEN) {
                bytes.copy_from_slice(&packet(self.instance, *next));
            }
            *next += 1;
        }
        burst
    }

    /// At the beginning of a series of operations: if it is to be the last, asks the kernel for death in the midst of it. A
    /// signal from another process would take longer than the series.
    fn meet_fate(&self) {
        if let Some(time) = self.board.fate(self.instance)
            && !self.is_doomed.replace(true)
        {
            // Without a timer the storm kills from outside.
            let _ = lab::die_after(time);
        }
    }

    /// After some attempts in vain: the other end stands still, and the series may never end. Lends it the core.
    fn rest(&self, vain: u32) {
        if vain > ATTEMPTS {
            self.meet_fate();
            std::thread::yield_now();
        }
    }

    /// Sends all of a burst. What is left when it is told to stop goes back to the pool.
    fn send(&self, ring: &mut MbufProducer<'_>, burst: &mut Burst<'_>) {
        let mut vain = 0;
        while !burst.is_empty() && self.board.order() < PRODUCERS_STOP {
            let count = |done: &Enqueued| done.count as u64;
            let done = match self.how {
                How::Bulk => self.own.inside(
                    || ring.enqueue_bulk(burst).expect("a ring of one consumer"),
                    count,
                ),
                _ => self.own.inside(|| ring.enqueue_burst(burst), count),
            };
            vain = if done.count > 0 { 0 } else { vain + 1 };
            self.rest(vain);
        }
    }

    fn send_one_by_one<'c>(&'c self, ring: &mut MbufProducer<'_>, burst: &mut Burst<'c>) {
        let mut vain = 0;
        for mbuf in burst.drain() {
            let mut left = Some(mbuf);
            while let Some(mbuf) = left.take().filter(|_| self.board.order() < PRODUCERS_STOP) {
                let count = |done: &Result<(), Mbuf<'_>>| u64::from(done.is_ok());
                left = self.own.inside(|| ring.enqueue(mbuf), count).err();
                vain = if left.is_none() { 0 } else { vain + 1 };
                self.rest(vain);
            }
        }
    }

    fn consume(&self, mut ring: MbufConsumer<'_>) {
        let mut vain = 0;
        while self.board.order() < ALL_STOP || !ring.is_empty() {
            let count = if self.how == How::One {
                self.take_one_by_one(&mut ring)
            } else {
                self.take_bursts(&mut ring)
            };
            vain = if count > 0 { 0 } else { vain + 1 };
            self.rest(vain);
        }
    }

    fn take_bursts(&self, ring: &mut MbufConsumer<'_>) -> usize {
        let mut series: Vec<_> = (0..SERIES).map(|_| Burst::new(&self.lcore)).collect();
        let (mut count, mut vain) = (0, 0);
        self.meet_fate();
        for burst in &mut series {
            let done = self
                .own
                .inside(|| ring.dequeue_burst(&self.lcore, burst), |_| 0);
            count += done.count;
            vain = if done.count > 0 { 0 } else { vain + 1 };
            if vain > ATTEMPTS {
                break;
            }
        }
        for burst in &mut series {
            burst.drain().for_each(|mbuf| self.check(mbuf));
        }
        count
    }

    fn take_one_by_one(&self, ring: &mut MbufConsumer<'_>) -> usize {
        let mut series: Vec<Mbuf<'_>> = Vec::with_capacity(SERIES * BURST_MAX);
        let mut vain = 0;
        self.meet_fate();
        while series.len() < series.capacity() && vain <= ATTEMPTS {
            let mbuf = self.own.inside(|| ring.dequeue(&self.lcore), |_| 0);
            vain = if mbuf.is_some() { 0 } else { vain + 1 };
            series.extend(mbuf);
        }
        series.into_iter().map(|mbuf| self.check(mbuf)).count()
    }

    /// Notes a packet and gives its buffer back at once: of a killed consumer at most one is noted and not given back, and the
    /// board tells which.
    fn check(&self, mbuf: Mbuf<'_>) {
        let word = |at: usize| {
            let bytes = mbuf.data().get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_be_bytes(bytes))
        };
        let (Some(producer), Some(number)) = (word(0), word(8)) else {
            return self.board.note_damaged(0);
        };
        let producer = u32::try_from(producer).unwrap_or(0);
        if mbuf.data() == packet(producer, number) {
            self.own.set_noting(Some((producer, number)));
            self.board.note(producer, number);
            drop(mbuf);
            self.own.set_noting(None);
        } else {
            self.board.note_damaged(producer);
        }
    }
}

/// The bytes of a packet.
fn packet(producer: u32, number: u64) -> [u8; PACKET_LEN] {
    let mut bytes = [0; PACKET_LEN];
    let words = [
        u64::from(producer),
        number,
        mix(u64::from(producer) << 40 ^ number),
    ];
    for (chunk, word) in bytes.chunks_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}
