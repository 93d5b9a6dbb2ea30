//! Forebay: one network port, many processes that share its packets in memory.
//!
//! Any of them may crash, restart or be upgraded without the others noticing: a primary starts a
//! [`Guard`], which gives back what the dead held, and takes over the group of a
//! primary that is no more.
//!
//! This is the crate that an application depends on. It joins the crates below it and re-exports
//! what a program needs:
//!
//! | what | where | in DPDK |
//! |------|-------|---------|
//! | process type, arguments, lcores, zones | [`Eal`], [`EalArgs`], [`ProcType`], [`Region`] | `rte_eal_*`, `rte_memzone_*` |
//! | rings | [`Ring`], [`Flags`] | `rte_ring_*` |
//! | buffers | [`Pool`], [`Lcore`], [`Mbuf`], [`Burst`] | `rte_pktmbuf_*` |
//! | buffers through rings | [`MbufProducer`], [`MbufConsumer`] | `rte_ring_*_burst` of mbufs |
//! | ports | [`Ports`], [`Port`], [`TxBuffer`] | `rte_eth_*` |
//! | after a death: what the dead held is given back | [`guard`] | |
//! | TCP/IP on a port: ARP, IPv4, IPv6, ICMP, UDP | [`netstack`], [`Worker`] | F-Stack |
//! | a whole program that is a host | [`Host`], [`HostArgs`], [`udp_echo`] | |
//! | the server and the client of the lesson | [`pipeline`] | `client_server_mp` |
//!
//! # A primary
//!
//! It owns the group: it reserves what the others look up. This one makes a pool, a ring and a
//! port, starts the port, runs a function on another lcore, and hands a burst to whoever consumes
//! the ring.
//!
//! ```
//! use forebay::{Burst, Eal, EalArgs, Flags, Guard, Lcore, MbufProducer, Pool, PoolConfig, PortConfig, PortId, Ports, QueueId, Ring};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let prefix = format!("--file-prefix=doc-primary-{}", std::process::id());
//! # let line = ["app", "-l", "0-1", "--no-huge", "--vdev=net_null0,size=64", &prefix, "--", "-n", "2"];
//! # let line = line.map(String::from);
//! let (args, rest) = EalArgs::parse(line)?;        // app -l 0-1 --vdev=net_null0,size=64 -- -n 2
//! assert_eq!(rest, ["-n", "2"]);                   // what stands behind `--` is the application's
//! let eal = Eal::init(args)?;
//! println!("{} process, main lcore {}", eal.proc_type(), eal.main_lcore());
//!
//! let guard = Guard::start(&eal)?;                 // gives back what killed processes held
//! let region = eal.region();
//! let pool = Pool::create(region, &PoolConfig::new("mbuf_pool_0", 4096))?;
//! let ring = Ring::create(region, "dispatch_ring_p0_q0", 128, None, Flags::SP_ENQ | Flags::SC_DEQ)?;
//!
//! let ports = Ports::probe(&eal)?;
//! let port = ports.port(PortId(0))?;
//! port.configure(1, 1, &PortConfig::default())?;   // one RX queue, one TX queue
//! port.rx_queue_setup(QueueId(0), 1024, pool)?;
//! port.tx_queue_setup(QueueId(0), 1024)?;
//! port.start()?;
//! let reaped = ports.clone();
//! guard.reap_with(move |lcore| reaped.reap(lcore)); // and what they left in queues of AF_XDP
//!
//! let worker = eal.launch(eal.worker_lcores()[0], || 6 * 7)?;   // a function on another lcore
//! assert_eq!(worker.wait()?, 42);
//!
//! let lcore = Lcore::new(eal.claim_slot("example")?);
//! let mut rx = port.rx_queue(QueueId(0), lcore.owner())?;
//! let mut to_client = MbufProducer::new(ring.producer(lcore.owner())?);
//! let mut burst = Burst::new(&lcore);
//! let received = rx.rx_burst(&lcore, &mut burst);
//! let sent = to_client.enqueue_burst(&mut burst);  // nobody consumes yet: the ring is closed
//! println!("{received} received, {} handed over, room for {}", sent.count, sent.free);
//! burst.clear();                                   // what was not taken is ours to drop
//!
//! drop((rx, to_client, burst));                    // before the lcore that they belong to
//! port.close()?;
//! port.reclaim(&lcore);                            // frames that a device had
//! drop((lcore, guard));
//! eal.cleanup()?;
//! # Ok(())
//! # }
//! ```
//!
//! # A secondary
//!
//! It looks up by name what the primary made, takes the ring's consuming end and a transmit queue
//! of its own, and sends.
//!
//! ```
//! use forebay::{Burst, Eal, EalArgs, Lcore, MbufConsumer, PortId, Ports, QueueId, Ring, TxBuffer, ZoneKind};
//!
//! # use forebay::{Flags, Mbuf, MbufProducer, Pool, PoolConfig, PortConfig};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let prefix = format!("--file-prefix=doc-secondary-{}", std::process::id());
//! # let line = ["app", "-l", "0", "--no-huge", "--vdev=net_null0", &prefix].map(String::from);
//! # let primary = Eal::init(EalArgs::parse(line)?.0)?;
//! # let pool = Pool::create(primary.region(), &PoolConfig::new("mbuf_pool_0", 1024))?;
//! # let flags = Flags::SP_ENQ | Flags::SC_DEQ;
//! # let ring = Ring::create(primary.region(), "dispatch_ring_p0_q0", 128, None, flags)?;
//! # primary.region().reserve(ZoneKind::Plain, "counts", 4096, 64, None)?;
//! # let its_ports = Ports::probe(&primary)?;
//! # its_ports.port(PortId(0))?.configure(1, 2, &PortConfig::default())?;
//! # its_ports.port(PortId(0))?.rx_queue_setup(QueueId(0), 0, pool)?;
//! # its_ports.port(PortId(0))?.tx_queue_setup(QueueId(0), 0)?;
//! # its_ports.port(PortId(0))?.tx_queue_setup(QueueId(1), 0)?;
//! # its_ports.port(PortId(0))?.start()?;
//! # let line = ["app", "-l", "0", "--proc-type=secondary", &prefix].map(String::from);
//! let (args, _rest) = EalArgs::parse(line)?;       // app -l 2 --proc-type=secondary
//! let eal = Eal::init(args)?;                      // joins the primary's group, or says how to start one
//! let region = eal.region();
//! let zone = region.lookup(ZoneKind::Plain, "counts")?;
//! let ring = Ring::lookup(region, "dispatch_ring_p0_q0")?;
//! println!("zone {} of {} bytes, ring of {}", zone.name(), zone.len(), ring.size());
//!
//! let lcore = Lcore::new(eal.claim_slot("example")?);
//! let mut inbox = MbufConsumer::new(ring.consumer(lcore.owner())?);    // opens the ring
//! # let its_lcore = Lcore::new(primary.claim_slot("producer")?);
//! # let its_ring = Ring::lookup(primary.region(), "dispatch_ring_p0_q0")?;
//! # let mut outbox = MbufProducer::new(its_ring.producer(its_lcore.owner())?);
//! # outbox.enqueue(its_lcore.mbuf_from(pool, &[0; 60]).expect("a fresh pool")).expect("a fresh ring");
//! let ports = Ports::probe(&eal)?;                 // the ports that the primary opened
//! let mut tx = ports.port(PortId(0))?.tx_queue(QueueId(1), lcore.owner())?;   // a queue of our own
//! let mut out = TxBuffer::new(&lcore);
//!
//! let mut burst = Burst::new(&lcore);
//! let taken = inbox.dequeue_burst(&lcore, &mut burst);
//! println!("{} taken, at least {} left", taken.count, taken.left);
//! for mbuf in burst.drain() {
//!     out.buffer(mbuf, &mut tx);                   // sends when a burst is full
//! }
//! let sent = out.flush(&mut tx, |unsent| println!("{} dropped", unsent.len()));
//! # assert_eq!((taken.count, sent), (1, 1));
//! println!("{sent} sent");
//!
//! drop((inbox, tx, out, burst));                   // gives the end of the ring and the queue back
//! drop(lcore);                                     // and the slot
//! eal.cleanup()?;
//! # drop((outbox, its_lcore));
//! # its_ports.port(PortId(0))?.close()?;
//! # primary.cleanup()?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod guard;
pub mod host;
mod idle;
mod pace;
pub mod ping;
pub mod pipeline;
mod program;
mod stop;
pub mod udp_echo;
mod words;
pub mod worker;

pub use eal::{
    self, Eal, EalArgs, LcoreHandle, LcoreId, Owner, ProcType, Region, Slot, Zone, ZoneKind,
};
pub use ethdev::{
    self, Port, PortConfig, PortId, Ports, Proxies, QueueId, RxQueue, TxBuffer, TxQueue,
};
pub use guard::Guard;
pub use host::{Host, HostArgs};
pub use mbuf::{self, BURST_MAX, Burst, Lcore, Mbuf, MbufConsumer, MbufProducer, Pool, PoolConfig};
pub use netstack::{self};
pub use ring::{self, Flags, Ring};
pub use stop::Stop;
pub use words::Usage;
pub use worker::Worker;
