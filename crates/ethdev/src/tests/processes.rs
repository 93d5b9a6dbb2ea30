//! Whole processes, killed: what they have of each other goes over the group's control socket.
//!
//! A process is this test binary, told by its environment to run one test alone, which does what the environment says.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::takeover::{Seen, Wire, datagram};
use super::*;

const ROLE: &str = "FOREBAY_TEST_PORTS_ROLE";
const PLACE: &str = "FOREBAY_TEST_PORTS_PLACE";
const COUNT: u32 = 30_000;
/// A ring with blocks enough for a receiver that waits for a core for a second.
const VDEV: &str = "net_af_packet0,iface=a0,blocksz=16384,framecnt=8192";

/// What another process does: not a test of its own.
#[test]
fn other_process() {
    let (Ok(role), Ok(place)) = (std::env::var(ROLE), std::env::var(PLACE)) else {
        return;
    };
    let runtime = format!("--runtime-dir={place}");
    let (kind, vdev) = (format!("--proc-type={role}"), format!("--vdev={VDEV}"));
    let mut args = vec!["test", "--no-huge", "-m", "16", &runtime, &kind];
    if role == "primary" {
        args.push(&vdev);
    }
    let args = args.into_iter().map(ToOwned::to_owned);
    let eal = eal::Eal::init(eal::EalArgs::parse(args).unwrap().0).unwrap();
    let ports = Ports::probe(&eal).unwrap();
    if role == "primary" {
        primary(eal, &ports);
    } else {
        secondary(&eal, &ports);
    }
}

fn primary(eal: eal::Eal, ports: &Ports) {
    let config = PoolConfig::new("packets", 2048);
    let pool = Pool::create_or_lookup(eal.region(), &config).unwrap();
    let port = first(ports);
    let adopted = port.is_adopted();
    let offered = eal.control().offered("port/0/rx/0").is_some();
    port.configure(2, 1, &PortConfig::default()).unwrap();
    for queue in [0, 1].map(QueueId) {
        port.rx_queue_setup(queue, 0, pool).unwrap();
    }
    port.tx_queue_setup(QueueId(0), 0).unwrap();
    port.start().unwrap();
    say(match (adopted, offered) {
        (true, true) => "adopted what was offered",
        (true, false) => "adopted, and nothing was offered",
        (false, _) => "opened",
    });
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    port.leave().unwrap();
    eal.cleanup().unwrap();
}

fn secondary(eal: &eal::Eal, ports: &Ports) {
    let lcore = Lcore::new(eal.claim_slot("secondary").unwrap());
    let mut ends = [0, 1].map(|queue| rx(first(ports), queue, &lcore));
    say("receives");
    let (seen, stop) = (Seen::new(COUNT), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).unwrap();
            stop.store(true, Ordering::Relaxed);
        });
        let mut last = Instant::now();
        while !stop.load(Ordering::Relaxed) || last.elapsed() < Duration::from_millis(50) {
            for end in &mut ends {
                if seen.take(&lcore, end) > 0 {
                    last = Instant::now();
                }
            }
        }
    });
    let missed = first(ports).stats().rx.missed;
    say(&format!("{} {missed} {}", seen.count(), seen.doubled()));
}

/// A line for the one who started us.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n>{text}").unwrap();
    out.flush().unwrap();
}

/// A process, killed when dropped.
struct Process {
    child: Child,
    lines: BufReader<ChildStdout>,
    input: ChildStdin,
}

impl Process {
    fn start(wire: &Wire, place: &Path, role: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "tests::processes::other_process",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(ROLE, role)
            .env(PLACE, place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = wire.near.command(&mut command).unwrap().spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let input = child.stdin.take().unwrap();
        Self {
            child,
            lines,
            input,
        }
    }

    /// What it says next.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let len = self.lines.read_line(&mut line).unwrap();
            assert_ne!(len, 0, "the process ended without a word");
            if let Some(text) = line.strip_prefix('>') {
                return text.trim_end().to_owned();
            }
        }
    }

    fn tell(&mut self) {
        writeln!(self.input, "go on").unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn primaries_are_killed_and_leave_and_a_secondary_receives_all_the_time() {
    lab::isolated!({
        let wire = Wire::new();
        let dir = tempfile::tempdir().unwrap();
        let mut primary = Process::start(&wire, dir.path(), "primary");
        assert_eq!(primary.hear(), "opened");
        let mut secondary = Process::start(&wire, dir.path(), "secondary");
        assert_eq!(secondary.hear(), "receives");
        let sent = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..COUNT {
                    wire.sender.send(&datagram(number)).unwrap();
                    if number % 100 == 99 {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
                sent.store(true, Ordering::Relaxed);
            });
            for round in 0..4 {
                // Each with frames on their way before it, while nobody is there, and after it.
                std::thread::sleep(Duration::from_millis(50));
                if round % 2 == 0 {
                    primary.child.kill().unwrap();
                } else {
                    primary.tell();
                }
                primary.child.wait().unwrap();
                std::thread::sleep(Duration::from_millis(50));
                primary = Process::start(&wire, dir.path(), "primary");
                assert_eq!(primary.hear(), "adopted what was offered", "{round}");
            }
            assert!(!sent.load(Ordering::Relaxed), "nothing was sent meanwhile");
        });
        std::thread::sleep(Duration::from_millis(100));
        secondary.tell();
        let said = secondary.hear();
        let said: Vec<&str> = said.split(' ').collect();
        let [seen, missed] = [said[0], said[1]].map(|text| text.parse::<u32>().unwrap());
        assert_eq!((seen + missed, said[2]), (COUNT, "0"));
        assert!(missed < COUNT / 10, "{missed}");
    });
}
