//! How long a death is noticed: one kill after the other, each given time to heal, with a probe of many flows across.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use forebay::eal::process::SlotState;
use forebay::eal::{Observer, Region};
use forebay::pipeline::stats::PortInfo;
use lab::{FrameSocket, Signal};

use super::actor::PATIENCE;
use super::packet::{self, FRAME_MAX, Seen};
use crate::{Group, Process, Setup, World};

/// Frames of the probe a second, all flows together.
const RATE: u32 = 8000;
/// How long the probe is watched around a kill: before, and after the successor works.
const CALM: Duration = Duration::from_millis(300);
/// Secondaries.
const CLIENTS: u32 = 3;
/// The stream of the probe.
const STREAM: u64 = 0x71e5;

/// How many of each kind to measure.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Kills of each kind
    #[arg(long, value_name = "N", default_value_t = 30)]
    kills: usize,
}

/// What one kill cost.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// From the signal until the kernel has taken the process away.
    dead: Duration,
    /// Until its slots were free again.
    swept: Duration,
    /// Until its successor was ready.
    ready: Duration,
    /// Until the successor's first packet; of a server as of the clients behind it.
    forwarded: Duration,
    /// The longest silence of a flow of the probe.
    gap: Duration,
}

/// When frames of each flow arrived.
#[derive(Debug, Default)]
struct Arrivals(Mutex<BTreeMap<u64, Flow>>);

#[derive(Debug, Clone, Copy)]
struct Flow {
    last: Instant,
    gap: Duration,
}

/// Measures all kinds and prints a line for each.
///
/// # Errors
///
/// None: what cannot be measured panics, with the reason.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    for queues in ["server", "each"] {
        let world = World::new();
        world.introduce();
        let group = &mut Group::start(&world, Setup::with(CLIENTS, &["--queues", queues]));
        world.ping_both_ways();
        let arrivals = Arrivals::default();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| arrivals.collect(&world, &stop));
            scope.spawn(|| send(&world, &stop));
            for victim in ["client", "server"] {
                let costs: Vec<_> = (0..options.kills)
                    .map(|number| one(group, victim, number, &arrivals))
                    .collect();
                report(queues, victim, &costs);
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
    Ok(true)
}

fn report(queues: &str, victim: &str, costs: &[Cost]) {
    let of = |part: fn(&Cost) -> Duration| {
        let mut times: Vec<_> = costs.iter().map(part).collect();
        times.sort();
        let ms = |at: usize| times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        format!(
            "{:.1}/{:.1}",
            ms(times.len() / 2),
            ms(times.len().saturating_sub(1))
        )
    };
    println!(
        "TIMES queues={queues} victim={victim} n={} (median/max in ms) dead={} swept={} ready={} forwarded={} gap={}",
        costs.len(),
        of(|cost| cost.dead),
        of(|cost| cost.swept),
        of(|cost| cost.ready),
        of(|cost| cost.forwarded),
        of(|cost| cost.gap)
    );
}

/// Kills one, fills its place at once, and waits until all is well.
fn one(group: &mut Group<'_>, victim: &str, number: usize, arrivals: &Arrivals) -> Cost {
    thread::sleep(CALM);
    let observer = Observer::open(Some(group.runtime_dir()), group.prefix())
        .unwrap_or_else(|error| panic!("{error}"));
    let observer: &'static Observer = Box::leak(Box::new(observer));
    let region = observer.region();
    let id = u32::try_from(number).unwrap_or(0) % CLIENTS;
    let (process, mut command) = if victim == "server" {
        (group.take_server(), group.server_command())
    } else {
        (group.take_client(id), group.client_command(id))
    };
    let (pid, before) = (process.pid(), packets(region, victim, id));
    arrivals.reset();
    let start = Instant::now();
    process.signal(Signal::KILL);
    drop(process.kill());
    let dead = start.elapsed();
    let mut successor = Process::start(&mut command);
    let (mut swept, mut ready, mut forwarded) = (None, None, None);
    let mut base = before;
    while swept.is_none() || ready.is_none() || forwarded.is_none() {
        let now = start.elapsed();
        assert!(
            now < PATIENCE * 4 && successor.is_alive(),
            "{victim}: swept {swept:?}, ready {ready:?}, forwarded {forwarded:?}: {:?}",
            successor.stderr()
        );
        let is_ready = || {
            successor
                .stderr()
                .iter()
                .any(|line| line.starts_with("ready:"))
        };
        if ready.is_none() && is_ready() {
            ready = Some(now);
        }
        if swept.is_none() && is_swept(region, pid) {
            swept = Some(now);
        }
        let count = packets(region, victim, id);
        if ready.is_none() {
            base = count;
        } else if forwarded.is_none() && count != base {
            forwarded = Some(now);
        }
        thread::sleep(Duration::from_micros(200));
    }
    thread::sleep(CALM);
    let gap = arrivals.longest_gap();
    if victim == "server" {
        group.put_server(successor);
    } else {
        group.put_client(id, successor);
    }
    let whole = start.elapsed();
    Cost {
        dead,
        swept: swept.unwrap_or(whole),
        ready: ready.unwrap_or(whole),
        forwarded: forwarded.unwrap_or(whole),
        gap,
    }
}

/// Whether no slot of the process waits for a sweep.
fn is_swept(region: &Region, pid: u32) -> bool {
    let mut slots = region.slots().iter();
    !slots.any(|slot| slot.pid() == pid && slot.state().0 != SlotState::Free)
}

/// Packets that the victim's place has passed on: a client its own, a server those of its clients.
fn packets(region: &'static Region, victim: &str, id: u32) -> u64 {
    let Ok(info) = PortInfo::lookup(region) else {
        return 0;
    };
    let ids = if victim == "server" {
        0..CLIENTS
    } else {
        id..id + 1
    };
    ids.flat_map(|id| info.client(id).tx)
        .map(|count| count.get())
        .sum()
}

fn send(world: &World, stop: &AtomicBool) {
    let from = FrameSocket::open(&world.west, "eth0").unwrap_or_else(|error| panic!("{error}"));
    let mut frame = [0; FRAME_MAX];
    let start = Instant::now();
    let mut numbers = (0_u64..).filter(|number| packet::len(*number) < 1500);
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = start.elapsed().as_micros() * u128::from(RATE) / 1_000_000;
        while sent < due {
            let number = numbers.next().unwrap_or(0);
            let len = packet::write(&mut frame, STREAM, number);
            // A full queue of the kernel refuses; that is a loss like another.
            let _ = from.send(&frame[..len]);
            sent += 1;
        }
        thread::sleep(Duration::from_micros(500));
    }
}

impl Arrivals {
    fn collect(&self, world: &World, stop: &AtomicBool) {
        let to = FrameSocket::open(&world.east, "eth0").unwrap_or_else(|error| panic!("{error}"));
        let mut frame = vec![0; 1 << 16];
        while !stop.load(Ordering::Relaxed) {
            let len = to.receive_in(&mut frame, Duration::from_millis(20));
            let Ok(Some(len)) = len else { continue };
            if let Seen::Number(number) = packet::read(&frame[..len], STREAM) {
                let now = Instant::now();
                let mut flows = self.flows();
                let flow = flows.entry(number % packet::FLOWS).or_insert(Flow {
                    last: now,
                    gap: Duration::ZERO,
                });
                flow.gap = flow.gap.max(now - flow.last);
                flow.last = now;
            }
        }
    }

    fn flows(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Flow>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reset(&self) {
        for flow in self.flows().values_mut() {
            flow.gap = Duration::ZERO;
        }
    }

    /// A flow that is silent still counts as well.
    fn longest_gap(&self) -> Duration {
        let now = Instant::now();
        let flows = self.flows();
        let gaps = flows.values().map(|flow| flow.gap.max(now - flow.last));
        gaps.max().unwrap_or_default()
    }
}
