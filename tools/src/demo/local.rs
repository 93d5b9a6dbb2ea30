//! The demo with hosts made of ring ports: no privilege, no interface, no kernel in between.
//!
//! ```text
//!   west host --mbufs--> net_ring0 | server | clients | net_ring1 --mbufs--> east host
//! ```
//!
//! Both hosts are one further secondary, [`run_hosts`], in a process of its own: it is the wire of
//! both ports. It sends numbered packets with a checksum in at one port, takes what comes out of the
//! other, and tells in one JSON object what arrived.

use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use forebay::mbuf::{BURST_MAX, Burst, Lcore, MbufConsumer, MbufProducer, Pool};
use forebay::pipeline::POOL;
use forebay::{Eal, EalArgs, Ring};
use serde::{Deserialize, Serialize};

use super::group::{Group, this_program};
use super::packet::{self, PACKET_LEN, Receipt};
use super::process::Process;
use super::{DemoArgs, Queues, Stop, progress, report, step};
use crate::print::Output;

/// Packets under way in each direction. Both together fit one client's ring, so none is dropped.
const WINDOW: u64 = 64;
/// How long nothing may arrive before the rest counts as lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the hosts tell how far they are.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long the hosts wait when nothing moved.
const NAP: Duration = Duration::from_micros(20);

/// What the hosts process is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct HostsArgs {
    #[arg(long)]
    file_prefix: String,
    #[arg(long)]
    runtime_dir: PathBuf,
    #[arg(long)]
    packets: u64,
    #[arg(long)]
    seconds: Option<u64>,
    #[arg(long)]
    rx_queues: u32,
    #[arg(long)]
    tx_queues: u32,
}

/// What the hosts found, both directions together.
#[derive(Debug, Default, Serialize, Deserialize)]
struct HostsReport {
    sent: u64,
    received: u64,
    duplicates: u64,
    damaged: u64,
    reordered: u64,
    seconds: f64,
}

/// Runs the demo; `true` if all that was tried came out right.
pub(super) fn run(args: &DemoArgs, stop: &Stop) -> anyhow::Result<bool> {
    let rx_queues = if args.queues == Queues::Each {
        args.clients
    } else {
        1
    };
    step(
        "hosts",
        "west and east made of ring ports: no privilege, no interface, no kernel",
    )?;
    let vdevs = ["net_ring0,wire=1", "net_ring1,wire=1"].map(str::to_owned);
    let mut group = Group::start(args, &vdevs, stop, |_| Ok(()))?;
    step("group", &group.members())?;
    if args.seconds.is_some() {
        step("look", &group.how_to_look())?;
    }

    let packets = args.bytes.div_ceil(PACKET_LEN as u64);
    let mut command = this_program();
    command
        .arg("demo-hosts")
        .arg(format!("--file-prefix={}", group.prefix()))
        .arg(format!("--runtime-dir={}", group.runtime_dir().display()))
        .args(args.seconds.map(|seconds| format!("--seconds={seconds}")))
        .arg(format!("--packets={packets}"))
        .arg(format!("--rx-queues={rx_queues}"))
        .arg(format!("--tx-queues={}", args.clients))
        .stdout(Stdio::piped());
    let mut hosts = Process::start("hosts", &mut command)?;
    let ended = hosts.wait(stop);
    // Who broke it explains more than what broke.
    group.check()?;
    let status = ended?;
    ensure!(
        status.success(),
        "the hosts ended with {status}: {}",
        hosts.last_words()
    );
    let mut text = String::new();
    let mut out = hosts.stdout().context("the hosts have no stdout")?;
    out.read_to_string(&mut text)?;
    let found: HostsReport = serde_json::from_str(&text).context("what the hosts found")?;
    step("packets", &found.to_string())?;
    let mut is_right = found.is_right();
    is_right &= report::show(group.runtime_dir(), group.prefix())?;
    group.end()?;
    step("clean", "all processes ended, no file left")?;
    Ok(is_right)
}

impl HostsReport {
    fn is_right(&self) -> bool {
        self.received == self.sent && self.duplicates == 0 && self.damaged == 0
    }
}

impl std::fmt::Display for HostsReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "to be read by people")]
        let (megabytes, rate) = (
            (self.received * PACKET_LEN as u64) as f64 / 1e6,
            self.received as f64 / self.seconds,
        );
        write!(
            f,
            "{} of {} arrived whole ({megabytes:.1} MB) in {:.2} s, {:.0} a second; \
             {} damaged, {} twice, {} overtaken in their flow",
            self.received,
            self.sent,
            self.seconds,
            rate,
            self.damaged,
            self.duplicates,
            self.reordered,
        )
    }
}

/// Both hosts: the wire of both ports.
pub(crate) fn run_hosts(args: &HostsArgs) -> anyhow::Result<bool> {
    let stop = Stop::on_signals()?;
    let words = [
        "forebay".to_owned(),
        "--proc-type=secondary".to_owned(),
        format!("--file-prefix={}", args.file_prefix),
        format!("--runtime-dir={}", args.runtime_dir.display()),
    ];
    let (eal_args, _) = EalArgs::parse(words)?;
    let eal = Eal::init(eal_args)?;
    let found = exchange(&eal, args, &stop);
    eal.cleanup()?;
    let mut output = Output::new(true);
    output.if_json(&found?)?;
    output.finish()?;
    Ok(true)
}

/// Sends and receives until everything is through.
fn exchange(eal: &Eal, args: &HostsArgs, stop: &Stop) -> anyhow::Result<HostsReport> {
    let lcore = Lcore::new(eal.claim_slot("hosts")?);
    let pool = Pool::lookup(eal.region(), POOL)?;
    let mut wires = [
        Wire::join(eal, &lcore, 0, args)?,
        Wire::join(eal, &lcore, 1, args)?,
    ];
    let mut ways = [Way::default(), Way::default()];
    let (start, mut told, mut last) = (Instant::now(), Instant::now(), Instant::now());
    loop {
        stop.check()?;
        let goes_on = args
            .seconds
            .is_some_and(|seconds| start.elapsed().as_secs() < seconds);
        let mut moved = 0;
        for (way, port) in ways.iter_mut().zip([0, 1]) {
            let goal = if goes_on {
                u64::MAX
            } else {
                args.packets.div_ceil(2).max(way.sent)
            };
            moved += way.send(&lcore, pool, &mut wires[port].into, goal);
            moved += way.receive(&lcore, &mut wires[1 - port].out);
        }
        if ways
            .iter()
            .all(|way| way.receipt.received >= way.sent && way.sent > 0)
            && !goes_on
            && moved == 0
        {
            break;
        }
        if moved > 0 {
            last = Instant::now();
        } else if last.elapsed() > PATIENCE {
            break;
        } else {
            thread::sleep(NAP);
        }
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            let received: u64 = ways.iter().map(|way| way.receipt.received).sum();
            progress(&format!("progress: {received} packets have arrived"));
        }
    }
    let sum = |of: fn(&Way) -> u64| ways.iter().map(of).sum();
    Ok(HostsReport {
        sent: sum(|way| way.sent),
        received: sum(|way| way.receipt.received),
        duplicates: sum(|way| way.receipt.duplicates),
        damaged: sum(|way| way.receipt.damaged),
        reordered: sum(|way| way.receipt.reordered),
        seconds: last.duration_since(start).as_secs_f64(),
    })
}

/// The far side of a ring port.
struct Wire {
    /// What the port receives: a ring a queue.
    into: Vec<MbufProducer<'static>>,
    /// What the port sends: a ring a queue.
    out: Vec<MbufConsumer<'static>>,
}

impl Wire {
    fn join(eal: &Eal, lcore: &Lcore, port: u32, args: &HostsArgs) -> anyhow::Result<Self> {
        let ring = |end: &str, queue: u32| {
            Ring::lookup(eal.region(), &format!("net_ring{port}_{end}{queue}"))
        };
        let into = (0..args.rx_queues).map(|queue| {
            Ok(MbufProducer::new(
                ring("q", queue)?.producer(lcore.owner())?,
            ))
        });
        let out = (0..args.tx_queues).map(|queue| {
            Ok(MbufConsumer::new(
                ring("t", queue)?.consumer(lcore.owner())?,
            ))
        });
        Ok(Self {
            into: into.collect::<anyhow::Result<_>>()?,
            out: out.collect::<anyhow::Result<_>>()?,
        })
    }
}

/// One direction.
#[derive(Default)]
struct Way {
    sent: u64,
    receipt: Receipt,
}

impl Way {
    /// Sends what the window has room for, a burst at most.
    fn send<'c>(
        &mut self,
        lcore: &'c Lcore,
        pool: Pool,
        queues: &mut [MbufProducer<'_>],
        goal: u64,
    ) -> u64 {
        let under_way = self.sent.saturating_sub(self.receipt.received);
        let room = WINDOW
            .saturating_sub(under_way)
            .min(goal.saturating_sub(self.sent));
        let count = room.min(BURST_MAX as u64);
        // A burst goes to one queue, the next to the next.
        let queue = usize::try_from(self.sent / BURST_MAX as u64).unwrap_or(0) % queues.len();
        let mut burst: Burst<'c> = Burst::new(lcore);
        for number in self.sent..self.sent + count {
            let Some(mut mbuf) = lcore.alloc(pool) else {
                break;
            };
            let Some(bytes) = mbuf.append(PACKET_LEN) else {
                break;
            };
            packet::write(bytes, number);
            if burst.push(mbuf).is_err() {
                break;
            }
        }
        let sent = queues[queue].enqueue_burst(&mut burst).count as u64;
        self.sent += sent;
        sent
    }

    fn receive(&mut self, lcore: &Lcore, queues: &mut [MbufConsumer<'_>]) -> u64 {
        let mut count = 0;
        for queue in queues {
            let mut burst = Burst::new(lcore);
            count += queue.dequeue_burst(lcore, &mut burst).count as u64;
            let mut bytes = [0; PACKET_LEN];
            for mbuf in burst.drain() {
                let is_whole =
                    mbuf.packet_len() == PACKET_LEN && mbuf.copy_out(0, &mut bytes) == PACKET_LEN;
                self.receipt
                    .note(is_whole.then(|| packet::read(&bytes)).flatten());
            }
        }
        count
    }
}
