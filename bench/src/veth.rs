//! Forwarding over veth with `net_af_packet` or `net_af_xdp`: what a packet costs, in CPU time, at a load that both sides carry.
//!
//! ```text
//! west          middle                       east
//! generator     m0 -> pipeline -> m1
//! w0 ---------- m0                m1 ------- e0: counts
//! ```
//!
//! Two cores only, so the generator shares core 0 with whoever receives. It is paced, sleeps between its bursts, and goes before the
//! pipeline (nice -20), so that it keeps its rate beside a pipeline that never sleeps. It sends an exact number of frames; what has
//! arrived is read when nothing has come for a while, so that no frame on its way counts as lost.
//!
//! A *cost* is CPU time of the pipeline's threads while the generator sends, and what the generator and the kernel's `ksoftirqd`
//! threads of the two cores take more than they did just before, in the same world with nobody listening, over the packets that
//! reached the east. The second part is the softirq that copies a frame into the pipeline's ring: it runs on the sender's time.
//! Times are those of `schedstat`, which has softirqs in it where the kernel does not keep them apart
//! (`CONFIG_IRQ_TIME_ACCOUNTING` off, as Debian has it). A softirq that interrupts an idle core is nobody's and not counted.

use std::fs;
use std::io;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use forebay::{BURST_MAX, Burst, Lcore, Pool, PoolConfig, PortConfig, PortId, Ports, QueueId};
use lab::Host;
use rustix::process::{getpriority_process, setpriority_process};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::child::{Running, Stream};
use crate::compare::Bench;
use crate::round::Round;

/// After all are there, until the first frame.
const SETTLE: Duration = Duration::from_millis(100);
/// How long the generator sends in a round, before it with nobody listening, and in a probe of the search.
const WINDOW: Duration = Duration::from_millis(800);
const ALONE: Duration = Duration::from_millis(400);
const PROBE: Duration = Duration::from_millis(400);
/// Nothing more arrives that has not for so long; how often that is looked at; and the longest that is waited for it.
const STILL: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_millis(10);
const STILL_MAX: Duration = Duration::from_secs(5);
/// What the generator may take longer than it should.
const LATE: Duration = Duration::from_secs(20);
/// The search for the most that a side carries: where it begins and ends, in packets a second, and how much a step adds.
const RATE_MIN: f64 = 20_000.0;
const RATE_MAX: f64 = 3_000_000.0;
const STEP: f64 = 1.3;
/// The best of so many tries counts; so many steps in a row that fail end the search.
const TRIES: u32 = 3;
const FAILURES: u32 = 2;
/// What may be lost of a load that is carried.
const CARRIED_LOSS: f64 = 0.005;
/// A generator below this part of its rate has no more to give.
const KEPT: f64 = 0.9;
/// At what part of the slower side's most both are measured.
const LOAD: f64 = 0.7;
/// Bursts that the generator catches up with when it came late; it sends the others later.
const LATE_MAX: f64 = 16.0;
/// What the generator's lines begin with.
const WORD: &str = "generator:";
/// The cores of both sides.
const CORES: [u32; 2] = [0, 1];

/// Who forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    /// As DPDK is run: looking all the time.
    Peer,
    /// The same, but sleeping for a moment when nothing comes.
    Napping,
}

/// By what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Sockets {
    Packet,
    Xdp,
}

/// West, middle and east, for one round.
pub(crate) struct World {
    west: Host,
    pub(crate) middle: Host,
    east: Host,
}

/// CPU time in nanoseconds, until now.
#[derive(Debug, Clone, Copy)]
struct Spent {
    pipeline: u64,
    generator: u64,
    softirq: u64,
}

/// Frames until now, as the kernel counts them.
#[derive(Debug, Clone, Copy)]
struct Frames {
    /// Out of the generator's interface, or dropped there: all that it had.
    offered: u64,
    arrived: u64,
}

/// What the generator says when it has sent everything. Times are `CLOCK_MONOTONIC`'s.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Sent {
    frames: u64,
    /// Before the first frame and after the last.
    begin_ns: u64,
    end_ns: u64,
}

/// A window of forwarding.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Window {
    /// Packets a second that were to be sent, and that were.
    asked: f64,
    rate: f64,
    /// What the generator sent, what the kernel counted of it, and what arrived.
    sent: u64,
    offered: u64,
    arrived: u64,
    /// Part of what was sent.
    loss: f64,
    /// Nanoseconds of CPU.
    pipeline: u64,
    generator: u64,
    softirq: u64,
    /// Nanoseconds of CPU that a packet cost generator and softirqs just before, with nobody listening.
    alone: f64,
    /// Between the two looks at CPU time.
    seconds: f64,
}

impl Window {
    /// Nanoseconds of CPU that were the pipeline's.
    fn cost(&self) -> f64 {
        let shared = (self.generator + self.softirq) as f64;
        self.pipeline as f64 + shared - self.alone * self.sent as f64
    }

    /// As a round: packets, and seconds of CPU.
    ///
    /// # Errors
    ///
    /// If nothing arrived, or the kernel has counted other frames than the generator sent.
    fn round(&self, pages: &str) -> Result<Round> {
        ensure!(
            self.arrived <= self.sent,
            "frames arrived that nobody sent: {self:?}"
        );
        Round {
            items: self.arrived,
            seconds: self.cost() / 1e9,
            sum: self.offered,
            expected: self.sent,
            pages: pages.to_owned(),
            loss: Some(self.loss),
            detail: Some(serde_json::to_value(self)?),
        }
        .checked()
    }
}

/// Goes before everybody else until it is dropped, as do threads and processes that are started meanwhile: the cores are full of
/// pipelines, and what is read late is read wrong.
#[derive(Debug)]
struct Hurry {
    before: i32,
}

impl Hurry {
    fn begin() -> Self {
        let before = getpriority_process(None).unwrap_or(0);
        // Not everybody may; looks then come later.
        let _ = setpriority_process(None, -19);
        Self { before }
    }
}

impl Drop for Hurry {
    fn drop(&mut self) {
        let _ = setpriority_process(None, self.before);
    }
}

impl World {
    pub(crate) fn new() -> Result<Self, lab::Error> {
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

    fn frames(&self) -> Result<Frames> {
        let west = self.west.stats("w0")?;
        Ok(Frames {
            offered: west.tx_packets + west.tx_dropped,
            arrived: self.east.stats("e0")?.rx_packets,
        })
    }

    /// The same, when nothing has arrived for a while.
    fn frames_at_rest(&self) -> Result<Frames> {
        let start = Instant::now();
        let (mut last, mut since) = (self.frames()?, Instant::now());
        while since.elapsed() < STILL && start.elapsed() < STILL_MAX {
            thread::sleep(LOOK);
            let now = self.frames()?;
            if now.arrived != last.arrived {
                since = Instant::now();
            }
            last = now;
        }
        Ok(last)
    }

    /// Lets the generator send at `rate` for so long.
    pub(crate) fn window(
        &self,
        pipeline: &[Running],
        len: usize,
        rate: f64,
        time: Duration,
    ) -> Result<Window> {
        let _hurry = Hurry::begin();
        let bursts = (rate * time.as_secs_f64() / BURST_MAX as f64).ceil();
        let frames = bursts * BURST_MAX as f64;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["generate", "w0"]);
        command.args([len.to_string(), rate.to_string(), frames.to_string()]);
        self.west.command(&mut command)?;
        let (mut generator, _) = Running::until(&mut command, Stream::Err, WORD)?;
        let softirqs = kernel_threads();
        let spent = |generator: &Running| Spent {
            pipeline: pipeline.iter().map(|running| cpu_time(running.pid())).sum(),
            generator: cpu_time(generator.pid()),
            softirq: softirqs.iter().copied().map(cpu_time).sum(),
        };
        thread::sleep(SETTLE);
        let frames_before = self.frames()?;
        let (start, before) = (Instant::now(), spent(&generator));
        generator.tell("go\n")?;
        let said = generator.line(time * 4 + LATE)?;
        let (after, seconds) = (spent(&generator), start.elapsed().as_secs_f64());
        let frames_after = self.frames_at_rest()?;
        let said = said.split_once(WORD).context("no word of the generator")?.1;
        let sent: Sent = serde_json::from_str(said)?;
        let arrived = frames_after.arrived - frames_before.arrived;
        let nanoseconds = sent.end_ns.saturating_sub(sent.begin_ns).max(1);
        Ok(Window {
            asked: rate,
            rate: sent.frames as f64 * 1e9 / nanoseconds as f64,
            sent: sent.frames,
            offered: frames_after.offered - frames_before.offered,
            arrived,
            loss: 1.0 - arrived as f64 / sent.frames as f64,
            pipeline: after.pipeline - before.pipeline,
            generator: after.generator - before.generator,
            softirq: after.softirq - before.softirq,
            alone: 0.0,
            seconds,
        })
    }

    /// Starts a side in the middle; its processes, the last one first.
    fn start(&self, bench: &Bench<'_>, side: Side, sockets: Sockets) -> Result<Vec<Running>> {
        let ports = |options: &str| {
            [0, 1].map(|port| match sockets {
                Sockets::Packet => format!("--vdev=net_af_packet{port},iface=m{port},{options}"),
                Sockets::Xdp => format!("--vdev=net_af_xdp{port},iface=m{port}"),
            })
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

/// Ends a side.
fn stop(side: Side, processes: Vec<Running>) {
    for process in processes {
        // The client goes before its server. A peer ends with its stdin.
        if side == Side::Ours {
            process.interrupt();
        }
    }
}

/// One window of a side, everything made afresh, beside what the generator took just before with nobody listening.
fn measure(bench: &Bench<'_>, side: Side, what: Kind, rate: f64) -> Result<Window> {
    let world = World::new()?;
    let alone = world.window(&[], what.len, rate, ALONE)?;
    let processes = world.start(bench, side, what.sockets)?;
    let mut window = world.window(&processes, what.len, rate, WINDOW)?;
    stop(side, processes);
    window.alone = (alone.generator + alone.softirq) as f64 / alone.sent as f64;
    Ok(window)
}

/// What a probe of the search came to: packets a second that were sent, and the part of them that was lost.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Probed {
    rate: f64,
    loss: f64,
}

/// The most that is carried, in packets a second: up from [`RATE_MIN`] by [`STEP`], until [`FAILURES`] steps in a row fail, then
/// one look between the last that passed and the first that failed. If none passes, what was sent of the first.
fn saturation(mut probe: impl FnMut(f64) -> Result<Probed>) -> Result<f64> {
    let mut best = |asked: f64| -> Result<Probed> {
        let mut best = probe(asked)?;
        for _ in 1..TRIES {
            if best.loss <= CARRIED_LOSS {
                break;
            }
            let again = probe(asked)?;
            if again.loss < best.loss {
                best = again;
            }
        }
        Ok(best)
    };
    let (mut most, mut passed, mut failed) = (None, RATE_MIN, None);
    let (mut first, mut failures, mut asked) = (None, 0, RATE_MIN);
    while failures < FAILURES && asked < RATE_MAX {
        let found = best(asked)?;
        first.get_or_insert(found);
        if found.loss <= CARRIED_LOSS {
            most = Some(found.rate.max(most.unwrap_or(0.0)));
            (passed, failed, failures) = (asked, None, 0);
            if found.rate < KEPT * asked {
                eprintln!("the generator has no more to give");
                break;
            }
        } else {
            failed.get_or_insert(asked);
            failures += 1;
        }
        asked *= STEP;
    }
    let Some(most) = most else {
        let first = first.context("no step")?;
        eprintln!(
            "even {:.0} k/s are not carried: {:.2} % lost; measured from there",
            first.rate / 1e3,
            first.loss * 100.0
        );
        return Ok(first.rate);
    };
    let Some(failed) = failed else {
        return Ok(most);
    };
    let between = best((passed * failed).sqrt())?;
    Ok(if between.loss <= CARRIED_LOSS {
        most.max(between.rate)
    } else {
        most
    })
}

/// What is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Kind {
    /// Bytes of a frame.
    pub(crate) len: usize,
    pub(crate) sockets: Sockets,
}

/// What both sides can carry, and the load at which they are measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Load {
    what: Kind,
    /// The most that each carries, in packets a second.
    ours: f64,
    peer: f64,
    rate: f64,
}

impl Load {
    /// Finds it: the same search for both, each started once for it.
    pub(crate) fn find(bench: &Bench<'_>, what: Kind) -> Result<Self> {
        let most = |side| -> Result<f64> {
            let world = World::new()?;
            let processes = world.start(bench, side, what.sockets)?;
            let most = saturation(|rate| {
                bench.go_on()?;
                let window = world.window(&processes, what.len, rate, PROBE)?;
                eprintln!(
                    "veth, {:?}, {} B: {side:?} at {:.1} k/s: {:.2} % lost",
                    what.sockets,
                    what.len,
                    window.rate / 1e3,
                    window.loss * 100.0
                );
                Ok(Probed {
                    rate: window.rate,
                    loss: window.loss,
                })
            })?;
            stop(side, processes);
            Ok(most)
        };
        let ours = most(Side::Ours)?;
        let peer = if bench.peers.is_some() {
            most(Side::Peer)?
        } else {
            ours
        };
        Ok(Self {
            what,
            ours,
            peer,
            rate: LOAD * ours.min(peer),
        })
    }

    /// One round of a side.
    pub(crate) fn round(&self, bench: &Bench<'_>, side: Side) -> Result<Round> {
        measure(bench, side, self.what, self.rate)?.round(bench.pages.name())
    }

    /// What is told of it beside the ratio.
    pub(crate) fn text(&self, name: &str) -> String {
        format!(
            "SATURATION {name} ours={:.1} peer={:.1} k/s; measured at {:.1} k/s",
            self.ours / 1e3,
            self.peer / 1e3,
            self.rate / 1e3
        )
    }
}

/// Sends so many frames of `len` bytes out of an interface, `rate` a second, once it is told to. Is there until stdin ends.
pub(crate) fn generate(iface: &str, len: usize, rate: f64, frames: u64) -> Result<()> {
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
            let mbuf = lcore.mbuf_from(pool, &frame).context("the pool is empty")?;
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

/// The two cores' kernel threads for softirqs that did not come to an end.
fn kernel_threads() -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let is_one = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        CORES
            .iter()
            .any(|core| name.trim_end() == format!("ksoftirqd/{core}"))
    };
    let pids = processes.filter_map(|process| process.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(is_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Carries so much, and loses all that is more.
    fn link(most: f64) -> impl FnMut(f64) -> Result<Probed> {
        move |rate: f64| {
            let loss = (1.0 - most / rate).max(0.0);
            Ok(Probed { rate, loss })
        }
    }

    #[test]
    fn search_ends_below_what_is_carried_and_within_a_step_of_it() {
        for most in [25_000.0, 100_000.0, 333_333.0, 1_000_000.0] {
            let found = saturation(link(most)).unwrap();
            assert!(
                found <= most * 1.01 && found > most / STEP,
                "{found} of {most}"
            );
        }
    }

    #[test]
    fn disturbed_probes_do_not_end_the_search() {
        let (mut carried, mut count) = (link(400_000.0), 0);
        let found = saturation(|rate| {
            count += 1;
            // Two of three, and one step as a whole.
            let disturbed = count % 3 != 0 || (100_000.0..120_000.0).contains(&rate);
            let found = carried(rate)?;
            Ok(if disturbed {
                Probed { loss: 0.3, ..found }
            } else {
                found
            })
        });
        assert!(found.unwrap() > 400_000.0 / STEP);
    }

    #[test]
    fn search_never_answers_nothing() {
        assert_eq!(saturation(link(1000.0)).unwrap(), RATE_MIN);
    }

    #[test]
    fn generator_that_keeps_no_more_ends_the_search() {
        let found = saturation(|rate| {
            let rate = f64::min(rate, 250_000.0);
            Ok(Probed { rate, loss: 0.0 })
        });
        assert_eq!(found.unwrap(), 250_000.0);
    }
}
