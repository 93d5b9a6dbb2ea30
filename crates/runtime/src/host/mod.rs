//! A host: all ports of a primary, with addresses of our own on them.
//!
//! What programs that are hosts have in common: the arguments ([`HostArgs`]), opening ports and pool, and taking them down.
//!
//! **If a process dies:** the host is its primary, alone in its group. The next one of that group begins anew.

mod args;
mod told;

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::Context as _;
use eal::{Eal, EalArgs, ProcType};
use ethdev::{DevArgs, PortConfig, PortId, Ports, QueueId};
use mbuf::{Lcore, Pool, PoolConfig, SEGMENTS_MAX};
use netstack::ip::dad::Probing;
use netstack::{Config, Event, Mbufs, Stack};

pub use args::{HostArgs, Ip};
use told::Told;

use crate::guard::Guard;
use crate::stop::Stop;
use crate::words::Usage;
use crate::worker::Worker;

/// Name of the pool that all packets of a host live in.
pub const POOL: &str = "host_pktmbuf_pool";

/// Descriptors of a queue that receives, or as many as its device can have: what comes in 40 ms at a hundred thousand packets a
/// second, for the core may be somebody else's for so long.
const RX_DESCRIPTORS: u32 = 4096;
/// Descriptors of a queue that sends.
const TX_DESCRIPTORS: u32 = 1024;

/// The ports and the memory of a host.
#[derive(Debug)]
pub struct Host {
    eal: Eal,
    guard: Guard,
    ports: Ports,
    pool: Pool,
}

impl Host {
    /// Becomes a primary and opens all ports, a queue each way.
    ///
    /// # Errors
    ///
    /// Arguments that do not go together; whatever keeps a primary from starting or a port from opening.
    pub fn open(mut eal_args: EalArgs, args: &HostArgs) -> anyhow::Result<Self> {
        let present = eal_args.vdevs.len() + eal_args.allow.len();
        if present == 0 {
            return Err(Usage(ethdev::interfaces_hint()).into());
        }
        args.fit(present)?;
        if eal_args.proc_type == ProcType::Secondary {
            return Err(Usage(
                "--proc-type=secondary: a host is the primary of a group of its own; leave --proc-type out"
                    .to_owned(),
            )
            .into());
        }
        eal_args.proc_type = ProcType::Primary;
        // What can be wrong with a port's arguments is told before anything is made.
        for vdev in ethdev::vdevs(&eal_args)? {
            DevArgs::parse(&vdev)?.check(ethdev::DRIVERS)?;
        }
        let pool_config = PoolConfig::new(POOL, pool_count(&Config::default(), present));
        let needed_mb = region_mb(&pool_config)?;
        if eal_args.memory_mb.is_none() && eal_args.socket_mem_mb.is_empty() {
            eal_args.memory_mb = Some(needed_mb);
        }
        let given_mb = eal_args.memory_bytes() >> 20;
        anyhow::ensure!(
            given_mb >= needed_mb,
            "{given_mb} MB are too few for the packets of a host; use -m {needed_mb}"
        );
        let eal = Eal::init(eal_args)?;
        // Before anything is allocated: what the dead left is swept.
        let opened = Guard::start(&eal)
            .map_err(Into::into)
            .and_then(|guard| Ok((guard, open_ports(&eal, &pool_config)?)));
        match opened {
            Ok((guard, (ports, pool))) => {
                let reaped = ports.clone();
                guard.reap_with(move |lcore| reaped.reap(lcore));
                Ok(Self {
                    eal,
                    guard,
                    ports,
                    pool,
                })
            }
            Err(error) => {
                // The error that is told is the first one.
                let _ = eal.cleanup();
                Err(error)
            }
        }
    }

    /// The environment.
    pub fn eal(&self) -> &Eal {
        &self.eal
    }

    /// The ports.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// A worker that has all ports, with the addresses and routes of `args`. Call it on the thread that is to run it.
    ///
    /// # Errors
    ///
    /// A queue is taken, or the stack refuses an address or a route.
    pub fn worker<'c>(
        &self,
        lcore: &'c Lcore,
        args: &HostArgs,
        stop: &'c Stop,
    ) -> anyhow::Result<Worker<'c>> {
        let mut worker = Worker::new(lcore, self.pool, Config::default(), stop, args.busy_poll);
        let probing = if args.no_probe {
            Probing::Announce
        } else {
            Probing::Check
        };
        for port in self.ports.iter() {
            let id = port.id().0;
            let rx = port.rx_queue(QueueId(0), lcore.owner())?;
            let tx = port.tx_queue(QueueId(0), lcore.owner())?;
            let interface = worker.add_port(port, args.vlan(id), vec![rx], tx)?;
            for ip in args.ips.iter().filter(|ip| ip.port == id) {
                let added =
                    worker
                        .stack()
                        .add_address(interface, ip.address, ip.prefix_len, probing);
                added.with_context(|| format!("--ip {ip}"))?;
            }
        }
        for gateway in &args.gateways {
            let any = if gateway.is_ipv4() {
                [0; 4].into()
            } else {
                [0; 16].into()
            };
            let added = worker.stack().add_route(any, 0, *gateway);
            added.with_context(|| format!("--gateway {gateway}"))?;
        }
        Ok(worker)
    }

    /// Whether the addresses of `args` that are `wanted` are in use, and those of the link, which nobody has to name: what is sent
    /// to a neighbour may come from one of them.
    pub fn has_all(
        stack: &Stack<Mbufs<'_>>,
        args: &HostArgs,
        wanted: impl Fn(IpAddr) -> bool,
    ) -> bool {
        let known = |ip: &Ip| stack.addresses().any(|known| known.address == ip.address);
        let mut all = stack.addresses().filter(|known| wanted(known.address));
        all.all(|known| known.state.is_usable())
            && args.ips.iter().filter(|ip| wanted(ip.address)).all(known)
    }

    /// What a worker counted, and what the devices of the ports lost.
    ///
    /// # Errors
    ///
    /// A port is gone.
    pub fn counts(&self, worker: &Worker<'_>) -> anyhow::Result<Vec<(String, u64)>> {
        let mut counts: Vec<_> = worker.stats().collect();
        for id in self.ports.ids() {
            let port = self.ports.port(PortId(id.0))?;
            let lost = port.xstats().into_iter().filter(|(name, count)| {
                *count > 0 && (name.contains("drop") || name.contains("missed"))
            });
            counts.extend(lost.map(|(name, count)| (format!("port{}_{name}", id.0), count)));
        }
        Ok(counts)
    }

    /// What an event means to who started the program: an error if it cannot go on.
    ///
    /// # Errors
    ///
    /// An address is another station's: which address of which port, whose, and what to do.
    pub fn heed(&self, event: &Event) -> anyhow::Result<()> {
        let told = Told::of(event, |interface| {
            // A worker adds the ports in this order, an interface each.
            let port = self.ports.iter().nth(interface.0.into())?;
            Some((port.id().0, port.name().to_owned()))
        });
        match told {
            Told::Fatal(text) => Err(anyhow::anyhow!("{text}")),
            Told::Warning(text) => {
                tracing::warn!("{text}");
                Ok(())
            }
            Told::News(text) => {
                tracing::info!("{text}");
                Ok(())
            }
        }
    }

    /// The ports' addresses, for people: `02:00:00:00:00:01 on net_tap0`.
    #[must_use]
    pub fn stations(&self) -> String {
        self.ports.iter().fold(String::new(), |mut text, port| {
            let comma = if text.is_empty() { "" } else { ", " };
            // Writing to a string does not fail.
            let _ = write!(text, "{comma}{} on {}", port.station(), port.name());
            text
        })
    }

    /// Takes all down. The worker is gone by then.
    ///
    /// # Errors
    ///
    /// A port or the group cannot be left in order.
    pub fn close(self) -> anyhow::Result<()> {
        // Without a slot frames stay where the next host finds them.
        let lcore = self.eal.claim_slot("host").map(Lcore::new).ok();
        for port in self.ports.iter() {
            port.close()?;
            if let Some(lcore) = &lcore {
                port.reclaim(lcore);
            }
        }
        drop(lcore);
        drop(self.guard);
        self.eal.cleanup()?;
        Ok(())
    }
}

fn open_ports(eal: &Eal, pool_config: &PoolConfig<'_>) -> anyhow::Result<(Ports, Pool)> {
    let ports = Ports::probe(eal)?;
    let pool = Pool::create_or_lookup(eal.region(), pool_config)?;
    for id in ports.ids() {
        let port = ports.port(PortId(id.0))?;
        port.configure(1, 1, &PortConfig::default())?;
        let max = port.info().max_descriptors;
        port.rx_queue_setup(QueueId(0), RX_DESCRIPTORS.min(max), pool)?;
        port.tx_queue_setup(QueueId(0), TX_DESCRIPTORS.min(max))?;
        port.start()?;
    }
    Ok((ports, pool))
}

/// Buffers that a host can hold at once, term by term.
fn pool_count(config: &Config, ports: usize) -> u32 {
    // What devices hold, and what waits to be transmitted.
    let queues = ports * ((RX_DESCRIPTORS + TX_DESCRIPTORS) as usize + config.transmit_max);
    // What waits for the rest of its datagram, as small as it may be, and for a neighbour's address.
    let waiting = config.reassembly.datagrams_max * config.reassembly.pieces_max
        + config.neighbours.waiting_max
        + config.local_max;
    // What waits to be read: as many datagrams of a frame, or some of the largest.
    let unread = config.udp.queued_max + config.echo.queued_max;
    // A turn's datagrams and their answers, cut.
    let turn = 4 * SEGMENTS_MAX;
    // What lies in the magazines of others: two a slot, for this program, its guard and those of a successor.
    let magazines = 4 * 2 * mbuf::MAGAZINE_LEN;
    u32::try_from(queues + waiting + unread + turn + magazines).unwrap_or(u32::MAX)
}

/// Size of a region that holds it all.
fn region_mb(pool: &PoolConfig<'_>) -> Result<u64, mbuf::Error> {
    const MIB: u64 = 1 << 20;
    /// Process table, port queues, statistics.
    const REST: u64 = 4 * MIB;
    Ok((Pool::len_for(pool)? as u64 + REST).div_ceil(2 * MIB) * 2)
}
