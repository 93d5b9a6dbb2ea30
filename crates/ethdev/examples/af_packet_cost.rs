//! What a frame costs this process on a `net_af_packet` port: copying one out of the ring, and sending one.
//!
//! ```text
//! cargo run --release -p forebay-ethdev --example af_packet_cost
//! ```
//!
//! A cable of two veth interfaces in fresh namespaces. To receive: the ring is filled while nobody reads it, then drained in
//! bursts of 32 and timed, so that waiting is not counted. To send: bursts of 32, timed; that includes what the kernel does
//! at the far end of the cable, which is nothing but dropping the frame. Nanoseconds of CPU time, medians of the rounds.

use std::io::Write;
use std::sync::Arc;

use eal::{ProcType, Region, Slot};
use forebay_ethdev::{LocalExchange, PortConfig, PortId, Ports, QueueId, RxQueue, TxQueue};
use lab::{FrameSocket, Host};
use mbuf::{BURST_MAX, Burst, Lcore, Pool, PoolConfig};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 15;
const FRAMES: usize = 4096;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    lab::enter()?;
    let (near, far) = (Host::new("near")?, Host::new("far")?);
    lab::veth((&near, "a0"), (&far, "b0"), 1)?;
    for (host, iface) in [(&near, "a0"), (&far, "b0")] {
        host.disable_ipv6(iface)?;
        host.up(iface)?;
    }
    let sender = FrameSocket::open(&far, "b0")?;
    // All of a port is opened in the namespace that its interface is in.
    let lines = near.run(|| measure(&sender).map_err(|error| error.to_string()))??;
    for line in lines {
        writeln!(std::io::stdout(), "{line}")?;
    }
    Ok(())
}

fn measure(sender: &FrameSocket) -> Outcome<Vec<String>> {
    let region: &'static Region = Box::leak(Box::new(Region::anonymous(64 << 20)?));
    let pool = Pool::create(region, &PoolConfig::new("packets", 8192))?;
    let lcore = Lcore::new(Slot::claim(region, "cost")?);
    let mut lines = Vec::new();
    for len in [64, 1500] {
        let frame = frame(len);
        for bypass in [0, 1] {
            let vdev = format!("net_af_packet0,iface=a0,framecnt=8192,qdisc_bypass={bypass}");
            let ports = Ports::open(
                region,
                ProcType::Primary,
                &[vdev],
                Arc::new(LocalExchange::default()),
            )?;
            let port = ports.port(PortId(0))?;
            port.configure(1, 1, &PortConfig::default())?;
            port.rx_queue_setup(QueueId(0), 0, pool)?;
            port.tx_queue_setup(QueueId(0), 0)?;
            port.start()?;
            {
                let mut rx = port.rx_queue(QueueId(0), lcore.owner())?;
                let mut tx = port.tx_queue(QueueId(0), lcore.owner())?;
                let sent = rounds(|| send(&mut tx, &lcore, pool, &frame))?;
                let received = rounds(|| receive(&mut rx, &lcore, sender, &frame))?;
                lines.push(format!("{len} B, bursts of {BURST_MAX}, qdisc_bypass={bypass}: receive {received:.0} ns, send {sent:.0} ns a frame"));
            }
            port.stop()?;
            port.close()?;
        }
    }
    Ok(lines)
}

/// The median of what `one` says.
fn rounds(mut one: impl FnMut() -> Outcome<f64>) -> Outcome<f64> {
    let mut costs = (0..ROUNDS).map(|_| one()).collect::<Outcome<Vec<f64>>>()?;
    costs.sort_by(f64::total_cmp);
    Ok(costs[ROUNDS / 2])
}

fn frame(len: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    frame.resize(len, 0x5a);
    frame
}

/// Nanoseconds of CPU time of this thread.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn receive(rx: &mut RxQueue, lcore: &Lcore, sender: &FrameSocket, frame: &[u8]) -> Outcome<f64> {
    for _ in 0..FRAMES {
        sender.send(frame)?;
    }
    let start = cpu_time();
    let mut left = FRAMES;
    let mut empty = 0;
    while left > 0 && empty < 1_000_000 {
        let mut burst = Burst::new(lcore);
        let count = rx.rx_burst(lcore, &mut burst);
        left -= count.min(left);
        empty = if count == 0 { empty + 1 } else { 0 };
    }
    if left > 0 {
        return Err(format!("{left} frames did not come: {:?}", rx.stats()).into());
    }
    Ok((cpu_time() - start) / FRAMES as f64)
}

fn send(tx: &mut TxQueue, lcore: &Lcore, pool: Pool, frame: &[u8]) -> Outcome<f64> {
    let mut spent = 0.0;
    for _ in 0..FRAMES / BURST_MAX {
        let mut burst = Burst::new(lcore);
        while burst.room() > 0 {
            let mbuf = lcore.mbuf_from(pool, frame).ok_or("the pool is empty")?;
            burst.push(mbuf).map_err(|_| "the burst is full")?;
        }
        let start = cpu_time();
        while !burst.is_empty() {
            tx.tx_burst(&mut burst);
        }
        spent += cpu_time() - start;
    }
    Ok(spent / FRAMES as f64)
}
