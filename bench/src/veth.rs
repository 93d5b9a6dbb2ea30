//! Forwarding over veth with `net_af_packet`: what a packet costs, in CPU time, at a load that both sides carry.
//!
//! ```text
//! west          middle                       east
//! generator     m0 -> pipeline -> m1
//! w0 ---------- m0                m1 ------- e0: counts
//! ```
//!
//! Two cores only, so the generator shares core 0 with whoever receives. It is paced, sleeps between its bursts, and goes before the
//! pipeline (nice -20), so that it keeps its rate beside a pipeline that never sleeps.
//!
//! A *cost* is CPU time of the pipeline's threads, and what the generator and the kernel's `ksoftirqd` threads take more than they
//! do at the same rate with nobody listening, over the packets that reached the east. The second part is the softirq that copies a
//! frame into the pipeline's ring: it runs on the sender's time. Times are those of `schedstat`, which has softirqs in it where the
//! kernel does not keep them apart (`CONFIG_IRQ_TIME_ACCOUNTING` off, as Debian has it).

use std::fs;
use std::io;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use forebay::{BURST_MAX, Burst, Lcore, Pool, PoolConfig, PortConfig, PortId, Ports, QueueId};
use lab::Host;
use rustix::process::setpriority_process;
use serde::Serialize;

use crate::child::{Running, Stream};
use crate::compare::Bench;
use crate::round::Round;

/// After both are there, until the clock runs; and how long it runs.
const SETTLE: Duration = Duration::from_millis(300);
const WINDOW: Duration = Duration::from_secs(1);
/// How long the clock runs in the search for the most that a side carries, and how often it is halved.
const PROBE: Duration = Duration::from_millis(500);
const PROBES: u32 = 7;
/// Where that search begins, in packets a second.
const RATE_MAX: f64 = 1_200_000.0;
/// What may be lost of a load that is carried.
const LOSS_MAX: f64 = 0.002;
/// At what part of the slower side's most both are measured.
const LOAD: f64 = 0.7;
/// Bursts that the generator catches up with when it came late; what is more is not sent.
const LATE_MAX: f64 = 16.0;

/// Who forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    /// As DPDK is run: looking all the time.
    Peer,
    /// The same, but sleeping for a moment when nothing comes.
    Napping,
}

/// West, middle and east, for one round.
struct World {
    west: Host,
    middle: Host,
    east: Host,
}

/// What was sent, what arrived, and CPU time in nanoseconds, until now.
#[derive(Debug, Clone, Copy)]
struct Counts {
    sent: u64,
    arrived: u64,
    pipeline: u64,
    generator: u64,
}

/// A window of forwarding.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Window {
    /// Packets a second that were to be sent.
    rate: f64,
    sent: u64,
    arrived: u64,
    /// Part of what was sent.
    loss: f64,
    /// Nanoseconds of CPU.
    pipeline: u64,
    generator: u64,
    /// Nanoseconds of CPU that a packet costs the generator when nobody listens.
    idle_cost: f64,
    seconds: f64,
}

impl Window {
    /// Nanoseconds of CPU that were the pipeline's.
    fn cost(&self) -> f64 {
        let own = self.idle_cost * self.sent as f64;
        self.pipeline as f64 + (self.generator as f64 - own).max(0.0)
    }

    /// As a round: packets, and seconds of CPU.
    pub(crate) fn round(&self, pages: &str) -> Result<Round> {
        Ok(Round {
            items: self.arrived,
            seconds: self.cost() / 1e9,
            sum: self.arrived,
            expected: self.arrived,
            pages: pages.to_owned(),
            detail: Some(serde_json::to_value(self)?),
        })
    }
}

impl World {
    fn new() -> Result<Self, lab::Error> {
        let world = Self {
            west: Host::new("west")?,
            middle: Host::new("middle")?,
            east: Host::new("east")?,
        };
        lab::veth((&world.west, "w0"), (&world.middle, "m0"), 1)?;
        lab::veth((&world.middle, "m1"), (&world.east, "e0"), 1)?;
        let ends = [
            (&world.west, "w0"),
            (&world.middle, "m0"),
            (&world.middle, "m1"),
            (&world.east, "e0"),
        ];
        for (host, iface) in ends {
            host.disable_ipv6(iface)?;
            host.up(iface)?;
        }
        Ok(world)
    }

    fn counts(&self, pipeline: &[&Running], generator: &Running) -> Result<Counts> {
        let time = |running: &&Running| cpu_time(running.pid());
        let softirqs: u64 = kernel_threads().into_iter().map(cpu_time).sum();
        Ok(Counts {
            sent: self.west.stats("w0")?.tx_packets,
            arrived: self.east.stats("e0")?.rx_packets,
            pipeline: pipeline.iter().map(time).sum(),
            generator: cpu_time(generator.pid()) + softirqs,
        })
    }

    /// Lets the generator run at `rate` and counts for so long.
    fn window(
        &self,
        pipeline: &[&Running],
        len: usize,
        rate: f64,
        time: Duration,
    ) -> Result<Window> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["generate", "w0", &len.to_string(), &rate.to_string()]);
        self.west.command(&mut command)?;
        let (generator, _) = Running::until(&mut command, Stream::Err, "ready")?;
        thread::sleep(SETTLE);
        let (start, before) = (Instant::now(), self.counts(pipeline, &generator)?);
        thread::sleep(time);
        let after = self.counts(pipeline, &generator)?;
        let (sent, arrived) = (after.sent - before.sent, after.arrived - before.arrived);
        Ok(Window {
            rate,
            sent,
            arrived,
            loss: 1.0 - (arrived as f64 / sent.max(1) as f64).min(1.0),
            pipeline: after.pipeline - before.pipeline,
            generator: after.generator - before.generator,
            idle_cost: 0.0,
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// Starts a side in the middle; its processes, the last one first.
    fn start(&self, bench: &Bench<'_>, side: Side) -> Result<Vec<Running>> {
        let ports = |options: &str| {
            [0, 1].map(|port| format!("--vdev=net_af_packet{port},iface=m{port},{options}"))
        };
        let start = |mut command: Command| -> Result<Running> {
            self.middle.command(&mut command)?;
            Ok(Running::until(&mut command, Stream::Err, "ready")?.0)
        };
        if side == Side::Ours {
            let program = std::env::current_exe()?.with_file_name("forebay");
            let group = [
                "--file-prefix=forebay-bench-veth".to_owned(),
                format!("--runtime-dir={}", bench.scratch.display()),
            ];
            let mut server = Command::new(&program);
            server.args(["server", "-l0"]).args(&group);
            server
                .args(bench.pages.ours())
                .args(ports("qdisc_bypass=1"));
            server.args(["--", "-p3", "-n1", "--ring-size=1024", "--no-screen"]);
            let mut client = Command::new(&program);
            client
                .args(["client", "-l1", "--proc-type=auto"])
                .args(&group);
            client.args(["--", "-n0"]);
            let server = start(server)?;
            return Ok(vec![start(client)?, server]);
        }
        let peers = bench.peers.as_ref().context("no peer")?;
        let mut eal = vec!["-l0,1".to_owned(), "-m128".to_owned()];
        eal.extend(bench.pages.peer_alone());
        // As much memory for frames as ours has.
        eal.extend(ports(
            "qdisc_bypass=1,blocksz=131072,framesz=2048,framecnt=2048",
        ));
        let how = if side == Side::Napping { "nap" } else { "poll" };
        Ok(vec![start(peers.command(
            "forward",
            &eal,
            &[how.to_owned()],
        ))?])
    }
}

/// One window of a side, everything made afresh.
fn measure(bench: &Bench<'_>, side: Side, len: usize, rate: f64, time: Duration) -> Result<Window> {
    let world = World::new()?;
    let processes = world.start(bench, side)?;
    let all: Vec<&Running> = processes.iter().collect();
    let window = world.window(&all, len, rate, time)?;
    for process in processes {
        // The client goes before its server. A peer ends with its stdin.
        if side == Side::Ours {
            process.interrupt();
        }
    }
    Ok(window)
}

/// What both sides can carry, and the load at which they are measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Load {
    /// Bytes of a frame.
    len: usize,
    /// The most that each carries, in packets a second.
    ours: f64,
    peer: f64,
    /// What a packet costs the generator when nobody listens, in nanoseconds.
    idle_cost: f64,
    rate: f64,
}

impl Load {
    /// Finds it: the same search for both, halving between what is carried and what is not.
    pub(crate) fn find(bench: &Bench<'_>, len: usize) -> Result<Self> {
        let most = |side| -> Result<f64> {
            let (mut low, mut high) = (0.0, RATE_MAX);
            for _ in 0..PROBES {
                let rate = f64::midpoint(low, high);
                let window = measure(bench, side, len, rate, PROBE)?;
                let sent = window.sent as f64 / window.seconds;
                eprintln!(
                    "veth, {len} B: {side:?} at {:.0} k/s: {:.2} % lost",
                    sent / 1e3,
                    window.loss * 100.0
                );
                // A rate that the generator does not keep is no rate that was carried.
                if window.loss <= LOSS_MAX && sent > 0.97 * rate {
                    low = rate;
                } else {
                    high = rate;
                }
            }
            Ok(low)
        };
        let ours = most(Side::Ours)?;
        let peer = if bench.peers.is_some() {
            most(Side::Peer)?
        } else {
            ours
        };
        let rate = LOAD * ours.min(peer);
        ensure!(
            rate > 0.0,
            "one side carries no load without loss; leave the machine alone meanwhile"
        );
        let alone = World::new()?.window(&[], len, rate, WINDOW)?;
        Ok(Self {
            len,
            ours,
            peer,
            idle_cost: alone.generator as f64 / alone.sent.max(1) as f64,
            rate,
        })
    }

    /// One round of a side.
    pub(crate) fn round(&self, bench: &Bench<'_>, side: Side) -> Result<Round> {
        let mut window = measure(bench, side, self.len, self.rate, WINDOW)?;
        window.idle_cost = self.idle_cost;
        window.round(bench.pages.name())
    }

    /// What is told of it beside the ratio.
    pub(crate) fn text(&self, name: &str) -> String {
        format!(
            "SATURATION {name} ours={:.0} peer={:.0} k/s; measured at {:.0} k/s",
            self.ours / 1e3,
            self.peer / 1e3,
            self.rate / 1e3
        )
    }
}

/// Sends frames of `len` bytes out of an interface, `rate` a second, until stdin ends.
pub(crate) fn generate(iface: &str, len: usize, rate: f64) -> Result<()> {
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
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    frame.resize(len, 0x5a);
    let mut burst = Burst::new(&lcore);
    let until_end = thread::spawn(|| io::copy(&mut io::stdin(), &mut io::sink()));
    let spacing = BURST_MAX as f64 / rate;
    let start = Instant::now();
    let mut due = 0.0;
    eprintln!("ready");
    while !until_end.is_finished() {
        let now = start.elapsed().as_secs_f64();
        due = f64::max(due, LATE_MAX.mul_add(-spacing, now));
        if due > now {
            thread::sleep(Duration::from_secs_f64(due - now));
            continue;
        }
        while burst.room() > 0 {
            let mbuf = lcore.mbuf_from(pool, &frame).context("the pool is empty")?;
            burst
                .push(mbuf)
                .map_err(|_| anyhow::anyhow!("the burst is full"))?;
        }
        while !burst.is_empty() {
            queue.tx_burst(&mut burst);
        }
        due += spacing;
    }
    Ok(())
}

/// CPU time of all threads of a process, in nanoseconds; 0 of one that is not there.
fn cpu_time(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    let time = |task: io::Result<fs::DirEntry>| -> Option<u64> {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    tasks.filter_map(time).sum()
}

/// The kernel's threads for softirqs that did not come to an end.
fn kernel_threads() -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let is_one = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.starts_with("ksoftirqd"))
    };
    let pids = processes.filter_map(|process| process.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(is_one).collect()
}
