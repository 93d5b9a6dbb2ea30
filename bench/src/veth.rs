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
//! arrived is read when nothing has come for a while, so that no frame on its way counts as lost. Echoes ([`echo`]) are measured the
//! same way, without the east.
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
use forebay::BURST_MAX;
use lab::Host;
use rustix::process::{getpriority_process, setpriority_process};
use serde::Serialize;

use crate::child::{Running, Stream};
use crate::compare::Bench;
use crate::echo;
use crate::generator::{self, Sent, Traffic};
use crate::load::{Kind, Side, Sockets, Task};
use crate::round::Round;

/// After all are there, until the first frame.
const SETTLE: Duration = Duration::from_millis(100);
/// How long the generator sends in a round, and before it with nobody listening.
const WINDOW: Duration = Duration::from_millis(800);
const ALONE: Duration = Duration::from_millis(400);
/// Nothing more arrives that has not for so long; how often that is looked at; and the longest that is waited for it.
const STILL: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_millis(10);
const STILL_MAX: Duration = Duration::from_secs(5);
/// What the generator may take longer than it should.
const LATE: Duration = Duration::from_secs(20);
/// Frames that the generator's kernel may send in between: who asks for its address is answered.
const OWN_MAX: u64 = 8;
/// The cores of both sides.
const CORES: [u32; 2] = [0, 1];

/// West, middle and, where frames are forwarded, east, for one round.
pub(crate) struct World {
    west: Host,
    pub(crate) middle: Host,
    east: Option<Host>,
    /// Bytes of a frame.
    len: usize,
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

/// A time in which the generator sends.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Window {
    /// Packets a second that were to be sent, and that were.
    asked: f64,
    pub(crate) rate: f64,
    /// What the generator sent, what the kernel counted of it, and what arrived.
    sent: u64,
    offered: u64,
    arrived: u64,
    /// Part of what was sent.
    pub(crate) loss: f64,
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

    /// Whether all came that was sent, and something was.
    pub(crate) fn is_whole(&self) -> bool {
        self.arrived > 0 && self.arrived == self.sent
    }

    /// As a round: packets, and seconds of CPU.
    ///
    /// # Errors
    ///
    /// If nothing arrived, or the kernel has counted other frames than the generator sent.
    pub(crate) fn round(&self, pages: &str) -> Result<Round> {
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

/// A veth, ready.
fn cable(near: (&Host, &str), far: (&Host, &str)) -> Result<(), lab::Error> {
    lab::veth(near, far, 1)?;
    for (host, iface) in [near, far] {
        host.disable_ipv6(iface)?;
        host.up(iface)?;
    }
    Ok(())
}

impl World {
    pub(crate) fn new(what: Kind) -> Result<Self, lab::Error> {
        let (west, middle) = (Host::new("west")?, Host::new("middle")?);
        cable((&west, "w0"), (&middle, "m0"))?;
        let east = match what.task {
            Task::Forward => {
                let east = Host::new("east")?;
                cable((&middle, "m1"), (&east, "e0"))?;
                Some(east)
            }
            Task::Echo => {
                echo::prepare(&west, &middle)?;
                None
            }
        };
        Ok(Self {
            west,
            middle,
            east,
            len: what.len,
        })
    }

    fn frames(&self) -> Result<Frames> {
        let west = self.west.stats("w0")?;
        Ok(Frames {
            offered: west.tx_packets + west.tx_dropped,
            arrived: match &self.east {
                Some(east) => east.stats("e0")?.rx_packets,
                None => echo::came_back(&self.west)?,
            },
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
    pub(crate) fn window(&self, pipeline: &[Running], rate: f64, time: Duration) -> Result<Window> {
        let _hurry = Hurry::begin();
        let bursts = (rate * time.as_secs_f64() / BURST_MAX as f64).ceil();
        let frames = bursts * BURST_MAX as f64;
        let mut command = Command::new(std::env::current_exe()?);
        let traffic = match &self.east {
            Some(_) => Traffic::Frames,
            None if pipeline.is_empty() => Traffic::Unheard,
            None => Traffic::Datagrams,
        };
        command.args(["generate", "w0", traffic.name()]);
        command.args([self.len.to_string(), rate.to_string(), frames.to_string()]);
        self.west.command(&mut command)?;
        let (mut generator, _) = Running::until(&mut command, Stream::Err, generator::WORD)?;
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
        let said = said
            .split_once(generator::WORD)
            .context("no word of the generator")?
            .1;
        let sent: Sent = serde_json::from_str(said)?;
        let arrived = frames_after.arrived - frames_before.arrived;
        let nanoseconds = sent.end_ns.saturating_sub(sent.begin_ns).max(1);
        Ok(Window {
            asked: rate,
            rate: sent.frames as f64 * 1e9 / nanoseconds as f64,
            sent: sent.frames,
            offered: self.without_own(frames_after.offered - frames_before.offered, sent.frames),
            arrived,
            loss: 1.0 - arrived as f64 / sent.frames as f64,
            pipeline: after.pipeline - before.pipeline,
            generator: after.generator - before.generator,
            softirq: after.softirq - before.softirq,
            alone: 0.0,
            seconds,
        })
    }

    /// What left the generator's interface of the `sent` frames, which are all, but for a few of the kernel's, where it has an address.
    fn without_own(&self, offered: u64, sent: u64) -> u64 {
        let own_max = if self.east.is_some() { 0 } else { OWN_MAX };
        if (sent..=sent + own_max).contains(&offered) {
            sent
        } else {
            offered
        }
    }

    /// Starts a side in the middle; its processes, the last one first.
    pub(crate) fn start(
        &self,
        bench: &Bench<'_>,
        side: Side,
        sockets: Sockets,
    ) -> Result<Vec<Running>> {
        if self.east.is_none() {
            return echo::start(self, bench, side, sockets);
        }
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
pub(crate) fn stop(side: Side, processes: Vec<Running>) {
    for process in processes {
        // The client goes before its server. A peer ends with its stdin.
        if side == Side::Ours {
            process.interrupt();
        }
    }
}

/// One window of a side, everything made afresh, beside what the generator took just before with nobody listening.
pub(crate) fn measure(bench: &Bench<'_>, side: Side, what: Kind, rate: f64) -> Result<Window> {
    let world = World::new(what)?;
    let alone = world.window(&[], rate, ALONE)?;
    let processes = world.start(bench, side, what.sockets)?;
    let mut window = world.window(&processes, rate, WINDOW)?;
    stop(side, processes);
    window.alone = (alone.generator + alone.softirq) as f64 / alone.sent as f64;
    Ok(window)
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
