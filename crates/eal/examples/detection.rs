//! How long does it take from `kill -9` of a secondary until the primary knows that its slot is dead?
//!
//! `cargo run --release -p forebay-eal --example detection [KILLS]` starts so many secondaries, one after the other. Each has
//! mapped the group's memory and touched every page of 64 MiB of it before it is killed. The time goes from before the call of
//! kill(2) until `Deaths::wait` has returned and `Region::dead_slots` names the slot; nothing else runs in the primary.
//! What bounds it: the kernel, which unmaps what the dead had mapped and then lets go of its lock, and the two wake-ups between
//! its pidfd and whoever waits. On a busy machine the wait for a core comes on top.

use std::io::{BufRead, BufReader, Write, stdout};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use eal::sync::{AtomicU64, Ordering};
use eal::{Deaths, Eal, EalArgs, SlotId, SlotSet, Zone, ZoneKind};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What each secondary has touched before it dies.
const TOUCHED: usize = 64 << 20;
const PAGE: usize = 4096;
const MEMORY: &str = "memory";
/// One that takes longer is a mistake of this program.
const LONG: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [] => measure(200),
        [victim, dir] if victim == "victim" => live(Path::new(dir)),
        [kills] => measure(kills.parse()?),
        _ => Err("one argument at most: how often to kill".into()),
    }
}

fn join(dir: &Path, role: &str) -> Result<Eal> {
    let dir = dir.display();
    let line = format!("detection -m 72 --no-huge --runtime-dir={dir} --proc-type={role}");
    let (args, _) = EalArgs::parse(line.split_whitespace().map(str::to_owned))?;
    Ok(Eal::init(args)?)
}

/// What is killed.
fn live(dir: &Path) -> Result<()> {
    let eal = join(dir, "secondary")?;
    let slot = eal.claim_slot("victim")?;
    let zone = eal.region().lookup(ZoneKind::Plain, MEMORY)?;
    touch(&zone)?;
    let mut out = stdout();
    writeln!(out, "{}", slot.id())?;
    out.flush()?;
    std::thread::sleep(LONG);
    Ok(())
}

fn touch(zone: &Zone<'_>) -> Result<()> {
    let words: &[AtomicU64] = zone.slice(0, TOUCHED / size_of::<AtomicU64>())?;
    for page in words.chunks(PAGE / size_of::<AtomicU64>()) {
        page[0].fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn measure(kills: usize) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let eal = join(dir.path(), "primary")?;
    eal.region()
        .reserve(ZoneKind::Plain, MEMORY, TOUCHED, PAGE, None)?;
    let deaths = eal.deaths();
    let mut times = Vec::new();
    for _ in 0..kills {
        let (mut victim, slot) = start(dir.path())?;
        while deaths.wait(Duration::ZERO) {}
        let killed = Instant::now();
        victim.kill()?;
        hear_of(&deaths, &eal, slot, killed)?;
        times.push(killed.elapsed());
        victim.wait()?;
        eal.region().claim_dead(SlotSet::EMPTY)?.finish();
    }
    times.sort();
    let at = |hundredths: usize| {
        let place = (times.len() * hundredths).div_ceil(100).max(1) - 1;
        times
            .get(place)
            .map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    writeln!(
        stdout(),
        "{kills} kills with {} MiB touched, Linux {}: median {:.1} ms, p90 {:.1}, p99 {:.1}, max {:.1}",
        TOUCHED >> 20,
        kernel.trim(),
        at(50),
        at(90),
        at(99),
        at(100),
    )?;
    eal.cleanup()?;
    Ok(())
}

/// A secondary that has said which slot is its own.
fn start(dir: &Path) -> Result<(Child, SlotId)> {
    let mut victim = Command::new(std::env::current_exe()?)
        .arg("victim")
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    let out = victim.stdout.take().ok_or("it has no stdout")?;
    BufReader::new(out).read_line(&mut said)?;
    let slot = said.trim().parse().ok().and_then(SlotId::new);
    Ok((victim, slot.ok_or("the victim did not start")?))
}

fn hear_of(deaths: &Deaths, eal: &Eal, slot: SlotId, killed: Instant) -> Result<()> {
    while !eal.region().dead_slots().contains(slot) {
        deaths.wait(LONG);
        if killed.elapsed() > LONG {
            return Err("nothing was heard of the death".into());
        }
    }
    Ok(())
}
