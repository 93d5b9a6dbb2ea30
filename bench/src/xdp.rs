//! One direction of `net_af_xdp` over veth, alone: what a packet costs its process, beside DPDK's `testpmd`.
//!
//! Both look all the time, and both count the time of the bursts in which something was received or sent, and of no other: `testpmd` by
//! `--record-core-cycles`, ours in the same places by the clock. So a burst of ours has two looks at the clock in it, some 50 ns. Receiving is
//! at a fixed load, since the sender's core runs the receiver's softirq and has less to give than a receiver takes. What is received
//! is freed; what is sent is made, buffer by buffer, 64 bytes each. Neither asks the device for hash and tag, which the peer cannot: with
//! `metadata=1` the ratio of receiving was 0.92, quartiles 0.75 and 0.96, since the line before each frame has to come over too.

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use forebay::{BURST_MAX, Burst, Lcore, Pool, PoolConfig, PortConfig, PortId, Ports, QueueId};

use crate::child::{Running, Stream};
use crate::compare::Bench;
use crate::load::{Kind, Sockets, Task};
use crate::round::{self, Round};
use crate::veth::World;

/// Packets a second that come to who receives, and their bytes.
const RATE: f64 = 150_000.0;
const LEN: usize = 64;
const KIND: Kind = Kind {
    task: Task::Forward,
    len: LEN,
    sockets: Sockets::Xdp,
};
/// How long that takes.
const WINDOW: Duration = Duration::from_millis(800);
/// `testpmd` says nothing when it is ready that is not held back until it ends.
const PEER_READY: Duration = Duration::from_millis(1500);
/// Buffers of a side, descriptors of a queue.
const MBUFS: u32 = 16_384;
const DESCRIPTORS: u32 = 1024;
/// In what ours says when it is there, and in the round.
const WORD: &str = "items";

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// From the wire.
    Rx,
    /// To the wire.
    Tx,
}

/// One round of ours.
pub(crate) fn ours(bench: &Bench<'_>, way: Way) -> Result<Round> {
    let world = World::new(KIND)?;
    let mut command = Command::new(std::env::current_exe()?);
    let name = way.to_possible_value().context("it has a name")?;
    command.args(["drive", name.get_name(), "--", "-l1", "-m64"]);
    command.args(bench.pages.ours());
    command.arg(format!("--runtime-dir={}", bench.scratch.display()));
    command.args([
        "--file-prefix=drive",
        "--vdev=net_af_xdp0,iface=m0,metadata=0",
    ]);
    world.middle.command(&mut command)?;
    let (mut running, _) = Running::until(&mut command, Stream::Out, WORD)?;
    load(&world, way)?;
    running.tell("\n")?;
    let said = running.line(WINDOW * 10)?;
    round::parse(&said)
}

/// One round of `testpmd`'s.
pub(crate) fn theirs(bench: &Bench<'_>, way: Way) -> Result<Round> {
    let world = World::new(KIND)?;
    let mode = match way {
        Way::Rx => "rxonly",
        Way::Tx => "txonly",
    };
    let mut command = Command::new("dpdk-testpmd");
    command.env("RUNTIME_DIRECTORY", bench.scratch);
    command.args(["-l0,1", "-m128", "--no-pci", "--no-telemetry"]);
    command.args(bench.pages.peer_alone());
    command.args(["--vdev=net_af_xdp0,iface=m0", "--", "--record-core-cycles"]);
    command.args([
        format!("--forward-mode={mode}"),
        format!("--total-num-mbufs={MBUFS}"),
        format!("--rxd={DESCRIPTORS}"),
        format!("--txd={DESCRIPTORS}"),
    ]);
    world.middle.command(&mut command)?;
    lab::die_with_parent(&mut command, lab::Signal::KILL);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = command
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start dpdk-testpmd; install it with `apt-get install dpdk-dev`")?;
    thread::sleep(PEER_READY);
    load(&world, way)?;
    let mut stdin = running.stdin.take().context("it has one")?;
    stdin.write_all(b"\n")?;
    drop(stdin);
    let said = running.wait_with_output()?.stdout;
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().find(|line| line.contains("CPU cycles/packet"));
    let line = line.with_context(|| format!("no cycles in what dpdk-testpmd said: {said}"))?;
    let (packets, seconds) = cycles(line).with_context(|| format!("not understood: {line}"))?;
    Ok(of(packets, seconds, bench.pages.name()))
}

/// Packets, and seconds spent on them, in what `testpmd` says:
/// `CPU cycles/packet=150.00 (total cycles=15000 / total RX packets=100) at 2000 MHz Clock`.
fn cycles(line: &str) -> Option<(u64, f64)> {
    let number = |before: &str| -> Option<u64> {
        let rest = line.split_once(before)?.1.trim_start();
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    let (cycles, megahertz) = (number("total cycles=")?, number(" at ")?);
    let seconds = cycles as f64 / (megahertz as f64 * 1e6);
    Some((number("packets=")?, seconds))
}

/// What the side that is there has to do.
fn load(world: &World, way: Way) -> Result<()> {
    match way {
        Way::Rx => world.window(&[], RATE, WINDOW).map(drop),
        Way::Tx => {
            thread::sleep(WINDOW);
            Ok(())
        }
    }
}

fn of(packets: u64, seconds: f64, pages: &str) -> Round {
    Round {
        items: packets,
        seconds,
        sum: 1,
        expected: 1,
        pages: pages.to_owned(),
        loss: None,
        detail: None,
    }
}

/// Receives, or sends, until stdin has a line, and prints the round.
pub(crate) fn drive(way: Way, args: &[String]) -> Result<()> {
    let eal = crate::ours::environment(args)?;
    let pool = Pool::create(eal.region(), &PoolConfig::new("frames", MBUFS))?;
    let ports = Ports::probe(&eal)?;
    let port = ports.port(PortId(0))?;
    port.configure(1, 1, &PortConfig::default())?;
    port.rx_queue_setup(QueueId(0), DESCRIPTORS, pool)?;
    port.tx_queue_setup(QueueId(0), DESCRIPTORS)?;
    port.start()?;
    let lcore = Lcore::new(eal.claim_slot("driver")?);
    let over = AtomicBool::new(false);
    let (packets, busy) = thread::scope(|scope| {
        scope.spawn(|| {
            let _ = io::stdin().read_line(&mut String::new());
            over.store(true, Ordering::Relaxed);
        });
        println!("ready to count {WORD}");
        match way {
            Way::Rx => receive(&lcore, port, &over),
            Way::Tx => send(&lcore, port, pool, &over),
        }
    })?;
    ensure!(packets > 0, "nothing was carried");
    let round = of(packets, busy.as_secs_f64(), &crate::ours::pages(&eal));
    round.report().map(drop)
}

fn receive(lcore: &Lcore, port: &forebay::Port, over: &AtomicBool) -> Result<(u64, Duration)> {
    let mut queue = port.rx_queue(QueueId(0), lcore.owner())?;
    let (mut packets, mut busy) = (0, Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        let mut burst = Burst::new(lcore);
        let count = queue.rx_burst(lcore, &mut burst);
        if count == 0 {
            continue;
        }
        drop(burst);
        busy += start.elapsed();
        packets += count as u64;
    }
    Ok((packets, busy))
}

fn send(
    lcore: &Lcore,
    port: &forebay::Port,
    pool: Pool,
    over: &AtomicBool,
) -> Result<(u64, Duration)> {
    let mut queue = port.tx_queue(QueueId(0), lcore.owner())?;
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    frame.resize(LEN, 0x5a);
    let (mut packets, mut busy) = (0, Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let start = Instant::now();
        let mut burst = Burst::new(lcore);
        lcore.alloc_burst(pool, &mut burst, BURST_MAX);
        for mut mbuf in burst.iter_mut() {
            if let Some(bytes) = mbuf.append(LEN) {
                bytes.copy_from_slice(&frame);
            }
        }
        let sent = queue.tx_burst(&mut burst);
        drop(burst);
        busy += start.elapsed();
        packets += sent as u64;
    }
    Ok((packets, busy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_read_from_what_testpmd_says() {
        let said = "  CPU cycles/packet=150.00 (total cycles=3000000 / total RX packets=20000) at 2000 MHz Clock";
        assert_eq!(cycles(said), Some((20_000, 0.0015)));
        assert_eq!(cycles("  CPU cycles/packet=none"), None);
    }
}
