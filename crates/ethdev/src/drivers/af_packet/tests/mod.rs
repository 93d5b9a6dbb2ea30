#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of a test are small"
)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use eal::queue::QueueRecord;
use eal::{Counter, Owner, Region, Slot};
use lab::{FrameSocket, Host};
use mbuf::{BURST_MAX, Burst, HEADROOM, Lcore, Mbuf, PoolConfig};

use super::*;
use crate::driver::PortId;
use crate::stats::{DropReason, QueueCounters};

mod adopted;
mod content;
mod fanout;
mod owner;
mod refusal;
mod transfer;

const WAIT: Duration = Duration::from_secs(10);

/// Memory for one test: a region, a pool of `count` buffers.
fn memory(count: u32) -> (&'static Region, Pool) {
    let region: &'static Region = Box::leak(Box::new(Region::anonymous(64 << 20).unwrap()));
    let pool = Pool::create(region, &PoolConfig::new("pool", count)).unwrap();
    (region, pool)
}

fn lcore(region: &'static Region) -> Lcore {
    Lcore::new(Slot::claim(region, "test").unwrap())
}

/// A port with its queues' shared words, as the port layer keeps them.
struct Opened {
    device: Box<dyn Device>,
    region: &'static Region,
    pool: Pool,
    shared: HashMap<(Direction, u16), (&'static QueueRecord, QueueCounters)>,
}

impl Opened {
    /// Opens and starts a port on an interface of `host`.
    fn start(
        host: &Host,
        (region, pool): (&'static Region, Pool),
        args: &str,
        rx: u16,
        tx: u16,
    ) -> Self {
        let args = DevArgs::parse(args).unwrap();
        let device = host
            .run(|| open(region, &args, rx, tx, pool))
            .unwrap()
            .unwrap();
        Self {
            device,
            region,
            pool,
            shared: HashMap::new(),
        }
    }

    fn context(&mut self, direction: Direction, queue: u16) -> QueueContext {
        let (record, counters) = *self.shared.entry((direction, queue)).or_insert_with(|| {
            let record: &'static QueueRecord = Box::leak(Box::default());
            let detail: &'static [Counter; 16] = Box::leak(Box::default());
            (record, QueueCounters::new(record, detail))
        });
        QueueContext {
            region: self.region,
            port: PortId(0),
            queue: QueueId(queue),
            direction,
            record,
            counters,
            pool: Some(self.pool),
            descriptors: 0,
            owner: Owner::NONE,
        }
    }

    fn rx(&mut self, queue: u16) -> Box<dyn RxQueue> {
        let cx = self.context(Direction::Rx, queue);
        self.device.rx_queue(cx, None).unwrap()
    }

    fn tx(&mut self, queue: u16) -> Box<dyn TxQueue> {
        let cx = self.context(Direction::Tx, queue);
        self.device.tx_queue(cx, None).unwrap()
    }

    fn counters(&mut self, direction: Direction, queue: u16) -> QueueCounters {
        self.context(direction, queue).counters
    }
}

fn open(
    region: &'static Region,
    args: &DevArgs,
    rx: u16,
    tx: u16,
    pool: Pool,
) -> Result<Box<dyn Device>, Error> {
    let mut device = AfPacket.probe(
        &Probe {
            region,
            port: PortId(0),
            vdevs: &[],
        },
        args,
    )?;
    device.configure(rx, tx, &PortConfig::default())?;
    (0..rx).try_for_each(|queue| device.rx_queue_setup(QueueId(queue), 0, pool))?;
    (0..tx).try_for_each(|queue| device.tx_queue_setup(QueueId(queue), 0))?;
    device.start()?;
    Ok(device)
}

/// Two hosts and a cable, both ends up, IPv6 silent.
fn cable(a: &str, b: &str) -> (Host, Host) {
    let hosts = (Host::new(a).unwrap(), Host::new(b).unwrap());
    lab::veth((&hosts.0, "a0"), (&hosts.1, "b0"), 1).unwrap();
    for (host, iface) in [(&hosts.0, "a0"), (&hosts.1, "b0")] {
        host.disable_ipv6(iface).unwrap();
        host.up(iface).unwrap();
    }
    hosts
}

/// A frame of an experimental type with a number and bytes that follow from it.
fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    frame.extend(number.to_be_bytes());
    let mut state = number.wrapping_mul(2_654_435_761) | 1;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    });
    frame.extend(noise.take(len.saturating_sub(frame.len())));
    frame
}

/// A frame with VLAN tags, outermost first.
fn tagged(number: u32, len: usize, tags: &[[u8; 4]]) -> Vec<u8> {
    let mut frame = frame(number, len);
    frame.splice(12..12, tags.concat());
    frame
}

fn bytes(mbuf: &Mbuf<'_>) -> Vec<u8> {
    mbuf.segments().flatten().copied().collect()
}

/// Polls until `count` packets came or time is over.
fn receive(rx: &mut Box<dyn RxQueue>, lcore: &Lcore, count: usize) -> Vec<Vec<u8>> {
    let until = Instant::now() + WAIT;
    let mut frames = Vec::new();
    while frames.len() < count && Instant::now() < until {
        let mut burst = Burst::new(lcore);
        rx.rx_burst(lcore, &mut burst);
        frames.extend(burst.iter().map(|mbuf| bytes(&mbuf)));
    }
    frames
}

/// What still comes within a twentieth of a second: ten times as long as the kernel keeps a packet back.
fn rest(rx: &mut Box<dyn RxQueue>, lcore: &Lcore) -> Vec<Vec<u8>> {
    let until = Instant::now() + Duration::from_millis(50);
    let mut frames = Vec::new();
    while Instant::now() < until {
        let mut burst = Burst::new(lcore);
        rx.rx_burst(lcore, &mut burst);
        frames.extend(burst.iter().map(|mbuf| bytes(&mbuf)));
    }
    frames
}
