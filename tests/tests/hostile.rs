//! A process that scribbles over the memory of a group: the others may drop, count and refuse, and nothing else.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::iter::once;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use forebay::eal::process::SlotRecord;
use forebay::eal::{Observer, SLOTS_MAX, ZoneKind};
use forebay_tests::storm::random::Random;
use forebay_tests::{Ended, Group, Process, Setup, World};
use lab::{FrameSocket, Signal};
use serde_json::Value;

/// How long each scribbler is at work.
const TIME: Duration = Duration::from_millis(800);
/// Within what a process must end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(10);
/// Seeds for each target; `FOREBAY_HOSTILE_SEEDS` says otherwise, and may name one alone: `7..8`.
const SEEDS: Range<u64> = 0..2;

/// What is scribbled upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// All of the data file, a stretch of noise at a time.
    Everything,
    /// The process table.
    Slots,
    /// Positions, claims and slots of rings.
    Rings,
    /// Magazines, tags and links: a pool up to its frames.
    Pools,
    /// Queue records and port counters, and whatever else has a zone.
    Others,
}

const TARGETS: [Target; 5] = [
    Target::Everything,
    Target::Slots,
    Target::Rings,
    Target::Pools,
    Target::Others,
];

/// With a data file that can be written to: a hugetlbfs has no `write`.
fn writable(mut setup: Setup) -> Setup {
    setup.eal.push("--no-huge".into());
    setup
}

/// One that scribbles.
struct Scribbler {
    file: File,
    target: Target,
    /// Where, as bytes of the file.
    places: Vec<Range<u64>>,
    random: Random,
}

impl Scribbler {
    fn new(group: &Group<'_>, target: Target, seed: u64) -> Self {
        let observer = Observer::open(Some(group.runtime_dir()), group.prefix()).unwrap();
        let region = observer.region();
        let info = region.info();
        let (_, data) = info.files.unwrap();
        let table = (SLOTS_MAX * size_of::<SlotRecord>()) as u64;
        let zones = |wanted: fn(ZoneKind) -> bool| -> Vec<Range<u64>> {
            let zones = region.zones().filter(|zone| wanted(zone.kind()));
            let place = |zone: forebay::Zone<'_>| {
                let len = zone.len() as u64;
                // The frames of a pool are the greater part of it, and their bytes mean nothing to anybody.
                let len = if zone.kind() == ZoneKind::Pool {
                    len / 20
                } else {
                    len
                };
                zone.offset()..zone.offset() + len
            };
            zones.map(place).collect()
        };
        let places = match target {
            Target::Everything => once(0..info.data_len).collect(),
            Target::Slots => once(0..table).collect(),
            Target::Rings => zones(|kind| kind == ZoneKind::Ring),
            Target::Pools => zones(|kind| kind == ZoneKind::Pool),
            Target::Others => zones(|kind| !matches!(kind, ZoneKind::Ring | ZoneKind::Pool)),
        };
        Self {
            file: OpenOptions::new()
                .read(true)
                .write(true)
                .open(data)
                .unwrap(),
            target,
            places,
            random: Random::new(seed),
        }
    }

    /// Scribbles once.
    fn scribble(&mut self) {
        let places: Vec<_> = (0..self.places.len()).collect();
        let Some(place) = self.random.choose(&places) else {
            return;
        };
        let place = self.places[place].clone();
        let at = self.random.within(place.clone()) & !7;
        if self.target == Target::Everything && self.random.one_in(2) {
            let len = usize::try_from(self.random.within(1..4096)).unwrap();
            let mut noise = vec![0; len];
            self.random.fill(&mut noise);
            self.write(at, &noise, place.end);
            return;
        }
        let mut word = [0; 8];
        self.file.read_exact_at(&mut word, at).unwrap();
        let old = u64::from_le_bytes(word);
        // What is nearly right does more harm than noise.
        let new = match self.random.within(0..7) {
            0 => self.random.word(),
            1 => 0,
            2 => u64::MAX,
            3 => old ^ 1 << self.random.within(0..64),
            4 => old.wrapping_add(self.random.within(0..64)).wrapping_sub(32),
            5 => old.rotate_left(32),
            _ => {
                // A word from elsewhere, which made sense there.
                let from = self.random.within(place.clone()) & !7;
                self.file.read_exact_at(&mut word, from).unwrap();
                u64::from_le_bytes(word)
            }
        };
        self.write(at, &new.to_le_bytes(), place.end);
    }

    fn write(&self, at: u64, bytes: &[u8], end: u64) {
        let room = usize::try_from(end.saturating_sub(at)).unwrap();
        let len = bytes.len().min(room);
        self.file.write_all_at(&bytes[..len], at).unwrap();
    }
}

/// What somebody did that nobody may do. All of it is told when all is tried.
#[derive(Default)]
struct Harm(Vec<String>);

impl Harm {
    /// Asks a process to end, and looks how it does.
    fn end(&mut self, mut process: Process, what: &str) {
        process.signal(Signal::TERM);
        let start = Instant::now();
        while process.is_alive() {
            if start.elapsed() > PATIENCE {
                let pid = process.pid();
                self.0.push(format!("{what} (process {pid}) hangs"));
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.look(&process.wait(), what);
    }

    /// An error that was told is right, and so is an end in order: it may have been asked to meanwhile.
    fn look(&mut self, ended: &Ended, what: &str) {
        let is_right = matches!(ended.status.code(), Some(0..=2));
        if ended.has_crashed() || !is_right {
            let stderr = ended.stderr.join("\n    ");
            self.0
                .push(format!("{what}: {}\n    {stderr}", ended.status));
        }
    }

    fn assert_none(&self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

/// Scribbles while packets cross, tools look, and clients come.
fn scribble_over(harm: &mut Harm, world: &World, queues: &str, target: Target, seed: u64) {
    let what =
        |who: &str| format!("{who}, --queues {queues}, {target:?} scribbled upon, seed {seed}");
    let mut group = Group::start(world, writable(Setup::with(2, &["--queues", queues])));
    world.ping_both_ways();
    let mut scribbler = Scribbler::new(&group, target, seed);
    let enough = AtomicBool::new(false);
    let west = FrameSocket::open(&world.west, "eth0").unwrap();
    let tools = thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                if enough.load(Ordering::Relaxed) {
                    break;
                }
                let frame = forebay_tests::frame::numbered(number, 60 + number as usize % 1400);
                let _ = west.send(&frame);
                if number % 8 == 0 {
                    thread::sleep(Duration::from_micros(500));
                }
            }
        });
        scope.spawn(|| {
            // Gently, so that the processes come to meet what was written, then for all it is worth.
            let start = Instant::now();
            while start.elapsed() < TIME {
                scribbler.scribble();
                if start.elapsed() < TIME / 2 {
                    thread::sleep(Duration::from_micros(200));
                }
            }
        });
        let start = Instant::now();
        let mut tools = Vec::new();
        let subcommands = ["list", "zones", "rings", "pools", "check"];
        for subcommand in subcommands.iter().cycle() {
            if start.elapsed() > TIME {
                break;
            }
            tools.push((*subcommand, Process::run(&mut group.tool(subcommand))));
        }
        enough.store(true, Ordering::Relaxed);
        tools
    });
    for (subcommand, tool) in &tools {
        harm.look(tool, &what(&format!("forebay {subcommand}")));
    }
    // What it wrote makes nobody sweep again and again.
    let sweeps = || {
        let ended = Process::run(group.tool("recovered").arg("--json"));
        let row = ended
            .stdout
            .first()
            .and_then(|line| serde_json::from_str::<Value>(line).ok());
        row.and_then(|row| row["sweeps"].as_u64())
    };
    let stands_still = || {
        let before = sweeps();
        thread::sleep(Duration::from_secs(1));
        before == sweeps()
    };
    // The first looks may still find what was written last.
    if !(0..5).any(|_| stands_still()) {
        harm.0.push(what("the guard does not stop sweeping"));
    }
    // Somebody who comes now is refused, or works; one who goes can go.
    let newcomer = Process::start(&mut group.client_command(1));
    thread::sleep(Duration::from_millis(300));
    harm.end(newcomer, &what("a newcomer"));
    for id in [0, 1] {
        harm.end(group.take_client(id), &what(&format!("client {id}")));
    }
    harm.end(group.take_server(), &what("the server"));
}

/// A primary that comes to what a scribbler left: takes it over, or says why not.
fn take_over(harm: &mut Harm, world: &World, target: Target, seed: u64) {
    let what = format!("the next primary, {target:?} scribbled upon, seed {seed}");
    let mut group = Group::start(world, writable(Setup::lesson(2)));
    world.ping_both_ways();
    let mut scribbler = Scribbler::new(&group, target, seed);
    group.take_server().kill();
    for _ in 0..2000 {
        scribbler.scribble();
    }
    let next = Process::start(&mut group.server_command());
    thread::sleep(Duration::from_millis(500));
    harm.end(next, &what);
    for id in [0, 1] {
        harm.end(group.take_client(id), &format!("client {id}, {what}"));
    }
    harm.look(&Process::run(&mut group.tool("clean")), "forebay clean");
}

fn seeds() -> Range<u64> {
    let wanted = std::env::var("FOREBAY_HOSTILE_SEEDS").unwrap_or_default();
    let range = wanted
        .split_once("..")
        .and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or(SEEDS)
}

#[test]
fn scribbler_harms_nobody_who_gets_packets_by_rings() {
    lab::isolated!({
        let (world, mut harm) = (World::new(), Harm::default());
        for seed in seeds() {
            for target in TARGETS {
                scribble_over(&mut harm, &world, "server", target, seed);
            }
        }
        harm.assert_none();
    });
}

#[test]
fn scribbler_harms_nobody_who_reads_queues_of_his_own() {
    lab::isolated!({
        let (world, mut harm) = (World::new(), Harm::default());
        for seed in seeds() {
            for target in TARGETS
                .into_iter()
                .filter(|target| *target != Target::Rings)
            {
                scribble_over(&mut harm, &world, "each", target, seed);
            }
        }
        harm.assert_none();
    });
}

#[test]
fn next_primary_takes_over_or_refuses_what_a_scribbler_left() {
    lab::isolated!({
        let (world, mut harm) = (World::new(), Harm::default());
        for seed in seeds() {
            for target in TARGETS {
                take_over(&mut harm, &world, target, seed);
            }
        }
        harm.assert_none();
    });
}
