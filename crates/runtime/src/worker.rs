//! The worker: one thread that joins queues of ports with a stack.
//!
//! ```text
//!            ┌────────────────────────── a turn ──────────────────────────┐
//!  RX queues ─► rx_burst ─► receive ─► application ─► handle_timeout ─► poll_transmit ─► tx_burst ─► TX queues
//!                              └──────────── Stack ─────────────┘
//! ```
//!
//! The clock (`CLOCK_MONOTONIC`) is read once a turn. What a device does not take waits for the next turn; what then finds the
//! stack's transmit queue full is dropped and counted there, as `transmit_queue_full`.
//!
//! A worker without work sleeps, until a device wakes it or something of the stack's is due.
//!
//! **If a process dies:** all that a worker holds are mbufs with its tag, in hand, in the stack and in the queues of devices: the sweep
//! finds them as it finds those of any slot. The stack lies in private memory and is gone.

use std::time::{Duration, Instant};

use eal::sleep::{Found, Source, WaitSet};
use ethdev::{Capabilities, Port, RxQueue, TxQueue};
use mbuf::{Burst, Lcore, Pool};
use netstack::interface::{InterfaceConfig, Offloads};
use netstack::wire::ethernet::Mac;
use netstack::{Config, InterfaceId, Mbufs, Stack};

use crate::idle::{Idle, Waited};
use crate::pace::Pace;
use crate::stop::Stop;

/// Bursts that a turn takes of one queue: so long the other queues, and the clock, wait.
const RX_BURSTS: usize = 4;
/// How long a worker leaves a device alone that did not take all.
const TX_RETRY: Duration = Duration::from_micros(200);

/// A stack with the queues of its ports, on one lcore.
///
/// # Examples
///
/// A host on a port; what it answers by itself (ARP, ping) needs no application.
///
/// ```
/// use forebay::netstack::{Config, InterfaceConfig, Probing};
/// use forebay::worker::Worker;
/// use forebay::{Eal, EalArgs, Guard, Lcore, Pool, PoolConfig, PortConfig, PortId, Ports, QueueId, Stop};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let prefix = format!("--file-prefix=doc-worker-{}", std::process::id());
/// # let line = ["app", "-l", "0", "--no-huge", "--vdev=net_null0,size=64", &prefix].map(String::from);
/// let (args, _) = EalArgs::parse(line)?;
/// let eal = Eal::init(args)?;
/// let guard = Guard::start(&eal)?;
/// let pool = Pool::create(eal.region(), &PoolConfig::new("host_pool", 8192))?;
/// let ports = Ports::probe(&eal)?;
/// let port = ports.port(PortId(0))?;
/// port.configure(1, 1, &PortConfig::default())?;
/// port.rx_queue_setup(QueueId(0), 1024, pool)?;
/// port.tx_queue_setup(QueueId(0), 1024)?;
/// port.start()?;
///
/// let stop = Stop::on_signals()?;                   // SIGINT and SIGTERM
/// let lcore = Lcore::new(eal.claim_slot("host")?);
/// let mut worker = Worker::new(&lcore, pool, Config::default(), &stop, false);
/// let rx = port.rx_queue(QueueId(0), lcore.owner())?;
/// let tx = port.tx_queue(QueueId(0), lcore.owner())?;
/// let interface = worker.add_port(port, InterfaceConfig::UNTAGGED, vec![rx], tx)?;
/// worker.stack().add_address(interface, "10.0.0.2".parse()?, 24, Probing::None)?;
///
/// # for _ in 0..3 {
/// // while !stop.is_set() {
/// let worked = worker.turn(|stack| {
///     // Read and write sockets of `stack`; `true` if there is more to do at once.
///     false
/// });
/// if !worked {
///     worker.rest();
/// }
/// # }
/// // }
/// for (name, count) in worker.stats() {
///     println!("{name} {count}");
/// }
///
/// drop(worker);                                     // before the lcore that its packets belong to
/// port.close()?;
/// port.reclaim(&lcore);
/// drop((lcore, guard));
/// eal.cleanup()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Worker<'c> {
    lcore: &'c Lcore,
    stack: Stack<Mbufs<'c>>,
    lines: Vec<Line<'c>>,
    idle: Idle<'c>,
    pace: Pace<'static>,
    start: Instant,
    /// When the turn began.
    now: netstack::Instant,
    counts: Counts,
}

/// A port's queues, and what its device has not taken yet.
#[derive(Debug)]
struct Line<'c> {
    port: u16,
    rx: Vec<RxQueue>,
    tx: TxQueue,
    out: Burst<'c>,
}

/// What a worker counts besides its stack and its ports.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    turns: u64,
    rests: u64,
    rx_packets: u64,
    tx_packets: u64,
    tx_waits: u64,
}

impl<'c> Worker<'c> {
    /// A worker without ports, of the thread that has `lcore`. Packets that its stack makes come from `pool`; `busy_poll`: it never
    /// sleeps.
    ///
    /// A [`Config::seed`] of 0 is replaced by one that nobody can foresee.
    #[must_use]
    pub fn new(
        lcore: &'c Lcore,
        pool: Pool,
        mut config: Config,
        stop: &'c Stop,
        busy_poll: bool,
    ) -> Self {
        if config.seed == 0 {
            config.seed = unforeseen();
        }
        Self {
            lcore,
            stack: Stack::new(config, Mbufs::new(lcore, pool)),
            lines: Vec::new(),
            idle: Idle::of_devices(lcore.slot(), busy_poll, stop),
            pace: Pace::new(&lcore.slot().record().run, false),
            start: Instant::now(),
            now: netstack::Instant::ZERO,
            counts: Counts::default(),
        }
    }

    /// Joins a started port, by queues of it, and gives the stack an interface there with the port's address, MTU and offloads.
    /// `vlan`: the tags that it is seen through, the outer one first.
    ///
    /// # Errors
    ///
    /// The stack has no room for another interface.
    pub fn add_port(
        &mut self,
        port: &Port,
        vlan: [Option<u16>; 2],
        rx: Vec<RxQueue>,
        tx: TxQueue,
    ) -> Result<InterfaceId, netstack::Error> {
        let capabilities = port.info().capabilities;
        let tags = vlan.iter().flatten().count();
        let interface = self.stack.add_interface(InterfaceConfig {
            port: port.id().0,
            vlan,
            mac: Mac(port.station().0),
            mtu: ip_mtu(port, tags),
            offloads: Offloads {
                // Twenty bytes that are at hand anyway.
                ip_checksum: false,
                l4_checksum: capabilities.contains(Capabilities::TX_CHECKSUM),
            },
        })?;
        self.lines.push(Line {
            port: port.id().0,
            rx,
            tx,
            out: Burst::new(self.lcore),
        });
        Ok(interface)
    }

    /// The stack, to set up and to look at. Sockets are best used in a [`turn`](Self::turn), which also sends.
    pub fn stack(&mut self) -> &mut Stack<Mbufs<'c>> {
        &mut self.stack
    }

    /// Goes round once: receives, calls the application, lets timers run, sends. Says whether there was anything to do, or is more:
    /// if not, [`rest`](Self::rest).
    ///
    /// `application` says whether it wants to go on at once.
    pub fn turn(&mut self, application: impl FnOnce(&mut Stack<Mbufs<'c>>) -> bool) -> bool {
        self.pace.round();
        self.counts.turns += 1;
        self.now = netstack::Instant::from_nanos(nanos(self.start.elapsed()));
        let received = self.receive();
        let goes_on = application(&mut self.stack);
        if self.stack.next_timeout().is_some_and(|due| due <= self.now) {
            self.stack.handle_timeout(self.now);
        }
        let sent = self.transmit();
        let run = &self.lcore.slot().record().run;
        run.rx.add(received);
        run.tx.add(sent);
        self.counts.rx_packets += received;
        self.counts.tx_packets += sent;
        let worked = received > 0 || sent > 0 || goes_on;
        if worked {
            self.idle.reset();
        }
        worked
    }

    /// Waits for packets, or until something is due: the longer there was nothing to do, the deeper.
    pub fn rest(&mut self) {
        self.rest_at_most(Duration::MAX);
    }

    /// The same for an application that has something to do after `limit`, whether packets come or not.
    pub fn rest_at_most(&mut self, limit: Duration) {
        let due = self.stack.next_timeout();
        let mut limit = due.map_or(limit, |due| limit.min(due.since(self.now)));
        if self.lines.iter().any(|line| !line.out.is_empty()) {
            limit = limit.min(TX_RETRY);
        }
        if self.idle.wait_at_most(&mut Queues(&mut self.lines), limit) == Waited::Asleep {
            self.pace.slept();
            self.counts.rests += 1;
        }
    }

    /// All that was counted here, by name: what the worker did, then what its stack dropped, each reason as `drop_` and its name.
    pub fn stats(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let Counts {
            turns,
            rests,
            rx_packets,
            tx_packets,
            tx_waits,
        } = self.counts;
        let own = [
            ("turns", turns),
            ("rests", rests),
            ("rx_packets", rx_packets),
            ("tx_packets", tx_packets),
            ("tx_waits", tx_waits),
        ];
        let own = own
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count));
        let drops = self.stack.drops().iter();
        own.chain(drops.map(|(name, count)| (format!("drop_{name}"), count)))
    }

    fn receive(&mut self) -> u64 {
        let mut received = 0;
        for line in &mut self.lines {
            for queue in &mut line.rx {
                for _ in 0..RX_BURSTS {
                    let mut burst = Burst::new(self.lcore);
                    let count = queue.rx_burst(self.lcore, &mut burst);
                    received += count as u64;
                    let is_last = burst.room() > 0;
                    // Also without packets: the stack's clock goes by this.
                    self.stack.receive(self.now, line.port, burst.drain());
                    if is_last {
                        break;
                    }
                }
            }
        }
        received
    }

    fn transmit(&mut self) -> u64 {
        let mut sent = 0;
        for line in &mut self.lines {
            loop {
                while line.out.room() > 0
                    && let Some(packet) = self.stack.poll_transmit(line.port)
                {
                    // There is room.
                    let _ = line.out.push(packet);
                }
                if line.out.is_empty() {
                    break;
                }
                sent += line.tx.tx_burst(&mut line.out) as u64;
                if !line.out.is_empty() {
                    self.counts.tx_waits += 1;
                    break;
                }
            }
        }
        sent
    }
}

/// What an IP packet on a port may have: the port's MTU, less the tags that Ethernet's length does not count.
///
/// One tag comes on top of the MTU, as everywhere; a second one takes of it.
fn ip_mtu(port: &Port, tags: usize) -> u16 {
    match tags {
        0 | 1 => port.mtu(),
        _ => port.mtu().saturating_sub(4),
    }
}

/// A number that nobody can foresee.
fn unforeseen() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    // Its keys are the operating system's random bytes.
    RandomState::new().build_hasher().finish()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What a worker waits for.
struct Queues<'a, 'c>(&'a mut [Line<'c>]);

impl Queues<'_, '_> {
    fn all(&self) -> impl Iterator<Item = &RxQueue> {
        self.0.iter().flat_map(|line| &line.rx)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut RxQueue> {
        self.0.iter_mut().flat_map(|line| &mut line.rx)
    }
}

impl Source for Queues<'_, '_> {
    fn must_poll(&self) -> bool {
        self.all().any(RxQueue::must_poll)
    }

    fn sleep_begin(&mut self) {
        self.all_mut().for_each(RxQueue::sleep_begin);
    }

    fn look(&mut self) -> Found {
        let found = self.all_mut().map(RxQueue::look);
        found.max().unwrap_or(Found::Nothing)
    }

    fn sleep_end(&mut self) {
        self.all_mut().for_each(RxQueue::sleep_end);
    }

    fn wait_on<'s>(&'s self, set: &mut WaitSet<'s>) {
        self.all().for_each(|queue| queue.wait_on(set));
    }
}
