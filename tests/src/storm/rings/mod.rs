//! Processes killed inside one operation of a ring, again and again.
//!
//! The storm itself is the primary. A worker process loops on one operation of mbufs; the other end of the ring is at work in
//! another process and is not killed. After each kill a successor takes the end, before or after the sweep, and both ends must
//! move again.
//!
//! ```text
//!  producer ---- ring ----> consumer          killed: one of the two, 400 times inside the operation
//!     |   publishes 0, 1, 2, ...   |
//!     +----------> board <---------+          what was published and what arrived, in a zone of the group
//! ```
//!
//! A lane keeps its order, so each producer's packets arrive as 0, 1, 2, ... What is missing when all is over was *lost*, unless
//! a killed consumer had it in hand or a sweep emptied the ring meanwhile: those the sweep has counted. At the end the
//! independent checker counts all buffers.

mod board;
mod kind;
mod worker;

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::Args;
use forebay::eal::SlotSet;
use forebay::mbuf::sweep::sweep;
use forebay::{Eal, EalArgs, Lcore, Pool, PoolConfig, Ring};
use lab::Signal;
use tempfile::TempDir;

use self::board::Board;
use self::kind::{BULK, KINDS, Kind, Side};
use super::actor::PATIENCE;
use super::audit::Audit;
use super::random::{Random, mix};
use crate::{Ended, Leftovers, Process, program};

pub use worker::{WorkerArgs, work};

/// Name of the pool.
const POOL: &str = "storm";
/// Buffers in it: what rings, workers and their magazines can hold several times over.
const POOL_COUNT: u32 = 80 * 1024;
/// Room for a packet of the storm, behind the headroom.
const DATA_ROOM: u16 = 256;
/// How long a worker works before it is to be killed.
const WORK: std::ops::Range<Duration> = Duration::ZERO..Duration::from_millis(2);
/// How long after the beginning of a series of operations it is killed.
const INTO_SERIES: std::ops::Range<Duration> = Duration::from_micros(2)..Duration::from_micros(40);
/// One kill in so many comes from outside, at any moment.
const OUTSIDE_ONE_IN: u64 = 8;
/// Kills for each one that is to fall inside the operation.
const TRIES: u32 = 20;

/// What to kill, and how often.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Kills inside each kind of operation
    #[arg(long, value_name = "N", default_value_t = 400)]
    pub kills: u32,
    /// When, and in which order [default: another one each time]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Only kinds with this in their name
    #[arg(long, value_name = "NAME")]
    pub kind: Option<String>,
    /// Where the region goes if something is wrong
    #[arg(long, value_name = "DIR", default_value = "target/storm")]
    pub out: PathBuf,
}

/// What came of one kind, or of all.
#[derive(Debug, Clone, Default)]
struct Verdict {
    kills: u32,
    /// Kills that fell inside the operation.
    inside: u32,
    hangs: u64,
    lost: u64,
    twice: u64,
    /// Bulks that arrived in part, packets whose bytes were others.
    torn: u64,
    /// Packets that went with a killed consumer, or that a sweep found in a ring without one.
    swept: u64,
    /// Of those, packets that may have arrived before.
    arrived: u64,
    published: u64,
    leaked: u64,
    double: u64,
    other: u64,
}

impl Verdict {
    fn is_good(&self) -> bool {
        self.hangs + self.lost + self.twice + self.torn == 0
            && self.leaked + self.double + self.other == 0
    }

    fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.inside += other.inside;
        self.hangs += other.hangs;
        self.lost += other.lost;
        self.twice += other.twice;
        self.torn += other.torn;
        self.swept += other.swept;
        self.arrived += other.arrived;
        self.published += other.published;
        self.leaked += other.leaked;
        self.double += other.double;
        self.other += other.other;
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "kills={} inside={} hangs={} lost={} twice={} torn={} leaked={} double={} other={} published={} swept={} unsure={}",
            self.kills,
            self.inside,
            self.hangs,
            self.lost,
            self.twice,
            self.torn,
            self.leaked,
            self.double,
            self.other,
            self.published,
            self.swept,
            self.arrived
        )
    }
}

/// Another one each time.
pub fn random_seed() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    mix(now.as_nanos().to_le_bytes()[..8]
        .try_into()
        .map_or(1, u64::from_le_bytes))
        >> 32
}

/// Runs all kinds; `true` if nothing was wrong.
///
/// # Errors
///
/// What kept it from taking place.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    let seed = options.seed.unwrap_or_else(random_seed);
    eprintln!(
        "storm: rings, {} kills inside each kind of operation, seed {seed}",
        options.kills
    );
    let mut all = Verdict::default();
    let (mut kinds, mut wrong) = (0, Vec::new());
    for (kind, number) in KINDS.iter().zip(0_u64..) {
        if !options
            .kind
            .as_ref()
            .is_none_or(|wanted| kind.name.contains(wanted))
        {
            continue;
        }
        let storm = Storm::start(kind, seed.wrapping_add(number), options)?;
        let (verdict, complaints) = storm.run(options.kills)?;
        println!("rings {:22} {verdict}", kind.name);
        all.add(&verdict);
        kinds += 1;
        wrong.extend(
            complaints
                .into_iter()
                .map(|line| format!("{}: {line}", kind.name)),
        );
    }
    anyhow::ensure!(kinds > 0, "no kind has {:?} in its name", options.kind);
    for line in &wrong {
        println!("wrong: {line}");
    }
    let is_good = all.is_good() && wrong.is_empty();
    println!("{}", super::summary(is_good));
    println!("STORM rings kinds={kinds} seed={seed} {all}");
    Ok(is_good)
}

/// A worker process and its place on the board.
struct Worker {
    instance: u32,
    process: Process,
}

/// One kind under way.
struct Storm {
    kind: &'static Kind,
    eal: Eal,
    lcore: Lcore,
    ring: Ring<'static>,
    board: Board<'static>,
    dir: TempDir,
    prefix: String,
    random: Random,
    instances: u32,
    /// Those that are not killed.
    steady: Vec<Worker>,
    verdict: Verdict,
    complaints: Vec<String>,
    out: PathBuf,
}

impl Storm {
    fn start(kind: &'static Kind, seed: u64, options: &Options) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
        let prefix = format!("storm-rings-{}-{}", std::process::id(), kind.name);
        let line = [
            "forebay-storm".to_owned(),
            "-m".to_owned(),
            "48".to_owned(),
            "--no-huge".to_owned(),
            format!("--file-prefix={prefix}"),
            format!("--runtime-dir={}", dir.path().display()),
        ];
        let eal = Eal::init(EalArgs::parse(line)?.0)?;
        let region = eal.region();
        let lcore = Lcore::new(eal.claim_slot("storm")?);
        let pool = PoolConfig {
            data_room: DATA_ROOM,
            ..PoolConfig::new(POOL, POOL_COUNT)
        };
        Pool::create(region, &pool)?;
        let ring = kind.create(region)?;
        let board = Board::create(region)?;
        Ok(Self {
            kind,
            eal,
            lcore,
            ring,
            board,
            dir,
            prefix,
            random: Random::new(seed),
            instances: 0,
            steady: Vec::new(),
            verdict: Verdict::default(),
            complaints: Vec::new(),
            out: options.out.clone(),
        })
    }

    fn run(mut self, kills: u32) -> anyhow::Result<(Verdict, Vec<String>)> {
        for side in self.kind.steady() {
            let worker = self.launch(*side);
            self.steady.push(worker);
        }
        let mut victim = self.launch(self.kind.victim);
        let mut told = Instant::now();
        while self.verdict.inside < kills
            && self.verdict.kills < kills * TRIES
            && self.verdict.hangs < 3
        {
            self.wait_for_work(&mut victim);
            std::thread::sleep(self.random.duration(WORK));
            // Now and then the other end stands still meanwhile: what was published waits in the ring when the sweep comes.
            let stands_still = self.random.one_in(4);
            if stands_still {
                self.signal_the_others(Signal::STOP);
            }
            let dead = victim.instance;
            let ended = self.kill(victim);
            if ended.has_crashed() {
                self.complaints.push(format!("a worker crashed: {ended}"));
            }
            self.verdict.kills += 1;
            self.verdict.inside += u32::from(self.board.is_inside(dead));
            if self.kind.victim == Side::Consumer {
                self.verdict.arrived += u64::from(self.board.has_noted_in_hand(dead));
            }
            // A successor may be there before the sweep, or come after it.
            if self.random.one_in(2) {
                victim = self.launch(self.kind.victim);
                std::thread::sleep(
                    self.random
                        .duration(Duration::ZERO..Duration::from_millis(2)),
                );
                self.sweep()?;
            } else {
                self.sweep()?;
                victim = self.launch(self.kind.victim);
            }
            if stands_still {
                self.signal_the_others(Signal::CONT);
            }
            self.wait_for_the_others();
            if told.elapsed() > Duration::from_secs(2) {
                told = Instant::now();
                eprintln!("storm: rings {}: {}", self.kind.name, self.verdict);
            }
        }
        if self.verdict.inside < kills {
            self.complaints.push(format!(
                "only {} of {kills} kills fell inside",
                self.verdict.inside
            ));
        }
        self.wait_for_work(&mut victim);
        self.end(victim)?;
        self.judge();
        Ok(self.clean_up())
    }

    /// Starts a worker at one end of the ring.
    fn launch(&mut self, side: Side) -> Worker {
        self.instances += 1;
        let instance = self.instances;
        let mut command = Command::new(program("forebay-storm"));
        command.args(["worker", &format!("--file-prefix={}", self.prefix)]);
        command.arg("--runtime-dir").arg(self.dir.path());
        command.args(["--kind", self.kind.name, "--side", side.name()]);
        command.args(["--instance", &instance.to_string()]);
        lab::die_with_parent(&mut command, Signal::KILL);
        Worker {
            instance,
            process: Process::start(&mut command),
        }
    }

    /// Waits until a fresh worker has done its operation a few times. One that does not is replaced.
    fn wait_for_work(&mut self, worker: &mut Worker) {
        let start = Instant::now();
        while self.board.operations(worker.instance) < 3 {
            let alive = worker.process.is_alive();
            if !alive || start.elapsed() > PATIENCE {
                let what = if alive { "hangs" } else { "ended" };
                let (said, pid) = (worker.process.stderr(), worker.process.pid());
                self.hang(format!(
                    "worker {} (process {pid}) {what}: {said:?}",
                    worker.instance
                ));
                *worker = self.launch(self.kind.victim);
                return;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Kills a worker: in the midst of a series of operations, now and then at any moment.
    fn kill(&mut self, mut victim: Worker) -> Ended {
        if !self.random.one_in(OUTSIDE_ONE_IN) {
            let time = self.random.duration(INTO_SERIES);
            self.board.doom(victim.instance, time);
            let start = Instant::now();
            while victim.process.is_alive() && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_micros(100));
            }
            if victim.process.is_alive() {
                self.hang(format!(
                    "worker {} does not come to a new series",
                    victim.instance
                ));
            }
        }
        victim.process.kill()
    }

    fn signal_the_others(&self, signal: Signal) {
        for worker in &self.steady {
            worker.process.signal(signal);
        }
    }

    /// Waits until those that are not killed have moved since now.
    fn wait_for_the_others(&mut self) {
        for place in 0..self.steady.len() {
            let instance = self.steady[place].instance;
            let before = self.board.operations(instance);
            let start = Instant::now();
            while self.board.operations(instance) == before {
                let alive = self.steady[place].process.is_alive();
                if !alive || start.elapsed() > PATIENCE {
                    let said = self.steady[place].process.stderr();
                    self.hang(format!(
                        "the other end stands still (alive: {alive}): {said:?}"
                    ));
                    return;
                }
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    }

    fn hang(&mut self, complaint: String) {
        eprintln!("storm: {complaint}");
        self.verdict.hangs += 1;
        self.complaints.push(complaint);
    }

    fn sweep(&mut self) -> anyhow::Result<()> {
        let report = sweep(self.eal.region(), &self.lcore, SlotSet::EMPTY)?;
        let Some(report) = report else { return Ok(()) };
        if self.kind.victim == Side::Consumer {
            self.verdict.swept += u64::from(report.in_hand + report.rings);
        }
        self.verdict.other += u64::from(report.corrupt);
        Ok(())
    }

    /// Ends the producers, lets what waits arrive, and ends the consumer.
    fn end(&mut self, victim: Worker) -> anyhow::Result<()> {
        let mut workers = std::mem::take(&mut self.steady);
        workers.push(victim);
        self.board.tell(board::PRODUCERS_STOP);
        let (consumers, producers): (Vec<_>, Vec<_>) = workers
            .into_iter()
            .partition(|worker| self.board.side(worker.instance) == Side::Consumer);
        self.expect_ends(producers);
        let start = Instant::now();
        while self.ring.len() > 0 && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.board.tell(board::ALL_STOP);
        self.expect_ends(consumers);
        // Whoever was killed in place of an ordered end.
        self.sweep()
    }

    fn expect_ends(&mut self, workers: Vec<Worker>) {
        for mut worker in workers {
            let start = Instant::now();
            while worker.process.is_alive() && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(1));
            }
            if worker.process.is_alive() {
                self.hang(format!("worker {} does not end", worker.instance));
            }
            let ended = worker.process.kill();
            if ended.status.code() != Some(0) {
                self.complaints
                    .push(format!("worker {} ended with {ended}", worker.instance));
            }
        }
    }

    /// Compares what was published with what arrived, and lets the checker count.
    fn judge(&mut self) {
        let killed_consumer = self.kind.victim == Side::Consumer;
        let (mut missing, mut last) = (0, 0);
        for instance in 1..=self.instances {
            let record = self.board.read(instance);
            if record.side != Side::Producer {
                continue;
            }
            last = instance;
            self.verdict.twice += record.twice;
            self.verdict.torn += record.damaged;
            self.verdict.published += record.published;
            // A killed producer may have published a burst that it did not come to count.
            let unsure = if killed_consumer { 0 } else { BULK };
            let (at_least, at_most) = (record.published, record.published + unsure);
            missing += record.gaps + at_least.saturating_sub(record.next);
            if record.next > at_most {
                self.complaints.push(format!(
                    "producer {instance} published {at_most} at most, and {} arrived",
                    record.next
                ));
                self.verdict.twice += record.next - at_most;
            }
            if self.kind.is_bulk() && !record.next.is_multiple_of(BULK) {
                self.complaints.push(format!(
                    "producer {instance}: {} packets arrived of bulks of {BULK}",
                    record.next
                ));
                self.verdict.torn += 1;
            }
        }
        if last == 0 || self.verdict.published == 0 {
            self.complaints.push("nothing was published".to_owned());
        }
        // What went with a dead consumer, the sweep has counted; with it, perhaps, the one packet that it was noting. Killed
        // within these few instructions one may have given its buffer back already, so that so many are unsure.
        let (swept, arrived) = (self.verdict.swept, self.verdict.arrived);
        if missing > swept {
            self.complaints
                .push(format!("{missing} are missing, and {swept} were swept"));
            self.verdict.lost += missing - swept;
        }
        if swept > missing + arrived {
            self.complaints.push(format!(
                "{swept} were swept, {missing} are missing, {arrived} may have arrived before"
            ));
            self.verdict.twice += swept - missing - arrived;
        }
        let mut command = Command::new(program("forebay"));
        command.args(["check", &format!("--file-prefix={}", self.prefix)]);
        command.arg("--runtime-dir").arg(self.dir.path());
        let audit = Audit::take(&mut command);
        self.verdict.leaked += audit.leaked;
        self.verdict.double += audit.double;
        self.verdict.other += audit.other + audit.outside;
        if !audit.is_clean() || audit.outside > 0 {
            self.complaints
                .push(format!("forebay check: {}", audit.text));
        }
    }

    /// Keeps the region if something was wrong, and takes the group away.
    fn clean_up(mut self) -> (Verdict, Vec<String>) {
        if !self.verdict.is_good() || !self.complaints.is_empty() {
            let place = self.out.join(&self.prefix);
            let files = self.eal.region().info().files;
            let kept = std::fs::create_dir_all(&place);
            for file in files
                .into_iter()
                .flat_map(|(control, data)| [control, data])
            {
                let name = file.file_name().unwrap_or_default();
                if kept.is_err() || std::fs::copy(&file, place.join(name)).is_err() {
                    eprintln!("storm: cannot keep {}", file.display());
                }
            }
            self.complaints
                .push(format!("the region is kept in {}", place.display()));
        }
        let Self {
            eal,
            lcore,
            verdict,
            mut complaints,
            dir,
            prefix,
            ..
        } = self;
        drop(lcore);
        if let Err(error) = eal.cleanup() {
            complaints.push(format!("the primary cannot leave: {error}"));
        }
        let left = Leftovers::of(&prefix, dir.path());
        if !left.is_empty() {
            complaints.push(format!("left behind: {left:?}"));
            left.files()
                .for_each(|file| drop(std::fs::remove_file(file)));
        }
        (verdict, complaints)
    }
}
