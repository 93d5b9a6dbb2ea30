//! The load of the lines over veth: frames of one length, so many a second, out of an interface.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use forebay::{BURST_MAX, Burst, Lcore, Pool, PoolConfig, PortConfig, PortId, Ports, QueueId};
use rustix::process::setpriority_process;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::datagram;
use crate::echo;

/// Bursts that the generator catches up with when it came late; it sends the others later.
const LATE_MAX: f64 = 16.0;
/// What the generator's lines begin with.
pub(crate) const WORD: &str = "generator:";
/// Source ports that datagrams come from, in turn.
const SOURCES: u16 = 16;

/// What the frames are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Traffic {
    /// Nobody's: an ether type for experiments.
    Frames,
    /// UDP datagrams for the echo in the middle, of several flows.
    Datagrams,
    /// The same, to a station that is not there.
    Unheard,
}

impl Traffic {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::Datagrams => "datagrams",
            Self::Unheard => "unheard",
        }
    }

    /// One of each flow.
    fn frames(self, len: usize) -> Vec<Vec<u8>> {
        let station = match self {
            Self::Frames => {
                let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
                frame.resize(len, 0x5a);
                return vec![frame];
            }
            Self::Datagrams => echo::STATION,
            Self::Unheard => echo::NOBODY,
        };
        let flow = |number| datagram::Datagram {
            stations: (echo::GENERATOR, station),
            source: (echo::SOURCE, echo::SOURCE_PORT + number),
            destination: (echo::ADDRESS, echo::PORT),
        };
        (0..SOURCES).map(|number| flow(number).frame(len)).collect()
    }
}

/// What the generator says when it has sent everything. Times are `CLOCK_MONOTONIC`'s.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) frames: u64,
    /// Before the first frame and after the last.
    pub(crate) begin_ns: u64,
    pub(crate) end_ns: u64,
}

/// Sends so many frames of `len` bytes out of an interface, `rate` a second, once it is told to. Is there until stdin ends.
pub(crate) fn generate(
    iface: &str,
    traffic: Traffic,
    len: usize,
    (rate, frames): (f64, u64),
) -> Result<()> {
    // Not everybody may; the pipeline then gets its share of the core first now and then.
    let _ = setpriority_process(None, -20);
    let vdev = format!("--vdev=net_af_packet0,iface={iface},qdisc_bypass=1");
    let args = ["-l0", "-m32", "--in-memory"].map(str::to_owned);
    let args: Vec<String> = args.into_iter().chain([vdev]).collect();
    let eal = crate::ours::environment(&args)?;
    let pool = Pool::create(eal.region(), &PoolConfig::new("frames", 4096))?;
    let ports = Ports::probe(&eal)?;
    let port = ports.port(PortId(0))?;
    port.configure(1, 1, &PortConfig::default())?;
    port.rx_queue_setup(QueueId(0), 0, pool)?;
    port.tx_queue_setup(QueueId(0), 0)?;
    port.start()?;
    let lcore = Lcore::new(eal.claim_slot("generator")?);
    let mut queue = port.tx_queue(QueueId(0), lcore.owner())?;
    let made = traffic.frames(len);
    let mut made = made.iter().cycle();
    let mut burst = Burst::new(&lcore);
    let spacing = BURST_MAX as f64 / rate;
    eprintln!("{WORD} ready");
    let mut go = String::new();
    ensure!(io::stdin().read_line(&mut go)? > 0, "nobody said go");
    let (start, begin_ns) = (Instant::now(), monotonic_ns());
    let (mut due, mut left) = (0.0, frames);
    while left > 0 {
        let now = start.elapsed().as_secs_f64();
        due = f64::max(due, LATE_MAX.mul_add(-spacing, now));
        if due > now {
            thread::sleep(Duration::from_secs_f64(due - now));
            continue;
        }
        while left > 0 && burst.room() > 0 {
            let frame = made.next().context("there is one")?;
            let mbuf = lcore.mbuf_from(pool, frame).context("the pool is empty")?;
            burst
                .push(mbuf)
                .map_err(|_| anyhow::anyhow!("the burst is full"))?;
            left -= 1;
        }
        while !burst.is_empty() {
            queue.tx_burst(&mut burst);
        }
        due += spacing;
    }
    let sent = Sent {
        frames,
        begin_ns,
        end_ns: monotonic_ns(),
    };
    eprintln!("{WORD} {}", serde_json::to_string(&sent)?);
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
