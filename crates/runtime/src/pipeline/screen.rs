//! What the server shows: ports and clients, rates and totals, once an interval.
//!
//! It only reads counters, on a thread of its own: the server's second lcore where it has one.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use eal::{Eal, LcoreHandle, Owner, Region};
use ethdev::{PortId, Ports, QueueStats};
use mbuf::Pool;
use ring::Ring;
use serde::Serialize;

use super::args::ServerArgs;
use super::ring_name;
use super::stats::PortInfo;

/// How long its end is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often we look whether it has ended.
const STEP: Duration = Duration::from_millis(20);

/// The thread that shows.
pub(super) struct Screen {
    thread: Runs,
    /// Closed to end it: it sleeps in between.
    stop: mpsc::Sender<()>,
}

/// What it runs on.
enum Runs {
    Lcore(LcoreHandle<anyhow::Result<()>>),
    Thread(thread::JoinHandle<anyhow::Result<()>>),
}

impl Screen {
    /// Ends it, and waits for that; not for ever, since whoever reads what it prints may stand still.
    pub(super) fn wait(self) -> anyhow::Result<()> {
        let Self { thread, stop } = self;
        drop(stop);
        let deadline = Instant::now() + PATIENCE;
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(STEP);
        }
        match thread {
            _ if !thread.is_finished() => {
                tracing::warn!("nobody reads what the screen prints; leaving it");
                Ok(())
            }
            Runs::Lcore(handle) => handle.wait()?,
            Runs::Thread(thread) => thread
                .join()
                .unwrap_or_else(|_| anyhow::bail!("the screen's thread panicked")),
        }
    }
}

impl Runs {
    fn is_finished(&self) -> bool {
        match self {
            Self::Lcore(handle) => handle.is_finished(),
            Self::Thread(thread) => thread.is_finished(),
        }
    }
}

/// Starts the thread.
pub(super) fn start(eal: &Eal, ports: &Ports, args: &ServerArgs) -> anyhow::Result<Screen> {
    let region = eal.region();
    let (args, ports) = (args.clone(), ports.clone());
    let (stop, stopped) = mpsc::channel();
    let show = move || show((region, &ports), &args, &stopped);
    let thread = match eal.worker_lcores().first() {
        Some(lcore) => Runs::Lcore(eal.launch(*lcore, show)?),
        None => Runs::Thread(
            thread::Builder::new()
                .name("screen".to_owned())
                .spawn(show)?,
        ),
    };
    Ok(Screen { thread, stop })
}

fn show(
    (region, ports): (&'static Region, &Ports),
    args: &ServerArgs,
    stopped: &mpsc::Receiver<()>,
) -> anyhow::Result<()> {
    if args.quiet {
        // Nothing to show: until the end.
        let _ = stopped.recv();
        return Ok(());
    }
    let info = PortInfo::lookup(region)?;
    let mut before = Sample::take(region, ports, info);
    let mut due = Instant::now() + args.interval;
    loop {
        let left = due.saturating_duration_since(Instant::now());
        let is_last = stopped.recv_timeout(left) != Err(mpsc::RecvTimeoutError::Timeout);
        let now = Sample::take(region, ports, info);
        let shown = if args.json {
            print(&(serde_json::to_string(&now)? + "\n"))
        } else {
            print(&now.table(&before))
        };
        match shown {
            // Nobody looks any more; the packets go on.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            shown => shown?,
        }
        if is_last {
            return Ok(());
        }
        before = now;
        due += args.interval;
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        // Home, and erase what is below.
        out.write_all(b"\x1b[H\x1b[J")?;
    }
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// All counters at one time; its JSON form is what `--json` prints.
#[derive(Debug, Serialize)]
struct Sample {
    /// Seconds since 1970.
    time: f64,
    ports: Vec<PortSample>,
    clients: Vec<ClientSample>,
    pools: Vec<PoolSample>,
    #[serde(skip)]
    at: Instant,
}

#[derive(Debug, Serialize)]
struct PortSample {
    port: u16,
    rx_packets: u64,
    rx_segments: u64,
    /// What the kernel dropped since nobody read its queue in time.
    rx_missed: u64,
    /// What was received and dropped: no buffer, too long, malformed.
    rx_drop: u64,
    no_client: u64,
    tx_packets: u64,
    tx_segments: u64,
    tx_drop: u64,
}

#[derive(Debug, Serialize)]
struct ClientSample {
    client: u32,
    present: bool,
    rx: u64,
    rx_segments: u64,
    rx_drop: u64,
    ring_fill: usize,
    ring_size: u32,
    rx_port: Vec<u64>,
    rx_port_segments: Vec<u64>,
    tx: Vec<u64>,
    tx_segments: Vec<u64>,
    tx_drop: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct PoolSample {
    name: String,
    count: u32,
    in_use: u32,
}

impl Sample {
    fn take(region: &'static Region, devices: &Ports, info: PortInfo<'static>) -> Self {
        let ports = info.ports();
        let clients: Vec<_> = (0..info.clients())
            .map(|id| ClientSample::take(region, info, id, ports.len()))
            .collect();
        let sum = |column: usize, of: fn(&ClientSample) -> &Vec<u64>| {
            wrapping_sum(clients.iter().map(|client| of(client)[column]))
        };
        let ports = ports.iter().enumerate().map(|(column, port)| {
            let counters = info.port(column);
            // Whoever reads a queue, the server or a client, counts there.
            let device = devices.port(PortId(*port)).map(|port| port.stats().rx);
            let of = |count: fn(&QueueStats) -> u64| device.as_ref().map_or(0, count);
            PortSample {
                port: *port,
                rx_packets: of(|rx| rx.packets),
                rx_segments: of(|rx| rx.segments),
                rx_missed: of(|rx| rx.missed),
                rx_drop: of(|rx| wrapping_sum(rx.drops.iter().copied())),
                no_client: counters.no_client.get(),
                tx_packets: sum(column, |client| &client.tx),
                tx_segments: sum(column, |client| &client.tx_segments),
                tx_drop: sum(column, |client| &client.tx_drop),
            }
        });
        let ports = ports.collect();
        let pools = Pool::all(region).map(|pool| PoolSample {
            name: pool.name().to_string(),
            count: pool.count(),
            in_use: pool.in_use(),
        });
        Self {
            time: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0.0, |time| time.as_secs_f64()),
            ports,
            clients,
            pools: pools.collect(),
            at: Instant::now(),
        }
    }

    /// The screen: totals, and rates since `before`.
    fn table(&self, before: &Self) -> String {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(1e-3);
        let rate = |now: u64, then: u64| thousands(per_second(now.saturating_sub(then), seconds));
        let mut text = String::new();
        // Writing to a `String` does not fail.
        let _ = writeln!(
            text,
            "PORT {:>14} {:>11} {:>14} {:>11} {:>14} {:>9} {:>9} {:>9} {:>9}",
            "RX", "RX/S", "TX", "TX/S", "TX SEGMENTS", "TX DROP", "NOBODY", "MISSED", "RX DROP"
        );
        for (port, old) in self.ports.iter().zip(&before.ports) {
            let _ = writeln!(
                text,
                "{:>4} {:>14} {:>11} {:>14} {:>11} {:>14} {:>9} {:>9} {:>9} {:>9}",
                port.port,
                thousands(port.rx_packets),
                rate(port.rx_packets, old.rx_packets),
                thousands(port.tx_packets),
                rate(port.tx_packets, old.tx_packets),
                thousands(port.tx_segments),
                thousands(port.tx_drop),
                thousands(port.no_client),
                thousands(port.rx_missed),
                thousands(port.rx_drop),
            );
        }
        let _ = writeln!(
            text,
            "\nCLIENT {:>9} {:>14} {:>11} {:>9} {:>14} {:>11} {:>9}",
            "RING", "RX", "RX/S", "RX DROP", "TX", "TX/S", "TX DROP"
        );
        let total = |counts: &[u64]| wrapping_sum(counts.iter().copied());
        for (client, old) in self.clients.iter().zip(&before.clients) {
            let received = |client: &ClientSample| client.rx.max(total(&client.rx_port));
            let _ = writeln!(
                text,
                "{:>6} {:>9} {:>14} {:>11} {:>9} {:>14} {:>11} {:>9}",
                client.client,
                if client.present {
                    format!("{}/{}", client.ring_fill, client.ring_size)
                } else {
                    "absent".to_owned()
                },
                thousands(received(client)),
                rate(received(client), received(old)),
                thousands(client.rx_drop),
                thousands(total(&client.tx)),
                rate(total(&client.tx), total(&old.tx)),
                thousands(total(&client.tx_drop)),
            );
        }
        let _ = writeln!(text, "\nPOOL                       IN USE      COUNT");
        for pool in &self.pools {
            let _ = writeln!(
                text,
                "{:<22} {:>10} {:>10}",
                pool.name,
                thousands(pool.in_use.into()),
                thousands(pool.count.into())
            );
        }
        text.push('\n');
        text
    }
}

impl ClientSample {
    fn take(region: &'static Region, info: PortInfo<'static>, id: u32, ports: usize) -> Self {
        let owner = Owner::from_bits(info.client(id).owner.load(Ordering::Relaxed));
        let ring = Ring::lookup(region, &ring_name(id)).ok();
        let (counters, own) = (info.ring(id), info.client(id));
        let values = |table: &[eal::counters::Counter]| {
            table
                .iter()
                .take(ports)
                .map(eal::counters::Counter::get)
                .collect::<Vec<_>>()
        };
        Self {
            client: id,
            present: region.owner_alive(owner),
            rx: counters.rx.get(),
            rx_segments: counters.rx_segments.get(),
            rx_drop: counters.rx_drop.get(),
            ring_fill: ring.map_or(0, |ring| ring.len()),
            ring_size: ring.map_or(0, |ring| ring.size()),
            rx_port: values(own.rx),
            rx_port_segments: values(own.rx_segments),
            tx: values(own.tx),
            tx_segments: values(own.tx_segments),
            tx_drop: values(own.tx_drop),
        }
    }
}

/// A sum of what lies in shared memory, where anything may lie.
fn wrapping_sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::wrapping_add)
}

fn per_second(count: u64, seconds: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rate to be read by people"
    )]
    {
        (count as f64 / seconds) as u64
    }
}

/// `1234567` as `1,234,567`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits"))
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_from_the_right() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }
}
