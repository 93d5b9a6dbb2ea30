//! Server and client between ports that make and swallow packets: `forebay server` and `forebay client` beside DPDK's
//! `client_server_mp`.
//!
//! The server is on core 0, the client on core 1, no screen. What the client has sent is read from outside, out of the statistics
//! that both programs keep in a zone: ours mapped read-only, DPDK's by a secondary that sleeps meanwhile.
//!
//! When ours have ended, what the server received has to be what was sent, dropped and counted, and left in the ring, to the packet.
//! The example keeps what its server dropped to itself, so of the peer only this is checked: no more was sent and dropped by the
//! client than the server received.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use forebay::eal::Observer;
use forebay::pipeline::stats::PortInfo;

use crate::child::{self, Running, Stream};
use crate::pages::Pages;
use crate::peer::Peers;
use crate::round::Round;

/// After both are there, until the clock runs.
const SETTLE: Duration = Duration::from_millis(300);
/// How long the clock runs.
const WINDOW: Duration = Duration::from_secs(1);
/// The group, of either side.
const PREFIX: &str = "forebay-bench-pipeline";
/// Packets that a client's ring holds, as `forebay server` makes it.
const RING_SIZE: u64 = forebay::pipeline::args::RING_SIZE as u64;
const PORTS: [&str; 2] = ["--vdev=net_null0,size=64", "--vdev=net_null1,size=64"];

/// One round of ours. `scratch` is where the group's files go.
pub(crate) fn ours(scratch: &Path, pages: &Pages) -> Result<Round> {
    let program = std::env::current_exe()?.with_file_name("forebay");
    ensure!(
        program.exists(),
        "{} is missing; `cargo xtask bench` builds it",
        program.display()
    );
    let group = [
        format!("--file-prefix={PREFIX}"),
        format!("--runtime-dir={}", scratch.display()),
    ];
    let mut server = Command::new(&program);
    server
        .args(["server", "-l0"])
        .args(&group)
        .args(pages.ours());
    server.args(PORTS).args(["--", "-p3", "-n1", "--no-screen"]);
    let mut client = Command::new(&program);
    client
        .args(["client", "-l1", "--proc-type=auto"])
        .args(&group);
    client.args(["--", "-n0"]);
    let (server, _) = Running::until(&mut server, Stream::Err, "ready:")?;
    let (client, _) = Running::until(&mut client, Stream::Err, "ready:")?;
    let observer = Observer::open(Some(scratch), PREFIX)?;
    let info = PortInfo::lookup(observer.region())?;
    let sent = || -> u64 {
        info.client(0)
            .tx
            .iter()
            .map(forebay::eal::Counter::get)
            .sum()
    };
    thread::sleep(SETTLE);
    let (start, before) = (Instant::now(), sent());
    thread::sleep(WINDOW);
    let items = sent() - before;
    let seconds = start.elapsed().as_secs_f64();
    let pages = observer.region().info().backing.to_string();
    client.interrupt();
    server.interrupt();
    let balance = Balance::of(info);
    ensure!(
        balance.waiting <= RING_SIZE,
        "{} packets were handed to the client and never taken; its ring holds {RING_SIZE}",
        balance.waiting
    );
    Round {
        items,
        seconds,
        sum: balance.accounted,
        expected: balance.received,
        pages,
        loss: None,
        detail: None,
    }
    .checked()
}

/// Where the packets of a whole run are, once both programs have ended.
#[derive(Debug)]
struct Balance {
    /// By the server, from its ports.
    received: u64,
    /// Sent, dropped and counted by either, or waiting.
    accounted: u64,
    /// Handed to the client and not taken.
    waiting: u64,
}

impl Balance {
    fn of(info: PortInfo<'_>) -> Self {
        let all = |counters: &[forebay::eal::Counter]| -> u64 {
            counters.iter().map(forebay::eal::Counter::get).sum()
        };
        let ports = || (0..PORTS.len()).map(|port| info.port(port));
        let (ring, client) = (info.ring(0), info.client(0));
        let waiting = ring.rx.get().wrapping_sub(all(client.rx));
        let no_client: u64 = ports().map(|port| port.no_client.get()).sum();
        Self {
            received: ports().map(|port| port.rx.get()).sum(),
            accounted: (all(client.tx) + all(client.tx_drop) + ring.rx_drop.get() + no_client)
                .wrapping_add(waiting),
            waiting,
        }
    }
}

/// One round of the peer's.
pub(crate) fn theirs(peers: &Peers, pages: &Pages) -> Result<Round> {
    let group = |role: &str, core: &str| -> Vec<String> {
        let mut eal = vec![core.to_owned(), format!("--file-prefix={PREFIX}")];
        eal.push(format!("--proc-type={role}"));
        eal.extend(pages.peer());
        eal
    };
    let word = "Finished Process Init";
    let mut eal = group("primary", "-l0");
    eal.extend(PORTS.map(str::to_owned));
    let args =
        |args: &[&str]| -> Vec<String> { args.iter().map(|arg| (*arg).to_owned()).collect() };
    let mut server = peers.command("mp_server", &eal, &args(&["-p", "3", "-n", "1"]));
    let mut client = peers.command("mp_client", &group("auto", "-l1"), &args(&["-n", "0"]));
    let (server, _) = Running::until(&mut server, Stream::Err, word)?;
    let (client, _) = Running::until(&mut client, Stream::Err, word)?;
    let times = [SETTLE, WINDOW].map(|time| time.as_millis().to_string());
    let mut totals = peers.command("totals", &group("secondary", "-l1"), &times);
    let out = child::output(&mut totals, SETTLE + WINDOW + Duration::from_secs(20));
    client.interrupt();
    server.interrupt();
    crate::round::parse(&out?).context("no totals")
}
