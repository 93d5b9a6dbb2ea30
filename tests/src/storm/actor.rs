//! One place of the group, and the processes that fill it one after the other.
//!
//! ```text
//!            start          "ready:"            SIGSTOP
//!  Absent ---------> Starting -------> Running ---------> Stopped
//!     ^                 |                 |   <---------     |
//!     |                 | ends by itself  |    SIGCONT       |
//!     +-----------------+-----------------+------------------+
//!                                   SIGKILL
//! ```
//!
//! Whether a running process works is seen from outside: its heartbeat and its packets in shared memory, which the storm maps
//! read-only.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use forebay::eal::process::{SlotRecord, SlotState};
use forebay::eal::{Observer, Region};
use forebay::pipeline::stats::PortInfo;
use lab::Signal;

use crate::{Ended, Process};

/// Within what a process must be ready, and a surviving one make progress again.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long a killed process may be gone about dying before it is told what the kernel does there, and before that is an error
/// of the machine.
const SLOW_DEATH: Duration = Duration::from_millis(500);
const DYING_MAX: Duration = Duration::from_secs(60);

/// Which place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The primary.
    Server,
    /// A secondary, by its number.
    Client(u32),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.pad("server"),
            Self::Client(id) => f.pad(&format!("client{id}")),
        }
    }
}

/// What a place is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody is there until then.
    Absent(Instant),
    /// Started, not ready.
    Starting,
    /// Ready.
    Running,
    /// Stopped until then; then it goes on, or is killed.
    Stopped(Instant),
}

/// How a process ended that nobody killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It panicked, or died of a signal of its own making.
    Crashed,
    /// It was at work, and ended.
    Quit,
    /// It could not start, said why, and may be started again.
    Refused,
    /// It stood still for [`PATIENCE`].
    Wedged,
}

/// One place of the group.
#[derive(Debug)]
pub struct Actor {
    /// Which place.
    pub role: Role,
    /// What it is doing.
    pub state: State,
    /// How many processes filled it so far.
    pub instance: u32,
    /// Whether the present process was stopped for a while.
    pub was_stopped: bool,
    process: Option<Process>,
    /// When the present process was started, or went on after a stop.
    since: Instant,
    /// Since when the place is to be filled, however many attempts that takes.
    wanted: Instant,
    beat: Beat,
}

/// What is known of a running process's progress.
#[derive(Debug, Clone, Copy)]
struct Beat {
    loops: u64,
    packets: u64,
    /// When each was last seen to change, or to be excused.
    loops_at: Instant,
    packets_at: Instant,
    /// Of its sleeps.
    sleeps: u64,
    late: u64,
}

/// What the heartbeat of one look said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pulse {
    /// Turns of the loop.
    pub loops: u64,
    /// Packets that went through.
    pub packets: u64,
    /// The longest turn so far, in nanoseconds.
    pub stall_ns: u64,
    /// Times that its loop slept.
    pub sleeps: u64,
    /// Times that it slept on over work.
    pub late: u64,
}

impl Actor {
    /// A place to be filled now.
    pub fn new(role: Role) -> Self {
        let now = Instant::now();
        Self {
            role,
            state: State::Absent(now),
            instance: 0,
            was_stopped: false,
            process: None,
            since: now,
            wanted: now,
            beat: Beat {
                loops: 0,
                packets: 0,
                loops_at: now,
                packets_at: now,
                sleeps: 0,
                late: 0,
            },
        }
    }

    /// Puts a process into the place.
    pub fn start(&mut self, process: Process) {
        self.instance += 1;
        self.process = Some(process);
        self.since = Instant::now();
        self.state = State::Starting;
        self.was_stopped = false;
    }

    /// Its process id, 0 if there is none.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::pid)
    }

    /// How long the present process is there, or goes on after a stop.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether it is at work.
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// Whether it has worked since it was started, or went on, and is not hesitating now. Only such a one may be killed: a
    /// kill would hide that it stands still.
    pub fn is_in_motion(&self) -> bool {
        let idle = self
            .beat
            .loops_at
            .elapsed()
            .max(self.beat.packets_at.elapsed());
        self.is_running() && self.beat.loops > 0 && idle < Duration::from_millis(500)
    }

    /// Looks whether it said that it is ready; true once.
    pub fn has_become_ready(&mut self) -> bool {
        let said = |process: &Process| {
            process
                .stderr()
                .iter()
                .any(|line| line.starts_with("ready:"))
        };
        if self.state != State::Starting || !self.process.as_ref().is_some_and(said) {
            return false;
        }
        self.state = State::Running;
        self.since = Instant::now();
        self.beat = Beat {
            loops: 0,
            packets: 0,
            loops_at: self.since,
            packets_at: self.since,
            sleeps: 0,
            late: 0,
        };
        true
    }

    /// Kills it, and says so if the kernel takes its time. It comes back after `absence`.
    pub fn kill(&mut self, absence: Duration, logs: &Path) -> Option<String> {
        let mut slow = None;
        if let Some(mut process) = self.process.take() {
            let (pid, start) = (process.pid(), Instant::now());
            process.signal(Signal::KILL);
            while process.is_alive() && start.elapsed() < DYING_MAX {
                if slow.is_none() && start.elapsed() > SLOW_DEATH {
                    slow = Some(threads(pid));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            let took = start.elapsed().as_millis();
            slow = slow.map(|what| format!("took {took} ms to die; after a while: {what}"));
            self.log(logs, pid, "killed", &process.kill());
        }
        self.wanted = Instant::now() + absence;
        self.state = State::Absent(self.wanted);
        slow
    }

    /// Stops it for so long.
    pub fn stop_for(&mut self, time: Duration) {
        self.signal(Signal::STOP);
        self.was_stopped = true;
        self.state = State::Stopped(Instant::now() + time);
    }

    /// Lets it go on.
    pub fn go_on(&mut self) {
        self.signal(Signal::CONT);
        self.state = State::Running;
        self.since = Instant::now();
        self.beat.loops_at = self.since;
        self.beat.packets_at = self.since;
    }

    /// Does not hold a time against it in which no packet could go through it.
    pub fn forgive(&mut self, time: Duration) {
        self.beat.packets_at = (self.beat.packets_at + time).min(Instant::now());
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            process.signal(signal);
        }
    }

    /// Asks whoever is there to end, and says how it did. One that does not end in time is killed.
    pub fn end(&mut self, logs: &Path) -> Option<Ended> {
        // The other way round a stopped process would do some more work in between.
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
        let mut process = self.process.take()?;
        self.state = State::Absent(Instant::now());
        let (start, pid) = (Instant::now(), process.pid());
        while process.is_alive() {
            if start.elapsed() > PATIENCE {
                let killed = process.kill();
                self.log(logs, pid, "did not end, killed", &killed);
                return Some(killed);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let ended = process.wait();
        self.log(logs, pid, "asked to end", &ended);
        Some(ended)
    }

    /// Looks whether it ended by itself, or stands still. `served` says since when a server is at work. Such a one is taken
    /// away; the place is to be filled again.
    pub fn find_fault(&mut self, served: Option<Instant>, logs: &Path) -> Option<(Fault, String)> {
        let process = self.process.as_mut()?;
        if !process.is_alive() {
            let process = self.process.take()?;
            let (pid, ended) = (process.pid(), process.wait());
            let last = ended.stderr.last().cloned().unwrap_or_default();
            let fault = match (ended.has_crashed(), self.state) {
                (true, _) => Fault::Crashed,
                (false, State::Starting) => Fault::Refused,
                (false, _) => Fault::Quit,
            };
            self.log(logs, pid, "ended by itself", &ended);
            let now = Instant::now();
            if fault != Fault::Refused {
                self.wanted = now;
            }
            // A little later: what refused it is still going on.
            self.state = State::Absent(now + Duration::from_millis(20));
            return Some((fault, format!("{}: {last}", ended.status)));
        }
        let pid = process.pid();
        let why = format!("{}; {}", self.stands_still(served)?, threads(pid));
        let slow = self.kill(Duration::ZERO, logs).unwrap_or_default();
        let why = format!("{why} {slow}");
        Some((Fault::Wedged, why))
    }

    /// In what way whoever is there has gone on for too long without moving.
    pub fn stands_still(&self, served: Option<Instant>) -> Option<&'static str> {
        match self.state {
            State::Running if self.beat.loops_at.elapsed() > PATIENCE => {
                Some("its loop stands still")
            }
            State::Running if self.beat.packets_at.elapsed() > PATIENCE => {
                Some("no packet goes through it")
            }
            State::Starting if self.has_waited_too_long(served) => Some("it does not become ready"),
            _ => None,
        }
    }

    /// A client cannot be blamed while there is no server.
    fn has_waited_too_long(&self, served: Option<Instant>) -> bool {
        let since = match self.role {
            Role::Server => Some(self.wanted),
            Role::Client(_) => served.map(|served| served.max(self.wanted)),
        };
        since.is_some_and(|since| since.elapsed() > PATIENCE)
    }

    /// Takes note of the heartbeat, and returns how often it slept since the last time, and slept on over work. `traffic` says
    /// whether packets are due at it.
    pub fn note(&mut self, pulse: Pulse, traffic: bool) -> [u64; 2] {
        let now = Instant::now();
        if pulse.loops != self.beat.loops {
            (self.beat.loops, self.beat.loops_at) = (pulse.loops, now);
        }
        if pulse.packets != self.beat.packets || !traffic {
            (self.beat.packets, self.beat.packets_at) = (pulse.packets, now);
        }
        let slept = pulse.sleeps.saturating_sub(self.beat.sleeps);
        let late = pulse.late.saturating_sub(self.beat.late);
        (self.beat.sleeps, self.beat.late) = (pulse.sleeps, pulse.late);
        [slept, late]
    }

    /// Reads the heartbeat of the process that is there.
    pub fn pulse(&self, observer: &'static Observer) -> Option<Pulse> {
        let region = observer.region();
        let (record, packets) = match self.role {
            Role::Server => (self.slot(region, "server")?, received(region)),
            Role::Client(id) => (
                self.slot(region, &format!("client {id}"))?,
                sent(region, id),
            ),
        };
        Some(Pulse {
            loops: record.run.loops.get(),
            packets: packets.unwrap_or(0),
            stall_ns: record.run.stall_ns.get(),
            sleeps: record.run.sleeps.get(),
            late: record.run.late.get(),
        })
    }

    fn slot<'r>(&self, region: &'r Region, name: &str) -> Option<&'r SlotRecord> {
        let pid = self.pid();
        let is_it = |record: &&SlotRecord| {
            record.pid() == pid && record.state().0 == SlotState::Live && record.name() == name
        };
        region.slots().iter().find(is_it)
    }

    /// Keeps what a process said.
    fn log(&self, logs: &Path, pid: u32, how: &str, ended: &Ended) {
        let path = logs.join(format!("{}.log", self.role));
        let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) else {
            return;
        };
        let instance = self.instance;
        // A log that cannot be written is missed when it is looked for.
        let _ = writeln!(
            file,
            "== instance {instance}, process {pid}: {how}, {}",
            ended.status
        );
        for line in &ended.stderr {
            let _ = writeln!(file, "{line}");
        }
    }
}

/// Packets that the server has read.
fn received(region: &'static Region) -> Option<u64> {
    let info = PortInfo::lookup(region).ok()?;
    let ports = 0..info.ports().len();
    Some(ports.map(|port| info.port(port).rx.get()).sum())
}

/// Packets that a client has passed on, or dropped behind its ring.
fn sent(region: &'static Region, id: u32) -> Option<u64> {
    let counters = PortInfo::lookup(region).ok()?.client(id);
    let tables = [counters.tx, counters.tx_drop];
    Some(
        tables
            .iter()
            .flat_map(|table| table.iter())
            .map(|count| count.get())
            .sum(),
    )
}

/// What the threads of a process are doing, as far as the kernel tells.
fn threads(pid: u32) -> String {
    let read = |path: std::path::PathBuf| fs::read_to_string(path).unwrap_or_default();
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let describe = |task: fs::DirEntry| {
        let path = task.path();
        let (name, place) = (read(path.join("comm")), read(path.join("wchan")));
        let call = read(path.join("syscall"));
        let call = call.split(' ').next().unwrap_or_default().trim().to_owned();
        let stack = read(path.join("stack"));
        let stack: Vec<_> = stack
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .collect();
        format!(
            "{} in {place:?}, system call {call}, {}",
            name.trim(),
            stack.join(" < ")
        )
    };
    tasks.map(describe).collect::<Vec<_>>().join("; ")
}
