//! A server and its clients in the storm.
//!
//! Every 50 to 200 ms one of them is killed, or stopped for a while, and its place filled again soon after. In between each
//! is watched: whoever is not stopped must turn its loop and pass packets on. At the end, when traffic and processes have
//! ended one after the other, the independent checker counts every buffer of every pool.

use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use forebay::eal::Observer;
use lab::Offloads;
use tempfile::TempDir;

use super::actor::{Actor, Fault, PATIENCE, Role, State};
use super::audit::{self, Audit};
use super::guest;
use super::load::{Load, Tally};
use super::random::Random;
use crate::{Leftovers, Process, World};

/// Between two disturbances.
const GAP: std::ops::Range<Duration> = Duration::from_millis(50)..Duration::from_millis(200);
/// How long a place stays empty.
const ABSENCE: std::ops::Range<Duration> = Duration::ZERO..Duration::from_millis(50);
/// How long a process is stopped.
const STOP: std::ops::Range<Duration> = Duration::from_millis(20)..Duration::from_millis(1500);
/// One disturbance in so many is a stop, the others are kills.
const STOPS_ONE_IN: u64 = 6;
/// After one disturbance in so many nobody sends for a while, so that processes sleep, and are killed and woken in their sleep.
const SILENCES_ONE_IN: u64 = 4;
/// For how long.
const SILENCE: std::ops::Range<Duration> = Duration::from_millis(20)..Duration::from_millis(400);
/// One process in so many polls and never sleeps.
const POLLS_ONE_IN: u32 = 3;
/// Between two looks at everybody.
const LOOK: Duration = Duration::from_millis(2);
/// Between two lines that tell how far it is.
const TELL: Duration = Duration::from_secs(2);
/// How long the last sweeps may take once nobody is killed any more.
const SETTLE: Duration = Duration::from_secs(5);

/// Who reads the ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queues {
    /// The server, and its clients get packets by rings.
    Server,
    /// Each client queues of its own.
    Each,
}

/// What the ports are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Ends of cables, by packet sockets.
    AfPacket,
    /// The hosts' interfaces are TAPs.
    Tap,
    /// Ends of cables, by AF_XDP sockets.
    AfXdp,
}

/// Who drives the queues of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Their owners.
    Direct,
    /// The server, for them.
    Proxy,
}

/// What storm it is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long processes are killed.
    pub time: Duration,
    /// Whom and when.
    pub seed: u64,
    /// Who reads the ports.
    pub queues: Queues,
    /// What the ports are.
    pub driver: Driver,
    /// Who drives the queues of clients.
    pub share: Share,
    /// Secondaries.
    pub clients: u32,
    /// Frames a second, each way.
    pub rate: u32,
    /// Where logs go, and what is left of a group that came to harm.
    pub out: PathBuf,
    /// Set when the storm is to end early.
    pub stop: Arc<AtomicBool>,
}

impl Options {
    /// A name for logs and groups: `server`, `each-tap-proxy`.
    pub fn mode(&self) -> String {
        let queues = match self.queues {
            Queues::Server => "server",
            Queues::Each => "each",
        };
        let driver = match self.driver {
            Driver::AfPacket => "",
            Driver::Tap => "-tap",
            Driver::AfXdp => "-xdp",
        };
        let share = match self.share {
            Share::Direct => "",
            Share::Proxy => "-proxy",
        };
        format!("{queues}{driver}{share}")
    }
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Processes killed.
    pub kills: u64,
    /// Processes stopped for a while.
    pub stops: u64,
    /// Places filled again by a process that came to work.
    pub restarted: u64,
    /// Buffers in no place.
    pub leaked: u64,
    /// Buffers in several places.
    pub double: u64,
    /// Processes that stood still for five seconds.
    pub wedged: u64,
    /// What arrived otherwise than it was sent.
    pub corrupt: u64,
    /// Processes that crashed.
    pub crashed: u64,
    /// Processes that ended although nobody asked them to.
    pub quit: u64,
    /// Starts that failed with a reason and were repeated.
    pub refused: u64,
    /// Times that a loop slept.
    pub sleeps: u64,
    /// Times that one slept on over work: for lack of a ring, by who was stopped or killed in between, or by mistake.
    pub late: u64,
    /// The longest turn of a loop.
    pub stall: Duration,
    /// The traffic.
    pub tally: Tally,
    /// What was wrong, one line each.
    pub complaints: Vec<String>,
    /// Where to look, if something was.
    pub kept: Vec<PathBuf>,
}

impl Verdict {
    /// Whether nothing was wrong.
    pub fn is_good(&self) -> bool {
        self.complaints.is_empty()
    }

    /// Adds another storm's.
    pub fn add(&mut self, other: Self) {
        self.kills += other.kills;
        self.stops += other.stops;
        self.restarted += other.restarted;
        self.leaked += other.leaked;
        self.double += other.double;
        self.wedged += other.wedged;
        self.corrupt += other.corrupt;
        self.crashed += other.crashed;
        self.quit += other.quit;
        self.refused += other.refused;
        self.sleeps += other.sleeps;
        self.late += other.late;
        self.stall = self.stall.max(other.stall);
        self.tally.sent += other.tally.sent;
        self.tally.received += other.tally.received;
        self.tally.twice += other.tally.twice;
        self.tally.transfers += other.tally.transfers;
        self.tally.broken += other.tally.broken;
        self.complaints.extend(other.complaints);
        self.kept.extend(other.kept);
    }

    /// What else there is to tell.
    pub fn details(&self) -> String {
        let Tally {
            sent,
            received,
            twice,
            transfers,
            broken,
            ..
        } = &self.tally;
        format!(
            "stops={} sleeps={} late={} crashed={} quit={} refused={} frames={received}/{sent} twice={twice} tcp={transfers} tcp_broken={broken}",
            self.stops, self.sleeps, self.late, self.crashed, self.quit, self.refused
        )
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "STORM kills={} leaked={} double={} wedged={} corrupt={} restarted={} stall_ms_max={}",
            self.kills,
            self.leaked,
            self.double,
            self.wedged,
            self.corrupt,
            self.restarted,
            self.stall.as_millis()
        )
    }
}

/// A storm under way.
struct Storm<'o> {
    options: &'o Options,
    world: Arc<World>,
    dir: TempDir,
    prefix: String,
    logs: PathBuf,
    journal: File,
    /// The server first.
    actors: Vec<Actor>,
    observer: Option<&'static Observer>,
    /// Since when a server is at work.
    served: Option<Instant>,
    /// Whether a secondary lived when the server was started: then there is a group to take over.
    has_heirs: bool,
    random: Random,
    started: Instant,
    verdict: Verdict,
}

/// Runs a storm. Call it where namespaces may be made.
///
/// # Errors
///
/// What kept it from taking place. What the storm brought to light is in the verdict.
pub fn run(options: &Options) -> anyhow::Result<Verdict> {
    let mut storm = Storm::prepare(options)?;
    storm.assemble()?;
    let mut load = Load::start(&storm.world, options.seed, options.rate);
    storm.rage(&load);
    storm.calm(&load);
    storm.verdict.tally = load.stop();
    storm.judge_traffic();
    storm.wind_up();
    Ok(std::mem::take(&mut storm.verdict))
}

impl<'o> Storm<'o> {
    fn prepare(options: &'o Options) -> anyhow::Result<Self> {
        let mode = options.mode();
        let logs = options.out.join(format!("{mode}-{}", options.seed));
        let cannot = || format!("cannot write {}", logs.display());
        // What an earlier storm of the same seed left.
        let _ = fs::remove_dir_all(&logs);
        fs::create_dir_all(&logs).with_context(cannot)?;
        let journal = File::create(logs.join("kills.log")).with_context(cannot)?;
        let world = match options.driver {
            Driver::AfPacket => World::with(9000, Offloads::ON),
            Driver::Tap => World::bare(),
            // What arrives is spread over as many queues as are read; clients send on one each. Frames are the buffers'.
            Driver::AfXdp => {
                let read = match options.queues {
                    Queues::Server => 1,
                    Queues::Each => options.clients,
                };
                World::queued(1500, Offloads::OFF, [read, options.clients])
            }
        };
        let places = std::iter::once(Role::Server).chain((0..options.clients).map(Role::Client));
        Ok(Self {
            options,
            world: Arc::new(world),
            dir: tempfile::tempdir().context("cannot make a temporary directory")?,
            prefix: format!("storm-{}-{mode}", std::process::id()),
            logs,
            journal,
            actors: places.map(Actor::new).collect(),
            observer: None,
            served: None,
            has_heirs: false,
            random: Random::new(options.seed),
            started: Instant::now(),
            verdict: Verdict::default(),
        })
    }

    /// Starts everybody once.
    fn assemble(&mut self) -> anyhow::Result<()> {
        for place in 0..self.actors.len() {
            let mut process = Process::start(&mut self.command(self.actors[place].role));
            process.wait_for_stderr("readiness", |line| line.starts_with("ready:"));
            self.actors[place].start(process);
            self.actors[place].has_become_ready();
            if place == 0 {
                if self.options.driver == Driver::Tap {
                    self.world.dress(9000, Offloads::ON);
                }
                self.world.introduce();
            }
        }
        let observer = Observer::open(Some(self.dir.path()), &self.prefix)?;
        self.observer = Some(Box::leak(Box::new(observer)));
        self.served = Some(Instant::now());
        Ok(())
    }

    fn command(&self, role: Role) -> Command {
        let mut command = self.world.command("forebay");
        let lcore = match role {
            Role::Server => 1,
            Role::Client(id) => 2 + id,
        };
        command.arg(if role == Role::Server {
            "server"
        } else {
            "client"
        });
        command.args(["-l", &lcore.to_string(), "--no-huge"]);
        let instances = self.actors.iter().filter(|actor| actor.role == role);
        let instance: u32 = instances.map(|actor| actor.instance).sum();
        let polls = (instance + lcore)
            .is_multiple_of(POLLS_ONE_IN)
            .then_some("--busy-poll");
        self.name_group(&mut command);
        match role {
            Role::Server => {
                let clients = self.options.clients.to_string();
                let queues = if self.options.queues == Queues::Each {
                    "each"
                } else {
                    "server"
                };
                command.args(self.vdevs().map(|vdev| format!("--vdev={vdev}")));
                command.args([
                    "--",
                    "-p",
                    "0x3",
                    "-n",
                    &clients,
                    "--no-screen",
                    "--stall-report",
                    "--queues",
                    queues,
                ]);
                command.args(polls);
            }
            Role::Client(id) => {
                command.args([
                    "--proc-type=auto",
                    "--wait",
                    "5",
                    "--",
                    "-n",
                    &id.to_string(),
                    "--stall-report",
                ]);
                command.args(polls);
            }
        }
        command
    }

    fn vdevs(&self) -> [String; 2] {
        let vdevs = match self.options.driver {
            Driver::AfPacket => [0, 1].map(|port| format!("net_af_packet{port},iface=veth{port}")),
            Driver::Tap => self.world.taps(),
            Driver::AfXdp => [0, 1].map(|port| format!("net_af_xdp{port},iface=veth{port}")),
        };
        match (self.options.share, self.options.driver) {
            (Share::Direct, _) => vdevs,
            (Share::Proxy, Driver::AfPacket | Driver::AfXdp) => {
                vdevs.map(|vdev| vdev + ",share=proxy")
            }
            // Nobody else has a descriptor: without this the interface would go with each server.
            (Share::Proxy, Driver::Tap) => vdevs.map(|vdev| vdev + ",share=proxy,persist=1"),
        }
    }

    fn name_group(&self, command: &mut Command) {
        command.arg(format!("--file-prefix={}", self.prefix));
        command.arg("--runtime-dir").arg(self.dir.path());
    }

    fn tool(&self, subcommand: &str) -> Command {
        let mut command = self.world.command("forebay");
        command.arg(subcommand);
        self.name_group(&mut command);
        command
    }

    /// Kills, stops and starts until the time is over.
    fn rage(&mut self, load: &Load) {
        self.started = Instant::now();
        let (mut next, mut told) = (self.started, self.started);
        while self.started.elapsed() < self.options.time
            && !self.options.stop.load(Ordering::Relaxed)
        {
            self.look(!load.is_paused());
            if Instant::now() >= next {
                let gap = self.random.duration(GAP);
                // Nobody can be spared: soon again.
                let gap = if self.disturb() { gap } else { LOOK };
                if self.random.one_in(SILENCES_ONE_IN) {
                    load.pause(self.random.duration(SILENCE));
                }
                next = Instant::now() + gap;
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                self.tell(load);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Lets everybody come back and work.
    fn calm(&mut self, load: &Load) {
        let start = Instant::now();
        for place in 0..self.actors.len() {
            if let State::Stopped(_) = self.actors[place].state {
                self.actors[place].state = State::Stopped(start);
            }
        }
        let traffic_before = load.received();
        let is_at_work = |storm: &Self| {
            let all = storm.actors.iter().all(Actor::is_in_motion);
            let moved = load
                .received()
                .iter()
                .zip(traffic_before)
                .all(|(now, before)| *now > before + 100);
            all && moved
        };
        while !is_at_work(self) {
            if start.elapsed() > PATIENCE * 3 {
                let states: Vec<_> = self
                    .actors
                    .iter()
                    .map(|actor| format!("{} {:?}", actor.role, actor.state))
                    .collect();
                self.complain(format!(
                    "after the storm not all work again: {}",
                    states.join(", ")
                ));
                self.verdict.wedged += 1;
                return;
            }
            self.look(true);
            std::thread::sleep(LOOK);
        }
    }

    /// One look at everybody: who became ready, stands still, has ended, is due.
    fn look(&mut self, traffic: bool) {
        for place in 0..self.actors.len() {
            self.look_at(place, traffic);
        }
        let server = &self.actors[0];
        self.served = match self.served {
            _ if !server.is_running() => None,
            None => Some(Instant::now()),
            since => since,
        };
    }

    fn look_at(&mut self, place: usize, traffic: bool) {
        let now = Instant::now();
        let each = self.options.queues == Queues::Each;
        let alone = each && self.options.share == Share::Direct;
        let actor = &mut self.actors[place];
        let role = actor.role;
        if actor.has_become_ready() {
            self.verdict.restarted += 1;
            self.journal(place, "ready", "");
            if role == Role::Server {
                self.look_whether_it_is_the_same_group();
            }
        }
        let actor = &mut self.actors[place];
        match actor.state {
            State::Absent(until) if now >= until => {
                if role == Role::Server {
                    let joined =
                        |actor: &Actor| matches!(actor.state, State::Running | State::Stopped(_));
                    self.has_heirs = self.actors.iter().any(joined);
                }
                let command = &mut self.command(role);
                let process = Process::start(command);
                self.actors[place].start(process);
                self.journal(place, "start", "");
                return;
            }
            State::Stopped(until) if now >= until => {
                if self.random.one_in(4) {
                    self.kill(place, "kill of the stopped");
                } else {
                    actor.go_on();
                    self.journal(place, "go on", "");
                }
                return;
            }
            State::Running => {
                let due = traffic
                    && match role {
                        Role::Server => !each,
                        Role::Client(_) => alone || self.served.is_some(),
                    };
                if let Some(pulse) = self.observer.and_then(|observer| actor.pulse(observer)) {
                    let [slept, late] = actor.note(pulse, due);
                    self.verdict.sleeps += slept;
                    self.verdict.late += late;
                    let actor = &self.actors[place];
                    // Who was stopped did not stall.
                    if !actor.was_stopped && pulse.stall_ns > self.stall_ns() {
                        self.verdict.stall = Duration::from_nanos(pulse.stall_ns);
                        let ms = self.verdict.stall.as_millis();
                        self.journal(place, "stall", &format!("of {ms} ms, the longest so far"));
                    }
                }
            }
            _ => {}
        }
        if self.actors[place].stands_still(self.served).is_some() {
            // While it is as it is: it is about to be killed.
            let picture = audit::picture(|subcommand| self.tool(subcommand));
            self.journal(place, "picture", &picture);
        }
        let found = self.actors[place].find_fault(self.served, &self.logs);
        if let Some((fault, why)) = found {
            self.blame(place, fault, &why);
        }
    }

    fn stall_ns(&self) -> u64 {
        u64::try_from(self.verdict.stall.as_nanos()).unwrap_or(u64::MAX)
    }

    fn blame(&mut self, place: usize, fault: Fault, why: &str) {
        self.journal(place, &format!("{fault:?}"), why);
        let count = match fault {
            Fault::Crashed => &mut self.verdict.crashed,
            Fault::Quit => &mut self.verdict.quit,
            Fault::Refused => &mut self.verdict.refused,
            Fault::Wedged => &mut self.verdict.wedged,
        };
        *count += 1;
        if fault != Fault::Refused {
            let role = self.actors[place].role;
            self.complain(format!("{role} {fault:?}: {why}"));
        }
    }

    /// A primary that starts while secondaries live takes their group over and makes no new one.
    fn look_whether_it_is_the_same_group(&mut self) {
        let Some(before) = self.observer else { return };
        match Observer::open(Some(self.dir.path()), &self.prefix) {
            Ok(now) if now.region().info().nonce == before.region().info().nonce => {}
            Ok(now) => {
                self.observer = Some(Box::leak(Box::new(now)));
                if self.has_heirs {
                    self.complain("the group was made anew although secondaries lived".to_owned());
                }
            }
            Err(error) => self.complain(format!("the group cannot be looked at: {error}")),
        }
    }

    /// Kills or stops somebody; `false` if nobody can be spared.
    fn disturb(&mut self) -> bool {
        let young = self.random.one_in(6);
        let can_go = |actor: &Actor| {
            actor.is_in_motion()
                || young
                    && actor.state == State::Starting
                    && actor.age() < Duration::from_millis(100)
        };
        // One secondary is always left: where nobody lives, there is nothing to take over.
        let others_work = |place: usize| {
            let others = self.actors.iter().enumerate().skip(1);
            others
                .filter(|(other, actor)| *other != place && actor.is_running())
                .count()
                > 0
        };
        let candidates: Vec<_> = (0..self.actors.len())
            .filter(|place| can_go(&self.actors[*place]) && others_work(*place))
            .collect();
        let Some(place) = self.random.choose(&candidates) else {
            return false;
        };
        if self.actors[place].is_running() && self.random.one_in(STOPS_ONE_IN) {
            let time = self.random.duration(STOP);
            self.actors[place].stop_for(time);
            self.verdict.stops += 1;
            self.journal(place, "stop", &format!("for {} ms", time.as_millis()));
        } else {
            self.kill(place, "kill");
        }
        true
    }

    fn kill(&mut self, place: usize, what: &str) {
        let age = format!(
            "{:?}, {} ms",
            self.actors[place].state,
            self.actors[place].age().as_millis()
        );
        self.journal(place, what, &age);
        let absence = self.random.duration(ABSENCE);
        let start = Instant::now();
        let slow = self.actors[place].kill(absence, &self.logs);
        // Until the kernel lets go of its lock it is not dead, and nobody takes its place: what it carried for others stands.
        let took = start.elapsed();
        self.actors.iter_mut().for_each(|actor| actor.forgive(took));
        self.verdict.kills += 1;
        if let Some(slow) = slow {
            eprintln!("storm: {} {slow}", self.actors[place].role);
            self.journal(place, "dying", &slow);
        }
    }

    fn journal(&mut self, place: usize, what: &str, how: &str) {
        let at = self.started.elapsed().as_secs_f64();
        let Actor { role, instance, .. } = &self.actors[place];
        let pid = self.actors[place].pid();
        // A journal that cannot be written is missed when it is looked for.
        let _ = writeln!(
            self.journal,
            "{at:9.3} {what:8} {role} instance {instance}, process {pid} {how}"
        );
    }

    fn complain(&mut self, complaint: String) {
        let at = self.started.elapsed().as_secs_f64();
        eprintln!("storm: {complaint}");
        let _ = writeln!(self.journal, "{at:9.3} WRONG    {complaint}");
        self.verdict.complaints.push(complaint);
    }

    fn tell(&self, load: &Load) {
        let tally = load.tally();
        let Verdict {
            kills,
            stops,
            restarted,
            wedged,
            ..
        } = &self.verdict;
        let here: String = self
            .actors
            .iter()
            .map(|actor| match actor.state {
                State::Running => '+',
                State::Starting => '.',
                State::Stopped(_) => 's',
                State::Absent(_) => '-',
            })
            .collect();
        eprintln!(
            "storm: {:3} s  kills {kills}  stops {stops}  restarted {restarted}  wedged {wedged}  frames {} of {}  tcp {}  [{here}]",
            self.started.elapsed().as_secs(),
            tally.received,
            tally.sent,
            tally.transfers
        );
    }

    fn judge_traffic(&mut self) {
        let Tally {
            corrupt,
            broken,
            notes,
            ..
        } = self.verdict.tally.clone();
        if broken > 0 {
            eprintln!("storm: {broken} TCP transfers broke off: {notes:?}");
        }
        self.verdict.corrupt = corrupt;
        if corrupt > 0 {
            self.complain(format!("{corrupt} arrived damaged: {notes:?}"));
        }
        if self.verdict.tally.received == 0 {
            self.complain("no frame arrived".to_owned());
        }
    }

    /// Ends everybody and counts all buffers: while all live, and when all are gone.
    fn wind_up(&mut self) {
        let living = self.audit(false);
        self.report("while all live", &living);
        for place in (1..self.actors.len()).rev() {
            self.end(place);
        }
        // Somebody has to map the group when its last process ends, or its memory goes with that.
        let mut sitter = guest::invite(&self.prefix, self.dir.path(), false);
        let without_clients = self.audit(false);
        self.end(0);
        let last = self.audit(true);
        self.report("when all are gone", &last);
        if living.is_clean() && !without_clients.is_clean() {
            self.report("without the clients", &without_clients);
        }
        self.verdict.leaked = last.leaked.max(living.leaked);
        self.verdict.double = last.double.max(living.double);
        if last.is_clean() && last.outside > 0 {
            self.complain(format!(
                "{} buffers are not in their pool although nobody is left\n{}",
                last.outside, last.text
            ));
            self.verdict.leaked += last.outside;
        }
        if !self.verdict.is_good() {
            self.keep_region();
        }
        if !sitter.is_alive() {
            self.complain("the onlooker ended".to_owned());
        }
        drop(sitter.kill());
        self.clean_up();
    }

    /// Lets the checker look until it is content, or the last sweep must be over.
    fn audit(&self, is_final: bool) -> Audit {
        let start = Instant::now();
        loop {
            let audit = Audit::take(&mut self.tool("check"));
            let is_over = is_final || start.elapsed() > SETTLE;
            if audit.is_clean() || is_over {
                return audit;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn report(&mut self, when: &str, audit: &Audit) {
        let Audit {
            count,
            leaked,
            double,
            other,
            text,
            ..
        } = audit;
        let _ = writeln!(self.journal, "== forebay check {when}\n{text}");
        if !audit.is_clean() {
            self.complain(format!(
                "forebay check {when}: {leaked} of {count} buffers leaked, {double} in several places, {other} other faults"
            ));
        }
    }

    fn end(&mut self, place: usize) {
        let role = self.actors[place].role;
        match self.actors[place].end(&self.logs) {
            // Nobody is there: that has been told.
            None => {}
            Some(ended) if ended.status.code() == Some(0) => {}
            Some(ended) => {
                self.verdict.wedged += u64::from(ended.status.signal().is_some());
                self.complain(format!(
                    "{role} does not end in order when it is asked to: {ended}"
                ));
            }
        }
    }

    /// Copies the region's files to where the logs are.
    fn keep_region(&mut self) {
        self.verdict.kept.push(self.logs.clone());
        let files = self
            .observer
            .and_then(|observer| observer.region().info().files);
        for file in files
            .into_iter()
            .flat_map(|(control, data)| [control, data])
        {
            let Some(name) = file.file_name() else {
                continue;
            };
            if let Err(error) = fs::copy(&file, self.logs.join(name)) {
                eprintln!("storm: cannot keep {}: {error}", file.display());
            }
        }
    }

    fn clean_up(&mut self) {
        let ended = Process::run(&mut self.tool("clean"));
        if !ended.status.success() {
            self.complain(format!("forebay clean: {ended}"));
        }
        let left = Leftovers::of(&self.prefix, self.dir.path());
        if !left.is_empty() {
            self.complain(format!("left behind: {left:?}"));
        }
    }
}

impl Drop for Storm<'_> {
    fn drop(&mut self) {
        // Processes first: they would go on writing.
        self.actors.clear();
        for file in Leftovers::of(&self.prefix, self.dir.path()).files() {
            let _ = fs::remove_file(file);
        }
    }
}
